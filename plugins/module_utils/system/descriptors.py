# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File descriptors that one process has from another one: given over a Unix socket.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import array
import socket

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
