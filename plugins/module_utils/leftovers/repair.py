# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Undoes what a dump has left in a container, so that it runs on as before, and looks whether it does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import replace

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Found, Outcome, outcome
from ansible_collections.fog.migration.plugins.module_utils.leftovers.look import look
from ansible_collections.fog.migration.plugins.module_utils.network import (
    announcements,
    leftover_filters,
    namespace,
    repair_mode,
)


def bring_back(container: str, resume: Callable[[], object] | None = None, let_go: bool = False) -> Outcome:
    """Has a container run on where it is, after a migration that came to nothing; how it is then.

    While it stands still, none of its processes meets what a dump has left, so all of it is undone before.

    :param container: its full ID.
    :param resume: has Docker resume it, where Docker shows it as paused. What it raises is raised.
    :param let_go: whether it is known to have run for a moment since CRIU has ended, though it stands still.
    """
    runc.wait_for_criu(container)
    ran = let_go or not _stands_still(container)
    if resume:
        _freeze(container)
    before = look(container, paused=resume is not None)
    undo(container, before, paused=resume is not None)
    if resume:
        resume()
    _announce(container)
    return outcome(before, look(container), resume is not None, ran)


def without_dump(container: str) -> Outcome:
    """How a container is that was not dumped, so that there is nothing to undo. Who has paused it, resumes it."""
    found = replace(look(container), is_frozen=False)
    return outcome(found, found, paused=False, ran=False)


def _stands_still(container: str) -> bool:
    with contextlib.suppress(OSError, runc.FreezeError):
        return runc.is_frozen(container)
    return False


def _freeze(container: str) -> None:
    """Freezes what Docker shows as paused, or Docker could not resume it: a CRIU that was killed has left it thawed."""
    with contextlib.suppress(OSError, runc.FreezeError):
        # One that is at work could not let go of it any more.
        if not runc.held_by_criu(container):
            runc.keep_frozen(container)


def undo(container: str, found: Found, paused: bool) -> None:
    """Undoes what was found, as far as it can be, and as CRIU is not at work any more.

    :param paused: whether it is Docker's to thaw it.
    """
    if found.missing or found.held:
        return
    refused = (OSError, runc.FreezeError)
    # First: a connection that goes on asks its peer something.
    for one in found.filters:
        with contextlib.suppress(*refused):
            network = namespace.network_of(runc.first_process(container)[0])
            namespace.inside(network, leftover_filters.remove, one)
    for connection in found.connections:
        with contextlib.suppress(*refused):
            repair_mode.end(connection)
    for process in found.stopped:
        with contextlib.suppress(*refused):
            os.kill(process, signal.SIGCONT)
    if found.is_frozen and not paused:
        with contextlib.suppress(*refused):
            runc.thaw(container)


def _announce(container: str) -> None:
    """Tells the neighbours where its addresses are: the destination may have told them something else."""
    with contextlib.suppress(OSError, runc.FreezeError):
        first = runc.first_process(container)[0]
        if namespace.is_own(first):
            namespace.inside(namespace.network_of(first), announcements.announce)
