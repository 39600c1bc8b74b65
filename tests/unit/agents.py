# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real agents in temporary folders. They write their logs and their journals there, too."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ansible_collections.fog.migration.plugins.module_utils.agent import launch
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, procfs

LIMIT = 30
_ELSEWHERE = """
from {package}.journal import store as journal
from {package}.agent import server, steps
journal.FOLDER = {journal!r}
steps.FOLDER = {log!r}
server.LOOK = 0.05
{more}
raise SystemExit(main())
"""


def launcher(folder: Path, more: str = "") -> str:
    """The program of an agent that keeps everything below a folder.

    :param more: lines of Python that are executed before the agent serves.
    """
    places = {"journal": str(folder / "journal"), "log": str(folder / "log")}
    text = _ELSEWHERE.format(package=deploy.PACKAGE, more=more, **places)
    begin, end, _rest = launch._LAUNCHER.partition("raise SystemExit(main())")
    assert end
    # It is formatted by the launcher, which knows its own fields.
    return begin + text.replace("{", "{{").replace("}", "}}")


def until(condition: Callable[[], object], seconds: float = LIMIT) -> bool:
    """Whether something has become true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Agent:
    """An agent that runs.

    :param folder: its own one.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        pid = deploy.running(folder)
        # A signal to the process 0 would be one to all of our own group.
        assert pid, f"the agent of {folder} has ended"
        self.pid = pid

    def runs(self) -> bool:
        """Whether the process is there."""
        return procfs.started(self.pid) is not None

    def has_ended(self) -> bool:
        """Whether the process ends in time."""
        return until(lambda: not self.runs())

    def children(self) -> list[int]:
        """The processes of the agent, those among them that have ended and are not reaped."""
        return [pid for pid, parent in procfs.parents(procfs.all_processes()).items() if parent == self.pid]

    def connection(self) -> socket.socket:
        """A connection as C(connect.py) opens it."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(LIMIT)
        connection.connect(os.path.join(self.folder, "agent.sock"))
        return connection

    def exchange(self, data: bytes) -> bytes:
        """What the agent says to these bytes, without C(connect.py)."""
        with self.connection() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def command(self, *words: str) -> list[str]:
        """The command by which others speak to the agent."""
        return [sys.executable, "-I", "-S", os.path.join(self.folder, "connect.py"), *words]

    def call(self, data: bytes) -> subprocess.CompletedProcess[bytes]:
        """One request through C(connect.py)."""
        return subprocess.run(self.command("call"), input=data, capture_output=True, timeout=LIMIT, check=False)

    def ask(self, operation: str, **arguments: object) -> dict:
        """The answer to one request."""
        done = self.call(json.dumps({"operation": operation, "arguments": arguments}).encode() + b"\n")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
