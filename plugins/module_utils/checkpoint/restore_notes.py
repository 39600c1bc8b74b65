# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is noted of restores on this host: which container came from which checkpoint, and what was taken back.

Private to the collection fog.migration.
"""

from __future__ import annotations

import json
import os
import time

# One small file for each restored container, named by its ID, that holds the checkpoint's ID; and marks.
FOLDER = "/var/lib/fog-migration/restored"
_DAY = 24 * 60 * 60


def note(container_id: str, checkpoint: str, root: str) -> None:
    """Writes down which checkpoint a container comes from, and forgets what is gone or long past.

    :param checkpoint: its ID.
    :param root: Docker's data root.
    """
    _write(container_id, checkpoint)
    for entry in os.listdir(FOLDER):
        path = os.path.join(FOLDER, entry)
        mark = entry.startswith(".")
        gone = not mark and not os.path.isdir(os.path.join(root, "containers", entry))
        if gone or (mark and os.path.getmtime(path) < time.time() - _DAY):
            os.unlink(path)


def came_from(container_id: str, checkpoint: str) -> bool:
    """Whether this container was restored from this very checkpoint."""
    try:
        with open(os.path.join(FOLDER, container_id), encoding="utf-8") as stream:
            return stream.read().strip() == checkpoint
    except OSError:
        return False


def withdraw(checkpoint: str) -> None:
    """Marks that a restore from this checkpoint that was ordered before now must not begin."""
    _write(_withdrawal(checkpoint), "")


def is_withdrawn(checkpoint: str, ordered: float) -> bool:
    """Whether a restore from this checkpoint that was ordered at this time has been taken back since."""
    mark = os.path.join(FOLDER, _withdrawal(checkpoint))
    return os.path.exists(mark) and os.path.getmtime(mark) >= ordered


def _withdrawal(checkpoint: str) -> str:
    return f".withdrawn-{checkpoint}"


def mark_filled(checkpoint: str, migration: str | None, identities: dict[str, list[int]]) -> None:
    """Marks that volumes and folders were filled from this checkpoint.

    :param migration: the one that they were filled in; None outside of one.
    :param identities: device and inode of each, by place.
    """
    _write(_filled(checkpoint), json.dumps({"migration": migration, "filled": identities}))


def filled(checkpoint: str, migration: str | None) -> dict[str, list[int]]:
    """What was filled from this checkpoint in this migration, see C(mark_filled): another one may not go on with it."""
    try:
        with open(os.path.join(FOLDER, _filled(checkpoint)), encoding="utf-8") as stream:
            noted = json.load(stream)
    except (FileNotFoundError, ValueError):
        return {}
    return noted["filled"] if noted["migration"] == migration else {}


def is_filled(checkpoint: str) -> bool:
    """Whether volumes were filled from this checkpoint."""
    return os.path.exists(os.path.join(FOLDER, _filled(checkpoint)))


def _filled(checkpoint: str) -> str:
    return f".filled-{checkpoint}"


def _write(name: str, text: str) -> None:
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    with open(os.path.join(FOLDER, name), "w", encoding="utf-8") as stream:
        stream.write(text)
