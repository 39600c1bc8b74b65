# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network namespaces: whose it is, how to work in it, and which interfaces it has.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar, Union

from ansible_collections.fog.migration.plugins.module_utils.network import netlink

T = TypeVar("T")
# The path of a network namespace, or the open file.
Namespace = Union[str, int]

CLONE_NEWNET = 0x40000000
# Interfaces with an address of their own on the network outside: they can have the same one on another server.
MOVABLE = ("macvlan", "ipvlan")
# Docker gives an interface of the kind ipvlan in its modes l3 and l3s the flag NOARP: nobody asks for addresses there.
IFF_LOOPBACK, IFF_NOARP, IFA_F_PERMANENT = 8, 0x80, 0x80


def network_of(process: int | str) -> str:
    """The file that is the network namespace of a process; opened, it stays valid when the process has gone."""
    return f"/proc/{process}/ns/net"


def is_own(process: int) -> bool:
    """Whether this process has a network namespace that is not this program's own, which is the server's."""
    return not os.path.samefile(network_of(process), network_of("self"))


def inside(namespace: Namespace, function: Callable[..., T], *arguments: object) -> T:
    """What I(function) returns when it is called in this network namespace (a path or an open file).

    A thread goes in and ends there, so that the program itself never leaves its own.
    """
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            _enter(namespace)
            outcome["value"] = function(*arguments)
        except Exception as exc:
            outcome["error"] = exc

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def set_sysctls(sysctls: dict[str, str]) -> None:
    """Sets those settings of the kernel that belong to the network namespace of the caller, such as net.core.somaxconn.

    CRIU brings none of them along where the interfaces are made by somebody else.

    :param sysctls: values by name, others among them.
    """
    for name, value in sysctls.items():
        if name.startswith("net."):
            with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as stream:
                stream.write(value)


def _enter(namespace: Namespace) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC) if isinstance(namespace, str) else namespace
    try:
        if libc.setns(handle, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        if handle is not namespace:
            os.close(handle)


class Interface(NamedTuple):
    """A network interface of a container, as far as its migration needs it."""

    name: str
    kind: str  # such as macvlan
    mac: bytes
    flags: int
    addresses: tuple[str, ...]  # those that are permanent

    @property
    def moves(self) -> bool:
        """Whether its addresses can be the same on another server of the same network."""
        return self.kind in MOVABLE and not self.flags & IFF_NOARP


def interfaces() -> list[Interface]:
    """The interfaces of the caller's network namespace but the loopback."""
    addresses = _addresses()
    found = {}
    for body in netlink.dump(netlink.NETLINK_ROUTE, 18, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)):
        index, flags = struct.unpack_from("=4xiI", body)
        values = netlink.attributes_of(body[16:])
        kind = netlink.attributes_of(values.get(18, b"")).get(1, b"")
        if not flags & IFF_LOOPBACK:
            found[index] = Interface(
                values[3].rstrip(b"\0").decode("ascii"),
                kind.rstrip(b"\0").decode("ascii"),
                values.get(1, b""),
                flags,
                tuple(addresses.get(index, ())),
            )
    return [found[index] for index in sorted(found)]


def _addresses() -> dict[int, list[str]]:
    """The permanent addresses by the index of their interface."""
    found: dict[int, list[str]] = {}
    for body in netlink.dump(netlink.NETLINK_ROUTE, 22, struct.pack("=BBBBi", socket.AF_UNSPEC, 0, 0, 0, 0)):
        index = struct.unpack_from("=4xi", body)[0]
        values = netlink.attributes_of(body[8:])
        # Of a link with two ends, 1 is the other end's.
        address = values.get(2, values.get(1, b""))
        if address and _is_permanent(body[2], address):
            found.setdefault(index, []).append(str(ipaddress.ip_address(address)))
    return found


def _is_permanent(flags: int, address: bytes) -> bool:
    """Whether an address was configured: neither learned from a router, nor one that the kernel has to probe first."""
    return bool(flags & IFA_F_PERMANENT) and not ipaddress.ip_address(address).is_link_local


def moved_addresses(found: Iterable[Interface]) -> set[str]:
    """The addresses that the container has at the destination from the start on, of these interfaces."""
    return {address for interface in found if interface.moves for address in interface.addresses}
