# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the folders that containerd leaves are copies of our checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import checkpoint_layout


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    (folder / "criu.work").mkdir(parents=True)
    (folder / "inventory.img").write_bytes(b"inventory")
    (folder / "pages-1.img").write_bytes(os.urandom(3 * checkpoint_layout._TELLING))
    (folder / "criu.work" / "dump.log").write_bytes(b"log")
    return folder


def whole(_copy):
    pass


def cut(copy):
    """The disk was full."""
    (copy / "inventory.img").unlink()
    with (copy / "pages-1.img").open("r+b") as stream:
        stream.truncate(10)


def other(copy):
    (copy / "inventory.img").write_bytes(b"inventorz")


def more(copy):
    (copy / "core-1.img").write_bytes(b"core")


def empty(copy):
    shutil.rmtree(copy)
    copy.mkdir()


def without_a_byte(copy):
    empty(copy)
    (copy / "inventory.img").touch()


@pytest.mark.parametrize(
    ("change", "is_removed"),
    [(whole, True), (cut, True), (other, False), (more, False), (empty, False), (without_a_byte, False)],
)
def test_copies_that_containerd_leaves(tmp_path, checkpoint, change, is_removed):
    began = time.time() - 1
    temporary = tmp_path / "tmp"
    copy = temporary / "ctrd-checkpoint123"
    shutil.copytree(checkpoint, copy)
    shutil.copytree(checkpoint, temporary / "something else")
    change(copy)
    # As containerd makes it.
    copy.chmod(0o700)
    # Those of earlier restores are left alone.
    assert checkpoint_layout.remove_copies(str(checkpoint), [str(temporary)], time.time() + 1) == []
    assert checkpoint_layout.remove_copies(str(checkpoint), [str(temporary)], began) == (
        [str(copy)] if is_removed else []
    )
    assert copy.exists() != is_removed
    assert (temporary / "something else").exists() and checkpoint.exists()


def with_a_fifo(copy):
    """Whoever opens it for reading waits for ever."""
    os.mkfifo(copy / "fifo")


def with_a_link(copy):
    (copy / "inventory.img").unlink()
    (copy / "inventory.img").symlink_to(copy.parents[1] / "checkpoint" / "inventory.img")


def with_a_device(copy):
    os.mknod(copy / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))


def readable_for_all(copy):
    copy.chmod(0o755)


def of_another_user(copy):
    with_a_fifo(copy)
    os.chown(copy, 65534, 65534)


NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do that")


@pytest.fixture
def in_time():
    """A test that waits for somebody else's FIFO fails."""

    def late(_number, _frame):
        raise AssertionError("it waits")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


@pytest.mark.parametrize(
    "change",
    [
        with_a_fifo,
        with_a_link,
        readable_for_all,
        pytest.param(with_a_device, marks=NEEDS_ROOT),
        pytest.param(of_another_user, marks=NEEDS_ROOT),
    ],
)
def test_what_others_may_have_made_is_left_alone(tmp_path, checkpoint, in_time, change):
    """Anybody can make a folder of that name where containerd has its temporary files."""
    copy = tmp_path / "tmp" / "ctrd-checkpoint1"
    shutil.copytree(checkpoint, copy)
    copy.chmod(0o700)
    change(copy)
    assert checkpoint_layout.remove_copies(str(checkpoint), [str(tmp_path / "tmp")], 0) == []
    assert copy.exists()


def test_a_link_to_a_copy_is_none(tmp_path, checkpoint):
    checkpoint.chmod(0o700)
    (tmp_path / "ctrd-checkpoint1").symlink_to(checkpoint)
    assert checkpoint_layout.remove_copies(str(checkpoint), [str(tmp_path)], 0) == []


def test_mounts_of_links(tmp_path):
    (tmp_path / "link").symlink_to("init")
    mounts = [
        {"type": "proc", "source": "proc", "destination": "/proc"},
        {"type": "bind", "source": str(tmp_path / "link"), "destination": "/sbin/docker-init"},
        {"type": "bind", "source": str(tmp_path), "destination": "/srv"},
    ]
    (tmp_path / "config.json").write_text(json.dumps({"mounts": mounts}))
    assert checkpoint_layout.linked_mounts(str(tmp_path)) == ["/sbin/docker-init"]
    assert checkpoint_layout.linked_mounts(None) == []
