# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The packet filters of a migration, in the network namespace of the caller.

A frozen container is silent, but its kernel is not: it would acknowledge what peers go on sending, which the container
at the destination would never see, and answer ARP requests for its address. So its network is locked from the freeze
on, as far as its address moves with it. At the destination, the kernel has the address before it has the sockets, and
would reset every connection of which a packet arrives in between; and it has the sockets before it is certain that the
container stays there, and would acknowledge what the source would never see, and send what the source does not know to
be sent.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.network import nftables
from ansible_collections.fog.migration.plugins.module_utils.network.nftables import Batch

TABLE = "fog_migration"
_SYN, _ACK = 0x02, 0x10


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


def hold_connections() -> None:
    """No connection with others hears or says anything, and nobody is told that there is no socket for their packets.

    Peers send again what was dropped, and the kernel keeps in its queue what it could not send. Nothing else has it
    send that soon (C(repair_mode.wake)). What the container's processes send each other on its loopback device arrives.
    """
    batch = Batch()
    batch.table(nftables.INET, TABLE)
    tcp, icmp, icmp6 = (
        nftables.protocol_is(kind) for kind in (socket.IPPROTO_TCP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
    )
    batch.chain(nftables.INET, TABLE, "in", nftables.PREROUTING)
    batch.drop(nftables.INET, TABLE, "in", nftables.does_not_come_in_by("lo"), tcp)
    batch.chain(nftables.INET, TABLE, "out", nftables.OUTPUT)
    batch.drop(nftables.INET, TABLE, "out", nftables.does_not_go_out_by("lo"), tcp)
    # "Destination unreachable", of both.
    batch.drop(nftables.INET, TABLE, "out", icmp, nftables.byte_is(0, 3))
    batch.drop(nftables.INET, TABLE, "out", icmp6, nftables.byte_is(0, 1))
    batch.send()


def let_all_pass() -> None:
    """All passes the filter of C(hold_connections) from now on.

    To remove it takes the kernel 10 to 20 ms, since it waits for all who may look at it still; to add to it, one.
    """
    batch = Batch()
    for chain in ("in", "out"):
        batch.accept_all(nftables.INET, TABLE, chain)
    batch.send()


def remove() -> bool:
    """Removes all filters of ours; whether there were some. It is no error when there are none."""
    families = [family for family, name in nftables.tables() if name == TABLE]
    batch = Batch()
    for family in families:
        batch.delete_table(family, TABLE)
    if families:
        batch.send()
    return bool(families)
