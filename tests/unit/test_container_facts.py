# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container's inspect data tell."""

from __future__ import annotations

import pytest
from inspected import INSPECT, changed

from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    container_facts,
    mounts,
    restart_policy,
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


def test_restart_policies_that_would_revive_a_frozen_container_are_held():
    assert restart_policy.to_hold(INSPECT, leave_running=False)["Name"] == "always"
    assert restart_policy.to_hold(INSPECT, leave_running=True) is None
    assert restart_policy.to_hold(changed("HostConfig.RestartPolicy", {"Name": "no"}), False) is None


@pytest.mark.parametrize(
    ("mode", "moves"), [("private", True), ("none", True), ("shareable", False), ("", False), ("host", False)]
)
def test_whose_shared_memory_moves(mode, moves):
    assert container_facts.keeps_shared_memory(changed("HostConfig.IpcMode", mode)) == moves


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
