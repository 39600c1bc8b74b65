# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the routes of this server lead, its own addresses among them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Union

from ansible_collections.fog.migration.plugins.module_utils.network import netlink

# Of linux/rtnetlink.h. RTM_GETROUTE, rtmsg: family, length of the destination, ..., type, flags.
_GET_ROUTES = 26
_HEADER = struct.Struct("=BBBBBBBBI")
_DESTINATION, _INTERFACE = 1, 4
# Routes that everybody has, and that lead to nobody: broadcast, anycast, multicast.
_NOBODYS = (3, 4, 5)
# What is as short leads to the whole world, or to half of it, as a tunnel's routes do.
_DEFAULTS = {4: 1, 6: 3}
_LINK_LOCAL = ipaddress.ip_network("fe80::/10")

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


class Route(NamedTuple):
    """A route: its destination, and the name of the interface, empty where there is none."""

    to: Network
    interface: str


def facts() -> list[dict[str, str]]:
    """The C(subnet) and the C(interface) of each route of this server, in all of its tables, but default ones."""
    answers = netlink.dump(netlink.NETLINK_ROUTE, _GET_ROUTES, _HEADER.pack(*([0] * 9)))
    return [{"subnet": str(one.to), "interface": one.interface} for one in telling(parse(answers))]


def parse(answers: Iterable[bytes]) -> Iterator[Route]:
    """The routes in what the kernel answers."""
    for body in answers:
        family, length, _source, _tos, _table, _protocol, _scope, kind, _flags = _HEADER.unpack_from(body)
        attributes = netlink.attributes_of(body[_HEADER.size :])
        address = attributes.get(_DESTINATION)
        # Those of other families are of none of Docker's networks.
        if kind in _NOBODYS or family not in (socket.AF_INET, socket.AF_INET6) or address is None:
            continue
        index = struct.unpack("=I", attributes[_INTERFACE])[0] if _INTERFACE in attributes else 0
        yield Route(ipaddress.ip_network((address, length), strict=False), _name(index))


def _name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def telling(found: Iterable[Route]) -> list[Route]:
    """Those that are no default, and not a part of another one by the same interface."""
    every = {one for one in found if one.to.prefixlen > _DEFAULTS[one.to.version] and not _is_link_local(one.to)}
    return sorted(
        (one for one in every if not any(Route(above, one.interface) in every for above in _above(one.to))),
        key=lambda one: (one.to.version, one.to.network_address, one.to.prefixlen, one.interface),
    )


def _is_link_local(network: Network) -> bool:
    return isinstance(network, ipaddress.IPv6Network) and network.network_address in _LINK_LOCAL


def _above(network: Network) -> Iterator[Network]:
    for length in range(_DEFAULTS[network.version] + 1, network.prefixlen):
        yield network.supernet(new_prefix=length)
