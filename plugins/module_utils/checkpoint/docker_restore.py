# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker's start from a checkpoint, bounded in time, with what CRIU has to say about it.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    checkpoint_layout,
    containerd,
    runc,
    ways,
)
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

# Seconds that Docker gets to answer after CRIU was killed.
ANSWER_MARGIN = 60
# CRIU's image of the locks that a container holds on files; there is none without such locks.
LOCKS = "filelocks.img"


def loses_locks(images: str, options: dict[str, str], docker_version: str) -> bool:
    """Whether there are locks in the images that Docker's restore would leave out without a word.

    CRIU makes them again only where it is told to (prepare_file_locks in its file-lock.c).

    :param options: those that CRIU's configuration for the OCI runtime has.
    """
    return os.path.exists(os.path.join(images, LOCKS)) and not ways.keeps_locks(docker_version, options)


class RestoreLog(threading.Thread):
    """Holds CRIU's restore log and statistics open from the moment they appear.

    containerd deletes them together with the container's folder when a restore fails.

    :param extra: a folder besides containerd's own in which they may appear.
    :param since: seconds since the epoch; a log older than that is another restore's.
    """

    def __init__(self, root: str, container_id: str, extra: str, since: float) -> None:
        super().__init__(daemon=True)
        self.root, self.container_id, self.extra, self.since = root, container_id, extra, since
        self.descriptor: int | None = None
        self.folder = ""
        self.done = threading.Event()

    def run(self) -> None:
        """Looks for the log until it is there or nobody wants it any more."""
        while self.descriptor is None and not self.done.wait(0.005):
            self.look()

    def look(self) -> None:
        """Opens the log if it is there now. containerd may take it away at any instant."""
        for folder in (checkpoint_layout.task_folder(self.root, self.container_id), self.extra):
            try:
                path = checkpoint_layout.find_file(folder, "restore.log") if folder and not self.descriptor else None
                if path and os.path.getmtime(path) >= self.since:
                    self.descriptor = os.open(path, os.O_RDONLY)
                    self.folder = os.path.dirname(path)
            except FileNotFoundError:
                continue

    def finish(self) -> tuple[list[str], dict]:
        """The telling lines of the log, and the statistics."""
        self.done.set()
        self.join()
        if self.descriptor is None:
            return [], {}
        with os.fdopen(self.descriptor, encoding="utf-8", errors="replace") as stream:
            lines = tool.log_tail(stream.read())
        return lines, tool.read_stats(os.path.join(self.folder, "stats-restore"))


@dataclass(frozen=True)
class Checkpoint:
    """What Docker is told of a checkpoint.

    :param created: when it was made, as its manifest has it; empty where that is not known.
    """

    name: str
    created: str = ""


def from_checkpoint(
    client: api.CheckpointClient, root: str, container_id: str, images: str, checkpoint: Checkpoint, seconds: int
) -> tuple[list[str], dict]:
    """Starts a container from the images in a folder.

    :param root: Docker's data root.
    :param seconds: how long it may take. CRIU can hang for ever on images that are damaged.
    :returns: the telling lines of CRIU's log, and its statistics.
    :raises MigrationError: when it fails, with C(criu_log) in its details.
    """
    folder = api.require_local(root, container_id)
    place = checkpoint_layout.place_checkpoint(images, folder, checkpoint.name, checkpoint.created)
    since = time.time() - 1
    log = RestoreLog(root, container_id, place, since)
    log.start()
    # Docker's answer itself has no end when CRIU hangs: a timer kills CRIU, and then Docker answers.
    overdue = threading.Timer(seconds, runc.kill_restore, [container_id])
    overdue.start()
    begin = time.monotonic()
    try:
        client.start_from_checkpoint(container_id, checkpoint.name, seconds + ANSWER_MARGIN)
    except api.FAILURES as error:
        lines, _statistics = log.finish()
        if isinstance(error, api.ANSWERED):
            # The container does not run, and CRIU may have left what it had restored.
            runc.kill_restore(container_id)
        what = api.api_message(error)
        if time.monotonic() - begin >= seconds:
            what = f"the restore did not end within {seconds} seconds and was killed"
        raise MigrationError(what, criu_log=lines) from error
    finally:
        overdue.cancel()
        checkpoint_layout.remove_copies(place, containerd.temporary_folders(), since)
        shutil.rmtree(place, ignore_errors=True)
    log.look()
    return log.finish()
