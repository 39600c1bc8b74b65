# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted below bind mounts, and files and watches of an overlay."""

from __future__ import annotations

import os

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.filesystem import overlay, watches
from ansible_collections.fog.migration.plugins.module_utils.preflight import submounts
from ansible_collections.fog.migration.plugins.module_utils.runtime import dump_root
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import process_limit
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore.surroundings import Mount


def mounts(*places):
    """Something is mounted at each of them."""
    return [Mount(number, 1, "8:1", "/", place, False, "ext4") for number, place in enumerate(places)]


@pytest.mark.parametrize(
    ("binds", "known", "found"),
    [
        ([], [], []),
        (["/data"], ["/data"], []),
        (["/host"], ["/host"], ["/host/boot", "/host/proc"]),
        (["/host"], ["/host", "/host/boot"], ["/host/proc"]),
        (["/"], ["/", "/proc", "/host", "/hostel"], ["/host/boot", "/host/proc"]),
    ],
)
def test_mounts_below_bind_mounts(binds, known, found):
    mounted = mounts("/", "/proc", "/host", "/host/boot", "/host/proc", "/hostel")
    assert submounts.below(mounted, binds, known) == found


def test_they_are_told():
    assert submounts.problem([]) == ""
    assert submounts.problem(["/a/1", "/a/2", "/a/3", "/a/4"]).endswith(
        "below its bind mounts (/a/1, /a/2, /a/3, 1 more)"
    )


def test_watches():
    text = (
        "pos:\t0\nino:\t1038\n"
        "inotify wd:2 ino:f6c42d sdev:f6 mask:fff ignored_mask:0 fhandle-bytes:20 fhandle-type:f8 f_handle:00\n"
        "inotify wd:1 ino:1 sdev:800001 mask:fff ignored_mask:0\n"
    )
    assert watches.parse(7, text) == [(7, os.makedev(0, 0xF6), 0xF6C42D), (7, os.makedev(8, 1), 1)]
    assert watches.parse(7, "fanotify ino:4f8 sdev:1a mflags:0 mask:1 ignored_mask:0 f_handle:00\n") == [
        (7, 0x1A, 0x4F8)
    ]
    assert watches.parse(7, "fanotify flags:0 event-flags:0\nfanotify mnt_id:12 mflags:0 mask:1\n") == []


def test_what_is_watched_is_looked_for(tmp_path):
    for name in ("a/b/c", "a/e", "d", "with blank"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    below = {"a": 4, "a/b": 2, "d": 0, "a/b/file": 0}
    numbers = {(tmp_path / name).stat().st_ino: (f"/{name}", count) for name, count in below.items()}
    root = overlay.Overlay(tmp_path.stat().st_dev, str(tmp_path), str(tmp_path))
    blank = (tmp_path / "with blank").stat().st_ino
    assert watches.places(root, {*numbers, blank, 1 << 60}) == numbers
    assert watches.places(root, {tmp_path.stat().st_ino}) == {tmp_path.stat().st_ino: ("/", 7)}
    assert watches.options([os.getpid()], root) == watches.options([os.getpid()], None) == []


def test_a_file_of_the_image_alone(tmp_path):
    (tmp_path / "layer").mkdir()
    (tmp_path / "image").write_text("x")
    (tmp_path / "layer" / "changed").write_text("x")
    root = overlay.Overlay(tmp_path.stat().st_dev, str(tmp_path), str(tmp_path / "layer"))
    assert root.is_of_image_alone((tmp_path / "image").stat())
    assert not root.is_of_image_alone((tmp_path / "layer" / "changed").stat())
    (tmp_path / "other").hardlink_to(tmp_path / "image")
    assert not root.is_of_image_alone((tmp_path / "image").stat())


@pytest.mark.parametrize(
    ("said", "limit"), [({}, 32 << 20), ({"ghost-limit": "2M"}, 32 << 20), ({"ghost-limit": "1G"}, 1 << 30)]
)
def test_how_large_a_deleted_file_may_be(said, limit):
    assert dump_root.deleted_files(said) == {"link-remap": "", "ghost-limit": str(limit)}
    assert tool.ghost_limit({}) == 1 << 20


@pytest.mark.parametrize("config", [{}, {"linux": {}}, {"linux": {"resources": {"pids": {"limit": -1}}}}])
def test_a_container_without_a_limit_of_processes(config):
    assert process_limit.of(config) == 0
    assert process_limit.widened(config) is config


def test_a_limit_of_processes_has_room_for_criu():
    config = {"linux": {"resources": {"pids": {"limit": 3}, "memory": {"limit": 7}}, "seccomp": {}}, "root": {}}
    resources = {"pids": {"limit": 3 + process_limit.ROOM}, "memory": {"limit": 7}}
    assert process_limit.of(config) == 3
    assert process_limit.widened(config) == {"linux": {"resources": resources, "seccomp": {}}, "root": {}}
