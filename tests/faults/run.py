# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does faults to migrations, and looks whether anything was lost: C(make fault-test).

Every trial starts a container that a witness listens to, or some that move together, migrates it, does one fault, heals
what is broken, runs C(recover.yml), and looks: exactly one copy runs, it has said every number once and in order, its
files hold all numbers that it has said, and nothing of the migration is left. With C(--program) it is a real program,
and its clients must not have noticed anything. Results go into a file as they come, so that a run that was interrupted
goes on; C(page.py) makes pages below C(docs/) of it.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration"), str(HERE.parent / "programs")]

import faults  # noqa: E402 - they lie beside this, and with the integration tests and the programs
import page  # noqa: E402
import subjects  # noqa: E402
import witness as witness_module  # noqa: E402

from corpus import image  # noqa: E402
from corpus.programs import PROGRAMS  # noqa: E402
from support import criu_step, daemons, lan, programs  # noqa: E402
from support import lab as lab_module  # noqa: E402

# What can move. The counter is not that of the corpus, which no client asks.
CHOICES = [page.COUNTER, *(name for name, one in PROGRAMS.items() if one.loads)]
SOURCE, DESTINATION = "fog1", "fog2"
# Seconds that a playbook may take, whatever was done to it.
LONGEST = 420
CLEAR = f"""
{criu_step.REMOVE}
docker ps -aq | xargs -r docker rm -fv
docker volume ls -q | xargs -r docker volume rm -f
! mountpoint -q /var/lib/fog-migration || umount -l /var/lib/fog-migration
"""


def gateway() -> str:
    """The address of this machine on the lab's network."""
    words = ["docker", "inspect", f"{lab_module.NAME}-fog1"]
    networks = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)[0][
        "NetworkSettings"
    ]
    return networks["Networks"][lab_module.NAME]["Gateway"]


class Trial:
    """One fault."""

    def __init__(self, the_lab: lab_module.Lab, plan: faults.Plan, subject: subjects.Subject) -> None:
        self.lab, self.plan, self.subject = the_lab, plan, subject
        self.source, self.destination = SOURCE, DESTINATION
        self.lost = faults.lost_server(plan, self.source, self.destination)
        self.output: list[str] = []

    def run(self) -> dict:
        """The result, for the file."""
        began = time.monotonic()
        self._clear()
        try:
            problem = self._start()
            done = self._not_begun(problem) if problem else self._strike()
        finally:
            self.subject.close()
        self._clear()
        seconds = round(time.monotonic() - began, 1)
        return {**self.plan._asdict(), **done, "seconds": seconds, **self.subject.facts()}

    def _start(self) -> str | None:
        """Why what is to move does not start, if it does not: what an earlier fault has left may be in its way."""
        try:
            self.subject.start(self.source)
        except AssertionError as error:
            return str(error)
        return None

    @staticmethod
    def _not_begun(problem: str) -> dict:
        problems = [f"nothing could be migrated: {problem[-500:]}"]
        return {"outcome": "not begun", "playbook": None, "problems": problems, "log": []}

    def _strike(self) -> dict:
        """A migration with the fault in it, and what came of it."""
        faults.prepare(self.lab, self.plan, self.source, self.destination)
        playbook = self._migrate()
        faults.heal(self.lab)
        recovered, recovery = self._recover()
        problems = recovered + self._look()
        outcome = "died with its server" if self.subject.died else self._outcome()
        problems += self.subject.end(outcome)
        log = [*self.output[-60:], *recovery[-60:]] if problems else []
        return {"outcome": outcome, "playbook": playbook, "problems": problems, "log": log}

    def _clear(self) -> None:
        for node in self.lab.servers():
            self.lab.sh(node, CLEAR)

    def _migrate(self) -> int:
        """C(migrate.yml) with the fault in it; its exit code."""
        names = self.subject.names
        wish = {"containers": names} if len(names) > 1 else {"container": names[0]}
        where = {"source": self.source, "destination": self.destination}
        with self.lab.begin(migration_mode=self.plan.mode, **wish, **where) as playbook:
            scene = faults.Scene(self.lab, self.source, self.destination, playbook)
            overdue = threading.Timer(LONGEST, os.killpg, (playbook.pid, signal.SIGKILL))
            overdue.start()
            try:
                lines = self._lines(playbook)
                faults.strike(scene, self.plan, lines, lambda: self.subject.before_fault(self.lost))
                if self.plan.kind.startswith("network"):
                    time.sleep(faults.CUT)
                    faults.heal(self.lab)
                if self.plan.kind == "controller":
                    # Its workers notice by themselves; those that do not are no controller any more.
                    time.sleep(1)
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(playbook.pid, signal.SIGKILL)
                for _line in lines:
                    pass
            finally:
                overdue.cancel()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(playbook.pid, signal.SIGKILL)
            return playbook.wait()

    def _lines(self, playbook: subprocess.Popen):
        for line in playbook.stdout:
            self.output.append(line.rstrip())
            yield line

    def _recover(self) -> tuple[list[str], list[str]]:
        done = self.lab.playbook("recover.yml", check=False)
        lines = (done.stdout + done.stderr).splitlines()
        return ([] if done.returncode == 0 else [f"recover.yml ended with {done.returncode}"]), lines

    def _outcome(self) -> str:
        where = [self.lab.running_on(name) for name in self.subject.names]
        known = {"moved": [self.destination], "stayed": [self.source]}
        return next((what for what, node in known.items() if where == [node] * len(where)), f"on {where}")

    def _look(self) -> list[str]:
        """What is wrong now."""
        names = self.subject.names
        found = [f"{name} {what}" for name in names for what in self._look_at(name)]
        if not self.subject.died and len({str(self.lab.running_on(name)) for name in names}) > 1:
            found.append(f"they are {self._outcome()}")
        return found + self._traces()

    def _look_at(self, name: str) -> list[str]:
        """What is wrong with one container."""
        where = self.lab.running_on(name)
        if len(where) != 1:
            return [f"runs on {where or 'no server'}"]
        found = self.subject.look_at(name, where[0], self.lost)
        policy = self.lab.inspect(where[0], name)["HostConfig"]["RestartPolicy"]["Name"]
        if policy != subjects.RESTART:
            found.append(f"has the restart policy {policy}")
        left = self.lab.module(where[0], "container_repair", check_mode=True, container=name)
        return found + (
            [f"has {left.get('note', left.get('msg'))} left in it"] if left["changed"] or left["failed"] else []
        )

    def _traces(self) -> list[str]:
        """What is left of the migration, and copies of containers that do not run."""

        def left() -> list[str]:
            return [f"left at {one}: {trace}" for one in self.lab.servers() for trace in self.lab.traces(one)]

        # An agent that nobody asks any more ends after a minute.
        deadline = time.monotonic() + 75
        while left() and time.monotonic() < deadline:
            time.sleep(0.5)
        there = {
            one: self.lab.docker(one, "ps", "-a", "--format", "{{.Names}} {{.State}}") for one in self.lab.servers()
        }
        copies = [(one, line) for one, lines in there.items() for line in lines.splitlines() if "running" not in line]
        return left() + [f"left at {one}: {line}" for one, line in copies]


def some_of(text: str) -> list[str]:
    """Names of what can move, in the order in which they take turns."""
    names = text.split(",")
    if unknown := set(names) - set(CHOICES):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return names


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200)
    known = ", ".join(CHOICES)
    parser.add_argument(
        "--program", type=some_of, default=[page.COUNTER], help=f"what moves, or several that take turns: {known}"
    )
    parser.add_argument("--results", type=Path, help="file for the results, .cache/faults-SEED.json by default")
    wanted = parser.parse_args()
    if not criu_step.compiler():
        parser.error("this machine has no C compiler, which some faults need")
    if not wanted.results:
        name = "-".join(["faults", str(wanted.seed), *(one for one in wanted.program if one != page.COUNTER)])
        wanted.results = HERE.parents[1] / ".cache" / f"{name}.json"
    return wanted


def main() -> int:
    """See the module."""
    wanted = arguments()
    wanted.results.parent.mkdir(exist_ok=True)
    results = json.loads(wanted.results.read_text()) if wanted.results.exists() else []
    the_lab = lab_module.Lab()
    docker = " to ".join(daemons.version(the_lab, node) for node in (SOURCE, DESTINATION))
    with contextlib.ExitStack() as stack:
        prepare(the_lab, wanted.program, stack)
        witness = witness_module.Witness(gateway())
        tries = zip(faults.plans(wanted.seed, wanted.count), itertools.cycle(wanted.program), strict=False)
        for number, (plan, program) in itertools.islice(enumerate(tries), len(results), None):
            if program == page.COUNTER:
                subject: subjects.Subject = subjects.Counters(the_lab, witness, plan, number)
            else:
                plan = plan._replace(together=1)
                subject = subjects.Served(the_lab, PROGRAMS[program])
            known = {"seed": wanted.seed, "number": number, "program": program, "docker": docker}
            results.append({**known, **Trial(the_lab, plan, subject).run()})
            wanted.results.write_text(json.dumps(results, indent=1) + "\n")
            print(told(results[-1], wanted.count), flush=True)
    page.write(results)
    return 1 if any(result["problems"] for result in results) else 0


def told(result: dict, count: int) -> str:
    """A result, as a line."""
    what = f"{result['kind']} ({result['program']}, {result['together']}, {result['mode']}"
    lost = "; ".join(result["problems"]) or "nothing lost"
    when = f"{result['moment']} + {result['delay']})"
    return f"{result['number'] + 1}/{count} {what}, {when}: {result['outcome']}, {lost} ({result['seconds']} s)"


def prepare(the_lab: lab_module.Lab, wanted: list[str], stack: contextlib.ExitStack) -> None:
    """What moves has its image on both servers, so that each trial is short, and its network.

    :param stack: takes the network away.
    """
    if page.COUNTER in wanted:
        give_counters(the_lab)
    if set(wanted) - {page.COUNTER}:
        if not lan.is_possible(the_lab) or not the_lab.reads_limits(SOURCE):
            raise SystemExit(
                "this machine has no macvlan, or CRIU may not read the limits of other users' processes on it"
            )
        image.give(the_lab)
        stack.enter_context(lan.network(the_lab))


def give_counters(the_lab: lab_module.Lab) -> None:
    """The image of the counters is on both servers."""
    programs.make_image(the_lab)
    save = [*the_lab.exec_command(SOURCE), "docker", "save", programs.IMAGE]
    identity = {node: the_lab.docker(node, "images", "-q", "--no-trunc", programs.IMAGE) for node in the_lab.servers()}
    if len(set(identity.values())) > 1:
        saved = subprocess.run(save, capture_output=True, check=True).stdout
        load = [*the_lab.exec_command(DESTINATION), "docker", "load"]
        subprocess.run(load, input=saved, capture_output=True, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
