# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of an agent's steps, with times and containers.

One line for each step that has ended. The log of a run lies in C(/var/log/fog-migration), for root only. It is kept
when something of the run has failed, and removed otherwise; those of the last twenty runs stay.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

FOLDER = "/var/log/fog-migration"
KEPT = 20


def path_of(folder: str) -> str:
    """The log of the agent with this folder."""
    return os.path.join(FOLDER, os.path.basename(folder) + ".log")


class Steps:
    """Writes to the log of one run.

    :param folder: the agent's.
    """

    def __init__(self, folder: str) -> None:
        self.path = path_of(folder)
        # What this process has noted.
        self.lines: list[str] = []
        self._closed = False

    def note(self, container: str, text: str) -> None:
        """Adds one line. A log that cannot be written fails nothing."""
        now = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"
        line = f"{clock} {container or '-'}: {text}"
        self.lines.append(line)
        if self._closed:
            return
        with contextlib.suppress(OSError):
            os.makedirs(FOLDER, 0o700, exist_ok=True)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            try:
                os.write(descriptor, line.encode("utf-8", "replace") + b"\n")
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def step(self, container: str, what: str) -> Iterator[None]:
        """Notes how long something took, and why it failed if it did."""
        began = time.monotonic()
        try:
            yield
        except Exception as exc:
            self.note(container, f"{what}: failed after {time.monotonic() - began:.3f} s: {exc}")
            raise
        self.note(container, f"{what}: {time.monotonic() - began:.3f} s")

    def close(self, keep: bool) -> None:
        """The end of the run. The step that has ended it is in no file."""
        self._closed = True
        if not keep:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        with contextlib.suppress(OSError):
            logs = sorted(os.scandir(FOLDER), key=lambda one: one.stat().st_mtime)
            for one in logs[:-KEPT]:
                os.unlink(one.path)
            os.rmdir(FOLDER)
