# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker's own checkpoint: the dump of a container's memory, and going on from it when something fails.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import docker_restore
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.freeze import Freeze, StillDumping
from ansible_collections.fog.migration.plugins.module_utils.criu import core_images
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    checkpoint_layout,
    containerd,
    version,
    ways,
)
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.leftovers import repair

_RESUMED = "was resumed from what had been written and runs"


@contextlib.contextmanager
def kept_work_folder(root: str, container_id: str, keep: str) -> Iterator[None]:
    """Makes CRIU's log and statistics of the dump appear in the folder I(keep).

    containerd's shim gives CRIU the working folder C(criu-work) and deletes it afterwards. Where that name is a
    symbolic link, the deletion takes the link only.
    """
    folder = checkpoint_layout.task_folder(root, container_id)
    link = os.path.join(folder, "criu-work") if folder else None
    if link and not os.path.lexists(link):
        os.symlink(keep, link)
    try:
        yield
    finally:
        if link and os.path.islink(link):
            os.unlink(link)


class DockerDump(Freeze):
    """The dump of one container, which ends it at once where it is not to run on."""

    way = ways.THROUGH_DOCKER
    left = "stopped"
    # Whether a container that runs on stands still until its files are saved, too.
    is_paused = False

    @property
    def _docker_folder(self) -> str:
        """Where Docker writes."""
        return os.path.join(self.folder.partial, "docker")

    def prepare(self) -> None:
        """Makes room for Docker's files."""
        os.mkdir(self._docker_folder, mode=0o700)
        containerd.collect_garbage()

    def take(self) -> float:
        """Has Docker dump the container, and takes what it has written into the checkpoint."""
        if self.leave_running and version.checkpoints_paused(self.target.daemon["version"]):
            # CRIU leaves it as it was.
            self.client.pause(self.target.id)
            self.is_paused = True
        with kept_work_folder(self.target.daemon["root"], self.target.id, self.work):
            self._order()
        if not self.leave_running:
            # Right after an exiting checkpoint Docker 17.09 still shows the container as running for a moment.
            self.wait_for_exit()
        ended = time.time()
        self._adopt(checkpoint_layout.written_checkpoint(self._docker_folder, self.target.id, self.folder.name))
        return ended

    def _order(self) -> None:
        directory = self._docker_folder
        try:
            self.client.create_checkpoint(self.target.id, self.folder.name, directory, self.leave_running, self.timeout)
        except api.READ_TIMEOUT as error:
            raise StillDumping(
                f"Docker has not finished the checkpoint of {self.target.called} within {self.timeout} seconds",
                f"it goes on with it and writes to {directory}, the container "
                + ("is paused" if self.leave_running else "stops when it is done"),
                "wait for that, move what it wrote into the container's own folder of checkpoints and start it with "
                "docker start --checkpoint, or docker unpause; give it more time (checkpoint_timeout) next time",
            ) from error

    def _adopt(self, written: str) -> None:
        """Moves Docker's files (on the same file system, so by name only) to C(criu/) of the checkpoint."""
        for entry in os.listdir(written):
            os.rename(os.path.join(written, entry), os.path.join(self.images, entry))
        core_images.change(self.images, {})
        self.keep_statistics()
        shutil.rmtree(self._docker_folder)

    def release(self) -> str:
        """One that stood still goes on. Docker would have failed if CRIU had left something."""
        if self.is_paused:
            self.client.unpause(self.target.id)
            self.is_paused = False
        return ""

    def finish(self) -> None:
        """It has ended already."""

    def undo(self) -> str:
        """It goes on, from Docker's files wherever they are by now if it has ended."""
        identity = self.target.id
        if self.client.inspect_container(identity)["State"].get("Running"):
            return repair.bring_back(identity, self.release if self.is_paused else None).told()
        self._resume()
        return repair.bring_back(identity).told(_RESUMED, _RESUMED)

    def _resume(self) -> None:
        images = checkpoint_layout.find_file(self.folder.partial, "inventory.img")
        if images is None:
            raise MigrationError("there are no images to resume it from")
        docker_restore.from_checkpoint(
            self.client,
            self.target.daemon["root"],
            self.target.id,
            os.path.dirname(images),
            docker_restore.Checkpoint(self.folder.name),
            self.timeout,
        )
