# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a program that was started until it listens at its socket.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# Seconds between two looks.
LOOK = 0.002


class NotListening(CollectionError):
    """The program has ended, or its time is over. The text is the reason that it has left, or C(no answer)."""


def last_line(lines: list[str]) -> str:
    """The last line with text in it, or an empty string."""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def wait_for(
    path: str, log: str, seconds: float, runs: Callable[[], bool], reason: Callable[[list[str]], str] = last_line
) -> None:
    """Returns when the socket is there.

    :param path: the socket.
    :param log: the file with the program's standard error; there may be none yet.
    :param seconds: how long that may take.
    :param runs: whether the program runs still.
    :param reason: finds the reason in the lines of the log.
    :raises NotListening: when the program has ended or the time is over; it may run still then.
    """
    deadline = time.monotonic() + seconds
    while not os.path.exists(path):
        if not runs() or time.monotonic() > deadline:
            raise NotListening(reason(procfs.read(log).splitlines()) or "no answer")
        time.sleep(LOOK)
