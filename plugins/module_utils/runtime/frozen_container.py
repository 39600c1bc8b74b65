# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container that is frozen through Docker and dumped through its OCI runtime: its pause, its network lock, its dump.

While it is frozen, Docker shows it as paused, and it stays so until somebody here decides what becomes of it. A program
that dies leaves it paused, with all its memory.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import time

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import engine, runc
from ansible_collections.fog.migration.plugins.module_utils.leftovers import repair
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome
from ansible_collections.fog.migration.plugins.module_utils.network import network_lock
from ansible_collections.fog.migration.plugins.module_utils.runtime import carried, room_for_files
from ansible_collections.fog.migration.plugins.module_utils.runtime.dump import Dump
from ansible_collections.fog.migration.plugins.module_utils.runtime.dump_root import DumpRoot
from ansible_collections.fog.migration.plugins.module_utils.system import procfs


class FrozenContainer:
    """One container, from before its freeze until it goes on, or has ended.

    :param container: its full ID.
    :param docker_socket: path of the Docker daemon's socket.
    :param images: path of the folder for CRIU's images.
    :param work: path of the folder for CRIU's log and statistics.
    """

    def __init__(self, container: str, docker_socket: str, images: str, work: str) -> None:
        self.id = container
        self.images = images
        self.work = work
        self.network = network_lock.NetworkLock(container)
        self.is_paused = False
        # How it is, once it goes on here after all.
        self.outcome: Outcome | None = None
        # When its pause began and when its network was locked: seconds of the monotonic clock.
        self.paused_at = self.locked_at = 0.0
        self._docker_socket = docker_socket
        self._root: DumpRoot | None = None
        self._dump: Dump | None = None

    def pause(self) -> None:
        """It stands still from now on. Its network is not locked yet.

        :raises FreezeError: when Docker does not pause it, or a process in it was stopped by a signal.
        """
        self.paused_at = time.monotonic()
        self._order("pause")
        self.is_paused = True
        self._require_none_stopped()

    def _require_none_stopped(self) -> None:
        """CRIU would wait for them until the container is thawed. What is only frozen does not count as stopped."""
        stopped = [procfs.program(one) for one in runc.moving(self.id) if procfs.is_stopped(one)]
        if stopped:
            raise runc.FreezeError(f"{', '.join(stopped)} in it was stopped by a signal")

    def _order(self, operation: str) -> None:
        problem = engine.call(self._docker_socket, "POST", f"/containers/{self.id}/{operation}")
        if problem:
            raise runc.FreezeError(problem)

    def lock_network(self) -> None:
        """Nothing reaches it, and nothing leaves it, from now on."""
        self.network.lock()
        self.locked_at = time.monotonic()

    def prepare_dump(self) -> DumpRoot:
        """Makes the folders for its dump, which does not have to wait until it stands still."""
        for folder in (self.images, self.work):
            os.makedirs(folder, 0o700, exist_ok=True)
        self._root = self._root or DumpRoot(self.id, os.path.join(self.work, "runc"))
        return self._root

    def start_dump(self, lazy: bool, unwanted: int = 0) -> Dump:
        """Begins to dump it.

        :param lazy: leave pages with the processes.
        :param unwanted: how many files of pages are not kept.
        """
        root = self.prepare_dump()
        root.configure(without_lock=self.network.is_silent)
        raised = room_for_files.make(runc.moving(self.id))
        self._dump = Dump(self.id, self.images, self.work, root, lazy, unwanted)
        self._dump.raised = raised
        self._dump.start()
        carried.write(self.id, self.images)
        return self._dump

    def wait_for_dump(self) -> None:
        """Returns when a dump has ended, if there was one. It leaves the container as it was before: frozen."""
        if self._dump:
            self._dump.join()

    def dump_statistics(self) -> dict[str, int]:
        """CRIU's statistics, which it writes at its very end."""
        self.wait_for_dump()
        return tool.read_stats(os.path.join(self.work, "stats-dump"))

    # What becomes of it

    def resume(self) -> None:
        """It goes on, and its network with it; C(outcome) tells how it is then.

        :raises FreezeError: when Docker does not resume it.
        """
        self.wait_for_dump()
        self.network.unlock()
        self.network.end()
        if self.is_paused:
            self._thaw()
        elif not self.outcome:
            self.outcome = repair.without_dump(self.id)

    def _thaw(self) -> None:
        let_go = bool(self._dump and self._dump.let_go)
        self.outcome = repair.bring_back(self.id, lambda: self._order("unpause"), let_go)
        self.is_paused = False

    def leave(self) -> None:
        """It stays as it is, with its network locked, until somebody else decides."""
        self.wait_for_dump()
        self.network.end()

    def end(self) -> None:
        """It ends without running any more, of which Docker hears a moment later.

        :raises FreezeError: when no runtime knows it.
        """
        self.leave()
        runc.kill(self.id)
        # With control groups of version 2 it has ended by now, and Docker has nothing to resume.
        with contextlib.suppress(runc.FreezeError):
            self._order("unpause")
        self.is_paused = False
