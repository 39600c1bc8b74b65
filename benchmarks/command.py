# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the whole command costs: C(ansible-playbook migrate.yml) for 1, 4 and 20 containers beside a ping of Ansible's.

Runs from C(make bench-command), which makes the lab, and writes C(benchmarks/command.json), the circumstances in
C(benchmarks/command-run.json), and C(benchmarks/command.md) from both. One cell alone, somewhere else:

    python benchmarks/command.py --only precopy-4-together --repeat 1 --output /tmp/trial.json
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench_page import downtimes
from bench_results import DESTINATION, ROOT, SETTLE, SOURCE, VERSIONS, Broken, Results, commit, machine, reason, rounds
from command_page import (
    KEYS,
    PING,
    TITLES,
    Cell,
    cell_of,
    check_numbers,
    module_runs,
    split_lines,
    ssh_commands,
    write_page,
)
from processor_time import NodeTime, adopt_orphans, children_used, end_orphans

from support.lab import IMAGE, NAME, PLAYBOOKS, Lab, environment, wait_for

SERVERS = (SOURCE, DESTINATION)
PREFIX = "bench-command"
COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.1; done"
# Beside Docker's own files, so that a log can have a second name there.
LOGS = "/var/lib/docker/fog-bench-command"
LONGEST = 1800
# A container is moved there and back.
MOVES = 2
ROLE = (ROOT / "playbooks" / "migrate.yml", ROOT / "roles" / "migrate")

START = f"""
for name in {{names}}; do
    docker run -d --name $name {IMAGE} sh -c '{COUNTER}' >/dev/null
done
"""
# The log stays readable by its second name when the container is removed.
KEEP_LOGS = f"""
rm -rf {LOGS}; mkdir -p {LOGS}
for name in {{names}}; do
    ln "$(docker inspect --format '{{{{{{{{.LogPath}}}}}}}}' $name)" {LOGS}/$name
done
"""
# A line is a name and a JSON object, or a name and a number.
READ_LOGS = f'for name in {{names}}; do sed "s/^/$name /" {LOGS}/$name; done'
READ_NOW = 'for name in {names}; do docker logs $name | sed "s/^/$name /"; done'
CLEAN = f"""
docker ps -aq --filter name=^{PREFIX}- | xargs -r docker rm -fv
rm -rf {LOGS}
{SETTLE}
"""


# Commands


class Cost(NamedTuple):
    """What one command cost, and what it said."""

    seconds: float
    controller: float
    servers: float
    output: str


class Controller:
    """Runs Ansible's commands as a user does, each with SSH connections of its own."""

    def __init__(self, sockets: str) -> None:
        adopt_orphans()
        self.servers = NodeTime([f"{NAME}-{node}" for node in SERVERS])
        self.environment = {**environment(), "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets}

    def run(self, *words: str) -> Cost:
        """Runs a command, which has to succeed."""
        servers, own, begin = self.servers.seconds(), children_used(), time.monotonic()
        done = subprocess.run(
            words,
            cwd=PLAYBOOKS,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
        )
        seconds, servers = time.monotonic() - begin, self.servers.seconds() - servers
        end_orphans()
        if done.returncode:
            raise Broken(reason(done))
        return Cost(seconds, children_used() - own, servers, done.stdout)


def command(cell: Cell, names: list[str]) -> list[str]:
    """The words of the command of a cell."""
    if cell == PING:
        return ["ansible", SOURCE, "-m", "ping"]
    extra = {
        "container" if len(names) == 1 else "containers": ",".join(names),
        "migration_mode": cell.what,
        **({"migration_together": "false"} if cell.together is False else {}),
    }
    return ["ansible-playbook", "migrate.yml", *(word for pair in extra.items() for word in ("-e", "=".join(pair)))]


def figures(cell: Cell, cost: Cost) -> dict:
    """A measurement, each figure under the name that it has in the raw data."""
    found = {
        "seconds": round(cost.seconds, 3),
        "cpu_seconds": round(cost.controller + cost.servers, 3),
        "controller_cpu_seconds": round(cost.controller, 3),
    }
    if cell != PING:
        told = downtimes(cost.output)
        if len(told) != cell.containers:
            raise Broken(f"the reports tell of {len(told)} downtimes, not of {cell.containers}")
        found["downtime_seconds"] = told
    return found


# Counters


class Counters:
    """Some containers that count, moved from server to server, and everything that they have counted."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.lab = lab
        self.names = [f"{PREFIX}-{index}" for index in range(number)]
        self.where = SOURCE
        self.counted: dict[str, list[int]] = {name: [] for name in self.names}

    def _sh(self, node: str, script: str) -> str:
        return self.lab.sh(node, f"set -e\n{script.format(names=' '.join(self.names))}") if self.names else ""

    def start(self) -> None:
        """Starts them on the first server."""
        self._sh(self.where, START)
        self._wait_for_lines()

    def _now(self) -> dict[str, list[int]]:
        lines = split_lines(self._sh(self.where, READ_NOW), self.names)
        return {name: list(map(int, some)) for name, some in lines.items()}

    def _wait_for_lines(self) -> None:
        wait_for(lambda: all(len(some) > 2 for some in self._now().values()), f"numbers of all on {self.where}")

    @contextlib.contextmanager
    def moving(self) -> Iterator[None]:
        """Meanwhile they are moved to the other server; they are looked at afterwards."""
        if not self.names:
            yield
            return
        origin = self.where
        (self.where,) = (node for node in SERVERS if node != origin)
        self._sh(origin, KEEP_LOGS)
        yield
        self._look_where_they_are(origin)
        for name, lines in split_lines(self._sh(origin, READ_LOGS), self.names).items():
            self.counted[name] += [int(json.loads(line)["log"]) for line in lines]
        self._wait_for_lines()
        for name, numbers in self._now().items():
            check_numbers(name, self.counted[name] + numbers)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self._traces(), "the end of all traces")
        if traces := self._traces():
            raise ValueError(f"the migration left {'; '.join(traces)}")

    def _traces(self) -> list[str]:
        return [f"on {node} {trace}" for node in SERVERS for trace in self.lab.traces(node)]

    def _look_where_they_are(self, origin: str) -> None:
        query = "docker ps --format '{{.Names}}' --filter name=^" + PREFIX
        if missing := set(self.names) - set(self.lab.sh(self.where, query).split()):
            raise ValueError(f"{', '.join(sorted(missing))} do not run on {self.where}")
        if left := self.lab.sh(origin, query.replace("ps", "ps --all", 1)).split():
            raise ValueError(f"{', '.join(sorted(left))} were left on {origin}")


class Bench:
    """The lab, made ready and left as it was found, and the measurements."""

    def __init__(self, lab: Lab, controller: Controller) -> None:
        self.lab = lab
        self.controller = controller

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """The image is on both servers."""
        was_there = self.lab.docker(DESTINATION, "images", "-q", IMAGE)
        try:
            self.clean()
            self.lab.copy_image()
            yield
        finally:
            self.clean()
            if not was_there:
                self.lab.docker(DESTINATION, "rmi", IMAGE, check=False)

    def clean(self) -> None:
        """No container of a measurement is left, nor anything that is still to be done."""
        for node in SERVERS:
            self.lab.sh(node, CLEAN, check=False)

    @contextlib.contextmanager
    def counters(self, cell: Cell) -> Iterator[Counters]:
        """The containers of a cell. A migration that failed is settled before they go."""
        counters = Counters(self.lab, cell.containers)
        try:
            counters.start()
            yield counters
        except (AssertionError, OSError, ValueError, Broken, subprocess.SubprocessError) as exc:
            if cell != PING:
                self.lab.playbook("recover.yml", check=False)
            raise Broken(" ".join(str(exc).split())[:600]) from exc
        finally:
            self.clean()
            end_orphans()

    def move(self, cell: Cell, counters: Counters, *words: str) -> Cost:
        """One command of a cell."""
        with counters.moving():
            return self.controller.run(*command(cell, counters.names), *words)

    def measure(self, cell: Cell, results: Results) -> str:
        """A cell, there and back. What was measured before a failure counts."""
        told = []
        with self.counters(cell) as counters:
            for _move in range(MOVES):
                found = figures(cell, self.move(cell, counters))
                results.add(cell, found)
                told.append(f"{found['seconds']:.2f} s ({found['cpu_seconds']:.2f} s of processors)")
        return ", ".join(told)

    def count(self, cell: Cell, results: Results) -> str:
        """How much Ansible does for a cell, in a run that is not timed."""
        with self.counters(cell) as counters:
            output = self.move(cell, counters, "-vvv").output
        record = results.record(cell)
        record.update(module_runs=module_runs(output), ssh_commands=ssh_commands(output))
        results.save()
        return f"{record['module_runs']} module runs, {record['ssh_commands']} SSH commands"


# The run


def knows_together() -> bool:
    """Whether several containers can be moved each by itself."""
    files = [file for place in ROLE for file in ([place] if place.is_file() else place.rglob("*.yml"))]
    return any("migration_together" in file.read_text(encoding="utf-8") for file in files)


def left_out(cells: list[Cell]) -> dict[Cell, str]:
    """Why some cells cannot be measured with this state of the project."""
    if knows_together():
        return {}
    why = "`migrate.yml` has no option `migration_together` in this state of the project."
    return {cell: why for cell in cells if cell.together is False}


def count_all(bench: Bench, results: Results, cells: list[Cell]) -> None:
    """The runs that are not timed. They also fill the caches for those that are."""
    for cell in cells:
        if "module_runs" not in results.find(cell):
            try:
                said = bench.count(cell, results)
            except Broken as exc:
                results.fail(cell, str(exc))
                said = f"FAILED: {exc}"
            print(f"{cell.name}: {said}", flush=True)


def circumstances(lab: Lab) -> dict:
    """What a reader of the figures has to know of the machine."""
    now = machine(lab, VERSIONS)
    return {**now, "versions": {**now["versions"], "ansible-core": importlib.metadata.version("ansible-core")}}


def in_order(record: dict) -> int:
    """Where a record is in the raw data."""
    return list(TITLES).index(cell_of(record))


def measure_all(options: argparse.Namespace) -> None:
    """Measures what is wanted and can be measured."""
    results = Results(options.output, options.resume, KEYS, "seconds", in_order)
    lab = Lab()
    why_not = left_out(options.only)
    cells = [cell for cell in options.only if cell not in why_not]
    for cell, why in why_not.items():
        print(f"{cell.name} is left out: {why}", flush=True)
    earlier = [one for one in results.run.get("left_out", []) if cell_of(one) not in options.only]
    results.run["left_out"] = earlier + [{**results.named(cell), "error": why} for cell, why in why_not.items()]
    results.run["commits"] = sorted({*results.run.get("commits", []), commit()})
    results.circumstances(circumstances(lab))
    with tempfile.TemporaryDirectory(prefix="fog-bench-") as sockets:
        bench = Bench(lab, Controller(sockets))
        with bench.ready():
            count_all(bench, results, cells)
            measure = functools.partial(bench.measure, results=results)
            rounds(results, cells, options.repeat * MOVES, measure, lambda cell: cell.name)
    results.save()


def chosen(text: str) -> list[Cell]:
    """The cells of some names, or of what they measure, in the order of the page."""
    words = text.split(",")
    if unknown := set(words) - {word for cell in TITLES for word in (cell.name, cell.what)}:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return [cell for cell in TITLES if cell.name in words or cell.what in words]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(cell.name for cell in TITLES)
    parser.add_argument("--only", type=chosen, default=list(TITLES), metavar="WHAT", help=f"some of {names}")
    parser.add_argument("--repeat", type=int, default=5, help="how often each is measured there and back")
    parser.add_argument("--resume", action="store_true", help="keep what was measured already, and measure the rest")
    parser.add_argument("--page-only", action="store_true", help="only write the page from the data again")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "command.json", help="the raw data")
    return parser.parse_args()


def main() -> None:
    """Measures, and writes the page."""
    options = arguments()
    # Whoever ends it this way finds the lab as it was as well.
    signal.signal(signal.SIGTERM, lambda *_signal: sys.exit("terminated"))
    if not options.page_only:
        measure_all(options)
    write_page(options.output)


if __name__ == "__main__":
    main()
