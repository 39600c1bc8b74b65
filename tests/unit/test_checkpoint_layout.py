# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the folders that containerd leaves are copies of our checkpoint."""

from __future__ import annotations

import json
import os
import shutil
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
    # Those of earlier restores are left alone.
    assert checkpoint_layout.remove_copies(str(checkpoint), [str(temporary)], time.time() + 1) == []
    assert checkpoint_layout.remove_copies(str(checkpoint), [str(temporary)], began) == (
        [str(copy)] if is_removed else []
    )
    assert copy.exists() != is_removed
    assert (temporary / "something else").exists() and checkpoint.exists()


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
