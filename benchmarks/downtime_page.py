# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the raw data of the downtime benchmark say: nothing here measures.

The page is written anew each time. What people have to say about it is in C(benchmarks/downtime-notes.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import bench_page
from bench_page import one_line, verdict

PATHS = {
    "floor": "*floor*: runc alone, nothing sent",
    "docker_api": "Docker's API by hand",
    "podman": "podman",
    "podman_precopy": "podman with pre-checkpoint",
    "cold": "ours, cold",
    "precopy": "ours, pre-copy",
    "postcopy": "ours, post-copy",
    "hybrid": "ours, hybrid",
}

# A record's path, MiB, and part of the memory rewritten each second.
Cell = tuple[str, int, float]
KEYS = ("path", "memory_mib", "dirty_fraction")
Records = dict[Cell, dict]


def longest_gap(lines: Iterable[str], begin: float, end: float) -> float:
    """Seconds between two lines of a container, at most, while it was moved between these times.

    A line is a number and a time; one that was read on both servers counts once.

    :raises ValueError: when a line is missing, or none was written before or after.
    """
    times = {int(number): float(when) for number, when in (line.split() for line in lines if line.strip())}
    if missing := set(range(max(times, default=0))) - set(times):
        raise ValueError(f"{len(missing)} lines of the container were lost, the first is {min(missing)}")
    in_order = [times[number] for number in sorted(times)]
    if not in_order or in_order[0] > begin or in_order[-1] < end:
        raise ValueError("the container did not write before and after")
    pairs = [pair for pair in itertools.pairwise(in_order) if pair[1] >= begin and pair[0] <= end]
    return round(max(later - earlier for earlier, later in pairs), 4)


# Reading the data


def by_cell(records: Iterable[dict]) -> Records:
    """The records by what was measured."""
    return {(one["path"], one["memory_mib"], one["dirty_fraction"]): one for one in records}


def middle(records: Records, cell: Cell, figure: str = "downtime_seconds") -> float | None:
    """The median of a cell, or None where there is none."""
    values = records.get(cell, {}).get(figure)
    return median(values) if values else None


def in_memory_stages(records: Records, cell: Cell) -> float | None:
    """Median seconds of the two stages in which memory travels, as our report tells them."""
    reports = records.get(cell, {}).get("reported_seconds")
    return median(one["pre-copy"] + one["stop-and-copy"] for one in reports) if reports else None


# Aims


@dataclass(frozen=True)
class Aim:
    """One figure is at most so many times another one."""

    what: str
    cell: tuple[str, int]
    other: tuple[str, int]
    limit: float
    fractions: tuple[float, ...] = (0.0, 0.1)
    figure: Callable[[Records, Cell], float | None] = middle
    other_figure: Callable[[Records, Cell], float | None] = middle


def _total(records: Records, cell: Cell) -> float | None:
    return middle(records, cell, "total_seconds")


def _full_copy(records: Records, cell: Cell) -> float | None:
    return middle(records, cell, "full_copy_seconds")


IDLE = (0.0,)
AIMS = (
    Aim("1 MiB, live, against the floor", ("precopy", 1), ("floor", 1), 1.2),
    Aim("1 MiB, live, against Docker's API by hand", ("precopy", 1), ("docker_api", 1), 1 / 2.5),
    Aim("1 MiB, live, against podman", ("precopy", 1), ("podman", 1), 0.6),
    Aim("256 MiB, pre-copy, against the floor", ("precopy", 256), ("floor", 256), 1.2),
    Aim("1 GiB, pre-copy, against the floor", ("precopy", 1024), ("floor", 1024), 1.0, IDLE),
    Aim("1 GiB, pre-copy, against Docker's API by hand", ("precopy", 1024), ("docker_api", 1024), 1 / 20, IDLE),
    Aim("1 GiB, post-copy, against the floor", ("postcopy", 1024), ("floor", 1024), 0.25, IDLE),
    Aim("post-copy, 1 GiB against 1 MiB", ("postcopy", 1024), ("postcopy", 1), 1.5),
    Aim(
        "1 GiB, pre-copy, total time of the whole command against one full copy",
        ("precopy", 1024),
        ("floor", 1024),
        2.5,
        figure=_total,
        other_figure=_full_copy,
    ),
    Aim(
        "the same, of the two stages in which memory travels",
        ("precopy", 1024),
        ("floor", 1024),
        1.5,
        figure=in_memory_stages,
        other_figure=_full_copy,
    ),
)


def aim_row(aim: Aim, records: Records, fraction: float) -> str | None:
    """A row of the table of aims; None where neither figure is there and the container is not idle."""
    value = aim.figure(records, (*aim.cell, fraction))
    other = aim.other_figure(records, (*aim.other, fraction))
    label = f"| {aim.what} | {_load(fraction)} | {aim.limit:.3g}"
    if value is None or other is None:
        return f"{label} | | not measured |" if fraction == 0 else None
    said = verdict(value, aim.limit * other)
    return f"{label} | {value / other:.3g} ({value:.2f} s / {other:.2f} s) | {said} |"


def aims_table(records: Records) -> str:
    """All aims as Markdown."""
    rows = [aim_row(aim, records, fraction) for aim in AIMS for fraction in aim.fractions]
    head = "| downtime, if nothing else is said | memory | at most | measured | |\n|---|---|---|---|---|\n"
    return head + "\n".join(row for row in rows if row)


# Tables


def _load(fraction: float) -> str:
    return f"{fraction:.0%} rewritten each second" if fraction else "idle"


def _size(memory: int) -> str:
    return f"{memory} MiB" if memory < 1024 else f"{memory / 1024:g} GiB"


def downtime_entry(records: Records, cell: Cell) -> str:
    """Median, range, and ratio to the floor of a cell."""
    value = middle(records, cell)
    if value is None:
        return ""
    values = records[cell]["downtime_seconds"]
    floor = middle(records, ("floor", *cell[1:]))
    ratio = f" **{value / floor:.2f}**" if floor and cell[0] != "floor" else ""
    return f"{value:.3f} ({min(values):.3f} to {max(values):.3f}){ratio}"


def total_entry(records: Records, cell: Cell) -> str:
    """Median time of the whole command."""
    value = _total(records, cell)
    return "" if value is None else f"{value:.1f}"


def sent_entry(records: Records, cell: Cell) -> str:
    """Median MiB sent."""
    value = middle(records, cell, "bytes_sent")
    return "" if value is None else f"{value / (1 << 20):.1f}"


def copy_entry(records: Records, cell: Cell) -> str:
    """Median time of one full copy."""
    value = _full_copy(records, cell)
    return "" if value is None else f"{value:.2f}"


def table(records: Records, fraction: float, entry: Callable[[Records, Cell], str]) -> str:
    """One row for each path, one column for each size."""
    sizes = sorted({memory for _path, memory, _fraction in records})
    lines = [f"| {_load(fraction)} | {' | '.join(map(_size, sizes))} |", "|---" * (len(sizes) + 1) + "|"]
    for path, title in PATHS.items():
        entries = [entry(records, (path, memory, fraction)) for memory in sizes]
        if any(entries):
            lines.append(f"| {title} | {' | '.join(entries)} |")
    return "\n".join(lines)


def tables(records: Records, entry: Callable[[Records, Cell], str]) -> str:
    """The tables of all dirty rates."""
    fractions = sorted({fraction for _path, _memory, fraction in records})
    return "\n\n".join(table(records, fraction, entry) for fraction in fractions)


def copies(records: Records) -> str:
    """One full copy of each size, in a sentence."""
    idle = sorted(memory for path, memory, fraction in records if path == "floor" and fraction == 0)
    said = [f"{_size(memory)} {copy_entry(records, ('floor', memory, 0.0))} s" for memory in idle]
    return ", ".join(said)


def gaps(records: Records, failures: list[dict]) -> str:
    """What was not measured, what failed, and why, as far as the run knows."""
    lines = []
    sizes = {memory for _path, memory, _fraction in records}
    fractions = {fraction for _path, _memory, fraction in records}
    cells = set(itertools.product(PATHS, sizes, fractions))
    tried = {(one["path"], one["memory_mib"], one["dirty_fraction"]): one["error"] for one in failures}
    for path, title in PATHS.items():
        missing = sorted(cell[1:] for cell in cells if cell[0] == path and cell not in records)
        if missing:
            where = ", ".join(f"{_size(memory)} {_load(fraction)}" for memory, fraction in missing)
            where = "everything" if not any(cell[0] == path for cell in records) else where
            errors = [one_line(tried[path, *cell]) for cell in missing if (path, *cell) in tried]
            lines.append(f"- {title}: {where}. {errors[0] if errors else 'It was not tried.'}")
    for one in failures:
        cell = (one["path"], one["memory_mib"], one["dirty_fraction"])
        if cell in records:
            lines.append(f"- {PATHS[cell[0]]}, {_size(cell[1])} {_load(cell[2])}: one failed. {one_line(one['error'])}")
    return "\n".join(lines) or "Nothing: every cell was measured, and none failed."


PAGE = """<!--
Copyright: (c) 2026, fog.migration contributors
GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later

Written by benchmarks/downtime.py; the last section by people, in benchmarks/downtime-notes.md.
-->
# Downtime

How long a container stands still when it moves from one server to the other, side by side in one run.

## Aims

{aims}

*Live* is pre-copy. *One full copy*: the floor's images, once from memory to memory through SSH ({copies}).

## Downtime

Seconds: median (least to most), and in bold the ratio to the floor of the same column.

{downtime}

## Total time

Median seconds from the command to its end. Ours is all of `ansible-playbook migrate.yml`, with its checks before and
its tidying up afterwards; the container runs meanwhile, at the source or at the destination.

{total}

## Sent

Median MiB that left the source's network interface.

{sent}

## Not measured

{gaps}

## How it was measured

`make bench-downtime` on {cores} cores, {architecture}, kernel {kernel}, which {tracking}; {versions}.
Each cell {repeats} times, {minutes:.0f} minutes in all. The two servers are nodes of the lab on this one machine: there
is no network between them but a bridge, and both share the cores. Round by round, every path is measured once, so that
noise meets all of them alike.

- The container is one Python process with so much memory, filled with random bytes, on the default network of its
  engine. It writes a number and CLOCK_REALTIME every 5 ms to its output. Downtime is the longest gap between two of
  these times during the move, read from the logs of both servers, which share the machine's clock. A measurement in
  which a line is missing does not count.
- *10 % rewritten each second*: the process goes through its memory with new random bytes, and over again.
- *Floor*: `runc checkpoint` of the Docker container into tmpfs, then `runc restore` of these images with the same
  configuration on the same server. Nothing is sent, Docker takes no part, and its network is not made again.
- *Docker's API by hand*: `docker checkpoint create`, then in one SSH session `docker create`, tar of the folder to
  where Docker looks for checkpoints, and `docker start --checkpoint`.
- *podman*: `podman container checkpoint --export` into tmpfs without compression, SSH, `podman container restore
  --import`. *With pre-checkpoint*, `--pre-checkpoint` and its copy come before, then `--with-previous` and
  `--import-previous`.
- *Ours*: `ansible-playbook migrate.yml -e migration_mode=...`; the image is on both servers, as it is on all paths.

The raw data are in [downtime.json](downtime.json), the machine and what failed in
[downtime-run.json](downtime-run.json). `python benchmarks/downtime.py --page-only` writes this page again.

## What holds it

{notes}
"""


def page(data: list[dict], run: dict, notes: str) -> str:
    """The page as Markdown."""
    records = by_cell(data)
    tracks = run.get("kernel_tracks_dirty_memory")
    return PAGE.format(
        aims=aims_table(records),
        copies=copies(records),
        downtime=tables(records, downtime_entry),
        total=tables(records, total_entry),
        sent=tables(records, sent_entry),
        gaps=gaps(records, run.get("failures", [])),
        versions=bench_page.versions(run),
        repeats=bench_page.repeats(records.values(), "downtime_seconds"),
        tracking="tracks dirty memory" if tracks else "does not track dirty memory",
        minutes=run.get("minutes", 0),
        notes=notes,
        **{name: run.get(name, "?") for name in ("cores", "architecture", "kernel")},
    )


def write_page(data: Path) -> None:
    """The page beside the raw data and of the same name."""
    bench_page.write_page(data, page)
