# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One file over a channel: its name in staging and its size, its bytes, and an end with their SHA-256.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import hashlib
import os

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import DATA, END, FILE, Frames
from ansible_collections.fog.migration.plugins.module_utils.transport.staging import Room
from ansible_collections.fog.migration.plugins.module_utils.validate import check_path, is_whole


def send_file(frames: Frames, path: str, name: str) -> int:
    """Sends one file under a name of the destination's staging; its size in bytes.

    :raises Refused: when it becomes shorter meanwhile.
    """
    checksum = hashlib.sha256()
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        frames.write_json(FILE, {"path": name, "size": size})
        left = size
        while left:
            data = stream.read(min(CHUNK, left))
            if not data:
                raise Refused(f"{path} became shorter while it was sent")
            frames.write(DATA, data)
            checksum.update(data)
            left -= len(data)
    frames.write_json(END, {"sha256": checksum.hexdigest()})
    return size


def receive_file(frames: Frames, staging: str, facts: dict, room: Room | None = None) -> None:
    """Writes one file of the source's into staging, and verifies it.

    :param facts: the payload of its first frame.
    :param room: what of staging there is for it; None for no limit.
    :raises Refused: when the name, the size or the checksum is wrong, or there is no room for it.
    """
    problem = check_path(facts.get("path"))
    size = facts.get("size")
    if problem or not is_whole(size):
        raise Refused(f"the source sends {problem or 'a file without a size'}")
    if room:
        room.take_file(facts["path"], size)
    path = os.path.join(staging, facts["path"])
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    checksum, left = hashlib.sha256(), size
    # As a stream, which writes all of it or fails: on a full disk, a single write may stop half way without an error.
    with os.fdopen(handle, "wb") as stream:
        while left:
            data = frames.expect(DATA)[1]
            if len(data) > left:
                raise Refused(f"more bytes of {facts['path']} came than were announced")
            stream.write(data)
            checksum.update(data)
            left -= len(data)
    if frames.expect_object(END).get("sha256") != checksum.hexdigest():
        raise Refused(f"{facts['path']} was damaged on the way")
