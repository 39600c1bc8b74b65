# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pagemaps: which pages CRIU's images hold, and where their bytes are.

How CRIU keeps pages. C(pagemap-ID.img) is two magic numbers of 32 bits and then messages of Protocol Buffers, each
behind its length (32 bits; all numbers little endian). The first message names the C(pages-N.img), each further one is
a run of pages: address, count, flags. ID is the PID in the innermost PID namespace; in C(pagemap-shmem-ID.img) it
stands for a piece of shared memory, and addresses begin with 0 there. C(pages-N.img) holds the bytes of the runs that
are PRESENT, one after the other, and nothing else: there are no offsets, so the runs have to be in order. Runs that are
only LAZY were left with their process by a lazy dump. Pages that are in no run are zero, or as in the file that is
mapped there. Runs with the flag PARENT, whose bytes an earlier dump has, are not asked for here and are refused.
Sources, all of U(https://github.com/checkpoint-restore/criu), read at v4.2: images/pagemap.proto,
criu/include/magic.h, criu/include/pagemap.h, criu/image.c (framing), criu/pagemap.c (reading), criu/mem.c (what is
dumped, restore), criu/uffd.c (lazy pages).

- CRIU 4.2 counts pages in a new field of 64 bits and leaves the old one 0, older ones know only the old field. Here
  both are written, so that any CRIU reads it.
- LAZY is no part of what a page is: is_stack() means to leave out the page of a thread's stack pointer, but compares
  offsets in pages, so a process of which one pointer is at the begin of a page has no lazy pages at all in that dump.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.criu.protobuf import ProtobufError, decode, encode
from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError

PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCK = 256 * 1024  # Bytes that are read and compared at a time: two of them fit into a small cache.

COMMON_MAGIC = 0x54564319  # IMG_COMMON_MAGIC
PAGEMAP_MAGIC = 0x56084025  # PAGEMAP_MAGIC, also that of pagemap-shmem

PARENT, LAZY, PRESENT = 1, 2, 4  # PE_PARENT, PE_LAZY, PE_PRESENT

NAME = re.compile(r"pagemap-(?:shmem-)?(\d{1,20})\.img")
_PAGES_NAME = re.compile(r"pages-\d+\.img")
WORD = 1 << 64
# Runs in the pagemap of one process; bytes of the longest one, and of what comes before the first one.
MOST_RUNS, LONGEST_RUN, _HEAD = 2_000_000, 40, 64
# Pagemaps of one container: of its processes, and of the memory that they share. Each takes a file.
MOST_PAGEMAPS = 65_536


class PagesError(CollectionError):
    """What cannot be used. The text is one sentence for people."""


class Run(NamedTuple):
    """Pages with consecutive addresses whose bytes lie one after the other in one file."""

    vaddr: int  # address of the first page, in bytes
    pages: int
    flags: int  # LAZY or 0; in a pagemap PRESENT, too
    file: int  # descriptor of the file with the bytes, -1 where they are elsewhere
    offset: int  # of the first page in that file, in bytes


class Pages(NamedTuple):
    """Where pages are, without their bytes: what two stores tell each other about a round."""

    vaddr: int
    pages: int


# ---------------------------------------------------------------------------------------------------------------------
# File names


def holds_pages(name: str) -> bool:
    """Whether a file of an image set is nothing but the bytes of pages."""
    return bool(_PAGES_NAME.fullmatch(name))


def pagemap_name(image_id: int) -> str:
    """The file name of a process' pagemap; I(image_id) is its PID in the innermost PID namespace."""
    return f"pagemap-{image_id}.img"


def shared_name(inode: int) -> str:
    """The same of a piece of shared memory."""
    return f"pagemap-shmem-{inode}.img"


def is_shared(name: str) -> bool:
    """Whether a pagemap is that of a piece of shared memory."""
    return name.startswith("pagemap-shmem-")


def pages_name(pages_id: int) -> str:
    """The file name of the pages that a pagemap names."""
    return f"pages-{pages_id}.img"


# ---------------------------------------------------------------------------------------------------------------------
# The format


def most_bytes(runs: int) -> int:
    """Bytes that a pagemap of so many runs has at the most."""
    return _HEAD + runs * LONGEST_RUN


def decode_pagemap(data: bytes, name: str, page: int = PAGE, most: int = MOST_RUNS) -> tuple[int, list[Run]]:
    """The number of the pages file and the runs of a pagemap, in order, each PRESENT or only LAZY.

    The file of each run is -1; PRESENT runs have their offset in the pages file, the others -1.

    :param most: how many runs it may have.

    :raises PagesError: when these are not the bytes of a pagemap, or of one whose pages are not all here.
    """
    messages = _messages(data, name)
    head = next(messages, None)
    pages_id = _numbers(data, *head, 1, name)[1] if head else None
    if pages_id is None:
        raise PagesError(f"{name} names no pages file")
    runs: list[Run] = []
    offset = last = 0
    for begin, end in messages:
        run = _run(_numbers(data, begin, end, 5, name), offset, page, name)
        if run.vaddr < last:
            raise PagesError(f"{name} is not in order at 0x{run.vaddr:x}")
        last = run.vaddr + run.pages * page
        if run.offset >= 0:
            offset += run.pages * page
        if len(runs) == most:
            raise PagesError(f"{name} has more than {most} runs of pages")
        runs.append(run)
    return pages_id, runs


def _messages(data: bytes, name: str) -> Iterator[tuple[int, int]]:
    """Yields the begin and the end of each message in a pagemap."""
    if len(data) < 8 or struct.unpack_from("<II", data) != (COMMON_MAGIC, PAGEMAP_MAGIC):
        raise PagesError(f"{name} is not the image that its name says")
    position = 8
    while position < len(data):
        begin = position + 4
        end = begin + int.from_bytes(data[position:begin], "little")
        if begin > len(data) or end > len(data):
            raise PagesError(f"{name} is cut off")
        yield begin, end
        position = end


def _numbers(data: bytes, begin: int, end: int, known: int, name: str) -> list[int | None]:
    """The fields of a message of numbers only, at the index of their field number, of which I(known) is the highest.

    Anything else is refused: runs are cut and joined here, so a field that is not understood could not be kept.
    """
    values: list[int | None] = [None] * (known + 1)
    try:
        while begin < end:
            key, begin = decode(data, begin, end)
            if key & 7 or not 0 < key >> 3 <= known:
                raise PagesError(f"{name} has an unknown field (number {key >> 3}, type {key & 7})")
            values[key >> 3], begin = decode(data, begin, end)
    except ProtobufError:
        raise PagesError(f"{name} has a malformed entry") from None
    return values


def _run(fields: list[int | None], offset: int, page: int, name: str) -> Run:
    """The run in the fields vaddr, nr_pages (32 bits), in_parent, flags, nr_pages (64 bits) of a pagemap_entry."""
    _nothing, vaddr, count, in_parent, given, wide_count = fields
    # As init_compat_pagemap_entry() of CRIU does it.
    pages = count if wide_count is None else wide_count
    flags = PRESENT if given is None else given
    if vaddr is None or not pages or vaddr % page or vaddr + pages * page > WORD:
        raise PagesError(f"{name} has an entry that is not a run of pages")
    if in_parent or flags & PARENT:
        raise PagesError(f"{name} leaves the page at 0x{vaddr:x} to an earlier dump; only a full dump can be used here")
    if flags not in (PRESENT, PRESENT | LAZY, LAZY):
        raise PagesError(f"{name} has an entry at 0x{vaddr:x} with flags {flags}, which are unknown")
    return Run(vaddr, pages, flags, -1, offset if flags & PRESENT else -1)


def encode_pagemap(pages_id: int, runs: Iterable[Run]) -> bytes:
    """The bytes of a pagemap with these runs."""
    messages = [b"\x08" + encode(pages_id)]
    for run in runs:
        count = encode(run.pages)
        old = count if run.pages < 1 << 32 else b"\0"
        messages.append(b"\x08" + encode(run.vaddr) + b"\x10" + old + b"\x20" + encode(run.flags) + b"\x28" + count)
    framed = b"".join(struct.pack("<I", len(message)) + message for message in messages)
    return struct.pack("<II", COMMON_MAGIC, PAGEMAP_MAGIC) + framed


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def split(run: Run, pages: int, page: int = PAGE) -> tuple[Run, Run | None]:
    """The first pages of a run, and the rest of it, if there is one."""
    if pages == run.pages:
        return run, None
    size = pages * page
    rest = Run(run.vaddr + size, run.pages - pages, run.flags, run.file, run.offset + size)
    return Run(run.vaddr, pages, run.flags, run.file, run.offset), rest


def side_by_side(left: Iterable[Run], right: Iterable[Run], page: int) -> Iterator[tuple[Run | None, Run | None]]:
    """Yields two lists of runs, each in order, cut so that both parts are the same pages; None where one has none."""
    lefts, rights = iter(left), iter(right)
    a, b = next(lefts, None), next(rights, None)
    while a or b:
        head_a: Run | None
        head_b: Run | None
        head_a = head_b = None
        pages = _common(a, b, page)
        if a and (not b or a.vaddr <= b.vaddr):
            head_a, rest_a = split(a, pages, page)
        if b and (not a or b.vaddr <= a.vaddr):
            head_b, rest_b = split(b, pages, page)
        yield head_a, head_b
        if head_a:
            a = rest_a or next(lefts, None)
        if head_b:
            b = rest_b or next(rights, None)


def _common(a: Run | None, b: Run | None, page: int) -> int:
    """How many pages the next part has: up to the next begin or end of a run."""
    if not a or not b:
        return (a or b).pages  # type: ignore[union-attr]
    if a.vaddr == b.vaddr:
        return min(a.pages, b.pages)
    first, second = (a, b) if a.vaddr < b.vaddr else (b, a)
    return min(first.pages, (second.vaddr - first.vaddr) // page)


def joined(runs: Iterable[Run], page: int) -> list[Run]:
    """The same runs in order, in as few as possible."""
    result: list[Run] = []
    for run in runs:
        if result:
            last = result[-1]
            size = last.pages * page
            if (
                last.vaddr + size == run.vaddr
                and last.flags == run.flags
                and last.file == run.file
                and last.offset + size == run.offset
            ):
                result[-1] = last._replace(pages=last.pages + run.pages)
                continue
        result.append(run)
    return result


def layout_of(runs: Iterable[Run], page: int) -> list[Pages]:
    """Which pages are in these runs, wherever their bytes are, in as few as possible."""
    placed = (Run(run.vaddr, run.pages, 0, -1, run.vaddr) for run in runs)
    return [Pages(run.vaddr, run.pages) for run in joined(placed, page)]


def blocks(run: Run, page: int) -> Iterator[Run]:
    """The same run in parts that fit into a buffer."""
    rest: Run | None = run
    while rest:
        head, rest = split(rest, min(rest.pages, max(BLOCK // page, 1)), page)
        yield head
