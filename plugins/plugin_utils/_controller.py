# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process steers a migration, and whether it still runs: known only on the controller itself.

Private to the collection fog.migration.
"""

from __future__ import annotations

import platform


def _started(pid: int) -> str | None:
    """When a process began, as the kernel counts; None when there is none of this number."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[19] if fields[0] not in "ZX" else None


def _kernel() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def identity(pid: int) -> dict:
    """What tells this process on this controller from all others."""
    return {"host": platform.node(), "kernel": _kernel(), "pid": pid, "started": _started(pid)}


def is_alive(controller: dict | None) -> bool | None:
    """Whether the process that steered a migration still runs; None when that cannot be known here."""
    if not controller or controller.get("host") != platform.node():
        return None
    if controller.get("kernel") != _kernel():
        return False
    started = _started(int(controller.get("pid") or 0))
    return started is not None and started == controller.get("started")
