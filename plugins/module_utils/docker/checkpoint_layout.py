# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where Docker writes a checkpoint and where it reads one, by looking at the disk.

Docker 17.06 to 17.12 write to C(DIRECTORY/ID/checkpoints/NAME), later ones to C(DIRECTORY/NAME); 17.12 and 18.01 share
one API version with different layouts. All of them read C(DATA-ROOT/containers/ID/checkpoints/NAME).
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import stat
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

# What containerd calls a container's working folder, by containerd's version and by who started containerd.
_TASK_FOLDERS = (
    "/var/lib/containerd/io.containerd.runtime.v2.task/moby",
    "/var/lib/containerd/io.containerd.runtime.v1.linux/moby",
    "{root}/containerd/daemon/io.containerd.runtime.v2.task/moby",
    "{root}/containerd/daemon/io.containerd.runtime.v1.linux/moby",
)

# Where containerd keeps what it hands to the runtime, by its version and by who started containerd.
_BUNDLES = (
    "/run/containerd/io.containerd.runtime.v2.task/moby",
    "/run/containerd/io.containerd.runtime.v1.linux/moby",
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby",
    "/run/docker/containerd/daemon/io.containerd.runtime.v1.linux/moby",
)

# Bytes at the begin of each file that tell one checkpoint from another: registers, times, the dump's own ID.
_TELLING = 65536


def remove_copies(checkpoint: str, folders: Iterable[str], since: float) -> list[str]:
    """Removes the copies of I(checkpoint) that containerd has made for a restore, whole or not; what was removed.

    containerd leaves them, with all of the container's memory in them (services/tasks/local.go of 1.4 to 2.1), in
    folders that are root's alone. Anybody may make one of such a name, with anything in it; that is not looked at.

    :param folders: see C(containerd.temporary_folders).
    :param since: seconds since the epoch; what is older is another restore's.
    """
    found = [copy for folder in folders for copy in glob.glob(os.path.join(glob.escape(folder), "ctrd-checkpoint*"))]
    copies = [copy for copy in found if _is_copy(copy, checkpoint, since)]
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)
    return copies


def _is_copy(copy: str, checkpoint: str, since: float) -> bool:
    """Whether this folder is ours alone, not older than that, and has files which all begin as the checkpoint's do."""
    try:
        folder = os.open(copy, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        known = os.fstat(folder)
        is_ours = known.st_uid == os.geteuid() and stat.S_IMODE(known.st_mode) == 0o700
        return is_ours and known.st_ctime >= since and _begins_as(folder, checkpoint)
    finally:
        os.close(folder)


def _begins_as(folder: int, checkpoint: str) -> bool:
    """Whether there are files in this folder, regular ones all of them, which begin as those of the checkpoint."""
    heads = {
        os.path.join(base, name): _head(name, inside)
        for base, _folders, names, inside in os.fwalk(".", dir_fd=folder)
        for name in names
    }
    return any(heads.values()) and all(
        head is not None and (_head(os.path.join(checkpoint, name)) or b"").startswith(head)
        for name, head in heads.items()
    )


def _head(path: str, folder: int | None = None) -> bytes | None:
    """How a file begins, empty where it cannot be read; None for what is no regular file, which is not opened."""
    try:
        found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            return None
        with open(os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            return stream.read(_TELLING)
    except OSError:
        return b""
    finally:
        os.close(found)


def written_checkpoint(directory: str, container_id: str, name: str) -> str:
    """The folder into which Docker has just written the checkpoint I(name).

    :raises MigrationError: when it is in none of the places.
    """
    places = (os.path.join(directory, container_id, "checkpoints", name), os.path.join(directory, name))
    for place in places:
        if glob.glob(os.path.join(place, "**", "inventory.img"), recursive=True):
            return place
    raise MigrationError(
        f"Docker reported success but wrote no CRIU images below {directory}",
        "",
        "look at the daemon's log",
    )


def task_folder(root: str, container_id: str) -> str | None:
    """containerd's working folder of a running container: CRIU's logs and statistics appear in it."""
    for pattern in _TASK_FOLDERS:
        folder = os.path.join(pattern.format(root=root), container_id)
        if os.path.isdir(folder):
            return folder
    return None


def bundle(container_id: str) -> str | None:
    """The folder with the OCI configuration of a running container."""
    places = (os.path.join(folder, container_id) for folder in _BUNDLES)
    return next(filter(os.path.isdir, places), None)


def linked_mounts(folder: str | None) -> list[str]:
    """Where a running container has mounts whose source on this host is a symbolic link.

    :param folder: see bundle.
    """
    try:
        with open(os.path.join(folder or "", "config.json"), encoding="utf-8") as stream:
            mounts = json.load(stream).get("mounts") or []
    except (OSError, ValueError):
        return []
    return sorted(one["destination"] for one in mounts if one.get("type") == "bind" and os.path.islink(one["source"]))


def find_file(folder: str, name: str) -> str | None:
    """The newest file called I(name) anywhere below I(folder), or None."""
    found = glob.glob(os.path.join(glob.escape(folder), "**", name), recursive=True)
    return max(found, key=os.path.getmtime) if found else None


def container_checkpoint(container_folder: str, name: str) -> str:
    """Where every Docker reads the checkpoint I(name) of the container whose own folder this is."""
    return os.path.join(container_folder, "checkpoints", name)


def _link_or_copy(source: str, target: str) -> None:
    """Names the same bytes a second time where both are on one file system, else copies them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def place_checkpoint(images: str, container_folder: str, name: str, created: str) -> str:
    """Puts CRIU's files where Docker will read them, in the layout that all its versions accept; returns the place.

    Docker 17.09 wants a C(config.json) and a folder C(criu.work); later ones write neither and ignore both.
    """
    target = container_checkpoint(container_folder, name)
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
    shutil.copytree(images, target, copy_function=_link_or_copy)
    os.chmod(target, 0o700)
    os.makedirs(os.path.join(target, "criu.work"), mode=0o700, exist_ok=True)
    config = os.path.join(target, "config.json")
    if not os.path.exists(config):
        with open(config, "w", encoding="utf-8") as stream:
            json.dump(_docker_config(name, created), stream)
    return target


def _docker_config(name: str, created: str) -> dict:
    """The C(config.json) that Docker 17.09's containerd writes beside the images."""
    return {
        "created": created,
        "name": name,
        "tcp": True,
        "unixSockets": True,
        "shell": False,
        "exit": True,
        "emptyNS": ["network"],
    }
