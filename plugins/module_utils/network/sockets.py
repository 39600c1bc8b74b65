# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sockets: which ones there are in a network namespace, and what becomes of their connections in a migration.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Collection
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.network import netlink

# Docker's own name server, in each container's network namespace but not one of the container's processes.
DOCKER_DNS = "127.0.0.11"
ESTABLISHED, SYN_RECEIVED, FIN_WAIT, CLOSED, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 3, 4, 7, 8, 9, 10, 11
# All of TCP's but the ends that the kernel only remembers.
_OPEN = (*range(1, 6), CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING)
_WITHOUT_PROCESS = (ESTABLISHED, SYN_RECEIVED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING)
_REQUEST = struct.Struct("=BBBxI")
_SOCKET_ID = struct.Struct("!HH16s16sI8s")
_UNIX_REQUEST = struct.Struct("=BBHIII8s")
_SHOW_NAME, _SHOW_PEER = 1, 4


class Endpoint(NamedTuple):
    """One end of a connection."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Socket(NamedTuple):
    """A socket of TCP or UDP."""

    protocol: int
    state: int
    local: Endpoint
    remote: Endpoint
    # What only the kernel's list tells.
    waiting: int = 0  # of a listening one, how many connections were not accepted yet
    inode: int = 0  # 0: no process has it
    family: int = 0
    identity: bytes = b""  # what destroy() needs

    @property
    def is_stream(self) -> bool:
        """Whether it is one of TCP."""
        return self.protocol == socket.IPPROTO_TCP

    @property
    def is_connected(self) -> bool:
        """Whether it has a peer, or is about to get one."""
        return self.state != LISTEN and self.remote.port != 0

    @property
    def is_half_open(self) -> bool:
        """Whether a connection belongs to the kernel alone: not accepted yet, or its last data are on their way."""
        return bool(self.waiting) or (self.inode == 0 and self.state in _WITHOUT_PROCESS)

    def survives(self, moved: Collection[str]) -> bool:
        """Whether a connection goes on at the destination: its address moves, or both of its ends are in the container.

        :param moved: see C(namespace.moved_addresses).
        """
        local, remote = self.local.address, self.remote.address
        inward = ipaddress.ip_address(remote).is_loopback and remote != DOCKER_DNS
        return local in moved or (inward and ipaddress.ip_address(local).is_loopback)


class UnixSocket(NamedTuple):
    """A Unix socket."""

    kind: int
    inode: int
    peer: int  # the inode of the one at the other end, or 0
    name: str


def sockets(protocol: int = socket.IPPROTO_TCP) -> list[Socket]:
    """The sockets of a protocol in the caller's network namespace, listening ones included.

    Those that are closed, or only wait for their end, are left out.
    """
    states = sum(1 << state for state in ((*_OPEN, CLOSED) if protocol == socket.IPPROTO_UDP else _OPEN))
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _REQUEST.pack(family, protocol, 0, states) + bytes(_SOCKET_ID.size)
        for body in netlink.dump(netlink.NETLINK_SOCK_DIAG, 20, request):
            # Where IPv4 is asked for, old kernels list the other family's as well.
            if body[0] == family:
                found.append(_parsed(body, protocol))
    return found


def _parsed(body: bytes, protocol: int) -> Socket:
    if len(body) < 4 + _SOCKET_ID.size + 20:
        raise OSError(errno.EPROTO, "the kernel tells less of a socket than is known here")
    family, state = struct.unpack_from("=BB", body)
    identity = body[4 : 4 + _SOCKET_ID.size]
    local_port, remote_port, local, remote, _interface, _cookie = _SOCKET_ID.unpack(identity)
    _expires, waiting, _unsent, _user, inode = struct.unpack_from("=5I", body, 4 + _SOCKET_ID.size)
    return Socket(
        protocol,
        state,
        Endpoint(address_of(family, local), local_port),
        Endpoint(address_of(family, remote), remote_port),
        waiting if state == LISTEN else 0,
        inode,
        family,
        identity,
    )


def address_of(family: int, data: bytes) -> str:
    """An address as text, from the kernel's bytes; that of an IPv4 peer of an IPv6 socket is an IPv4 address."""
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(data[:4]))
    address = ipaddress.IPv6Address(data)
    return str(address.ipv4_mapped or address)


def destroy(sock: Socket) -> None:
    """Closes a socket of whoever it is: its peer is reset, its owner finds it closed.

    :raises OSError: where the kernel cannot do that (CONFIG_INET_DIAG_DESTROY).
    """
    request = _REQUEST.pack(sock.family, sock.protocol, 0, 1 << sock.state) + sock.identity
    try:
        netlink.request(netlink.NETLINK_SOCK_DIAG, 21, request)
    except OSError as exc:
        # Its peer was faster.
        if not netlink.is_missing(exc):
            raise


def close(condition: Callable[[Socket], bool]) -> None:
    """Closes the connections in the caller's network namespace of which this is true, see C(destroy)."""
    for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        for sock in sockets(protocol):
            if sock.is_connected and condition(sock):
                destroy(sock)


def close_all() -> None:
    """Closes all connections in the caller's network namespace, whose packets a filter keeps from their peers.

    What a process had not closed when it ended belongs to the kernel alone, which tries for minutes to tell the peer.
    So long it keeps the network namespace, with what Docker may have left in it: an interface, and its address.
    """
    with contextlib.suppress(OSError):
        close(lambda _each: True)


def unix_sockets() -> dict[int, UnixSocket]:
    """The Unix sockets of the caller's network namespace, by inode."""
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME | _SHOW_PEER, b"\xff" * 8)
    found = {}
    for body in netlink.dump(netlink.NETLINK_SOCK_DIAG, 20, request):
        kind, inode = struct.unpack_from("=xBxxI", body)
        values = netlink.attributes_of(body[16:])
        name = values.get(0, b"").rstrip(b"\0").replace(b"\0", b"@").decode("utf-8", "replace")
        peer = struct.unpack("=I", values[2])[0] if 2 in values else 0
        found[inode] = UnixSocket(kind, inode, peer, name)
    return found


def descriptors_of(process: int) -> dict[str, str]:
    """Where the descriptors of a process lead to, as C(/proc) names it, by their paths there."""
    found = {}
    folder = f"/proc/{process}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                found[f"{folder}/{name}"] = os.readlink(f"{folder}/{name}")
    return found


def protocol_of(path: str) -> str:
    """The kernel's name of the protocol of a socket in C(/proc/PID/fd); empty where it is none, or has gone.

    It is the extended attribute that sockfs gives to each (sockfs_xattr_get() in the kernel's net/socket.c).
    """
    with contextlib.suppress(OSError):
        return os.getxattr(path, "system.sockprotoname").rstrip(b"\0").decode("ascii", "replace")
    return ""


def descriptors_by_inode(process: int) -> dict[int, int]:
    """The sockets that a process has: one of its descriptors of each, by the socket's inode."""
    links = descriptors_of(process).items()
    return {int(link[8:-1]): int(os.path.basename(path)) for path, link in links if link.startswith("socket:[")}


def inodes_of(process: int) -> set[int]:
    """The sockets that a process has, by their inodes."""
    return set(descriptors_by_inode(process))
