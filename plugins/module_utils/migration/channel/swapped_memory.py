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
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.system import host, procfs

# The limit of a control group and what is used of it, of version 1 and 2.
_LIMITS = (("memory.limit_in_bytes", "memory.usage_in_bytes"), ("memory.max", "memory.current"))


def swapped_out(processes: Iterable[int]) -> int:
    """Bytes of the memory of these processes that are swapped out."""
    return sum(_kibibytes(procfs.status(process).get("VmSwap", "")) << 10 for process in processes)


def room(container: str) -> int:
    """Bytes that a container can have in memory besides what it has there: by its own limit, and by the server's.

    :raises FreezeError: when no runtime knows it.
    """
    groups = runc.control_groups(container)
    return min([host.available_memory() or 0, *_left(groups.get("memory") or groups.get("", ""))])


def has_room(swapped: int, bytes_of_room: int) -> bool:
    """Whether so much may return. Half of the room is left for others, and for what the container itself does."""
    return swapped <= bytes_of_room // 2


def _left(folder: str) -> list[int]:
    """What is left of the limits of a control group, of those that it has."""
    pairs = ([procfs.read(os.path.join(folder, name)).strip() for name in names] for names in _LIMITS)
    return [int(limit) - int(used) for limit, used in pairs if limit.isdigit() and used.isdigit()]


def _kibibytes(text: str) -> int:
    words = text.split()
    return int(words[0]) if words and words[0].isdigit() else 0
