# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory of a running process: which pages it has, and their bytes, without stopping it.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import (
    PAGE,
    PagesError,
    Run,
    joined,
    pagemap_name,
    shared_name,
)
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# Mappings that the kernel makes, and whose content is the kernel's.
_KERNELS = {"[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]"}
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ...p [0-9a-f]+ \S+ \d+ *(.*)")


def parse_maps(text: str) -> list[tuple[int, int]]:
    """Begin and end of the private mappings in C(/proc/PID/maps) that belong to the process itself."""
    found = []
    for line in text.split("\n"):
        match = _MAPPING.match(line)
        if match and match.group(3) not in _KERNELS:
            found.append((int(match.group(1), 16), int(match.group(2), 16)))
    return found


# Memory that processes share without a file that has a name, by mmap(), System V's shmget() or memfd_create(). CRIU
# dumps what is in it for itself, by its inode, which is the ID of a segment of System V's (handle_vma() in
# criu/proc_parse.c, dump_memfd_inode() in criu/memfd.c, dump_ipc_shm_pages() in criu/ipc_ns.c). A memfd is a file:
# private mappings have it as well, and it need not be mapped.
_SHARED = re.compile(
    r"([0-9a-f]+-[0-9a-f]+) ..(.)(?:s [0-9a-f]+ \S+ (\d+) +/(?:dev/zero|(SYSV)[0-9a-f]{8}|anon_hugepage)"
    r"|. [0-9a-f]+ \S+ (\d+) +/memfd:.*) \(deleted\)$"
)
_MEMFD = "/memfd:"
_MAP_FILE = re.compile(r"/map_files/([0-9a-f]+)-[0-9a-f]+$")


class Shared(NamedTuple):
    """A piece of shared memory in C(/proc/PID/maps).

    :param mapping: name of a mapping of it in C(/proc/PID/map_files).
    :param executable: whether one of its mappings can be executed.
    :param of_namespace: whether it belongs to the namespace of the processes (System V), and not to one of them.
    """

    mapping: str
    executable: bool
    of_namespace: bool


def parse_shared(text: str) -> dict[int, Shared]:
    """The pieces of shared memory in C(/proc/PID/maps), by inode."""
    found: dict[int, Shared] = {}
    for match in filter(None, map(_SHARED.match, text.split("\n"))):
        inode = int(match.group(3) or match.group(5))
        executable = match.group(2) == "x" or (inode in found and found[inode].executable)
        found[inode] = Shared(match.group(1), executable, bool(match.group(4)))
    return found


def shared_files(process: int) -> dict[int, str]:
    """The pieces of shared memory that a process has mapped or open, by inode: a path by which each can be opened.

    Of one that has ended, or that this program may not look at, there are none.
    """
    mapped = parse_shared(procfs.read(f"/proc/{process}/maps"))
    places = {inode: f"/proc/{process}/map_files/{one.mapping}" for inode, one in mapped.items()}
    return {**_open_memfds(process), **places}


def _open_memfds(process: int) -> dict[int, str]:
    """The memfds that a process has open, as C(shared_files)."""
    found: dict[int, str] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            path = f"/proc/{process}/fd/{name}"
            with contextlib.suppress(OSError):
                if os.readlink(path).startswith(_MEMFD):
                    found[os.stat(path).st_ino] = path
    return found


def own_pieces(process: int) -> set[int]:
    """The inodes of C(shared_files) without those of a namespace."""
    mapped = parse_shared(procfs.read(f"/proc/{process}/maps"))
    of_namespace = {inode for inode, one in mapped.items() if one.of_namespace}
    return (mapped.keys() | _open_memfds(process).keys()) - of_namespace


def rest_of(file: int, page: int = PAGE) -> tuple[int, bytes] | None:
    """Where the last page of shared memory begins of which its file ends within, and all that is in it.

    Processes that have it mapped can write behind the end of the file, and a dump holds that as well.
    """
    size = os.fstat(file).st_size
    begin = size - size % page
    return (begin, _mapped_page(file, begin, page)) if size % page else None


def _mapped_page(file: int, offset: int, page: int) -> bytes:
    """A page of a file, as whoever has mapped it sees it. Python's own mmap() ends where the file does."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Where there are two, this is the one whose offsets have 64 bits everywhere.
    function = getattr(libc, "mmap64", None) or libc.mmap
    function.restype = ctypes.c_void_p
    words = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64
    function.argtypes = words
    place = function(None, page, mmap.PROT_READ, mmap.MAP_SHARED, file, offset)
    if place == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "mmap")
    try:
        return ctypes.string_at(place, page)
    finally:
        libc.munmap(ctypes.c_void_p(place), ctypes.c_size_t(page))


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


# Bytes of a mapping that is not walked through page by page before it is known that something of it is in memory: some
# programs reserve terabytes of addresses, and a walk through one of them reads 2 GiB.
_RESERVED = 1 << 36
_SMAPS_MAPPING = re.compile(r"([0-9a-f]+)-[0-9a-f]+ ")
_SMAPS_MEMORY = re.compile(r"(?:Rss|Swap|Shared_Hugetlb|Private_Hugetlb): +(\d+) kB")


def parse_empty(smaps: str) -> set[int]:
    """Where the mappings begin of which nothing is in memory or swapped, in C(/proc/PID/smaps)."""
    empty: set[int] = set()
    start = 0
    for line in smaps.split("\n"):
        mapping, memory = _SMAPS_MAPPING.match(line), _SMAPS_MEMORY.match(line)
        if mapping:
            start = int(mapping.group(1), 16)
            empty.add(start)
        elif memory and memory.group(1) != "0":
            empty.discard(start)
    return empty


def innermost(status: str) -> int:
    """The PID in the innermost namespace, in the text of C(/proc/PID/status); 0 where it is not told."""
    match = re.search(r"^NSpid:.*?(\d+)$", status, re.MULTILINE)
    return int(match.group(1)) if match else 0


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
        # Whether there is shared memory at which it may not look.
        self.hides_shared = False
        # What C(shared) has opened, by pagemap, and an address at which it is mapped, where it is.
        self.shared_memory: dict[str, int] = {}
        self.shared_at: dict[str, int] = {}
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

    def __exit__(self, *error: object) -> None:
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

    def first_code(self) -> tuple[int, bytes] | None:
        """Address and content of the page with its first code; None where there is none to be read."""
        with contextlib.suppress(PagesError, OSError):
            found = procfs.first_code(self._text("maps"))
            if found:
                return found[0], os.pread(self.memory, self.page, found[0])
        return None

    def _text(self, name: str) -> str:
        try:
            with open(f"/proc/{self.pid}/{name}", encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except (FileNotFoundError, ProcessLookupError):
            # It may end at any moment, also between the two: one that was killed does so even where it is frozen.
            raise PagesError(f"there is no process {self.pid} any more") from None

    def _innermost(self) -> int:
        """The PID in the innermost namespace, by which CRIU names images."""
        found = innermost(self._text("status"))
        if not found:
            raise PagesError(f"the kernel does not show the innermost PID of process {self.pid}")
        return found

    def runs(self) -> list[Run]:
        """The pages at this moment, without shared memory, which has pagemaps of its own.

        Their bytes are those at the same address in the process' memory.

        :raises PagesError: when the process has ended.
        """
        memory, pagemap = self._files[:2]
        found = []
        for start, end in parse_maps(self._text("maps")):
            for first, behind in self._present(pagemap, start, end):
                found.append(Run(first, (behind - first) // self.page, 0, memory, first))
        return joined(found, self.page)

    def shared(self, known: Iterable[str] = ()) -> dict[str, list[Run]]:
        """The pages of the shared memory that it has mapped or open now, by pagemap.

        A kernel that does not let look at it has none.

        :param known: pagemaps that are known already, by other processes.
        """
        found = {}
        for inode, path in shared_files(self.pid).items():
            name = shared_name(inode)
            if name in known:
                continue
            try:
                self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                self.shared_memory[name] = self._files[-1]
                found[name] = data_in(self._files[-1], self.page)
                mapping = _MAP_FILE.search(path)
                if mapping:
                    self.shared_at[name] = int(mapping.group(1), 16)
            except OSError as error:
                # It may be gone, or not be allowed to be looked at.
                self.hides_shared |= error.errno not in (errno.ENOENT, errno.ESRCH)
        return found

    def executable_shared(self) -> set[str]:
        """The pagemaps of the shared memory of which it may execute something; see C(executable)."""
        try:
            mapped = parse_shared(self._text("maps"))
        except PagesError:
            return set()
        return {shared_name(inode) for inode, one in mapped.items() if one.executable}

    def _present(self, pagemap: int, start: int, end: int) -> list[tuple[int, int]]:
        if self._scans:
            try:
                return scan(pagemap, start, end)
            except ProcessLookupError:
                raise PagesError(f"there is no process {self.pid} any more") from None
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    raise
                self._scans = False
        if end - start >= _RESERVED and start in parse_empty(self._text("smaps")):
            return []
        return _look(pagemap, start, end, self.page)
