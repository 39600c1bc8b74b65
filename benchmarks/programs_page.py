# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the raw data of the benchmark of real programs say: nothing here measures.

The page is written anew each time. What people have to say about it is in C(benchmarks/programs-notes.md).
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

    program: str
    mode: str


KEYS = Cell._fields
# What the others stand beside, and what has an aim of its own: seconds.
COUNTER = "counter"
AIMS = {"postgresql": 0.6}
TIMES_THE_COUNTER = 2
# Cold mode has no aim: it freezes a container before anything of it travels.
LIVE = ("precopy", "postcopy", "hybrid")

Records = dict[Cell, dict]


# Reading the data


def cell_of(record: dict) -> Cell:
    """What a record is about."""
    return Cell(record["program"], record["mode"])


def by_cell(data: Iterable[dict]) -> Records:
    """The records by what was measured."""
    return {cell_of(record): record for record in data}


def downtime(records: Records, cell: Cell) -> float | None:
    """The median of a cell, or None where there is none."""
    values = records.get(cell, {}).get("downtime_seconds")
    return median(values) if values else None


def programs(records: Records) -> list[str]:
    """Their names, once each."""
    return list(dict.fromkeys(cell.program for cell in records))


# Aims


def allowed(records: Records, cell: Cell) -> float | None:
    """The longest downtime that a program should have, or None where that cannot be told."""
    if cell.program in AIMS:
        return AIMS[cell.program]
    counter = downtime(records, Cell(COUNTER, cell.mode))
    return None if counter is None else TIMES_THE_COUNTER * counter


def aim_entry(records: Records, cell: Cell) -> str:
    """What was reached of an aim."""
    value, limit = downtime(records, cell), allowed(records, cell)
    if value is None or limit is None:
        return "not measured"
    return f"{value:.2f} of {limit:.2f} s: {verdict(value, limit)}"


def aims_table(records: Records) -> str:
    """All aims as Markdown: a row for each program, a column for each mode."""
    lines = [f"| downtime | {' | '.join(LIVE)} |", "|---" * (len(LIVE) + 1) + "|"]
    for program in programs(records):
        if program != COUNTER:
            lines.append(f"| {program} | {' | '.join(aim_entry(records, Cell(program, mode)) for mode in LIVE)} |")
    return "\n".join(lines)


# Tables


def times_the_counter(records: Records, cell: Cell) -> str:
    """The ratio of the medians."""
    value, counter = downtime(records, cell), downtime(records, Cell(COUNTER, cell.mode))
    return f"{value / counter:.2f}" if value and counter else ""


def row(records: Records, cell: Cell) -> str:
    """All figures of a cell."""
    record = records[cell]
    entries = [
        cell.program,
        cell.mode,
        spread(record["downtime_seconds"], 3),
        times_the_counter(records, cell),
        spread(record["client_pause_seconds"], 3),
        str(len(record["client_errors"])),
    ]
    return f"| {' | '.join(entries)} |"


def figures_table(records: Records) -> str:
    """What was measured, as Markdown."""
    head = (
        "| | mode | downtime, seconds | times the counter's | longest pause of a client, seconds | errors |\n"
        "|---|---|---|---|---|---|\n"
    )
    order = programs(records)
    return head + "\n".join(row(records, cell) for cell in sorted(records, key=lambda one: order.index(one.program)))


def errors(records: Records) -> str:
    """What clients were told, or what they have missed."""
    lines = [
        f"- {cell.program}, {cell.mode}: {one_line(error)}"
        for cell, record in records.items()
        for error in record["client_errors"]
    ]
    return "\n".join(lines) or "None: no client has missed anything, or was told of an error."


def gaps(records: Records, failures: list[dict]) -> str:
    """What has failed, and how often it was measured nevertheless."""
    last = {cell_of(one): one["error"] for one in failures}
    lines = [
        f"- {cell.program}, {cell.mode}: {len(records.get(cell, {}).get('downtime_seconds', []))} measured, "
        f"{sum(cell_of(one) == cell for one in failures)} failed. {one_line(error)}"
        for cell, error in last.items()
    ]
    return "\n".join(lines) or "Nothing has failed."


PAGE = """<!--
Copyright: (c) 2026, fog.migration contributors
GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later

Written by benchmarks/programs.py; the last section by people, in benchmarks/programs-notes.md.
-->
# Real programs

How long programs of Debian's packages stand still when they move while clients use them, and what their clients see.

## Aims

PostgreSQL stands still for at most {postgresql:g} s, every other program for at most {times} times as long as a counter
in the same run. Medians.

{aims}

## Figures

Median (least to most).

{figures}

## Errors that clients saw

{errors}

## Not measured

{gaps}

## How it was measured

`make bench-programs` at commit {commits} on {cores} cores, {architecture}, kernel {kernel}; {versions}.
Each program {repeats} times in each mode, {minutes:.0f} minutes in all. The two servers and the client are nodes of the
lab on this one machine, whose cores they share. Round by round, every program is moved there and back in every mode, so
that noise meets all of them alike.

- The programs and their clients are those of the tests (`make test-programs`), in `tests/programs/corpus/programs.py`:
  each program runs as the user that its packages give it, on a macvlan network, with its data on a volume where that is
  usual. PostgreSQL has 128 MiB of shared buffers, and `pgbench` with four clients as fast as it can; the other clients
  ask every 5 ms or hear something every 5 ms. The counter has no clients: it writes a number every 50 ms.
- *Downtime* is what the report of `migrate.yml` tells.
- *Longest pause of a client*: between two things that one client has heard, during a move or reaching into it, by the
  clock of the machine. Where there is no client, between two numbers of the counter.
- *Errors*: a number that is missing or was heard twice, a transaction that has failed or is not in the database's own
  table, sums that are not equal, a checksum that is not the file's, a connection that has ended.

The raw data are in [programs.json](programs.json), the machine and what failed in
[programs-run.json](programs-run.json). `python benchmarks/programs.py --page-only` writes this page again.

## What holds it

{notes}
"""


def page(data: list[dict], run: dict, notes: str) -> str:
    """The page as Markdown."""
    records = by_cell(data)
    return PAGE.format(
        aims=aims_table(records),
        figures=figures_table(records),
        errors=errors(records),
        gaps=gaps(records, run.get("failures", [])),
        commits=", ".join(run.get("commits", ["?"])),
        versions=bench_page.versions(run),
        repeats=bench_page.repeats(records.values(), "downtime_seconds"),
        minutes=run.get("minutes", 0),
        notes=notes,
        times=TIMES_THE_COUNTER,
        **AIMS,
        **{name: run.get(name, "?") for name in ("cores", "architecture", "kernel")},
    )


def write_page(data: Path) -> None:
    """The page beside the raw data and of the same name."""
    bench_page.write_page(data, page)
