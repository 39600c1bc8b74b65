# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system of a container that runs, where it is an overlay of its image's layers and one of its own.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.system import procfs

_ROOT = re.compile(r"^\d+ \d+ \d+:\d+ \S+ / .* - overlay \S+ (\S+)$", re.MULTILINE)
_UPPER = re.compile(r"(?:^|,)upperdir=([^,]+)")


class Overlay(NamedTuple):
    """An overlay: its device, the path at which it is seen, and the folder of the server with what was changed."""

    device: int
    root: str
    upper: str

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """All that is in it, by its path there, that which is not deep first."""
        return walk(self.root, self.device)

    def is_of_image_alone(self, status: os.stat_result) -> bool:
        """Whether a file of it that was deleted, and counts as one with one name, is of the image and has none.

        One that the container has made and that counts so has another name still.
        """
        is_changed = (one.st_ino == status.st_ino for _path, one in walk(self.upper, os.stat(self.upper).st_dev))
        return status.st_dev == self.device and status.st_nlink == 1 and not any(is_changed)


def of(process: int) -> Overlay | None:
    """The one that a process has as its root; None where that is none.

    :param process: the first process of a container.
    """
    found = _ROOT.search(procfs.read(f"/proc/{process}/mountinfo"))
    upper = _UPPER.search(found.group(1)) if found else None
    with contextlib.suppress(OSError):
        root = f"/proc/{process}/root"
        return Overlay(os.stat(root).st_dev, root, upper.group(1)) if upper else None
    return None


def walk(folder: str, device: int) -> Iterator[tuple[str, os.stat_result]]:
    """All that is below a folder on this device, by its path below, that which is not deep first."""
    level = [folder]
    while level:
        below: list[str] = []
        for one in level:
            with contextlib.suppress(OSError), os.scandir(one) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev == device:
                        yield entry.path[len(folder) :], status
                        below += [entry.path] if entry.is_dir(follow_symlinks=False) else []
        level = below
