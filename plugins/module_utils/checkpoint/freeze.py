# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a checkpoint asks of either way to freeze a container, through its OCI runtime or through Docker.

Private to the collection fog.migration.
"""

from __future__ import annotations

import abc
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.checkpoint.folder import Folder
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.target import Target
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import api, checkpoint_layout
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

# Seconds for Docker to notice that a container has ended.
_EXIT_LIMIT = 10


class StillDumping(MigrationError):
    """The dump has not ended in time and goes on: nothing of it may be undone or removed now."""


class Freeze(abc.ABC):
    """One container that is frozen for a checkpoint.

    Within C(prepared): C(take), then C(release) when its files are saved as well. After it: C(finish) when the
    checkpoint is complete, or C(undo).

    :param folder: of the checkpoint that is being made.
    :param leave_running: whether the container runs on afterwards.
    :param timeout: seconds that the dump may take.
    """

    # Which way this is, one of C(ways.WAYS).
    way: str
    # How the container is when undo() fails.
    left: str

    def __init__(
        self, client: api.CheckpointClient, target: Target, folder: Folder, leave_running: bool, timeout: int
    ) -> None:
        self.client = client
        self.target = target
        self.folder = folder
        self.images = os.path.join(folder.partial, "criu")
        self.leave_running = leave_running
        self.timeout = timeout
        # The folder of CRIU's log and statistics, while there is one.
        self.work = ""
        # The telling lines of CRIU's log, after a failure.
        self.criu_log: list[str] = []

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """Makes ready what does not have to wait for the freeze. After a failure within, C(criu_log) tells of it."""
        self.work = tempfile.mkdtemp(prefix="fog-migration-", dir="/run")
        try:
            self.prepare()
            yield
        except StillDumping:
            # CRIU goes on writing there.
            raise
        except Exception:
            self.criu_log = self.dump_log()
            shutil.rmtree(self.work, ignore_errors=True)
            raise
        shutil.rmtree(self.work, ignore_errors=True)

    def dump_log(self) -> list[str]:
        """The telling lines of CRIU's log, none where there is no log."""
        for folder in (self.work, self.folder.partial):
            path = checkpoint_layout.find_file(folder, "dump.log")
            if path:
                with open(path, encoding="utf-8", errors="replace") as stream:
                    return tool.log_tail(stream.read())
        return []

    def keep_statistics(self) -> None:
        """Takes CRIU's statistics of the dump into the checkpoint, if there are any."""
        statistics = checkpoint_layout.find_file(self.work, "stats-dump")
        if statistics:
            shutil.copy(statistics, os.path.join(self.images, "stats-dump"))

    def wait_for_exit(self) -> None:
        """Returns when Docker no longer shows the container as running, which takes a moment.

        :raises MigrationError: when it goes on doing so.
        """
        deadline = time.monotonic() + _EXIT_LIMIT
        while self.client.inspect_container(self.target.id)["State"].get("Running"):
            if time.monotonic() > deadline:
                raise MigrationError(f"the container still runs {_EXIT_LIMIT} seconds after what should end it")
            time.sleep(0.02)

    @abc.abstractmethod
    def prepare(self) -> None:
        """Makes ready what does not have to wait for the freeze."""

    @abc.abstractmethod
    def take(self) -> float:
        """Freezes the container and has its memory written to C(images); when that had ended.

        :raises StillDumping: when it does not end in time.
        """

    @abc.abstractmethod
    def release(self) -> str:
        """Its files are saved: a container that is to run on does so.

        :returns: how it was found to be then where that is not as before, in words that follow its name; or nothing.
        """

    @abc.abstractmethod
    def finish(self) -> None:
        """The checkpoint is complete: one that is not to run on has nothing more to wait for."""

    @abc.abstractmethod
    def undo(self) -> str:
        """Has it run again after a failure; how it was found to be then, in words that follow its name."""
