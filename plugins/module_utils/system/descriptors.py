# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File descriptors from one process to another: given over a Unix socket, or copied from a process that takes no part
in it, so that what they lead to can be asked and set from outside.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import functools
import os
import socket
from collections.abc import Callable, Iterator

_SIZE = array.array("i").itemsize
# Numbers of system calls, the same on x86_64, arm64 and arm. The second one is there from Linux 5.6 on.
PIDFD_OPEN, PIDFD_GETFD = 434, 438
# This one has another number on each (asm/unistd.h of the kernel).
_KCMP = {"x86_64": 312, "aarch64": 272, "armv7l": 378, "armv8l": 378, "armv6l": 378, "i686": 349}
_KCMP_FILE = 0


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


def copy_of(process: int, number: int) -> int:
    """A descriptor of this program for what descriptor I(number) of a process leads to. The caller closes it.

    The process takes no part in it, and may be frozen.

    :raises OSError: when it cannot be had: with ENOSYS, since the kernel is older than 5.6.
    """
    with held(process) as handle:
        return copy_by(handle, number)


@contextlib.contextmanager
def held(process: int) -> Iterator[int]:
    """A handle of a process, by which several of its descriptors can be copied.

    :raises OSError: when it cannot be had, see C(copy_of).
    """
    handle = _call(PIDFD_OPEN, process, 0)
    try:
        yield handle
    finally:
        os.close(handle)


def copy_by(handle: int, number: int) -> int:
    """See C(copy_of).

    :param handle: see C(held).
    """
    return _call(PIDFD_GETFD, handle, number, 0)


def comparer(process: int, other: int) -> Callable[[int], bool] | None:
    """What tells whether the descriptor of a number is the same of two processes, as after a fork.

    None where the kernel has no such system call.
    """
    call, number = _libc().syscall, _KCMP.get(os.uname().machine)
    if number is None:
        return None
    fixed = tuple(map(ctypes.c_long, (number, process, other, _KCMP_FILE)))

    def is_same(descriptor: int) -> bool:
        one = ctypes.c_long(descriptor)
        return bool(call(*fixed, one, one) == 0)

    return is_same


def is_same(one: int, other: int, kind: int) -> bool | None:
    """Whether two threads have the same of something, see kcmp(2); None where the kernel does not tell."""
    number = _KCMP.get(os.uname().machine)
    if number is None:
        return None
    answer = _libc().syscall(*map(ctypes.c_long, (number, one, other, kind, 0, 0)))
    return None if answer < 0 else bool(answer == 0)


@functools.lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    """The C library, of which each look takes longer than the system call itself."""
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: int) -> int:
    result: int = _libc().syscall(*map(ctypes.c_long, (number, *arguments)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
