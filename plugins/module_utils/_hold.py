# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the network of a container at the source, from shortly before its freeze to its end there.

    settle     new connections wait, so that those under way get accepted while the container still runs
    lock       the container is frozen: what cannot move with it is closed, what can is kept from all traffic
    release    it goes on here, with all that was not closed

The lock outlives the program that made it: the container may run elsewhere by then, with the same address. Should it
be resumed here after all, by whomever (C(docker unpause)), a keeper takes the lock away. It is a process that does
nothing but wait for that, or for the container's end.

Private to the collection fog.migration. Laid down on servers by C(_program).
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time

from ansible_collections.fog.migration.plugins.module_utils import _freeze, _network

# Seconds that connections under way have to be accepted, while the container runs on.
SETTLE_LIMIT = 0.3
# Seconds between two looks of the keeper, and those that a container which goes on must have lived: one that is thawed
# in order to be removed dies at once, and must not say goodbye to anybody.
LOOK_EVERY, PROVED = 0.2, 0.4
_RELEASED = b"released\n"
_KEEPER = "import sys; sys.path[:0] = {path!r}; from {package} import {module}; {module}.keep()"


class Hold:
    """The network of one container here."""

    def __init__(self, container):
        self.container = container
        self._keeper = None
        self._network = None
        # What was closed because it cannot move, for the report.
        self.closed = 0

    def prepare(self):
        """Has a keeper wait. While it runs, the container shares the server's network or has its own."""
        process, start = _freeze.first_process(self.container)
        if not _network.is_own(process):
            return
        self._network = _network.network_of(process)
        freezer, frozen = _freeze.freezer(self.container)
        order = {"process": process, "start": start, "freezer": freezer, "frozen": frozen}
        package, _dot, module = __name__.rpartition(".")
        code = _KEEPER.format(path=[path for path in sys.path if path], package=package, module=module)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-c", code, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def settle(self):
        """Keeps new connections waiting, and waits itself until the container has accepted those under way."""
        if not self._network:
            return
        deadline = time.monotonic() + SETTLE_LIMIT
        with _explained("held"):
            _network.inside(self._network, _network.hold_new)
            while _network.inside(self._network, _under_way) and time.monotonic() < deadline:
                time.sleep(0.005)

    def lock(self):
        """To be called when the container is frozen, before it is dumped: what is dumped must not change any more."""
        with _explained("locked"):
            if self._network:
                self.closed = _network.inside(self._network, _close_and_lock)
            else:
                self.closed = _close(_in_server_network(_freeze.processes(self.container)))

    def release(self):
        """To be called before the container goes on here."""
        if self._network:
            # A container that has ended has no network any more.
            with _explained("unlocked"), contextlib.suppress(FileNotFoundError):
                _network.inside(self._network, _network.unlock)
            with contextlib.suppress(OSError):
                self._keeper.stdin.write(_RELEASED)
                self._keeper.stdin.flush()

    def end(self):
        """Leaves what is still locked to the keeper."""
        if self._keeper:
            with contextlib.suppress(OSError):
                self._keeper.stdin.close()


@contextlib.contextmanager
def _explained(what):
    try:
        yield
    except OSError as exc:
        raise _freeze.FreezeError(f"its network could not be {what} ({exc.strerror or exc})") from exc


def _under_way():
    """Whether a connection waits for the container to take it, or has last words of its on the way."""
    return any(_network.half_open(sock) for sock in _network.sockets())


def _close_and_lock():
    interfaces = _network.interfaces()
    moved = _network.moved_addresses(interfaces)
    closed = _close(lambda sock: _network.is_left_behind(sock, moved))
    names = [interface["name"] for interface in interfaces if _network.moves(interface)]
    if names:
        _network.lock(names)
    return closed


def _close(is_left_behind):
    """Closes the connections of which this is true; how many there were."""
    left = [
        sock
        for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
        for sock in _network.sockets(protocol)
        if _network.is_connected(sock) and is_left_behind(sock)
    ]
    for sock in left:
        _network.destroy(sock)
    return len(left)


def _in_server_network(processes):
    """Which connections are left behind by processes in the server's own network, whose addresses stay with it."""
    inodes = {inode for process in processes for inode in _network.inodes_of(process)}
    ours = [sock for sock in _network.sockets() if sock["inode"] in inodes]
    ends = {(sock["local"], sock["remote"]) for sock in ours}
    ports = {sock["local"][1] for sock in ours if sock["state"] == _network.LISTEN}

    def is_left_behind(sock):
        if sock["inode"] not in inodes:
            return _network.half_open(sock) and sock["local"][1] in ports
        inward = (sock["remote"], sock["local"]) in ends
        return not (inward and _network.survives(sock, ()))

    return is_left_behind


# The keeper


def keep():
    """Unlocks the network of the container in the orders when it goes on here and nobody else has done it."""
    order = json.loads(sys.argv[1])
    if sys.stdin.buffer.read() == _RELEASED:
        return
    while _lives(order):
        if not _is_frozen(order):
            time.sleep(PROVED)
            if _lives(order) and not _is_frozen(order):
                _network.inside(_network.network_of(order["process"]), _network.unlock)
                return
        time.sleep(LOOK_EVERY)


def _lives(order):
    """Whether the container's first process is there, and no other that got its number."""
    try:
        with open(f"/proc/{order['process']}/stat", encoding="ascii", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] not in "ZX" and int(fields[19]) == order["start"]


def _is_frozen(order):
    try:
        with open(order["freezer"], encoding="ascii") as stream:
            return stream.read().strip() in (order["frozen"], "FREEZING")
    except OSError:
        # It is being removed.
        return True
