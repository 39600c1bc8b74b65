# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container's networks at the destination: which are there, which can be made, and why not.

Pure functions all of them but C(configured).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

# Docker's own, which every server has as it likes.
PREDEFINED = ("bridge", "host", "none")
# Networks on which containers have addresses of their own on the network outside, so that they can move with them.
MOVABLE_DRIVERS = ("macvlan", "ipvlan")
_PARENT, _BRIDGE = "parent", "com.docker.network.bridge.name"
# Without a network of its own, which nobody else has either.
_WITHOUT_SETTINGS = ("host", "none")
# Of the keys of C(settings), what each of them is.
_FORM: dict[str, type] = {
    "driver": str,
    "driver_options": dict,
    "ipam_driver": str,
    "ipam_driver_options": dict,
    "ipam_config": list,
    "enable_ipv6": bool,
    "internal": bool,
    "attachable": bool,
    "labels": dict,
    "scope": str,
}
_OF_A_POOL: dict[str, type] = {"subnet": str, "iprange": str, "gateway": str, "aux_addresses": dict}


class Client(Protocol):
    """What is asked of Docker."""

    def find_network(self, name: str) -> dict[str, Any] | None:
        """The inspect data of a network."""


class Server(NamedTuple):
    """What a network that is made on a server has to get on with.

    :param configured: the settings of its networks, by name.
    :param drivers: the drivers of networks that its Docker has.
    :param interfaces: the names of its network interfaces.
    :param routes: where its routes lead, see C(routes.facts).
    """

    configured: Mapping[str, dict]
    drivers: list[str]
    interfaces: list[str]
    routes: list[dict[str, str]]


def configured(client: Client, listed: list[dict[str, Any]]) -> dict[str, dict]:
    """The settings of a server's networks, by name.

    :param listed: all networks, as Docker lists them. Only of a single one, it tells which addresses are used in it.
    """
    found = (client.find_network(one["Id"]) for one in listed if one["Name"] not in _WITHOUT_SETTINGS)
    return {one["Name"]: settings(one) for one in found if one}


def settings(network: dict) -> dict:
    """How a network was made, from its inspect data, by the options of M(community.docker.docker_network).

    :returns: these, and C(used), the addresses of the running containers in it.
    """
    ipam = network.get("IPAM") or {}
    found = {
        "driver": network["Driver"],
        "driver_options": network.get("Options") or {},
        "ipam_driver": ipam.get("Driver") or "default",
        "ipam_driver_options": ipam.get("Options") or {},
        "ipam_config": [_pool(one) for one in ipam.get("Config") or []],
        "enable_ipv6": bool(network.get("EnableIPv6")),
        "internal": bool(network.get("Internal")),
        "attachable": bool(network.get("Attachable")),
        "labels": network.get("Labels") or {},
        "scope": network.get("Scope") or "local",
        "used": _used(network),
    }
    # Only Docker 28 and newer can do without, and only they are told of it.
    return found if network.get("EnableIPv4", True) else dict(found, enable_ipv4=False)


def creation_body(name: str, wanted: dict) -> dict:
    """The body of C(POST /networks/create) that makes a network with these settings, see C(settings)."""
    keys = {"subnet": "Subnet", "iprange": "IPRange", "gateway": "Gateway", "aux_addresses": "AuxiliaryAddresses"}
    pools = [{keys[key]: value for key, value in pool.items()} for pool in wanted["ipam_config"]]
    body = {
        "Name": name,
        "CheckDuplicate": True,
        "Driver": wanted["driver"],
        "Options": wanted["driver_options"],
        "IPAM": {"Driver": wanted["ipam_driver"], "Options": wanted["ipam_driver_options"], "Config": pools},
        "EnableIPv6": wanted["enable_ipv6"],
        "Internal": wanted["internal"],
        "Attachable": wanted["attachable"],
        "Labels": wanted["labels"],
    }
    return dict(body, EnableIPv4=wanted["enable_ipv4"]) if "enable_ipv4" in wanted else body


def are_settings(value: object) -> bool:
    """Whether this is what C(settings) returns of a network that can be made, whoever says so."""
    if not isinstance(value, dict):
        return False
    is_right = all(_is(value.get(key), kind) for key, kind in _FORM.items())
    return is_right and isinstance(value.get("enable_ipv4", True), bool) and all(map(_is_pool, value["ipam_config"]))


def _is(value: object, kind: type) -> bool:
    """Whether a value is of this kind. What is in an object is text."""
    is_text = not isinstance(value, dict) or all(isinstance(one, str) for one in [*value, *value.values()])
    return isinstance(value, kind) and is_text


def _is_pool(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("subnet"), str):
        return False
    try:
        _network(value["subnet"])
    except ValueError:
        return False
    return all(key in _OF_A_POOL and _is(one, _OF_A_POOL[key]) for key, one in value.items())


def _pool(config: dict) -> dict:
    """One pool of addresses. Docker 17.09 writes the length of the subnet behind the gateway."""
    pool = {
        "subnet": config.get("Subnet"),
        "iprange": config.get("IPRange"),
        "gateway": (config.get("Gateway") or "").partition("/")[0],
        "aux_addresses": config.get("AuxiliaryAddresses"),
    }
    return {key: value for key, value in pool.items() if value}


def _used(network: dict) -> list[str]:
    return sorted(
        one[key].partition("/")[0]
        for one in (network.get("Containers") or {}).values()
        for key in ("IPv4Address", "IPv6Address")
        if one.get(key)
    )


def subnets(configured: dict) -> list[str]:
    """The subnets of a network, from its settings."""
    return [pool["subnet"] for pool in configured["ipam_config"] if "subnet" in pool]


def segments(configured: dict[str, dict]) -> dict[str, dict]:
    """Those of some networks on which containers have addresses of their own on the network outside, by name.

    :param configured: their settings, by name.
    """
    return {
        name: {"driver": one["driver"], "subnets": subnets(one), "used": one["used"]}
        for name, one in configured.items()
        if one["driver"] in MOVABLE_DRIVERS
    }


def difference(name: str, here: dict, there: dict, addresses: list[str]) -> str:
    """Why a container cannot use the destination's network of this name; empty where it can.

    What is not named here, such as labels, is the destination's own matter.

    :param here: the settings of the source's network.
    :param addresses: those that the container was given in it by its creator.
    """
    if here["driver"] != there["driver"]:
        return f"the network {name} is a {here['driver']} at the source and a {there['driver']} at the destination"
    if here["internal"] != there["internal"]:
        where = "source" if here["internal"] else "destination"
        return f"the network {name} is without a way outside (internal) at the {where} only"
    if here["enable_ipv6"] and not there["enable_ipv6"]:
        return f"the network {name} has no IPv6 at the destination"
    return next(filter(None, (_address_problem(name, one, there) for one in addresses)), "")


def _address_problem(name: str, address: str, there: dict) -> str:
    pools = subnets(there)
    if not any(_inside(address, pool) for pool in pools):
        return f"its address {address} is not of the destination's network {name} ({', '.join(pools)})"
    if address in there["used"]:
        return f"another container at the destination has its address {address} in the network {name}"
    return ""


def _inside(address: str, subnet: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(subnet, strict=False)


def hindrance(name: str, wanted: dict, server: Server) -> str:
    """Why a network cannot be made at the destination; empty where it can.

    :param wanted: its settings at the source.
    :param server: the destination.
    """
    if not are_settings(wanted):
        return f"the network {name} is not described as Docker describes one"
    if wanted["scope"] != "local":
        return f"the network {name} belongs to a swarm, and is not made by itself"
    if wanted["driver"] not in server.drivers:
        return f"the destination's Docker has no driver {wanted['driver']} for the network {name}"
    parent = wanted["driver_options"].get(_PARENT)
    if parent and not _is_or_can_be_there(parent, server.interfaces):
        return f"the network {name} lies on {parent}, and the destination has no such interface"
    for other, its in server.configured.items():
        clash = _clash(wanted, its)
        if clash:
            return f"the network {name} would have {clash}, as the destination's network {other} has"
    return _route_clash(name, wanted, server.routes)


def _is_or_can_be_there(parent: str, interfaces: list[str]) -> bool:
    """Docker makes eth0.10 of eth0 by itself."""
    base, _dot, vlan = parent.rpartition(".")
    return parent in interfaces or (vlan.isdigit() and base in interfaces)


def _clash(wanted: dict, other: dict) -> str:
    """What two networks of a server cannot both have."""
    for key, label in ((_PARENT, "the interface"), (_BRIDGE, "the bridge")):
        value = wanted["driver_options"].get(key)
        if value and wanted["driver"] == other["driver"] and other["driver_options"].get(key) == value:
            return f"{label} {value}"
    for one in map(_network, subnets(wanted)):
        for two in map(_network, subnets(other)):
            if one.version == two.version and one.overlaps(two):
                return f"the subnet {one}" + ("" if one == two else f", which overlaps {two}")
    return ""


def _route_clash(name: str, wanted: dict, routes: list[dict[str, str]]) -> str:
    """Where the destination reaches something else by the addresses of a network. It would reach containers there.

    On a macvlan and an ipvlan, containers are on the network outside, where the server is as well: it has no other
    route because of that.
    """
    if wanted["driver"] in MOVABLE_DRIVERS:
        return ""
    own = wanted["driver_options"].get(_BRIDGE)
    for subnet in map(_network, subnets(wanted)):
        for route in routes:
            there = _network(route["subnet"])
            if route["interface"] != own and there.version == subnet.version and there.overlaps(subnet):
                overlaps = "" if there == subnet else f", which overlaps {there}"
                by = f" by {route['interface']}" if route["interface"] else ""
                return f"the network {name} would have the subnet {subnet}{overlaps}, which the destination reaches{by}"
    return ""


def _network(subnet: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(subnet, strict=False)
