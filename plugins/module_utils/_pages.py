# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory pages: those in CRIU's image sets, and those of a running process.

This file is a module_util, and its text is laid down on servers and run there as a program's module; so it imports
nothing but the standard library.

    decode_pagemap, encode_pagemap   the format
    ImageSet                         a directory of images, with the parents that it names
    delta                            new against old: an incremental image set that holds only what changed
    merge                            an incremental set and its parents: one plain set again
    differences                      the proof: two sets, page by page
    MemoryOf                         the pages that a running process has, without stopping it
    Store                            a copy of such pages, kept up to date round by round, the same at both ends
    dumped_runs                      the pages of a lazy dump, those that it left with their process as well
    complete                         the pages of a dump from a store: a set that CRIU can restore, lazily or at once

How CRIU keeps pages. C(pagemap-ID.img) is two magic numbers of 32 bits and then messages of Protocol Buffers, each
behind its length (32 bits; all numbers little endian). The first message names the C(pages-N.img), each further one is
a run of pages: address, count, flags. ID is the PID in the innermost PID namespace; in C(pagemap-shmem-ID.img) it
stands for a piece of shared memory, and addresses begin with 0 there. C(pages-N.img) holds the bytes of the runs that
are PRESENT, one after the other, and nothing else: there are no offsets, so the runs have to be in order. Pages that
are in no run are zero, or as in the file that is mapped there.

A run with the flag PARENT has its bytes in the pagemap of the same name in the directory to which the symbolic link
C(parent) leads, or in that one's parent. Sources, all of U(https://github.com/checkpoint-restore/criu), read at v4.2:
images/pagemap.proto, images/mm.proto, criu/include/magic.h, criu/include/pagemap.h, criu/image.c (framing),
criu/pagemap.c (reading, parents), criu/mem.c (what is dumped, restore), criu/uffd.c (lazy pages), criu/page-xfer.c.
What follows from them:

- CRIU 4.2 counts pages in a new field of 64 bits and leaves the old one 0, older ones know only the old field. Here
  both are written, so that any CRIU reads it.
- C(criu lazy-pages) never answers for a page that is LAZY and in the parent, and its process hangs: the daemon reads
  the page, but uffd_io_complete, which copies it into the process, is set for the topmost set only. So C(delta), as
  CRIU's own dump, never writes LAZY beside PARENT. Then CRIU restores such a page at once, also with lazy pages.
- LAZY is no part of what a page is: is_stack() means to leave out the page of a thread's stack pointer, but compares
  offsets in pages, so a process of which one pointer is at the begin of a page has no lazy pages at all in that dump.
  Here a page from a parent is LAZY where its mapping can be, as the child's C(mm-ID.img) tells: pages of other mappings
  must not be, because nobody would fetch them (restorer.c registers only those).
- In mappings with huge pages (and those of plugins, which are not mapped beforehand either) the restore takes every
  page from the topmost pages file, also one that should be in the parent. There C(delta) calls nothing unchanged.
- A pagemap that a parent lacks ends the search: that one's parents are not asked.
- A page that is not in the child's pagemap is not looked for in the parent.

Private to the collection fog.migration.
"""

from __future__ import annotations

import array
import bisect
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCK = 256 * 1024  # Bytes that are read and compared at a time: two of them fit into a small cache.

COMMON_MAGIC = 0x54564319  # IMG_COMMON_MAGIC
PAGEMAP_MAGIC = 0x56084025  # PAGEMAP_MAGIC, also that of pagemap-shmem
MM_MAGIC = 0x57492820  # MM_MAGIC

PARENT, LAZY, PRESENT = 1, 2, 4  # PE_PARENT, PE_LAZY, PE_PRESENT
PARENT_LINK = "parent"

_NAME = re.compile(r"pagemap-(?:shmem-)?(\d{1,20})\.img")
_PAGES_NAME = re.compile(r"pages-\d+\.img")
_LONGEST_CHAIN = 100
_WORD = 1 << 64


class PagesError(Exception):
    """What cannot be used. The text is one sentence for people."""


class Run(NamedTuple):
    """Pages with consecutive addresses whose bytes lie one after the other in one file."""

    vaddr: int  # address of the first page, in bytes
    pages: int
    flags: int  # LAZY or 0; in a pagemap PRESENT or PARENT, too
    file: int  # descriptor of the file with the bytes, -1 where they are elsewhere
    offset: int  # of the first page in that file, in bytes


class Pages(NamedTuple):
    """Where pages are, without their bytes: what two stores tell each other about a round."""

    vaddr: int
    pages: int


# ---------------------------------------------------------------------------------------------------------------------
# The format


def holds_pages(name: str) -> bool:
    """Whether a file of an image set is nothing but the bytes of pages."""
    return bool(_PAGES_NAME.fullmatch(name))


def pagemap_name(image_id: int) -> str:
    """The file name of a process' pagemap; I(image_id) is its PID in the innermost PID namespace."""
    return f"pagemap-{image_id}.img"


def pages_name(pages_id: int) -> str:
    """The file name of the pages that a pagemap names."""
    return f"pages-{pages_id}.img"


def _messages(data: bytes, magic: int, name: str) -> Iterator[tuple[int, int]]:
    """Yields the begin and the end of each message in an image."""
    if len(data) < 8 or struct.unpack_from("<II", data) != (COMMON_MAGIC, magic):
        raise PagesError(f"{name} is not the image that its name says")
    position = 8
    while position < len(data):
        begin = position + 4
        end = begin + int.from_bytes(data[position:begin], "little")
        if begin > len(data) or end > len(data):
            raise PagesError(f"{name} is cut off")
        yield begin, end
        position = end


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number at I(position) and the position behind it; raises IndexError where there is none."""
    value = shift = 0
    while position < end and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % _WORD, position
        shift += 7
    raise IndexError(position)


def _numbers(data: bytes, begin: int, end: int, known: int, name: str) -> list[int | None]:
    """The fields of a message of numbers only, at the index of their field number, of which I(known) is the highest.

    Anything else is refused: runs are cut and joined here, so a field that is not understood could not be kept.
    """
    values: list[int | None] = [None] * (known + 1)
    try:
        while begin < end:
            key, begin = _varint(data, begin, end)
            if key & 7 or not 0 < key >> 3 <= known:
                raise PagesError(f"{name} has a field that is not known here (number {key >> 3}, type {key & 7})")
            values[key >> 3], begin = _varint(data, begin, end)
    except IndexError:
        raise PagesError(f"{name} has a malformed entry") from None
    return values


def decode_pagemap(data: bytes, name: str, page: int = PAGE) -> tuple[int, list[Run]]:
    """The number of the pages file and the runs of a pagemap, in order, each PRESENT, PARENT or only LAZY.

    The file of each run is -1; PRESENT runs have their offset in the pages file, the others -1. Pages that are only
    LAZY were left with their process.

    :raises PagesError: when these are not the bytes of a pagemap, or of one whose pages are not all here.
    """
    messages = _messages(data, PAGEMAP_MAGIC, name)
    pages_id = _head(data, next(messages, None), name)
    runs, offset, last = [], 0, 0
    for begin, end in messages:
        run = _run(_numbers(data, begin, end, 5, name), offset, page, name)
        if run.vaddr < last:
            raise PagesError(f"{name} is not in order at 0x{run.vaddr:x}")
        last = run.vaddr + run.pages * page
        if run.offset >= 0:
            offset += run.pages * page
        runs.append(run)
    return pages_id, runs


def decode_pages_id(data: bytes, name: str) -> int:
    """The number of the pages file of a pagemap."""
    return _head(data, next(_messages(data, PAGEMAP_MAGIC, name), None), name)


def _head(data: bytes, message: tuple[int, int] | None, name: str) -> int:
    pages_id = _numbers(data, *message, 1, name)[1] if message else None
    if pages_id is None:
        raise PagesError(f"{name} names no pages file")
    return pages_id


def _run(fields: list[int | None], offset: int, page: int, name: str) -> Run:
    """The run in the fields vaddr, nr_pages (32 bits), in_parent, flags, nr_pages (64 bits) of a pagemap_entry."""
    _nothing, vaddr, count, in_parent, given, wide_count = fields
    # As init_compat_pagemap_entry() of CRIU does it.
    pages = count if wide_count is None else wide_count
    flags = (given or 0) | PARENT if in_parent else PRESENT if given is None else given
    if vaddr is None or not pages or vaddr % page or vaddr + pages * page > _WORD:
        raise PagesError(f"{name} has an entry that is no run of pages")
    kind = flags & ~LAZY
    if kind not in (PRESENT, PARENT) and flags != LAZY:
        raise PagesError(f"{name} has an entry at 0x{vaddr:x} with flags {flags}, which are not known here")
    return Run(vaddr, pages, flags, -1, offset if kind == PRESENT else -1)


def encode_pagemap(pages_id: int, runs: Iterable[Run]) -> bytes:
    """The bytes of a pagemap with these runs."""
    messages = [b"\x08" + _encode(pages_id)]
    for run in runs:
        count = _encode(run.pages)
        old = count if run.pages < 1 << 32 else b"\0"
        messages.append(b"\x08" + _encode(run.vaddr) + b"\x10" + old + b"\x20" + _encode(run.flags) + b"\x28" + count)
    framed = b"".join(struct.pack("<I", len(message)) + message for message in messages)
    return struct.pack("<II", COMMON_MAGIC, PAGEMAP_MAGIC) + framed


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Bits in flags and status of a vma_entry: MAP_* as on x86 and ARM, VMA_* of criu/include/image.h.
_PRIVATE, _ANONYMOUS, _LOCKED, _HUGE = 0x02, 0x20, 0x2000, 0x40000
_LAZIES = _PRIVATE | _ANONYMOUS | _LOCKED
_AIO_RING, _PLUGIN = 1 << 13, 1 << 27
_KERNELS_OWN = 1 << 2 | 1 << 3 | 1 << 12  # vsyscall, vDSO, vvar


def decode_mappings(data: bytes, name: str, page: int = PAGE) -> tuple[list[Run], list[Run]]:
    """Two lists of the mappings in a C(mm-ID.img): whose pages CRIU never takes from a parent, and which can be lazy.

    The first are those that premap_priv_vmas() does not map beforehand, and that of an AIO ring, which a dump never
    leaves to a parent; the second are those of vma_entry_can_be_lazy().
    """
    barred, lazy = [], []
    for begin, end in _messages(data, MM_MAGIC, name):
        for number, value in _fields(data, begin, end, name):
            if number != 14 or not isinstance(value, tuple):  # vmas
                continue
            fields = {key: field for key, field in _fields(data, *value, name) if isinstance(field, int)}
            start, stop, flags, status = (fields.get(key, 0) for key in (1, 2, 6, 7))
            mapping = Run(start, (stop - start) // page, 0, -1, -1)
            if flags & _HUGE or status & (_AIO_RING | _PLUGIN):
                barred.append(mapping)
            elif flags & _LAZIES == _PRIVATE | _ANONYMOUS and not status & _KERNELS_OWN:
                lazy.append(mapping)
    return sorted(barred), sorted(lazy)


def _mappings(directory: str, name: str, page: int) -> tuple[list[Run], list[Run]]:
    """The same for the process of a pagemap; nothing where it is shared memory, or there is no such image."""
    match = re.fullmatch(r"pagemap-(\d+)\.img", name)
    image = match and f"mm-{match.group(1)}.img"
    if not image or not os.path.exists(os.path.join(directory, image)):
        return [], []
    return decode_mappings(_content(directory, image), _called(directory, image), page)


def _fields(data: bytes, position: int, end: int, name: str) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """Yields number and value of each field of any message; of bytes, their begin and end; nothing of fixed ones."""
    try:
        while position < end:
            key, position = _varint(data, position, end)
            kind = key & 7
            if kind == 0:
                value, position = _varint(data, position, end)
                yield key >> 3, value
            elif kind == 2:
                length, position = _varint(data, position, end)
                yield key >> 3, (position, position + length)
                position += length
            elif kind in (1, 5):
                position += 8 if kind == 1 else 4
            else:
                raise IndexError(position)
    except IndexError:
        raise PagesError(f"{name} has a malformed entry") from None
    if position > end:
        raise PagesError(f"{name} has a malformed entry")


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


def _blocks(run: Run, page: int) -> Iterator[Run]:
    """The same run in parts that fit into a buffer."""
    rest: Run | None = run
    while rest:
        head, rest = split(rest, min(rest.pages, max(BLOCK // page, 1)), page)
        yield head


def _total(runs: Iterable[Run]) -> int:
    return sum(run.pages for run in runs)


# ---------------------------------------------------------------------------------------------------------------------
# Bytes


def _buffer(page: int) -> bytearray:
    return bytearray(max(BLOCK, page))


def _read_exactly(file: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.preadv(file, [view], offset)
        if not count:
            raise PagesError("a pages file became shorter while it was read")
        view, offset = view[count:], offset + count


def _read_what_is_there(file: int, view: memoryview, offset: int) -> int:
    """Reads a process' memory, of which it may have unmapped some meanwhile; how many bytes were there."""
    done = 0
    try:
        while done < len(view):
            count = os.preadv(file, [view[done:]], offset + done)
            if not count:
                break
            done += count
    except OSError as error:
        # Not mapped any more, poisoned, a device; or the process is gone.
        if error.errno not in (errno.EIO, errno.EFAULT, errno.ESRCH):
            raise
    return done


def _write(file: int, parts: list[memoryview]) -> None:
    """Writes these, all of them."""
    left = sum(len(part) for part in parts)
    while left:
        count = os.writev(file, parts)
        left -= count
        while left and count >= len(parts[0]):
            count -= len(parts.pop(0))
        if left:
            parts[0] = parts[0][count:]


def _write_at(file: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def _copy(source: int, offset: int, destination: int, size: int) -> None:
    """Appends bytes of one file to another, inside the kernel where it can."""
    while size:
        try:
            count = os.copy_file_range(source, destination, size, offset)
        except (AttributeError, OSError) as error:
            # Not in this Python, not between these file systems, not in this kernel.
            refused = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
            if isinstance(error, OSError) and error.errno not in refused:
                raise
            count = os.sendfile(destination, source, offset, size)
        if not count:
            raise PagesError("a pages file became shorter while it was read")
        offset, size = offset + count, size - count


def _differing(left: bytearray, right: memoryview, size: int, page: int) -> list[tuple[int, int]]:
    """Which of the first I(size) bytes differ, as begin and end, whole pages and as few ranges as possible.

    The bytearray has to be on the left: its C(==) is the C library's memcmp, that of a memoryview goes item by item.
    """
    if left[:size] == right[:size] if size < len(left) else left == right:
        return []
    found: list[tuple[int, int]] = []
    step = 16 * page
    for begin in range(0, size, step):
        if left[begin : min(begin + step, size)] == right[begin : min(begin + step, size)]:
            continue
        for start in range(begin, min(begin + step, size), page):
            end = start + page
            if left[start:end] == right[start:end]:
                continue
            if found and found[-1][1] == start:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Image sets


class ImageSet:
    """A directory with CRIU's images, and its parents: those that the links name, or those given here instead.

    :param directory: where the images are.
    :param parent: the parent's directory, whatever the link says; its own parents are found by links.
    :param page: bytes of a page.
    :raises PagesError: when parents are named in a circle.
    """

    def __init__(self, directory: str, parent: str | None = None, page: int = PAGE):
        self.directory = directory
        self.page = page
        self.chain = [directory, *(_chain(parent) if parent else _chain(directory)[1:])]

    def names(self) -> list[str]:
        """The file names of its pagemaps."""
        try:
            return sorted(name for name in os.listdir(self.directory) if _NAME.fullmatch(name))
        except FileNotFoundError:
            raise PagesError(f"there is no directory {self.directory}") from None

    def pages_ids(self) -> dict[str, int]:
        """The number of the pages file of each pagemap."""
        found: dict[str, int] = {}
        for name in self.names():
            pages_id = decode_pages_id(_content(self.directory, name), _called(self.directory, name))
            if pages_id in found.values():
                raise PagesError(f"{pages_name(pages_id)} in {self.directory} is named by two pagemaps")
            found[name] = pages_id
        return found

    @contextlib.contextmanager
    def runs(self, name: str) -> Iterator[list[Run]]:
        """The runs of one pagemap, in order, each with the open file of this set or a parent that has its bytes."""
        with contextlib.ExitStack() as stack:
            runs: list[Run] = []
            for directory in reversed(self.chain):
                level = self._level(directory, name, stack)
                # What a directory between lacks, CRIU does not look for in that one's parents.
                runs = [] if level is None else self._resolved(level, runs, directory, name)
            yield runs

    def _level(self, directory: str, name: str, stack: contextlib.ExitStack) -> list[Run] | None:
        """The runs of one pagemap of one directory alone."""
        try:
            content = _content(directory, name)
        except FileNotFoundError:
            return None
        pages_id, runs = decode_pagemap(content, _called(directory, name), self.page)
        left = next((run for run in runs if run.flags == LAZY), None)
        if left:
            raise PagesError(
                f"{_called(directory, name)} has pages at 0x{left.vaddr:x} that a lazy dump left with their process"
            )
        path = os.path.join(directory, pages_name(pages_id))
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise PagesError(f"{_called(directory, name)} names {pages_name(pages_id)}, which is missing") from None
        stack.callback(os.close, file)
        promised = sum(run.pages * self.page for run in runs if run.offset >= 0)
        size = os.fstat(file).st_size
        if size != promised:
            raise PagesError(f"{path} has {size} bytes, but {name} promises {promised}")
        return [run._replace(file=file) if run.offset >= 0 else run for run in runs]

    def _resolved(self, level: list[Run], below: list[Run], directory: str, name: str) -> list[Run]:
        """The runs of one directory, those that are in its parent taken from there."""
        if all(run.flags & PRESENT for run in level):
            return [run._replace(flags=run.flags & LAZY) for run in level]
        lazy = _mappings(directory, name, self.page)[1]
        found, inherited = [], []
        for run, under in side_by_side(level, below, self.page):
            if not run:
                continue
            if run.flags & PRESENT:
                found.append(run._replace(flags=run.flags & LAZY))
            elif under:
                inherited.append(under)
            else:
                raise PagesError(
                    f"{_called(directory, name)} has a page at 0x{run.vaddr:x} in a parent, where it is not"
                )
        for run, can in side_by_side(inherited, lazy, self.page):
            if run:
                found.append(run._replace(flags=LAZY if can else 0))
        return joined(sorted(found), self.page)


def _content(directory: str, name: str) -> bytes:
    with open(os.path.join(directory, name), "rb") as stream:
        return stream.read()


def _called(directory: str, name: str) -> str:
    return os.path.join(directory, name)


def _chain(directory: str) -> list[str]:
    """The directory, its parent, that one's parent, and so on."""
    chain = [directory]
    while os.path.islink(os.path.join(chain[-1], PARENT_LINK)):
        chain.append(os.path.realpath(os.path.join(chain[-1], PARENT_LINK)))
        if len(chain) > _LONGEST_CHAIN:
            raise PagesError(f"{directory} has no end of parents")
        if not os.path.isdir(chain[-1]):
            raise PagesError(f"{chain[-2]} has the parent {chain[-1]}, which is no directory")
    return chain


class _Writer:
    """One pagemap and its pages file, new in a directory."""

    def __init__(self, directory: str, name: str, pages_id: int, page: int):
        self.directory, self.name, self.pages_id, self.page = directory, name, pages_id, page
        self.entries: list[Run] = []
        self.written = 0
        path = os.path.join(directory, pages_name(pages_id))
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        os.close(self._file)
        if kind is None:
            _write_pagemap(self.directory, self.name, self.pages_id, self.entries)

    def note(self, vaddr: int, pages: int, flags: int) -> None:
        """Adds pages to the pagemap."""
        if self.entries:
            last = self.entries[-1]
            if last.flags == flags and last.vaddr + last.pages * self.page == vaddr:
                self.entries[-1] = last._replace(pages=last.pages + pages)
                return
        self.entries.append(Run(vaddr, pages, flags, -1, -1))

    def copy(self, run: Run) -> None:
        """Adds a run and its bytes."""
        self.note(run.vaddr, run.pages, run.flags | PRESENT)
        _copy(run.file, run.offset, self._file, run.pages * self.page)
        self.written += run.pages * self.page

    def write(self, parts: list[memoryview]) -> None:
        """Adds bytes of pages that were noted."""
        self.written += sum(len(part) for part in parts)
        _write(self._file, parts)


def _write_pagemap(directory: str, name: str, pages_id: int, runs: Iterable[Run]) -> None:
    file = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(file, "wb") as stream:
        stream.write(encode_pagemap(pages_id, runs))


@contextlib.contextmanager
def _making(directory: str) -> Iterator[None]:
    """A new directory, which is there in the end or not at all."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        raise PagesError(f"{directory} is there already") from None
    try:
        yield
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _link_others(images: ImageSet, out: str, ids: dict[str, int]) -> None:
    """Everything of an image set that is not pages, by hard links where they can be made.

    A folder that is the parent, and lies within this set, is not taken along.
    """
    skipped = {PARENT_LINK, *ids, *(pages_name(number) for number in ids.values())}
    parents = {os.path.realpath(directory) for directory in images.chain[1:]}
    for item in os.scandir(images.directory):
        if item.name in skipped or os.path.realpath(item.path) in parents:
            continue
        target = os.path.join(out, item.name)
        if item.is_dir(follow_symlinks=False):
            shutil.copytree(item.path, target, symlinks=True, copy_function=_link)
        elif item.is_file(follow_symlinks=False):
            _link(item.path, target)
        else:
            raise PagesError(f"{item.path} is not a plain file")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target)


# ---------------------------------------------------------------------------------------------------------------------
# Old and new


def delta(old: str | ImageSet | Store, new: str | ImageSet, out: str, parent: str, page: int = PAGE) -> dict[str, int]:
    """Makes the incremental image set I(out) of I(new): what I(old) has as well is in its parent.

    :param old: what the other end has: a directory, or a Store.
    :param new: directory of a full dump; it stays as it is.
    :param out: a directory that is made for it, on the same file system, so that images can be linked.
    :param parent: where the link C(parent) in I(out) leads: where I(old) is at the other end.
    :returns: C(pages) in the new set, C(compared) those that the old one has, too, C(changed) those that were written
        because they are new or other ones, and C(bytes_written) for them.
    """
    before = ImageSet(old, page=page) if isinstance(old, str) else old
    after = ImageSet(new, page=page) if isinstance(new, str) else new
    figures = {"pages": 0, "compared": 0, "changed": 0, "bytes_written": 0}
    ids = after.pages_ids()
    with _making(out):
        _link_others(after, out, ids)
        for name, number in ids.items():
            with before.runs(name) as olds, after.runs(name) as news, _Writer(out, name, number, page) as writer:
                barred = _mappings(after.directory, name, page)[0]
                usable = (run for run, never in side_by_side(olds, barred, page) if run and not never)
                _write_changes(usable, news, writer, figures)
        os.symlink(parent, os.path.join(out, PARENT_LINK))
    figures["changed"] = figures["bytes_written"] // page
    return figures


def _write_changes(olds: Iterable[Run], news: list[Run], writer: _Writer, figures: dict[str, int]) -> None:
    page = writer.page
    left, right = _buffer(page), _buffer(page)
    for new, old in side_by_side(news, olds, page):
        if not new:
            continue
        figures["pages"] += new.pages
        if not old:
            writer.copy(new)
            continue
        figures["compared"] += new.pages
        for block, held in zip(_blocks(new, page), _blocks(old, page)):
            _write_block(block, held, writer, left, right)
    figures["bytes_written"] += writer.written


def _write_block(new: Run, old: Run, writer: _Writer, left: bytearray, right: bytearray) -> None:
    """The pages of a block that differ, to the pages file; the others are in the parent."""
    page, size = writer.page, new.pages * writer.page
    view, other = memoryview(left)[:size], memoryview(right)[:size]
    _read_exactly(new.file, view, new.offset)
    _read_exactly(old.file, other, old.offset)
    position, parts = 0, []
    for begin, end in _differing(left, other, size, page):
        if position < begin:
            writer.note(new.vaddr + position, (begin - position) // page, PARENT)
        writer.note(new.vaddr + begin, (end - begin) // page, new.flags | PRESENT)
        parts.append(view[begin:end])
        position = end
    if position < size:
        writer.note(new.vaddr + position, (size - position) // page, PARENT)
    if parts:
        writer.write(parts)


def merge(parent: str | None, child: str, out: str, in_place: bool = False, page: int = PAGE) -> dict[str, int]:
    """Makes one plain image set I(out) of an incremental one and its parents.

    :param parent: directory of the parent; None for the one that the link in I(child) names. Its own parents are those
        that its links name.
    :param child: directory of the incremental set; it stays as it is.
    :param out: a directory that is made for it, on the same file system.
    :param in_place: the parent's pages files become those of I(out), so that only what changed is written. This uses
        the parent up, also when it fails. It is done where the parent has no parents, and I(out) is on its file system.
    :returns: C(pages) in the set, and C(bytes_written) for them.
    """
    images = ImageSet(child, parent, page)
    ids = images.pages_ids()
    figures = {"pages": 0, "bytes_written": 0}
    used_up = images.chain[1] if in_place and len(images.chain) == 2 else None
    with _making(out):
        _link_others(images, out, ids)
        for name, number in ids.items():
            with images.runs(name) as runs:
                figures["pages"] += _total(runs)
                moved = used_up and _take_pages(used_up, name, os.path.join(out, pages_name(number)))
                if moved:
                    figures["bytes_written"] += _rearrange(moved, runs, page)
                    _write_pagemap(out, name, number, _plain(runs, page))
                    continue
                with _Writer(out, name, number, page) as writer:
                    for run in runs:
                        writer.copy(run)
                figures["bytes_written"] += writer.written
    return figures


def _plain(runs: Iterable[Run], page: int) -> list[Run]:
    """The entries of a pagemap that has all of these pages itself."""
    position, placed = 0, []
    for run in runs:
        placed.append(Run(run.vaddr, run.pages, run.flags | PRESENT, -1, position))
        position += run.pages * page
    return joined(placed, page)


def _take_pages(directory: str, name: str, path: str) -> str | None:
    """Moves the pages file of a pagemap to I(path), and returns that; None where it cannot be done."""
    if not os.path.exists(os.path.join(directory, name)):
        return None
    pages_id = decode_pages_id(_content(directory, name), _called(directory, name))
    return path if _moved(os.path.join(directory, pages_name(pages_id)), path) else None


def _moved(source: str, target: str) -> bool:
    """Whether a file could be moved there: not to another file system."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _rearrange(path: str, runs: list[Run], page: int) -> int:
    """Makes the pages file at I(path) hold these runs, of which it has some already; how many bytes were written.

    Both orders are that of the addresses. So no run that moves up is written over one that moves down and has not moved
    yet, or the other way round; and among those of one direction, the order here sees to it.
    """
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        own, position = os.fstat(file), 0
        here = {source: os.path.samestat(os.fstat(source), own) for source in {run.file for run in runs}}
        up: list[tuple[Run, int]] = []
        down: list[tuple[Run, int]] = []
        others: list[tuple[Run, int]] = []
        for run in runs:
            if not here[run.file]:
                others.append((run, position))
            elif run.offset != position:
                (up if run.offset < position else down).append((run, position))
            position += run.pages * page
        buffer = _buffer(page)
        for run, target in reversed(up):
            _shift(reversed(list(_blocks(run, page))), file, target - run.offset, buffer, page)
        for run, target in down + others:
            _shift(_blocks(run, page), file, target - run.offset, buffer, page)
        os.ftruncate(file, position)
        return sum(run.pages * page for run, _target in up + down + others)
    finally:
        os.close(file)


def _shift(blocks: Iterable[Run], file: int, distance: int, buffer: bytearray, page: int) -> None:
    """Writes blocks to a file, which may be their own, so much further behind."""
    for block in blocks:
        view = memoryview(buffer)[: block.pages * page]
        _read_exactly(block.file, view, block.offset)
        _write_at(file, view, block.offset + distance)


def differences(a: str | ImageSet | Store, b: str | ImageSet | Store, page: int = PAGE) -> list[tuple[str, int, str]]:
    """Where the pages of two image sets (or stores) are not the same, each with its parents.

    :returns: (pagemap, address, reason) of each such page, nothing when they are equal. The reason is C(other bytes),
        C(missing in the first) or C(missing in the second). Flags are not compared.
    """
    first = ImageSet(a, page=page) if isinstance(a, str) else a
    second = ImageSet(b, page=page) if isinstance(b, str) else b
    found: list[tuple[str, int, str]] = []
    for name in sorted({*first.names(), *second.names()}):
        with first.runs(name) as lefts, second.runs(name) as rights:
            for vaddr, reason in _page_differences(lefts, rights, page):
                found.append((name, vaddr, reason))
    return found


def _page_differences(lefts: list[Run], rights: list[Run], page: int) -> Iterator[tuple[int, str]]:
    one, other = _buffer(page), _buffer(page)
    for left, right in side_by_side(lefts, rights, page):
        if not left or not right:
            known, which = (left, "second") if left else (right, "first")
            for index in range(known.pages):  # type: ignore[union-attr]
                yield known.vaddr + index * page, f"missing in the {which}"  # type: ignore[union-attr]
            continue
        for a, b in zip(_blocks(left, page), _blocks(right, page)):
            size = a.pages * page
            _read_exactly(a.file, memoryview(one)[:size], a.offset)
            _read_exactly(b.file, memoryview(other)[:size], b.offset)
            for begin, end in _differing(one, memoryview(other), size, page):
                for position in range(begin, end, page):
                    yield a.vaddr + position, "other bytes"


# ---------------------------------------------------------------------------------------------------------------------
# A running process


# Mappings that the kernel makes, and whose content is the kernel's.
_KERNELS = {"[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]"}
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ...p [0-9a-f]+ \S+ \d+ *(.*)")


def parse_maps(text: str) -> list[tuple[int, int]]:
    """Begin and end of the private mappings in C(/proc/PID/maps) that belong to the process itself."""
    found = []
    for line in text.splitlines():
        match = _MAPPING.match(line)
        if match and match.group(3) not in _KERNELS:
            found.append((int(match.group(1), 16), int(match.group(2), 16)))
    return found


# include/uapi/linux/fs.h: PAGEMAP_SCAN (from Linux 6.7 on), a struct pm_scan_arg of twelve numbers of 64 bits, and what
# CRIU asks for (pmc_fill in criu/pagemap-cache.c): in memory or swapped, neither the zero page nor a file's.
_PAGEMAP_SCAN = 0xC0606610
_FILE, _IN_MEMORY, _SWAPPED, _ZERO, _GUARD = 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 8
_REGIONS = 4096


def scan(pagemap: int, start: int, end: int) -> list[tuple[int, int]]:
    """The begin and end of the pages between two addresses that a dump would hold; OSError on older kernels."""
    found = []
    regions = array.array("Q", bytes(24 * _REGIONS))  # struct page_region: start, end, categories
    while start < end:
        unwanted = _ZERO | _FILE
        argument = bytearray(struct.pack("=8Q", 96, 0, start, end, 0, regions.buffer_info()[0], _REGIONS, 0))
        argument += struct.pack("=4Q", unwanted, unwanted, _IN_MEMORY | _SWAPPED, _IN_MEMORY | _SWAPPED)
        count = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, argument, True)
        found += [(regions[3 * index], regions[3 * index + 1]) for index in range(count)]
        walked = struct.unpack_from("=Q", argument, 32)[0]
        if walked <= start:
            break
        start = walked
    return found


# The highest byte of an entry in /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst): bit 63 in memory, 62
# swapped, 61 a file's or shared, 58 a guard. One byte tells it, so that bytes.translate() and a regular expression do
# what would be a loop over every page.
_WANTED = bytes(int(bool(top & 0xC0) and not top & 0x24) for top in range(256))
_ONES = re.compile(b"\x01+")


def wanted_pages(entries: bytes) -> list[tuple[int, int]]:
    """Which pages a dump would hold, as index of the first and behind the last, of C(/proc/PID/pagemap)'s bytes.

    The kernel's zero page is among them: its number is hidden in most containers, and a zero too many does no harm.
    """
    top = entries[7::8] if struct.pack("=H", 1)[0] else entries[::8]
    return [match.span() for match in _ONES.finditer(top.translate(_WANTED))]


def _look(pagemap: int, start: int, end: int, page: int) -> list[tuple[int, int]]:
    """As C(scan), from the file's entries."""
    found, step = [], 1 << 18
    for first in range(start // page, end // page, step):
        entries = os.pread(pagemap, 8 * (min(first + step, end // page) - first), 8 * first)
        found += [((first + begin) * page, (first + behind) * page) for begin, behind in wanted_pages(entries)]
    return found


class MemoryOf:
    """The pages of a running process that a dump would hold, but for shared memory, which has pagemaps of its own.

    The process goes on, so what is read is a moment's guess, and a page may be gone when it is read. A dump of the same
    moment holds two more things: the vDSO, and the page of code into which CRIU puts its first instruction; and it may
    have another CPU's number where the kernel writes it (rseq), because the process runs CRIU's code for the dump.

    :param pid: as this namespace knows it.
    :raises PagesError: when there is no such process, or it is not allowed to look.
    """

    def __init__(self, pid: int, page: int = PAGE):
        self.pid = pid
        self.page = page
        self._files: list[int] = []
        self._scans = True
        try:
            self.image_id = self._innermost()
            for name in ("mem", "pagemap"):
                self._files.append(os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC))
        except (FileNotFoundError, ProcessLookupError):
            self.close()
            raise PagesError(f"there is no process {pid}") from None
        except PermissionError:
            self.close()
            raise PagesError(f"the memory of process {pid} may not be read") from None

    def __enter__(self) -> MemoryOf:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Closes its files."""
        while self._files:
            os.close(self._files.pop())

    @property
    def name(self) -> str:
        """The file name that its pagemap has in a dump."""
        return pagemap_name(self.image_id)

    @property
    def memory(self) -> int:
        """The descriptor of its memory, in which offsets are addresses."""
        return self._files[0]

    def executable(self) -> list[Run]:
        """The pages that it may execute. A dump puts its first instruction into one of them, and takes it out again."""
        found = []
        for line in self._text("maps").splitlines():
            span, rights = line.split(" ", 2)[:2]
            start, end = (int(number, 16) for number in span.split("-"))
            if "x" in rights:
                found.append(Run(start, (end - start) // self.page, 0, -1, -1))
        return found

    def _text(self, name: str) -> str:
        with open(f"/proc/{self.pid}/{name}", encoding="utf-8", errors="replace") as stream:
            return stream.read()

    def _innermost(self) -> int:
        """The PID in the innermost namespace, by which CRIU names images."""
        match = re.search(r"^NSpid:.*?(\d+)$", self._text("status"), re.MULTILINE)
        if not match:
            raise PagesError(f"the kernel does not tell the innermost PID of process {self.pid}")
        return int(match.group(1))

    def runs(self) -> list[Run]:
        """The pages at this moment; their bytes are those at the same address in the process' memory."""
        memory, pagemap = self._files
        try:
            mappings = parse_maps(self._text("maps"))
        except (FileNotFoundError, ProcessLookupError):
            raise PagesError(f"there is no process {self.pid} any more") from None
        found = []
        for start, end in mappings:
            for first, behind in self._present(pagemap, start, end):
                found.append(Run(first, (behind - first) // self.page, 0, memory, first))
        return joined(found, self.page)

    def _present(self, pagemap: int, start: int, end: int) -> list[tuple[int, int]]:
        if self._scans:
            try:
                return scan(pagemap, start, end)
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    raise
                self._scans = False
        return _look(pagemap, start, end, self.page)


# ---------------------------------------------------------------------------------------------------------------------
# A copy that is kept up to date


class Change(NamedTuple):
    """Pages of a round that are new or other ones."""

    vaddr: int
    data: memoryview  # of whole pages; good until the next change is asked for


class Store:
    """Pages by pagemap, kept up to date round by round. Two of them, at both ends, hold the same after each round.

    The source's: C(for change in store.update(name, runs)), each of which is sent, and then C(store.layout(name)). The
    destination's: C(put) for each change, then C(settle) with that layout. A round that was not finished leaves a store
    that cannot be used any more, because nobody knows what the other end has.

    The pages of a pagemap are in one file, in any order; what became free is used again. C(delta) takes a store as the
    old side. C(lay_out) makes a plain directory of it, which can be the parent of an incremental image set.

    :param directory: is made for it; on a file system in memory, or where there is room for all pages.
    """

    def __init__(self, directory: str, page: int = PAGE):
        self.directory = directory
        self.page = page
        self._held: dict[str, _Held] = {}
        os.makedirs(directory, 0o700, exist_ok=True)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Ends it and removes its files."""
        for name in list(self._held):
            self.drop(name)
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)

    def names(self) -> list[str]:
        """The pagemaps of which there are pages."""
        return sorted(self._held)

    def drop(self, name: str) -> None:
        """Forgets a pagemap, because its process is gone."""
        held = self._held.pop(name, None)
        if held:
            held.close()

    def update(self, name: str, runs: Iterable[Run], touched: Iterable[Run] | None = None) -> Iterator[Change]:
        """One round of one pagemap: reads these runs, keeps them, and yields what was new or other before.

        Pages that cannot be read are left out, and so are, without another try, those behind them in the same block.

        :param touched: which of these pages may be other ones than in the round before, when that is known. The others
            are read only when they are new.
        """
        held = self._open(name)
        held.settled = False
        layout: list[Run] = []
        left, right = _buffer(self.page), _buffer(self.page)
        for new, old in side_by_side(_marked(runs, touched, self.page), held.runs, self.page):
            if not new:
                continue
            if old and new.flags == _UNTOUCHED:
                layout.append(Run(new.vaddr, new.pages, 0, -1, new.vaddr))
                continue
            for block, kept in _beside(new, old, self.page):
                size = _read_what_is_there(block.file, memoryview(left)[: block.pages * self.page], block.offset)
                size -= size % self.page
                if size:
                    layout.append(Run(block.vaddr, size // self.page, 0, -1, block.vaddr))
                    yield from held.keep(block.vaddr, kept, left, right, size)
        held.settle(joined(layout, self.page))

    def put(self, name: str, vaddr: int, data: bytes | bytearray | memoryview) -> None:
        """Keeps pages that the other end's C(update) has yielded."""
        view = memoryview(data).cast("B")
        if vaddr < 0 or vaddr % self.page or not view or len(view) % self.page or vaddr + len(view) > _WORD:
            raise PagesError(f"{len(view)} bytes for 0x{vaddr:x} of {name} are no pages")
        held = self._open(name)
        held.settled = False
        held.put(vaddr, view)

    def layout(self, name: str) -> list[Pages]:
        """Which pages there are now, in as few runs as possible, whatever their order in the file is."""
        runs = [Run(run.vaddr, run.pages, 0, -1, run.vaddr) for run in self._settled(name).runs]
        return [Pages(run.vaddr, run.pages) for run in joined(runs, self.page)]

    def settle(self, name: str, layout: Iterable[Pages | tuple[int, int] | list[int]]) -> None:
        """Ends a round of the other end: keeps the pages of this layout and no others.

        :raises PagesError: when a page of it never came; then this store cannot be used any more.
        """
        runs, last = [], 0
        for vaddr, pages in layout:
            if vaddr < last or vaddr % self.page or pages < 1:
                raise PagesError(f"the layout of {name} is not in order at 0x{vaddr:x}")
            last = vaddr + pages * self.page
            runs.append(Run(vaddr, pages, 0, -1, vaddr))
        self._open(name).settle(runs)

    @contextlib.contextmanager
    def runs(self, name: str) -> Iterator[list[Run]]:
        """The runs of one pagemap, in order, as those of an ImageSet."""
        yield self._settled(name).runs if name in self._held else []

    def pieces(self, name: str, vaddr: int, pages: int) -> list[Run]:
        """Where these pages are at this moment, also in the midst of a round; fewer when not all of them are here."""
        asked = [Run(vaddr, pages, 0, -1, -1)]
        held = self._open(name).around(vaddr, vaddr + pages * self.page)
        return [have for wanted, have in side_by_side(asked, held, self.page) if wanted and have]

    def digest(self, name: str) -> str:
        """SHA-256 (hexadecimal) of the layout and the pages: the same at both ends, or one of them is wrong."""
        checksum = hashlib.sha256()
        for pages in self.layout(name):
            checksum.update(struct.pack("<2Q", *pages))
        buffer = _buffer(self.page)
        for run in self._settled(name).runs:
            for block in _blocks(run, self.page):
                view = memoryview(buffer)[: block.pages * self.page]
                _read_exactly(block.file, view, block.offset)
                checksum.update(view)
        return checksum.hexdigest()

    def lay_out(self, out: str) -> dict[str, int]:
        """Makes a plain directory of the pages, in order, which can be a parent; the store is empty then.

        :returns: C(pages) in it, and C(bytes_written) for them: 0 where the pages were in order already, on the same
            file system.
        """
        figures = {"pages": 0, "bytes_written": 0}
        with _making(out):
            for number, name in enumerate(self.names(), 1):
                runs = self._settled(name).runs
                figures["pages"] += _total(runs)
                held = self._held[name]
                if held.in_order() and _moved(held.path, os.path.join(out, pages_name(number))):
                    _write_pagemap(out, name, number, _plain(runs, self.page))
                else:
                    with _Writer(out, name, number, self.page) as writer:
                        for run in runs:
                            writer.copy(run)
                    figures["bytes_written"] += writer.written
                self.drop(name)
        return figures

    def _open(self, name: str) -> _Held:
        if not _NAME.fullmatch(name):
            raise PagesError(f"{name!r} is not the name of a pagemap")
        if name not in self._held:
            self._held[name] = _Held(os.path.join(self.directory, f"{name}.pages"), self.page)
        return self._held[name]

    def _settled(self, name: str) -> _Held:
        held = self._open(name)
        if not held.settled:
            raise PagesError(f"the last round of {name} was not finished, so it is not known what the other end has")
        return held


_UNTOUCHED = -1  # In place of a run's flags.


def _marked(runs: Iterable[Run], touched: Iterable[Run] | None, page: int) -> Iterator[Run]:
    """The same runs, in order, those pages marked that are not in the second list."""
    if touched is None:
        yield from runs
        return
    for run, other in side_by_side(runs, touched, page):
        if run:
            yield run._replace(flags=0 if other else _UNTOUCHED)


def _beside(new: Run, old: Run | None, page: int) -> Iterator[tuple[Run, Run | None]]:
    """The blocks of a run, each with the block that is held for it, or None."""
    olds: Iterable[Run | None] = _blocks(old, page) if old else [None] * (-(-new.pages // max(BLOCK // page, 1)))
    return zip(_blocks(new, page), olds)


def _reaching(runs: list[Run], start: int, end: int, page: int) -> list[Run]:
    """Those of the runs, which are in order, that reach into a range: found by halving, for they may be many."""
    low, high = 0, len(runs)
    while low < high:
        middle = (low + high) // 2
        if runs[middle].vaddr + runs[middle].pages * page <= start:
            low = middle + 1
        else:
            high = middle
    behind = low
    while behind < len(runs) and runs[behind].vaddr < end:
        behind += 1
    return runs[low:behind]


class _Held:
    """The pages of one pagemap, in a file without order."""

    def __init__(self, path: str, page: int):
        self.path = path
        self.page = page
        self.runs: list[Run] = []  # in order; what the last round left
        self.settled = True
        self._added: list[Run] = []  # in order; what came new in this round
        self._free: list[tuple[int, int]] = []  # offset and bytes of room that is not used any more
        self._end = 0
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        os.close(self.file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def in_order(self) -> bool:
        """Whether the file is what the pages file of a plain set would be."""
        position = 0
        for run in self.runs:
            if run.offset != position:
                return False
            position += run.pages * self.page
        os.ftruncate(self.file, position)
        return True

    def keep(self, vaddr: int, kept: Run | None, left: bytearray, right: bytearray, size: int) -> Iterator[Change]:
        """Takes over the first I(size) bytes of I(left), and yields those that differ from what is kept."""
        view = memoryview(left)
        if not kept:
            self._add(vaddr, view[:size])
            yield Change(vaddr, view[:size])
            return
        other = memoryview(right)
        _read_exactly(self.file, other[:size], kept.offset)
        for begin, end in _differing(left, other, size, self.page):
            _write_at(self.file, view[begin:end], kept.offset + begin)
            yield Change(vaddr + begin, view[begin:end])

    def put(self, vaddr: int, view: memoryview) -> None:
        """Takes over pages of the other end, over what is kept of them, or as new ones."""
        asked = [Run(vaddr, len(view) // self.page, 0, -1, 0)]
        for part, kept in side_by_side(asked, self.around(vaddr, vaddr + len(view)), self.page):
            if part:
                data = view[part.offset : part.offset + part.pages * self.page]
                if kept:
                    _write_at(self.file, data, kept.offset)
                else:
                    self._add(part.vaddr, data)

    def around(self, start: int, end: int) -> list[Run]:
        """The runs that reach into this range of addresses, in order: those kept and those that came in this round."""
        found = _reaching(self.runs, start, end, self.page)
        return sorted(found + _reaching(self._added, start, end, self.page)) if self._added else found

    def _add(self, vaddr: int, view: memoryview) -> None:
        """New pages, where there is room."""
        while view:
            offset, room = self._room(len(view))
            _write_at(self.file, view[:room], offset)
            bisect.insort(self._added, Run(vaddr, room // self.page, 0, self.file, offset))
            vaddr, view = vaddr + room, view[room:]

    def _room(self, size: int) -> tuple[int, int]:
        """Offset and size of room for so many bytes or fewer: what became free, else the end of the file."""
        if not self._free:
            self._end += size
            return self._end - size, size
        offset, free = self._free.pop()
        if free > size:
            self._free.append((offset + size, free - size))
        return offset, min(size, free)

    def settle(self, layout: list[Run]) -> None:
        """Ends a round: what is in the layout stays, the room of everything else becomes free."""
        everything = sorted(self.runs + self._added)
        runs, free = [], []
        for wanted, held in side_by_side(layout, everything, self.page):
            if wanted and held:
                runs.append(held)
            elif wanted:
                raise PagesError(f"the page at 0x{wanted.vaddr:x} never came")
            elif held:
                free.append((held.offset, held.pages * self.page))
        self.runs = joined(runs, self.page)
        self._added = []
        self._free += free
        self.settled = True


# ---------------------------------------------------------------------------------------------------------------------
# A dump and a store


@contextlib.contextmanager
def dumped_runs(directory: str, name: str, memory: int, page: int = PAGE) -> Iterator[list[Run]]:
    """The runs of one pagemap of a dump, in order, each with the file that has its bytes; LAZY or 0 as their flags.

    :param memory: the open memory of the process, which has stood still since the dump: there is what the dump left.
    """
    pages_id, runs = decode_pagemap(_content(directory, name), _called(directory, name), page)
    with open(os.path.join(directory, pages_name(pages_id)), "rb") as stream:
        found = []
        for run in runs:
            if run.flags & PARENT:
                raise PagesError(f"{_called(directory, name)} has a page at 0x{run.vaddr:x} in a parent")
            if run.flags & PRESENT:
                found.append(run._replace(flags=run.flags & LAZY, file=stream.fileno()))
            else:
                found.append(run._replace(file=memory, offset=run.vaddr))
        yield found


def complete(directory: str, store: Store, lazily: bool, page: int = PAGE) -> dict[str, int]:
    """Gives a dump's images, which came without the bytes of any page, those that a store has.

    :param lazily: leave those that the dump left with their process to C(criu lazy-pages).
    :returns: C(pages) that the restore finds in the images, C(bytes_written) for them, and C(left) to lazy pages.
    """
    figures = {"pages": 0, "bytes_written": 0, "left": 0}
    for name in ImageSet(directory, page=page).names():
        path = os.path.join(directory, name)
        pages_id, runs = decode_pagemap(_content(directory, name), path, page)
        os.unlink(path)
        with store.runs(name) as held, _Writer(directory, name, pages_id, page) as writer:
            figures["left"] += _fill(writer, runs, held, lazily)
        figures["bytes_written"] += writer.written
    figures["pages"] = figures["bytes_written"] // page
    return figures


def _fill(writer: _Writer, runs: list[Run], held: list[Run], lazily: bool) -> int:
    """Writes the runs of a dump from what is held; how many pages are left out."""
    left = 0
    for run, have in side_by_side(runs, held, writer.page):
        if not run:
            continue
        if lazily and run.flags == LAZY:
            writer.note(run.vaddr, run.pages, LAZY)
            left += run.pages
        elif have:
            writer.copy(have._replace(flags=run.flags & LAZY))
        else:
            raise PagesError(f"the page at 0x{run.vaddr:x} of {writer.name} never came")
    return left
