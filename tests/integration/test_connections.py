# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of connections to a container that moves: they go on where its address moves, or are closed."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import wait_for
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
        lab.sh(node, f"docker ps -aq | xargs -r docker rm -f; docker network rm {LAN}")
    lab.sh("client", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")


def start_server(lab, *options: str) -> dict:
    """Starts the container on fog1; its endpoint."""
    lab.start("fog1", "mover", SERVER, "--network", LAN, *options)
    wait_for(lambda: ":7001" in lab.docker("fog1", "exec", "mover", "netstat", "-ltn"), "the server's ports")
    return lab.inspect("fog1", "mover")["NetworkSettings"]["Networks"][LAN]


def moved_to(lab, node: str, endpoint: dict, **extra) -> None:
    """Migrates the server; it has the same addresses on this node then."""
    lab.migrate("mover", **extra)
    assert lab.running_on("mover") == [node]
    now = lab.inspect(node, "mover")["NetworkSettings"]["Networks"][LAN]
    for key in ("IPAddress", "GlobalIPv6Address", "MacAddress"):
        assert now[key] == endpoint[key], key


def test_connections_there_and_back(lab, lan):
    """Three times, under load, with both families: every number comes once and in order, both ways."""
    endpoint = start_server(lab)
    addresses = [endpoint["IPAddress"], endpoint["GlobalIPv6Address"]]
    assert all(addresses)
    peers = Peers(lab, "client", *(f"{address}:{port}" for address in addresses for port in (7000, 7001)))
    for mode in ("precopy", "postcopy", "hybrid"):
        for node in ("fog2", "fog1"):
            moved_to(lab, node, endpoint, migration_mode=mode)
            peers.require_more()
    result = peers.end()
    assert [one["problem"] for one in result["connections"]] == [None] * 4, result
    assert result["resets"] == 0


# Sends frames of the container's from the destination as soon as the restore is ordered there.
ATTRACT = """
import glob, socket, sys, time
handle = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
handle.bind(("eth0", 0))
frame = bytes.fromhex("ff" * 6 + sys.argv[1].replace(":", "") + "88b5") + bytes(46)
while not glob.glob("/run/fog-migration/runtime/*/options"):
    time.sleep(0.001)
end = time.monotonic() + 3
while time.monotonic() < end:
    handle.send(frame)
    time.sleep(0.001)
print("attracted")
"""


def test_nobody_is_refused(lab, lan):
    """Not even where the switch lets the destination hear what is for the container before the container is there."""
    endpoint = start_server(lab)
    knock = Path(__file__).with_name("knock.py").read_text(encoding="utf-8")
    lab.sh("client", f"cat >/root/knock.py <<'END'\n{knock}\nEND")
    lab.sh("fog2", f"cat >/root/attract.py <<'END'\n{ATTRACT}\nEND")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    words = ["python3", "/root/knock.py", endpoint["IPAddress"], "7001"]
    knocking = subprocess.Popen([*lab.exec_command("client"), *words], **pipes)
    words = ["timeout", "120", "python3", "/root/attract.py", endpoint["MacAddress"]]
    attracting = subprocess.Popen([*lab.exec_command("fog2"), *words], **pipes)
    moved_to(lab, "fog2", endpoint)
    assert attracting.communicate(timeout=120)[0] == "attracted\n"
    seen = json.loads(knocking.communicate(timeout=30)[0])
    assert seen["opened"] > 100
    assert seen["refused"] == 0, seen
