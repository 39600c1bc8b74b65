# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sockets in CRIU's images: those whose connection cannot go on elsewhere become sockets without one.

CRIU restores a connection with the address that it had, or not at all and the container neither. A process that has
such a socket finds it closed when it runs again, as after any connection that broke. A connected UDP socket has no
connection that could break: it goes on with the address that the container has then.

Private to the collection fog.migration. Laid down on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from ansible_collections.fog.migration.plugins.module_utils.criu.protobuf import ProtobufError, fields, message, number
from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError
from ansible_collections.fog.migration.plugins.module_utils.network import namespace

COMMON_MAGIC = 0x54564319  # IMG_COMMON_MAGIC
# CRIU from 3.5 on has all files in the one, each with its kind around it; before, sockets had one of their own.
FILES, SOCKETS = "files.img", "inetsk.img"
_SOCKET_IN_FILE = 4
_FAMILY, _PROTOCOL, _STATE, _LOCAL_PORT, _REMOTE_PORT, _LOCAL, _REMOTE, _SHUTDOWN = 3, 5, 6, 7, 8, 11, 12, 19
_CLOSED = 7


class SocketsError(CollectionError):
    """The images are not what this knows. The text is a clause."""


# Images


def entries(image):
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


def described(entry):
    """A socket's entry in the words of C(namespace.sockets)."""
    values = {_LOCAL: [], _REMOTE: []}
    for field, value, _raw in fields(entry):
        if field in (_LOCAL, _REMOTE):
            values[field].append(value)
        else:
            values[field] = value
    family = values[_FAMILY]
    return {
        "state": values[_STATE],
        "protocol": values[_PROTOCOL],
        "local": (_address(family, values[_LOCAL]), values[_LOCAL_PORT]),
        "remote": (_address(family, values[_REMOTE]), values[_REMOTE_PORT]),
    }


def _address(family, words):
    data = b"".join(struct.pack("=I", word) for word in words)
    return namespace.address_of(family, data[: 4 if family == socket.AF_INET else 16])


def detached(entry):
    """A socket's entry without its connection; one of UDP keeps its peer and lets the kernel choose its own address."""
    stream = described(entry)["protocol"] == socket.IPPROTO_TCP
    forget = (_LOCAL_PORT, _REMOTE_PORT, _LOCAL, _REMOTE) if stream else (_LOCAL,)
    out = []
    for field, _value, raw in fields(entry):
        if field in forget:
            out.append(number(field, 0))
        elif field == _STATE and stream:
            out.append(number(field, _CLOSED))
        elif field != _SHUTDOWN or not stream:
            out.append(raw)
    return b"".join(out)


def detach(images, is_left_behind):
    """Takes the connections of which this is true from the images in a folder; the sockets, as described() tells them.

    :param is_left_behind: is given a socket, and all of the container's.
    """
    left = []
    for name, inner in ((FILES, _SOCKET_IN_FILE), (SOCKETS, None)):
        path = os.path.join(images, name)
        with contextlib.suppress(FileNotFoundError):
            left += _detach_in(path, inner, is_left_behind)
    return left


def _detach_in(path, inner, is_left_behind):
    with open(path, "rb") as stream:
        image = stream.read()
    try:
        head, old = entries(image)
        found = [(entry, _socket_in(entry, inner)) for entry in old]
        everyone = [described(sock) for _entry, sock in found if sock is not None]
        left = [one for one in everyone if is_left_behind(one, everyone)]
        goes = [sock is not None and described(sock) in left for _entry, sock in found]
        new = [_without(entry, inner) if gone else entry for entry, gone in zip(old, goes)]
    except (ProtobufError, KeyError, TypeError, ValueError, struct.error) as exc:
        raise SocketsError(f"a socket in {path} is not whole ({exc})") from exc
    if left:
        with open(path, "wb") as stream:
            stream.write(head + b"".join(struct.pack("<I", len(entry)) + entry for entry in new))
    return left


def _socket_in(entry, inner):
    """The socket's part of an entry, or None."""
    if inner is None:
        return entry
    return next((value for field, value, _raw in fields(entry) if field == inner), None)


def _without(entry, inner):
    if inner is None:
        return detached(entry)
    return b"".join(message(inner, detached(value)) if field == inner else raw for field, value, raw in fields(entry))
