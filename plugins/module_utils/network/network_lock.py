# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the network of a container at the source, from shortly before its freeze to its end there.

    settle     new connections wait, so that those under way get accepted while the container still runs
    lock       it is frozen: where its address moves with it, it is kept from all traffic
    detach     it is dumped: connections that cannot go on elsewhere are taken from the images
    forsake    it runs there: the peers of those connections are told that they are over
    release    it goes on here after all, with all its connections

The lock outlives the program that made it: the container may run elsewhere by then, with the same address. Should it
be resumed here after all, by whomever (C(docker unpause)), a keeper takes the lock away. It is a process that does
nothing but wait for that, or for the container's end.

Private to the collection fog.migration. Laid down on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.network import namespace, sockets

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
        # None: it is the server's own.
        self._network = None
        self._moved = set()
        self._inodes = set()

    def prepare(self):
        """Has a keeper wait. While it runs, the container shares the server's network or has its own."""
        process, start = runc.first_process(self.container)
        if not namespace.is_own(process):
            return
        self._network = namespace.network_of(process)
        freezer, frozen = runc.freezer(self.container)
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
            namespace.inside(self._network, namespace.hold_new)
            while namespace.inside(self._network, _under_way) and time.monotonic() < deadline:
                time.sleep(0.005)

    def lock(self):
        """To be called when the container is frozen, before it is dumped: what is dumped must not change any more."""
        with _explained("locked"):
            if self._network:
                self._moved = namespace.inside(self._network, _lock)
            else:
                processes = runc.processes(self.container)
                self._inodes = {inode for process in processes for inode in namespace.inodes_of(process)}

    def detach(self, images):
        """Takes from the images what cannot go on at the destination; each connection's local and remote end."""
        try:
            left = sockets.detach(images, self._is_left_behind)
        except (sockets.SocketsError, OSError) as exc:
            raise runc.FreezeError(f"its connections could not be read from the images ({exc})") from exc
        return ["{}:{} - {}:{}".format(*one["local"], *one["remote"]) for one in left if namespace.is_stream(one)]

    def _is_left_behind(self, sock, everyone):
        if not namespace.is_connected(sock):
            return False
        if not namespace.survives(sock, self._moved):
            return True
        # In the server's network, the other end of a connection within may be a process of the server's.
        return not self._network and all(one["local"] != sock["remote"] for one in everyone)

    def forsake(self):
        """Closes here what was left behind. Where the kernel cannot, it is closed when the container is removed."""
        with contextlib.suppress(OSError):
            if self._network:
                namespace.inside(self._network, _close, self._is_over)
            else:
                _close(lambda sock: sock["inode"] in self._inodes and self._is_over(sock))

    def _is_over(self, sock):
        return not namespace.survives(sock, self._moved)

    def release(self):
        """To be called before the container goes on here, if C(end) was not called yet."""
        if self._network and self._keeper:
            # A container that has ended has no network any more.
            with _explained("unlocked"), contextlib.suppress(FileNotFoundError):
                namespace.inside(self._network, namespace.unlock)
            with contextlib.suppress(OSError):
                self._keeper.stdin.write(_RELEASED)
                self._keeper.stdin.flush()

    def end(self):
        """Leaves what is still locked to the keeper."""
        if self._keeper:
            with contextlib.suppress(OSError):
                self._keeper.stdin.close()
            self._keeper = None


@contextlib.contextmanager
def _explained(what):
    try:
        yield
    except OSError as exc:
        raise runc.FreezeError(f"its network could not be {what} ({exc.strerror or exc})") from exc


def _under_way():
    """Whether a connection waits for the container to take it, or has last words of its on the way."""
    return any(namespace.half_open(sock) for sock in namespace.sockets())


def _lock():
    """Locks what moves; the addresses that do."""
    interfaces = namespace.interfaces()
    # CRIU refuses connections that no process has, and nobody would speak for them at the destination.
    with contextlib.suppress(OSError):
        _close(namespace.half_open)
    names = [interface["name"] for interface in interfaces if namespace.moves(interface)]
    if names:
        namespace.lock(names)
    return namespace.moved_addresses(interfaces)


def _close(condition):
    """Closes the connections of which this is true."""
    for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        for sock in namespace.sockets(protocol):
            if namespace.is_connected(sock) and condition(sock):
                namespace.destroy(sock)


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
                namespace.inside(namespace.network_of(order["process"]), namespace.unlock)
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
