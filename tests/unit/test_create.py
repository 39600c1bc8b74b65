# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the new container is made of."""

from __future__ import annotations

import pytest
from inspected import INSPECT, changed

from ansible_collections.fog.migration.plugins.module_utils.docker import (
    container_facts,
    create,
)


def test_the_tag_is_used_only_where_it_means_the_same_image():
    assert create.image_reference(INSPECT, {"busybox:lab": "sha256:aaa"}) == "busybox:lab"
    assert create.image_reference(INSPECT, {"busybox:lab": "sha256:bbb"}) == "sha256:aaa"
    assert create.image_reference(INSPECT, {}) == "sha256:aaa"


def test_the_new_container_has_everything_but_its_restart_policy():
    body, more = create.creation_body(INSPECT, "busybox:lab")
    assert more == {}
    assert body["Image"] == "busybox:lab"
    assert body["Env"] == ["A=1"]
    assert body["Hostname"] == "4f9d1c000000"
    assert body["HostConfig"]["Memory"] == 67108864
    assert body["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    assert body["HostConfig"]["Links"] == ["db:database"]
    assert "Devices" not in body["HostConfig"]
    assert "NetworkingConfig" not in body


def test_our_runtime_is_for_a_container_that_is_armed_only():
    assert "Runtime" not in create.creation_body(INSPECT, "i")[0]["HostConfig"]
    assert create.creation_body(INSPECT, "i", armed=True)[0]["HostConfig"]["Runtime"] == "fog-runc"
    moved = changed("HostConfig.Runtime", "fog-runc")
    assert create.creation_body(moved, "i")[0]["HostConfig"]["Runtime"] == ""
    kata = changed("HostConfig.Runtime", "kata")
    assert create.creation_body(kata, "i")[0]["HostConfig"]["Runtime"] == "kata"


def test_user_defined_networks_keep_what_was_configured_and_only_that():
    inspect = changed("HostConfig.NetworkMode", "lan")
    inspect["NetworkSettings"]["Networks"] = {
        "lan": {
            "Aliases": ["web", "4f9d1c000000"],
            "IPAMConfig": {"IPv4Address": "10.1.0.7"},
            "IPAddress": "10.1.0.7",
            "EndpointID": "ee",
        },
        "other": {"Aliases": None, "IPAMConfig": None, "DriverOpts": {"a": "b"}},
    }
    body, more = create.creation_body(inspect, "i")
    wanted = {"lan": {"IPAMConfig": {"IPv4Address": "10.1.0.7"}, "Aliases": ["web"]}}
    assert body["NetworkingConfig"]["EndpointsConfig"] == wanted
    assert more == {"other": {"DriverOpts": {"a": "b"}}}


def test_on_a_network_outside_it_has_the_addresses_that_docker_chose():
    inspect = changed("HostConfig.NetworkMode", "lan")
    endpoint = {
        "IPAMConfig": None,
        "IPAddress": "192.0.2.5",
        "GlobalIPv6Address": "fd00::5",
        "MacAddress": "02:42:c0:00:02:05",
    }
    inspect["NetworkSettings"]["Networks"] = {"lan": endpoint, "wifi": endpoint, "bridge": endpoint}
    body, more = create.creation_body(inspect, "i", drivers={"lan": "macvlan", "wifi": "ipvlan"})
    both = {"IPv4Address": "192.0.2.5", "IPv6Address": "fd00::5"}
    mac = {"MacAddress": "02:42:c0:00:02:05"}
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"lan": {"IPAMConfig": both, **mac}}
    assert body["MacAddress"] == mac["MacAddress"]
    assert more == {"wifi": {"IPAMConfig": both}, "bridge": {}}
    assert container_facts.addresses(inspect)["lan"] == ["192.0.2.5", "fd00::5"]
    assert container_facts.fixed_addresses(inspect)["lan"] == []
    endpoint["IPAMConfig"] = {"IPv4Address": "192.0.2.5"}
    assert container_facts.fixed_addresses(inspect)["lan"] == ["192.0.2.5"]


BY_DOCKER, OTHER = "02:42:ac:12:00:05", "9a:01:02:03:04:05"


@pytest.mark.parametrize(
    ("mac", "given", "driver", "kept"),
    [
        # Docker before 28 makes it from the address, from 28 on by chance.
        (BY_DOCKER, "", "bridge", False),
        (OTHER, "", "bridge", False),
        (OTHER, OTHER, "bridge", True),
        (BY_DOCKER, BY_DOCKER, "bridge", True),
        (BY_DOCKER, "", "macvlan", True),
        (OTHER, OTHER, "ipvlan", False),
        # Where the first one may still run.
        (OTHER, "", None, False),
        ("", "", "bridge", False),
    ],
)
def test_the_mac_that_was_given(mac, given, driver, kept):
    inspect = changed("HostConfig.NetworkMode", "lan")
    inspect["Config"]["MacAddress"] = given
    inspect["NetworkSettings"]["Networks"] = {"lan": {"IPAddress": "172.18.0.5", "MacAddress": mac}}
    body, _more = create.creation_body(inspect, "i", drivers={"lan": driver} if driver else {})
    assert body["NetworkingConfig"]["EndpointsConfig"]["lan"].get("MacAddress") == (mac if kept else None)
    assert body["MacAddress"] == (mac if kept else given)


@pytest.mark.parametrize(("mac", "kept"), [(BY_DOCKER, False), (OTHER, True)])
def test_the_mac_in_another_network(mac, kept):
    """Inspect does not tell whether it was given."""
    inspect = changed("HostConfig.NetworkMode", "lan")
    endpoint = {"IPAddress": "172.18.0.5", "MacAddress": mac}
    inspect["NetworkSettings"]["Networks"] = {"lan": endpoint, "other": endpoint}
    _body, more = create.creation_body(inspect, "i", drivers={"lan": "bridge", "other": "bridge"})
    assert more["other"].get("MacAddress") == (mac if kept else None)
    drivers = {"lan": "bridge", "other": "bridge"}
    body, none = create.creation_body(inspect, "i", drivers=drivers, at_once=True)
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"lan": {}, **more} and none == {}


@pytest.mark.parametrize(
    ("mode", "mode_then", "first", "more"),
    [
        ("default", "default", None, ["front"]),
        ("bridge", "bridge", "bridge", ["front"]),
        ("front", "front", "front", ["bridge"]),
        ("4f9d1c0a2b3c4d5e", "front", "front", ["bridge"]),
        ("container:db", "container:db", None, []),
        ("host", "host", None, []),
    ],
)
def test_every_network_is_joined(mode, mode_then, first, more):
    inspect = changed("HostConfig.NetworkMode", mode)
    both = {"bridge": {"NetworkID": "aa"}, "front": {"NetworkID": "4f9d1c0a2b3c4d5e6f"}}
    inspect["NetworkSettings"]["Networks"] = {} if mode in ("host", "container:db") else both
    body, further = create.creation_body(inspect, "i")
    assert body["HostConfig"]["NetworkMode"] == mode_then
    assert list(body.get("NetworkingConfig", {}).get("EndpointsConfig", {})) == ([first] if first else [])
    assert list(further) == more


def test_no_container_of_the_destination_lends_it_volumes():
    """One of that name may be there by chance."""
    body, _more = create.creation_body(changed("HostConfig.VolumesFrom", ["data"]), "i")
    assert "VolumesFrom" not in body["HostConfig"]
    assert [(one["Target"], one["Source"]) for one in body["HostConfig"]["Mounts"] if one["Type"] == "volume"] == [
        ("/data", "data")
    ]
