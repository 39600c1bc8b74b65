# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File descriptors that one process has from another one: given over a Unix socket, or taken by the kernel's leave.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import socket

# The numbers of these system calls are the same on every architecture.
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_SIZE = array.array("i").itemsize


def send(connection: socket.socket, data: bytes, descriptors: list[int]) -> None:
    """Sends some bytes, at least one, and descriptors with them."""
    connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


def receive(connection: socket.socket, most: int, size: int = 1 << 16) -> tuple[bytes, list[int]]:
    """Bytes that have come, none at the end of the connection, and the descriptors with them.

    :param most: how many descriptors there may be.
    :param size: how many bytes there may be.
    """
    descriptors: list[int] = []
    data, ancillary, _flags, _address = connection.recvmsg(size, socket.CMSG_SPACE(most * _SIZE))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(content[: len(content) - len(content) % _SIZE])
            descriptors.extend(numbers)
    return data, descriptors


def of_process(pid: int, kind: str) -> list[int]:
    """Duplicates of what a process has open, of one kind; none where Linux is older than 5.6 and cannot do that.

    :param kind: where the links in C(/proc/PID/fd) lead to, as in C(anon_inode:[userfaultfd]).
    """
    found: list[int] = []
    with contextlib.suppress(OSError):
        process = _system_call(_PIDFD_OPEN, pid, 0)
        try:
            for number in map(int, os.listdir(f"/proc/{pid}/fd")):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{number}") == kind:
                        found.append(_system_call(_PIDFD_GETFD, process, number, 0))
        finally:
            os.close(process)
    return found


def _system_call(number: int, *arguments: int) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
