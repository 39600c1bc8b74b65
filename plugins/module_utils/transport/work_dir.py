# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private directory that a transfer has on each host while it lasts.

Its name tells whose it is and until when: C(transfer-ID-ROLE-EXPIRES), see C(expiry). A program of ours that runs for
the transfer lies in it, and staging is below it.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import shutil
import time

from ansible_collections.fog.migration.plugins.module_utils.system import deploy, private_folders
from ansible_collections.fog.migration.plugins.module_utils.transport import expiry, ssh_access, staging

STAGING = "staging"


def base_directory() -> str:
    if os.geteuid() == 0:
        return "/run/fog-migration"
    return os.path.join(ssh_access.home_of(ssh_access.current_user()), ".fog-migration")


def path_of(transfer_id: str, role: str, expires: int) -> str:
    """Where the directory of this transfer is, or will be."""
    return os.path.join(base_directory(), f"transfer-{transfer_id}-{role}-{expires}")


def make(directory: str) -> None:
    """Makes the private directory at this path; directories of transfers that nobody ended are removed.

    One of which a program still runs is left, however late it is: a container may depend on what is in it.
    """
    base = os.path.dirname(directory)
    private_folders.make(base)
    now = time.time()
    for name in os.listdir(base):
        # Others are there as well, such as the agents' own.
        expires = expiry.of_directory(name)
        if expires is not None and expires < now and not _is_used(os.path.join(base, name)):
            remove(os.path.join(base, name))
    # The one that was removed may have been the last one, and the base directory with it.
    private_folders.make(base)
    os.mkdir(directory, 0o700)


def _is_used(directory: str) -> bool:
    return any(map(deploy.running, (directory, supervisor(directory), holder(directory))))


def find(transfer_id: str, role: str) -> list[str]:
    base = base_directory()
    prefix = f"transfer-{transfer_id}-{role}-"
    names = os.listdir(base) if os.path.isdir(base) else []
    return [os.path.join(base, name) for name in names if name.startswith(prefix)]


def supervisor(directory: str) -> str:
    """The folder of who watches over the program of this transfer, where somebody does."""
    return os.path.join(directory, "supervisor")


def holder(directory: str) -> str:
    """The folder of who holds open what the pages of a container come through, where somebody does."""
    return os.path.join(directory, "holder")


def remove(directory: str) -> None:
    """Removes a transfer's directory with its staging, if it is there."""
    staging.remove(os.path.join(directory, STAGING))
    shutil.rmtree(directory, ignore_errors=True)
    try:
        os.rmdir(os.path.dirname(directory))
    except OSError:
        pass  # other transfers are under way
