# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's netlink, as far as a container's network needs it: interfaces, sockets, and packet filters.

It takes no program that a server might lack or have in another version (ip, ss, nft, iptables), and a few
microseconds where each of these would take milliseconds of a container's downtime.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE, NLM_F_APPEND = 1, 4, 0x300, 0x400, 0x800
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF
HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
# The kernel answers within the system call; this only keeps a mistake from waiting for ever.
PATIENCE = 10


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string."""
    return attribute(kind, value.encode("ascii") + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute that holds 32 bits in network order, as all of nf_tables' do."""
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def attributes_of(data: bytes) -> dict[int, bytes]:
    """The attributes in I(data) by kind; of several of one kind, the last."""
    found, place = {}, 0
    while place + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, place)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = data[place + 4 : place + length]
        place += length + -length % 4
    return found


def message(kind: int, flags: int, body: bytes, sequence: int = 1) -> bytes:
    """One whole message of ours to the kernel."""
    return HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def messages_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """C((kind, sequence, body)) of each message in what the kernel sent."""
    place = 0
    while place + HEADER.size <= len(data):
        length, kind, _flags, sequence, _port = HEADER.unpack_from(data, place)
        if length < HEADER.size:
            break
        yield kind, sequence, data[place + HEADER.size : place + length]
        place += length + -length % 4


def connect(protocol: int) -> socket.socket:
    """A socket that speaks to the kernel."""
    handle = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    handle.settimeout(PATIENCE)
    return handle


def raise_for(body: bytes) -> None:
    """Raises OSError when this is the body of an error message with an error in it."""
    code = -struct.unpack_from("=i", body)[0]
    if code:
        raise OSError(code, os.strerror(code))


def dump(protocol: int, kind: int, body: bytes) -> list[bytes]:
    """The bodies of all answers to a request to list something."""
    found: list[bytes] = []
    with connect(protocol) as handle:
        handle.send(message(kind, NLM_F_DUMP, body))
        while True:
            for answer, _sequence, payload in messages_of(handle.recv(1 << 18)):
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    raise_for(payload)
                found.append(payload)


def request(protocol: int, kind: int, body: bytes) -> None:
    """One request. Raises OSError when the kernel refuses it."""
    with connect(protocol) as handle:
        handle.send(message(kind, NLM_F_ACK, body))
        for answer, _sequence, payload in messages_of(handle.recv(1 << 16)):
            if answer == NLMSG_ERROR:
                raise_for(payload)


def is_missing(error: OSError) -> bool:
    """Whether the kernel refused something because it is not there."""
    return error.errno == errno.ENOENT
