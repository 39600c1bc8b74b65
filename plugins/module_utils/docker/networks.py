# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container's networks at the destination: which are there, which can be made, and why not.

Pure functions all of them.
"""

from __future__ import annotations

import ipaddress

# Docker's own, which every server has as it likes.
PREDEFINED = ("bridge", "host", "none")
# Networks on which containers have addresses of their own on the network outside, so that they can move with them.
MOVABLE_DRIVERS = ("macvlan", "ipvlan")
_PARENT, _BRIDGE = "parent", "com.docker.network.bridge.name"


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


def hindrance(name: str, wanted: dict, others: dict[str, dict], drivers: list[str], interfaces: list[str]) -> str:
    """Why a network cannot be made at the destination; empty where it can.

    :param wanted: its settings at the source.
    :param others: the settings of the destination's networks, by name.
    :param drivers: those that the destination's Docker has.
    :param interfaces: names of the destination's network interfaces.
    """
    if wanted["scope"] != "local":
        return f"the network {name} belongs to a swarm, and is not made by itself"
    if wanted["driver"] not in drivers:
        return f"the destination's Docker has no driver {wanted['driver']} for the network {name}"
    parent = wanted["driver_options"].get(_PARENT)
    if parent and not _is_or_can_be_there(parent, interfaces):
        return f"the network {name} lies on {parent}, and the destination has no such interface"
    for other, configured in others.items():
        clash = _clash(wanted, configured)
        if clash:
            return f"the network {name} would have {clash}, as the destination's network {other} has"
    return ""


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


def _network(subnet: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(subnet, strict=False)
