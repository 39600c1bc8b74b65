# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of a container's networks can be used at the destination, and which can be made there."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import networks

# As Docker 26.1 shows it.
INSPECT = {
    "Name": "front",
    "Id": "d17e",
    "Scope": "local",
    "Driver": "bridge",
    "EnableIPv6": True,
    "IPAM": {
        "Driver": "default",
        "Options": {},
        "Config": [
            {
                "Subnet": "198.51.100.0/24",
                "IPRange": "198.51.100.128/25",
                "Gateway": "198.51.100.9",
                "AuxiliaryAddresses": {"printer": "198.51.100.5"},
            },
            {"Subnet": "fd00:77::/64"},
        ],
    },
    "Internal": False,
    "Attachable": True,
    "Containers": {
        "4f": {"IPv4Address": "198.51.100.130/24", "IPv6Address": "fd00:77::2/64"},
        "5a": {"IPv4Address": ""},
    },
    "Options": {"com.docker.network.bridge.name": "br77"},
    "Labels": {"x": "y"},
}
FRONT = networks.settings(INSPECT)


def front(**changes) -> dict:
    return {**FRONT, **changes}


def pools(*subnets: str) -> list[dict]:
    return [{"subnet": subnet} for subnet in subnets]


def test_settings():
    assert FRONT == {
        "driver": "bridge",
        "driver_options": {"com.docker.network.bridge.name": "br77"},
        "ipam_driver": "default",
        "ipam_driver_options": {},
        "ipam_config": [
            {
                "subnet": "198.51.100.0/24",
                "iprange": "198.51.100.128/25",
                "gateway": "198.51.100.9",
                "aux_addresses": {"printer": "198.51.100.5"},
            },
            {"subnet": "fd00:77::/64"},
        ],
        "enable_ipv6": True,
        "internal": False,
        "attachable": True,
        "labels": {"x": "y"},
        "scope": "local",
        "used": ["198.51.100.130", "fd00:77::2"],
    }
    assert networks.subnets(FRONT) == ["198.51.100.0/24", "fd00:77::/64"]


def test_settings_of_other_versions():
    old = {"Driver": "bridge", "IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1/16"}]}}
    assert networks.settings(old)["ipam_config"] == [{"subnet": "172.18.0.0/16", "gateway": "172.18.0.1"}]
    assert "enable_ipv4" not in networks.settings({**INSPECT, "EnableIPv4": True})
    assert networks.settings({**INSPECT, "EnableIPv4": False})["enable_ipv4"] is False
    assert networks.settings({"Driver": "null", "IPAM": None})["ipam_config"] == []


@pytest.mark.parametrize(
    ("there", "addresses", "problem"),
    [
        ({}, ["198.51.100.7", "fd00:77::7"], ""),
        ({"labels": {}, "driver_options": {}, "attachable": False}, [], ""),
        ({"ipam_config": pools("10.0.0.0/8")}, [], ""),
        (
            {"ipam_config": pools("10.0.0.0/8")},
            ["198.51.100.7"],
            "its address 198.51.100.7 is not of the destination's network front (10.0.0.0/8)",
        ),
        ({}, ["198.51.100.7", "fd00:77::2"], "another container at the destination has its address fd00:77::2"),
        ({"driver": "macvlan"}, [], "the network front is a bridge at the source and a macvlan at the destination"),
        ({"internal": True}, [], "is without a way outside (internal) at the destination only"),
        ({"enable_ipv6": False}, [], "has no IPv6 at the destination"),
    ],
)
def test_a_network_of_the_same_name(there, addresses, problem):
    found = networks.difference("front", FRONT, front(**there), addresses)
    assert problem in found and bool(problem) == bool(found)


LAN = {"driver": "macvlan", "driver_options": {"parent": "eth0.10"}, "ipam_config": pools("192.0.2.0/24")}


@pytest.mark.parametrize(
    ("wanted", "others", "problem"),
    [
        ({}, {}, ""),
        ({}, {"back": front(driver_options={}, ipam_config=pools("198.51.101.0/24", "fd00:78::/64"))}, ""),
        (
            {"driver_options": {}},
            {"back": front(ipam_config=pools("198.51.0.0/16"))},
            "would have the subnet 198.51.100.0/24, which overlaps 198.51.0.0/16, as the destination's",
        ),
        ({"driver_options": {}}, {"back": FRONT}, "would have the subnet 198.51.100.0/24, as the destination's"),
        ({}, {"back": front(ipam_config=[])}, "would have the bridge br77, as the destination's network back has"),
        ({"scope": "swarm"}, {}, "belongs to a swarm"),
        ({"driver": "weave"}, {}, "has no driver weave for the network front"),
        (LAN, {}, ""),
        ({**LAN, "driver_options": {"parent": "eth1"}}, {}, "lies on eth1, and the destination has no such interface"),
        ({**LAN, "driver_options": {"parent": "eth0.x"}}, {}, "lies on eth0.x, and the destination has no such"),
        ({**LAN, "driver_options": {}}, {}, ""),
        (LAN, {"wan": front(**{**LAN, "ipam_config": []})}, "would have the interface eth0.10, as the destination's"),
        # Docker lets those two share an interface.
        (LAN, {"wan": front(**{**LAN, "driver": "ipvlan", "ipam_config": []})}, ""),
    ],
)
def test_a_network_to_make(wanted, others, problem):
    found = networks.hindrance("front", front(**wanted), server(configured=others))
    assert problem in found and bool(problem) == bool(found)


def server(**changes) -> networks.Server:
    facts = {"configured": {}, "drivers": ["bridge", "macvlan"], "interfaces": ["eth0", "lo"], "routes": []}
    return networks.Server(**{**facts, **changes})


def route(subnet: str, interface: str = "eth0") -> dict[str, str]:
    return {"subnet": subnet, "interface": interface}


@pytest.mark.parametrize(
    ("wanted", "where", "problem"),
    [
        ({}, route("192.0.2.0/24"), ""),
        ({}, route("198.51.100.0/24", "eth1"), "the subnet 198.51.100.0/24, which the destination reaches by eth1"),
        ({}, route("198.51.0.0/16"), "198.51.100.0/24, which overlaps 198.51.0.0/16, which the destination reaches"),
        ({}, route("198.51.100.77/32"), "198.51.100.0/24, which overlaps 198.51.100.77/32, which the destination"),
        ({}, route("fd00::/16"), "the subnet fd00:77::/64, which overlaps fd00::/16"),
        ({}, route("198.51.100.0/24", ""), "the subnet 198.51.100.0/24, which the destination reaches"),
        ({"internal": True}, route("198.51.100.0/24"), "which the destination reaches by eth0"),
        # It lies on a bridge that is there already, with its address.
        ({}, route("198.51.100.0/24", "br77"), ""),
        # The server itself is on that network outside.
        (LAN, route("192.0.2.0/24"), ""),
    ],
)
def test_a_network_where_the_server_has_a_route(wanted, where, problem):
    found = networks.hindrance("front", front(**wanted), server(routes=[where]))
    assert problem in found and bool(problem) == bool(found)


@pytest.mark.parametrize(
    "wanted",
    [
        {"driver": None},
        {"driver_options": ["parent"]},
        {"driver_options": {"parent": ["eth0"]}},
        {"labels": {"a": 7}},
        {"internal": "no"},
        {"ipam_config": [{}]},
        {"ipam_config": pools("192.0.2.0/240")},
        {"ipam_config": [{"subnet": 7}]},
        {"ipam_config": [{"subnet": "192.0.2.0/24", "aux_addresses": {"a": ["192.0.2.1"]}}]},
        {"ipam_config": [{"subnet": "192.0.2.0/24", "of_tomorrow": "x"}]},
        {"ipam_config": ["192.0.2.0/24"]},
        {"enable_ipv4": "yes"},
    ],
)
def test_what_is_no_network_is_not_made(wanted):
    found = networks.hindrance("front", front(**wanted), server())
    assert found == "the network front is not described as Docker describes one"
    assert networks.are_settings(FRONT) and not networks.are_settings([FRONT])
