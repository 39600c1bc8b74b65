# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packet filters of a migration, in the network namespace of the caller.

A frozen container is silent, but its kernel is not: it would acknowledge what peers go on sending, which the container
at the destination would never see, and answer ARP requests for its address. So its network is locked from the freeze
on, as far as its address moves with it. At the destination, the kernel has the address before it has the sockets, and
would reset every connection of which a packet arrives in between; and it has the sockets before it is certain that the
container stays there, and would acknowledge what the source would never see.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.network import netlink, nftables
from ansible_collections.fog.migration.plugins.module_utils.network.nftables import Batch

TABLE = "fog_migration"
_FIN, _SYN, _RST, _PSH, _ACK, _URG = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
# Bytes of the longest packet that only acknowledges: the headers of IP (20 in version 4, 40 in 6) and TCP (60).
_LONGEST_ACK = 100


def hold_new_connections() -> None:
    """New connections wait from now on; their peers try again after a second."""
    batch = Batch()
    batch.table(nftables.INET, TABLE)
    batch.chain(nftables.INET, TABLE, "new", nftables.PREROUTING)
    tcp = nftables.protocol_is(socket.IPPROTO_TCP)
    batch.drop(nftables.INET, TABLE, "new", tcp, nftables.byte_is(13, _SYN, _SYN | _ACK))
    batch.send()


def lock(interfaces: Iterable[str]) -> None:
    """Nothing passes these interfaces any more, and the kernel does not answer ARP requests for their addresses."""
    names = list(interfaces)
    _lock(nftables.INET, nftables.PREROUTING, nftables.OUTPUT, names)
    # A kernel without filters for ARP still answers; what the destination announces is newer then.
    with contextlib.suppress(OSError):
        _lock(nftables.ARP, nftables.ARP_IN, nftables.ARP_OUT, names)


def _lock(family: int, hook_in: int, hook_out: int, names: list[str]) -> None:
    batch = Batch()
    batch.table(family, TABLE)
    for chain, hook, by in (("in", hook_in, nftables.comes_in_by), ("out", hook_out, nftables.goes_out_by)):
        batch.chain(family, TABLE, chain, hook)
        for name in names:
            batch.drop(family, TABLE, chain, by(name))
    batch.send()


def hold_back_answers() -> None:
    """No peer is told that there is no socket for its packets, since there will be one, or that its data have arrived.

    It sends them again. What it has got itself, it may acknowledge: what waits for that goes on a second later
    otherwise. What the container's processes send each other on its loopback device arrives.
    """
    batch = Batch()
    batch.table(nftables.INET, TABLE)
    batch.chain(nftables.INET, TABLE, "in", nftables.PREROUTING)
    tcp, icmp, icmp6 = (
        nftables.protocol_is(kind) for kind in (socket.IPPROTO_TCP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
    )
    from_others = nftables.does_not_come_in_by("lo"), tcp
    batch.drop(nftables.INET, TABLE, "in", *from_others, nftables.byte_has(13, _FIN | _SYN | _PSH | _URG))
    # Of many segments of data, only the last one is marked.
    batch.drop(nftables.INET, TABLE, "in", *from_others, nftables.is_longer_than(_LONGEST_ACK))
    batch.chain(nftables.INET, TABLE, "out", nftables.OUTPUT)
    batch.drop(nftables.INET, TABLE, "out", tcp, nftables.byte_is(13, _RST, _RST))
    # "Destination unreachable", of both.
    batch.drop(nftables.INET, TABLE, "out", icmp, nftables.byte_is(0, 3))
    batch.drop(nftables.INET, TABLE, "out", icmp6, nftables.byte_is(0, 1))
    batch.send()


def remove() -> bool:
    """Removes all filters of ours; whether there were some. It is no error when there are none."""
    found = False
    for family in (nftables.INET, nftables.ARP):
        batch = Batch()
        batch.delete_table(family, TABLE)
        try:
            batch.send()
            found = True
        except OSError as exc:
            if not netlink.is_missing(exc):
                raise
    return found
