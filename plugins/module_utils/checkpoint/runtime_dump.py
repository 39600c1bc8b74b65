# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dump of a container through its OCI runtime: until its checkpoint is complete, it is only paused.

Private to the collection fog.migration.
"""

from __future__ import annotations

import time

from ansible_collections.fog.migration.plugins.module_utils.checkpoint.folder import Folder
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.freeze import Freeze, StillDumping
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.target import Target
from ansible_collections.fog.migration.plugins.module_utils.docker import api, runc, ways
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.leftovers import repair
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome
from ansible_collections.fog.migration.plugins.module_utils.runtime.dump import Dump
from ansible_collections.fog.migration.plugins.module_utils.runtime.frozen_container import FrozenContainer

# What the end of a container can fail with: no runtime knows it, or Docker does not say that it has ended.
_END_FAILURES: tuple[type[Exception], ...] = (runc.FreezeError, MigrationError, *api.FAILURES)


class RuntimeDump(Freeze):
    """The dump of one container.

    :param docker_socket: path of the Docker daemon's socket.
    :param stays_paused: whether one that does not run on stays paused, with its memory, and does not end.
    """

    way = ways.THROUGH_RUNTIME
    left = "paused"

    def __init__(
        self,
        docker_socket: str,
        stays_paused: bool,
        client: api.CheckpointClient,
        target: Target,
        folder: Folder,
        leave_running: bool,
        timeout: int,
    ) -> None:
        super().__init__(client, target, folder, leave_running, timeout)
        self.docker_socket = docker_socket
        self.stays_paused = stays_paused
        self._frozen: FrozenContainer | None = None

    @property
    def frozen(self) -> FrozenContainer:
        """The container, once there is a folder for the work on it."""
        if self._frozen is None:
            self._frozen = FrozenContainer(self.target.id, self.docker_socket, self.images, self.work)
        return self._frozen

    def prepare(self) -> None:
        """Has a keeper of its network wait, and makes a folder for the runtime."""
        self.frozen.network.prepare()
        self.frozen.prepare_dump()

    def take(self) -> float:
        """Pauses it, locks its network, and dumps it. Connections that cannot go on elsewhere are not in the images."""
        try:
            self._take()
        except runc.FreezeError as error:
            # It has CRIU's reason with it.
            raise MigrationError(
                f"the checkpoint of {self.target.called} failed ({api.api_message(error)})",
                remedy="mend the cause and try again",
                criu_log=self.dump_log(),
            ) from error
        ended = time.time()
        self.keep_statistics()
        return ended

    def _take(self) -> None:
        self.frozen.network.drain_pending()
        self.frozen.pause()
        self.frozen.lock_network()
        self._wait(self.frozen.start_dump(lazy=False))
        self.frozen.network.detach_sockets(self.images)

    def _wait(self, dump: Dump) -> None:
        """Returns when CRIU has ended, of which the statistics tell."""
        dump.join(self.timeout)
        if dump.is_alive():
            raise StillDumping(
                f"the OCI runtime has not finished the dump of {self.target.called} within {self.timeout} seconds",
                f"it goes on with it and writes to {self.images}, the container is paused",
                f"wait for its end and say docker unpause {self.target.name}; "
                "give it more time (checkpoint_timeout) next time",
            )
        dump.wait()

    def release(self) -> str:
        """One that runs on does so, with its network. A CRIU that was killed late may have left something even so."""
        if not self.leave_running:
            return ""
        self.frozen.resume()
        found = self.frozen.outcome or Outcome()
        return found.told() if found.undone or found.left else ""

    def finish(self) -> None:
        """It ends where it stands, or stays as it is."""
        if self.leave_running:
            return
        if self.stays_paused:
            self.frozen.leave()
            return
        try:
            self.frozen.end()
            self.wait_for_exit()
        except _END_FAILURES as error:
            raise MigrationError(
                f"the container {self.target.called} could not be ended ({api.api_message(error)})",
                f"its checkpoint {self.folder.path} is complete",
                f"end it with docker rm -f {self.target.name}, or go on with it with docker unpause",
            ) from error

    def undo(self) -> str:
        """It runs on: nothing has ended it."""
        if not self._frozen:
            return repair.without_dump(self.target.id).told()
        self._frozen.resume()
        return (self._frozen.outcome or Outcome()).told()
