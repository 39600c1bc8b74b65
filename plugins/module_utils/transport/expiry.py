# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Until when a transfer lasts, by the name of its private directory: C(transfer-ID-ROLE-EXPIRES).

Each server has named its directory itself. What it runs there for the other one looks at the time, so a key has expired
then whatever sshd knows of that.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import re
import time

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

_NAME = re.compile(r"transfer-.+-(?:source|destination)-([0-9]+)")


def of_directory(directory: str) -> int | None:
    """When the time of the transfer of this directory is over, in seconds since the epoch; None for another one."""
    found = _NAME.fullmatch(os.path.basename(directory))
    return int(found.group(1)) if found else None


def require_in_time(directory: str) -> None:
    """By the clock of this host, as sshd does it from OpenSSH 7.7 on; an older one never lets a key expire.

    :raises MigrationError: when the time of the transfer of this directory is over.
    """
    expires = of_directory(directory)
    if expires is not None and time.time() > expires:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
        raise MigrationError(f"the key of this transfer has expired at {until}, by the clock of this server")
