# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done for processes around a dump: the processors of their threads, and room for CRIU's files."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker.runc import FreezeError
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime import carried, room_for_files
from ansible_collections.fog.migration.plugins.module_utils.system import host


@pytest.mark.parametrize(("text", "found"), [("0-2,5\n", {0, 1, 2, 5}), ("3", {3}), ("\n", set())])
def test_lists_of_processors(text, found):
    assert host.parse_list(text) == found


@pytest.fixture
def process() -> Iterator[int]:
    """A process with two threads that says when they run."""
    program = (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=[1000]).start()\n"
        "print('there', flush=True)\n"
        "time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as one:
        assert one.stdout.readline() == b"there\n"
        yield one.pid
        one.send_signal(signal.SIGKILL)


def test_threads_are_bound_again(process):
    every = os.sched_getaffinity(process)
    (thread,) = (int(name) for name in os.listdir(f"/proc/{process}/task") if int(name) != process)
    assert carried.bound([process, 2**22 + 1], every) == {}
    one = min(every)
    os.sched_setaffinity(thread, {one})
    found = carried.bound([process], every | {99})
    assert found == {process: sorted(every), thread: [one]}
    os.sched_setaffinity(thread, every)
    carried.bind([process], {thread: [one, 4711]})
    assert os.sched_getaffinity(thread) == {one} and os.sched_getaffinity(process) == every
    # None of them is there: it may run on all.
    os.sched_setaffinity(thread, every)
    carried.bind([process], {thread: [4711]})
    carried.bind([process], {})
    assert os.sched_getaffinity(thread) == every


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": [1]}', '{"1": 1}', '{"1": [true]}', '{"1": [-1]}', '{"1": [99999999]}', "x" * (5 << 20)]
)
def test_what_a_source_may_say_of_processors(tmp_path, text):
    assert carried.read(str(tmp_path)) == {}
    (tmp_path / carried.NAME).write_text('{"7": [0, 3]}')
    assert carried.read(str(tmp_path)) == {7: [0, 3]}
    (tmp_path / carried.NAME).write_text(text)
    with pytest.raises(Refused):
        carried.read(str(tmp_path))


@pytest.mark.parametrize(
    ("soft", "hard", "used", "wanted"),
    [
        (1024, 2048, 7, None),
        (64, 128, 60, (68, 128)),
        (64, 64, 64, (72, 72)),
        (64, 66, 64, (72, 72)),
        (64, resource.RLIM_INFINITY, 64, (72, resource.RLIM_INFINITY)),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 9, None),
    ],
)
def test_how_many_files_a_process_may_have_open_for_a_dump(soft, hard, used, wanted):
    assert room_for_files.wanted(soft, hard, used) == wanted


def test_room_is_made_and_put_back(process):
    assert room_for_files.make([process, 2**22 + 1]) == []
    own = resource.prlimit(process, resource.RLIMIT_NOFILE)
    few = len(os.listdir(f"/proc/{process}/fd"))
    resource.prlimit(process, resource.RLIMIT_NOFILE, (few, own[1]))
    assert room_for_files.is_full(process) == 0
    assert room_for_files.is_full(process, is_raised=False) == few
    (raised,) = room_for_files.make([process])
    assert raised == (process, few, own[1])
    assert resource.prlimit(process, resource.RLIMIT_NOFILE) == (few + room_for_files.NEEDED, own[1])
    assert list(room_for_files.changes([raised])) == [process]
    raised.put_back()
    assert resource.prlimit(process, resource.RLIMIT_NOFILE) == (few, own[1])
    room_for_files.Raised(2**22 + 1, 1, 1).put_back()


def test_a_limit_that_cannot_be_raised(process):
    if room_for_files.limits.may_exceed():
        pytest.skip("NOT TESTED: this root may exceed limits")
    few = len(os.listdir(f"/proc/{process}/fd"))
    resource.prlimit(process, resource.RLIMIT_NOFILE, (few, few))
    assert room_for_files.is_full(process) == few
    with pytest.raises(
        FreezeError, match=rf"^python.* in it has as many files open as it may \({few}\), and CRIU needs"
    ):
        room_for_files.make([process])
