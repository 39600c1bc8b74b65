# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that is swapped out, and whether there is room for all of it in memory.

Whoever reads it has the kernel bring it back, for which it may kill the container (seen with control groups of version
1 and Linux 6.18). And CRIU puts the pages that it leaves with the processes into pipes, where the kernel cannot swap
them out again.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.system import host, procfs

# The limit of a control group, what is used of it, and the part of that in memory.stat that the kernel gives up when
# there is need, of version 1 and 2; as "docker stats" counts it.
_LIMITS = (
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ("memory.max", "memory.current", "inactive_file"),
)
# Bytes that may return wherever they are.
_LITTLE = 1 << 20


class Swapped(NamedTuple):
    """Memory of some processes, in bytes.

    :param out: what is swapped out.
    :param room: what they can have in memory besides what they have there.
    """

    out: int
    room: int

    @property
    def fits(self) -> bool:
        """Whether it may return. Half of the room is left for others, and for what the processes themselves do."""
        return self.out <= max(self.room // 2, _LITTLE)

    @property
    def problem(self) -> str:
        """Why it may not return, as a clause."""
        return (
            f"{self.out >> 20} MiB of its memory are swapped out, and there is room for {self.room >> 20} MiB more in "
            "memory, by its own limit (docker update --memory) or the server's: the kernel might kill it for that"
        )


def of(processes: Iterable[int], groups: dict[str, str]) -> Swapped:
    """What of these processes is swapped out, and the room for it.

    :param groups: the folders of their control groups, by controller; that of version 2 is "".
    """
    folder = groups.get("memory") or groups.get("", "")
    own = sum(procfs.kibibytes(procfs.status(process), "VmSwap") << 10 for process in processes)
    # What processes share is nobody's own; where the kernel counts by control groups, theirs has it, too.
    return Swapped(max(own, _of_group(folder)), min([host.available_memory() or 0, *_left(folder)]))


def _of_group(folder: str) -> int:
    """Bytes that are swapped out of what belongs to a control group, where the kernel tells it."""
    told = _number(folder, "memory.swap.current")
    both, here = (_number(folder, name) for name in ("memory.memsw.usage_in_bytes", "memory.usage_in_bytes"))
    return told if told is not None else max(0, (both or 0) - (here or 0))


def _left(folder: str) -> Iterator[int]:
    """What is left of the limits of a control group, and of those that it is in."""
    while folder.strip("/"):
        for limit_name, used_name, spare_name in _LIMITS:
            limit, used = _number(folder, limit_name), _number(folder, used_name)
            if limit is not None and used is not None:
                yield max(0, limit - used + _statistics(folder).get(spare_name, 0))
        folder = os.path.dirname(folder)


def _number(folder: str, name: str) -> int | None:
    """The number in a file; None where there is no such file, or no number in it."""
    text = procfs.read(os.path.join(folder, name)).strip() if folder else ""
    return int(text) if text.isdigit() else None


def _statistics(folder: str) -> dict[str, int]:
    lines = procfs.read(os.path.join(folder, "memory.stat")).splitlines()
    return {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) == 2 and words[1].isdigit()}
