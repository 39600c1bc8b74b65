# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on what receives a directory: the real program, as the forced command of a transfer's key starts it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from destinations import MIB, NEEDS_ROOT, cuts, frame, hello, listed

from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import DATA, END, HELLO, LISTING, PLAN

CONTENT = b"content" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TOP = {"path": ".", "dir": True, "mode": 0o700}
HERE = {"path": "a", "size": len(CONTENT), "mode": 0o600, "sha256": SHA256}
NEEDS_ZSTD = pytest.mark.skipif(not shutil.which("zstd"), reason="there is no zstd here")


def entry(path: object, **more: object) -> dict:
    """A file of a listing."""
    return {**HERE, "path": path, **more}


def folder(path: str) -> dict:
    """A folder of a listing."""
    return {"path": path, "dir": True, "mode": 0o700}


def offer(*entries: object, compression: str = "none") -> bytes:
    """All that a sender says up to the end of its listing."""
    return hello("sender", compression=compression) + listed(LISTING, [TOP, *entries])


def plan(*files: dict) -> bytes:
    """What a sender says it will send: the files in their order, from their begin."""
    return listed(PLAN, [{"index": index, "offset": 0} for index, _file in enumerate(files)])


SENT = [
    hello("sender", compression="none"),
    frame(LISTING, [TOP, HERE]),
    frame(LISTING, []),
    frame(PLAN, [{"index": 0, "offset": 0}]),
    frame(PLAN, []),
    frame(DATA, CONTENT),
    frame(END, {}),
]


def test_a_sender_that_means_well_is_heard(directory):
    """Otherwise all of the others would be refused for nothing."""
    assert directory.hear(SENT).code == 0
    assert (directory.final / "a").read_bytes() == CONTENT


# ---------------------------------------------------------------------------------------------------------------------
# Frames

FRAMES = {
    "nothing": (b"", "closed the channel"),
    "what another program says": (b"SSH-2.0-OpenSSH_9.2\r\n" * 1000, "does not speak this protocol"),
    "a request of the web": (b"GET / HTTP/1.1\r\n\r\n", "does not speak this protocol"),
    "zeros": (bytes(MIB), "does not speak this protocol"),
    "an unknown type": (SENT[0] + frame(b"Z"), "does not speak this protocol"),
    "a type of another conversation": (SENT[0] + frame(framing.DO, {"do": "arm"}), "where L was due"),
    "no greeting": (b"".join(SENT[1:]), "does not speak this protocol"),
    "two greetings": (SENT[0] * 2, "where L was due"),
    "the greeting of a receiver": (hello("receiver"), "is not a sender"),
    "another version": (
        frame(HELLO, {"protocol": "fog.migration", "role": "sender", "version": "9" * 60000}),
        "version 9",
    ),
    "data before the listing": (SENT[0] + SENT[5], "where L was due"),
    "the plan before the listing": (SENT[0] + SENT[3], "where L was due"),
    "the listing twice": (b"".join(SENT[:3]) + SENT[1], "where P was due"),
    "the plan twice": (b"".join(SENT[:5]) + SENT[3], "where D or E was due"),
    "the end before the data": (b"".join(SENT[:5]) + SENT[6], "fewer bytes came"),
    "data behind the last file": (b"".join(SENT[:6]) + SENT[5], "more bytes came"),
    "other data": (b"".join(SENT[:5]) + frame(DATA, CONTENT[::-1]) + SENT[6], "with another checksum"),
    "a greeting that is a list": (frame(HELLO, []), "not an object"),
    "a listing that is an object": (SENT[0] + frame(LISTING, {}), "not a list"),
    "a plan of numbers": (b"".join(SENT[:3]) + listed(PLAN, [1]), "is not what was wanted"),
    "a plan with another file": (b"".join(SENT[:3]) + listed(PLAN, [{"index": 7, "offset": 0}]), "is not what was"),
    "a plan with another begin": (b"".join(SENT[:3]) + listed(PLAN, [{"index": 0, "offset": 5}]), "is not what was"),
    "no JSON": (frame(HELLO, b"{"), "not JSON"),
    "JSON that goes deep": (frame(HELLO, b"[" * 60000), "not JSON"),
    "a number without end": (frame(HELLO, b"9" * 60000), "not JSON"),
    "a sign of life with something in it": (SENT[0] + frame(framing.ALIVE, b"x"), "more than the 0"),
    "a refusal with orders to a terminal": (frame(framing.REFUSED, {"reason": "no\n\x1b[2Jroot# "}), "no ?[2Jroot#"),
}


@pytest.mark.parametrize("what", FRAMES)
def test_frames(directory, what):
    said, why = FRAMES[what]
    directory.attack([said], why)


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 2**24])
@pytest.mark.parametrize("kind", sorted(framing.LIMITS))
def test_lengths_beyond_every_bound(directory, kind, length):
    said = frame(kind, length=length) if kind == HELLO else SENT[0] + frame(kind, length=length)
    directory.attack([said, bytes(MIB)], "more than the")


def test_it_stops_in_each_stage(directory):
    for said in cuts(SENT):
        directory.attack([said], "closed the channel")
        # From what is there, the next one would go on.
        shutil.rmtree(directory.parent, ignore_errors=True)


# ---------------------------------------------------------------------------------------------------------------------
# Time


def test_a_sender_that_says_nothing(directory):
    directory.order["idle_limit"] = 1
    directory.attack(SENT[:3], "has sent nothing for 1 seconds", stays=True)


def drops() -> Iterator[bytes]:
    """A frame, a byte at a time."""
    yield SENT[0]
    for byte in frame(LISTING, b"x" * 10000):
        time.sleep(0.2)
        yield bytes([byte])


def test_a_sender_that_says_a_byte_now_and_then(directory):
    directory.order["idle_limit"] = 1
    directory.attack(drops(), "has not sent a whole frame in 5 seconds")


def signs_of_life() -> Iterator[bytes]:
    yield SENT[0]
    for _moment in range(20):
        time.sleep(0.2)
        yield frame(framing.ALIVE)


def test_a_sender_that_only_lives(directory):
    directory.order["lifetime"] = 2
    directory.attack(signs_of_life(), "was not over within 2 seconds", stays=True)


def test_a_sender_that_does_not_listen(directory):
    """Its files are so many that a pipe does not take what is said of them."""
    directory.order["idle_limit"] = 1
    many = [entry(f"{number}", size=0) for number in range(20000)]
    directory.attack([offer(*many)], "has read nothing for 1 seconds", stays=True, hears=False)


# ---------------------------------------------------------------------------------------------------------------------
# Names and sizes

ENTRIES = {
    "an absolute name": (entry("/etc/shadow"), "the absolute path"),
    "a name above": (entry("../../others/shadow"), "leaves the directory"),
    "a name above in the middle": (entry("a/../../../others/shadow"), "leaves the directory"),
    "the folder itself": (entry("."), "leaves the directory"),
    "no name": (entry(""), "an empty path"),
    "a name with a zero": (entry("a\0b"), "NUL"),
    "a name that is none": (entry("\ud800"), "cannot be that of a file"),
    "a name that is a list": (entry(["a"]), "an empty path"),
    "a name that is too long": (entry("x" * 300), "File name too long"),
    "a name that is too long, with orders to a terminal": (entry("\n\x1b[2J" * 100), "File name too long"),
    "a way of 10 000 folders": (entry("a/" * 10_000 + "a"), "levels deep"),
    "a size of 2^63": (entry("b", size=2**63), "with the size"),
    "a size of 8 EiB but a byte": (entry("b", size=2**63 - 1), "No space left on device"),
    "a size below zero": (entry("b", size=-1), "with the size"),
    "a size that is a word": (entry("b", size="x" * 100_000), "with the size"),
    "a size that is true": (entry("b", size=True), "with the size"),
    "a mode that lends root's rights": (entry("b", mode=0o4755), "with the mode"),
    "a checksum that is none": (entry("b", sha256="../" * 20 + "xxxx"), "with the checksum"),
    "an entry that is a number": (7, "not an object"),
    "a file in a file": (entry("a/b"), "not the directory that it is in"),
    "a name twice": (HERE, "twice"),
}


@pytest.mark.parametrize("what", ENTRIES)
def test_entries(directory, what):
    one, why = ENTRIES[what]
    directory.attack([offer(HERE, one), plan(HERE, one), SENT[5]], why)


def deep() -> list[dict]:
    """All folders of a way whose names are as long as they can be: longer together than a path can be."""
    return [folder("/".join(["x" * 255] * level)) for level in range(1, 100)]


def test_a_way_that_no_path_can_have(directory):
    directory.attack([offer(*deep())], "File name too long")


def parts_of(one: bytes, count: int) -> Iterator[bytes]:
    """A listing of so many entries, a thousand in each frame."""
    part = frame(LISTING, b"[" + b",".join([one] * 1000) + b"]")
    yield SENT[0]
    yield from itertools.repeat(part, count // 1000)


# So many entries may be there, and each takes half a KiB.
LISTED = 512 * MIB


def test_a_million_entries(directory):
    one = json.dumps(HERE).encode()
    directory.attack(parts_of(one, 1_000_000), "more than 500000 entries", memory=LISTED)


@pytest.mark.parametrize("inner", [b"[],", b"{},", b'{"":1},', b"300,"], ids=["lists", "objects", "names", "numbers"])
def test_an_entry_that_is_larger_in_memory(directory, inner):
    """Of the smallest values, thirty times as much is kept as has come."""
    part = frame(LISTING, b"[[" + inner * (3 * MIB // len(inner)) + b"0]]")
    directory.attack([SENT[0], *[part] * 40], "values", memory=LISTED)


# ---------------------------------------------------------------------------------------------------------------------
# Compression


def zeros(size: int, *options: str) -> bytes:
    """So many zeros, compressed."""
    with subprocess.Popen(["zstd", "-q", "-c", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as packer:
        for _mebibyte in range(size // MIB):
            packer.stdin.write(bytes(MIB))
        packer.stdin.close()
        return packer.stdout.read()


def data_of(packed: bytes) -> list[bytes]:
    return [frame(DATA, packed[begin : begin + framing.CHUNK]) for begin in range(0, len(packed), framing.CHUNK)]


@NEEDS_ZSTD
@pytest.mark.parametrize(
    ("options", "why"), [((), "more bytes came"), (("--long=31",), "damaged")], ids=["", "with a window of 2 GiB"]
)
def test_much_that_was_little(directory, options, why):
    packed = zeros(512 * MIB, "-1", *options)
    assert len(packed) < MIB
    one = entry("a", size=4096, sha256=hashlib.sha256(bytes(4096)).hexdigest())
    directory.attack([offer(one, compression="zstd"), plan(one), *data_of(packed), SENT[6]], why)


COMPRESSED = {
    "what is not compressed": CONTENT * 1000,
    "what breaks off": b"\x28\xb5\x2f\xfd\x04\x58",
    "nothing": b"",
}


@NEEDS_ZSTD
@pytest.mark.parametrize("what", COMPRESSED)
def test_what_was_compressed_wrongly(directory, what):
    said = [offer(HERE, compression="zstd"), plan(HERE), *data_of(COMPRESSED[what]), SENT[6]]
    directory.attack(said, "damaged")


# ---------------------------------------------------------------------------------------------------------------------
# The disk


@pytest.fixture
def small_disk(place):
    """The folder in which it arrives is a file system of 8 MiB with 300 files."""
    parent = place.there / "in"
    parent.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=300,mode=700", "fog", str(parent)], check=True)
    yield parent
    subprocess.run(["umount", str(parent)], check=True)
    parent.rmdir()


@NEEDS_ROOT
def test_more_bytes_than_there_is_room_for(directory, small_disk):
    large = entry("a", size=8 * MIB)
    directory.attack([offer(large)], "No space left on device")
    assert os.listdir(small_disk) == []


@NEEDS_ROOT
def test_more_files_than_there_is_room_for(directory, small_disk):
    """None of them has a byte."""
    many = [entry(f"{number}", size=0, sha256=hashlib.sha256().hexdigest()) for number in range(1000)]
    directory.attack([offer(*many), plan(*many), SENT[6]], "No space left on device")
    assert os.listdir(small_disk) == []


@NEEDS_ROOT
def test_more_folders_than_there_is_room_for(directory, small_disk):
    directory.attack([offer(*[folder(f"{number}") for number in range(1000)])], "No space left on device")
    assert os.listdir(small_disk) == []


# ---------------------------------------------------------------------------------------------------------------------
# What somebody has put there beforehand


def link(directory, at):
    at.symlink_to(directory.place.others, target_is_directory=True)


def fifo(_directory, at):
    os.mkfifo(at)


def file(_directory, at):
    at.write_text("x")


def of_another_user(_directory, at):
    at.mkdir()
    os.chown(at, 65534, 65534)


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("put", "why"),
    [(link, ""), (fifo, "Not a directory"), (file, "Not a directory"), (of_another_user, "belongs to another user")],
)
def test_staging_that_is_not_ours(directory, put, why):
    directory.parent.mkdir(0o700)
    put(directory, directory.staging)
    before = directory.staging.lstat()
    directory.attack(SENT, why)
    assert directory.staging.lstat() == before


@pytest.mark.parametrize("put", [link, fifo, file])
def test_what_is_in_staging_already(directory, put):
    """It is a leftover of ours, or is taken away: nobody waits for it, and nothing is written through it."""
    directory.staging.mkdir(0o700, parents=True)
    put(directory, directory.staging / "a")
    directory.attack(SENT[:4], "closed the channel")
    assert os.listdir(directory.staging) in ([], ["a"])
    assert not any(os.path.islink(one) for one in directory.staging.iterdir())
