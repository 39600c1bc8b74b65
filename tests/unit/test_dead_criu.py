# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore whose CRIU has died: its runtime would wait for ever for what CRIU has begun to restore."""

from __future__ import annotations

import os
import subprocess

import pytest
from runtimes import NEEDS_ROOT, environment, runc_of

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import armed_start
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# Of this process alone: tests of others kill theirs meanwhile.
CONTAINER = f"{os.getpid():064x}"
# A runtime that does not ask how its CRIU has ended. As with runc, what is left of CRIU is the runtime's then
# (PR_SET_CHILD_SUBREAPER, 36).
RUNTIME = """
import ctypes, os, time
ctypes.CDLL(None).prctl(36, 1)
if os.fork() == 0:
    open("/proc/self/comm", "w").write("criu")
    begun = os.fork()
    if begun == 0:
        time.sleep(60)
        os._exit(0)
    print(os.getpid(), begun, flush=True)
    {end}
time.sleep(60)
"""


# Only what is root's counts as a runtime.
pytestmark = NEEDS_ROOT


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """C(runtime(end)) starts it, with what its CRIU does at last; the PIDs of CRIU and of what it has begun."""
    started = []

    def runtime(end):
        words = [runc_of(tmp_path), "-c", RUNTIME.format(end=end), "restore", CONTAINER]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment()))
        return [int(word) for word in started[-1].stdout.readline().split()]

    yield runtime
    monkeypatch.undo()
    runc.kill_restore(CONTAINER)
    for process in started:
        process.wait()


def until(condition):
    """Whether it becomes true within some seconds."""
    return any(condition() or armed_start.time.sleep(0.05) for _time in range(100))


def test_a_criu_that_has_ended_is_found(runtime):
    criu, _begun = runtime("os._exit(0)")
    assert until(lambda: runc.dead_criu(CONTAINER) == {criu})
    assert runc.dead_criu("ab") == set()


def test_a_criu_that_is_at_work_is_none(runtime):
    criu, begun = runtime("time.sleep(60)")
    assert {criu, begun} < runc.restoring(CONTAINER)
    assert runc.dead_criu(CONTAINER) == set()


def test_what_waits_in_the_container_ends_with_the_restore(runtime, monkeypatch):
    """It is nobody's child that is known, but in the container's control groups."""
    criu, begun = runtime("time.sleep(60)")
    monkeypatch.setattr(runc, "restoring", lambda container: set())
    monkeypatch.setattr(runc.procfs, "in_groups_of", lambda container: [begun])
    runc.kill_restore(CONTAINER)
    assert procfs.started(begun) is None and procfs.started(criu)


def test_what_criu_traces_is_killed_before_criu(monkeypatch):
    """With the end of CRIU, it would go on."""
    killed = []
    monkeypatch.setattr(runc, "restoring", lambda _container: {5, 6})
    monkeypatch.setattr(runc.procfs, "in_groups_of", lambda _container: [6, 8, 9])
    monkeypatch.setattr(runc.procfs, "tracer", lambda process: 6 if process in (8, 9) else 0)
    monkeypatch.setattr(runc.procfs, "started", lambda process: None if process in killed else 1)
    monkeypatch.setattr(runc.os, "kill", lambda process, _signal: killed.append(process))
    runc.kill_restore(CONTAINER)
    assert set(killed[:2]) == {8, 9} and set(killed) == {5, 6, 8, 9}
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("group", "is_its"),
    [
        ("/docker/abc", True),
        ("/system.slice/docker-abc.scope", True),
        ("/docker/abc/below", True),
        ("/docker/0abc0", False),
        ("/process_api/01dbffabc7", False),
        ("/", False),
    ],
)
def test_whose_control_group_it_is(group, is_its):
    """Nobody else's processes end because the name of their group has these letters in it."""
    assert procfs.is_in_groups_of("abc", f"13:perf_event:/\n4:memory:{group}\n0::/\n") is is_its


def test_the_runtime_has_a_moment_to_hear_of_it(monkeypatch):
    """Only what was dead at two looks in a row does count, and there are not many looks."""
    dead, killed = [{7}, set(), {8}, {8}], []
    monkeypatch.setattr(runc, "dead_criu", lambda container: dead.pop(0))
    monkeypatch.setattr(runc, "kill_restore", killed.append)
    start = armed_start.ArmedStart("/no/socket", CONTAINER, on_wait=lambda: None)
    start._end_without_criu()
    start._end_without_criu()
    assert len(dead) == 3
    for _time in range(2):
        start._next_look = 0.0
        start._end_without_criu()
    assert not killed and not start.lost_criu
    start._next_look = 0.0
    start._end_without_criu()
    assert killed == [CONTAINER] and start.lost_criu
