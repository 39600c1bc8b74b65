# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a container's memory is kept on its way."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.fog.migration.plugins.module_utils.system import host
from ansible_collections.fog.migration.plugins.module_utils.transport import staging, transfer
from ansible_collections.fog.migration.plugins.module_utils.transport.staging import MIB


@pytest.mark.parametrize(
    ("memory", "most", "expected", "available", "limit", "why"),
    [
        (100 * MIB, 1, 1, 1000 * MIB, 0, None),
        (400 * MIB, 2, 1, 464 * MIB, 0, None),
        (400 * MIB, 2, 1, 463 * MIB, 0, "464 MiB of memory are needed, and what is free is 463 MiB"),
        (400 * MIB, 1, 2, 800 * MIB, 0, "864 MiB of memory are needed"),
        # Post-copy: nothing of it stays at the source.
        (4000 * MIB, 1, 0, 100 * MIB, 0, None),
        (100 * MIB, 1, 1, 1000 * MIB, 189 * MIB, None),
        (100 * MIB, 1, 1, 1000 * MIB, 188 * MIB, "189 MiB are more than the limit of 188 MiB"),
        (100 * MIB, 2, 1, 1000 * MIB, 189 * MIB, "314 MiB are more"),
        (0, 1, 1, None, 0, "what is free is unknown"),
    ],
)
def test_memory_or_disk(memory, most, expected, available, limit, why):
    told = staging.why_not_in_memory(memory, most, expected, available, limit)
    assert (told is None) if why is None else (why in told)


@pytest.mark.parametrize("limit", [0, 1])
def test_it_comes_and_goes(tmp_path, limit):
    """In memory where this machine lets us mount, else on disk, and always with nobody else in it."""
    path, disk = tmp_path / "transfer-1" / "staging", tmp_path / "disk"
    path.parent.mkdir()
    made = staging.make(str(path), str(disk), memory=1000, most=1, expected=1, limit=limit)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    (path / "secret").write_bytes(b"from memory")
    if made["kind"] == "memory":
        assert path.is_mount() and not disk.exists()
    else:
        assert made["why_not_memory"] and (disk / "transfer-1" / "secret").exists()
        assert stat.S_IMODE(os.stat(disk).st_mode) == 0o700
    assert limit == 0 or made["kind"] == "disk"
    staging.remove(str(path))
    assert not os.path.lexists(path) and not (disk / "transfer-1").exists()
    staging.remove(str(path))


@pytest.mark.parametrize(
    ("mode", "lazily", "here", "there"),
    [
        ("precopy", True, (2, 1), (2, 2)),
        ("precopy", False, (2, 2), (2, 2)),
        ("hybrid", True, (2, 1), (2, 2)),
        ("postcopy", True, (1, 0), (1, 1)),
        ("stop-and-copy", False, (1, 1), (1, 2)),
    ],
)
def test_copies(mode, lazily, here, there):
    assert (transfer.copies_here(mode, lazily), transfer.copies_there(mode)) == (here, there)


def test_this_machine_tells_what_is_free():
    assert host.available_memory() > 0
