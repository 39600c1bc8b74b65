# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP connections in repair mode, as CRIU has them while it dumps them, and leaves them when it is killed.

Whoever reads from such a connection gets an error (EPERM), and what is written to it is not sent. Its end has the
kernel ask the peer at once what it has got.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection, Iterable
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.network import sockets
from ansible_collections.fog.migration.plugins.module_utils.system import descriptors

TCP_REPAIR = 19
# Off with 0, the kernel asks the peer at once what it has got, as CRIU itself has it do; with -1, it does not.
_ON, _OFF = 1, 0
# The process has ended meanwhile, or has closed it.
_GONE = (errno.ESRCH, errno.EBADF)


class Connection(NamedTuple):
    """A connection by a process that has it, and the number of the descriptor there."""

    process: int
    descriptor: int


def of_namespace() -> set[int]:
    """The inodes of the connections in the network namespace of the caller."""
    return {sock.inode for sock in sockets.sockets() if sock.inode and sock.is_connected}


def of_processes(processes: Iterable[int], inodes: Collection[int]) -> list[Connection]:
    """The connections of these processes, each once.

    :param inodes: see C(of_namespace).
    """
    places = {}
    for process in processes:
        for inode, descriptor in sockets.descriptors_by_inode(process).items():
            if inode in inodes:
                places[inode] = Connection(process, descriptor)
    return list(places.values())


def find(processes: Iterable[int], inodes: Collection[int]) -> list[Connection]:
    """Those in repair mode, each once.

    :param processes: whose connections are looked at.
    :param inodes: see C(of_namespace).
    :raises OSError: when the kernel does not let them be looked at: with ENOSYS, it is older than 5.6.
    """
    return [one for one in of_processes(processes, inodes) if _is_in_repair(one)]


def end(connection: Connection) -> None:
    """The connection goes on, if its process has it still.

    The kernel forgets SO_REUSEADDR with it. What a server has accepted has it from the socket that listens, and without
    it, a server that is started anew could not listen at the same port while the connection is there.

    :raises OSError: when the kernel refuses.
    """
    try:
        with _copy(connection) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, _OFF)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError as exc:
        if exc.errno not in _GONE:
            raise


def wake(connection: Connection) -> None:
    """Has a connection go on at once that was kept from its peer, instead of when a timer of a second or more ends.

    Its peer is asked what it has got, and what waits to be sent is sent. Its process must be stopped: what reads from
    it meanwhile would get an error.

    :raises OSError: when it has gone, or the kernel refuses: with ENOSYS, it is older than 5.6.
    """
    with _copy(connection) as sock:
        reuse = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        for mode in (_ON, _OFF):
            sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, mode)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        # The kernel sends what it can whenever this is switched off (__tcp_sock_set_cork() in its net/ipv4/tcp.c).
        if not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def _is_in_repair(connection: Connection) -> bool:
    try:
        with _copy(connection) as sock:
            return sock.getsockopt(socket.IPPROTO_TCP, TCP_REPAIR) == _ON
    except OSError as exc:
        if exc.errno not in _GONE:
            raise
    return False


def _copy(connection: Connection) -> socket.socket:
    handle = descriptors.copy_of(connection.process, connection.descriptor)
    # The family does not matter to the two calls above.
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=handle)
