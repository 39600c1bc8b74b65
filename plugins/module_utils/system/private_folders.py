# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Folders in which root makes something under a name that others can guess: nobody else may have a hand in the way
there, as sshd demands it of the files of its keys (StrictModes).

Each folder on the way has to be root's, and others must not be able to write in it. A folder such as C(/tmp), in which
everybody can write but touch only what is his own, may be on the way, and not at its end.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# As many as Linux follows.
_MOST_LINKS = 40


def make(path: str) -> None:
    """Makes a folder that only root can enter, with those above it, unless it is there.

    A program that is not root's makes it as it can, and nothing is demanded.

    :raises MigrationError: when others could put something in its place, or into it.
    :raises OSError: when it cannot be made.
    """
    if os.geteuid():
        os.makedirs(path, 0o700, exist_ok=True)
    else:
        _walk(path, makes=True)


def require(path: str) -> None:
    """Returns when a folder is as C(make) would leave it, or is not there and could be made so.

    :raises MigrationError: otherwise.
    """
    if not os.geteuid():
        _walk(path, makes=False)


def refusal(facts: os.stat_result, is_last: bool) -> str | None:
    """Why a folder, or a link, must not be on the way, as a clause without its name; or None.

    :param is_last: whether root makes something in it.
    """
    if facts.st_uid:
        return "belongs to another user than root"
    if stat.S_ISLNK(facts.st_mode) or not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    # What is root's in there, nobody else can rename or remove.
    return None if facts.st_mode & stat.S_ISVTX and not is_last else "can be written by others than root"


def _walk(path: str, makes: bool) -> None:
    """Goes the whole way by descriptors, with each link that is on it; nobody can change what was passed."""
    ahead, links = _names(os.path.join(os.getcwd(), path)), 0
    here, place = os.open("/", _FOLDER), "/"
    try:
        _demand(path, place, os.fstat(here), is_last=not ahead)
        while ahead:
            name = ahead.pop()
            place = os.path.join(place, name)
            facts = _found(name, here, (0o755 if ahead else 0o700) if makes else None)
            if facts is None:
                return
            _demand(path, place, facts, is_last=not ahead)
            if stat.S_ISLNK(facts.st_mode):
                target, links = os.readlink(name, dir_fd=here), links + 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                ahead += _names(target)
                name = "/" if os.path.isabs(target) else "."
                place = "/" if name == "/" else os.path.dirname(place)
            below = os.open(name, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
    except OSError as exc:
        exc.filename = place
        raise
    finally:
        os.close(here)


def _names(path: str) -> list[str]:
    """The names on a way, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _found(name: str, folder: int, mode: int | None) -> os.stat_result | None:
    """What has this name in an open folder. Where nothing has it, a folder is made; or None returned without a mode."""
    for _attempt in range(2):
        with contextlib.suppress(FileNotFoundError):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        if mode is None:
            break
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=folder)
    return None if mode is None else os.stat(name, dir_fd=folder, follow_symlinks=False)


def _demand(path: str, place: str, facts: os.stat_result, is_last: bool) -> None:
    why = refusal(facts, is_last)
    if why:
        raise MigrationError(
            f"the folder {path} cannot be used, since {place} {why}, who could exchange what is in it",
            "nothing was made there",
            f"name a folder of root's, or give {place} to root alone (chown root, chmod go-w)",
        )
