# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Staging: where a live migration keeps a container's memory on its way, in memory or, where that is short, on disk.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import shutil
import subprocess

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.system import files, host, private_folders

MIB = 1024 * 1024
# For the images beside the memory, and for what the server itself needs.
MARGIN = 64 * MIB


def size_for(most: int) -> int:
    """Bytes that staging may take at the most, for so many bytes of memory, which may grow meanwhile."""
    return most + most // 4 + MARGIN


def why_not_in_memory(most: int, expected: int, available: int | None, limit: int) -> str | None:
    """Why staging has to be on disk, as a clause; None where it can be in memory.

    :param most: bytes of memory that can be in staging.
    :param expected: bytes that will come into this server's memory, in staging or elsewhere.
    :param available: bytes of memory that are free or can become so, or None when that is not known.
    :param limit: the most bytes that staging may take of them; 0 for no limit.
    """
    size = size_for(most)
    if limit and size > limit:
        return f"{size // MIB} MiB are more than the limit of {limit // MIB} MiB"
    needed = expected + MARGIN
    if available is None or available < needed:
        free = "unknown" if available is None else f"{available // MIB} MiB"
        return f"{needed // MIB} MiB of memory are needed, and what is free is {free}"
    return None


# Files that the source may bring: CRIU makes a dozen for each process.
MOST_FILES = 500_000


class Room:
    """What the source may still bring into staging: pages of memory, and files.

    :param path: the folder, or a link to one on disk.
    :param most: bytes that all of it may take; 0 for no limit.
    """

    def __init__(self, path: str, most: int) -> None:
        self._path = path
        self._most = most
        self._taken = 0
        self._files: dict[str, int] = {}
        self._space: files.Space | None = None
        self._is_on_disk: bool | None = None

    def take(self, count: int, keep_free: bool = True) -> None:
        """So many bytes are about to come, or have gone.

        :param keep_free: whether some of a disk has to stay free.
        :raises Refused: when that is more than there may be.
        :raises OSError: when the disk would be full.
        """
        if self._most and count > 0 and self._taken + count > self._most:
            raise Refused(
                f"the source sent more memory and images than the {self._most // MIB} MiB for which there is room"
            )
        if self._is_on_disk is None:
            self._is_on_disk = os.path.islink(self._path)
        if keep_free and count > 0 and self._is_on_disk:
            self._space = self._space or files.Space(self._path)
            self._space.take(count)
        self._taken += count

    def take_file(self, name: str, size: int) -> None:
        """A file of this size is about to come, perhaps in place of another one of the same name.

        :raises Refused: when there are too many.
        """
        if name not in self._files and len(self._files) >= MOST_FILES:
            raise Refused(f"the source sent more than {MOST_FILES} files")
        self.take(size - self._files.get(name, 0))
        self._files[name] = size


def make(path: str, disk: str, most: int, expected: int, limit: int) -> dict:
    """Makes a private folder for staging; returns C(kind), memory or disk, and C(why_not_memory).

    :param path: is the folder, or a link to it; what is above it is private, too.
    :param disk: folder on disk below which it is made otherwise.
    :raises MigrationError: when others than root could have a hand in that.
    """
    why = why_not_in_memory(most, expected, host.available_memory(), limit)
    if not why:
        os.mkdir(path, 0o700)
        why = _mount(path, size_for(most))
    if not why:
        return {"kind": "memory", "why_not_memory": None}
    if os.path.isdir(path):
        os.rmdir(path)
    target = os.path.join(disk, os.path.basename(os.path.dirname(path)))
    private_folders.make(disk)
    os.mkdir(target, 0o700)
    os.symlink(target, path)
    return {"kind": "disk", "why_not_memory": why}


# With large pages where they fit into a file, the kernel writes and copies memory in less than half the time; without
# swap, no memory of a container is written to a disk. A kernel without transparent huge pages does not know the first,
# and one before 6.4 not the second.
_WISHES = ("huge=within_size,noswap", "huge=within_size", "noswap", "")


def _mount(path: str, size: int) -> str | None:
    """Puts a file system in memory there; why it could not be done, or None."""
    why = ""
    for wishes in _WISHES:
        options = ",".join(filter(None, [f"size={size}", "mode=0700", "nosuid", "nodev", "noexec", wishes]))
        command = ["mount", "-t", "tmpfs", "-o", options, "fog-migration", path]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if not done.returncode:
            return None
        why = " ".join(done.stdout.decode("utf-8", "replace").split())
    return why


def remove(path: str) -> None:
    """Removes staging with all that is in it, whatever it is, if there is any."""
    if os.path.islink(path):
        shutil.rmtree(os.path.realpath(path), ignore_errors=True)
        os.unlink(path)
    elif os.path.ismount(path):
        # Lazily: a program that is being killed may still have files open in it.
        subprocess.run(["umount", "-l", path], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    shutil.rmtree(path, ignore_errors=True)
