# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers can be checkpointed, and what the new container is made of."""

from __future__ import annotations

import copy

import pytest

from ansible_collections.fog.migration.plugins.module_utils import validate
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import refusals
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    container_facts,
    create,
    mounts,
    restart_policy,
)

DAEMON = {"version": "26.1.5", "experimental": True}
INSPECT = {
    "Id": "4f9d1c" + "0" * 58,
    "Name": "/looper100",
    "Image": "sha256:aaa",
    "State": {"Running": True, "Status": "running"},
    "Config": {"Image": "busybox:lab", "Tty": False, "Env": ["A=1"], "Hostname": "4f9d1c000000", "Volumes": None},
    "HostConfig": {
        "AutoRemove": False,
        "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
        "NetworkMode": "default",
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/udp": [{"HostIp": "", "HostPort": ""}]},
        "Links": ["/db:/looper100/database"],
        "Memory": 67108864,
        "Devices": None,
    },
    "NetworkSettings": {"Networks": {"bridge": {"Aliases": None, "IPAMConfig": None}}},
    "Mounts": [
        {"Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data", "Destination": "/data"},
        {"Type": "tmpfs", "Destination": "/tmp"},
    ],
}


def changed(path, value):
    """INSPECT with one value changed; I(path) is a dotted path."""
    inspect = copy.deepcopy(INSPECT)
    *folders, last = path.split(".")
    place = inspect
    for folder in folders:
        place = place[folder]
    place[last] = value
    return inspect


@pytest.mark.parametrize("name", ["ab", "looper100", "a.b-c_d", "0a"])
def test_good_names(name):
    assert validate.name_refusal("the checkpoint", name) is None


@pytest.mark.parametrize("name", ["", "a", "a/b", "../ab", "-ab", ".ab", "a b", "ab\n", "ä1"])
def test_bad_names(name):
    assert "refused by Docker" in validate.name_refusal("the checkpoint", name)


def test_a_running_container_is_not_refused():
    assert refusals.checkpoint_refusal(INSPECT, DAEMON, "4.2.1", False, leave_running=False) is None


@pytest.mark.parametrize(
    ("inspect", "daemon", "criu", "reason"),
    [
        (changed("State", {"Running": False, "Status": "exited"}), {}, "4.2", "not running"),
        (changed("State.Paused", True), {}, "4.2", "paused"),
        (changed("State.Restarting", True), {}, "4.2", "restarting"),
        (INSPECT, {"experimental": False}, "4.2", "experimental"),
        (INSPECT, {}, None, "criu"),
        (changed("Config.Tty", True), {"version": "17.09.1-ce"}, "4.2", "TTY"),
        (changed("Config.Tty", True), {"version": "18.09.9"}, "4.2", "TTY"),
        (changed("HostConfig.AutoRemove", True), {}, "4.2", "--rm"),
        (INSPECT, {"version": "17.12.0-ce"}, "4.2", "leaves a container running"),
        (INSPECT, {"version": "18.06.3-ce"}, "4.2", "leaves a container running"),
    ],
)
def test_refusals_say_why_and_what_to_do(inspect, daemon, criu, reason):
    what, remedy = refusals.checkpoint_refusal(inspect, {**DAEMON, **daemon}, criu, False, leave_running=False)
    assert reason in what
    assert remedy


def test_processes_of_other_users_where_their_limits_cannot_be_read():
    assert "CAP_SYS_RESOURCE" in refusals.checkpoint_refusal(INSPECT, DAEMON, "4.2", True, leave_running=False)[0]


@pytest.mark.parametrize(
    ("inspect", "version"),
    [
        (changed("Config.Tty", True), "19.03.0"),
        (INSPECT, "17.09.1-ce"),
        (INSPECT, "18.09.0"),
        (INSPECT, "dev"),
    ],
)
def test_versions_that_can(inspect, version):
    assert (
        refusals.checkpoint_refusal(inspect, {**DAEMON, "version": version}, "4.2", False, leave_running=False) is None
    )


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ({"Name": "no"}, 255, False),
        ({}, 255, False),
        ({"Name": "always"}, 0, True),
        ({"Name": "unless-stopped"}, 0, True),
        ({"Name": "on-failure"}, 0, False),
        ({"Name": "on-failure"}, 255, True),
    ],
)
def test_what_docker_would_start_anew(policy, code, again):
    assert restart_policy.revives(policy, code) is again


def test_what_was_stopped_cannot_be_dumped():
    what, remedy = refusals.checkpoint_refusal(INSPECT, DAEMON, "4.2", False, leave_running=True, stopped=["vi"])
    assert "(vi)" in what and "SIGCONT" in remedy


def test_leave_running_allows_what_only_an_exit_would_spoil():
    inspect = changed("HostConfig.AutoRemove", True)
    assert (
        refusals.checkpoint_refusal(inspect, {**DAEMON, "version": "18.06.0-ce"}, "4.2", False, leave_running=True)
        is None
    )


def test_restart_policies_that_would_revive_a_frozen_container_are_held():
    assert restart_policy.to_hold(INSPECT, leave_running=False)["Name"] == "always"
    assert restart_policy.to_hold(INSPECT, leave_running=True) is None
    assert restart_policy.to_hold(changed("HostConfig.RestartPolicy", {"Name": "no"}), False) is None


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


@pytest.mark.parametrize(
    ("mac", "driver", "kept"),
    [
        ("02:42:ac:12:00:05", "bridge", False),
        ("02:42:ac:12:00:06", "bridge", True),
        ("9a:01:02:03:04:05", "bridge", True),
        ("02:42:ac:12:00:05", "macvlan", True),
        ("9a:01:02:03:04:05", "ipvlan", False),
        # Where the first one may still run.
        ("9a:01:02:03:04:05", None, False),
        ("", "bridge", False),
    ],
)
def test_the_mac_that_was_given(mac, driver, kept):
    inspect = changed("HostConfig.NetworkMode", "lan")
    inspect["NetworkSettings"]["Networks"] = {"lan": {"IPAddress": "172.18.0.5", "MacAddress": mac}}
    body, _more = create.creation_body(inspect, "i", drivers={"lan": driver} if driver else {})
    assert body["NetworkingConfig"]["EndpointsConfig"]["lan"].get("MacAddress") == (mac if kept else None)
    assert body.get("MacAddress") == (mac if kept else None)


@pytest.mark.parametrize(
    ("mode", "moves"), [("private", True), ("none", True), ("shareable", False), ("", False), ("host", False)]
)
def test_whose_shared_memory_moves(mode, moves):
    assert container_facts.keeps_shared_memory(changed("HostConfig.IpcMode", mode)) == moves


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


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, []),
        ({"Healthcheck": None}, []),
        ({"Healthcheck": {"Interval": 1}}, []),
        ({"Healthcheck": {"Test": ["NONE"]}}, []),
        ({"Healthcheck": {"Test": ["CMD", "/check", "-v"]}}, ["/check", "-v"]),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "test -e /up"]}}, ["test -e /up"]),
    ],
)
def test_the_command_of_a_health_check(config, words):
    assert container_facts.health_command({"Config": config}) == words


def test_ports_and_mounts():
    assert container_facts.published_ports(INSPECT) == ["8080/tcp"]
    assert [mount["name"] for mount in mounts.of_container(INSPECT)] == ["data"]


def test_what_the_daemon_said_in_one_line():
    said = "oci runtime error: criu failed: type NOTIFY errno 0\nlog file: /var/lib/x/restore.log\n"
    assert api.api_message(RuntimeError(said)) == "oci runtime error: criu failed: type NOTIFY errno 0"
    said = "runc did not terminate: criu failed: errno 0 path= /run/x/criu-dump.log: unknown."
    assert api.api_message(RuntimeError(said)) == "runc did not terminate: criu failed: errno 0 unknown"
    assert api.api_message(RuntimeError("no such path=/srv")) == "no such path=/srv"


def test_namespaces_that_are_shared():
    def container(identity, **host):
        return {"Id": identity, "Name": f"/{identity}", "HostConfig": host}

    web = container("web", NetworkMode="bridge", PidMode="", IpcMode="private")
    guest = container("guest", NetworkMode="container:web", PidMode="container:web", IpcMode="shareable")
    other = container("other", NetworkMode="host", PidMode="host", IpcMode="host")
    assert container_facts.shared_namespaces(web, [guest, other]) == [
        "its network namespace with guest",
        "its PID namespace with guest",
    ]
    assert container_facts.shared_namespaces(guest, [web, other]) == [
        "the network namespace of web",
        "the PID namespace of web",
    ]
    assert container_facts.shared_namespaces(other, [web, guest]) == []
    assert container_facts.shared_namespaces(container("x", NetworkMode="container:0123456789abcdef"), []) == [
        "the network namespace of 0123456789ab"
    ]
