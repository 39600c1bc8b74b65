# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a container's connections when it moves: they go on where its address moves with it, or are closed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest
from lab import IMAGE, wait_for
from peer import Peers

pytestmark = pytest.mark.lab

LAN = "lan"
LAN6 = "fd00:f09:1::/64"
# Counts as fast as it is listened to on one port, and says what it hears on the other.
SERVER = """
nc -ll -p 7000 -e sh -c 'n=0; while echo $n; do n=$((n+1)); done' &
exec nc -ll -p 7001 -e cat
"""


@pytest.fixture
def lan(lab) -> Iterator[str]:
    """A macvlan network over the nodes' common one, on both servers, and the client in it. Its IPv4 subnet."""
    subnet = str(ipaddress.ip_interface(lab.hostvars["fog1"]["ansible_host"] + "/24").network)
    prefix = subnet.rpartition(".")[0]
    options = ["--subnet", subnet, "--gateway", f"{prefix}.1", "--ip-range", f"{prefix}.192/26"]
    for node in lab.servers():
        lab.docker(node, "network", "rm", LAN, check=False)
        words = ["network", "create", "-d", "macvlan", *options, "--ipv6", "--subnet", LAN6, "-o", "parent=eth0", LAN]
        lab.docker(node, *words)
    lab.sh("client", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0")
    lab.sh("client", f"ip -6 address replace {LAN6.replace('::', '::101')} dev eth0 nodad")
    yield subnet
    for node in lab.servers():
        lab.docker(node, "ps", "-aq")
        lab.sh(node, f"docker ps -aq | xargs -r docker rm -f; docker network rm {LAN}")
    lab.sh("client", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")


def start_server(lab, *options: str) -> dict:
    """Starts the container on fog1; its endpoint."""
    lab.start("fog1", "mover", SERVER, "--network", LAN, *options)
    wait_for(lambda: ":7001" in lab.docker("fog1", "exec", "mover", "netstat", "-ltn"), "the server's ports")
    return lab.inspect("fog1", "mover")["NetworkSettings"]["Networks"][LAN]


def test_connections_there_and_back(lab, lan):
    """Three times, under load, with both families: every number comes once and in order, both ways."""
    endpoint = start_server(lab)
    addresses = [endpoint["IPAddress"], endpoint["GlobalIPv6Address"]]
    assert IMAGE and all(addresses)
    peers = Peers(lab, "client", *(f"{address}:{port}" for address in addresses for port in (7000, 7001)))
    seen = [connection["numbers"] for connection in peers.seen()]
    for _round in range(3):
        for node in ("fog2", "fog1"):
            lab.migrate("mover", migration_mode="postcopy")
            assert lab.running_on("mover") == [node]
            now = lab.inspect(node, "mover")["NetworkSettings"]["Networks"][LAN]
            for key in ("IPAddress", "GlobalIPv6Address", "MacAddress"):
                assert now[key] == endpoint[key], key
            # They go on at once, and not only when something else has come.
            wait_for(
                lambda before=seen: all(one["numbers"] > old for one, old in zip(peers.seen(), before, strict=True)),
                f"more numbers from {node}: {peers.seen()}",
            )
            seen = [connection["numbers"] for connection in peers.seen()]
    result = peers.end()
    assert [one["problem"] for one in result["connections"]] == [None] * 4, result
    assert result["resets"] == 0
    print(result)
