# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program on the lab, its clients at work, and its moves."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support import lan
from support.lab import Lab, wait_for

from . import client, image, verdicts
from .programs import Program

NAME = "program"
CLEAR = "docker ps -aq | xargs -r docker rm -f; docker volume ls -q | xargs -r docker volume rm"
# Lines that every client has heard, and hears again after a move, before anything else is done.
ENOUGH = 3


class NotMoved(AssertionError):
    """A migration that has failed, and all that it said."""

    def __init__(self, done: subprocess.CompletedProcess) -> None:
        super().__init__(f"{done.stdout}{done.stderr}")
        self.done = done


class Move(NamedTuple):
    """A migration: in which mode, what the command said, and when it began and ended."""

    mode: str
    output: str
    begin: float
    end: float


class Outcome(NamedTuple):
    """What is wrong, and for how long a client has heard nothing, at most, in each move."""

    errors: list[str]
    pauses: list[float]


class Listener:
    """A command on a node whose lines are read while it runs."""

    def __init__(self, command: list[str]) -> None:
        self.lines: list[str] = []
        self.heard: Counter[str] = Counter()
        self.has_given_up = False
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        # One that was cut off by the end says nothing.
        for line in filter(lambda line: line.endswith("\n"), self.process.stdout):
            self.lines.append(line)
            _when, who, what = line.split(" ", 2)
            self.heard[who] += 1
            self.has_given_up |= what.startswith(verdicts.GIVEN_UP)

    def require_more(self, seconds: float = 60) -> None:
        """Returns when each that was heard so far has been heard some more, or one of them has given up."""
        before = Counter(self.heard)
        wait_for(lambda: self.has_given_up or self._has_more(before), f"more than {dict(before)}", seconds)

    def _has_more(self, before: Counter[str]) -> bool:
        return bool(self.heard) and all(self.heard[who] >= before[who] + ENOUGH for who in before or self.heard)

    def end(self, seconds: float | None = None) -> verdicts.Heard:
        """All that was heard, to the end.

        :param seconds: that the end may take; those that wait for an answer by then have given up, too.
        """
        self.process.stdin.close()
        self.thread.join(seconds)
        if self.thread.is_alive():
            self.kill()
            why = "not all clients have come to an end"
            self.lines.append(f"{time.time()} {verdicts.NOBODY} {verdicts.GIVEN_UP} {why}\n")
        self.process.wait()
        return verdicts.heard(self.lines)

    def kill(self) -> None:
        """Hears nothing any more."""
        self.process.kill()
        self.thread.join()


class Scene:
    """One program on fog1, with its clients.

    :param options: more options of "docker run".
    :param patience: seconds that an answer may take.
    """

    def __init__(self, lab: Lab, program: Program, options: str = "", patience: float = client.PATIENCE) -> None:
        self.lab = lab
        self.program = program
        self._options = [*program.options.split(), *options.split()]
        self._patience = patience
        self.where = "fog1"
        self.listener: Listener | None = None
        self.sessions: list[verdicts.Heard] = []
        self.moves: list[Move] = []

    def start(self) -> None:
        """Starts the program, and its clients when it serves."""
        words = ["run", "-d", "--name", NAME, "--network", lan.NAME, *self._options, image.name()]
        self.lab.docker(self.where, *words, "bash", "-c", self.program.command)
        try:
            wait_for(self._is_ready, f"an answer of {self.program.name}")
        except AssertionError as exc:
            said = self.lab.sh(self.where, f"docker logs --tail 20 {NAME} 2>&1", check=False)
            raise AssertionError(f"{exc}; it has said:\n{said}") from None
        self._listen()

    def _is_ready(self) -> bool:
        return "it is ready" in self._inside(f"{self.program.ready}\necho it is ready", check=False)

    def _inside(self, script: str, check: bool = True) -> str:
        return self.lab.docker(self.where, "exec", NAME, "bash", "-ec", script, check=check)

    def _listen(self) -> None:
        """Begins to listen to the clients, or to the program itself where it has none."""
        if self.program.loads:
            networks = self.lab.inspect(self.where, NAME)["NetworkSettings"]["Networks"]
            loads = [{"address": networks[lan.NAME]["IPAddress"], **load} for load in self.program.loads]
            source = Path(client.__file__).read_text(encoding="utf-8")
            patience = ["env", f"PATIENCE={self._patience}"]
            words = [*self.lab.exec_command("client"), *patience, "python3", "-c", source, json.dumps(loads)]
        else:
            words = [*self.lab.exec_command(self.where), "docker", "logs", "--follow", NAME]
        self.listener = Listener(words)
        self.listener.require_more()

    def move(self, node: str, mode: str) -> Move:
        """Migrates it to a node, where its clients hear more, on the connections that they have."""
        begin = time.time()
        done = self.lab.migrate(NAME, check=False, migration_mode=mode, destination=node)
        if done.returncode:
            raise NotMoved(done)
        move = Move(mode, done.stdout, begin, time.time())
        assert self.lab.running_on(NAME) == [node]
        self.where = node
        if self.program.loads:
            self.listener.require_more()
        else:
            # The log there is another one.
            self._hang_up()
            self._listen()
        self.moves.append(move)
        return move

    def _hang_up(self, seconds: float | None = None) -> None:
        """Ends the clients; what they have heard is kept."""
        if self.listener:
            listener, self.listener = self.listener, None
            self.sessions.append(listener.end(seconds))

    def begin_anew(self) -> None:
        """Other clients, who know nothing of what was before.

        :raises AssertionError: when they are not served.
        """
        self.close()
        self.sessions.clear()
        self._listen()

    def close(self) -> None:
        """The clients hear nothing any more, and what they have heard counts no more."""
        if self.listener:
            self.listener.kill()
            self.listener = None

    def end(self, seconds: float | None = None) -> Outcome:
        """Ends the clients, and judges.

        :param seconds: that their end may take.
        """
        if not self.program.loads:
            self.lab.docker(self.where, "stop", "-t", "0", NAME)
        self._hang_up(seconds)
        return outcome(self.program, self.sessions, self.moves, self._found())

    def _found(self) -> str:
        return self._inside(self.program.afterwards) if self.program.loads else ""


def outcome(program: Program, sessions: list[verdicts.Heard], moves: list[Move], found: str) -> Outcome:
    """What follows from what was heard, and found in the container afterwards."""
    everything = verdicts.joined(sessions)
    pauses = [verdicts.longest_pause(everything, move.begin, move.end) for move in moves]
    return Outcome(verdicts.given_up(everything) + program.judge(everything, found), pauses)


@contextlib.contextmanager
def scene(lab: Lab, program: Program) -> Iterator[Scene]:
    """A scene from its start on; nothing of it is left on the servers."""
    one = Scene(lab, program)
    clear(lab)
    try:
        one.start()
        yield one
    finally:
        one.close()
        clear(lab)


def clear(lab: Lab) -> None:
    """No container and no volume is left on the servers."""
    for node in lab.servers():
        lab.sh(node, CLEAR)
