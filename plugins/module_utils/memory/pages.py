# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory pages: those in CRIU's image sets, and those of a running process.

    decode_pagemap, encode_pagemap   the format
    ImageSet                         a directory of images
    MemoryOf                         the pages that a running process has, without stopping it
    Store                            a copy of such pages, kept up to date round by round, the same at both ends
    dumped_runs                      the pages of a dump, those that it left with their process as well
    complete                         the pages of a dump from a store: a set that CRIU can restore, lazily or at once

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

Private to the collection fog.migration. Laid down on servers by C(deploy).
"""

from __future__ import annotations

import array
import bisect
import contextlib
import errno
import fcntl
import os
import re
import struct
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.criu.protobuf import ProtobufError, decode, encode

PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCK = 256 * 1024  # Bytes that are read and compared at a time: two of them fit into a small cache.

COMMON_MAGIC = 0x54564319  # IMG_COMMON_MAGIC
PAGEMAP_MAGIC = 0x56084025  # PAGEMAP_MAGIC, also that of pagemap-shmem

PARENT, LAZY, PRESENT = 1, 2, 4  # PE_PARENT, PE_LAZY, PE_PRESENT

_NAME = re.compile(r"pagemap-(?:shmem-)?(\d{1,20})\.img")
_PAGES_NAME = re.compile(r"pages-\d+\.img")
_WORD = 1 << 64


class PagesError(Exception):
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
# The format


def holds_pages(name: str) -> bool:
    """Whether a file of an image set is nothing but the bytes of pages."""
    return bool(_PAGES_NAME.fullmatch(name))


def pagemap_name(image_id: int) -> str:
    """The file name of a process' pagemap; I(image_id) is its PID in the innermost PID namespace."""
    return f"pagemap-{image_id}.img"


def shared_name(inode: int) -> str:
    """The same of a piece of shared memory."""
    return f"pagemap-shmem-{inode}.img"


def pages_name(pages_id: int) -> str:
    """The file name of the pages that a pagemap names."""
    return f"pages-{pages_id}.img"


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
                raise PagesError(f"{name} has a field that is not known here (number {key >> 3}, type {key & 7})")
            values[key >> 3], begin = decode(data, begin, end)
    except ProtobufError:
        raise PagesError(f"{name} has a malformed entry") from None
    return values


def decode_pagemap(data: bytes, name: str, page: int = PAGE) -> tuple[int, list[Run]]:
    """The number of the pages file and the runs of a pagemap, in order, each PRESENT or only LAZY.

    The file of each run is -1; PRESENT runs have their offset in the pages file, the others -1.

    :raises PagesError: when these are not the bytes of a pagemap, or of one whose pages are not all here.
    """
    messages = _messages(data, name)
    head = next(messages, None)
    pages_id = _numbers(data, *head, 1, name)[1] if head else None
    if pages_id is None:
        raise PagesError(f"{name} names no pages file")
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


def _run(fields: list[int | None], offset: int, page: int, name: str) -> Run:
    """The run in the fields vaddr, nr_pages (32 bits), in_parent, flags, nr_pages (64 bits) of a pagemap_entry."""
    _nothing, vaddr, count, in_parent, given, wide_count = fields
    # As init_compat_pagemap_entry() of CRIU does it.
    pages = count if wide_count is None else wide_count
    flags = PRESENT if given is None else given
    if vaddr is None or not pages or vaddr % page or vaddr + pages * page > _WORD:
        raise PagesError(f"{name} has an entry that is no run of pages")
    if in_parent or flags & PARENT:
        raise PagesError(f"{name} leaves the page at 0x{vaddr:x} to an earlier dump; only a full dump can be used here")
    if flags not in (PRESENT, PRESENT | LAZY, LAZY):
        raise PagesError(f"{name} has an entry at 0x{vaddr:x} with flags {flags}, which are not known here")
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


def _blocks(run: Run, page: int) -> Iterator[Run]:
    """The same run in parts that fit into a buffer."""
    rest: Run | None = run
    while rest:
        head, rest = split(rest, min(rest.pages, max(BLOCK // page, 1)), page)
        yield head


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


def _write_at(file: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def _copy(source: int, offset: int, destination: int, position: int, size: int) -> None:
    """Copies bytes of one file to a place in another, inside the kernel where it can."""
    while size:
        try:
            count = os.copy_file_range(source, destination, size, offset, position)
        except (AttributeError, OSError) as error:
            # Not in this Python, not between these file systems, not in this kernel.
            refused = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
            if isinstance(error, OSError) and error.errno not in refused:
                raise
            os.lseek(destination, position, os.SEEK_SET)
            count = os.sendfile(destination, source, offset, size)
        if not count:
            raise PagesError("a pages file became shorter while it was read")
        offset, position, size = offset + count, position + count, size - count


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
    """A directory with CRIU's images."""

    def __init__(self, directory: str):
        self.directory = directory

    def names(self) -> list[str]:
        """The file names of its pagemaps."""
        try:
            return sorted(name for name in os.listdir(self.directory) if _NAME.fullmatch(name))
        except FileNotFoundError:
            raise PagesError(f"there is no directory {self.directory}") from None

    def decode(self, name: str, page: int = PAGE) -> tuple[int, list[Run]]:
        """As C(decode_pagemap), of one of them."""
        path = os.path.join(self.directory, name)
        with open(path, "rb") as stream:
            return decode_pagemap(stream.read(), path, page)


class _Writer:
    """One pagemap and its pages file, new in a directory: first all its runs in order, then their bytes."""

    def __init__(self, directory: str, name: str, pages_id: int, page: int):
        self.directory, self.name, self.pages_id, self.page = directory, name, pages_id, page
        self.entries: list[Run] = []
        self.size = 0
        self._places: list[tuple[Run, int]] = []  # where to take the bytes of a run, and where they come to be
        path = os.path.join(directory, pages_name(pages_id))
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        os.close(self._file)
        if kind is None:
            path = os.path.join(self.directory, self.name)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(file, "wb") as stream:
                stream.write(encode_pagemap(self.pages_id, self.entries))

    def note(self, run: Run, flags: int) -> None:
        """Adds a run without bytes."""
        if self.entries:
            last = self.entries[-1]
            if last.flags == flags and last.vaddr + last.pages * self.page == run.vaddr:
                self.entries[-1] = last._replace(pages=last.pages + run.pages)
                return
        self.entries.append(Run(run.vaddr, run.pages, flags, -1, -1))

    def add(self, run: Run) -> None:
        """Adds a run whose bytes are in a file."""
        self.note(run, run.flags | PRESENT)
        self._places.append((run, self.size))
        self.size += run.pages * self.page

    def fill(self, use_up: bool) -> None:
        """Writes the bytes.

        :param use_up: cut off from the file, which all of them are from, what was copied of it, so that there is never
            memory for all of it twice.
        """
        for run, place in sorted(self._places, key=lambda each: each[0].offset, reverse=True):
            for block in reversed(list(_blocks(run, self.page))):
                position = place + block.offset - run.offset
                _copy(block.file, block.offset, self._file, position, block.pages * self.page)
                if use_up:
                    os.ftruncate(block.file, block.offset)


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


# Memory that processes share without any file, by mmap() or System V's shmget().
_SHARED = re.compile(r"([0-9a-f]+-[0-9a-f]+) ...s [0-9a-f]+ \S+ (\d+) +/(?:dev/zero|SYSV[0-9a-f]{8}) \(deleted\)$")


def parse_shared(text: str) -> dict[int, str]:
    """The pieces of shared memory in C(/proc/PID/maps), by inode: name of a mapping of it in C(/proc/PID/map_files)."""
    found = (_SHARED.match(line) for line in text.splitlines())
    return {int(match.group(2)): match.group(1) for match in found if match}


def data_in(file: int, page: int = PAGE) -> list[Run]:
    """The whole pages of a file that are no holes."""
    found, position = [], 0
    with contextlib.suppress(OSError):  # ENXIO: there are only holes behind that.
        while True:
            begin = os.lseek(file, position, os.SEEK_DATA)
            position = os.lseek(file, begin, os.SEEK_HOLE)
            if (position - begin) // page:
                found.append(Run(begin, (position - begin) // page, 0, file, begin))
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
    """The pages of a running process that a dump would hold.

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
        """The pages at this moment, without shared memory, which has pagemaps of its own.

        Their bytes are those at the same address in the process' memory.
        """
        memory, pagemap = self._files[:2]
        try:
            mappings = parse_maps(self._text("maps"))
        except (FileNotFoundError, ProcessLookupError):
            raise PagesError(f"there is no process {self.pid} any more") from None
        found = []
        for start, end in mappings:
            for first, behind in self._present(pagemap, start, end):
                found.append(Run(first, (behind - first) // self.page, 0, memory, first))
        return joined(found, self.page)

    def shared(self, known: Iterable[str] = ()) -> dict[str, list[Run]]:
        """The pages of the shared memory that it has mapped now, by pagemap.

        A kernel that does not let look at it has none.

        :param known: pagemaps that are known already, by other processes.
        """
        found = {}
        with contextlib.suppress(OSError):
            for inode, mapping in parse_shared(self._text("maps")).items():
                name = shared_name(inode)
                if name not in known:
                    self._files.append(os.open(f"/proc/{self.pid}/map_files/{mapping}", os.O_RDONLY | os.O_CLOEXEC))
                    found[name] = data_in(self._files[-1], self.page)
        return found

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

    The pages of a pagemap are in one file, in any order; what became free is used again.

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
        """The runs of one pagemap, in order, each with the open file that has its bytes."""
        yield self._settled(name).runs if name in self._held else []

    def pieces(self, name: str, vaddr: int, pages: int) -> list[Run]:
        """Where these pages are at this moment, also in the midst of a round; fewer when not all of them are here."""
        asked = [Run(vaddr, pages, 0, -1, -1)]
        held = self._held[name].around(vaddr, vaddr + pages * self.page) if name in self._held else []
        return [have for wanted, have in side_by_side(asked, held, self.page) if wanted and have]

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
        self._settling = threading.Lock()  # Pages are looked for while another thread ends a round.
        self._added: list[Run] = []  # in order; what came new in this round
        self._free: list[tuple[int, int]] = []  # offset and bytes of room that is not used any more
        self._end = 0
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        os.close(self.file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

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
        with self._settling:
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
        with self._settling:
            self.runs, self._added = joined(runs, self.page), []
        self._free += free
        self.settled = True


# ---------------------------------------------------------------------------------------------------------------------
# A dump and a store


@contextlib.contextmanager
def dumped_runs(directory: str, name: str, memory: int, page: int = PAGE) -> Iterator[list[Run]]:
    """The runs of one pagemap of a dump, in order, each with the file that has its bytes; LAZY or 0 as their flags.

    :param memory: the open memory of the process, which has stood still since the dump: there is what the dump left.
        -1 when there is none.
    """
    pages_id, runs = ImageSet(directory).decode(name, page)
    path = os.path.join(directory, pages_name(pages_id))
    with open(path, "rb") as stream:
        promised = sum(run.pages * page for run in runs if run.flags & PRESENT)
        size = os.fstat(stream.fileno()).st_size
        if size != promised:
            raise PagesError(f"{path} has {size} bytes, but {name} promises {promised}")
        found = []
        for run in runs:
            if run.flags & PRESENT:
                found.append(run._replace(flags=run.flags & LAZY, file=stream.fileno()))
            elif memory < 0:
                raise PagesError(f"the dump has left the page at 0x{run.vaddr:x} of {name} with a process that is gone")
            else:
                found.append(run._replace(file=memory, offset=run.vaddr))
        yield found


def complete(directory: str, store: Store, lazily: bool, page: int = PAGE) -> dict[str, int]:
    """Gives a dump's images, which came without the bytes of any page, those that a store has.

    :param lazily: leave those that the dump left with their process to C(criu lazy-pages), and to the store, which
        stays as it is. Otherwise it is used up: nothing is left in it, also when this fails.
    :returns: C(pages) that the restore finds in the images, C(bytes_written) for them, and C(left) to lazy pages.
    """
    figures = {"pages": 0, "bytes_written": 0, "left": 0}
    images = ImageSet(directory)
    for name in images.names():
        pages_id, runs = images.decode(name, page)
        os.unlink(os.path.join(directory, name))
        with store.runs(name) as held, _Writer(directory, name, pages_id, page) as writer:
            figures["left"] += _note_all(writer, runs, held, lazily)
            writer.fill(use_up=not lazily)
        if not lazily:
            store.drop(name)
        figures["bytes_written"] += writer.size
    figures["pages"] = figures["bytes_written"] // page
    return figures


def _note_all(writer: _Writer, runs: list[Run], held: list[Run], lazily: bool) -> int:
    """Notes the runs of a dump, with the bytes of what is held; how many pages are left out."""
    left = 0
    for run, have in side_by_side(runs, held, writer.page):
        if not run:
            continue
        if lazily and run.flags == LAZY:
            writer.note(run, LAZY)
            left += run.pages
        elif have:
            writer.add(have._replace(flags=run.flags & LAZY))
        else:
            raise PagesError(f"the page at 0x{run.vaddr:x} of {writer.name} never came")
    return left
