# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers can be checkpointed."""

from __future__ import annotations

import pytest
from inspected import INSPECT, changed

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import refusals
from ansible_collections.fog.migration.plugins.module_utils.docker import ways

DAEMON = {"version": "26.1.5", "experimental": True}
RUNTIME, DOCKER = ways.WAYS


def test_a_running_container_is_not_refused():
    assert refusals.checkpoint_refusal(INSPECT, DAEMON, "4.2.1", False, goes_on=False, way=DOCKER) is None


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
        (INSPECT, {"version": "28.5.2"}, "4.2", "Docker 28.5.2 cannot start a container from a checkpoint by itself"),
    ],
)
def test_refusals_say_why_and_what_to_do(inspect, daemon, criu, reason):
    what, remedy = refusals.checkpoint_refusal(inspect, {**DAEMON, **daemon}, criu, False, goes_on=False, way=DOCKER)
    assert reason in what
    assert remedy


def test_processes_of_other_users_where_their_limits_cannot_be_read():
    assert "CAP_SYS_RESOURCE" in refusals.checkpoint_refusal(INSPECT, DAEMON, "4.2", True, goes_on=False, way=DOCKER)[0]


@pytest.mark.parametrize(
    ("inspect", "version"),
    [
        (changed("Config.Tty", True), "19.03.0"),
        (INSPECT, "17.09.1-ce"),
        (INSPECT, "18.09.0"),
        (INSPECT, "27.5.1"),
    ],
)
def test_versions_that_can(inspect, version):
    daemon = {**DAEMON, "version": version}
    assert refusals.checkpoint_refusal(inspect, daemon, "4.2", False, goes_on=False, way=DOCKER) is None


def test_what_was_stopped_cannot_be_dumped():
    what, remedy = refusals.checkpoint_refusal(INSPECT, DAEMON, "4.2", False, goes_on=True, way=DOCKER, stopped=["vi"])
    assert "(vi)" in what and "SIGCONT" in remedy


def test_leave_running_allows_what_only_an_exit_would_spoil():
    inspect, daemon = changed("HostConfig.AutoRemove", True), {**DAEMON, "version": "18.06.0-ce"}
    assert refusals.checkpoint_refusal(inspect, daemon, "4.2", False, goes_on=True, way=DOCKER) is None


@pytest.mark.parametrize("daemon", [{"experimental": False}, {"version": "28.5.2"}, {"version": "18.06.3-ce"}])
def test_what_only_dockers_own_checkpoints_cannot(daemon):
    daemon = {**DAEMON, **daemon}
    assert refusals.checkpoint_refusal(INSPECT, daemon, "4.2", False, goes_on=False, way=DOCKER)
    assert refusals.checkpoint_refusal(INSPECT, daemon, "4.2", False, goes_on=False, way=RUNTIME) is None


@pytest.mark.parametrize("way", ways.WAYS)
def test_what_goes_on_may_be_of_a_docker_that_brings_nothing_back(way):
    daemon = {**DAEMON, "version": "28.5.2"}
    assert refusals.checkpoint_refusal(INSPECT, daemon, "4.2", False, goes_on=True, way=way) is None


@pytest.mark.parametrize("way", ways.WAYS)
def test_what_is_deleted_when_it_ends_must_not_end(way):
    inspect = changed("HostConfig.AutoRemove", True)
    assert "--rm" in refusals.checkpoint_refusal(inspect, DAEMON, "4.2", False, goes_on=False, way=way)[0]
    assert refusals.checkpoint_refusal(inspect, DAEMON, "4.2", False, goes_on=True, way=way) is None
