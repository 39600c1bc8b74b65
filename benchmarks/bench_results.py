# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks on the lab have in common: rounds of measurements, their raw data, and the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("integration", "programs")]

from support.lab import Lab, failure  # noqa: E402 - it lies beside the tests

SOURCE, DESTINATION = "fog1", "fog2"
# A cell that has failed this often in one run is not tried again in it.
PATIENCE = 2
VERSIONS = {
    "Docker": "docker version --format '{{.Server.Version}}'",
    "CRIU": "criu --version | sed -n 's/Version: //p'",
    "runc": "runc --version | sed -n 's/runc version //p'",
}
# What one measurement leaves to be done would be done at some time during a later one.
SETTLE = """
# containerd leaves each checkpoint that it has restored where it has unpacked it.
rm -rf /tmp/ctrd-checkpoint*
# containerd collects what Docker's checkpoints left in it when a lease ends.
ctr --namespace moby leases create --id fog-bench && ctr --namespace moby leases delete --sync fog-bench
sync
"""

# What was measured: the values of the keys in the raw data that tell records apart.
Cell = tuple[Any, ...]


class Broken(Exception):
    """A measurement that gave nothing, and why."""


def reason(done: subprocess.CompletedProcess) -> str:
    """Why a playbook failed, in its own words."""
    try:
        return failure(done)
    except AssertionError:
        return " ".join(f"{done.stdout}\n{done.stderr}".split())[-600:]


def machine(lab: Lab, versions: dict[str, str]) -> dict:
    """What a reader of the figures has to know of the machine; I(versions) are scripts that print them."""
    tracks = lab.sh(SOURCE, "criu check --feature mem_dirty_track >/dev/null 2>&1 && echo yes", check=False)
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "kernel_tracks_dirty_memory": bool(tracks),
        "versions": {name: lab.sh(SOURCE, script).strip() for name, script in versions.items()},
    }


def commit() -> str:
    """The state of the project."""
    words = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


class Results:
    """The raw data on the disk, written again after each measurement."""

    def __init__(
        self, output: Path, resume: bool, keys: Sequence[str], counted: str, order: Callable[[dict], Any]
    ) -> None:
        self.output = output
        self.keys = keys
        # The figure that each measurement has, by which they are counted.
        self.counted = counted
        self.order = order
        self.circumstances_file = output.with_name(f"{output.stem}-run.json")
        self.records: list[dict] = []
        self.run: dict = {"failures": []}
        if resume and output.exists():
            self.records = json.loads(output.read_text(encoding="utf-8"))
            self.run = json.loads(self.circumstances_file.read_text(encoding="utf-8"))

    def named(self, cell: Cell) -> dict:
        """The keys of a cell with their values. A key that says nothing about it is left out."""
        return {key: value for key, value in zip(self.keys, cell, strict=True) if value is not None}

    def find(self, cell: Cell) -> dict:
        """The record of a cell; an empty one, which is not kept, where there is none yet."""
        wanted = self.named(cell)
        return next((one for one in self.records if wanted == {key: one[key] for key in self.keys if key in one}), {})

    def record(self, cell: Cell) -> dict:
        """The record of a cell, which is made where there is none yet."""
        record = self.find(cell)
        if not record:
            record = self.named(cell)
            self.records.append(record)
        return record

    def count(self, cell: Cell) -> int:
        """How often a cell was measured."""
        return len(self.find(cell).get(self.counted, []))

    def add(self, cell: Cell, figures: dict) -> None:
        """Appends one measurement. A figure that is a list has more than one value for it."""
        record = self.record(cell)
        for name, value in figures.items():
            record.setdefault(name, []).extend(value if isinstance(value, list) else [value])
        self.save()

    def fail(self, cell: Cell, why: str) -> None:
        """Notes one that gave nothing."""
        self.run["failures"].append({**self.named(cell), "error": why})
        self.save()

    def circumstances(self, now: dict) -> None:
        """Notes the machine. What an earlier part of the run had, and this one does not, stays noted."""
        self.run.update(now, versions={**self.run.get("versions", {}), **now["versions"]})

    def save(self) -> None:
        """One record in one line, so that a difference can be read."""
        self.records.sort(key=self.order)
        lines = ",\n".join(json.dumps(record) for record in self.records)
        self.output.write_text(f"[\n{lines}\n]\n" if lines else "[]\n", encoding="utf-8")
        self.circumstances_file.write_text(json.dumps(self.run, indent=2) + "\n", encoding="utf-8")


def rounds(
    results: Results,
    cells: Sequence[Cell],
    wanted: int,
    measure: Callable[[Any], str],
    title: Callable[[Any], str],
) -> None:
    """Round by round, each cell once in each, so that noise meets all of them alike, until all have so many figures.

    I(measure) adds what it measures to the results, and returns what is to be printed about it.
    """
    failed = dict.fromkeys(cells, 0)
    before, begin = results.run.get("minutes", 0), time.monotonic()
    while todo := [cell for cell in cells if results.count(cell) < wanted and failed[cell] < PATIENCE]:
        for cell in todo:
            try:
                said = measure(cell)
            except Broken as exc:
                failed[cell] += 1
                results.fail(cell, str(exc))
                said = f"FAILED: {exc}"
            minutes = (time.monotonic() - begin) / 60
            results.run["minutes"] = round(before + minutes, 1)
            print(f"[{minutes:5.1f} min] {title(cell)}, {results.count(cell)} of {wanted}: {said}", flush=True)
