# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a container's memory is kept on its way."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.system import files, host
from ansible_collections.fog.migration.plugins.module_utils.transport import staging, transfer
from ansible_collections.fog.migration.plugins.module_utils.transport.staging import MIB


@pytest.mark.parametrize(
    ("most", "expected", "available", "limit", "why"),
    [
        (100 * MIB, 100 * MIB, 1000 * MIB, 0, None),
        (800 * MIB, 400 * MIB, 464 * MIB, 0, None),
        (800 * MIB, 400 * MIB, 463 * MIB, 0, "464 MiB of memory are needed, and what is free is 463 MiB"),
        (400 * MIB, 800 * MIB, 800 * MIB, 0, "864 MiB of memory are needed"),
        # Post-copy: nothing of it stays at the source.
        (4000 * MIB, 0, 100 * MIB, 0, None),
        (100 * MIB, 100 * MIB, 1000 * MIB, 189 * MIB, None),
        (100 * MIB, 100 * MIB, 1000 * MIB, 188 * MIB, "189 MiB are more than the limit of 188 MiB"),
        (200 * MIB, 100 * MIB, 1000 * MIB, 189 * MIB, "314 MiB are more"),
        (0, 0, None, 0, "what is free is unknown"),
    ],
)
def test_memory_or_disk(most, expected, available, limit, why):
    told = staging.why_not_in_memory(most, expected, available, limit)
    assert (told is None) if why is None else (why in told)


@pytest.mark.parametrize("limit", [0, 1])
def test_it_comes_and_goes(tmp_path, limit):
    """In memory where this machine lets us mount, else on disk, and always with nobody else in it."""
    path, disk = tmp_path / "transfer-1" / "staging", tmp_path / "disk"
    path.parent.mkdir()
    made = staging.make(str(path), str(disk), most=1000, expected=1000, limit=limit)
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
    ("unknown", "tried"),
    [
        ("huge", ["huge=within_size,noswap", "huge=within_size", "noswap"]),
        ("noswap", ["huge=within_size,noswap", "huge=within_size"]),
        ("none", ["huge=within_size,noswap"]),
    ],
)
def test_what_a_kernel_does_not_know_is_left_out(tmp_path, monkeypatch, unknown, tried):
    """Its mount refuses the option; it gets a file system without it, or says why it cannot have any."""
    program = tmp_path / "mount"
    program.write_text(
        f'#!/bin/sh\necho "$4" >>{tmp_path}/options\ncase $4 in *{unknown}*) echo "bad option"; exit 32 ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "transfer-1").mkdir()
    made = staging.make(str(tmp_path / "transfer-1" / "staging"), str(tmp_path / "disk"), 1000, 1000, 0)
    assert made == {"kind": "memory", "why_not_memory": None}
    options = (tmp_path / "options").read_text().splitlines()
    assert [one.partition("noexec,")[2] for one in options] == tried
    program.write_text("#!/bin/sh\necho must be superuser; exit 1\n")
    made = staging.make(str(tmp_path / "transfer-2"), str(tmp_path / "disk"), 1000, 1000, 0)
    assert made == {"kind": "disk", "why_not_memory": "must be superuser"}


@pytest.mark.parametrize(
    ("mode", "lazily", "shared", "here", "there"),
    [
        ("precopy", True, 0, (20, 10), (20, 20)),
        ("precopy", False, 0, (20, 20), (20, 20)),
        ("hybrid", True, 0, (20, 10), (20, 20)),
        ("postcopy", True, 0, (10, 0), (10, 10)),
        ("stop-and-copy", False, 0, (10, 10), (10, 20)),
        # A dump holds what is shared, and post-copy copies that beforehand.
        ("precopy", True, 3, (20, 13), (20, 20)),
        ("precopy", False, 3, (20, 20), (20, 20)),
        ("hybrid", True, 10, (20, 20), (20, 20)),
        ("postcopy", True, 3, (13, 6), (13, 13)),
        ("stop-and-copy", True, 3, (10, 10), (10, 20)),
    ],
)
def test_room_for_memory(mode, lazily, shared, here, there):
    assert (transfer.room_here(mode, lazily, 10, shared), transfer.room_there(mode, 10, shared)) == (here, there)


@pytest.mark.parametrize(
    ("mode", "shared", "memory", "only_shared"),
    [
        ("precopy", 0, True, False),
        ("hybrid", 5, True, False),
        ("postcopy", 0, False, True),
        ("postcopy", 5, True, True),
        ("stop-and-copy", 5, False, False),
    ],
)
def test_which_memory_is_copied_while_the_container_runs(mode, shared, memory, only_shared):
    assert transfer.copies_memory(mode, shared) is memory
    assert transfer.copies_only_shared(mode) is only_shared
    assert transfer.copies_beforehand(mode, shared, [], False) is memory
    assert (
        transfer.copies_beforehand(mode, shared, ["/data"], False)
        is transfer.copies_beforehand(mode, 0, [], True)
        is True
    )


def test_this_machine_tells_what_is_free():
    assert host.available_memory() > 0


def test_no_more_than_there_is_room_for(tmp_path):
    room = staging.Room(str(tmp_path), 10 * MIB)
    room.take_file("a", 4 * MIB)
    room.take(5 * MIB)
    # One that comes again takes the place of the first one.
    room.take_file("a", 5 * MIB)
    for more in (lambda: room.take(1), lambda: room.take_file("b", 1), lambda: room.take_file("a", 5 * MIB + 1)):
        with pytest.raises(Refused, match="more memory and images than the 10 MiB"):
            more()
    room.take(-MIB)
    room.take(MIB)
    staging.Room(str(tmp_path), 0).take(1 << 60)


def test_files_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "MOST_FILES", 2)
    room = staging.Room(str(tmp_path), 0)
    for name in ("a", "b", "a"):
        room.take_file(name, 0)
    with pytest.raises(Refused, match="more than 2 files"):
        room.take_file("c", 0)


def test_staging_on_disk_leaves_room(tmp_path):
    """Unless a container that runs here already needs what comes."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    free = files.free_bytes(str(tmp_path))
    room = staging.Room(str(tmp_path / "link"), 0)
    with pytest.raises(OSError, match="stays free for the server itself"):
        room.take(free)
    room.take(free, keep_free=False)
    # One in memory has its own size.
    staging.Room(str(tmp_path / "disk"), 0).take(free)
