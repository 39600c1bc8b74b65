# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU's whole log of a dump or a restore that has failed, which outlives the folder of its migration.

It is for root only: it has the paths of the container's files, and addresses.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import re
import time

from ansible_collections.fog.migration.plugins.module_utils.criu import tool

FOLDER = "/var/log/fog-migration/criu"
# How many are kept, and bytes of one: its end, if it is longer.
KEPT, LONGEST = 20, 16 << 20
_RUNTIME = re.compile(r'\bmsg="((?:[^"\\]|\\.)*)"')


def keep(path: str) -> str:
    """Copies a log; the path of the copy, empty where there is no log or it cannot be copied."""
    folder = FOLDER
    with contextlib.suppress(OSError), open(path, "rb") as source:
        for one in (os.path.dirname(folder), folder):
            os.makedirs(one, 0o700, exist_ok=True)
        source.seek(max(0, os.fstat(source.fileno()).st_size - LONGEST))
        name = time.strftime("%Y%m%dT%H%M%S") + f"-{time.time_ns()}-{os.path.basename(path)}"
        kept = os.path.join(folder, name)
        with open(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            target.write(source.read(LONGEST))
        for old in sorted(os.listdir(folder))[:-KEPT]:
            os.unlink(os.path.join(folder, old))
        return kept
    return ""


def reason(path: str) -> str:
    """As C(tool.reason_in), and where the whole log at I(path) is kept, for the end of a clause."""
    kept = keep(path)
    return tool.reason_in(path) + (f" (its log is {kept})" if kept else "")


def runtime_message(line: str) -> str:
    """What the OCI runtime says in a line of its output, without its time, and without where CRIU's log was."""
    found = _RUNTIME.search(line)
    return found.group(1).partition("\\nlog file")[0] if found else line
