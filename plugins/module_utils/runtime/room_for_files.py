# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for the files that CRIU opens within a process while it dumps it, where that has as many open as it may.

CRIU has each process open a file in memory and a socket (compel/src/lib/infect.c), which its limit of open files holds
for as well. So the limit is raised for the dump, and put back; in the images it is what it was.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.criu import core_images
from ansible_collections.fog.migration.plugins.module_utils.docker.runc import FreezeError
from ansible_collections.fog.migration.plugins.module_utils.memory import process_memory
from ansible_collections.fog.migration.plugins.module_utils.system import limits, procfs

# Of these, CRIU 4.2 needs two.
NEEDED = 8


class Raised(NamedTuple):
    """A process whose limit was raised, and what it was."""

    process: int
    soft: int
    hard: int

    def put_back(self) -> None:
        """It has its own limit again; what is open stays open."""
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(self.process, resource.RLIMIT_NOFILE, (self.soft, self.hard))


def wanted(soft: int, hard: int, used: int) -> tuple[int, int] | None:
    """The limits that a process needs for its dump; None where its own will do.

    :param used: how many descriptors below its soft limit are taken.
    """
    if soft == resource.RLIM_INFINITY or soft - used >= NEEDED:
        return None
    most = used + NEEDED
    return most, hard if hard == resource.RLIM_INFINITY else max(hard, most)


class Full(NamedTuple):
    """The soft and the hard limit of a process, and how many descriptors it has below the soft one."""

    soft: int
    hard: int
    used: int

    @property
    def wanted(self) -> tuple[int, int]:
        """The limits that it needs."""
        return wanted(*self) or (self.soft, self.hard)


def limit_of(process: int) -> Full | None:
    """The limits of a process that has not enough descriptors left for its dump.

    None where it has enough, and where that cannot be read: it has ended then, or CRIU says why it cannot read it.
    """
    try:
        soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
        return _limit(process, soft, hard)
    except OSError:
        return None


def _limit(process: int, soft: int, hard: int) -> Full | None:
    # The kernel's table of them has room for at least as many as are open.
    if soft == resource.RLIM_INFINITY or int(procfs.status(process).get("FDSize", 0)) + NEEDED <= soft:
        return None
    used = sum(int(name) < soft for name in os.listdir(f"/proc/{process}/fd"))
    return Full(soft, hard, used) if wanted(soft, hard, used) else None


def make(processes: Iterable[int]) -> list[Raised]:
    """Raises the limits of those of these processes that have too few descriptors left.

    :raises FreezeError: when one of them cannot be raised; none is then.
    """
    raised: list[Raised] = []
    for process in processes:
        found = limit_of(process)
        if not found:
            continue
        try:
            resource.prlimit(process, resource.RLIMIT_NOFILE, found.wanted)
        except ProcessLookupError:
            # What has ended meanwhile is not dumped.
            continue
        except (OSError, ValueError) as error:
            for one in raised:
                one.put_back()
            raise FreezeError(f"{procfs.program(process)} in it {problem(found.soft)}") from error
        raised.append(Raised(process, found.soft, found.hard))
    return raised


def problem(soft: int) -> str:
    """Why a process has no room, as a clause without its subject."""
    return f"has as many files open as it may ({soft}), and CRIU needs {NEEDED} more for its dump"


def is_full(process: int, is_raised: bool = True) -> int:
    """The soft limit of a process that has too few descriptors left for a dump; 0 where it has not, or will have more.

    :param is_raised: whether somebody raises it for the dump, as far as the hard limit lets him.
    """
    found = limit_of(process)
    if not found or (is_raised and limits.may_exceed()):
        return 0
    return found.soft if not is_raised or found.wanted[1] != found.hard else 0


def changes(raised: Iterable[Raised]) -> dict[int, Callable[[bytes], bytes]]:
    """What puts the limits back in the images, see C(core_images.change)."""
    found: dict[int, Callable[[bytes], bytes]] = {}
    for one in raised:
        inner = process_memory.innermost(procfs.read(f"/proc/{one.process}/status"))
        found[inner] = functools.partial(
            core_images.with_limit,
            resource=resource.RLIMIT_NOFILE,
            soft=one.soft % (1 << 64),
            hard=one.hard % (1 << 64),
        )
    return found
