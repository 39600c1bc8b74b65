# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ties a container to its server, before it moves: connections, sockets of the server, kernel objects.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.network import namespace, sockets
from ansible_collections.fog.migration.plugins.module_utils.network.namespace import Interface
from ansible_collections.fog.migration.plugins.module_utils.network.sockets import Socket, UnixSocket
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# What the kernel does not show in enough detail to make it again elsewhere, and what it is.
UNKNOWN_TO_CRIU = {
    "[io_uring]": "an io_uring",
    "[perf_event]": "a performance counter",
    "[userfaultfd]": "a userfaultfd",
    "[kvm-vm]": "a virtual machine of KVM's",
    "/secretmem (deleted)": "memory that only it can read (memfd_secret)",
}
# The protocols of the sockets that CRIU can make again, as the kernel names them (can_dump_ipproto() and
# dump_one_inet_fd() in criu/sk-inet.c, dump_socket() in criu/sockets.c). UNIX-STREAM is Unix's from Linux 5.16 on.
PROTOCOLS = {
    *("TCP", "TCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "RAW", "RAWv6"),
    *("UNIX", "UNIX-STREAM", "PACKET", "NETLINK"),
}
# Files that never had a name, of which CRIU knows what they are; or it does not, and they are unknown to it.
_NAMELESS = re.compile(r"/(memfd:.*|dev/zero|SYSV[0-9a-f]{8}|anon_hugepage|secretmem|\[aio\])")


def probe(container: str, process: int, fixed: set[str], health: list[str]) -> dict:
    """What ties a container to its server.

    :param process: its first one.
    :param fixed: addresses that it was given by its creator.
    :param health: the last words of the command that checks its health.
    :returns: what classify() does, C(unix_outside), names of Unix sockets of others that it is connected to,
        C(unknown), what CRIU cannot take along, C(deleted), sizes of files without a name that are open or mapped, by
        the last one, and C(sessions), names of programs that C(docker exec) has started in it.
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
        found["deleted"], half = deleted(links)
        queues = ["a POSIX message queue"] if holds_queue(links, f"/proc/{process}/root/dev/mqueue") else []
        found["unknown"] = [
            *unknown(links.values()),
            *queues,
            *(f"the deleted file {name}" for name in half),
            *foreign_sockets(path for path, link in links.items() if link.startswith("socket:")),
            *read_only_code(maps),
            *files_of_server(processes),
        ]
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


def unknown(links: Iterable[str]) -> list[str]:
    """What CRIU cannot take along, of what these links in C(/proc/PID/fd) and C(map_files) lead to."""
    names = {link.rpartition(":")[2] for link in links}
    return sorted(what for name, what in UNKNOWN_TO_CRIU.items() if name in names)


def foreign_sockets(paths: Iterable[str]) -> list[str]:
    """The sockets of other protocols than those that CRIU knows, as one clause for each protocol."""
    names = {sockets.protocol_of(path) for path in paths} - PROTOCOLS - {""}
    return [f"a socket of the protocol {name}" for name in sorted(names)]


def read_only_code(maps: dict[int, str]) -> list[str]:
    """Code that CRIU cannot write to for a moment, as it does to run its own code in a process.

    It takes the first code in the memory of each (C(procfs.first_code)), and the kernel lets nobody write to shared
    memory that is mapped for reading (check_vma_flags() in the kernel's mm/gup.c).

    :param maps: the text of C(/proc/PID/maps) of each process.
    """
    names = {procfs.program(one) for one, text in maps.items() if begins_with_shared_code(text)}
    return [f"shared code first in the memory of {name}" for name in sorted(names)]


def files_of_server(processes: Iterable[int]) -> list[str]:
    """Files that these processes have open on mounts that they do not have, as one clause for each program.

    CRIU looks for the mount of each file. C(docker exec -d) gives what it starts the server's C(/dev/null) for its
    standard input, which one that has gone into the background, and is a child of the first process, may have still.
    """
    found = set()
    for one in processes:
        mounts = {line.partition(" ")[0] for line in procfs.read(f"/proc/{one}/mountinfo").splitlines()}
        for path, link in sockets.descriptors_of(one).items():
            if link.startswith("/") and not _NAMELESS.fullmatch(link.partition(" (deleted)")[0]):
                mount = re.search(r"^mnt_id:\s*(\d+)", procfs.read(path.replace("/fd/", "/fdinfo/")), re.MULTILINE)
                # Nothing is told of one that was closed or has ended meanwhile.
                if mounts and mount and mount.group(1) not in mounts:
                    found.add(f"{link} of the server, open in {procfs.program(one)}")
    return sorted(found)


def begins_with_shared_code(maps: str) -> bool:
    """Whether the first code in C(/proc/PID/maps) is shared and read-only."""
    found = procfs.first_code(maps)
    return found is not None and found[1][1:] == "-xs"


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
    """The sizes of files that were deleted, by their last name, and those that have another name still.

    To the latter, CRIU would have to give the old name again, in a root file system that has been read already.
    """
    mark = " (deleted)"
    gone: dict[str, int] = {}
    half = set()
    for path, link in links.items():
        with contextlib.suppress(OSError):
            status = os.stat(path)
            name = link[: -len(mark)]
            if link.endswith(mark) and stat.S_ISREG(status.st_mode) and not _NAMELESS.fullmatch(name):
                # Of what is there of it, holes apart, CRIU takes so many bytes along.
                gone[name] = min(status.st_size, status.st_blocks * 512)
                half |= {name} if status.st_nlink else set()
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
