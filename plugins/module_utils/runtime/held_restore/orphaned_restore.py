# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore whose program has died: the container goes on, or is ended.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import os

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.network import (
    announcements,
    filters,
    namespace,
    sockets,
)
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import restore_network, stopped_restore
from ansible_collections.fog.migration.plugins.module_utils.system import procfs


def let_go_on(container: str, process: int) -> None:
    """Opens the network of a container, and lets it go on, as far as that was not done.

    :param process: its first one; 0 where it does not run.
    """
    waiting: list[int] = []
    with contextlib.suppress(OSError, runc.FreezeError):
        waiting = runc.processes(container) if stopped_restore.waits(container) else []
    with contextlib.suppress(OSError):
        if process and namespace.is_own(process):
            network = namespace.network_of(process)
            held = restore_network.connections(network, waiting) if waiting else []
            if namespace.inside(network, filters.remove):
                namespace.inside(network, announcements.announce)
            restore_network.wake(held)
    with contextlib.suppress(OSError, runc.FreezeError):
        if waiting:
            stopped_restore.resume(container)


def end(container: str) -> None:
    """Kills what was restored of a container, of which Docker may not know, and closes its connections."""
    network = None
    with contextlib.suppress(OSError):
        for process in procfs.in_groups_of(container):
            if network is None and namespace.is_own(process):
                network = os.open(namespace.network_of(process), os.O_RDONLY | os.O_CLOEXEC)
    runc.kill_restore(container)
    if network is not None:
        namespace.inside(network, sockets.close_all)
        os.close(network)
