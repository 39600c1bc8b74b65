# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a container's network beside what Docker has made there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import pytest

from ansible_collections.fog.migration.plugins.module_utils.network import namespace, own_network
from ansible_collections.fog.migration.plugins.module_utils.network.namespace import Interface
from ansible_collections.fog.migration.plugins.module_utils.preflight import own_network as checks

# As Docker would have made it: one address, and a gateway.
DOCKERS = """
ip link add eth0 type bridge; ip link set eth0 address 02:42:ac:11:00:02; ip link set eth0 up; ip link set lo up
ip addr add 172.17.0.2/16 dev eth0; ip route add default via 172.17.0.1
"""
ENDPOINT = {
    "IPAddress": "172.17.0.2",
    "IPPrefixLen": 16,
    "Gateway": "172.17.0.1",
    "MacAddress": "02:42:ac:11:00:02",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "IPv6Gateway": "",
}


@pytest.fixture
def network():
    """C(network(script)) is a network namespace in which this was done, as its process."""
    if os.geteuid() or not all(map(shutil.which, ("unshare", "ip"))):
        pytest.skip("NOT TESTED: this needs root and the programs unshare and ip")
    running = []

    def network(script: str) -> int:
        words = ["unshare", "--net", "sh", "-ec", f"{script}\necho ready; exec sleep 60"]
        running.append(subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        told = running[-1].stdout.readline()
        if "Unknown device type" in told or "not supported" in told:
            pytest.skip(f"NOT TESTED: {told}")
        assert told == "ready\n"
        return running[-1].pid

    yield network
    for one in running:
        one.kill()
        one.communicate()


def look(process, *endpoints):
    return own_network.look(namespace.network_of(process), {str(n): one for n, one in enumerate(endpoints)})


def test_what_docker_has_made_is_nothing_of_its_own(network):
    assert look(network(DOCKERS), ENDPOINT) == own_network.OwnNetwork()
    assert look(network("ip link set lo up")) == own_network.OwnNetwork()


def test_what_was_added(network):
    script = """
ip addr add 10.77.0.1/24 dev lo; ip route add 10.78.0.0/24 via 172.17.0.9; ip route add blackhole 10.79.0.0/24
ip route add default via 172.17.0.9 table 100; ip rule add from 10.77.0.1 lookup 100
ip -6 addr add fd77::1/64 dev lo
"""
    found = look(network(DOCKERS + script), ENDPOINT)
    assert found.filters == ["the route blackhole 10.79.0.0/24"]
    assert found.settings == [
        "the address 10.77.0.1/24",
        "the address fd77::1/64",
        "the route 10.78.0.0/24 via 172.17.0.9",
        "the route default via 172.17.0.9 in the table 100",
        "the routing rule 32765",
    ]


def test_what_was_removed(network):
    found = look(network(DOCKERS + "ip route del default"), ENDPOINT)
    assert found.filters == ["no default route"]
    found = look(network(DOCKERS + "ip addr del 172.17.0.2/16 dev eth0"), ENDPOINT)
    assert found.filters == ["no address 172.17.0.2/16", "no default route"]


def test_interfaces_of_its_own():
    def interface(name, kind, mac="02:00:00:00:00:01"):
        return Interface(name, kind, bytes.fromhex(mac.replace(":", "")), 0, ())

    there = [
        interface("eth0", "veth", ENDPOINT["MacAddress"]),
        interface("tun0", "tun", ""),
        interface("wg0", "wireguard", ""),
        interface("sit0", "sit", ""),
    ]
    assert own_network.own_interfaces(there, [ENDPOINT]) == ["the interface tun0", "the interface wg0"]
    assert own_network.own_interfaces([interface("eth0", "ipvlan")], [{"MacAddress": ""}]) == []


DNS = """
{0} -t nat -N DOCKER_OUTPUT; {0} -t nat -A OUTPUT -d 127.0.0.11 -j DOCKER_OUTPUT
{0} -t nat -A DOCKER_OUTPUT -d 127.0.0.11 -p tcp --dport 53 -j DNAT --to-destination 127.0.0.11:4444
"""


@pytest.mark.parametrize("iptables", ["iptables-nft", "iptables-legacy"])
def test_packet_filters(network, iptables):
    if not shutil.which(iptables):
        pytest.skip(f"NOT TESTED: there is no {iptables} here")
    # That leads to Docker's resolver.
    script = DNS.format(iptables)
    assert look(network(script)).filters == []
    script += f"{iptables} -A INPUT -p tcp --dport 22 -j DROP; {iptables} -P FORWARD DROP"
    table = "ip filter" if iptables == "iptables-nft" else "iptables filter"
    assert look(network(script)).filters == [f"1 rules and a policy of drop in the table {table}"]


def test_multicast_groups(network):
    process = network("ip link set lo up")

    def join():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + bytes(4) + b"\1\0\0\0"
        )
        return sock

    assert look(process).groups == []
    with namespace.inside(namespace.network_of(process), join):
        assert look(process).groups == ["239.1.2.3 on lo"]


def test_groups_of_every_host():
    igmp = (
        "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n"
        "46\teth0      :     2      V3\n"
        "\t\t\t\tFB0000E0     1 0:00000000\t\t0\n"
        "\t\t\t\t010000E0     1 0:00000000\t\t0\n"
    )
    igmp6 = """46   eth0            ff0200000000000000000001ff110002     1 00000004 0
46   eth0            ff020000000000000000000000000001     1 0000000C 0
46   eth0            ff0200000000000000000000000000fb     1 00000004 0
"""
    assert own_network.groups(igmp, igmp6) == ["224.0.0.251 on eth0", "ff02::fb on eth0"]
    assert own_network.groups("", "") == []


def test_what_is_lost_of_a_filter_is_refused():
    own = {"filters": ["1 rules in the table ip filter"], "settings": [f"the address 10.0.0.{n}/8" for n in range(7)]}
    filters, settings, groups = checks.checks({**own, "groups": []})
    assert "1 rules in the table ip filter" in filters.problem and not filters.warning
    assert settings.problem.endswith("10.0.0.4/8, 2 more") and settings.warning
    assert not groups.problem
