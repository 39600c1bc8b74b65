# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does faults to migrations, and looks whether anything was lost: C(make fault-test).

Every trial starts a container that a witness listens to, or some that move together, migrates it, does one fault, heals
what is broken, runs C(recover.yml), and looks: exactly one copy runs, it has said every number once and in order, its
files hold all numbers that it has said, and nothing of the migration is left. Results go into a file as they come, so
that a run that was interrupted goes on; C(page.py) makes C(docs/reliability.md) of it.
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
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

import faults  # noqa: E402 - they lie beside this, and with the integration tests
import page  # noqa: E402
import witness as witness_module  # noqa: E402

from support import criu_step, programs  # noqa: E402
from support import lab as lab_module  # noqa: E402
from support.peer import Peers  # noqa: E402

NAME = "counter"
# The container serves a client as well.
SERVED = f"{programs.ECHO}\nimport threading\nthreading.Thread(target=echo, daemon=True).start()\n"
FILES = ("/numbers", "/data/numbers")
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

    def __init__(
        self, the_lab: lab_module.Lab, witness: witness_module.Witness, plan: faults.Plan, number: int
    ) -> None:
        self.lab, self.witness, self.plan = the_lab, witness, plan
        self.names = [f"{NAME}{number}" + "b" * place for place in range(plan.together)]
        self.source, self.destination = "fog1", "fog2"
        self.output: list[str] = []
        self._died = False

    def run(self) -> dict:
        """The result, for the file."""
        began = time.monotonic()
        self._clear()
        # Large enough now and then for its memory to arrive after it.
        for name in self.names:
            self._start(name, 48 if self.plan.delay * 1000 % 4 < 1 else 1)
        clients = self._connect()
        faults.prepare(self.lab, self.plan, self.source, self.destination)
        playbook = self._migrate()
        faults.heal(self.lab)
        recovered, recovery = self._recover()
        problems = recovered + self._look()
        outcome = "died with its server" if self._died else self._outcome()
        problems += self._ended(clients, outcome)
        self._clear()
        return {
            **self.plan._asdict(),
            "outcome": outcome,
            "playbook": playbook,
            "problems": problems,
            "seconds": round(time.monotonic() - began, 1),
            "log": [*self.output[-60:], *recovery[-60:]] if problems else [],
        }

    def _clear(self) -> None:
        for node in self.lab.servers():
            self.lab.sh(node, CLEAR)

    def _start(self, name: str, size: int) -> None:
        options = ["--name", name, "--restart", "on-failure", "-v", f"{name}-data:/data"]
        program = [*programs.COMMAND, SERVED + witness_module.GENERATOR]
        words = [self.witness.address, str(self.witness.port), name, str(size), *FILES]
        self.lab.docker(self.source, "run", "-d", *options, programs.IMAGE, *program, *words)
        lab_module.wait_for(lambda: len(self.witness.heard(name)) > 10, "the first numbers")

    def _connect(self) -> Peers | None:
        """Clients with a connection to each container, on its server."""
        if self.plan.kind not in faults.STEPS:
            return None
        addresses = [self.lab.inspect(self.source, name)["NetworkSettings"]["IPAddress"] for name in self.names]
        return Peers(self.lab, self.source, *(f"{address}:7001" for address in addresses))

    @staticmethod
    def _ended(clients: Peers | None, outcome: str) -> list[str]:
        """What is wrong with the connections to what has stayed. On Docker's bridge, none can move."""
        if not clients:
            return []
        found = []
        if outcome == "stayed":
            try:
                clients.require_more()
            except AssertionError as error:
                found.append(f"a connection does not go on ({error})")
        lost = [one["problem"] for one in clients.end()["connections"] if one["problem"]]
        return found + [f"a connection was lost ({problem})" for problem in lost if outcome == "stayed"]

    def _migrate(self) -> int:
        """C(migrate.yml) with the fault in it; its exit code."""
        wish = {"containers": self.names} if self.plan.together > 1 else {"container": self.names[0]}
        where = {"source": self.source, "destination": self.destination}
        with self.lab.begin(migration_mode=self.plan.mode, **wish, **where) as playbook:
            scene = faults.Scene(self.lab, self.source, self.destination, playbook)
            overdue = threading.Timer(LONGEST, os.killpg, (playbook.pid, signal.SIGKILL))
            overdue.start()
            try:
                lines = self._lines(playbook)
                faults.strike(scene, self.plan, lines)
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
        where = [self.lab.running_on(name) for name in self.names]
        known = {"moved": [self.destination], "stayed": [self.source]}
        return next((what for what, node in known.items() if where == [node] * len(where)), f"on {where}")

    def _look(self) -> list[str]:
        """What is wrong now."""
        found = [f"{name} {what}" for name in self.names for what in self._look_at(name)]
        if not self._died and len({str(self.lab.running_on(name)) for name in self.names}) > 1:
            found.append(f"they are {self._outcome()}")
        return found + self._traces()

    def _look_at(self, name: str) -> list[str]:
        """What is wrong with one container."""
        where = self.lab.running_on(name)
        if len(where) != 1:
            return [f"runs on {where or 'no server'}"]
        seen = len(self.witness.heard(name))
        try:
            lab_module.wait_for(lambda: len(self.witness.heard(name)) > seen + 10, "more numbers", 20)
        except AssertionError:
            return [f"runs on {where[0]} and says nothing"]
        self.lab.docker(where[0], "pause", name)
        time.sleep(0.2)
        words, written = self.witness.heard(name), [self.lab.numbers(where[0], name, path) for path in FILES]
        lost = faults.FAULTS[self.plan.kind].loses
        address = self.lab.hostvars[getattr(self, lost)]["ansible_host"] if lost else None
        words, written, died = witness_module.without_lost_server(words, written, address)
        self._died = self._died or died
        found = witness_module.complaints(words, written)
        found += [f"has other memory: {word}" for word in self.witness.damaged]
        self.witness.damaged.clear()
        self.lab.docker(where[0], "unpause", name)
        policy = self.lab.inspect(where[0], name)["HostConfig"]["RestartPolicy"]["Name"]
        if policy != "on-failure":
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


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--results", type=Path, help="file for the results, .cache/faults-SEED.json by default")
    wanted = parser.parse_args()
    if not criu_step.compiler():
        parser.error("this machine has no C compiler, which some faults need")
    place = wanted.results or HERE.parents[1] / ".cache" / f"faults-{wanted.seed}.json"
    place.parent.mkdir(exist_ok=True)
    results = json.loads(place.read_text()) if place.exists() else []
    the_lab = lab_module.Lab()
    prepare(the_lab)
    witness = witness_module.Witness(gateway())
    plans = faults.plans(wanted.seed, wanted.count)
    for number, plan in itertools.islice(enumerate(plans), len(results), None):
        result = {"seed": wanted.seed, "number": number, **Trial(the_lab, witness, plan, number).run()}
        results.append(result)
        place.write_text(json.dumps(results, indent=1) + "\n")
        told = "; ".join(result["problems"]) or "nothing lost"
        print(
            f"{number + 1}/{wanted.count} {plan.kind} ({plan.together}, {plan.mode}, {plan.moment} + {plan.delay}): "
            f"{result['outcome']}, {told} ({result['seconds']} s)",
            flush=True,
        )
    page.write(results)
    return 1 if any(result["problems"] for result in results) else 0


def prepare(the_lab: lab_module.Lab) -> None:
    """The image is on both servers, so that each trial is short."""
    programs.make_image(the_lab)
    save = [*the_lab.exec_command("fog1"), "docker", "save", programs.IMAGE]
    identity = {node: the_lab.docker(node, "images", "-q", "--no-trunc", programs.IMAGE) for node in the_lab.servers()}
    if len(set(identity.values())) > 1:
        image = subprocess.run(save, capture_output=True, check=True).stdout
        subprocess.run([*the_lab.exec_command("fog2"), "docker", "load"], input=image, capture_output=True, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
