# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packet filters of a network namespace (nf_tables), set by netlink.

Changes are sent as a batch, which the kernel makes as a whole or not at all.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import errno
import struct

from ansible_collections.fog.migration.plugins.module_utils.network import netlink
from ansible_collections.fog.migration.plugins.module_utils.network.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLMSG_ERROR,
    attribute,
    message,
    messages_of,
    nested,
    number,
    text,
)

INET, ARP = 1, 3
PREROUTING, OUTPUT = 0, 3
ARP_IN, ARP_OUT = 0, 1
# Before all that others may have, connection tracking included.
PRIORITY = -450
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEW_TABLE, _GET_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 1, 2, 3, 6
_EQUAL, _UNEQUAL = 0, 1
_META_IN, _META_OUT, _META_PROTOCOL = 6, 7, 16
_DROP, _ACCEPT = 0, 1
# What a kernel without nf_tables answers.
_WITHOUT = (errno.EINVAL, errno.EPROTONOSUPPORT)


def tables() -> list[tuple[int, str]]:
    """The family and the name of each table in the namespace that the calling thread is in."""
    try:
        answers = netlink.dump(netlink.NETLINK_NETFILTER, _SUBSYSTEM << 8 | _GET_TABLE, bytes(4))
    except OSError as exc:
        if exc.errno in _WITHOUT:
            return []
        raise
    return [table_of(answer) for answer in answers]


def table_of(body: bytes) -> tuple[int, str]:
    """The family and the name of a table, from the body of a message about it.

    :raises OSError: when it tells of none.
    """
    name = netlink.attributes_of(body[4:]).get(1)
    if name is None:
        raise OSError(errno.EPROTO, "the kernel tells of a table without a name")
    return body[0], name.rstrip(b"\0").decode("utf-8", "replace")


class Batch:
    """Changes of the packet filters of the namespace that the calling thread is in. Ends with send()."""

    def __init__(self) -> None:
        self._changes: list[tuple[int, int, bytes]] = []

    def _add(self, kind: int, family: int, *attributes: bytes, flags: int = NLM_F_CREATE) -> None:
        body = struct.pack(">BBH", family, 0, 0) + b"".join(attributes)
        self._changes.append((_SUBSYSTEM << 8 | kind, flags, body))

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
        """Adds a rule: packets that meet all conditions are dropped."""
        self._rule(family, table, chain, NLM_F_CREATE | NLM_F_APPEND, *conditions, _verdict(_DROP))

    def accept_all(self, family: int, table: str, chain: str) -> None:
        """Adds a rule before those of the chain: all packets pass it."""
        self._rule(family, table, chain, NLM_F_CREATE, _verdict(_ACCEPT))

    def _rule(self, family: int, table: str, chain: str, flags: int, *steps: bytes) -> None:
        self._add(_NEW_RULE, family, text(1, table), text(2, chain), nested(4, b"".join(steps)), flags=flags)

    def send(self) -> None:
        """Has the kernel make all changes. Raises OSError when it makes none of them."""
        frame = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
        parts = [message(_BATCH_BEGIN, 0, frame, 0)]
        parts += [message(kind, flags | NLM_F_ACK, body, 1 + i) for i, (kind, flags, body) in enumerate(self._changes)]
        parts.append(message(_BATCH_END, 0, frame, 0))
        with netlink.connect(netlink.NETLINK_NETFILTER) as handle:
            handle.send(b"".join(parts))
            waiting = len(self._changes)
            while waiting:
                for answer, _sequence, payload in messages_of(handle.recv(1 << 16)):
                    if answer == NLMSG_ERROR:
                        netlink.raise_for(payload)
                        waiting -= 1


def expression(name: str, *attributes: bytes) -> bytes:
    """One step of a rule."""
    return nested(1, text(1, name), nested(2, *attributes))


def _verdict(verdict: int) -> bytes:
    return expression("immediate", number(1, 0), nested(2, nested(2, number(1, verdict))))


def _compare(operation: int, value: bytes) -> bytes:
    return expression("cmp", number(1, 1), number(2, operation), nested(3, attribute(1, value)))


def _meta(key: int) -> bytes:
    return expression("meta", number(1, 1), number(2, key))


def _interface(key: int, operation: int, name: str) -> bytes:
    return _meta(key) + _compare(operation, name.encode("ascii").ljust(16, b"\0"))


def comes_in_by(interface: str) -> bytes:
    """Condition: the interface that a packet came by."""
    return _interface(_META_IN, _EQUAL, interface)


def does_not_come_in_by(interface: str) -> bytes:
    """Condition: a packet came by any other interface."""
    return _interface(_META_IN, _UNEQUAL, interface)


def goes_out_by(interface: str) -> bytes:
    """Condition: the interface that a packet leaves by."""
    return _interface(_META_OUT, _EQUAL, interface)


def does_not_go_out_by(interface: str) -> bytes:
    """Condition: a packet leaves by any other interface."""
    return _interface(_META_OUT, _UNEQUAL, interface)


def protocol_is(protocol: int) -> bytes:
    """Condition: what a packet carries, such as C(socket.IPPROTO_TCP)."""
    return _meta(_META_PROTOCOL) + _compare(_EQUAL, bytes([protocol]))


def byte_is(offset: int, value: int, mask: int = 0xFF) -> bytes:
    """Condition: a byte of what the packet carries, as far as the mask lets it be seen."""
    load = expression("payload", number(1, 1), number(2, 2), number(3, offset), number(4, 1))
    seen = [nested(4, attribute(1, bytes([mask]))), nested(5, attribute(1, b"\0"))]
    masked = expression("bitwise", number(1, 1), number(2, 1), number(3, 1), *seen)
    return load + masked + _compare(_EQUAL, bytes([value]))
