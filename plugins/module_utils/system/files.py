# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files, folders and file systems of this host.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import stat
from typing import Union

from ansible_collections.fog.migration.plugins.module_utils.system.procfs import read

# Bytes that are read, and sent, at once.
CHUNK = 256 * 1024
# What holds bytes.
Data = Union[bytes, bytearray, memoryview]


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
    """Bytes of the plain files below I(path)."""
    places = (os.path.join(base, name) for base, _folders, names in os.walk(path) for name in names)
    return sum(map(_size, places))


def _size(path: str) -> int:
    """Bytes of a file, 0 when it has gone."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def lock(descriptor: int) -> bool:
    """Locks an open file or folder for this process, unless another one has it locked; whether it is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it, as far as that can be."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def parse_mounts(table: str) -> list[tuple[str, str, str]]:
    """Place, type and device of each file system in the text of C(/proc/self/mounts), in order."""
    rows = (line.split(" ") for line in table.splitlines())
    return [(_unescaped(row[1]), row[2], _unescaped(row[0])) for row in rows if len(row) > 2]


def parse_mountinfo(table: str) -> list[tuple[str, str, str, str]]:
    """Device number, root in the file system, place and type of each mount in the text of C(/proc/PID/mountinfo)."""
    found = []
    for line in table.splitlines():
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
