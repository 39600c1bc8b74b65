# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel lets a program of this server have: open files, room in a pipe, huge pages.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import ctypes
import os
import resource

from ansible_collections.fog.migration.plugins.module_utils.system import procfs

_SET_DUMPABLE = 4
_HUGE_PAGES = "/sys/kernel/mm/hugepages"
# More descriptors than that nobody needs, and programs that close all that they could have would take long.
ENOUGH_FILES = 1 << 20


def facts() -> dict[str, object]:
    """C(open_files), the most descriptors that CRIU can have here, and C(huge_pages), bytes that are free by size."""
    return {"open_files": open_files(), "huge_pages": huge_pages()}


def may_exceed() -> bool:
    """Whether this program may exceed the limits for resources, and so may CRIU where this starts it."""
    return procfs.may_exceed_limits(procfs.status(os.getpid()))


def open_files() -> int:
    """The most descriptors that CRIU can have where this program, once it has called C(raise_open_files), starts it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return most_open_files(hard, _number("/proc/sys/fs/nr_open"), may_exceed())


def most_open_files(hard: int, allowed: int, exceeds: bool) -> int:
    """The same, from the hard limit.

    CRIU gives itself all that the kernel allows where it may exceed limits (rlimit_unlimit_nofile() in criu/util.c).

    :param hard: -1 for none.
    :param allowed: the most that the kernel allows a process; 0 if unknown.
    """
    return allowed if allowed and (exceeds or hard < 0) else hard


def raise_open_files() -> None:
    """What this program starts may have as many descriptors as the hard limit allows: CRIU needs many for much memory.

    Where it may exceed limits, CRIU does that itself. Elsewhere, as on a server that is a container, it cannot.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def keep_out_of_core_files() -> None:
    """The kernel writes no core file of this program, nor of what it forks: a container's memory may be in it.

    It is not the limit for core files, which a restored container would inherit where CRIU may not raise it again.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def largest_pipe() -> int | None:
    """Bytes of the largest pipe that CRIU gets where this program starts it; None for no limit."""
    return None if may_exceed() else _number("/proc/sys/fs/pipe-max-size") or None


def huge_pages() -> dict[str, int]:
    """Bytes of huge pages that are free or can be made, by the bytes of one."""
    found = {}
    for name in sorted(os.listdir(_HUGE_PAGES)) if os.path.isdir(_HUGE_PAGES) else []:
        size = int(name[len("hugepages-") : -len("kB")]) * 1024
        counts = {key: _number(f"{_HUGE_PAGES}/{name}/{key}_hugepages") for key in _COUNTS}
        found[str(size)] = size * free_huge_pages(**counts)
    return found


_COUNTS = ("free", "resv", "nr_overcommit", "surplus")


def free_huge_pages(free: int, resv: int, nr_overcommit: int, surplus: int) -> int:
    """How many huge pages of one size a new program can have, from the kernel's own counts.

    Those that are free may be promised to others already; others can be made when they are asked for.
    """
    return max(0, free - resv) + max(0, nr_overcommit - surplus)


def _number(path: str) -> int:
    """The number in one of the kernel's files, 0 where there is none."""
    text = procfs.read(path).strip()
    return int(text) if text.isdigit() else 0
