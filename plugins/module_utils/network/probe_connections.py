# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container holds on to outside itself, before it moves: connections, sockets of the server, kernel objects.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.network import namespace as _namespace
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# What the kernel tells nobody enough about to make it again elsewhere, and what it is.
UNKNOWN_TO_CRIU = {
    "[io_uring]": "an io_uring",
    "[perf_event]": "a performance counter",
    "[userfaultfd]": "a userfaultfd",
    "[kvm-vm]": "a virtual machine of KVM's",
}


def survey(container: str, process: int, fixed: set[str], health: list[str]) -> dict:
    """What a container holds on to.

    :param process: its first one.
    :param fixed: addresses that it was given by its creator.
    :param health: the last words of the command that checks its health.
    :returns: what classify() does, C(unix_outside), names of Unix sockets of others that it is connected to,
        C(unknown), what CRIU cannot take along, and C(deleted), sizes of open files that have no name, by the last one,
        and C(sessions), names of programs that C(docker exec) has started in it.
    """
    found: dict = {"connections": [], "bound": [], "unix_outside": [], "unknown": [], "deleted": {}, "sessions": []}
    if not process:
        return found
    # A container that ends meanwhile holds nothing any more.
    with contextlib.suppress(OSError):
        processes, others = _processes(container, process)
        found["sessions"] = sessions(others, health)
        inodes = {inode for one in processes for inode in _namespace.inodes_of(one)}
        links = {path: link for one in processes for path, link in _namespace.descriptors_of(one).items()}
        found["deleted"], half = deleted(links)
        queues = ["a POSIX message queue"] if holds_queue(links, f"/proc/{process}/root/dev/mqueue") else []
        found["unknown"] = unknown(links.values()) + queues + [f"the deleted file {name}" for name in half]
        namespace, moved = _namespace.network_of(process), set()
        interfaces, sockets, unix = _namespace.inside(namespace, _look)
        if _namespace.is_own(process):
            moved = _namespace.moved_addresses(interfaces)
        found.update(classify([sock for sock in sockets if sock["inode"] in inodes], moved, fixed))
        # Those outside are in the server's own network, mostly, where their names are told.
        found["unix_outside"] = unix_outside({**_namespace.unix_sockets(), **unix}, inodes)
    return found


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


def unknown(links) -> list[str]:
    """What CRIU cannot take along, of what these links in C(/proc/PID/fd) lead to."""
    names = {link.rpartition(":")[2] for link in links}
    return sorted(what for name, what in UNKNOWN_TO_CRIU.items() if name in names)


def holds_queue(links: dict[str, str], queues: str) -> bool:
    """Whether one of these leads to the file system of message queues, which is mounted there."""
    with contextlib.suppress(OSError):
        device = os.stat(queues).st_dev
        for path, link in links.items():
            with contextlib.suppress(OSError):
                if link.startswith("/") and os.stat(path).st_dev == device:
                    return True
    return False


def deleted(links: dict[str, str]) -> tuple[dict[str, int], list[str]]:
    """The sizes of open files that were deleted, by their last name, and those that have another name still.

    To the latter, CRIU would have to give the old name again, in a root file system that has been read already.
    """
    mark = " (deleted)"
    gone: dict[str, int] = {}
    half = set()
    for path, link in links.items():
        with contextlib.suppress(OSError):
            status = os.stat(path)
            name = link[: -len(mark)]
            if link.endswith(mark) and stat.S_ISREG(status.st_mode) and not name.startswith("/memfd:"):
                gone[name] = status.st_size
                half |= {name} if status.st_nlink else set()
    return {name: size for name, size in gone.items() if name not in half}, sorted(half)


def unix_outside(sockets: dict[int, dict], ours: set[int]) -> list[str]:
    """The names of Unix sockets of others that ours are connected to."""
    peers = {sock["peer"] for inode, sock in sockets.items() if inode in ours} - ours - {0}
    return sorted({(sockets.get(peer) or {}).get("name") or "one without a name" for peer in peers})


def _look() -> tuple[list[dict], list[dict], dict[int, dict]]:
    protocols = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
    sockets = [sock for protocol in protocols for sock in _namespace.sockets(protocol)]
    return _namespace.interfaces(), sockets, _namespace.unix_sockets()


def classify(sockets: list[dict], moved: set[str], fixed: set[str]) -> dict:
    """What moves and what does not, of the sockets that the container's processes have.

    :param moved: the addresses that move with the container, and the network with them.
    :param fixed: those that it has again elsewhere, though nobody outside may reach them.
    :returns: C(connections) to the outside, each C(local), C(remote) and whether it C(survives), and C(bound): what it
        listens on that does not move with it.
    """
    connections, bound = [], []
    for sock in sockets:
        local, remote = _end(*sock["local"]), _end(*sock["remote"])
        if _namespace.is_connected(sock):
            if _namespace.is_stream(sock) and not _is_within(sock):
                connections.append({"local": local, "remote": remote, "survives": _namespace.survives(sock, moved)})
        elif sock["local"][0] not in moved | fixed and not _is_anywhere(sock["local"][0]):
            bound.append(local)
    return {"connections": sorted(connections, key=lambda one: sorted(one.items())), "bound": sorted(set(bound))}


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_within(sock: dict) -> bool:
    """Whether it goes from the container to itself."""
    return all(ipaddress.ip_address(sock[end][0]).is_loopback for end in ("local", "remote"))


def _is_anywhere(text: str) -> bool:
    """Whether an address can be bound to on every server."""
    address = ipaddress.ip_address(text)
    return address.is_unspecified or address.is_loopback or address.is_multicast or text == "255.255.255.255"
