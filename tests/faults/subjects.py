# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves while something breaks, and how it is seen that nothing of it was lost."""

from __future__ import annotations

import time
from typing import Any, Protocol

import faults
import witness as witness_module

from corpus import scene as corpus
from corpus.programs import Program
from support import lab as lab_module
from support import programs
from support.peer import Peers

# So that what dies with its server is started anew there.
RESTART = "on-failure"


class Subject(Protocol):
    """One container, or some that move together."""

    # Of the containers.
    names: list[str]
    # Whether it was lost with a server on which it ran, as it would have been without any migration.
    died: bool

    def start(self, node: str) -> None:
        """It runs on this node, and is seen to."""

    def before_fault(self, lost: str | None) -> None:
        """The fault is about to be done, and takes a server away or none."""

    def look_at(self, name: str, node: str, lost: str | None) -> list[str]:
        """What is wrong with one container, which runs on this node and on no other one, when all is settled."""

    def end(self, outcome: str) -> list[str]:
        """What else is wrong, to the end."""

    def facts(self) -> dict[str, Any]:
        """What the result tells of it besides."""

    def close(self) -> None:
        """Nobody looks at it any more."""


# ---------------------------------------------------------------------------------------------------------------------
# Counters that a witness hears


class Counters:
    """Containers that count, and say each number to a witness; they serve a client as well."""

    FILES = ("/numbers", "/data/numbers")
    # A CRIU that is killed leaves its lock of the network, and the container runs on at once: datagrams, which nobody
    # sends again, are lost until the lock has been removed. That is one second of numbers.
    LOCKED = 50
    _SERVED = f"{programs.ECHO}\nimport threading\nthreading.Thread(target=echo, daemon=True).start()\n"

    def __init__(
        self, the_lab: lab_module.Lab, witness: witness_module.Witness, plan: faults.Plan, number: int
    ) -> None:
        self.names = [f"counter{number}" + "b" * place for place in range(plan.together)]
        self.died = False
        self._lab, self._witness, self._plan = the_lab, witness, plan
        # Only where CRIU is killed, connections could be left in a state that nobody sees otherwise.
        self._clients: Peers | None = None

    def start(self, node: str) -> None:
        # Large enough now and then for its memory to arrive after it.
        for name in self.names:
            self._start(node, name, 48 if self._plan.delay * 1000 % 4 < 1 else 1)
        if self._plan.kind in faults.STEPS:
            addresses = [self._lab.inspect(node, name)["NetworkSettings"]["IPAddress"] for name in self.names]
            self._clients = Peers(self._lab, node, *(f"{address}:7001" for address in addresses))

    def _start(self, node: str, name: str, size: int) -> None:
        options = ["--name", name, "--restart", RESTART, "-v", f"{name}-data:/data"]
        program = [*programs.COMMAND, self._SERVED + witness_module.GENERATOR]
        words = [self._witness.address, str(self._witness.port), name, str(size), *self.FILES]
        self._lab.docker(node, "run", "-d", *options, programs.IMAGE, *program, *words)
        lab_module.wait_for(lambda: len(self._witness.heard(name)) > 10, "the first numbers")

    def before_fault(self, lost: str | None) -> None:
        """The witness hears from which server each number comes."""

    def look_at(self, name: str, node: str, lost: str | None) -> list[str]:
        seen = len(self._witness.heard(name))
        try:
            lab_module.wait_for(lambda: len(self._witness.heard(name)) > seen + 10, "more numbers", 20)
        except AssertionError:
            return [f"runs on {node} and says nothing"]
        self._lab.docker(node, "pause", name)
        time.sleep(0.2)
        words, written = self._witness.heard(name), [self._lab.numbers(node, name, path) for path in self.FILES]
        address = self._lab.hostvars[lost]["ansible_host"] if lost else None
        words, written, died = witness_module.without_lost_server(words, written, address)
        self.died = self.died or died
        locked = self.LOCKED if self._plan.kind in faults.STEPS else 0
        found = witness_module.complaints(words, written, locked)
        found += [f"has other memory: {word}" for word in self._witness.damaged]
        self._witness.damaged.clear()
        self._lab.docker(node, "unpause", name)
        return found

    def end(self, outcome: str) -> list[str]:
        """What is wrong with the connections to what has stayed. On Docker's bridge, none can move."""
        if not self._clients:
            return []
        found = []
        if outcome == "stayed":
            try:
                self._clients.require_more()
            except AssertionError as error:
                found.append(f"a connection does not go on ({error})")
        lost = [one["problem"] for one in self._clients.end()["connections"] if one["problem"]]
        return found + [f"a connection was lost ({problem})" for problem in lost if outcome == "stayed"]

    def facts(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Nobody looks at it any more."""


# ---------------------------------------------------------------------------------------------------------------------
# Programs with clients


class Served:
    """A program of the corpus, with an address of its own, whose clients must not notice what happens to it."""

    # Seconds: no client of real programs gives up before recovery has settled everything; how long a peer's kernel
    # waits at most until it sends again what was not answered (TCP_RTO_MAX), and more; and the end of the clients.
    PATIENCE, SILENCE, END = 1200, 150, 300
    # What a client was that has not come to its end by then.
    _CLIENTS = "pkill -KILL 'python3|pgbench|mosquitto_|mariadb'; true"

    def __init__(self, the_lab: lab_module.Lab, program: Program) -> None:
        self.names = [corpus.NAME]
        self.died = False
        self._lab = the_lab
        self._scene = corpus.Scene(the_lab, program, f"--restart {RESTART}", self.PATIENCE)
        # Whether it runs on the server that is lost.
        self._at_risk = False
        self._began = 0.0
        self._pauses: list[float] = []

    def start(self, node: str) -> None:
        self._scene.where = node
        self._scene.start()
        self._began = time.time()

    def before_fault(self, lost: str | None) -> None:
        """While it is still frozen at the source and runs at the destination already, both list it."""
        where = self._lab.running_on(corpus.NAME) if lost else []
        self._at_risk = bool(where) and where[-1] == lost

    def look_at(self, name: str, node: str, lost: str | None) -> list[str]:
        self._scene.where = node
        if self._goes_on():
            return []
        if not self._at_risk:
            return [] if self._scene.listener.has_given_up else [f"runs on {node}, and its clients hear nothing"]
        self.died = True
        try:
            self._scene.begin_anew()
        except AssertionError as error:
            return [f"runs on {node} and does not serve others ({error})"]
        return []

    def _goes_on(self) -> bool:
        """Whether every client hears more."""
        try:
            self._scene.listener.require_more(self.SILENCE)
        except AssertionError:
            return False
        return not self._scene.listener.has_given_up

    def end(self, outcome: str) -> list[str]:
        """What is wrong with what the clients have heard; those of what died with its server are not asked."""
        if self.died or outcome not in ("moved", "stayed"):
            return []
        self._scene.moves.append(corpus.Move(outcome, "", self._began, time.time()))
        try:
            found = self._scene.end(self.END)
        except (AssertionError, ValueError) as error:
            return [f"cannot be judged ({error})"]
        self._pauses = found.pauses
        return found.errors

    def facts(self) -> dict[str, Any]:
        return {"pause": max(self._pauses, default=None)}

    def close(self) -> None:
        self._scene.close()
        self._lab.sh("client", self._CLIENTS, check=False)
