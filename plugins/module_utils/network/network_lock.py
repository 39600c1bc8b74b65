# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a container at the source, from shortly before its freeze to its end there.

    drain_pending    new connections wait, so that those under way are accepted while the container still runs
    lock             it is frozen: where its address moves with it, it is kept from all traffic
    detach_sockets   it is dumped: connections that cannot go on elsewhere are removed from the images
    reset_orphans    it runs at the destination: the peers of those connections are reset
    unlock           it goes on here after all, with all its connections

The lock outlives the program that made it: the container may run elsewhere by then, with the same address. Should it
be resumed here after all, by whomever (C(docker unpause)), a keeper removes the lock, and what a CRIU that was killed
has left. It is a process that does nothing but wait for that, or for the container's end.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterator

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.network import (
    filters,
    image_sockets,
    leftover_filters,
    namespace,
    repair_mode,
    sockets,
)
from ansible_collections.fog.migration.plugins.module_utils.network.sockets import Socket
from ansible_collections.fog.migration.plugins.module_utils.system import limits, procfs

# Seconds that connections under way have to be accepted, while the container runs on.
DRAIN_LIMIT = 0.3
# Seconds between two looks of the keeper, and the grace period that a container which goes on must have lived: one that
# is thawed in order to be removed dies at once, and its connections must not be closed.
LOOK_EVERY, GRACE_PERIOD = 0.2, 0.4
_UNLOCKED = b"unlocked\n"
_KEEPER = "import sys; sys.path[:0] = {path!r}; from {package} import {module}; {module}.keep()"


class NetworkLock:
    """The network of one container here."""

    def __init__(self, container: str) -> None:
        self.container = container
        self._keeper: subprocess.Popen | None = None
        # None: it is the server's own.
        self._network: str | None = None
        self._moved: Collection[str] = ()
        self._inodes: Collection[int] = ()
        # Whether it has a network of its own in which there is no connection, once it is locked.
        self.is_silent = False

    def prepare(self) -> None:
        """Has a keeper wait. While it runs, the container shares the server's network or has its own."""
        process, start = runc.first_process(self.container)
        if not namespace.is_own(process):
            return
        self._network = namespace.network_of(process)
        freezer, frozen = runc.freezer(self.container)
        config = {"container": self.container, "process": process, "start": start}
        config.update(freezer=freezer, frozen=frozen)
        package, _dot, module = __name__.rpartition(".")
        code = _KEEPER.format(path=[path for path in sys.path if path], package=package, module=module)
        with limits.lifted():
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-c", code, json.dumps(config)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def drain_pending(self) -> None:
        """Keeps new connections waiting, and waits itself until the container has accepted those under way."""
        if not self._network:
            return
        deadline = time.monotonic() + DRAIN_LIMIT
        with _explained("drained"):
            namespace.inside(self._network, filters.hold_new_connections)
            while namespace.inside(self._network, _has_pending) and time.monotonic() < deadline:
                time.sleep(0.005)

    def lock(self) -> None:
        """To be called when the container is frozen, before it is dumped: what is dumped must not change any more."""
        with _explained("locked"):
            if self._network:
                self._moved, self.is_silent = namespace.inside(self._network, _lock)
            else:
                processes = runc.processes(self.container)
                self._inodes = {inode for process in processes for inode in sockets.inodes_of(process)}

    def detach_sockets(self, images: str) -> list[str]:
        """Removes from the images what cannot go on at the destination; each connection's local and remote end."""
        try:
            orphans = image_sockets.detach(images, self._is_orphan)
        except (image_sockets.SocketsError, OSError) as exc:
            raise runc.FreezeError(f"its connections could not be read from the images ({exc})") from exc
        return [f"{one.local} - {one.remote}" for one in orphans if one.is_stream]

    def _is_orphan(self, sock: Socket, everyone: list[Socket]) -> bool:
        if not sock.is_connected:
            return False
        if not sock.survives(self._moved):
            return True
        # In the server's network, the other end of a connection within may be a process of the server's.
        return not self._network and all(one.local != sock.remote for one in everyone)

    def reset_orphans(self) -> None:
        """Resets the connections that do not go on. Where the kernel cannot, they end when the container is removed."""
        with contextlib.suppress(OSError):
            if self._network:
                namespace.inside(self._network, sockets.close, self._is_over)
            else:
                sockets.close(lambda sock: sock.inode in self._inodes and self._is_over(sock))

    def _is_over(self, sock: Socket) -> bool:
        return not sock.survives(self._moved)

    def unlock(self) -> None:
        """To be called before the container goes on here, if C(end) was not called yet."""
        if self._network and self._keeper:
            # A container that has ended has no network any more.
            with _explained("unlocked"), contextlib.suppress(FileNotFoundError):
                namespace.inside(self._network, filters.remove)
            with contextlib.suppress(OSError):
                if self._keeper.stdin:
                    self._keeper.stdin.write(_UNLOCKED)
                    self._keeper.stdin.flush()

    def end(self) -> None:
        """Leaves what is still locked to the keeper."""
        if self._keeper:
            with contextlib.suppress(OSError):
                if self._keeper.stdin:
                    self._keeper.stdin.close()
            self._keeper = None


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise runc.FreezeError(f"its network could not be {what} ({exc.strerror or exc})") from exc


def _has_pending() -> bool:
    """Whether a connection waits to be accepted by the container, or has last data on the way."""
    return any(sock.is_half_open for sock in sockets.sockets())


def _lock() -> tuple[set[str], bool]:
    """Locks what moves; the addresses that do, and whether there is no connection at all.

    None can begin then: the processes stand still, and C(drain_pending) keeps new ones of others waiting.
    """
    interfaces = namespace.interfaces()
    # CRIU refuses connections that no process has, and no process would answer for them at the destination.
    with contextlib.suppress(OSError):
        sockets.close(lambda sock: sock.is_half_open)
    names = [interface.name for interface in interfaces if interface.moves]
    if names:
        filters.lock(names)
    silent = not any(sock.is_connected or sock.is_half_open for sock in sockets.sockets())
    return namespace.moved_addresses(interfaces), silent


# The keeper


def keep() -> None:
    """Unlocks the network of the container in its arguments when that goes on here and it is still locked."""
    config = json.loads(sys.argv[1])
    if sys.stdin.buffer.read() == _UNLOCKED:
        return
    while _lives(config):
        if not _is_frozen(config):
            time.sleep(GRACE_PERIOD)
            if _lives(config) and not _is_frozen(config):
                _free(config)
                return
        time.sleep(LOOK_EVERY)


def _free(config: dict) -> None:
    """Removes all filters from its network, and has all its connections go on.

    Another look than that of C(leftovers), which is on a floor above: nobody is told of what is found here.
    """
    network = namespace.network_of(config["process"])
    for one in namespace.inside(network, leftover_filters.find):
        # One that cannot be removed does not keep the others.
        with contextlib.suppress(OSError):
            namespace.inside(network, leftover_filters.remove, one)
    connections = namespace.inside(network, repair_mode.of_namespace)
    for connection in repair_mode.find(runc.processes(config["container"]), connections):
        repair_mode.end(connection)


def _lives(config: dict) -> bool:
    """Whether the container's first process is there, and no other that got its number."""
    return procfs.started(config["process"]) == config["start"]


def _is_frozen(config: dict) -> bool:
    """Whether it stands still. While CRIU dumps it, it is thawed, and CRIU keeps it from running."""
    try:
        with open(config["freezer"], encoding="ascii") as stream:
            frozen = stream.read().strip() in (config["frozen"], "FREEZING")
    except OSError:
        # It is being removed.
        return True
    return frozen or bool(runc.held_by_criu(config["container"]))
