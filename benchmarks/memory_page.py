# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the raw data of the benchmark of kinds and sizes of memory say: nothing here measures.

The page is written anew each time. What people have to say about it is in C(benchmarks/memory-notes.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import bench_page
from bench_page import one_line, spread, verdict


class Cell(NamedTuple):
    """What is measured."""

    kind: str
    memory_mib: int
    mode: str


class Aim(NamedTuple):
    """The downtime of one cell is at most so many times that of another one."""

    cell: Cell
    other: Cell
    limit: float


KEYS = Cell._fields
LIVE = ("precopy", "postcopy", "hybrid")
AIMS = (
    *(Aim(Cell("shared", 256, mode), Cell("private", 256, mode), 1.3) for mode in LIVE),
    Aim(Cell("private", 4096, "precopy"), Cell("private", 1024, "precopy"), 2.5),
    Aim(Cell("private", 4096, "postcopy"), Cell("private", 1024, "postcopy"), 1.5),
)
CELLS = list(dict.fromkeys(cell for aim in AIMS for cell in (aim.other, aim.cell)))

Records = dict[Cell, dict]


def by_cell(data: Iterable[dict]) -> Records:
    """The records by what was measured."""
    return {Cell(*(one[key] for key in KEYS)): one for one in data}


def size(mib: int) -> str:
    """An amount of memory for people."""
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:g} GiB"


def middle(records: Records, cell: Cell) -> float | None:
    """The median downtime of a cell in seconds, or None where there is none."""
    values = records.get(cell, {}).get("downtime_seconds")
    return median(values) if values else None


def aim_row(aim: Aim, records: Records) -> str:
    """A row of the table of aims."""
    value, other = middle(records, aim.cell), middle(records, aim.other)
    what = f"| {aim.cell.mode} | {_what(aim.cell)} against {_what(aim.other)} | {aim.limit:g}"
    if value is None or other is None:
        return f"{what} | | not measured |"
    said = verdict(value, aim.limit * other)
    return f"{what} | {value / other:.3g} ({value:.2f} s / {other:.2f} s) | {said} |"


def _what(cell: Cell) -> str:
    return f"{size(cell.memory_mib)} {cell.kind}"


def aims_table(records: Records) -> str:
    """All aims as Markdown."""
    head = ["| mode | downtime | at most | measured | |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(aim_row(aim, records) for aim in AIMS)])


def figures_table(records: Records) -> str:
    """What was measured, as Markdown."""
    head = ["| memory | mode | downtime, seconds | the whole command, seconds | MiB sent |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(_row(cell, record) for cell, record in records.items())])


def _row(cell: Cell, record: dict) -> str:
    sent = spread([value / (1 << 20) for value in record["bytes_sent"]], 0)
    figures = spread(record["downtime_seconds"], 3), spread(record["total_seconds"], 1), sent
    return f"| {_what(cell)} | {cell.mode} | {' | '.join(figures)} |"


def gaps(failures: list[dict]) -> str:
    """What has failed."""
    lines = [f"- {_what(cell)}, {cell.mode}: {one_line(one['error'])}" for one in failures for cell in by_cell([one])]
    return "\n".join(lines) or "Nothing has failed."


PAGE = """<!--
Copyright: (c) 2026, fog.migration contributors
GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later

Written by benchmarks/memory.py; the last section by people, in benchmarks/memory-notes.md.
-->
# Kinds and sizes of memory

How long a container stands still when it moves: with memory such as processes share beside memory of its own, and with
4 GiB beside 1 GiB.

## Aims

{aims}

## Figures

Median (least to most).

{figures}

## Failures

{gaps}

## How it was measured

`make bench-memory` on {cores} cores, {architecture}, kernel {kernel}; {versions}.
Each cell {repeats} times, {minutes:.0f} minutes in all, round by round. The container is the one of
[downtime.md](downtime.md), whose downtime is measured in the same way: one Python process with so much memory, filled
with random bytes, here as an anonymous mapping that is private or shared (`MAP_SHARED`). It rewrites nothing of it.

The raw data are in [memory.json](memory.json), the machine and what failed in [memory-run.json](memory-run.json).

## What holds it

{notes}
"""


def page(data: list[dict], run: dict, notes: str) -> str:
    """The page as Markdown."""
    records = by_cell(data)
    return PAGE.format(
        aims=aims_table(records),
        figures=figures_table(records),
        gaps=gaps(run.get("failures", [])),
        versions=bench_page.versions(run),
        repeats=bench_page.repeats(records.values(), "downtime_seconds"),
        minutes=run.get("minutes", 0),
        notes=notes,
        **{name: run.get(name, "?") for name in ("cores", "architecture", "kernel")},
    )


def write_page(data: Path) -> None:
    """The page beside the raw data and of the same name."""
    bench_page.write_page(data, page)
