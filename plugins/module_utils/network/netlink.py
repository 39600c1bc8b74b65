# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's netlink, as far as a container's network needs it: interfaces, sockets, and packet filters.

It takes no program that a server might lack or have in another version (ip, ss, nft, iptables), and a few
microseconds where each of these would take milliseconds of a container's downtime.

Private to the collection fog.migration. Laid down on servers by C(deploy).
"""

from __future__ import annotations

import errno
import os
import socket
import struct

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


def messages_of(data: bytes):
    """C((kind, sequence, body)) of each message in what the kernel sent."""
    place = 0
    while place + HEADER.size <= len(data):
        length, kind, _flags, sequence, _port = HEADER.unpack_from(data, place)
        if length < HEADER.size:
            break
        yield kind, sequence, data[place + HEADER.size : place + length]
        place += length + -length % 4


def _open(protocol: int) -> socket.socket:
    handle = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    handle.settimeout(PATIENCE)
    return handle


def _raise_for(body: bytes) -> None:
    code = -struct.unpack_from("=i", body)[0]
    if code:
        raise OSError(code, os.strerror(code))


def dump(protocol: int, kind: int, body: bytes) -> list[bytes]:
    """The bodies of all answers to a request to list something."""
    found: list[bytes] = []
    with _open(protocol) as handle:
        handle.send(message(kind, NLM_F_DUMP, body))
        while True:
            for answer, _sequence, payload in messages_of(handle.recv(1 << 18)):
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    _raise_for(payload)
                found.append(payload)


def order(protocol: int, kind: int, body: bytes) -> None:
    """One order. Raises OSError when the kernel refuses it."""
    with _open(protocol) as handle:
        handle.send(message(kind, NLM_F_ACK, body))
        for answer, _sequence, payload in messages_of(handle.recv(1 << 16)):
            if answer == NLMSG_ERROR:
                _raise_for(payload)


# nf_tables: orders come as a batch, which the kernel obeys as a whole or not at all

INET, ARP = 1, 3
PREROUTING, OUTPUT = 0, 3
ARP_IN, ARP_OUT = 0, 1
# Before all that others may have, connection tracking included.
PRIORITY = -450
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 2, 3, 6
_EQUAL, _UNEQUAL = 0, 1
_META_IN, _META_OUT, _META_PROTOCOL = 6, 7, 16
_DROP = 0


class Batch:
    """Changes of the packet filters of the namespace that the calling thread is in. Ends with send()."""

    def __init__(self) -> None:
        self._orders: list[tuple[int, int, bytes]] = []

    def _add(self, kind: int, family: int, *attributes: bytes, flags: int = NLM_F_CREATE) -> None:
        body = struct.pack(">BBH", family, 0, 0) + b"".join(attributes)
        self._orders.append((_SUBSYSTEM << 8 | kind, flags, body))

    def table(self, family: int, name: str) -> None:
        """Makes a table, where it is not there yet."""
        self._add(_NEW_TABLE, family, text(1, name))

    def delete_table(self, family: int, name: str) -> None:
        """Deletes a table with all that is in it."""
        self._add(_DELETE_TABLE, family, text(1, name), flags=0)

    def chain(self, family: int, table: str, name: str, hook: int) -> None:
        """Makes a chain, where it is not there yet, through which all packets pass at this hook."""
        place = nested(4, number(1, hook), number(2, PRIORITY))
        self._add(_NEW_CHAIN, family, text(1, table), text(3, name), place, text(7, "filter"))

    def drop(self, family: int, table: str, chain: str, *conditions: bytes) -> None:
        """What meets all conditions is dropped."""
        verdict = nested(2, nested(2, number(1, _DROP)))
        rule = b"".join([*conditions, expression("immediate", number(1, 0), verdict)])
        flags = NLM_F_CREATE | NLM_F_APPEND
        self._add(_NEW_RULE, family, text(1, table), text(2, chain), nested(4, rule), flags=flags)

    def send(self) -> None:
        """Has the kernel do it all. Raises OSError when it does none of it."""
        frame = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
        parts = [message(_BATCH_BEGIN, 0, frame, 0)]
        parts += [message(kind, flags | NLM_F_ACK, body, 1 + i) for i, (kind, flags, body) in enumerate(self._orders)]
        parts.append(message(_BATCH_END, 0, frame, 0))
        with _open(NETLINK_NETFILTER) as handle:
            handle.send(b"".join(parts))
            waiting = len(self._orders)
            while waiting:
                for answer, _sequence, payload in messages_of(handle.recv(1 << 16)):
                    if answer == NLMSG_ERROR:
                        _raise_for(payload)
                        waiting -= 1


def expression(name: str, *attributes: bytes) -> bytes:
    """One step of a rule."""
    return nested(1, text(1, name), nested(2, *attributes))


def _compare(operation: int, value: bytes) -> bytes:
    return expression("cmp", number(1, 1), number(2, operation), nested(3, attribute(1, value)))


def _meta(key: int, value: bytes) -> bytes:
    return expression("meta", number(1, 1), number(2, key)) + _compare(_EQUAL, value)


def comes_in_by(interface: str) -> bytes:
    """Condition: the interface that a packet came by."""
    return _meta(_META_IN, interface.encode("ascii").ljust(16, b"\0"))


def goes_out_by(interface: str) -> bytes:
    """Condition: the interface that a packet leaves by."""
    return _meta(_META_OUT, interface.encode("ascii").ljust(16, b"\0"))


def protocol_is(protocol: int) -> bytes:
    """Condition: what a packet carries, such as C(socket.IPPROTO_TCP)."""
    return _meta(_META_PROTOCOL, bytes([protocol]))


def byte_is(offset: int, value: int, mask: int = 0xFF) -> bytes:
    """Condition: a byte of what the packet carries, as far as the mask lets it be seen."""
    load = expression("payload", number(1, 1), number(2, 2), number(3, offset), number(4, 1))
    seen = [nested(4, attribute(1, bytes([mask]))), nested(5, attribute(1, b"\0"))]
    masked = expression("bitwise", number(1, 1), number(2, 1), number(3, 1), *seen)
    return load + masked + _compare(_EQUAL, bytes([value]))


def is_missing(error: OSError) -> bool:
    """Whether the kernel refused something because it is not there."""
    return error.errno == errno.ENOENT
