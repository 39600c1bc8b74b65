# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files, folders and file systems of this host.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import stat
from collections.abc import Callable
from typing import Union

from ansible_collections.fog.migration.plugins.module_utils.system.procfs import read

# Bytes that are read, and sent, at once.
CHUNK = 256 * 1024
# What holds bytes.
Data = Union[bytes, bytearray, memoryview]
# Bytes, and files, that stay free on a file system, or a part of it where that is less: the server, Docker and the
# journal need some.
_FLOOR, _FLOOR_FILES, _PART = 256 << 20, 10_000, 50
# Bytes that are written at the most before one looks again, and those that anything with a name takes.
_LOOK_AFTER, LEAST = 16 << 20, 4096
_FULL = "No space left on device, but what stays free for the server itself"


def memory_file() -> int:
    """The descriptor of a new file in memory, which has no name.

    A Python that was built for a C library older than 2.27 has no C(memfd_create), as that of the role C(python).
    """
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fog-migration")
    return os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def is_readable(descriptor: int, seconds: float) -> bool:
    """Whether there is something to read, or nothing will come any more; waits for that at the most so long.

    C(select.select) knows no number from 1024 on, and each process of a container may take one of a program of ours.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0, seconds) * 1000))


def free_bytes(path: str) -> int:
    """Bytes free for root in the file system of I(path), or of its nearest folder that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize


def folder_bytes(path: str) -> int:
    """Bytes of the files below I(path), however deep, without what must be holes in them."""
    total, folders = 0, [path]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    total += _size(entry.stat(follow_symlinks=False))
    return total


def _size(facts: os.stat_result) -> int:
    """Bytes of a file. It may be compressed, to a 32nd part at the best, or a small one be kept with its name."""
    return min(facts.st_size, facts.st_blocks * 512 * 32 + LEAST)


def lock(descriptor: int) -> bool:
    """Locks an open file or folder for this process, unless another one has it locked; whether it is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Space:
    """What may still be written to a file system, of which some always stays free for the server itself.

    :param path: a folder or a file on it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._sure = 0

    def take(self, count: int) -> None:
        """So many bytes are about to be written.

        :raises OSError: when too little would stay free.
        """
        self._sure -= count
        if self._sure < 0:
            spare = self._spare()
            if spare < count:
                raise OSError(errno.ENOSPC, _FULL, self._path)
            # Others write as well.
            self._sure = min(spare // 2, _LOOK_AFTER) - count

    def _spare(self) -> int:
        status = os.statvfs(self._path)
        spare = 2 * _LOOK_AFTER
        # Some do not tell their size, or have no table of files that could be full.
        if status.f_blocks:
            spare = status.f_bfree * status.f_frsize - floor(status.f_blocks * status.f_frsize)
        if status.f_files:
            spare = min(spare, LEAST * (status.f_ffree - min(_FLOOR_FILES, status.f_files // _PART)))
        return spare


def floor(size: int) -> int:
    """Bytes that stay free on a file system of so many bytes."""
    return min(_FLOOR, size // _PART)


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it, however deep, as far as that can be."""
    if os.path.isdir(path) and not os.path.islink(path):
        with contextlib.suppress(OSError):
            remove_folder(path, failed=lambda _problem: None)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _raise(problem: OSError) -> None:
    raise problem


def remove_folder(name: str | bytes, parent: int | None = None, failed: Callable[[OSError], object] = _raise) -> None:
    """Removes a folder with all that is in it, however deep: C(shutil.rmtree) of a Python before 3.13 goes down into it
    in itself, and ends with RecursionError.

    :param parent: the open folder that it is in; None where the name is a path.
    :param failed: is called with what could not be removed; by default, it is raised.
    """
    _empty(os.open(name, _FOLDER, dir_fd=parent), failed)
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as problem:
        failed(problem)


def empty_folder(path: str) -> None:
    """Removes all that is in a folder, however deep.

    :raises OSError: when something of it cannot be removed.
    """
    _empty(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), _raise)


def _empty(here: int, failed: Callable[[OSError], object]) -> None:
    """Removes all that is in an open folder, which is closed then. No more than two folders are open at a time."""
    # For each folder on the way down: its name, what it is, and which folders are left in it.
    way: list[tuple[str, tuple[int, int], list[str]]] = []
    try:
        way.append(("", _identity(here), _remove_files(here, failed)))
        while True:
            folders = way[-1][2]
            if folders:
                name = folders.pop()
                try:
                    below = os.open(name, _FOLDER, dir_fd=here)
                except OSError as problem:
                    failed(problem)
                    continue
                os.close(here)
                here = below
                way.append((name, _identity(here), _remove_files(here, failed)))
                continue
            name = way.pop()[0]
            if not way:
                return
            here = _above(here, way[-1][1])
            try:
                os.rmdir(name, dir_fd=here)
            except OSError as problem:
                failed(problem)
    finally:
        os.close(here)


def _above(here: int, expected: tuple[int, int]) -> int:
    """The folder that this one, which is closed then, is in.

    :raises OSError: when somebody has moved it meanwhile.
    """
    above = os.open("..", _FOLDER, dir_fd=here)
    if _identity(above) != expected:
        os.close(above)
        raise OSError(errno.ESTALE, "a folder was moved while it was removed")
    os.close(here)
    return above


def _identity(descriptor: int) -> tuple[int, int]:
    facts = os.fstat(descriptor)
    return facts.st_dev, facts.st_ino


def _remove_files(here: int, failed: Callable[[OSError], object]) -> list[str]:
    """Removes what is no folder in an open folder; the names of the folders."""
    folders = []
    with os.scandir(here) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
                continue
            try:
                os.unlink(entry.name, dir_fd=here)
            except OSError as problem:
                failed(problem)
    return folders


def parse_mounts(table: str) -> list[tuple[str, str, str]]:
    """Place, type and device of each file system in the text of C(/proc/self/mounts), in order."""
    rows = (line.split(" ") for line in table.split("\n"))
    return [(_unescaped(row[1]), row[2], _unescaped(row[0])) for row in rows if len(row) > 2]


def parse_mountinfo(table: str) -> list[tuple[str, str, str, str]]:
    """Device number, root in the file system, place and type of each mount in the text of C(/proc/PID/mountinfo)."""
    found = []
    for line in table.split("\n"):
        mount, separator, file_system = line.partition(" - ")
        words = mount.split(" ")
        if separator and len(words) > 5:
            found.append((words[2], _unescaped(words[3]), _unescaped(words[4]), file_system.split(" ")[0]))
    return found


def _unescaped(name: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), name)


def file_system(path: str, mounts: list[tuple[str, str, str]]) -> dict[str, str]:
    """C(type) and C(device) of the file system that a path is on.

    :param mounts: see C(parse_mounts).
    """
    found = {"type": "unknown", "device": ""}
    longest = -1
    for place, kind, device in mounts:
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        # Of several at one place, the last one is seen.
        if inside and len(place) >= longest:
            found, longest = {"type": kind, "device": device}, len(place)
    return found


def is_socket(path: str) -> bool:
    """Whether there is a socket at a path, or behind a link there."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def path_facts(path: str) -> dict:
    """C(exists), C(empty) (nothing, or a folder with nothing in it), and C(file_system) of a path on this host."""
    real = os.path.realpath(path)
    empty = not os.path.lexists(real) or (os.path.isdir(real) and not os.listdir(real))
    kind = file_system(real, parse_mounts(read("/proc/self/mounts")))
    return {"exists": os.path.lexists(real), "empty": empty, "file_system": kind}
