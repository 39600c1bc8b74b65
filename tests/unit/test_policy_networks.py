# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which networks a policy lets be made for a container that comes, and where the routes of a server lead."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import networks
from ansible_collections.fog.migration.plugins.module_utils.network import routes
from ansible_collections.fog.migration.plugins.module_utils.network.routes import Route
from ansible_collections.fog.migration.plugins.module_utils.policy import judge_networks
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy

BRIDGE = "com.docker.network.bridge"


def told(policy=None, **changes):
    wanted = networks.settings({"Driver": "bridge", "IPAM": {"Config": [{"Subnet": "198.51.100.0/24"}]}})
    assert networks.are_settings(wanted)
    return judge_networks.refusals(policy or Policy(), {"front": {**wanted, **changes}})


@pytest.mark.parametrize(
    "usual",
    [
        {},
        {"internal": True, "enable_ipv6": True, "attachable": True, "labels": {"a": "b"}},
        {"driver_options": {"com.docker.network.driver.mtu": "1400", f"{BRIDGE}.enable_icc": "false"}},
        {"driver_options": {f"{BRIDGE}.enable_ip_masquerade": "false", f"{BRIDGE}.host_binding_ipv4": "127.0.0.1"}},
        {"driver_options": {f"{BRIDGE}.gateway_mode_ipv4": "routed", "com.docker.network.enable_ipv6": "true"}},
    ],
)
def test_a_bridge_of_its_own_may_be_made(usual):
    assert told(**usual) == []


@pytest.mark.parametrize(
    ("asked", "problem", "line"),
    [
        (
            {"driver": "macvlan", "driver_options": {"parent": "eth0"}},
            "its network front would be one of the driver macvlan on eth0 of the server",
            "macvlan:eth0",
        ),
        ({"driver": "ipvlan", "driver_options": {"parent": "eth0.10"}}, "ipvlan on eth0.10", "ipvlan:eth0.*"),
        ({"driver": "macvlan"}, "one of the driver macvlan (", "macvlan"),
        ({"driver": "weave"}, "one of the driver weave (", "weave"),
        # Docker's driver takes no notice of it today.
        ({"driver_options": {"parent": "eth0"}}, "of the driver bridge on eth0", "bridge:eth0"),
        ({"driver_options": {f"{BRIDGE}.name": "br0"}}, f"option {BRIDGE}.name=br0", f"option:{BRIDGE}.name=br[0-9]"),
        ({"driver_options": {f"{BRIDGE}.trusted_host_interfaces": "eth1"}}, "trusted_host", f"option:{BRIDGE}.t*"),
        (
            {"driver_options": {f"{BRIDGE}.gateway_mode_ipv4": "nat-unprotected"}},
            "=nat-unprotected",
            f"option:{BRIDGE}.gateway_mode_ipv?=*",
        ),
        ({"driver_options": {"com.docker.network.host_ipv4": "192.0.2.9"}}, "host_ipv4", "option:*host_ipv4=192.0.2.*"),
        ({"driver_options": {"Parent": "eth0"}}, "option Parent=eth0", "option:Parent=eth0"),
        ({"driver_options": {"of.tomorrow": "x"}}, "option of.tomorrow=x", "option:of.*"),
        ({"ipam_driver": "infoblox"}, "addresses of the driver infoblox", "ipam:infoblox"),
        ({"ipam_driver_options": {"com.docker.network.driver.mtu": "1"}}, "option com.docker", "option:com.docker.*"),
    ],
)
def test_what_only_a_line_of_the_policy_allows(asked, problem, line):
    (refusal,) = told(**asked)
    assert problem in str(refusal) and refusal.allow.startswith("networks: ['")
    assert told(Policy(networks=(line,)), **asked) == []
    assert told(Policy(networks=("none",)), **asked) == [refusal]


def test_a_mode_that_takes_the_whole_interface_wants_a_line_of_its_own():
    taking = {"driver": "macvlan", "driver_options": {"parent": "eth0", "macvlan_mode": "passthru"}}
    (refusal,) = told(Policy(networks=("macvlan:eth0",)), **taking)
    assert "option macvlan_mode=passthru" in refusal.problem
    usual = {"driver": "macvlan", "driver_options": {"parent": "eth0", "macvlan_mode": "private"}}
    assert told(Policy(networks=("macvlan:eth0",)), **usual) == []


def test_names_of_a_source_are_one_line():
    (refusal,) = told(driver="x\n\x1b[2J" + "y" * 10_000)
    assert str(refusal).isprintable() and len(str(refusal)) < 300


# Routes


def net(text: str):
    return ipaddress.ip_network(text)


def test_which_routes_tell_something():
    found = [
        *(Route(net(one), "eth0") for one in ("0.0.0.0/0", "192.0.2.0/24", "192.0.2.7/32", "fe80::/64", "::/0")),
        *(Route(net(one), "tun0") for one in ("0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "2000::/3", "fd00:1::/64")),
        Route(net("198.51.100.1/32"), "lo"),
    ]
    told = [(str(one.to), one.interface) for one in routes.telling(found)]
    assert told == [
        ("10.0.0.0/8", "tun0"),
        ("192.0.2.0/24", "eth0"),
        ("198.51.100.1/32", "lo"),
        ("fd00:1::/64", "tun0"),
    ]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="NOT TESTED: this needs root and ip")
def test_routes_of_a_real_server():
    """One of another table, an address, and one that leads to nobody."""
    program = "from ansible_collections.fog.migration.plugins.module_utils.network import routes; print(routes.facts())"
    script = """
ip link set lo up && ip address add 192.0.2.7/32 dev lo && ip address add fd00:9::1/64 dev lo nodad
ip route add 198.51.100.0/24 dev lo table 77 && ip route add blackhole 203.0.113.0/24
exec python3 -c "$0"
"""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", script, program],
        check=True,
        capture_output=True,
        text=True,
        cwd=os.path.join(os.path.dirname(__file__), "..", "..", "playbooks", "collections"),
    )
    for told in (
        {"subnet": "127.0.0.0/8", "interface": "lo"},
        {"subnet": "192.0.2.7/32", "interface": "lo"},
        {"subnet": "198.51.100.0/24", "interface": "lo"},
        {"subnet": "203.0.113.0/24", "interface": ""},
        {"subnet": "fd00:9::/64", "interface": "lo"},
    ):
        assert str(told) in done.stdout, done.stdout
