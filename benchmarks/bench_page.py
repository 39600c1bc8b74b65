# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages of the benchmarks have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


def verdict(value: float, allowed: float, unit: str = " s", digits: int = 2) -> str:
    """Whether a figure is at most what an aim allows, and by how much it is not."""
    too_much = value - allowed
    if too_much <= 0:
        return "reached"
    return f"**missed** by {too_much:.{digits}f}{unit} ({value / allowed:.2f} times the aim)"


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
