# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages of the benchmarks have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median


def downtimes(output: str) -> list[float]:
    """The downtimes that the reports at the end of C(migrate.yml) tell, in their order."""
    return [float(seconds) for seconds in re.findall(r'^\s*"\s*downtime +(\d+\.\d+) s\b', output, re.MULTILINE)]


def verdict(value: float, allowed: float, unit: str = " s", digits: int = 2) -> str:
    """Whether a figure is at most what an aim allows, and by how much it is not."""
    too_much = value - allowed
    if too_much <= 0:
        return "reached"
    return f"**missed** by {too_much:.{digits}f}{unit} ({value / allowed:.2f} times the aim)"


def spread(values: list[float], digits: int) -> str:
    """Median and range, or nothing where nothing was measured."""
    if not values:
        return ""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def repeats(records: Iterable[dict], figure: str) -> str:
    """How often that which has this figure was measured."""
    counts = sorted({len(record.get(figure, [])) for record in records})
    return " to ".join(map(str, counts[:1] + counts[1:][-1:])) or "0"


def one_line(text: str) -> str:
    """The begin of an error as one line of code."""
    return f"`{' '.join(text.replace('`', chr(39)).split())[:300]}`"


def versions(run: dict) -> str:
    """The versions of the programs, in a sentence."""
    return ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items())


def read_notes(path: Path) -> str:
    """What people wrote, without the comment at its top."""
    if not path.exists():
        return "Nobody has written about it yet."
    text = path.read_text(encoding="utf-8")
    return text.partition("-->")[2].strip() if text.startswith("<!--") else text.strip()


def write_page(data: Path, page: Callable[[list[dict], dict, str], str]) -> None:
    """Writes the page beside the raw data and of the same name, from these, the circumstances and the notes."""
    records = json.loads(data.read_text(encoding="utf-8"))
    run = json.loads(data.with_name(f"{data.stem}-run.json").read_text(encoding="utf-8"))
    notes = read_notes(data.with_name(f"{data.stem}-notes.md"))
    data.with_suffix(".md").write_text(page(records, run, notes), encoding="utf-8")
