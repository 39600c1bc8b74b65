# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a storage driver keeps a container, and what of it differs from its image."""

from __future__ import annotations

import os

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import storage_drivers
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive, snapshot


def test_overlay_tells_it(tmp_path):
    graph = {"Name": "overlay2", "Data": {"UpperDir": str(tmp_path)}}
    assert storage_drivers.of_container({"Driver": "overlay2", "GraphDriver": graph}, "/r") == (str(tmp_path), True)
    assert storage_drivers.of_container({"Driver": "overlay2", "GraphDriver": {"Data": None}}, "/r") is None
    # Its whiteouts are others.
    assert storage_drivers.of_container({"Driver": "aufs", "GraphDriver": graph}, "/r") is None


@pytest.mark.parametrize(("driver", "below"), [("vfs", "vfs/dir"), ("btrfs", "btrfs/subvolumes")])
def test_a_folder_for_each_container(tmp_path, driver, below):
    inspect = {"Driver": driver, "GraphDriver": {"Name": driver, "Data": None}, "Id": "c0"}
    noted = tmp_path / "image" / driver / "layerdb" / "mounts" / "c0"
    folder = tmp_path / below / "f00"
    assert storage_drivers.of_container(inspect, str(tmp_path)) is None
    noted.mkdir(parents=True)
    (noted / "mount-id").write_text("f00")
    assert storage_drivers.of_container(inspect, str(tmp_path)) is None
    folder.mkdir(parents=True)
    assert storage_drivers.of_container(inspect, str(tmp_path)) == (str(folder), False)
    assert storage_drivers.is_kept_whole(driver, str(tmp_path), str(folder))
    assert not storage_drivers.is_kept_whole(driver, str(tmp_path), str(folder / "etc"))
    assert not storage_drivers.is_kept_whole("overlay2", str(tmp_path), str(folder))


def test_what_containerd_tells():
    told = "mount -t overlay overlay / -o index=off,workdir=/s/3/work,upperdir=/s/3/fs,lowerdir=/s/2/fs:/s/1/fs\n"
    assert storage_drivers.upper_of(told) == "/s/3/fs"
    assert storage_drivers.upper_of("mount -t bind /s/1/fs / -o ro,rbind\n") is None
    assert storage_drivers.upper_of("") is None


@pytest.fixture
def folder(tmp_path):
    """What a container has, with names of all kinds."""
    root = tmp_path / "root"
    for name in ("etc", "home", "bin"):
        (root / name).mkdir(parents=True)
    for name in ("etc/hosts", "etc/image", "bin/box"):
        (root / name).write_text(name)
    os.link(root / "bin" / "box", root / "bin" / "sh")
    (root / "gone").symlink_to("etc")
    os.close(os.open(os.fsencode(root) + b"/etc/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    return root


def told(**kinds: int) -> list[dict]:
    return [{"Path": "/" + path.replace("__", "/"), "Kind": kind} for path, kind in kinds.items()]


def test_what_docker_tells_of_it(folder):
    there = snapshot.snapshot(str(folder))
    changes = storage_drivers.changes(there, told(etc=0, etc__hosts=0, etc__passwd=2, bin__sh=1, home=0, home__user=2))
    # All names of one file, so that it stays one, and the folders that they are in.
    assert changes.names == {b".", b"etc", b"etc/hosts", b"bin", b"bin/box", b"bin/sh", b"home"}
    assert changes.hidden == {b"etc/passwd", b"home/user"}


def test_names_that_docker_cannot_tell(folder):
    there = snapshot.snapshot(str(folder))
    assert b"etc/\xff\xfe" in storage_drivers.changes(there, told(**{"etc__\ufffd\ufffd": 1})).names
    with pytest.raises(MigrationError, match="whose name Docker cannot tell"):
        storage_drivers.changes(there, told(**{"etc__a\ufffd": 2}))


def test_what_was_in_a_folder_that_is_none_any_more(folder):
    there = snapshot.snapshot(str(folder))
    assert not storage_drivers.changes(there, told(gone=0, gone__old=2, lost__old=2)).hidden


def test_what_differs_is_the_same_elsewhere(folder, tmp_path):
    image = tmp_path / "image"
    for name in ("etc", "home"):
        (image / name).mkdir(parents=True)
    (image / "etc" / "passwd").write_text("old")
    (image / "etc" / "image").write_text("image's")
    (image / "gone").mkdir()
    (image / "gone" / "old").write_text("old")
    there = snapshot.snapshot(str(folder))
    changes = storage_drivers.changes(there, told(etc=0, etc__hosts=1, etc__passwd=2, gone=0, gone__old=2))
    archive.save(str(folder), str(tmp_path / "archive"), changes.names, layer=False, hidden=changes.hidden)
    archive.apply(str(tmp_path / "archive"), str(image), layer=False)
    assert (image / "etc" / "image").read_text() == "image's"
    assert (image / "etc" / "hosts").read_text() == "etc/hosts"
    assert not (image / "etc" / "passwd").exists()
    assert os.readlink(image / "gone") == "etc"
    assert not (image / "bin").exists()
