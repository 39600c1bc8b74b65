# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes that are forked from an agent.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import Callable, NoReturn

# The file in the agent's folder that names the private folders of the migrations of the run.
RESERVED = "reserved"
# The file that names the user whom the key of the run is admitted for.
ADMITTED = "admitted"


def has_work(folder: str) -> bool:
    """Whether one of the migrations of the run of this agent has still a folder here."""
    try:
        with open(os.path.join(folder, RESERVED), encoding="utf-8") as stream:
            return any(map(os.path.isdir, stream.read().splitlines()))
    except FileNotFoundError:
        return False


def in_child(work: Callable[[], object]) -> NoReturn:
    """Does something in a process that was forked for it, and ends that process."""
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work()
        status = 0
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def spawn(work: Callable[[], object]) -> int:
    """Does something in a process of its own, which outlives the one that has started it; its number."""
    child = os.fork()
    if not child:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        # Above all the connection of the request: whoever waits for its answer waits until nobody has it open.
        _close_all_but_standard()
        in_child(work)
    return child


def _close_all_but_standard() -> None:
    """Closes all descriptors but standard input, output and error."""
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            with contextlib.suppress(OSError):
                os.close(number)
