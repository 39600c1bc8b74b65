# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what is swapped out may be in memory all at once."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.migration.channel import swapped_memory

MIB = 1 << 20


@pytest.fixture
def files(monkeypatch):
    """What is read, by path."""
    files: dict[str, str] = {}
    monkeypatch.setattr(swapped_memory.host, "available_memory", lambda: 2 * MIB)
    monkeypatch.setattr(swapped_memory.procfs, "read", lambda path: files.get(path, ""))
    return files


def test_swapped_memory_is_counted(files):
    files.update({"/proc/7/status": "VmRSS:\t  4 kB\nVmSwap:\t    1024 kB\n", "/proc/8/status": "Name:\tkernel\n"})
    assert swapped_memory.swapped_out([7, 8, 9]) == MIB


@pytest.mark.parametrize(
    ("groups", "limit", "used"),
    [
        ({"memory": "/m", "freezer": "/f"}, "memory.limit_in_bytes", "memory.usage_in_bytes"),
        ({"": "/m"}, "memory.max", "memory.current"),
    ],
)
def test_the_room_is_that_of_the_smaller_limit(files, monkeypatch, groups, limit, used):
    monkeypatch.setattr(swapped_memory.runc, "control_groups", lambda container: groups)
    assert swapped_memory.room("abc") == 2 * MIB
    files.update({f"/m/{limit}": f"{3 * MIB}\n", f"/m/{used}": f"{2 * MIB}\n"})
    assert swapped_memory.room("abc") == MIB
    files[f"/m/{limit}"] = "max\n"
    assert swapped_memory.room("abc") == 2 * MIB


@pytest.mark.parametrize(("swapped", "room", "fits"), [(0, 0, True), (1, 1, False), (4, 8, True), (5, 8, False)])
def test_half_of_the_room_is_left(swapped, room, fits):
    assert swapped_memory.has_room(swapped, room) is fits
