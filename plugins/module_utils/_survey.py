# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a container's connections, before it moves.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from ansible_collections.fog.migration.plugins.module_utils import _host, _network


def survey(process: int, fixed: set[str]) -> dict:
    """The connections and bound addresses of the container whose first process this is, see classify().

    :param fixed: addresses that it was given by its creator.
    """
    nothing: dict = {"connections": [], "bound": []}
    if not process:
        return nothing
    # A container that ends meanwhile has no connections any more.
    with contextlib.suppress(OSError):
        if _network.is_own(process):
            interfaces, sockets = _network.inside(_network.network_of(process), _look)
            return classify(sockets, _network.moved_addresses(interfaces), fixed)
        processes = _host.processes_below(process)
        inodes = {inode for one in processes for inode in _network.inodes_of(one)}
        return classify([sock for sock in _look()[1] if sock["inode"] in inodes], set(), fixed)
    return nothing


def _look() -> tuple[list[dict], list[dict]]:
    protocols = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
    return _network.interfaces(), [sock for protocol in protocols for sock in _network.sockets(protocol)]


def classify(sockets: list[dict], moved: set[str], fixed: set[str]) -> dict:
    """What moves and what does not.

    :param moved: the addresses that move with the container, and the network with them.
    :param fixed: those that it has again elsewhere, though nobody outside may reach them.
    :returns: C(connections) to the outside, each C(local), C(remote) and whether it C(survives), and C(bound): what it
        listens on that does not move with it.
    """
    connections, bound = [], []
    for sock in sockets:
        local, remote = _end(*sock["local"]), _end(*sock["remote"])
        if not sock["inode"]:
            continue
        if _network.is_connected(sock):
            if _network.is_stream(sock) and not _is_within(sock):
                connections.append({"local": local, "remote": remote, "survives": _network.survives(sock, moved)})
        elif sock["local"][0] not in moved | fixed and not _is_anywhere(sock["local"][0]):
            bound.append(local)
    return {"connections": sorted(connections, key=lambda one: sorted(one.items())), "bound": sorted(set(bound))}


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_within(sock: dict) -> bool:
    """Whether it goes from the container to itself."""
    return all(ipaddress.ip_address(sock[end][0]).is_loopback for end in ("local", "remote"))


def _is_anywhere(text: str) -> bool:
    """Whether an address can be bound to on every server."""
    address = ipaddress.ip_address(text)
    return address.is_unspecified or address.is_loopback or address.is_multicast or text == "255.255.255.255"
