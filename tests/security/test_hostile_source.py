# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on the destination's end of a live migration: the real program, as the forced command of a key starts it."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import time
import zlib
from collections.abc import Iterator

import pytest
from destinations import MIB, NEEDS_ROOT, cuts, do, frame, hello, listed, stream

from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import PAGE, pagemap_name
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    DATA,
    DO,
    END,
    FILE,
    HELLO,
    LAYOUT,
    MEMORY,
)

NAME = pagemap_name(1)
PAGES = bytes(range(256)) * (PAGE // 256)
CONTENT = b"the content of an image"


def memory(data: bytes = PAGES, vaddr: int = PAGE, name: str = NAME, compressed: bool = False) -> bytes:
    """Pages of one pagemap."""
    return frame(MEMORY, framing.memory_head(name, vaddr, compressed) + data)


def layout(*runs: object, name: object = NAME) -> bytes:
    """Which pages a pagemap has."""
    return do("layout", name=name) + listed(LAYOUT, *([list(runs)] if runs else []))


def settle(data: bytes = b"") -> bytes:
    """The end of a round in which these pages came."""
    return do("settle", round=1, sha256=hashlib.sha256(data).hexdigest())


def file(path: object, content: bytes = CONTENT, size: object = None) -> bytes:
    """One file, of which the size may be a lie."""
    return frame(FILE, {"path": path, "size": len(content) if size is None else size}) + stream(content)


HI = hello("source")
SENT = [
    HI,
    memory(),
    do("layout", name=NAME),
    frame(LAYOUT, [[PAGE, 1]]),
    frame(LAYOUT, []),
    settle(PAGES),
    frame(FILE, {"path": "images/core-1.img", "size": len(CONTENT)}),
    frame(DATA, CONTENT),
    frame(END, {"sha256": hashlib.sha256(CONTENT).hexdigest()}),
    do("files", round=1, tree="/data", fresh=True),
    frame(DATA, bytes(4)),
    frame(END, {"sha256": hashlib.sha256(bytes(4)).hexdigest()}),
]


def test_a_source_that_means_well_is_heard(channel):
    """Up to the request to restore, which there is no runtime for here."""
    channel.attack([*SENT, do("restore")], "before it had this end armed")


# ---------------------------------------------------------------------------------------------------------------------
# Frames and requests

REQUESTS = {
    "nothing": (b"", "closed the channel"),
    "what another program says": (b"SSH-2.0-OpenSSH_9.2\r\n" * 1000, "does not speak this protocol"),
    "no greeting": (memory(), "does not speak this protocol"),
    "two greetings": (HI * 2, "where F or M or O was due"),
    "the greeting of a destination": (hello("destination"), "is not a source"),
    "another version": (
        frame(HELLO, {"protocol": "fog.migration", "role": "source", "version": "\n" * 20000}),
        "version",
    ),
    "an unknown type": (HI + frame(b"Z"), "does not speak this protocol"),
    "a type of another conversation": (HI + frame(framing.LISTING, []), "where F or M or O was due"),
    "the destination's answers": (HI + frame(framing.DONE, {"done": "running"}), "where F or M or O was due"),
    "data of nothing": (HI + frame(DATA, CONTENT), "where F or M or O was due"),
    "an unknown request": (HI + do("reboot"), "asked for 'reboot', which is nothing"),
    "no request": (HI + frame(DO, {}), "asked for None, which is nothing"),
    "a request that is a list": (HI + frame(DO, []), "not an object"),
    "a request that is long": (HI + do("x" * 60000), "asked for 'xxx"),
    "a request with orders to a terminal": (HI + do("\n\x1b[2J"), "which is nothing"),
    "a number without end": (HI + frame(DO, b'{"do":' + b"9" * 60000 + b"}"), "not JSON"),
    "a container that is there": (HI + do("make"), "is there already"),
    "a restore before anything": (HI + do("restore"), "before it had this end armed"),
    "files of a place that does not move": (HI + do("files", tree="/etc", fresh=True), "which is no mount that moves"),
    "files of the root before it is mounted": (HI + do("files", tree=""), "while nothing waited for a restore"),
    "files of an odd place": (HI + do("files", tree=["/data"]), "which is no mount that moves"),
    "a layout without a list": (HI + do("layout", name=NAME) + memory(), "where Y was due"),
    "a list without a layout": (HI + listed(LAYOUT), "where F or M or O was due"),
    "a round that is another one": (HI + memory() + layout([PAGE, 1]) + settle(b"x"), "damaged on the way"),
    "a checksum that is a list": (HI + do("settle", sha256=[]), "damaged on the way"),
    "pages that were asked for by nobody": (HI + frame(framing.PAGES, PAGES), "where F or M or O was due"),
    "an end of what was never begun": (HI + frame(framing.CURRENT, framing.memory_head(NAME, 0)), "where F or M or O"),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_requests(channel, what):
    said, why = REQUESTS[what]
    channel.attack([said], why)


@pytest.mark.parametrize("length", [2**32 - 1, 2**24])
@pytest.mark.parametrize("kind", sorted(framing.LIMITS))
def test_lengths_beyond_every_bound(channel, kind, length):
    channel.attack([HI if kind != HELLO else b"", frame(kind, length=length), bytes(MIB)], "more than the")


def test_it_stops_in_each_stage(channel):
    for said in cuts(SENT):
        channel.attack([said], "closed the channel")


def test_json_that_goes_as_deep_as_can_be_read(channel):
    """A little less deep is read, and is in the answer then."""
    empty = hashlib.sha256().hexdigest().encode()
    for depth in (100, *range(970, 1000, 5), 5000):
        deep = b"[" * depth + b"]" * depth
        channel.attack([HI, frame(DO, b'{"do":%s}' % deep)], "")
        channel.attack([HI, frame(DO, b'{"do":"settle","round":%s,"sha256":"%s"}' % (deep, empty))], "")


# ---------------------------------------------------------------------------------------------------------------------
# Time


def again(piece: bytes, seconds: float) -> Iterator[bytes]:
    """The greeting, and then the same every fifth of a second for so long."""
    yield HI
    for _moment in range(int(seconds * 5)):
        time.sleep(0.2)
        yield piece


def test_a_source_that_only_lives(channel):
    channel.quiet_limit = 1
    channel.attack(again(frame(framing.ALIVE), 4), "nothing but signs of life for 1 seconds", stays=True)


# ---------------------------------------------------------------------------------------------------------------------
# Memory

PIECES = {
    "a name above": (memory(name="../../others/shadow"), "is not the name of a pagemap"),
    "a name that is none": (memory(name="core-1.img"), "is not the name of a pagemap"),
    "no name": (memory(name=""), "is not the name of a pagemap"),
    "a name that is longer than the frame": (frame(MEMORY, b"\0\xff" + bytes(8)), "are not whole pages"),
    "a name of other letters": (frame(MEMORY, b"\0\x01" + bytes(8) + b"\xff"), "malformed header"),
    "a head that is cut off": (frame(MEMORY, b"\0"), "malformed header"),
    "no page": (memory(b""), "are not whole pages"),
    "a part of a page": (memory(PAGES[:100]), "are not whole pages"),
    "an address within a page": (memory(vaddr=100), "are not whole pages"),
    "an address behind the last one": (memory(vaddr=2**64 - PAGE, data=PAGES * 2), "are not whole pages"),
    "what is not compressed": (memory(compressed=True), "were damaged on the way"),
    "what is compressed twice over": (memory(zlib.compress(PAGES) * 2, compressed=True), "more compressed pages"),
    "what is compressed in part": (memory(zlib.compress(PAGES)[:-5], compressed=True), "more compressed pages"),
    "a layout of pages that did not come": (layout([PAGE, 1]) + settle(), "did not arrive"),
    "a layout of nobody's memory": (layout([PAGE, 1], name=pagemap_name(7)) + settle(), "did not arrive"),
    "a layout without end": (layout([0, 2**70]) + settle(), "did not arrive"),
    "a layout below zero": (layout([-PAGE, 1]), "malformed layout"),
    "a layout of words": (layout(["x", "y"]), "malformed layout"),
    "a layout that is not in order": (
        memory(data=PAGES * 2) + layout([2 * PAGE, 1], [PAGE, 1]) + settle(PAGES * 2),
        "is not in order",
    ),
    "a layout of the same page twice": (memory() + layout([PAGE, 1], [PAGE, 1]) + settle(PAGES), "is not in order"),
    "a layout of another name": (layout(name="x" * 60000), "is not the name of a pagemap"),
    "a layout of no name": (layout(name=None), "is not the name of a pagemap"),
    "pages in a layout": (do("layout", name=NAME) + memory(), "where Y was due"),
}


@pytest.mark.parametrize("what", PIECES)
def test_pieces_of_memory(channel, what):
    said, why = PIECES[what]
    channel.attack([HI, said], why)


def test_pages_of_processes_that_nobody_has_announced_are_dropped(channel):
    """The end of a round leaves nothing of them, and the round is as if they had not come."""
    strange = memory(name=pagemap_name(4711))
    channel.attack([HI, strange, memory(), layout([PAGE, 1]), settle(PAGES * 2), do("end")], "asked for 'end'")


def test_much_that_was_little(channel):
    packed = zlib.compress(bytes(128 * MIB), 9)
    assert len(packed) < framing.CHUNK
    channel.attack([HI, memory(packed, compressed=True)], "more compressed pages")


def test_more_pages_than_there_is_room_for(channel):
    channel.room = 4 * MIB
    chunk = bytes(framing.CHUNK)
    said = (memory(chunk, vaddr=number * len(chunk)) for number in itertools.count())
    channel.attack(itertools.chain([HI], said), "than the 4 MiB for which there is room")


def test_a_layout_of_a_million_runs(channel):
    """More than there are pages: each of them has a page of its own."""
    parts = [[[2 * PAGE * number, 1] for number in range(begin, begin + 1000)] for begin in range(0, 400_000, 1000)]
    said = do("layout", name=NAME) + listed(LAYOUT, *parts)
    more = b"".join(said.replace(NAME.encode(), pagemap_name(number).encode()) for number in (2, 3, 4, 5, 6))
    channel.attack([HI, said, more], "more than 2000000 runs of pages", memory=512 * MIB)


def names_without_end(length: int) -> Iterator[bytes]:
    """Pagemaps without a page."""
    yield HI
    for number in itertools.count():
        yield do("layout", name=f"pagemap-{number:0{length}}.img") + listed(LAYOUT)


def test_pagemaps_without_end(channel):
    channel.attack(names_without_end(20), "more than 65536 pagemaps")


def test_pagemaps_with_long_names(channel):
    """Each takes as much memory as its name has letters."""
    channel.attack(names_without_end(60_000), "is not the name of a pagemap")


def test_processes_without_end(channel):
    """Each takes a file, which takes memory of the kernel."""
    said = (memory(name=pagemap_name(number)) for number in itertools.count())
    channel.room = 0
    channel.attack(itertools.chain([HI], said), "Too many open files", most_files=256)


@pytest.mark.parametrize("inner", [b"[],", b'{"":1},'], ids=["lists", "objects"])
def test_a_layout_that_is_larger_in_memory(channel, inner):
    part = frame(LAYOUT, b"[[" + inner * (60_000 // len(inner)) + b"0]]")
    channel.attack([HI, do("layout", name=NAME), *[part] * 2000], "values", memory=512 * MIB)


# ---------------------------------------------------------------------------------------------------------------------
# Files in staging

FILES = {
    "an absolute name": (file("/etc/shadow"), "neither the configuration nor an image"),
    "a name above": (file("../../others/shadow"), "neither the configuration nor an image"),
    "a name above in the images": (file("images/.."), "leaves the directory"),
    "the pages that have come": (file(f"store/{NAME}.pages"), "neither the configuration nor an image"),
    "what CRIU writes": (file("work/restore.log"), "neither the configuration nor an image"),
    "the folder of the images": (file("images"), "neither the configuration nor an image"),
    "a folder in the images": (file("images/a/b"), "neither the configuration nor an image"),
    "a name that is a list": (file(["images/x"]), "neither the configuration nor an image"),
    "a name with a zero": (file("images/a\0b"), "NUL"),
    "a long name": (file("images/" + "x" * 60_000), "neither the configuration nor an image"),
    "a size of 2^63": (file("images/x", size=2**63), "for which there is room"),
    "a size below zero": (file("images/x", size=-1), "a file without a size"),
    "a size that is a word": (file("images/x", size="1"), "a file without a size"),
    "more than was announced": (file("images/x", size=3), "more bytes of images/x came"),
    "less than was announced": (file("images/x", size=100), "where D was due"),
    "another checksum": (
        frame(FILE, {"path": "images/x", "size": 3}) + frame(DATA, b"abc") + frame(END, {"sha256": ""}),
        "damaged on the way",
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_files(channel, what):
    said, why = FILES[what]
    channel.attack([HI, said], why)


@NEEDS_ROOT
@pytest.mark.parametrize("kind", ["memory", "files"])
def test_a_staging_that_is_full(channel, place, kind):
    """On a disk, of which some always stays free for the server itself."""
    disk = place.there / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=300", "fog", str(disk)], check=True)
    chunk = bytes(framing.CHUNK)
    if kind == "memory":
        said = (memory(chunk, vaddr=number * len(chunk)) for number in itertools.count())
    else:
        said = (file(f"images/{number}", b"") for number in itertools.count())

    def link(folder):
        (disk / "staging").mkdir()
        os.symlink(disk / "staging", folder / "staging")

    try:
        channel.attack(itertools.chain([HI], said), "No space left on device", prepare=link)
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()
