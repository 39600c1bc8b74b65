# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks by the files of a container, on the destination's end of a live migration: its volume, its layer, its log."""

from __future__ import annotations

import itertools
import json
import os
import stat
import struct
import subprocess
from collections.abc import Iterator

import pytest
from destinations import CONTAINER, MIB, NEEDS_ROOT, do, frame, hello, stream

from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import DATA

# It writes devices and owners.
pytestmark = NEEDS_ROOT

REGULAR, FOLDER, LINK, FIFO, CHARACTER = (
    kind | 0o755 for kind in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR)
)
FACTS = {"owner": [0, 0], "times": [1, 1], "attributes": {}, "device": [0, 0], "target": "a", "size": 5}
OWNED = b"owned"
END = bytes(4)
# What would end every conversation that has come so far.
BYE = do("end")
# In the place of the folder with what must not be touched.
OTHERS = "OTHERS"


def record(content: bytes = b"", **head: object) -> bytes:
    """One record: the head of a file, and what follows it."""
    text = json.dumps({**FACTS, **head}).encode("ascii")
    return struct.pack(">I", len(text)) + text + content


def plain(**head: object) -> bytes:
    """One record without the facts that all have."""
    text = json.dumps(head).encode("ascii")
    return struct.pack(">I", len(text)) + text


def file(name: str, **more: object) -> bytes:
    """A file with five bytes."""
    return record(OWNED, **{"name": name, "mode": REGULAR, "extents": [[0, 5]], **more})


def block(offset: int, data: bytes, length: int | None = None) -> bytes:
    """One block of a large file."""
    return struct.pack(">QI", offset, len(data) if length is None else length) + data


def change(name: str, *blocks: bytes, size: object = 5) -> bytes:
    """A change of a file that came before."""
    return record(b"".join(blocks) + bytes(12), name=name, mode=REGULAR, size=size, patch=True, blocks=True)


def folder(name: str) -> bytes:
    return record(name=name, mode=FOLDER)


def link(name: str, target: str) -> bytes:
    return record(name=name, mode=LINK, target=target)


def hard(name: str, first: str) -> bytes:
    return plain(name=name, link=first)


def device(name: str, major: int, minor: int) -> bytes:
    return record(name=name, mode=CHARACTER, device=[major, minor])


RECORDS = {
    "an absolute name": (file("/etc/shadow"), "is not a relative path below the folder"),
    "a name above": (file("../others/shadow"), "is not a relative path below the folder"),
    "a name above in the middle": (file("a/../../others/shadow"), "is not a relative path below the folder"),
    "no name": (file(""), "is not a relative path below the folder"),
    "a name with a zero": (file("a\0b"), "is not a relative path below the folder"),
    "a name that is a list": (file(["a"]), "malformed file record"),
    "a name that is too long": (file("x" * 300), "File name too long"),
    "a name with orders to a terminal": (file("\n\x1b[2J" * 100), "File name too long"),
    "the folder itself": (file("."), ""),
    "through a link": (link("a", OTHERS) + file("a/shadow"), "Not a directory"),
    "through a link in the middle": (link("a", OTHERS) + file("a/home/key"), "Not a directory"),
    "through a link to a link": (link("a", "b") + link("b", OTHERS) + file("a/shadow"), "Not a directory"),
    "through a folder that has become a link": (
        folder("a") + file("a/x") + link("a", OTHERS) + file("a/x"),
        "Not a dir",
    ),
    "a change through a link": (link("a", f"{OTHERS}/shadow") + change("a", block(0, OWNED)), "not a regular file"),
    "a change of a device": (device("a", 1, 3) + change("a", block(0, OWNED)), "not a regular file"),
    "a change of a FIFO": (record(name="a", mode=FIFO) + change("a", block(0, OWNED)), "not a regular file"),
    "a change of a folder": (folder("a") + change("a", block(0, OWNED)), "not a regular file"),
    "a change of nothing": (change("a", block(0, OWNED)), "No such file"),
    "a hard link to what is outside": (hard("a", "../others/shadow"), "is not a relative path below the folder"),
    "a hard link through a link": (link("a", OTHERS) + hard("b", "a/shadow"), "Not a directory"),
    "a hard link to a link": (
        link("a", f"{OTHERS}/shadow") + hard("b", "a") + change("b", block(0, OWNED)),
        "not a regular",
    ),
    "a hard link to a folder": (folder("a") + hard("b", "a"), "not permitted"),
    "removed above": (plain(remove="../others/shadow"), "is not a relative path below the folder"),
    "removed through a link": (link("a", OTHERS) + plain(remove="a/home") + BYE, ""),
    "the root removed": (plain(remove="."), "removal of the root folder"),
    "a size of 2^63": (file("a", size=2**63), "malformed file record"),
    "a size below zero": (file("a", size=-1, extents=[]), "malformed file record"),
    "a size that is a word": (file("a", size="5"), "malformed file record"),
    "data behind the end": (file("a", extents=[[2**40, 5]]), "behind the end of a file"),
    "data in front of the begin": (file("a", extents=[[-1, 5]]), "malformed file record"),
    "extents that are none": (file("a", extents=[5]), "malformed file record"),
    "blocks behind the end": (change("a", block(2**64 - 1, OWNED)), "No such file"),
    "a block behind the end": (file("a") + change("a", block(2**63, OWNED)), "behind the end of a file"),
    "an attribute of the server's": (file("a", attributes={"security.selinux": "eA=="}), "is not allowed"),
    "an attribute of overlay's": (file("a", attributes={"trusted.overlay.redirect": "eA=="}), "is not allowed"),
    "an attribute that is too large": (file("a", attributes={"user.a": "QUFB" * 50_000}), "could not be written"),
    "an owner that nobody can be": (file("a", owner=[2**40, 0]), "malformed file record"),
    "times that never come": (file("a", times=[2**100, 1]), "malformed file record"),
    "a mode that is none": (file("a", mode="0644"), "malformed file record"),
    "a number without end": (struct.pack(">I", 10**6) + b'{"name":' + b"9" * (10**6 - 8), "not a JSON object"),
    "a head that is too long": (struct.pack(">I", 2**32 - 1), "which is too long"),
    "a head that is a list": (plain()[:4] + b"[]", "not a JSON object"),
    "a head that goes deep": (struct.pack(">I", 10**6) + b"[" * 10**6, "not a JSON object"),
    "a head of nothing": (plain(), "malformed file record"),
}


def into(tree: str, data: bytes) -> bytes:
    """All that a source says to bring these files."""
    request = do("layer") if tree == "layer" else do("files", tree=tree, fresh=True, round=1)
    return hello("source") + request + stream(data + END) + BYE


def placed(data: bytes, others: object) -> bytes:
    """The same records, with the path of what must not be touched."""
    found, rest = b"", data
    while OTHERS.encode() in rest:
        length = struct.unpack_from(">I", rest)[0]
        head, rest = rest[4 : 4 + length].replace(OTHERS.encode(), os.fsencode(others)), rest[4 + length :]
        found += struct.pack(">I", len(head)) + head
        if b'"extents"' in head:
            found, rest = found + rest[:5], rest[5:]
    return found + rest


@pytest.mark.parametrize("tree", ["/data", "layer"])
@pytest.mark.parametrize("what", RECORDS)
def test_records(channel, docker, place, tree, what):
    data, why = RECORDS[what]
    if tree == "layer" and "overlay" in what:
        pytest.skip("a layer has these")
    channel.attack([into(tree, placed(data, place.others))], why)
    docker.empty()


ACCEPTED = {
    "a folder that becomes a link": folder("a") + link("a", OTHERS),
    "a link that becomes a folder": link("a", OTHERS) + folder("a") + file("a/shadow"),
    "a file that becomes a link": file("a") + link("a", f"{OTHERS}/shadow"),
    "a link that becomes a file": link("a", f"{OTHERS}/shadow") + file("a"),
    "a device that nobody opens": device("a", 10, 130),
    "a FIFO that nobody opens": record(name="a", mode=FIFO) + file("a"),
    "removed, and nothing there": plain(remove="a/b/c"),
}


@pytest.mark.parametrize("tree", ["/data", "layer"])
@pytest.mark.parametrize("what", ACCEPTED)
def test_what_may_be(channel, docker, place, tree, what):
    """It is done where it belongs, and nowhere else."""
    channel.attack([into(tree, placed(ACCEPTED[what], place.others))], "asked for 'end'")
    docker.empty()


def test_a_file_of_8_eib(channel, docker):
    """Of holes: it arrives as that, or the file system has none so large."""
    size = 2**63 - 1
    said = record(name="a", mode=REGULAR, size=size, extents=[])
    said += file("b") + change("b", block(2**62, OWNED), size=size)
    channel.attack([into("/data", said)], "")
    assert sum(one.lstat().st_blocks for one in docker.mount.iterdir()) < 1000


def test_folders_without_end(channel, docker):
    """One in the other, far deeper than Python can go down in itself."""
    names = ["/".join("d" * level) for level in range(1, 1100)]
    said = b"".join(map(folder, names)) + plain(remove="d") + file("a")
    channel.attack([into("/data", said)], "/d could not be written at the destination (No such file")
    assert os.listdir(docker.mount) == ["a"]


def data_of(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes of a stream in frames, as they are made."""
    yield hello("source") + do("files", tree="/data", fresh=True, round=1)
    for piece in pieces:
        yield frame(DATA, piece)


@pytest.mark.parametrize("count", [10_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_entries_without_end(channel, docker, count):
    """Folders, of which each is remembered up to the end, and which are all made again."""
    names = [b"".join(folder(f"d{number}") for number in range(part, part + 500)) for part in range(0, 2000, 500)]
    said = itertools.islice(itertools.cycle(names), count // 500)
    channel.attack(data_of(said), "closed the channel", memory=128 * MIB)
    docker.empty()


@pytest.mark.parametrize("inner", [b"[],", b"{},", b'{"":1},'], ids=["lists", "objects", "names"])
def test_a_head_that_is_larger_in_memory(channel, inner):
    head = b'{"name":"a","extents":[' + inner * (4 * MIB // len(inner) - 100) + b"0]}"
    said = struct.pack(">I", len(head)) + head
    parts = (said[begin : begin + framing.CHUNK] for begin in range(0, len(said), framing.CHUNK))
    channel.attack(data_of(parts), "", memory=160 * MIB)


def test_extents_without_end(channel):
    said = file("a", extents=[[0, 0]] * 500_000)
    parts = (said[begin : begin + framing.CHUNK] for begin in range(0, len(said), framing.CHUNK))
    channel.attack(data_of(parts), "", memory=160 * MIB)


LOGS = {
    "a piece of 4 GiB": (struct.pack(">I", 2**32 - 1), "more of a log than it may at once"),
    "a piece that breaks off": (struct.pack(">I", 1000) + b"x", "where D was due"),
    "another checksum": (END + b"x", "damaged on the way"),
}


@pytest.mark.parametrize("what", LOGS)
def test_the_log(channel, docker, what):
    data, why = LOGS[what]
    channel.attack([hello("source") + do("files", tree="log", round=1) + stream(data)], why)
    assert os.listdir(docker.log.parent) in ([], [docker.log.name])


def test_a_log_that_leads_elsewhere(channel, docker, place):
    docker.log.symlink_to(place.others / "shadow")
    channel.attack([hello("source") + do("files", tree="log", round=1) + stream(END)], "")
    docker.log.unlink()


# ---------------------------------------------------------------------------------------------------------------------
# The disk


def bytes_without_end() -> Iterator[bytes]:
    yield record(name="a", mode=REGULAR, size=2**40, extents=[[0, 2**40]])
    yield from itertools.repeat(bytes(framing.CHUNK))


def files_without_end() -> Iterator[bytes]:
    for number in itertools.count():
        yield file(f"f{number}")


@pytest.mark.parametrize("endless", [bytes_without_end, files_without_end])
def test_a_disk_that_is_full(channel, docker, endless):
    """Something stays free for the server itself."""
    options = "size=16m,nr_inodes=2000"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "fog", str(docker.mount)], check=True)
    try:
        channel.attack(data_of(endless()), "No space left on device")
        status = os.statvfs(docker.mount)
        assert status.f_bfree * 50 >= status.f_blocks - 100 and status.f_ffree * 50 >= status.f_files - 100
    finally:
        subprocess.run(["umount", str(docker.mount)], check=True)


def log_without_end() -> Iterator[bytes]:
    yield hello("source") + do("files", tree="log", round=1)
    piece = struct.pack(">I", framing.CHUNK - 4) + bytes(framing.CHUNK - 4)
    yield from itertools.repeat(frame(DATA, piece))


def test_a_disk_that_a_log_fills(channel, docker):
    folder_of_log = docker.root / "containers"
    (folder_of_log / CONTAINER).rmdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "fog", str(folder_of_log)], check=True)
    docker.log.parent.mkdir()
    try:
        channel.attack(log_without_end(), "No space left on device")
        status = os.statvfs(folder_of_log)
        assert status.f_bfree * 50 >= status.f_blocks - 100
    finally:
        subprocess.run(["umount", str(folder_of_log)], check=True)
