# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""User-defined networks of a container that moves: found at the destination, made there, or in the way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from support.lab import RUNTIME, failure, wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"
FRONT = (
    "--subnet 198.51.100.0/24 --gateway 198.51.100.9 --ip-range 198.51.100.128/25 --aux-address printer=198.51.100.5 "
    "--ipv6 --subnet fd00:f09:7::/64 --label fog.test=a=b --attachable -o com.docker.network.bridge.name=fogfront "
    "-o com.docker.network.driver.mtu=1400 front"
)
BACK = "--subnet 203.0.113.0/24 --internal back"
# Whose MAC is of its own, on the network of the nodes without their addresses.
SIDE = "-d macvlan -o parent=eth0 --subnet 192.0.2.0/24 side"


@pytest.fixture
def networks(lab) -> Iterator[None]:
    """The networks on fog1, and afterwards none on either server."""
    own = "docker network ls -q --filter type=custom"
    for network in (FRONT, BACK, SIDE):
        lab.sh("fog1", f"docker network create {network}")
    lab.copy_image()
    yield
    for node in lab.servers():
        lab.sh(node, f"docker ps -aq | xargs -r docker rm -f; {own} | xargs -r docker network rm")
        assert lab.sh(node, own) == ""


def start(lab) -> dict:
    """Starts the container that is to move in all of them; its inspect data."""
    options = ["--network", "front", "--ip", "198.51.100.7", "--ip6", "fd00:f09:7::7", "--network-alias", "web"]
    options += ["--hostname", "keeper"]
    lab.start("fog1", "mover", COUNTER, *options, "--mac-address", "02:f0:90:00:00:07", "--publish", "18081:81")
    lab.docker("fog1", "network", "connect", "--alias", "store", "back", "mover")
    lab.docker("fog1", "network", "connect", "side", "mover")
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 5, "the first lines")
    return lab.inspect("fog1", "mover")


def made(lab, node: str) -> dict[str, dict]:
    """How the user-defined networks of a node were made, by name."""
    names = lab.docker(node, "network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").split()
    found = json.loads(lab.docker(node, "network", "inspect", *names)) if names else []
    # Each server numbers and dates its own, and has other containers in them. Docker before 28 has no network without
    # IPv4, and does not tell of it.
    told = [{"EnableIPv4": True, **one} for one in found]
    return {one["Name"]: {key: one[key] for key in one.keys() - {"Id", "Created", "Containers"}} for one in told}


# What was chosen, and what comes of it. An address on the macvlan is chosen by Docker at first, and given afterwards.
ENDPOINT = ("Links", "Aliases", "MacAddress", "IPAddress", "GlobalIPv6Address", "DriverOpts", "DNSNames")
# On this bridge, where nobody has given it one, Docker makes a MAC at each start, each version in its own way.
CHANGES = ("back", "MacAddress")


def endpoints(inspect: dict) -> dict[str, dict]:
    """The container's endpoints as far as they have to be the same, by network, but for its ID among the names."""
    short = inspect["Id"][:12]
    return {
        name: {key: _without(short, endpoint.get(key)) for key in ENDPOINT if (name, key) != CHANGES}
        for name, endpoint in inspect["NetworkSettings"]["Networks"].items()
    }


def _without(short: str, value):
    return sorted(one for one in value if one != short) if isinstance(value, list) else value or []


@pytest.mark.parametrize("mode", [pytest.param("cold", marks=pytest.mark.slow), "precopy"])
def test_networks_are_made(lab, networks, mode):
    before = start(lab)
    done = lab.migrate("mover", migration_mode=mode)
    assert "ok       networks           back, front, side will be made" in done.stdout
    assert lab.running_on("mover") == ["fog2"]
    assert made(lab, "fog2") == made(lab, "fog1")
    after = lab.inspect("fog2", "mover")
    assert endpoints(after) == endpoints(before)
    given = {"IPv4Address": "198.51.100.7", "IPv6Address": "fd00:f09:7::7"}
    assert after["NetworkSettings"]["Networks"]["front"]["IPAMConfig"] == given
    assert after["HostConfig"]["PortBindings"] == before["HostConfig"]["PortBindings"]
    # Both addresses answer, the alias is known, and what is inside is as it was.
    lab.sh("fog2", "ping -c 1 -W 5 198.51.100.7 && ping -c 1 -W 5 fd00:f09:7::7")
    lab.docker("fog2", "run", "--rm", "--network", "front", "busybox:lab", "ping", "-c", "1", "-W", "5", "web")
    # Which of its interfaces comes first, Docker 28 decides anew at each start.
    interface = re.search(r": (eth\d)\S* +inet 198.51.100.7/", lab.docker("fog2", "exec", "mover", "ip", "-o", "addr"))
    address = f"/sys/class/net/{interface.group(1)}/address"
    assert "02:f0:90:00:00:07" in lab.docker("fog2", "exec", "mover", "cat", address)

    # And back, where they are.
    lab.docker("fog1", "network", "rm", "back")
    back = lab.migrate("mover", migration_mode=mode)
    assert "the destination has front, side and back will be made" in back.stdout
    assert endpoints(lab.inspect("fog1", "mover")) == endpoints(before)
    assert made(lab, "fog1") == made(lab, "fog2")


def test_a_rollback_removes_what_was_made_and_is_not_used(lab, networks):
    before = start(lab)
    lab.sh("fog2", "docker network create --internal --subnet 203.0.113.0/25 back")
    lab.sh("fog2", f"cp {RUNTIME} /root/; sed -i 's/restore --detach/restore --nonsense/' {RUNTIME}")
    # As soon as it is there, another container is made in one of them, which does not run.
    watch = "until docker network inspect side; do sleep 0.1; done"
    lab.sh(
        "fog2", f"({watch}; docker create --name other --network side busybox:lab true) >/dev/null 2>&1 </dev/null &"
    )
    try:
        message = failure(lab.migrate("mover", check=False))
    finally:
        lab.sh("fog2", f"mv /root/fog-runc {RUNTIME}")
    assert "mover could not be moved" in message and "it runs on as before" in message
    assert lab.running_on("mover") == ["fog1"]
    assert list(made(lab, "fog2")) == ["back", "side"]
    assert endpoints(lab.inspect("fog1", "mover")) == endpoints(before)
