# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore from a checkpoint through our OCI runtime, bounded in time, with what CRIU has to say about it.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping

from ansible_collections.fog.migration.plugins.module_utils.criu import kept_logs, tool
from ansible_collections.fog.migration.plugins.module_utils.docker import daemon
from ansible_collections.fog.migration.plugins.module_utils.docker.etc_files import Placing
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem.roots import Root
from ansible_collections.fog.migration.plugins.module_utils.runtime import dump
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import armed_start
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore.armed_start import ArmedStart


def from_images(
    docker_socket: str,
    container_id: str,
    images: str,
    seconds: int,
    binds: Mapping[str, Root],
    etc: Placing | None = None,
) -> tuple[list[str], dict]:
    """Starts a container that was made for our OCI runtime from the images in a folder, which are only read.

    :param docker_socket: path of the Docker daemon's socket.
    :param seconds: how long it may take. CRIU can hang for ever on images that are damaged.
    :param binds: the folders and files of this host that were filled for it, by place.
    :param etc: the files in its /etc that Docker makes.
    :returns: the telling lines of CRIU's log, and its statistics.
    :raises MigrationError: when it fails, with C(criu_log) in its details. The container does not run then.
    """
    work = tempfile.mkdtemp(prefix="fog-migration-", dir="/run")
    # Of an attempt before this one, which was killed.
    armed_start.forget(container_id)
    start = ArmedStart(docker_socket, container_id, on_wait=lambda: None)
    start.binds = binds
    start.etc = etc
    try:
        _restore(start, images, work, seconds)
        return _log(work), tool.read_stats(os.path.join(work, "stats-restore"))
    except (Refused, OSError) as error:
        lines = _log(work)
        kept = kept_logs.keep(os.path.join(work, "restore.log"))
        reason = str(error.strerror or error) if isinstance(error, OSError) else daemon.message(error)
        reason += f"; CRIU's log is {kept}" if kept else ""
        raise MigrationError(_stopped(start, reason), criu_log=lines) from error
    finally:
        start.close()
        shutil.rmtree(work, ignore_errors=True)


def _restore(start: ArmedStart, images: str, work: str, seconds: int) -> None:
    """Returns when the container runs and Docker owns it."""
    start.arm(armed_start.ARM_LIMIT)
    start.restore(["--image-path", images, "--work-path", work, *dump.OPTIONS])
    answer = start.outcome(seconds)
    if answer != "running":
        raise Refused(start.why_not(answer, seconds))
    start.require_owned()
    start.go_on()
    start.settle()


def _stopped(start: ArmedStart, reason: str) -> str:
    """Ends the restore; the reason, and that Docker goes on with it nevertheless, if it does."""
    try:
        start.stop(reason)
    except Interrupted as error:
        return str(error)
    return reason


def _log(work: str) -> list[str]:
    try:
        with open(os.path.join(work, "restore.log"), encoding="utf-8", errors="replace") as stream:
            return tool.log_tail(stream.read())
    except OSError:
        return []
