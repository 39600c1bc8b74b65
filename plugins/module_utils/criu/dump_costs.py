# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CRIU needs for a dump besides room for the memory itself. Pure functions all of them.

Read in CRIU's source at v4.2, and in what of it is the same at v3.16 and since:

- A lazy dump puts all pages of all processes into pipes and keeps them until it ends (cr_lazy_mem_dump() in
  criu/cr-dump.c). A pipe holds PIPE_MAX_SIZE pages at the most (criu/page-pipe.h), rounded up to a power of two by the
  kernel; pages that are left and others are in pipes of their own (ppb_alloc() in criu/page-pipe.c). Each pipe has two
  descriptors. Any other dump uses eight pipes again and again (NR_PIPES_PER_CHUNK).
- For each page of address space in private mappings, whether there is memory in it or not, there is room in a list
  (struct iovec, dump_pages_args_size() in criu/mem.c). Of a dump that is not lazy, that is a file of holes
  (parasite_memfd_exchange() in compel/src/lib/infect.c). A lazy dump has the list in its own memory, too, and copies
  all of it into that file (__parasite_dump_pages_seized() in criu/mem.c), which then is as large as it looks.
- Without the kernel's PAGEMAP_SCAN, CRIU reads the entries of a whole mapping at once, eight bytes for each page
  (pmc_fill() in criu/pagemap-cache.c). It uses that from v4.0 on, and the kernel has it from 6.7 on.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# struct iovec, and struct pipe_buffer of the kernel as CRIU has it.
_IOVEC, _PIPE_BUFFER = struct.calcsize("PN"), struct.calcsize("PIIPIL")
_ENTRY = 8
# PAGE_ALLOC_COSTLY_ORDER of the kernel.
_PAGES_OF_BUFFERS = 8
# Descriptors that a dump has open whatever it dumps, and for each process.
_FILES, _FILES_OF_PROCESS = 256, 8
_SCANS_FROM = {"kernel": (6, 7), "criu": (4, 0)}


class AddressSpace(NamedTuple):
    """What of the address space of processes CRIU walks through, in bytes: their private mappings.

    :param total: of all processes.
    :param longest: the longest mapping of any of them.
    """

    total: int
    longest: int


def pipe_bytes(page: int, largest: int | None) -> int:
    """Bytes that CRIU puts into a pipe.

    :param page: bytes of a page.
    :param largest: bytes of the largest pipe that it can get; None for no limit.
    """
    wanted = page * _power_of_two_from(_PAGES_OF_BUFFERS * page // _PIPE_BUFFER)
    if largest is None or largest >= wanted:
        return wanted
    # It doubles a pipe as long as it may.
    return max(page, 1 << largest.bit_length() - 1)


def _power_of_two_from(number: int) -> int:
    return 1 << (number - 1).bit_length()


def descriptors(memory: int, processes: int, pipe: int) -> int:
    """How many descriptors a lazy dump has open at its end.

    :param memory: bytes of private memory of all processes.
    :param processes: how many there are.
    :param pipe: see C(pipe_bytes).
    """
    # The last pipe of each of the two kinds is not full.
    pipes = memory // pipe + 2 * processes
    return 2 * pipes + _FILES_OF_PROCESS * processes + _FILES


def lists(space: AddressSpace, page: int) -> int:
    """Bytes of memory that the lists of a lazy dump take."""
    return space.total // page * _IOVEC


def entries(space: AddressSpace, page: int, scans: bool) -> int:
    """Bytes of memory that the kernel's entries take in any dump.

    :param scans: see C(scans).
    """
    return 0 if scans else space.longest // page * _ENTRY


def scans(kernel: tuple[int, ...], criu: tuple[int, ...]) -> bool:
    """Whether this CRIU asks this kernel only for what is there, however large a mapping is."""
    return kernel >= _SCANS_FROM["kernel"] and criu >= _SCANS_FROM["criu"]
