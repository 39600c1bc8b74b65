# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of a large file only what has changed travels."""

from __future__ import annotations

import hashlib
import io
import os
import random

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive, blocks

MIB = 1 << 20


@pytest.fixture(params=["compared as it is sent", "compared beforehand"])
def both(tmp_path, request):
    """Two trees, and what brings the second up to date: it returns how many bytes that took."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    known = blocks.Blocks()

    def send(*names: str, removed: tuple = ()) -> int:
        stream = io.BytesIO()
        made = [name.encode() for name in names]
        states = archive.block_states(str(here), made) if request.param == "compared beforehand" else None
        packer = archive.Packer(str(here), stream.write, blocks=known, states=states)
        packer.pack([name.encode() for name in removed], made)
        size = stream.tell()
        stream.seek(0)
        archive.Unpacker(str(there), stream.read).unpack()
        for name in names:
            assert (there / name).read_bytes() == (here / name).read_bytes()
        return size

    return here, there, send


def test_only_the_blocks_that_changed(both):
    here, there, send = both
    content = random.Random(1).randbytes(5 * MIB + 4711)
    (here / "data").write_bytes(content)
    assert send("data") > 5 * MIB
    inode = (there / "data").stat().st_ino
    with open(here / "data", "r+b") as stream:
        stream.seek(3 * MIB + 5)
        stream.write(b"x")
    assert send("data") < 2 * blocks.BLOCK
    # Who has it open at the destination has it still.
    assert (there / "data").stat().st_ino == inode
    assert send("data") < 1000


def test_only_what_has_changed_is_read_again(tmp_path, monkeypatch):
    """Where it was compared before it is sent. What is no large file is none of it."""
    (tmp_path / "data").write_bytes(random.Random(1).randbytes(3 * MIB))
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("data")
    known = blocks.Blocks()
    archive.Packer(str(tmp_path), lambda _data: None, blocks=known).pack([], [b"data"])
    with open(tmp_path / "data", "r+b") as stream:
        stream.write(b"x")
    states = archive.block_states(str(tmp_path), [b"data", b"folder", b"gone", b"link", b"small"])
    assert list(states) == [b"data"]
    read, places = os.pread, []
    monkeypatch.setattr(os, "pread", lambda *words: (places.append(words[2]), read(*words))[1])
    archive.Packer(str(tmp_path), lambda _data: None, blocks=known, states=states).pack([], [b"data"])
    assert places == [0]
    assert known.state(b"data", (tmp_path / "data").stat().st_ino) == states[b"data"]


@pytest.mark.parametrize("features", [["fpu", "sha_ni"], ["asimd", "sha2"], ["asimd"]])
def test_the_checksum_that_the_processor_is_quick_at(monkeypatch, features):
    monkeypatch.setattr(blocks.host, "cpu_features", lambda: features)
    blocks._computes_sha256.cache_clear()
    other = hashlib.blake2b(b"x", digest_size=16) if features == ["asimd"] else hashlib.sha256(b"x")
    assert blocks.digest(b"x") == other.digest()[:16]
    blocks._computes_sha256.cache_clear()


def test_what_is_kept_of_it(tmp_path):
    known = blocks.Blocks()
    known.note(b"a/\xff", 5, bytearray(b"\x00\xfe" * 16))
    known.note(b"b", 6, b"")
    known.store(str(tmp_path / "kept"))
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600
    again = blocks.Blocks.load(str(tmp_path / "kept"))
    assert (again.state(b"a/\xff", 5), again.state(b"b", 6), again.state(b"b", 5)) == (b"\x00\xfe" * 16, b"", None)


@pytest.mark.parametrize("size", [MIB, 2 * MIB - 1, 6 * MIB + 1, 1000])
def test_it_grows_and_shrinks(both, size):
    here, _there, send = both
    (here / "data").write_bytes(random.Random(2).randbytes(3 * MIB + 100))
    send("data")
    with open(here / "data", "r+b") as stream:
        stream.seek(0, os.SEEK_END)
        stream.truncate(size)
    send("data")
    with open(here / "data", "ab") as stream:
        stream.write(b"and more")
    send("data")


def test_holes(both):
    here, there, send = both
    with open(here / "data", "wb") as stream:
        stream.seek(20 * MIB)
        stream.write(b"end")
    assert send("data") < 2 * blocks.BLOCK
    assert (there / "data").stat().st_blocks * 512 < MIB
    with open(here / "data", "r+b") as stream:
        stream.seek(7 * MIB)
        stream.write(os.urandom(3 * blocks.BLOCK))
    assert 3 * blocks.BLOCK < send("data") < 6 * blocks.BLOCK
    with open(here / "data", "r+b") as stream:
        stream.seek(7 * MIB)
        stream.write(bytes(2 * blocks.BLOCK))
    send("data")


def test_another_file_of_the_same_name_travels_whole(both):
    here, _there, send = both
    (here / "data").write_bytes(b"a" * 2 * MIB)
    send("data")
    (here / "other").write_bytes(b"a" * 2 * MIB)
    os.rename(here / "other", here / "data")
    assert send("data") > 2 * MIB


def test_what_was_removed_meanwhile_travels_whole(both):
    here, there, send = both
    (here / "data").write_bytes(b"a" * 2 * MIB)
    send("data")
    send(removed=("data",))
    assert not (there / "data").exists()
    assert send("data") > 2 * MIB


def test_both_names_of_a_file_stay_one(both):
    here, there, send = both
    (here / "one").write_bytes(b"a" * 2 * MIB)
    os.link(here / "one", here / "two")
    send("one", "two")
    with open(here / "two", "ab") as stream:
        stream.write(b"b")
    send("one", "two")
    assert (there / "one").stat().st_ino == (there / "two").stat().st_ino


@pytest.mark.parametrize("made", ["folder", "link", "fifo", None])
def test_a_part_of_what_is_no_file_is_refused(tmp_path, made):
    secret, there = tmp_path / "secret", tmp_path / "there"
    secret.write_bytes(b"secret")
    there.mkdir()
    if made == "folder":
        (there / "data").mkdir()
    elif made == "link":
        (there / "data").symlink_to(secret)
    elif made == "fifo":
        os.mkfifo(there / "data")
    head = (
        b'{"name":"data","mode":33188,"owner":[0,0],"times":[0,0],"attributes":{},"size":9,"blocks":true,"patch":true}'
    )
    stream = io.BytesIO(
        len(head).to_bytes(4, "big") + head + bytes(7) + b"\0" + b"\0\0\0\x03abc" + bytes(12) + bytes(4)
    )
    with pytest.raises(Refused):
        archive.Unpacker(str(there), stream.read).unpack()
    assert secret.read_bytes() == b"secret"


def test_a_block_beyond_the_end_is_refused(tmp_path):
    head = (
        b'{"name":"data","mode":33188,"owner":[0,0],"times":[0,0],"attributes":{},"size":9,"blocks":true,"patch":false}'
    )
    block = (8).to_bytes(8, "big") + (2).to_bytes(4, "big") + b"ab"
    stream = io.BytesIO(len(head).to_bytes(4, "big") + head + block + bytes(16))
    with pytest.raises(Refused, match="data behind the end of a file"):
        archive.Unpacker(str(tmp_path), stream.read).unpack()
