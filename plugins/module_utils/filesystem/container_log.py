# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker has written down of a container's output (its log driver json-file), so that it can be told on elsewhere.

Docker writes to one file and, when that is large enough, begins another: C(PATH), and before it C(PATH.1), C(PATH.2)
and so on, perhaps compressed.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import glob
import gzip
import os
import re
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK

DRIVER = "json-file"
# Its name in a checkpoint.
NAME = "container.log"


def path_of(inspect: dict) -> str | None:
    """The file that Docker writes a container's log to; None where there is none of this kind."""
    kind = ((inspect.get("HostConfig") or {}).get("LogConfig") or {}).get("Type")
    return (inspect.get("LogPath") or None) if kind == DRIVER else None


def files_of(path: str) -> list[str]:
    """All files of a log, the oldest first."""
    shape = re.compile(re.escape(path) + r"\.(\d+)(\.gz)?")
    numbered = [(shape.fullmatch(name), name) for name in glob.glob(glob.escape(path) + ".*")]
    older = sorted(((int(match.group(1)), name) for match, name in numbered if match), reverse=True)
    return [name for _number, name in older] + ([path] if os.path.exists(path) else [])


class Reader:
    """Reads a log that goes on, from where it was left the last time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode: int | None = None
        self._offset = 0

    def rest(self) -> Iterator[bytes]:
        """What has been written since, in pieces."""
        files = files_of(self._path)
        begin = next((place for place, name in enumerate(files) if os.stat(name).st_ino == self._inode), None)
        # Where the file is gone that was the last one, all that are there are newer.
        offset = self._offset if begin is not None else 0
        for name in files[begin or 0 :]:
            with (gzip.open if name.endswith(".gz") else open)(name, "rb") as stream:
                stream.seek(offset)
                while part := stream.read(CHUNK):
                    yield part
                self._inode, self._offset, offset = os.stat(name).st_ino, stream.tell(), 0


def save(inspect: dict, target: str) -> bool:
    """Writes a container's log so far to a file that only root can read; whether there is one."""
    path = path_of(inspect)
    if not path:
        return False
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.writelines(Reader(path).rest())
    return True
