# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the raw data of the benchmark of the whole command say: nothing here measures.

The page is written anew each time. What people have to say about it is in C(benchmarks/command-notes.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import bench_page
from bench_page import one_line, spread, verdict


class Cell(NamedTuple):
    """What is measured: a command, for how many containers, and whether several move together."""

    what: str
    containers: int
    together: bool | None = None

    @property
    def name(self) -> str:
        """What it is called on the command line."""
        number = str(self.containers) if self.containers else ""
        return "-".join(filter(None, (self.what, number, "together" if self.together else "")))


KEYS = Cell._fields
PING = Cell("ping", 0)
ONE = Cell("precopy", 1)
FOUR_TOGETHER = Cell("precopy", 4, True)
FOUR = Cell("precopy", 4, False)
TWENTY = Cell("precopy", 20, False)
COLD = Cell("cold", 1)
TITLES = {
    PING: "`ansible fog1 -m ping`",
    ONE: "one counter",
    FOUR_TOGETHER: "four counters together",
    FOUR: "four counters, each by itself",
    TWENTY: "twenty counters, each by itself",
    COLD: "one counter, cold mode",
}
MODULE_RUNS = 8

Records = dict[Cell, dict]


# What the command says


def module_runs(output: str) -> int:
    """How often Ansible ran a module, by what it says with C(-vvv)."""
    return len(re.findall(r"^Using module file ", output, re.MULTILINE))


def ssh_commands(output: str) -> int:
    """How often Ansible ran a command by SSH, or copied a file, by what it says with C(-vvv)."""
    return len(re.findall(r"^<[^>]*> SSH: EXEC ", output, re.MULTILINE))


# What the counters have counted


def split_lines(text: str, names: list[str]) -> dict[str, list[str]]:
    """Lines by the name at their begin."""
    lines: dict[str, list[str]] = {name: [] for name in names}
    for line in text.splitlines():
        name, _space, rest = line.partition(" ")
        lines[name].append(rest)
    return lines


def check_numbers(name: str, numbers: list[int]) -> None:
    """Every number was counted once, from zero on.

    :raises ValueError: when it was not so.
    """
    for expected, number in enumerate(numbers):
        if number != expected:
            raise ValueError(f"{name} counted {number} where {expected} is next")


# Reading the data


def cell_of(record: dict) -> Cell:
    """What a record is about."""
    return Cell(record["what"], record["containers"], record.get("together"))


def by_cell(data: Iterable[dict]) -> Records:
    """The records by what was measured."""
    return {cell_of(record): record for record in data}


def seconds(records: Records, cell: Cell) -> float | None:
    """Median seconds from the command to its end."""
    return _middle(records.get(cell, {}).get("seconds", []))


def longest_downtimes(records: Records, cell: Cell) -> list[float]:
    """Of each run, the downtime of the container that stood still for longest."""
    values = records.get(cell, {}).get("downtime_seconds", [])
    return [max(values[first : first + cell.containers]) for first in range(0, len(values), max(1, cell.containers))]


def downtime(records: Records, cell: Cell) -> float | None:
    """The median of these."""
    return _middle(longest_downtimes(records, cell))


def _middle(values: list[float]) -> float | None:
    return median(values) if values else None


# Aims


@dataclass(frozen=True)
class Aim:
    """A figure of one cell is at most so many times that of another one."""

    what: str
    cell: Cell
    other: Cell
    limit: float
    figure: Callable[[Records, Cell], float | None] = seconds


AIMS = (
    Aim("one counter, against a ping", ONE, PING, 4),
    Aim("four together, against one", FOUR_TOGETHER, ONE, 1.5),
    Aim("twenty each by itself, against one", TWENTY, ONE, 4),
    Aim("one counter in cold mode, against a ping", COLD, PING, 6),
    Aim("downtime of four together, against one", FOUR_TOGETHER, ONE, 1.5, downtime),
)


def aim_row(aim: Aim, records: Records) -> str:
    """A row of the table of aims."""
    value, other = aim.figure(records, aim.cell), aim.figure(records, aim.other)
    label = f"| {aim.what} | {aim.limit:g} |"
    if value is None or other is None:
        return f"{label} | not measured |"
    said = verdict(value, aim.limit * other)
    return f"{label} {value / other:.2f} ({value:.2f} s / {other:.2f} s) | {said} |"


def module_runs_row(cell: Cell, records: Records) -> str:
    """The row of the aim for the number of module runs, which is the same for any number of containers."""
    runs = records.get(cell, {}).get("module_runs")
    label = f"| module runs, {TITLES[cell]} | {MODULE_RUNS} |"
    if runs is None:
        return f"{label} | not measured |"
    return f"{label} {runs} | {verdict(runs, MODULE_RUNS, unit='', digits=0)} |"


def aims_table(records: Records) -> str:
    """All aims as Markdown."""
    rows = [aim_row(aim, records) for aim in AIMS]
    rows += [module_runs_row(cell, records) for cell in TITLES if cell.what == "precopy"]
    return "| aim | at most | measured | |\n|---|---|---|---|\n" + "\n".join(rows)


# Tables


def times_a_ping(records: Records, cell: Cell) -> str:
    """The ratio of the medians."""
    value, ping = seconds(records, cell), seconds(records, PING)
    return f"{value / ping:.2f}" if value and ping else ""


def cost_row(records: Records, cell: Cell) -> str:
    """All figures of a cell."""
    record = records[cell]
    entries = [
        TITLES[cell],
        spread(record.get("seconds", []), 2),
        times_a_ping(records, cell),
        spread(record.get("cpu_seconds", []), 2),
        spread(record.get("controller_cpu_seconds", []), 2),
        str(record.get("module_runs", "")),
        str(record.get("ssh_commands", "")),
        spread(longest_downtimes(records, cell), 3),
    ]
    return f"| {' | '.join(entries)} |"


def costs_table(records: Records) -> str:
    """What each command costs, as Markdown."""
    head = (
        "| | seconds | times a ping | processor seconds | of them the controller's | module runs | SSH commands"
        " | downtime, seconds |\n|---|---|---|---|---|---|---|---|\n"
    )
    return head + "\n".join(cost_row(records, cell) for cell in TITLES if cell in records)


def gaps(records: Records, run: dict) -> str:
    """What was not measured, what failed, and why, as far as the run knows."""
    lines = []
    left_out = {cell_of(one): one["error"] for one in run.get("left_out", [])}
    failures = [(cell_of(one), one["error"]) for one in run.get("failures", [])]
    for cell, title in TITLES.items():
        errors = [error for failed, error in failures if failed == cell]
        if seconds(records, cell) is None:
            why = left_out.get(cell) or (one_line(errors[-1]) if errors else "It was not tried.")
            lines.append(f"- {title}: {why}")
        elif errors:
            lines.append(f"- {title}: {len(errors)} failed. {one_line(errors[-1])}")
    return "\n".join(lines) or "Nothing: everything was measured, and nothing failed."


PAGE = """<!--
Copyright: (c) 2026, fog.migration contributors
GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later

Written by benchmarks/command.py; the last section by people, in benchmarks/command-notes.md.
-->
# The whole command

What `ansible-playbook migrate.yml` costs from its start to its end, beside the smallest command that Ansible has, in
one run.

## Aims

{aims}

The ratios are those of the medians.

## Figures

Median (least to most). The downtime is that of the container that stood still for longest in a run.

{costs}

## Not measured

{gaps}

## How it was measured

`make bench-command` at commit {commits} on {cores} cores, {architecture}, kernel {kernel}; {versions}.
Each command {repeats} times, {minutes:.0f} minutes in all. The two servers are nodes of the lab on this one machine:
they share its cores with the controller. Round by round, every command is measured, so that noise meets all of them
alike.

- The containers are counters in a shell of busybox, which count ten times a second. In each round they are started
  anew, moved from the first server to the second and back, and both moves are measured:
  `ansible-playbook migrate.yml -e migration_mode=precopy -e containers=a,b,c,d`, with `container=` for one,
  `migration_together=false` where each moves by itself, and `migration_mode=cold` for cold mode. A ping is measured
  twice in each round as well.
- After each move, all containers must run at the destination and none be left at the source, every number from zero on
  must have been counted once, and no trace of the migration may be left on either server. A measurement where this is
  not so does not count, and is told of above.
- The image is on both servers. No SSH connection of Ansible's is open when a command starts: each opens its own.
- *Processor seconds*: of the command with all its child processes, the SSH connections that stay open behind it
  included, and of the two servers by their control groups, from the start of the command to its end. What the counters
  themselves use is in it where the machine has control groups of version 2 only.
- *Module runs* and *SSH commands* are counted in one more run with `-vvv`, which is not timed: lines with
  `Using module file`, and with `SSH: EXEC`.
- *Downtime* is what the reports of the command tell.

The raw data are in [command.json](command.json), the machine and what failed in [command-run.json](command-run.json).
`python benchmarks/command.py --page-only` writes this page again.

## What holds it

{notes}
"""


def page(data: list[dict], run: dict, notes: str) -> str:
    """The page as Markdown."""
    records = by_cell(data)
    return PAGE.format(
        aims=aims_table(records),
        costs=costs_table(records),
        gaps=gaps(records, run),
        commits=", ".join(run.get("commits", ["?"])),
        versions=bench_page.versions(run),
        repeats=bench_page.repeats(records.values(), "seconds"),
        minutes=run.get("minutes", 0),
        notes=notes,
        **{name: run.get(name, "?") for name in ("cores", "architecture", "kernel")},
    )


def write_page(data: Path) -> None:
    """The page beside the raw data and of the same name."""
    bench_page.write_page(data, page)
