# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks what a dump has left in a container, from outside: nothing in it is run or has to run.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import errno

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Found
from ansible_collections.fog.migration.plugins.module_utils.network import leftover_filters, namespace, repair_mode
from ansible_collections.fog.migration.plugins.module_utils.network.leftover_filters import Leftover
from ansible_collections.fog.migration.plugins.module_utils.network.repair_mode import Connection
from ansible_collections.fog.migration.plugins.module_utils.system import procfs


def look(container: str, paused: bool = False) -> Found:
    """How a container is.

    :param container: its full ID.
    :param paused: whether Docker has paused it. Otherwise, what a signal has stopped is nobody's business but its own.
    """
    try:
        first, start = runc.first_process(container)
        if procfs.started(first) != start:
            return Found(missing="its first process has ended", has_ended=True)
        processes, is_frozen = runc.processes(container), runc.is_frozen(container)
    except (OSError, runc.FreezeError) as exc:
        # A runtime forgets what has ended; and there are runtimes that keep what they know elsewhere.
        return Found(missing=str(exc), has_ended=not procfs.in_groups_of(container))
    unseen: list[str] = []
    return Found(
        is_frozen=is_frozen,
        held=tuple(runc.held_by_criu(container)),
        stopped=tuple(one for one in processes if paused and procfs.is_stopped(one)),
        filters=tuple(_filters(first, unseen)),
        connections=tuple(_connections(first, processes, unseen)),
        unseen=tuple(unseen),
    )


def _filters(first: int, unseen: list[str]) -> list[Leftover]:
    """What is left of filters in its network.

    :param first: its first process.
    :param unseen: what could not be looked at is added to it.
    """
    try:
        if namespace.is_own(first):
            return namespace.inside(namespace.network_of(first), leftover_filters.find)
        if any(procfs.program(one) == runc.CRIU for one in procfs.all_processes()):
            unseen.append("filters in the server's own network, in which CRIU is at work")
            return []
        return leftover_filters.find()
    except OSError as exc:
        unseen.append(f"the filters in its network ({exc.strerror or exc})")
        return []


def _connections(first: int, processes: list[int], unseen: list[str]) -> list[Connection]:
    """Its connections in repair mode; see C(_filters)."""
    try:
        inodes = namespace.inside(namespace.network_of(first), repair_mode.of_namespace)
        return repair_mode.find(processes, inodes) if inodes else []
    except OSError as exc:
        why = "Linux before 5.6 does not show it" if exc.errno == errno.ENOSYS else exc.strerror or exc
        unseen.append(f"whether its connections are in repair mode ({why})")
        return []
