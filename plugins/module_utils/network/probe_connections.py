# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ties a container to its server, before it moves: connections, sockets of the server, files without a name.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat

from ansible_collections.fog.migration.plugins.module_utils.criu import undumpable
from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.filesystem import overlay
from ansible_collections.fog.migration.plugins.module_utils.filesystem.overlay import Overlay
from ansible_collections.fog.migration.plugins.module_utils.network import namespace, sockets
from ansible_collections.fog.migration.plugins.module_utils.network.namespace import Interface
from ansible_collections.fog.migration.plugins.module_utils.network.sockets import Socket, UnixSocket
from ansible_collections.fog.migration.plugins.module_utils.system import procfs


def probe(container: str, process: int, fixed: set[str], health: list[str], through_runtime: bool) -> dict:
    """What ties a container to its server.

    :param process: its first one.
    :param fixed: addresses that it was given by its creator.
    :param health: the last words of the command that checks its health.
    :param through_runtime: whether it is dumped through our OCI runtime.
    :returns: what classify() does, C(unix_outside), names of Unix sockets of others that it is connected to,
        C(unknown), which files of theirs CRIU cannot take along, C(deleted), sizes of files without a name that are
        open or mapped, by the last one, and C(sessions), names of programs that C(docker exec) has started in it.
    """
    found: dict = {"connections": [], "bound": [], "unix_outside": [], "unknown": [], "deleted": {}, "sessions": []}
    if not process:
        return found
    # A container that ends meanwhile has nothing of it any more.
    with contextlib.suppress(OSError):
        processes, others = _processes(container, process)
        found["sessions"] = sessions(others, health)
        inodes = {inode for one in processes for inode in sockets.inodes_of(one)}
        links = {path: link for one in processes for path, link in sockets.descriptors_of(one).items()}
        maps = {one: procfs.read(f"/proc/{one}/maps") for one in processes}
        links.update({path: link for one, text in maps.items() for path, link in _mapped(one, text).items()})
        found["deleted"], half = deleted(links, overlay.of(process) if through_runtime else None)
        queues = ["a POSIX message queue"] if holds_queue(links, f"/proc/{process}/root/dev/mqueue") else []
        found["unknown"] = [*queues, *(f"the deleted file {name}" for name in half)]
        interfaces, listed, unix = namespace.inside(namespace.network_of(process), _look)
        moved = namespace.moved_addresses(interfaces) if namespace.is_own(process) else set()
        found.update(classify([sock for sock in listed if sock.inode in inodes], moved, fixed))
        # Those outside are in the server's own network, mostly, where the kernel lists their names.
        found["unix_outside"] = unix_outside({**sockets.unix_sockets(), **unix}, inodes)
    return found


def _mapped(process: int, maps: str) -> dict[str, str]:
    """As C(descriptors_of), of the files that a process has mapped and that have no name."""
    found = procfs.deleted_mappings(maps)
    return {f"/proc/{process}/map_files/{mapping}": name for mapping, name in found.items()}


def _processes(container: str, process: int) -> tuple[list[int], list[int]]:
    """Those that move, and the others."""
    try:
        moving = runc.moving(container)
        return moving, sorted({*runc.processes(container)} - {*moving, *procfs.processes_below(process)})
    except (runc.FreezeError, OSError):
        return sorted(procfs.processes_below(process)), []


def sessions(others: list[int], health: list[str]) -> list[str]:
    """The names of the programs that were started in a container by somebody else than itself, but for health checks.

    What runc is just about to start may be one.
    """
    begun = [one for one, parent in procfs.parents(others).items() if parent and parent not in others]
    lines = {one: procfs.command_line(one) for one in begun}
    passing = [
        one for one, words in lines.items() if words == ["runc", "init"] or (health and words[-len(health) :] == health)
    ]
    return sorted(procfs.program(one) for one in begun if one not in passing and lines[one])


def holds_queue(links: dict[str, str], queues: str) -> bool:
    """Whether one of these leads to the file system of message queues, which is mounted there."""
    with contextlib.suppress(OSError):
        device = os.stat(queues).st_dev
        for path, link in links.items():
            with contextlib.suppress(OSError):
                if link.startswith("/") and os.stat(path).st_dev == device:
                    return True
    return False


def deleted(links: dict[str, str], root: Overlay | None = None) -> tuple[dict[str, int], list[str]]:
    """The sizes of files that were deleted, by their last name, and those that have another name still.

    To the latter, CRIU would have to give the old name again, in a root file system that has been read already. What
    was deleted of the image counts for the kernel as if it had one, see C(dump_root.deleted_files).

    :param root: the root file system of the container, where it is an overlay.
    """
    gone: dict[str, int] = {}
    half = set()
    for path, link in links.items():
        with contextlib.suppress(OSError):
            status = os.stat(path)
            name = link[: -len(undumpable.DELETED)]
            if link.endswith(undumpable.DELETED) and stat.S_ISREG(status.st_mode) and undumpable.is_named(link):
                # Of what is there of it, holes apart, CRIU takes so many bytes along.
                gone[name] = min(status.st_size, status.st_blocks * 512)
                is_gone = not status.st_nlink or (root is not None and root.is_of_image_alone(status))
                half |= set() if is_gone else {name}
    return {name: size for name, size in gone.items() if name not in half}, sorted(half)


def unix_outside(listed: dict[int, UnixSocket], ours: set[int]) -> list[str]:
    """The names of Unix sockets of others that ours are connected to."""
    peers = {sock.peer for inode, sock in listed.items() if inode in ours} - ours - {0}
    names = {listed[peer].name for peer in peers if peer in listed} | {"" for peer in peers if peer not in listed}
    return sorted(name or "one without a name" for name in names)


def _look() -> tuple[list[Interface], list[Socket], dict[int, UnixSocket]]:
    protocols = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
    listed = [sock for protocol in protocols for sock in sockets.sockets(protocol)]
    return namespace.interfaces(), listed, sockets.unix_sockets()


def classify(listed: list[Socket], moved: set[str], fixed: set[str]) -> dict:
    """What moves and what does not, of the sockets that the container's processes have.

    :param moved: the addresses that move with the container, and the network with them.
    :param fixed: those that it has again elsewhere, though nobody outside may reach them.
    :returns: C(connections) to the outside, each C(local), C(remote) and whether it C(survives), and C(bound): what it
        listens on that does not move with it.
    """
    connections, bound = [], []
    for sock in listed:
        if sock.is_connected:
            if sock.is_stream and not _is_within(sock):
                ends = {"local": str(sock.local), "remote": str(sock.remote)}
                connections.append({**ends, "survives": sock.survives(moved)})
        elif sock.local.address not in moved | fixed and not _is_anywhere(sock.local.address):
            bound.append(str(sock.local))
    return {"connections": sorted(connections, key=lambda one: sorted(one.items())), "bound": sorted(set(bound))}


def _is_within(sock: Socket) -> bool:
    """Whether it goes from the container to itself."""
    return all(ipaddress.ip_address(end.address).is_loopback for end in (sock.local, sock.remote))


def _is_anywhere(text: str) -> bool:
    """Whether an address can be bound to on every server."""
    address = ipaddress.ip_address(text)
    return address.is_unspecified or address.is_loopback or address.is_multicast or text == "255.255.255.255"
