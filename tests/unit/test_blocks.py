# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of a large file only what has changed travels."""

from __future__ import annotations

import hashlib
import io
import os
import random
import select
import shutil
import signal
import tempfile

import pytest
from fuzz.made_up import little_memory

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


def state_of(*known):
    """The state with these blocks."""
    state = blocks.State()
    for number, checksum in known:
        state.add(number, checksum)
    return state


def test_what_is_kept_of_it(tmp_path):
    known, state = blocks.Blocks(), state_of((3, b"\x00\xfe" * 8), (2**47, b"\x01" * 16))
    known.note(b"a/\xff", 5, state)
    known.note(b"b", 6, blocks.State())
    known.store(str(tmp_path / "kept"))
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600
    again = blocks.Blocks.load(str(tmp_path / "kept"))
    assert (again.state(b"a/\xff", 5), again.state(b"b", 6), again.state(b"b", 5)) == (state, blocks.State(), None)


def test_what_was_kept_in_another_way_is_not_known(tmp_path):
    (tmp_path / "kept").write_text('{"a":[5,"AAAA"]}')
    assert blocks.Blocks.load(str(tmp_path / "kept")).state(b"a", 5) is None


def test_which_checksums_differ(monkeypatch):
    monkeypatch.setattr(blocks, "_COMPARED", 3)
    old = state_of(*((number * 5, bytes([number] * 16)) for number in range(10)))
    new = state_of(*((number * 5, bytes([number + (number in (0, 4, 9))] * 16)) for number in range(10)))
    assert [number for number, _checksum in new.differing(old)] == [0, 20, 45]
    assert list(new.differing(new)) == []
    assert new.has_same_blocks(old)
    assert not new.has_same_blocks(state_of((5, bytes(16))))


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


@pytest.fixture(params=["disk", "memory"])
def large(tmp_path, request):
    """Two folders, and the size of the largest file that can be there, in bytes: 16 TiB on ext4, 8 EiB in memory.

    Whoever walks through all of such a file does not come to the end: after a minute, it is an error.
    """
    top = tmp_path if request.param == "disk" else tempfile.mkdtemp(dir="/dev/shm")
    here, there = (os.path.join(top, name) for name in ("here", "there"))
    os.mkdir(here)
    os.mkdir(there)
    signal.alarm(60)
    yield here, there, largest(here)
    signal.alarm(0)
    shutil.rmtree(top)


def largest(folder):
    with open(os.path.join(folder, "tried"), "wb") as stream:
        for bits in range(63, 30, -1):
            for size in (2**bits - 1, 2**bits - 4096):
                try:
                    stream.truncate(size)
                except OSError:
                    continue
                os.unlink(stream.name)
                return size
    return 0


def test_holes_cost_nothing_however_large_they_are(large):
    here, there, size = large
    name, places = os.path.join(here, "data"), [0, size // 3, size - 5]
    with open(name, "wb") as stream:
        stream.truncate(size)
        for place in places:
            os.pwrite(stream.fileno(), b"data!", place)
    known, sent = blocks.Blocks(), []
    for _round in range(2):
        with little_memory(4 * MIB):
            stream = io.BytesIO()
            states = archive.block_states(here, [b"data"])
            archive.Packer(here, stream.write, blocks=known, states=states).pack([], [b"data"])
            # The plain way as well, in its own stream.
            plain = io.BytesIO()
            archive.Packer(here, plain.write).pack([], [b"data"])
            sent.append(stream.tell())
            for one in (stream, plain)[: 1 if _round else 2]:
                one.seek(0)
                archive.Unpacker(there, one.read).unpack()
                assert extents(there, size) == extents(here, size)
        with open(os.path.join(there, "data"), "rb") as arrived:
            assert [os.pread(arrived.fileno(), 5, place) for place in places] == [b"data!"] * 3
            assert os.fstat(arrived.fileno()).st_size == size
            assert os.fstat(arrived.fileno()).st_blocks * 512 < MIB
        known = blocks.Blocks() if not _round else known
    assert max(sent) < 4 * blocks.BLOCK


def extents(folder, size):
    descriptor = os.open(os.path.join(folder, "data"), os.O_RDONLY)
    try:
        return list(archive.extents_of(descriptor, size))
    finally:
        os.close(descriptor)


def test_what_is_no_hole_any_more_and_what_is_one_now(large):
    """Of a file with holes like these, only what changes travels, there as well."""
    here, there, size = large
    name = os.path.join(here, "data")
    with open(name, "wb") as stream:
        stream.truncate(size)
        os.pwrite(stream.fileno(), b"a" * 3 * blocks.BLOCK, size // 2)
    known = blocks.Blocks()

    def send():
        stream = io.BytesIO()
        archive.Packer(here, stream.write, blocks=known).pack([], [b"data"])
        stream.seek(0)
        archive.Unpacker(there, stream.read).unpack()
        return len(stream.getvalue())

    def content(folder, place):
        with open(os.path.join(folder, "data"), "rb") as stream:
            return os.pread(stream.fileno(), 3 * blocks.BLOCK, place)

    assert send() > 3 * blocks.BLOCK
    inode = os.stat(os.path.join(there, "data")).st_ino
    with open(name, "r+b") as stream:
        # All behind it is gone, and comes back as a hole.
        stream.truncate(size // 2 + 5)
        stream.truncate(size)
        os.pwrite(stream.fileno(), b"b", size // 4)
    assert send() < 8 * blocks.BLOCK
    assert send() < 1000
    for place in (0, size // 4, size // 2):
        same = content(here, place) == content(there, place)
        assert same, place
    assert os.stat(os.path.join(there, "data")).st_ino == inode


def test_holes_within_a_block_stay_holes(both):
    here, there, send = both
    with open(here / "data", "wb") as stream:
        stream.truncate(64 * MIB)
        for number in range(0, 1024, 2):
            os.pwrite(stream.fileno(), b"x", number * blocks.BLOCK)
    assert send("data") < 512 * 2 * 4096
    assert (there / "data").stat().st_blocks == (here / "data").stat().st_blocks
    with open(here / "data", "r+b") as stream:
        os.pwrite(stream.fileno(), b"y", 8192)
    assert send("data") < 2 * blocks.BLOCK


def test_a_file_with_too_many_blocks_travels_whole(both, monkeypatch):
    here, _there, send = both
    monkeypatch.setattr(blocks, "MOST_OF_FILE", 40)
    (here / "few").write_bytes(b"a" * 40 * blocks.BLOCK)
    (here / "many").write_bytes(b"a" * 41 * blocks.BLOCK)
    for _round in range(2):
        assert send("many") > 41 * blocks.BLOCK
    send("few")
    assert send("few") < 1000


def test_no_more_is_remembered_of_all_files_than_that(monkeypatch):
    monkeypatch.setattr(blocks, "MOST", 3)
    known, two = blocks.Blocks(), state_of((0, bytes(16)), (1, bytes(16)))
    known.note(b"a", 1, two)
    known.note(b"b", 2, two)
    known.note(b"a", 1, two)
    assert (known.state(b"a", 1), known.state(b"b", 2)) == (two, None)
    known.forget(b"a")
    known.note(b"b", 2, two)
    assert known.state(b"b", 2) == two


def test_a_file_with_too_many_pieces_for_its_head_comes_in_blocks(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.setattr(archive, "_MOST_EXTENTS", 3)
    for name, pieces in (("few", 3), ("many", 40)):
        with open(here / name, "wb") as stream:
            for number in range(pieces):
                os.pwrite(stream.fileno(), os.urandom(5), number * 8 * MIB)
            os.pwrite(stream.fileno(), os.urandom(600_000), 0)
    archive.save(str(here), str(tmp_path / "archive"), [b"few", b"many"])
    content = (tmp_path / "archive").read_bytes()
    assert (content.count(b'"extents"'), content.count(b'"blocks":true')) == (1, 1)
    archive.apply(str(tmp_path / "archive"), str(there))
    for name in ("few", "many"):
        same = (here / name).read_bytes() == (there / name).read_bytes()
        assert same
        assert (here / name).stat().st_blocks == (there / name).stat().st_blocks


def test_a_file_system_that_knows_no_holes():
    archive._require_data(1 << 44, 1 << 34)
    with pytest.raises(OSError, match="its file system does not tell which") as refusal:
        archive._require_data(1 << 44, (1 << 34) - 512)
    assert "\n" not in str(refusal.value)


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
        listens = select.poll()
        listens.register(os.open(there / "data", os.O_RDONLY | os.O_NONBLOCK), select.POLLHUP)
    head = (
        b'{"name":"data","mode":33188,"owner":[0,0],"times":[0,0],"attributes":{},"size":9,"blocks":true,"patch":true}'
    )
    stream = io.BytesIO(
        len(head).to_bytes(4, "big") + head + bytes(7) + b"\0" + b"\0\0\0\x03abc" + bytes(12) + bytes(4)
    )
    with pytest.raises(Refused):
        archive.Unpacker(str(there), stream.read).unpack()
    assert secret.read_bytes() == b"secret"
    # Nor was it opened, which may do something already: who listens has not heard of anybody who could have written.
    assert made != "fifo" or listens.poll(0) == []


def test_a_block_beyond_the_end_is_refused(tmp_path):
    head = (
        b'{"name":"data","mode":33188,"owner":[0,0],"times":[0,0],"attributes":{},"size":9,"blocks":true,"patch":false}'
    )
    block = (8).to_bytes(8, "big") + (2).to_bytes(4, "big") + b"ab"
    stream = io.BytesIO(len(head).to_bytes(4, "big") + head + block + bytes(16))
    with pytest.raises(Refused, match="data behind the end of a file"):
        archive.Unpacker(str(tmp_path), stream.read).unpack()
