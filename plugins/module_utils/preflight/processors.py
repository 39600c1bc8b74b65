# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the threads of a container that are bound to processors can be bound to the same ones elsewhere.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.runtime import carried


def bound(container: str, processes: Iterable[int]) -> list[int]:
    """The processors that threads of a container are bound to; none where no thread is bound to some of them."""
    with contextlib.suppress(OSError, runc.FreezeError):
        found = carried.bound(processes, carried.allowed(container))
        return sorted({one for some in found.values() for one in some})
    return []


def problem(source: dict, destination: dict, is_carried: bool) -> str:
    """What is lost of it, a clause; empty where nothing is.

    :param is_carried: whether the migration takes along what threads are bound to.
    """
    wanted, there = source["container"]["processors"], destination["host"]["processors"]
    missing = ", ".join(str(one) for one in wanted if one not in there)
    if wanted and not is_carried:
        return "threads of it are bound to processors, and Docker's own checkpoints do not hold to which"
    return f"threads of it are bound to processors that the destination does not have ({missing})" if missing else ""
