# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel lets a program of this server have: open files, room in a pipe, huge pages, memory.

A program that moves a container takes from a peer and from a container what these say, and both may be hostile. Each
sort of it has a limit; that for memory is for what nobody has thought of. It fails then, and not its server.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading
import traceback
from collections.abc import Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.system import procfs

_SET_DUMPABLE = 4
_HUGE_PAGES = "/sys/kernel/mm/hugepages"
# Bytes of memory that a program of a migration may always have, and the part of the server's memory that it may have
# where that is more. Pages of a container are in files, or in the kernel; what a program has itself is lists: some
# hundred bytes for each file, and 450 for each run of pages when a round ends (measured, Python 3.11). 2 million runs
# (pagemap.MOST_RUNS), which only a container with 8 GiB and more can have, are 0.9 GiB.
LEAST_MEMORY = 512 << 20
MEMORY_PART = 4
# Bytes of a thread's stack. JSON of a peer goes as deep as Python lets it, which from 3.12 on may be 10000 levels. 8000
# take less than 1 MiB (measured, Python 3.11).
STACK = 4 << 20
# What is raised where there is not enough memory, also for the stack of a thread.
NO_MEMORY = (MemoryError, RuntimeError)
# The kernel's OOM killer takes a program with this score first (proc(5)).
_FIRST = "1000"
_SCORE = "/proc/self/oom_score_adj"
# What Python says (Modules/_threadmodule.c).
_NO_THREAD = "can't start new thread"
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


class _Before(NamedTuple):
    """What this program had before C(bound): its limit of memory, and its score for the OOM killer."""

    memory: int
    score: str


_before: _Before | None = None
_lifting = threading.Lock()


def most_memory(server: int) -> int:
    """Bytes of memory that a program of a migration may have, by those of its server, 0 if unknown."""
    return max(LEAST_MEMORY, server // MEMORY_PART)


def bound() -> None:
    """Has this program, and each that it forks, fail before its server has no memory left.

    The limit is for the memory that it can write to and shares with nobody (RLIMIT_DATA). A thread's stack counts as a
    whole, and would be as large as C(ulimit -s) says: so it is STACK. Linux before 4.7 counts only a part of all that.

    When the server has no memory left nevertheless, the kernel ends this program before any container: a migration that
    loses it is settled by recovery, and the container runs. See C(spare) for when that is not so.
    """
    global _before
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    score = procfs.read(_SCORE).strip()
    _before = _Before(soft, score)
    wanted = most_memory(procfs.kibibytes(procfs.fields(procfs.read("/proc/meminfo")), "MemTotal") << 10)
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *_finite(soft, hard)]), hard))
    threading.stack_size(STACK)
    _set_score(_FIRST)


def _finite(*some: int) -> list[int]:
    return [one for one in some if one != resource.RLIM_INFINITY]


def _set_score(score: str) -> None:
    # Back down again only where this program may exceed limits. It is an aid.
    with contextlib.suppress(OSError), open(_SCORE, "w", encoding="ascii") as stream:
        stream.write(score)


def spare() -> None:
    """From now on the kernel ends this program no sooner than others: a container would lose its memory with it."""
    if _before:
        _set_score(_before.score)


@contextlib.contextmanager
def lifted() -> Iterator[None]:
    """What is started meanwhile is not bound as this program is: CRIU, whose lists grow with the container.

    Nor is it ended first, as long as a container depends on it.
    """
    if not _before:
        yield
        return
    with _lifting:
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        score = procfs.read(_SCORE).strip()
        resource.setrlimit(resource.RLIMIT_DATA, (_before.memory, hard))
        spare()
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
            _set_score(score)


def out_of_memory(error: MemoryError | RuntimeError) -> str:
    """Why this error came, as a clause. What had been made until then is given up: to clean up takes memory as well.

    :param error: of NO_MEMORY; one that is no matter of memory is told as it is.
    """
    if isinstance(error, RuntimeError) and str(error) != _NO_THREAD:
        return f"{type(error).__name__}: {error}"
    # It is in the frames of the functions that have failed, which an exception holds.
    traceback.clear_frames(error.__traceback__)
    most = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if most == resource.RLIM_INFINITY:
        return "there is no memory left for the program that moves it"
    return f"the program that moves it may have {most >> 20} MiB of memory here, and needed more"


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
