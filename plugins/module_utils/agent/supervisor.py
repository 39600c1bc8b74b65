# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source's end of a channel whose destination takes pages from here after the container runs there.

Until it has all of them, only both servers together have the container. So the end runs under a supervisor, which is
in its place when it dies or loses the channel: C(resumed_source).

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ansible_collections.fog.migration.plugins.module_utils.agent import processes
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.states import State
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import resumed_source
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import SourceSettings
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, limits
from ansible_collections.fog.migration.plugins.module_utils.transport import work_dir


def supervise(directory: str, settings: SourceSettings, work: Callable[[], object], again: list[str]) -> None:
    """Does the work of the source's end in a process of its own, and goes on where that has left pages behind.

    :param directory: the private folder of the migration. Where it is there after the work, that was not done.
    :param work: is done with this folder, which it removes when it has done it.
    :param again: the words of the command that opens the channel anew.
    """
    own = work_dir.supervisor(directory)
    os.mkdir(own, 0o700)
    deploy.register(own)
    child = os.fork()
    if not child:
        processes.in_child(work)
    # It goes on when the kernel has ended that one.
    limits.spare()
    os.waitpid(child, 0)
    try:
        if os.path.isdir(directory) and _is_handed_over(settings):
            resumed_source.run(directory, settings, again)
    finally:
        work_dir.remove(directory)


def _is_handed_over(settings: SourceSettings) -> bool:
    """Whether only the destination knows who has the container."""
    entry = journal.load(str(settings.migration))
    return entry is not None and entry.state is State.HANDED_OVER
