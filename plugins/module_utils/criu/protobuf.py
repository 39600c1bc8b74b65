# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Protocol Buffers, as little of them as CRIU's images need (U(https://protobuf.dev/programming-guides/encoding)).

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WORD = 1 << 64


class ProtobufError(CollectionError):
    """What is no message. The text is a clause."""


def encode(value: int) -> bytes:
    """A number as a varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The varint at I(position), and the position behind it.

    :raises ProtobufError: when there is none before I(end).
    """
    value = shift = 0
    while position < end and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % _WORD, position
        shift += 7
    raise ProtobufError("a number in it is cut off")


def fields(data: int | bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Yields number and value of each field of a message, and the field as it stands.

    :param data: the bytes of the message, as the value of a field has them.
    :raises ProtobufError: when it is none.
    """
    if isinstance(data, int):
        raise ProtobufError("a field in it is a number and not a message")
    position, size = 0, len(data)
    while position < size:
        begin = position
        key, position = decode(data, position, size)
        kind = key & 7
        value: int | bytes
        if kind == VARINT:
            value, position = decode(data, position, size)
        else:
            length, position = _length(kind, data, position)
            content, position = data[position : position + length], position + length
            value = content if kind == BYTES else int.from_bytes(content, "little")
        if position > size:
            raise ProtobufError("a field in it is longer than what there is")
        yield key >> 3, value, data[begin:position]


def _length(kind: int, data: bytes, position: int) -> tuple[int, int]:
    """How many bytes a value has that is no varint, and where they begin."""
    if kind == BYTES:
        return decode(data, position, len(data))
    if kind not in (FIXED32, FIXED64):
        raise ProtobufError(f"a field in it has the unknown wire type {kind}")
    return (4 if kind == FIXED32 else 8), position


def number(field: int, value: int) -> bytes:
    """A field that holds a number."""
    return encode(field << 3 | VARINT) + encode(value)


def message(field: int, data: bytes) -> bytes:
    """A field that holds a message."""
    return encode(field << 3 | BYTES) + encode(len(data)) + data
