# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container is restored so that none of its processes runs, until it is certain that it stays on this server.

What has run may have told others of it, and cannot be taken back: to go on from an older state elsewhere would be to
lose something. So Docker has to own the container first, and all that move together with it have to be restored.

CRIU lets go of what it has restored, which it traces until then, when its action script for C(pre-resume) has ended.
That is our OCI runtime, which asks the program that has prepared the restore, so that all is looked at before: no timer
of a process and no signal has it run, whatever the images say. Then CRIU leaves all stopped, as SIGSTOP does. The OCI
runtime takes CRIU's configuration from an annotation of the container.

CRIU runs such a script beside what a runtime hears from it from 3.19 on. What an older one has restored is looked at
when it is stopped, which images can be made to undo.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import bundle
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# Seconds in which a process that got SIGSTOP before it could run at all has stopped.
STOP_LIMIT = 5


def configuration(folder: str) -> dict[str, str]:
    """Writes CRIU's configuration for a restore that leaves everything stopped; the annotation that names it.

    :param folder: that of the prepared restore, see C(fog-runc).
    :raises OSError: when that is older than this.
    """
    script = bundle.read_told(os.path.join(folder, "holds"), 1)[0]
    path = os.path.join(folder, "criu.conf")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
        stream.write(tool.merge_options(tool.configuration(), {"leave-stopped": ""}))
        # The server may have scripts of its own beside it.
        stream.write(f"action-script {script}\n")
    return {runc.CRIU_CONFIGURATION: path}


def require_stopped(container: str) -> list[int]:
    """Returns the processes of a container that was restored when all of them have stopped.

    :raises Refused: when one of them runs.
    """
    deadline = time.monotonic() + STOP_LIMIT
    # A health check may have begun in it already.
    while True:
        processes = runc.moving(container)
        if all(map(procfs.is_stopped, processes)):
            return processes
        if time.monotonic() > deadline:
            raise Refused("the OCI runtime did not leave it stopped, so that it would run before Docker owns it")
        time.sleep(0.005)


def waits(container: str) -> bool:
    """Whether it was not resumed yet, or not to the end."""
    return procfs.is_stopped(runc.first_process(container)[0])


def resume(container: str) -> None:
    """Lets the container go on. Its first process is the last, so that C(waits) tells whether all others do.

    None had been stopped when it was frozen: CRIU cannot dump such a one while its container stands still.

    :raises FreezeError: when no runtime knows it, in which case none of its processes goes on.
    """
    first = runc.first_process(container)[0]
    for process in in_order(procfs.parents(runc.processes(container)), first):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)


def in_order(parents: dict[int, int], first: int) -> list[int]:
    """The order in which processes go on: each before its parent, which then never sees it stopped, and I(first) last.

    :param parents: the parent of each process.
    """

    def depth(process: int) -> int:
        above = parents.get(process)
        return 0 if above is None else 1 + depth(above)

    return sorted(parents, key=lambda one: (one == first, -depth(one)))
