# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root file system diff of a container: overlay2's upper directory, exactly as it is, as a tar archive.

Whiteouts (devices 0/0) and opaque directories (an attribute in the C(trusted.overlay) namespace) are what overlay
itself keeps for deletions, so deletions travel like everything else.
"""

from __future__ import annotations

import hashlib
import os
import subprocess

from ansible_collections.fog.migration.plugins.module_utils._errors import MigrationError

ARCHIVE = "rootfs.tar"
# Handles that overlay keeps on inodes of one file system; they mean nothing on another one.
_FOREIGN = ("trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.nlink", "trusted.overlay.uuid")
_ATTRIBUTES = ["--xattrs", "--xattrs-include=*", *(f"--xattrs-exclude={name}" for name in _FOREIGN), "--acls"]


def upper_directory(inspect: dict) -> str | None:
    """The folder that holds what the container has changed in its root file system; None where there is none."""
    return ((inspect.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")


def signature(upper: str | None) -> str:
    """A checksum over what would be different if a file below I(upper) had been written since.

    Names, kinds, modes, owners, sizes, inodes and times, not contents.
    """
    checksum = hashlib.sha256()
    for base, folders, names in os.walk(upper) if upper else ():
        folders.sort()
        for name in sorted([*folders, *names]):
            facts = os.lstat(os.path.join(base, name))
            seen = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_size, facts.st_ino, facts.st_ctime_ns)
            checksum.update(os.fsencode(os.path.join(base, name)) + repr(seen).encode("ascii"))
    return checksum.hexdigest()


def _tar(*arguments: str) -> None:
    done = subprocess.run(
        ["tar", "--numeric-owner", *_ATTRIBUTES, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = done.stdout.decode("utf-8", "replace").strip()
    # 1 means that a file changed or vanished (a socket, for one) while it was read, which a frozen container cannot do.
    if done.returncode > 1:
        raise MigrationError(f"tar failed on the container's root file system ({output[-300:]})")


def save(upper: str, archive: str) -> None:
    """Writes the changes in I(upper) to I(archive), readable by root only."""
    os.close(os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    _tar("--format=posix", "--sparse", "--warning=no-file-ignored", "-C", upper, "-cf", archive, ".")


def apply(archive: str, upper: str) -> None:
    """Makes the empty I(upper) of a container that was never started equal to the one that was saved."""
    _tar("-p", "--same-owner", "--delay-directory-restore", "-C", upper, "-xf", archive)
