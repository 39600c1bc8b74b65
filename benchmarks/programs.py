# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long real programs stand still when they move, and for how long a client of theirs hears nothing.

Runs from C(make bench-programs), which makes the lab, and writes C(benchmarks/programs.json), the circumstances in
C(benchmarks/programs-run.json), and C(benchmarks/programs.md) from both. One program alone, somewhere else:

    python benchmarks/programs.py --programs counter,redis --modes precopy --repeat 1 --output /tmp/trial.json
"""

from __future__ import annotations

import argparse
import functools
import itertools
import subprocess
from pathlib import Path

from bench_page import downtimes
from bench_results import DESTINATION, ROOT, SETTLE, SOURCE, VERSIONS, Broken, Results, commit, machine, reason, rounds
from programs_page import KEYS, Cell, write_page

from corpus import image
from corpus.programs import MODES, PROGRAMS
from corpus.scene import NotMoved, Outcome, scene
from support import lan
from support.lab import Lab

# A program is moved there and back.
WAY = (DESTINATION, SOURCE)


def figures(outputs: list[str], outcome: Outcome) -> dict:
    """A measurement, each figure under the name that it has in the raw data."""
    told = [seconds for output in outputs for seconds in downtimes(output)]
    if len(told) != len(outputs):
        raise Broken(f"{len(outputs)} reports tell of {len(told)} downtimes")
    return {"downtime_seconds": told, "client_pause_seconds": outcome.pauses, "client_errors": outcome.errors}


def measure(cell: Cell, lab: Lab, results: Results) -> str:
    """A program in a mode, there and back."""
    for node in WAY:
        lab.sh(node, SETTLE, check=False)
    try:
        with scene(lab, PROGRAMS[cell.program]) as moving:
            moves = [moving.move(node, cell.mode) for node in WAY]
            found = figures([move.output for move in moves], moving.end())
    except NotMoved as exc:
        lab.playbook("recover.yml", check=False)
        raise Broken(reason(exc.done)) from exc
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as exc:
        raise Broken(" ".join(str(exc).split())[:600]) from exc
    results.add(cell, found)
    pauses = " and ".join(f"{pause:.3f}" for pause in found["client_pause_seconds"]) or "no"
    return f"{' and '.join(map(str, found['downtime_seconds']))} s, for clients {pauses} s; {found['client_errors']}"


def in_order(record: dict) -> tuple[int, int]:
    """Where a record is in the raw data."""
    return MODES.index(record["mode"]), list(PROGRAMS).index(record["program"])


def measure_all(options: argparse.Namespace) -> None:
    """Measures what is wanted."""
    results = Results(options.output, options.resume, KEYS, "downtime_seconds", in_order)
    lab = Lab()
    if not lan.is_possible(lab) or not lab.reads_limits(SOURCE):
        raise SystemExit("this machine has no macvlan, or CRIU may not read the limits of other users' processes on it")
    image.give(lab)
    results.run["commits"] = sorted({*results.run.get("commits", []), commit()})
    results.circumstances(machine(lab, VERSIONS))
    cells = [Cell(program, mode) for mode, program in itertools.product(options.modes, options.programs)]
    with lan.network(lab):
        one = functools.partial(measure, lab=lab, results=results)
        rounds(results, cells, options.repeat * len(WAY), one, " ".join)
    results.save()


def some_of(known: list[str], text: str) -> list[str]:
    """Some names, in the order in which they are known."""
    if unknown := set(text.split(",")) - set(known):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return [name for name in known if name in text.split(",")]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, known in (("programs", list(PROGRAMS)), ("modes", list(MODES))):
        kind = functools.partial(some_of, known)
        parser.add_argument(f"--{name}", type=kind, default=known, help=f"some of {', '.join(known)}")
    parser.add_argument("--repeat", type=int, default=3, help="how often each is measured there and back")
    parser.add_argument("--resume", action="store_true", help="keep what was measured already, and measure the rest")
    parser.add_argument("--page-only", action="store_true", help="only write the page from the data again")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "programs.json", help="the raw data")
    return parser.parse_args()


def main() -> None:
    """Measures, and writes the page."""
    options = arguments()
    if not options.page_only:
        measure_all(options)
    write_page(options.output)


if __name__ == "__main__":
    main()
