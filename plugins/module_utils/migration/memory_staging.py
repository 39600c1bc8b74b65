# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging for the memory of a container, noted in the journal where a restart of the server would not remove it.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.transport import staging, work_dir

MIB = 1 << 20


def make(directory: str, migration: str | None, disk: str, room: tuple[int, int], limit: int) -> dict[str, Any]:
    """Makes staging in the private folder of a transfer; C(kind), memory or disk, and C(why_not_memory).

    :param disk: folder on disk below which it is made where memory is short.
    :param room: how many bytes of memory it can hold, and how many it will.
    :param limit: MiB of this server's memory that it may take at the most; 0 for no limit.
    """
    path = os.path.join(directory, work_dir.STAGING)
    made = staging.make(path, disk, *room, limit * MIB)
    if made["kind"] == "disk":
        # What is below /run, a restart of the server removes; this it does not.
        journal.note(migration, made={"scratch": [os.path.realpath(path)]})
    return made
