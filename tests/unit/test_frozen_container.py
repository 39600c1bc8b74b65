# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a container that is frozen: the order in which Docker, the runtime and its network hear of it."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import engine, runc
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome
from ansible_collections.fog.migration.plugins.module_utils.network import network_lock
from ansible_collections.fog.migration.plugins.module_utils.runtime import frozen_container
from ansible_collections.fog.migration.plugins.module_utils.runtime.frozen_container import FrozenContainer


class Network:
    """The container's network: what was done with it, in order."""

    def __init__(self, done):
        self._done = done

    def __getattr__(self, name):
        return lambda: self._done.append(name)


@pytest.fixture
def done(monkeypatch):
    """What was done, in order; and what Docker says of a request, by its path."""
    log = []
    problems = {}

    def call(_docker_socket, _method, path, _seconds=None):
        log.append(path.rpartition("/")[2])
        return problems.get(log[-1])

    monkeypatch.setattr(engine, "call", call)
    monkeypatch.setattr(network_lock, "NetworkLock", lambda _container: Network(log))
    monkeypatch.setattr(runc, "moving", lambda _container: [])
    monkeypatch.setattr(runc, "kill", lambda _container: log.append("kill"))

    def bring_back(_container, resume, let_go):
        log.append("undo")
        resume()
        return Outcome(had_errors=let_go)

    def without_dump(_container):
        log.append("look")
        return Outcome()

    monkeypatch.setattr(frozen_container.repair, "bring_back", bring_back)
    monkeypatch.setattr(frozen_container.repair, "without_dump", without_dump)
    return log, problems


@pytest.fixture
def frozen(done):
    return FrozenContainer("c1", "/docker.sock", "/images", "/work")


def test_one_that_is_resumed_has_its_network_first(frozen, done):
    frozen.pause()
    frozen.resume()
    assert done[0] == ["pause", "unlock", "end", "undo", "unpause"]
    assert not frozen.is_paused and frozen.outcome == Outcome()
    # Once more, there is nothing to do.
    frozen.resume()
    assert done[0][5:] == ["unlock", "end"]


def test_one_that_docker_does_not_resume_stays_paused(frozen, done):
    frozen.pause()
    done[1]["unpause"] = "no such container"
    with pytest.raises(runc.FreezeError, match="no such container"):
        frozen.resume()
    assert frozen.is_paused and not frozen.outcome


def test_one_that_was_not_paused_is_not_thawed(frozen, done):
    done[1]["pause"] = "no such container"
    with pytest.raises(runc.FreezeError, match="no such container"):
        frozen.pause()
    frozen.resume()
    assert done[0] == ["pause", "unlock", "end", "look"]


def test_one_that_was_stopped_by_a_signal_is_paused_and_refused(frozen, done, monkeypatch):
    monkeypatch.setattr(runc, "moving", lambda _container: [1])
    monkeypatch.setattr("ansible_collections.fog.migration.plugins.module_utils.system.procfs.is_stopped", bool)
    with pytest.raises(runc.FreezeError, match="was stopped by a signal"):
        frozen.pause()
    assert frozen.is_paused


@pytest.mark.parametrize("problem", [None, "Container c1 is not paused"])
def test_one_that_ends_is_killed_before_it_is_thawed(frozen, done, problem):
    frozen.pause()
    done[1]["unpause"] = problem
    frozen.end()
    assert done[0] == ["pause", "end", "kill", "unpause"] and not frozen.is_paused


def test_one_that_is_left_stays_locked(frozen, done):
    frozen.pause()
    frozen.leave()
    assert done[0] == ["pause", "end"] and frozen.is_paused
