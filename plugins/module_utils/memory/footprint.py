# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much memory processes have, as a dump of all of them has to hold it, and how large their address space is.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.criu.dump_costs import AddressSpace
from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import PAGE
from ansible_collections.fog.migration.plugins.module_utils.memory.process_memory import shared_files
from ansible_collections.fog.migration.plugins.module_utils.system import files, procfs

# Blocks of stat(2).
_BLOCK = 512
_MAPPING = re.compile(
    r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) ...(?P<kind>.) (?P<offset>[0-9a-f]+) \S+ (?P<inode>\d+) *(?P<name>.*)"
)


class HugeMapping(NamedTuple):
    """A mapping of huge pages, in bytes.

    :param inode: of the memory, where it is shared; 0 for private memory.
    :param page: of one page.
    :param size: of the mapping, or up to its end in the shared memory: the kernel sets so many pages aside for it.
    :param used: of the pages that are there.
    """

    inode: int
    page: int
    size: int
    used: int


class Footprint(NamedTuple):
    """The memory of some processes, in bytes.

    :param private: what each has for itself, in memory or swapped out.
    :param shared: what they share without a file that has a name, each piece once.
    :param files: what is in those file systems of theirs that are in memory.
    :param processes: how many they are.
    :param space: see C(AddressSpace).
    :param huge: huge pages that are wanted wherever they go on, by the bytes of one page.
    """

    private: int
    shared: int
    files: int
    processes: int
    space: AddressSpace
    huge: dict[int, int]


def of(processes: Collection[int], root: int) -> Footprint:
    """The memory of these processes at this moment.

    :param root: the one whose file systems are theirs; 0 for none.
    """
    huge = [one for process in processes for one in _huge_mappings(process)]
    return Footprint(
        sum(private_bytes(procfs.status(process)) for process in processes)
        + sum(one.used for one in huge if not one.inode),
        shared_bytes(processes),
        _file_system_bytes(root) if root else 0,
        len(processes),
        address_space(procfs.read(f"/proc/{process}/maps") for process in processes),
        huge_bytes(huge),
    )


def private_bytes(status: dict[str, str]) -> int:
    """Bytes of the memory that a process has for itself, but huge pages, from the fields of its status.

    Memory that is swapped out is none of the first number's, and shared memory none of the second's.
    """
    return 1024 * (procfs.kibibytes(status, "RssAnon") + procfs.kibibytes(status, "VmSwap"))


def shared_bytes(processes: Iterable[int]) -> int:
    """Bytes of the shared memory that these processes have mapped or open, each piece once, swapped out or not."""
    found: dict[int, int] = {}
    for process in processes:
        for inode, path in shared_files(process).items():
            if inode not in found:
                # It may be gone, or not be allowed to be looked at.
                with contextlib.suppress(OSError):
                    found[inode] = os.stat(path).st_blocks * _BLOCK
    return sum(found.values())


def address_space(texts: Iterable[str]) -> AddressSpace:
    """What CRIU walks through, of the texts of C(/proc/PID/maps) of some processes."""
    total = longest = 0
    for text in texts:
        for line in text.split("\n"):
            match = _MAPPING.match(line)
            if match and match["kind"] == "p" and match["name"] != "[vsyscall]":
                size = _size(match)
                total, longest = total + size, max(longest, size)
    return AddressSpace(total, longest)


def _size(mapping: re.Match[str]) -> int:
    return int(mapping["end"], 16) - int(mapping["start"], 16)


# ---------------------------------------------------------------------------------------------------------------------
# Huge pages


def _huge_mappings(process: int) -> list[HugeMapping]:
    """The mappings of huge pages of a process. To ask for them takes long, so only where it has any."""
    has_any = procfs.kibibytes(procfs.status(process), "HugetlbPages")
    return list(parse_huge(procfs.read(f"/proc/{process}/smaps"))) if has_any else []


def parse_huge(text: str, page: int = PAGE) -> Iterator[HugeMapping]:
    """The mappings of huge pages in the text of C(/proc/PID/smaps).

    :param page: bytes of a page that is not huge.
    """
    for mapping, fields in _smaps(text):
        # Those of devices may have large pages, too.
        if fields.get("KernelPageSize", 0) > page and not mapping["name"].startswith("/dev/"):
            shared, size = mapping["kind"] == "s", _size(mapping)
            yield HugeMapping(
                int(mapping["inode"]) if shared else 0,
                fields["KernelPageSize"],
                size + int(mapping["offset"], 16) if shared else size,
                fields.get("Shared_Hugetlb", 0) + fields.get("Private_Hugetlb", 0),
            )


def _smaps(text: str) -> Iterator[tuple[re.Match[str], dict[str, int]]]:
    """The first line of each mapping, and its numbers in bytes."""
    begin: re.Match[str] | None = None
    fields: dict[str, int] = {}
    for line in text.split("\n"):
        match = _MAPPING.match(line)
        if match:
            if begin:
                yield begin, fields
            begin, fields = match, {}
        else:
            key, _colon, value = line.partition(":")
            words = value.split()
            if len(words) == 2 and words[1] == "kB":
                fields[key] = int(words[0]) * 1024
    if begin:
        yield begin, fields


def huge_bytes(mappings: Iterable[HugeMapping]) -> dict[int, int]:
    """Bytes of huge pages that are wanted by the bytes of one page; what is shared, once."""
    found: dict[int, int] = {}
    shared: dict[tuple[int, int], int] = {}
    for one in mappings:
        if one.inode:
            key = one.page, one.inode
            shared[key] = max(shared.get(key, 0), one.size)
        else:
            found[one.page] = found.get(one.page, 0) + one.size
    for (page, _inode), size in shared.items():
        found[page] = found.get(page, 0) + size
    return found


# ---------------------------------------------------------------------------------------------------------------------
# File systems in memory


def own_file_systems(theirs: str, servers: str) -> list[str]:
    """Where a container has file systems in memory that are its own, each once.

    :param theirs: the text of C(/proc/PID/mountinfo) of one of its processes.
    :param servers: that of the server, whose file systems CRIU does not take along.
    """
    outside = {device for device, *_others in files.parse_mountinfo(servers)}
    found: dict[str, str] = {}
    for device, root, place, kind in files.parse_mountinfo(theirs):
        if kind == "tmpfs" and root == "/" and device not in outside:
            found.setdefault(device, place)
    return list(found.values())


def _file_system_bytes(root: int) -> int:
    """Bytes that are in the file systems in memory that a process' container has for itself."""
    places = own_file_systems(procfs.read(f"/proc/{root}/mountinfo"), procfs.read("/proc/self/mountinfo"))
    return sum(_used(f"/proc/{root}/root{place}") for place in places)


def _used(place: str) -> int:
    """Bytes that are used in the file system at a place; of one without a limit, those of its files."""
    try:
        status = os.statvfs(place)
    except OSError:
        return 0
    return (status.f_blocks - status.f_bfree) * status.f_frsize if status.f_blocks else files.folder_bytes(place)
