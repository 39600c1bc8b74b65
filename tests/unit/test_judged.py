# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the preflight has judged, and what arrives: by digests of the parts that are judged."""

from __future__ import annotations

import copy
import json

import pytest
from inspected import INSPECT, changed, digests_of
from refusal_cases import recorded

from ansible_collections.fog.migration.plugins.module_utils.docker import judged
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.policy import known

VOLUME = {"Name": "data", "Driver": "local", "Options": None, "Labels": {}, "CreatedAt": "2026-11-21T04:15:00Z"}
JUDGED = digests_of(INSPECT, [VOLUME])


def test_the_same_is_the_same():
    judged.require(JUDGED, INSPECT, [VOLUME])
    judged.require(json.loads(json.dumps(JUDGED)), json.loads(json.dumps(INSPECT)), [{**VOLUME, "Options": {}}])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("State", {"Running": True, "Status": "paused", "Health": {"Status": "starting", "FailingStreak": 2}}),
        ("RestartCount", 7),
        ("HostConfig.RestartPolicy", {"Name": "no"}),
        ("HostConfig.Memory", 2**30),
        ("NetworkSettings.Networks", {"bridge": {"IPAMConfig": None, "IPAddress": "172.17.0.9", "Gateway": "x"}}),
        ("HostConfig.CapAdd", []),
        ("HostConfig.PidsLimit", 100),
        ("HostConfig.CpuShares", 512),
        ("HostConfig.BlkioWeight", 300),
        ("HostConfig.Links", []),
    ],
)
def test_what_changes_while_it_runs_is_not_compared(path, value):
    judged.require(JUDGED, changed(path, value), [VOLUME])


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("HostConfig.Privileged", True, "HostConfig.Privileged"),
        ("HostConfig.Binds", ["/etc:/data"], "HostConfig.Binds"),
        ("HostConfig.NetworkMode", "host", "HostConfig.NetworkMode"),
        ("HostConfig.OfTomorrow", "x", "HostConfig.OfTomorrow"),
        ("HostConfig.Sysctls", {"net.ipv4.ip_forward": "1"}, "HostConfig.Sysctls"),
        ("HostConfig.ExtraHosts", ["db:192.0.2.1"], "HostConfig.ExtraHosts"),
        ("HostConfig.LogConfig", {"Type": "gelf", "Config": {}}, "HostConfig.LogConfig"),
        ("HostConfig.OomScoreAdj", -1000, "HostConfig.OomScoreAdj"),
        ("HostConfig.maskedpaths", [], "HostConfig.maskedpaths"),
        ("HostConfig.PortBindings", {"80/tcp": [{"HostIp": "", "HostPort": "22"}]}, "its ports"),
        ("HostConfig.MaskedPaths", [], "HostConfig.MaskedPaths"),
        ("Config.OfTomorrow", "x", "Config.OfTomorrow"),
        ("Config.User", "root", "its user"),
        ("Image", "sha256:bbb", "its image"),
        ("NetworkSettings.Networks", {"bridge": {}, "lan": {}}, "its endpoints, its fixed addresses, its networks"),
        (
            "NetworkSettings.Networks",
            {"bridge": {"IPAMConfig": {"IPv4Address": "192.0.2.1"}}},
            "its fixed addresses",
        ),
        ("NetworkSettings.Networks", {"bridge": {"MacAddress": "02:42:ac:11:00:09"}}, "its endpoints"),
        ("NetworkSettings.Networks", {"bridge": {"Aliases": ["db"]}}, "its endpoints"),
        ("NetworkSettings.Networks", {"bridge": {"Links": ["db:web"]}}, "its endpoints"),
        ("NetworkSettings.Networks", {"bridge": {"DriverOpts": {"a": "b"}}}, "its endpoints"),
        ("NetworkSettings.Networks", {"bridge": {"GwPriority": 7}}, "its endpoints"),
        ("Config.MacAddress", "02:42:ac:11:00:09", "its hardware address"),
        ("Mounts", [], "the mount at /data"),
        ("Mounts", [{**INSPECT["Mounts"][0], "Source": "/etc"}], "the mount at /data"),
        ("Mounts", [{**INSPECT["Mounts"][0], "Name": "other"}], "the mount at /data"),
        ("Mounts", [{**INSPECT["Mounts"][0], "RW": False}], "the mount at /data"),
        # The first of them is hidden behind the second one, which was judged.
        ("Mounts", [{"Type": "bind", "Source": "/etc", "Destination": "/data"}, INSPECT["Mounts"][0]], "the mount at"),
    ],
)
def test_anything_else_is_named(path, value, part):
    with pytest.raises(MigrationError) as refused:
        judged.require(JUDGED, changed(path, value), [VOLUME])
    assert refused.value.what.startswith(
        f"what arrived of the container is not what the preflight has judged: other are {part}"
    )
    assert refused.value.state == "nothing was made of it"


@pytest.mark.parametrize(
    "volumes",
    [
        [],
        [VOLUME, {**VOLUME, "Name": "more"}],
        [VOLUME, VOLUME],
        [{**VOLUME, "Options": {"type": "none", "o": "bind", "device": "/etc"}}],
        [{**VOLUME, "Driver": "rexray"}],
    ],
)
def test_volumes_are_those_that_were_judged(volumes):
    with pytest.raises(MigrationError, match=r"judged: other are the volume (data|more)$"):
        judged.require(JUDGED, INSPECT, volumes)


def test_an_anonymous_volume_is_told_of_by_the_source_only():
    """The source does not send how it was made, since nobody makes it again."""
    mount = {"Type": "volume", "Name": "a" * 64, "Source": "/v/a", "Destination": "/data"}
    inspect = changed("Mounts", [mount])
    judged.require(digests_of(inspect, [{"Name": "a" * 64, "Driver": "local"}]), inspect, [])


def test_names_in_any_order_are_the_same_names():
    """Docker before 25 calls a container by its own ID as well, and this one has another ID once it was restored."""
    one, other = (changed("NetworkSettings.Networks", {"bridge": {"Aliases": names}}) for names in (["a", "b"], ["b"]))
    other["NetworkSettings"]["Networks"]["bridge"]["Aliases"] += [INSPECT["Id"][:12], "a"]
    judged.require(digests_of(one, []), other, [])


NETWORK = {"driver": "bridge", "driver_options": {}, "ipam_config": [{"subnet": "192.0.2.0/24"}], "used": []}


def test_networks_that_are_made_are_those_that_were_judged():
    digests = judged.of_networks({"front": NETWORK, "back": NETWORK})
    judged.require_networks(digests, {"front": {**NETWORK, "used": ["192.0.2.2"]}})
    # They are made before a container arrives.
    judged.require({**JUDGED, **digests}, INSPECT, [VOLUME])
    for other in ({"front": {**NETWORK, "driver": "macvlan"}}, {"side": NETWORK}):
        with pytest.raises(MigrationError, match="that would be made is not what the preflight has judged"):
            judged.require_networks(digests, other)


def test_a_long_list_of_a_source_is_cut():
    host = {**INSPECT["HostConfig"], **{f"{number}\n{'x' * 1000}": 1 for number in range(100)}}
    with pytest.raises(MigrationError) as refused:
        judged.require(JUDGED, {**INSPECT, "HostConfig": host}, [VOLUME])
    assert refused.value.what.endswith(" and 95 more")
    assert "\n" not in refused.value.what and len(refused.value.what) < 500


def test_all_that_the_policy_judges_is_compared():
    """A value for each key that may make a difference for the destination makes another digest."""
    for key in known.JUDGED:
        host = {**INSPECT["HostConfig"], key: "another value"}
        asks = digests_of_asks(host)
        assert asks.get(f"HostConfig.{key}") != JUDGED.get(f"HostConfig.{key}"), key


def digests_of_asks(host):
    facts = {**judged.facts_of(INSPECT), "mounts": []}
    return judged.digests({**facts, "asks": {"inspect": {"HostConfig": host}, "volumes": []}})


class Odd(dict):
    """As Ansible hands values to a filter: a mapping that shows its values to those only who ask for them."""

    def items(self):
        return [(key, "shown") for key in self]


def test_values_of_ansible_are_as_it_shows_them():
    container = {"asks": {"inspect": {"HostConfig": {"Privileged": Odd(a="hidden")}}, "volumes": []}, "mounts": []}
    plain = copy.deepcopy(container)
    plain["asks"]["inspect"]["HostConfig"]["Privileged"] = {"a": "shown"}
    facts = judged.facts_of(INSPECT)
    assert judged.digests({**facts, **container}) == judged.digests({**facts, **plain})


def test_what_real_servers_have_told():
    described = recorded()["fog1"]["described"]
    found = {name: judged.digests(container) for name, container in described.items() if container}
    assert len(found) > 10
    assert len({json.dumps(one, sort_keys=True) for one in found.values()}) > 5
    assert "the mount at /data" in found["voluminous"] and "the volume data" in found["voluminous"]
