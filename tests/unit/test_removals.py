# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing what Docker may be removing by itself: a container with --rm that has ended."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import api, engine, runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import armed_start

IN_PROGRESS = "removal of container c1 is already in progress"


class Docker:
    """It refuses to remove a container, which is there for so many looks more."""

    def __init__(self, looks):
        self.looks = looks
        self.asked = []

    def remove_container(self, container, **how):
        self.asked.append((container, how))
        if self.looks:
            raise RuntimeError(IN_PROGRESS)

    def find_container(self, container):
        self.looks -= 1
        return {"Id": container} if self.looks > 0 else None


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(api, "ANSWERED", RuntimeError)
    monkeypatch.setattr(api, "_REMOVE_LIMIT", 0.3)
    monkeypatch.setattr(armed_start, "REMOVE_LIMIT", 0.3)


@pytest.mark.parametrize("looks", [0, 1, 3])
def test_it_has_gone_whoever_has_removed_it(looks):
    docker = Docker(looks)
    api.remove(docker, "c1", v=True)
    assert docker.asked == [("c1", {"force": True, "v": True})]


def test_what_stays_is_told():
    with pytest.raises(RuntimeError, match="already in progress"):
        api.remove(Docker(1000), "c1")


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        ([None], False),
        (["No such container: c1"], False),
        ([IN_PROGRESS, IN_PROGRESS, "No such container: c1"], False),
        ([IN_PROGRESS] * 1000, True),
        (["the device is busy"], True),
    ],
)
def test_the_source_hears_a_refusal_when_it_has_gone(monkeypatch, answers, refused):
    monkeypatch.setattr(engine, "call", lambda *_arguments: answers.pop(0))
    monkeypatch.setattr(runc, "kill_restore", lambda _container: None)
    start = armed_start.ArmedStart("/none.sock", "c1", lambda: None)
    if refused:
        with pytest.raises(Interrupted, match="does not let go"):
            start.take_back("why")
    else:
        start.take_back("why")
        assert answers == []
