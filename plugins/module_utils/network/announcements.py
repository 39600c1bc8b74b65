# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Announcements of addresses: gratuitous ARP, and unsolicited neighbour advertisements.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct

from ansible_collections.fog.migration.plugins.module_utils.network.namespace import IFF_NOARP, interfaces


def announce() -> None:
    """Tells all neighbours where the addresses of the caller's network namespace are now; switches learn it, too."""
    for interface in interfaces():
        if len(interface.mac) == 6 and not interface.flags & IFF_NOARP:
            frames = [announcement(interface.mac, address) for address in interface.addresses]
            with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as handle:
                handle.bind((interface.name, 0))
                for frame in frames:
                    handle.send(frame)


def announcement(mac: bytes, address: str) -> bytes:
    """The Ethernet frame that says that this address is at this MAC: gratuitous ARP, or unsolicited advertisement."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 4:
        words = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        return b"\xff" * 6 + mac + b"\x08\x06" + words + mac + packed + bytes(6) + packed
    everybody = ipaddress.IPv6Address("ff02::1").packed
    # Override what was known; then the option that holds our MAC.
    body = struct.pack("!I", 0x20000000) + packed + b"\x02\x01" + mac
    pseudo = packed + everybody + struct.pack("!II", 4 + len(body), socket.IPPROTO_ICMPV6)
    icmp = struct.pack("!BBH", 136, 0, checksum(pseudo + b"\x88\0\0\0" + body)) + body
    header = struct.pack("!IHBB", 6 << 28, len(icmp), socket.IPPROTO_ICMPV6, 255)
    return b"\x33\x33\0\0\0\x01" + mac + b"\x86\xdd" + header + packed + everybody + icmp


def checksum(data: bytes) -> int:
    """The checksum of IP's protocols."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
