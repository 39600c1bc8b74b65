# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which way a server freezes and restores, and what its Docker cannot do by itself."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import ways

DAEMON = {"version": "26.1.5", "experimental": False, "runtimes": ["fog-runc", "runc"]}


@pytest.mark.parametrize(
    ("daemon", "at_socket", "way"),
    [
        ({}, True, "runtime"),
        ({"version": "19.03.0"}, True, "runtime"),
        ({"version": "28.5.2"}, True, "runtime"),
        ({"version": "17.09.1-ce"}, True, "docker"),
        ({"runtimes": ["runc"]}, True, "docker"),
        ({}, False, "docker"),
    ],
)
def test_the_way(daemon, at_socket, way):
    assert ways.way({**DAEMON, **daemon}, at_socket) == way


@pytest.mark.parametrize(
    ("version", "starts"),
    [
        *(("17.09.1-ce", True), ("20.10.24", True), ("26.1.5+dfsg1", True), ("27.5.1", True)),
        *(("26.0.0", False), ("28.0.0", False), ("29.1", False), ("dev", False)),
    ],
)
def test_which_docker_starts_a_container_from_a_checkpoint(version, starts):
    daemon = {**DAEMON, "version": version, "experimental": True}
    assert (ways.restore_refusal(daemon) is None) == starts
    assert ways.checkpoint_refusal(daemon) is None


@pytest.mark.parametrize(
    ("version", "options", "keeps"),
    [("26.1.5", {"file-locks": ""}, True), ("26.1.5", {}, False), ("18.09.1", {"file-locks": ""}, False)],
)
def test_which_docker_keeps_locks(version, options, keeps):
    assert ways.keeps_locks(version, options) is keeps


def test_nothing_goes_without_the_experimental_mode():
    daemon = {**DAEMON, "runtimes": ["runc"]}
    what, remedy = ways.checkpoint_refusal(daemon)
    assert "experimental mode" in what and "fog-runc" in remedy
    assert ways.restore_refusal(daemon) == (what, remedy)


def test_an_old_docker_needs_the_experimental_mode_whatever_runtimes_it_has():
    _what, remedy = ways.checkpoint_refusal({**DAEMON, "version": "18.09.1"})
    assert remedy == 'set "experimental": true in /etc/docker/daemon.json and restart Docker'
