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
import tempfile
import time
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import docker_restore
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.folder import Folder
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.target import Target
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import api, checkpoint_layout, containerd, version
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError


class StillDumping(MigrationError):
    """Docker has not answered in time and goes on with the checkpoint: nothing of it may be undone or removed now."""


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


class DockerDump:
    """The dump of one container into the folder of a checkpoint that is being made.

    :param leave_running: whether the container runs on afterwards.
    :param timeout: seconds that Docker may take.
    """

    def __init__(
        self, client: api.CheckpointClient, target: Target, folder: Folder, leave_running: bool, timeout: int
    ) -> None:
        self.client = client
        self.target = target
        self.folder = folder
        self.leave_running = leave_running
        self.timeout = timeout
        # The telling lines of CRIU's log, after a failure.
        self.criu_log: list[str] = []
        self._work = ""

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Makes room for Docker's files and CRIU's log. After a failure within, C(criu_log) tells of it."""
        os.mkdir(self._docker_folder(), mode=0o700)
        self._work = tempfile.mkdtemp(prefix="fog-migration-", dir="/run")
        try:
            containerd.collect_garbage()
            yield
        except StillDumping:
            # CRIU goes on writing there.
            raise
        except Exception:
            self.criu_log = self._dump_log()
            shutil.rmtree(self._work, ignore_errors=True)
            raise
        shutil.rmtree(self._work, ignore_errors=True)

    def _docker_folder(self) -> str:
        return os.path.join(self.folder.partial, "docker")

    def _dump_log(self) -> list[str]:
        for folder in (self._work, self.folder.partial):
            path = checkpoint_layout.find_file(folder, "dump.log")
            if path:
                with open(path, encoding="utf-8", errors="replace") as stream:
                    return tool.log_tail(stream.read())
        return []

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """A container that runs on stands still until its files are saved, too; CRIU leaves it as it was: paused."""
        pauses = self.leave_running and version.checkpoints_paused(self.target.daemon["version"])
        if pauses:
            self.client.pause(self.target.id)
        try:
            yield
        except StillDumping:
            # What goes on must not be thawed.
            pauses = False
            raise
        finally:
            if pauses:
                self.client.unpause(self.target.id)

    def take(self) -> float:
        """Has Docker dump the container, and takes what it has written into the checkpoint.

        :returns: when Docker had ended.
        """
        with kept_work_folder(self.target.daemon["root"], self.target.id, self._work):
            self._order()
        self._wait_for_exit()
        ended = time.time()
        self._adopt(checkpoint_layout.written_checkpoint(self._docker_folder(), self.target.id, self.folder.name))
        return ended

    def _order(self) -> None:
        directory = self._docker_folder()
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

    def _wait_for_exit(self) -> None:
        """Right after an exiting checkpoint Docker 17.09 still shows the container as running for a moment."""
        if self.leave_running:
            return
        deadline = time.monotonic() + 10
        while self.client.inspect_container(self.target.id)["State"].get("Running"):
            if time.monotonic() > deadline:
                raise MigrationError("the container still runs ten seconds after a checkpoint that should end it")
            time.sleep(0.02)

    def _adopt(self, written: str) -> None:
        """Moves Docker's files (on the same file system, so by name only) to C(criu/) of the checkpoint."""
        images = os.path.join(self.folder.partial, "criu")
        for entry in os.listdir(written):
            os.rename(os.path.join(written, entry), os.path.join(images, entry))
        statistics = checkpoint_layout.find_file(self._work, "stats-dump")
        if statistics:
            shutil.copy(statistics, os.path.join(images, "stats-dump"))
        shutil.rmtree(self._docker_folder())

    def resume(self) -> None:
        """Has a container that was ended by the dump go on, from Docker's files wherever they are by now.

        :raises MigrationError: when that cannot be.
        """
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
