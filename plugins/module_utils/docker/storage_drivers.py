# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where Docker's storage driver keeps the root file system of a container on this server.

Overlay keeps what differs from the image in a folder of its own, the upper directory. Other drivers keep all files of
the container in one folder; there, Docker itself tells which of them differ (C(GET /containers/ID/changes)). Contents
are read from that folder and not by Docker's API (C(GET /containers/ID/archive)), which leaves out extended attributes,
ACLs and the fractions of seconds, and which nothing can be deleted with.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import re
import shlex
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.docker import containerd
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.filesystem.snapshot import Entry, other_names, parent_of

# Drivers with an upper directory; "overlayfs" is containerd's, where that keeps the images.
_CONTAINERD = "overlayfs"
LAYERED = ("overlay2", "overlay", _CONTAINERD)
# Where other drivers keep a container, below Docker's folder.
_FOLDERS = {"vfs": "vfs/dir", "btrfs": "btrfs/subvolumes"}
DRIVERS = (*LAYERED, *_FOLDERS)
# Docker's own stores of layers, which need only those of an image that they lack.
GRAPH_DRIVERS = ("overlay2", "overlay", "fuse-overlayfs", "aufs", "btrfs", "zfs", "devicemapper", "vfs")
# What a name that is no UTF-8 has in JSON for one byte or several that are none.
_ODD = re.compile("\ufffd+")


def by_containerd(driver: str) -> bool:
    """Whether Docker with this storage driver keeps images in containerd's store: there, they have other IDs."""
    return driver not in GRAPH_DRIVERS


class Storage(NamedTuple):
    """The folder of one container."""

    folder: str
    is_layer: bool  # whether it is an upper directory


class Changes(NamedTuple):
    """What a folder has that differs from the image."""

    names: set[bytes]
    hidden: set[bytes]  # the image's that the container has deleted, where the folder itself does not show them


def of_container(inspect: dict, root: str) -> Storage | None:
    """Where this container's files are, or None where that cannot be told.

    :param root: Docker's own folder.
    """
    graph = inspect.get("GraphDriver") or {}
    driver = inspect.get("Driver") or graph.get("Name")
    folder = None
    if driver == _CONTAINERD:
        folder = upper_of(containerd.ctr("snapshots", "--snapshotter", driver, "mounts", "/", inspect["Id"]))
    elif driver in LAYERED:
        folder = (graph.get("Data") or {}).get("UpperDir")
    elif driver in _FOLDERS:
        folder = _mounted(root, driver, inspect["Id"])
    return Storage(folder, driver in LAYERED) if folder and os.path.isdir(folder) else None


def upper_of(command: str) -> str | None:
    """The upper directory in the command that mounts a snapshot, as containerd's C(ctr) tells it."""
    options = [word for words in shlex.split(command) for word in words.split(",")]
    return next((word.partition("=")[2] for word in options if word.startswith("upperdir=")), None)


def _mounted(root: str, driver: str, container_id: str) -> str | None:
    try:
        with open(os.path.join(root, "image", driver, "layerdb", "mounts", container_id, "mount-id")) as stream:
            return os.path.join(root, _FOLDERS[driver], stream.read().strip())
    except OSError:
        return None


def is_kept_whole(driver: str, root: str, folder: str) -> bool:
    """Whether a driver that mounts nothing keeps a container in this folder.

    :param root: Docker's own folder.
    """
    place = os.path.join(root, _FOLDERS[driver]) if driver in _FOLDERS else ""
    return bool(place) and os.path.dirname(os.path.normpath(folder)) == place


def changes(there: dict[bytes, Entry], told: list[dict]) -> Changes:
    """The changes that Docker tells, as names in a folder that holds all files.

    :param there: a snapshot of the folder.
    :param told: C(Path) and C(Kind), 2 for what was deleted, of each.
    :raises MigrationError: when Docker cannot name what was deleted.
    """
    shown: dict[str, set[bytes]] = {}
    for name in there:
        shown.setdefault(_shown(name), set()).add(name)
    # Docker cannot tell names that are no UTF-8 from each other: all that it may mean count as changed.
    listed = {_ODD.sub("\ufffd", one["Path"].lstrip("/")) for one in told}
    names = {b"."}.union(*(shown.get(name, set()) for name in listed))
    gone = {one["Path"].lstrip("/").encode("utf-8") for one in told if one["Kind"] == 2}
    # Not what was in a folder that is something else now.
    hidden = {name for name in gone if _is_in_folder(name, there) and not shown.get(_shown(name))}
    odd = sorted(name.decode("utf-8") for name in hidden if "\ufffd" in name.decode("utf-8"))
    if odd:
        raise MigrationError(
            f"it has deleted the file {odd[0]!r} of its image, whose name Docker cannot tell", "", "use overlay2"
        )
    names |= other_names(names, there)
    # Elsewhere, a folder that is as in the image may have to be made first.
    return Changes(names.union(*map(_folders_of, names | hidden)), hidden)


def _folders_of(name: bytes) -> set[bytes]:
    parts = name.split(b"/")
    return {b"/".join(parts[:count]) for count in range(1, len(parts))}


def _is_in_folder(name: bytes, there: dict[bytes, Entry]) -> bool:
    parent = there.get(parent_of(name))
    return parent is not None and parent.is_directory


def _shown(name: bytes) -> str:
    return _ODD.sub("\ufffd", name.decode("utf-8", "replace"))
