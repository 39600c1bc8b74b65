# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a container with much memory stands still when it moves, and one whose memory is such as processes share.

Runs from C(make bench-memory), which makes the lab, and writes C(benchmarks/memory.json), the circumstances in
C(benchmarks/memory-run.json), and C(benchmarks/memory.md) from both. A move of 4 GiB needs 18 GiB of free memory: both
servers of the lab hold a copy of what is on the way.
"""

from __future__ import annotations

import argparse

from bench_results import ROOT, Results, rounds
from downtime import Servers, measure
from memory_page import CELLS, KEYS, Cell, write_page

OUTPUT = ROOT / "benchmarks" / "memory.json"


def in_order(record: dict) -> tuple:
    """Where a record is in the raw data."""
    return record["memory_mib"], record["kind"], record["mode"]


def run(results: Results, repeat: int) -> None:
    """Measures each cell so often."""
    servers = Servers()

    def one(cell: Cell) -> str:
        servers.kind = cell.kind
        figures = measure(servers, cell.mode, cell.memory_mib, 0.0)
        results.add(cell, figures)
        return f"{figures['downtime_seconds']:.3f} s of {figures['total_seconds']:.1f} s"

    with servers.ready(with_podman=False):
        results.circumstances(servers.circumstances(with_podman=False))
        rounds(results, CELLS, repeat, one, lambda cell: f"{cell.kind} {cell.memory_mib} MiB {cell.mode}")


def main() -> None:
    """Measures, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each cell")
    parser.add_argument("--resume", action="store_true", help="keep what was measured already, and measure the rest")
    parser.add_argument("--page-only", action="store_true", help="only write the page from the data again")
    options = parser.parse_args()
    if not options.page_only:
        results = Results(OUTPUT, options.resume, KEYS, "downtime_seconds", in_order)
        run(results, options.repeat)
        results.save()
    write_page(OUTPUT)


if __name__ == "__main__":
    main()
