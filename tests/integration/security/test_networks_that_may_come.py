# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that would be made for a container that comes, and that reach into its destination."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import judged
from support import policy
from support.lab import failure
from support.sequences import counted

pytestmark = pytest.mark.lab

SCRIPT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"
BRIDGE = "com.docker.network.bridge.name"
# The words of C(docker network create), and why the destination makes no such network without a line of its policy.
REACHING = {
    "an interface": ("-d macvlan -o parent=eth0", "of the driver macvlan on eth0 of the server", "macvlan:eth0"),
    "a bridge": (f"-o {BRIDGE}=docker7", f"the option {BRIDGE}=docker7", f"option:{BRIDGE}=docker7"),
}


@pytest.fixture
def front(lab) -> Iterator:
    """Makes the network on fog1 with these words, and starts the counter in it. Afterwards it is nowhere."""

    def make(words: str, subnet: str = "198.51.100.0/24") -> None:
        lab.docker("fog1", "network", "create", "--subnet", subnet, *words.split(), "front")
        lab.start("fog1", "looper100", SCRIPT, "--network", "front")
        counted(lab, "fog1", "looper100", 10)

    yield make
    for node in lab.servers():
        lab.sh(node, "docker rm -f looper100; docker network rm front", check=False)


def networks(lab, node: str) -> list[str]:
    return lab.docker(node, "network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").split()


@pytest.mark.parametrize("mode", ["cold", "precopy"])
@pytest.mark.parametrize("what", REACHING)
def test_what_the_destination_does_not_allow_is_not_made(lab, front, what, mode):
    words, why, line = REACHING[what]
    front(words)
    with policy.allowed(lab, "fog2", networks=[]):
        message = failure(lab.migrate("looper100", check=False, migration_mode=mode))
        assert "its network front would" in message and why in message, message
        assert f"(allowed by networks: ['{line}'])" in message, message
        assert lab.running_on("looper100") == ["fog1"] and networks(lab, "fog2") == []
    with policy.allowed(lab, "fog2", networks=[line]):
        lab.migrate("looper100", migration_mode=mode)
    assert lab.running_on("looper100") == ["fog2"] and networks(lab, "fog2") == ["front"]


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_addresses_of_the_server_are_not_taken(lab, front, mode):
    front("")
    lab.sh("fog2", "ip link add fogroute type veth peer fogpeer && ip link set fogroute up")
    lab.sh("fog2", "ip route add 198.51.0.0/16 dev fogroute")
    try:
        message = failure(lab.migrate("looper100", check=False, migration_mode=mode))
        assert (
            "the network front would have the subnet 198.51.100.0/24, which overlaps 198.51.0.0/16, "
            "which the destination reaches by fogroute"
        ) in message, message
        assert lab.running_on("looper100") == ["fog1"] and networks(lab, "fog2") == []
    finally:
        lab.sh("fog2", "ip link del fogroute")
    lab.migrate("looper100", migration_mode=mode)
    assert lab.running_on("looper100") == ["fog2"]


def test_what_was_not_judged_is_not_made(lab, front):
    """The last look, where the controller has been told something else than what it asks for."""
    front("--internal")
    settings = lab.module("fog1", "server_info", gather_subset=["networks"])["network_settings"]["front"]
    digests = judged.of_networks({"front": settings})

    def create(judged=None, **changes: object) -> dict:
        return lab.module("fog2", "network_create", networks={"front": {**settings, **changes}}, judged=judged)

    with policy.allowed(lab, "fog2", networks=[]):
        for changes, why in (
            ({"internal": False, "judged": digests}, "the network front that would be made is not what the preflight"),
            ({"driver": "macvlan", "driver_options": {"parent": "eth0"}}, "macvlan on eth0 of the server"),
            ({"driver_options": {BRIDGE: "docker7"}}, f"the option {BRIDGE}=docker7"),
            ({"ipam_driver": "fog"}, "addresses of the driver fog"),
            ({"ipam_config": [{"subnet": "172.17.0.0/16"}]}, "as the destination's network bridge has"),
            ({"ipam_config": [{"subnet": f"{lab.hostvars['fog2']['ansible_host']}/32"}]}, "the destination reaches by"),
            ({"ipam_config": [{"subnet": "all"}]}, "is not described as Docker describes one"),
        ):
            result = create(**changes)
            assert result["failed"] and why in result["msg"], result
            assert networks(lab, "fog2") == []
        assert create(judged=digests)["made"] == ["front"] and networks(lab, "fog2") == ["front"]
        assert not create(judged=digests)["changed"]
