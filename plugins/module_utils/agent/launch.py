# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the agent of a run on this server, and stops it.

The agent runs from one archive with all of module_utils, which lies in its private folder.

Private to the collection fog.migration. Laid down on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import sys
import time
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.agent import connect, requests, steps
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, private_folders, program_socket
from ansible_collections.fog.migration.plugins.module_utils.transport import work_dir

STAGE = "Migration agent"
ARCHIVE = "agent.zip"
# Seconds until a new agent answers, and until one that has to stop has ended.
START_LIMIT = 30
STOP_LIMIT = 10
_LAUNCHER = """import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "{archive}"))
from {package}.agent.server import main

raise SystemExit(main())
"""


def folder_of(run: str) -> str:
    """The folder of the agent of this run.

    :raises MigrationError: when this is no name of a run.
    """
    if not run.isalnum() or len(run) > 40:
        raise MigrationError(f"{run!r} is no name of a run, which is of up to 40 letters and digits")
    return os.path.join(work_dir.base_directory(), f"agent-{run}")


def described(folder: str) -> dict[str, Any]:
    """What the controller has to know of an agent."""
    return {"folder": folder, "python": sys.executable, "log": steps.path_of(folder)}


def start(folder: str, archive: str) -> bool:
    """Starts the agent of this folder; whether it did not run yet.

    :param archive: has all of module_utils.
    :raises MigrationError: when it does not come up.
    """
    if deploy.running(folder):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    _remove_dead(os.path.dirname(folder))
    private_folders.make(os.path.dirname(folder))
    os.mkdir(folder, 0o700)
    try:
        shutil.copyfile(archive, os.path.join(folder, ARCHIVE))
        _launch(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return True


def _remove_dead(base: str) -> None:
    """Removes what agents have left that were killed, of runs of which nothing is open: no recovery knows of these."""
    for folder in glob.glob(os.path.join(glob.escape(base), "agent-*")):
        with contextlib.suppress(FileNotFoundError):
            # One that is starting has not said yet which process it is.
            is_old = time.time() - os.stat(folder).st_mtime > START_LIMIT
            if is_old and not deploy.running(folder):
                requests.remove_unused(folder)


def _launch(folder: str) -> None:
    program, log = os.path.join(folder, deploy.PROGRAM), os.path.join(folder, "agent.log")
    with open(program, "w", encoding="utf-8") as stream:
        stream.write(_LAUNCHER.format(archive=ARCHIVE, package=deploy.PACKAGE))
    deploy.install_program(folder, "agent.connect")
    agent = deploy.spawn([sys.executable, program], log)
    path = os.path.join(folder, connect.SOCKET)
    try:
        program_socket.wait_for(path, log, START_LIMIT, lambda: agent.poll() is None)
    except program_socket.NotListening as exc:
        with contextlib.suppress(OSError):
            agent.kill()
        raise MigrationError(f"the agent did not start ({exc})", "nothing was changed") from exc


def stop(folder: str) -> bool:
    """Stops the agent of this folder; whether it ran."""
    ran = deploy.running(folder) is not None
    requests.end(folder, STOP_LIMIT)
    return ran


def main(run: str, archive: str) -> None:
    """Starts the agent of a run, and prints what became of it as JSON."""
    os.umask(0o077)
    try:
        folder = folder_of(run)
        result: dict[str, Any] = {"changed": start(folder, archive), "agent": described(folder)}
    except MigrationError as error:
        result = dict(error.result(STAGE), failed=True)
    except OSError as error:
        what = f"{error.strerror or error}: {error.filename}"
        result = {"failed": True, "msg": MigrationError(what, "nothing was changed").sentence(STAGE)}
    sys.stdout.write(json.dumps(result) + "\n")
