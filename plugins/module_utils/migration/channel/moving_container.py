# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container at the source: whether it runs, its pause, its network lock and its dump.

While it is frozen, Docker shows it as paused, and it stays so until the destination has answered how things are there.
A program that dies leaves it paused, with all its memory.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import engine, runc
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.leftovers import repair
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.dump import Dump
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.dump_root import DumpRoot
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import SourceSettings
from ansible_collections.fog.migration.plugins.module_utils.network import network_lock
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# How things are when a request failed, and what to do. That it runs on as before, only C(MovingContainer.words) says.
_LOOK_THERE = (
    "look there: keep what runs and remove the other, or remove it there and resume this one with docker unpause"
)
STATES = {
    "runs": ("it runs on", "mend the cause and try again"),
    "paused": ("it stays paused here", "resume it with docker unpause"),
    "handed over": (
        "it stays paused here, since nobody can say whether it runs at the destination",
        _LOOK_THERE,
    ),
    "moved": (
        "it was restored at the destination and stays paused here",
        _LOOK_THERE,
    ),
}


class MovingContainer:
    """The container at the source."""

    def __init__(self, settings: SourceSettings) -> None:
        self.id = settings.container
        self._staging = settings.staging
        self.images = os.path.join(settings.staging, "images")
        self.work = os.path.join(settings.staging, "work")
        self.network = network_lock.NetworkLock(self.id)
        # A key of STATES. Handed over: only the destination knows who has it.
        self.state = "runs"
        # How it is, once it was given up here.
        self.outcome: Outcome | None = None
        # When its pause began and when its network was locked: seconds of the monotonic clock.
        self.paused_at = self.locked_at = 0.0
        self._docker_socket = settings.docker_socket
        self._migration = settings.migration
        self._root: DumpRoot | None = None
        self._dump: Dump | None = None
        # Whether the journal says that only the destination knows; None once it must not say so any more.
        self._in_doubt: bool | None = False
        # What is noted beside the sending of the images must not be noted after it was taken back.
        self._noting = threading.Lock()

    @contextlib.contextmanager
    def standstill(self) -> Iterator[None]:
        """A short pause by Docker's own means: everybody can see and end it, should this program die meanwhile."""
        self._docker("pause")
        try:
            yield
        finally:
            self._docker("unpause")

    def pause(self) -> None:
        """It stands still from now on. Its network is not locked yet.

        :raises FreezeError: when Docker does not pause it, or a process in it was stopped by a signal.
        """
        self.paused_at = time.monotonic()
        self._docker("pause")
        self.state = "paused"
        self._require_none_stopped()

    def _require_none_stopped(self) -> None:
        """CRIU would wait for them until the container is thawed. What is only frozen does not count as stopped."""
        stopped = [procfs.program(one) for one in runc.moving(self.id) if procfs.is_stopped(one)]
        if stopped:
            raise runc.FreezeError(f"{', '.join(stopped)} in it was stopped by a signal")

    def lock_network(self) -> None:
        """Nothing reaches it, and nothing leaves it, from now on."""
        self.network.lock()
        self.locked_at = time.monotonic()

    def _docker(self, operation: str) -> None:
        problem = engine.call(self._docker_socket, "POST", f"/containers/{self.id}/{operation}")
        if problem:
            raise runc.FreezeError(problem)

    def prepare_dump(self) -> DumpRoot:
        """Makes the folders for its dump, which does not have to wait until it stands still."""
        for folder in (self.images, self.work):
            os.makedirs(folder, 0o700, exist_ok=True)
        self._root = self._root or DumpRoot(self.id, os.path.join(self._staging, "runc"))
        return self._root

    def start_dump(self, lazy: bool) -> Dump:
        """Begins to dump it.

        :param lazy: leave pages with the processes.
        """
        root = self.prepare_dump()
        root.configure(without_lock=self.network.is_silent)
        self._dump = Dump(self.id, self.images, self.work, root, lazy)
        self._dump.start()
        return self._dump

    def wait_for_dump(self) -> None:
        """Returns when a dump has ended, if there was one. It leaves the container as it was before: frozen."""
        if self._dump:
            self._dump.join()

    def dump_statistics(self) -> dict[str, int]:
        """CRIU's statistics, which it writes at its very end."""
        self.wait_for_dump()
        return tool.read_stats(os.path.join(self.work, "stats-dump"))

    # Who has it

    def note_in_doubt(self) -> None:
        """Notes in the journal, on the disk, that only the destination will know who has it; not once it goes on."""
        with self._noting:
            if self._in_doubt is not None:
                self._in_doubt = True
                journal.note(self._migration, stage="handover", owner="in_doubt")

    def note_handover(self) -> None:
        """From now on, only the destination knows who has it."""
        self.state = "handed over"

    def note_refusal(self) -> None:
        """The destination itself has answered that it does not have it."""
        if self.state in ("handed over", "moved"):
            self.state = "paused"

    def note_moved(self) -> None:
        """It runs at the destination."""
        self.state = "moved"

    @property
    def words(self) -> tuple[str, str]:
        """How it is, and what to do, as clauses."""
        state, remedy = STATES[self.state]
        if self.state != "runs" or not self.outcome:
            return state, remedy
        return f"it {self.outcome.told()}", "run recover.yml, then try again" if self.outcome.left else remedy

    def close(self) -> None:
        """Ends what was begun with it; if it is only frozen, it runs on.

        :raises FreezeError: when Docker does not resume it.
        """
        self.wait_for_dump()
        if self.state in ("runs", "paused"):
            self.network.unlock()
        self.network.end()
        if self.state == "paused":
            self._resume()
        elif self.state == "runs" and not self.outcome:
            self.outcome = repair.without_dump(self.id)

    def _resume(self) -> None:
        with self._noting:
            if self._in_doubt:
                journal.note_what_happened(self._migration, owner="source")
            self._in_doubt = None
        let_go = bool(self._dump and self._dump.let_go)
        self.outcome = repair.bring_back(self.id, lambda: self._docker("unpause"), let_go)
        self.state = "runs"
