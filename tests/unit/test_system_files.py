# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders are removed however deep they are, and some of each file system stays free."""

from __future__ import annotations

import io
import os
import subprocess

import pytest

from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive
from ansible_collections.fog.migration.plugins.module_utils.system import files

MIB = 1 << 20


def make_deep(folder, levels=3000):
    """Folders in one another, with a file in each, deeper than Python goes into itself."""
    os.makedirs(folder)
    here = os.open(folder, os.O_RDONLY)
    for _level in range(levels):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def unpack_removal(folder):
    """As a source asks for it."""
    name = os.path.basename(folder)
    head = b'{"remove":"%s"}' % name.encode()
    stream = io.BytesIO(len(head).to_bytes(4, "big") + head + bytes(4))
    archive.Unpacker(os.path.dirname(folder), stream.read).unpack()


@pytest.fixture
def deep(tmp_path):
    """A folder that is as deep."""
    make_deep(tmp_path / "deep")
    yield str(tmp_path / "deep")
    # What a failed test leaves is too deep for pytest as well.
    subprocess.run(["rm", "-rf", tmp_path / "deep"], check=True)


@pytest.mark.parametrize("remove", [files.remove, files.remove_folder, files.empty_folder, unpack_removal])
def test_however_deep(deep, remove):
    before = len(os.listdir("/proc/self/fd"))
    remove(deep)
    assert os.path.exists(deep) == (remove is files.empty_folder)
    assert not os.path.exists(deep) or os.listdir(deep) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_links_are_removed_and_not_followed(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    for name in ("a", "b"):
        (tmp_path / "gone" / name / "c").mkdir(parents=True)
        (tmp_path / "gone" / name / "link").symlink_to(tmp_path / "kept")
        (tmp_path / "gone" / name / "c" / "link").symlink_to("../../../kept/file")
    os.mkfifo(tmp_path / "gone" / "fifo")
    files.remove(str(tmp_path / "gone"))
    assert os.listdir(tmp_path) == ["kept"]
    assert (tmp_path / "kept" / "file").read_text() == "kept"
    (tmp_path / "link").symlink_to("kept")
    with pytest.raises(NotADirectoryError):
        files.remove_folder(str(tmp_path / "link"))
    files.remove(str(tmp_path / "link"))
    assert os.listdir(tmp_path / "kept") == ["file"]


@pytest.fixture
def mounted(tmp_path):
    """A folder in which nobody can remove one, since it is a mount point."""
    place = tmp_path / "folder" / "below" / "mounted"
    place.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=1000", "none", place], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_what_cannot_be_removed(tmp_path, mounted):
    (tmp_path / "folder" / "z").touch()
    files.remove(str(tmp_path / "folder"))
    assert os.listdir(tmp_path / "folder") == ["below"]
    with pytest.raises(OSError, match="busy"):
        files.empty_folder(str(tmp_path / "folder"))


def test_what_is_not_there():
    files.remove("/nothing/there")
    with pytest.raises(FileNotFoundError):
        files.remove_folder("/nothing/there")


def test_how_much_stays_free():
    assert [files.floor(size) for size in (0, 50, 100 * MIB, 1 << 50)] == [0, 1, 2 * MIB, 256 * MIB]


def test_some_stays_free(mounted):
    """Whoever asks before each write, of whatever size, does not fill it."""
    space, kept = files.Space(str(mounted)), files.floor(64 * MIB)
    with open(mounted / "file", "wb", buffering=0) as stream, pytest.raises(OSError, match="stays free for the server"):
        while True:
            space.take(100_000)
            stream.write(bytes(100_000))
    assert kept <= files.free_bytes(str(mounted)) < kept + 200_000
    # What others give back can be used.
    os.unlink(mounted / "file")
    space.take(MIB)


def test_a_file_system_that_does_not_tell_its_size():
    assert os.statvfs("/proc").f_blocks == 0
    files.Space("/proc").take(1 << 20)


def test_files_that_arrive_leave_room(tmp_path, mounted):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "large").write_bytes(bytes(range(256)) * 4096 * 70)
    archive.save(str(tmp_path / "here"), str(tmp_path / "archive"), [b"large"])
    with pytest.raises(archive.Refused, match=r"/large could not be written at the destination \(No space left on"):
        archive.apply(str(tmp_path / "archive"), str(mounted))
    assert files.free_bytes(str(mounted)) >= files.floor(64 * MIB)


def test_names_take_room_as_well(mounted):
    heads = b""
    for number in range(1000):
        head = b'{"name":"%d","mode":16877,"owner":[0,0],"times":[1,1],"attributes":{}}' % number
        heads += len(head).to_bytes(4, "big") + head
    with pytest.raises(archive.Refused, match="stays free"):
        archive.Unpacker(str(mounted), io.BytesIO(heads + bytes(4)).read).unpack()
    assert 20 <= os.statvfs(mounted).f_ffree < 40


def test_how_much_there_is_in_a_folder(deep, tmp_path):
    """However deep it is; what must be holes is nothing."""
    assert files.folder_bytes(deep) == 0
    (tmp_path / "small").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("small")
    (tmp_path / "large").write_bytes(bytes(MIB))
    with open(tmp_path / "sparse", "wb") as stream:
        stream.truncate(1 << 43)
        os.pwrite(stream.fileno(), b"x", 1 << 42)
    assert MIB + 10 < files.folder_bytes(str(tmp_path)) < 2 * MIB
    assert files.folder_bytes(str(tmp_path / "nothing")) == 0
