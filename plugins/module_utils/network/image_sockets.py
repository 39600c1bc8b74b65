# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sockets in CRIU's images: those whose connection cannot go on elsewhere become sockets without one.

CRIU restores a connection with the address that it had, or it does not restore the container at all. A process that has
such a socket finds it closed when it runs again, as after any connection that broke. A connected UDP socket has no
connection that could break: it goes on with the address that the container has then.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable

from ansible_collections.fog.migration.plugins.module_utils.criu.protobuf import ProtobufError, fields, message, number
from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError
from ansible_collections.fog.migration.plugins.module_utils.network.sockets import CLOSED, Endpoint, Socket, address_of

COMMON_MAGIC = 0x54564319  # IMG_COMMON_MAGIC
# CRIU from 3.5 on has all files in the one, each with its kind around it; before, sockets had one of their own.
FILES, SOCKETS = "files.img", "inetsk.img"
_SOCKET_IN_FILE = 4
_FAMILY, _PROTOCOL, _STATE, _LOCAL_PORT, _REMOTE_PORT, _LOCAL, _REMOTE, _SHUTDOWN = 3, 5, 6, 7, 8, 11, 12, 19


class SocketsError(CollectionError):
    """The images are not of the known format. The text is a clause."""


def entries(image: bytes) -> tuple[bytes, list[bytes]]:
    """The head of an image, and its entries."""
    place = 8 if struct.unpack_from("<I", image)[0] == COMMON_MAGIC else 4
    head, found = image[:place], []
    while place < len(image):
        length = struct.unpack_from("<I", image, place)[0]
        found.append(image[place + 4 : place + 4 + length])
        place += 4 + length
    if place != len(image):
        raise SocketsError("it is cut off")
    return head, found


def parsed(entry: int | bytes) -> Socket:
    """The socket in an entry."""
    numbers: dict[int, int] = {}
    words: dict[int, list[int]] = {_LOCAL: [], _REMOTE: []}
    for field, value, _raw in fields(entry):
        if isinstance(value, int) and field in words:
            words[field].append(value)
        elif isinstance(value, int):
            numbers[field] = value
    family = numbers[_FAMILY]
    local = Endpoint(_address(family, words[_LOCAL]), numbers[_LOCAL_PORT])
    remote = Endpoint(_address(family, words[_REMOTE]), numbers[_REMOTE_PORT])
    return Socket(numbers[_PROTOCOL], numbers[_STATE], local, remote)


def _address(family: int, words: list[int]) -> str:
    data = b"".join(struct.pack("=I", word) for word in words)
    return address_of(family, data[: 4 if family == socket.AF_INET else 16])


def detached(entry: int | bytes) -> bytes:
    """A socket's entry without its connection; one of UDP keeps its peer and lets the kernel choose its own address."""
    stream = parsed(entry).is_stream
    forget = (_LOCAL_PORT, _REMOTE_PORT, _LOCAL, _REMOTE) if stream else (_LOCAL,)
    out = []
    for field, _value, raw in fields(entry):
        if field in forget:
            out.append(number(field, 0))
        elif field == _STATE and stream:
            out.append(number(field, CLOSED))
        elif field != _SHUTDOWN or not stream:
            out.append(raw)
    return b"".join(out)


def detach(images: str, is_orphan: Callable[[Socket, list[Socket]], bool]) -> list[Socket]:
    """Removes the connections of which this is true from the images in a folder; the sockets that had them.

    :param is_orphan: is given a socket, and all of the container's.
    """
    orphans: list[Socket] = []
    for name, inner in ((FILES, _SOCKET_IN_FILE), (SOCKETS, None)):
        path = os.path.join(images, name)
        with contextlib.suppress(FileNotFoundError):
            orphans += _detach_in(path, inner, is_orphan)
    return orphans


def _detach_in(path: str, inner: int | None, is_orphan: Callable[[Socket, list[Socket]], bool]) -> list[Socket]:
    with open(path, "rb") as source:
        image = source.read()
    try:
        head, old = entries(image)
        found = [(entry, _socket_in(entry, inner)) for entry in old]
        everyone = [parsed(sock) for _entry, sock in found if sock is not None]
        orphans = [one for one in everyone if is_orphan(one, everyone)]
        goes = [sock is not None and parsed(sock) in orphans for _entry, sock in found]
        new = [_without(entry, inner) if gone else entry for entry, gone in zip(old, goes)]
    except (ProtobufError, KeyError, TypeError, ValueError, struct.error) as exc:
        raise SocketsError(f"a socket in {path} is malformed ({exc})") from exc
    if orphans:
        with open(path, "wb") as target:
            target.write(head + b"".join(struct.pack("<I", len(entry)) + entry for entry in new))
    return orphans


def _socket_in(entry: bytes, inner: int | None) -> int | bytes | None:
    """The socket's part of an entry, or None."""
    if inner is None:
        return entry
    return next((value for field, value, _raw in fields(entry) if field == inner), None)


def _without(entry: bytes, inner: int | None) -> bytes:
    if inner is None:
        return detached(entry)
    return b"".join(message(inner, detached(value)) if field == inner else raw for field, value, raw in fields(entry))
