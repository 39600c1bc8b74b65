# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is swapped out may be in memory all at once."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.memory import swapped
from ansible_collections.fog.migration.plugins.module_utils.memory.swapped import Swapped

MIB = 1 << 20


@pytest.fixture
def files(monkeypatch):
    """What is read, by path."""
    files: dict[str, str] = {}
    monkeypatch.setattr(swapped.host, "available_memory", lambda: 2 * MIB)
    monkeypatch.setattr(swapped.procfs, "read", lambda path: files.get(path, ""))
    return files


def test_swapped_memory_is_counted(files):
    files.update({"/proc/7/status": "VmRSS:\t  4 kB\nVmSwap:\t    1024 kB\n", "/proc/8/status": "Name:\tkernel\n"})
    assert swapped.of([7, 8, 9], {}) == Swapped(MIB, 2 * MIB)


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"memory": "/m"}, {"/m/memory.memsw.usage_in_bytes": 7 * MIB, "/m/memory.usage_in_bytes": 2 * MIB}),
        ({"": "/m"}, {"/m/memory.swap.current": 5 * MIB}),
    ],
)
def test_shared_memory_is_its_control_groups(files, groups, told):
    files["/proc/7/status"] = "VmSwap:\t    1024 kB\n"
    files.update({path: f"{number}\n" for path, number in told.items()})
    assert swapped.of([7], groups).out == 5 * MIB


@pytest.mark.parametrize(
    ("groups", "limit", "used"),
    [
        ({"memory": "/m/n", "freezer": "/f"}, "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ({"": "/m/n"}, "memory.max", "memory.current"),
    ],
)
@pytest.mark.parametrize("group", ["/m/n", "/m"])
def test_the_room_is_that_of_the_smallest_limit(files, groups, group, limit, used):
    """Of the server, of its control group, and of those that this one is in."""
    assert swapped.of([], groups).room == 2 * MIB
    files.update({f"{group}/{limit}": f"{3 * MIB}\n", f"{group}/{used}": f"{2 * MIB}\n"})
    assert swapped.of([], groups).room == MIB
    files[f"{group}/memory.stat"] = f"cache 9\ninactive_file {MIB // 2}\ntotal_inactive_file {MIB // 2}\n"
    assert swapped.of([], groups).room == 3 * MIB // 2
    files[f"{group}/{limit}"] = "max\n"
    assert swapped.of([], groups).room == 2 * MIB


@pytest.mark.parametrize(
    ("out", "room", "fits"), [(0, 0, True), (1, 0, True), (2, 2, False), (4, 8, True), (5, 8, False)]
)
def test_half_of_the_room_is_left(out, room, fits):
    """But a little may always return."""
    assert Swapped(out * MIB, room * MIB).fits is fits


def test_why_it_may_not_return():
    problem = Swapped(96 * MIB, 64 * MIB).problem
    assert problem.startswith("96 MiB of its memory are swapped out, and there is room for 64 MiB more in memory")
