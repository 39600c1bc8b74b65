# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dirty pages as the kernel tells them. A migration with them is run by molecule/vagrant, whose kernel tracks them."""

from __future__ import annotations

import os
import struct
import subprocess

import pytest

from ansible_collections.fog.migration.plugins.module_utils.memory import soft_dirty
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

DIRTY, PRESENT = 1 << 55, 1 << 63


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([], []),
        ([PRESENT, PRESENT], []),
        ([PRESENT | DIRTY], [(0, 1)]),
        ([PRESENT, PRESENT | DIRTY, DIRTY, PRESENT, DIRTY], [(1, 3), (4, 5)]),
        # Neighbouring bits say other things.
        ([1 << 54, 1 << 56, 0x7F << 48], []),
    ],
)
def test_entries(entries, found):
    assert soft_dirty.dirty_entries(struct.pack(f"={len(entries)}Q", *entries)) == found


def test_a_process_is_its_pid_and_its_start():
    with subprocess.Popen(["sleep", "60"]) as process:
        assert procfs.started(process.pid) == procfs.started(process.pid) >= procfs.started(os.getpid())
        process.kill()
    assert procfs.started(process.pid) is None


def test_it_is_known_whether_the_kernel_tracks():
    """Whatever the kernel of this machine can: asking twice tells the same and harms nothing."""
    assert soft_dirty.works() in (True, False)
    assert soft_dirty.works() is soft_dirty.works()
