# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes watch by inotify or fanotify in a file system whose files CRIU cannot find by their handles.

The kernel tells of a watch the number of its file and a handle. In an overlay, as the root file system of most
containers is, nothing can be opened by a handle (unless it is mounted with nfs_export). CRIU looks for the number
then, below paths that it is told (irmap_lookup() in criu/irmap.c): so these are looked for while the container runs.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.filesystem.overlay import Overlay
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

_MARK = re.compile(r"^(?:inotify wd:[0-9a-f]+|fanotify) ino:([0-9a-f]+) sdev:([0-9a-f]+) ", re.MULTILINE)
_LINKS = ("anon_inode:inotify", "anon_inode:[fanotify]")
# Of a root file system, so many files are looked at.
MOST = 2_000_000
# A path that can be written into CRIU's configuration, where blanks and quotes mean something.
_PLAIN = re.compile(r"/[^\s\"'#\\]*")


class Watch(NamedTuple):
    """A file that is watched: the process that does, the device as the kernel's stat has it, and its number there."""

    process: int
    device: int
    number: int


def parse(process: int, text: str) -> list[Watch]:
    """The watches in the text of C(/proc/PID/fdinfo/FD)."""
    found = []
    for number, device in _MARK.findall(text):
        kernel = int(device, 16)
        found.append(Watch(process, os.makedev(kernel >> 20, kernel & 0xFFFFF), int(number, 16)))
    return found


def of(processes: Iterable[int], root: Overlay | None) -> list[Watch]:
    """What these processes watch in the root file system of their container.

    :param root: that, where it is an overlay.
    """
    return [one for process in processes for one in _of(process) if root and one.device == root.device]


def _of(process: int) -> Iterator[Watch]:
    folder = f"/proc/{process}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if os.readlink(f"{folder}/{name}") in _LINKS:
                    yield from parse(process, procfs.read(f"/proc/{process}/fdinfo/{name}"))


class Place(NamedTuple):
    """Where something is, and how much is below it."""

    path: str
    below: int


def places(root: Overlay, numbers: Collection[int]) -> dict[int, Place]:
    """Where files of an overlay are, by their numbers; not those that cannot be found."""
    wanted, found = set(numbers), {}
    # How much is in each folder, in the order in which they were met: each behind the one that it is in.
    inside = {"": 0}
    with contextlib.suppress(OSError):
        found.update({number: "" for number in [os.stat(root.root).st_ino] if number in wanted})
    for path, status in itertools.islice(root.files(), MOST):
        folder = os.path.dirname(path).rstrip("/")
        inside[folder] = inside.get(folder, 0) + 1
        if stat.S_ISDIR(status.st_mode):
            inside[path] = 0
        if status.st_ino in wanted:
            found.setdefault(status.st_ino, path)
    for path in list(inside)[:0:-1]:
        folder = os.path.dirname(path).rstrip("/")
        inside[folder] = inside.get(folder, 0) + inside[path]
    return {
        number: Place(path or "/", inside.get(path, 0))
        for number, path in found.items()
        if _PLAIN.fullmatch(path or "/")
    }


def options(processes: Iterable[int], root: Overlay | None) -> list[str]:
    """Lines of CRIU's configuration that tell it where to look for what these processes watch.

    In each place CRIU looks at all that is below it before it goes to the next one: so those with little come first.
    """
    watched = of(processes, root)
    found = places(root, {one.number for one in watched}) if root and watched else {}
    return [f"irmap-scan-path {one.path}" for one in sorted(found.values(), key=lambda one: (one.below, one.path))]
