# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dirty pages: which ones a process has written, where the kernel tracks that (CONFIG_MEM_SOFT_DIRTY).

Bit 55 of an entry in C(/proc/PID/pagemap), cleared for the whole process by a 4 in C(/proc/PID/clear_refs): see
Documentation/admin-guide/mm/soft-dirty.rst of the kernel. Between reading and clearing the process must stand still.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import struct
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.memory import process_memory
from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import PAGE, Run

_DIRTY = bytes(int(byte >= 0x80) for byte in range(256))
_ONES = re.compile(b"\x01+")
# Entries of the pagemap that are read at once.
_STEP = 1 << 18


def dirty_entries(entries: bytes) -> list[tuple[int, int]]:
    """Which pages are dirty, as index of the first and behind the last, of C(/proc/PID/pagemap)'s bytes."""
    top = entries[6::8] if struct.pack("=H", 1)[0] else entries[1::8]
    return [match.span() for match in _ONES.finditer(top.translate(_DIRTY))]


def clear(pid: int | str) -> None:
    """From now on the process' pages count as clean until it writes to them."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as stream:
        stream.write("4")


def dirty(pid: int | str, runs: Iterable[Run]) -> list[Run]:
    """Those of a process' pages that are dirty.

    :param runs: the pages that it has.
    """
    found = []
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for run in runs:
            first, end = run.vaddr // PAGE, run.vaddr // PAGE + run.pages
            for begin in range(first, end, _STEP):
                entries = os.pread(pagemap.fileno(), 8 * (min(begin + _STEP, end) - begin), 8 * begin)
                for one, behind in dirty_entries(entries):
                    found.append(Run((begin + one) * PAGE, behind - one, 0, -1, -1))
    return found


def works() -> bool:
    """Whether this kernel tracks dirty pages, found out with a page of our own.

    It has to know PAGEMAP_SCAN as well (6.7), which tells the kernel's zero page from others: a page that was given
    back and then read is not dirty, and yet another one than before.
    """
    with contextlib.suppress(OSError), mmap.mmap(-1, PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[0] = 1
        here = Run(_address(page), 1, 0, -1, -1)
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            process_memory.scan(pagemap.fileno(), here.vaddr, here.vaddr + PAGE)
        clear("self")
        clean = not dirty("self", [here])
        page[0] = 2
        return clean and bool(dirty("self", [here]))
    return False


def _address(buffer: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))
