# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to a container that moves, from a node that does not. On the node itself: C(python3 - ADDRESS:PORT ...).

On each connection every number from 0 on has to come, once and in order. On a port that ends in 1 they are our own,
which the container sends back: there, nothing that we said may be lost or come twice either.
"""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

# Numbers between two rests: as much as the lab's machine can bear beside a migration.
BURST, REST = 500, 0.05


def connect(address: str, port: int) -> socket.socket:
    """A connection to an address that nobody may have had just before.

    What the kernel has asked for in vain, it gives up for all who wait: also for whoever comes in the last moment.
    """
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection((address, port), 10)
        except OSError as exc:
            if exc.errno != errno.EHOSTUNREACH or time.monotonic() > deadline:
                raise


class Connection(threading.Thread):
    """One connection, and what was seen on it."""

    def __init__(self, address: str, port: int):
        super().__init__(daemon=True)
        self.socket = connect(address, port)
        self.socket.settimeout(60)
        self.seen = {"to": f"{address} {port}", "numbers": 0, "problem": None, "silence": 0.0}
        self.ours = port % 10 == 1
        self.ended = False

    def run(self) -> None:
        """Reads numbers until it is ended, or something is wrong."""
        if self.ours:
            threading.Thread(target=self._speak, daemon=True).start()
        try:
            with self.socket.makefile("r", encoding="ascii") as stream:
                self._read(stream)
        except (OSError, ValueError) as exc:
            self.seen["problem"] = repr(exc)

    def _read(self, stream) -> None:
        last = time.monotonic()
        while not self.ended:
            line = stream.readline()
            now = time.monotonic()
            self.seen["silence"], last = max(self.seen["silence"], now - last), now
            if not line or int(line) != self.seen["numbers"]:
                raise ValueError(f"{line!r} instead of {self.seen['numbers']}")
            self.seen["numbers"] += 1
            if self.seen["numbers"] % BURST == 0:
                time.sleep(REST)

    def _speak(self) -> None:
        number = 0
        try:
            while not self.ended:
                self.socket.sendall("".join(f"{number + i}\n" for i in range(BURST)).encode("ascii"))
                number += BURST
                time.sleep(REST)
        except OSError:
            # The other thread sees it, too.
            return


def resets() -> int:
    """How many resets this node has got so far."""
    lines = [line.split() for line in Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()]
    names, values = (line for line in lines if line[0] == "Tcp:")
    return int(values[names.index("EstabResets")])


def main() -> None:
    """Connects to all places, says so by a line, and goes on until standard input ends."""
    before = resets()
    places = [word.rpartition(":") for word in sys.argv[1:]]
    connections = [Connection(address, int(port)) for address, _colon, port in places]
    for connection in connections:
        connection.start()
    print("connected", flush=True)
    for _line in sys.stdin:
        # What has been seen so far.
        print(json.dumps([connection.seen for connection in connections]), flush=True)
    for connection in connections:
        connection.ended = True
    for connection in connections:
        connection.join(70)
    print(json.dumps({"connections": [one.seen for one in connections], "resets": resets() - before}))


class Peers:
    """The program above at work on a node of the lab."""

    def __init__(self, lab, node: str, *places: str):
        lab.sh(node, f"cat >/root/peer.py <<'END'\n{Path(__file__).read_text(encoding='utf-8')}\nEND")
        command = [*lab.exec_command(node), "python3", "/root/peer.py", *places]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "connected\n"

    def seen(self) -> list[dict]:
        """What was seen so far on each connection."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def require_more(self) -> None:
        """Returns when more has come on all connections, and fails when it does not."""
        from .lab import wait_for  # the node has no such module

        before = self.seen()
        wait_for(
            lambda: all(one["numbers"] > old["numbers"] for one, old in zip(self.seen(), before, strict=True)),
            f"more numbers than {before}",
        )

    def end(self) -> dict:
        """What was seen in the end: C(connections) and C(resets)."""
        return json.loads(self.process.communicate(timeout=120)[0])


if __name__ == "__main__":
    main()
