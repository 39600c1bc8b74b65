# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest of a checkpoint: what it holds, byte for byte, and what it was taken from.

C(manifest.json) is written last and names every other file of the checkpoint folder::

    {"format": "fog.migration/checkpoint", "version": 2, "id": "...", ..., "files": {"criu/core-1.img": {"size": 1024,
     "sha256": "...", "mode": 384}}}
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from ansible_collections.fog.migration.plugins.module_utils import validate
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.validate import check_path, is_whole

FORMAT = "fog.migration/checkpoint"
VERSION = 2
MANIFEST = "manifest.json"
# The container's inspect data, and what a container cannot be made without.
CONTAINER = "container.json"
_PARTS = ("Config", "HostConfig")
# A manifest lists a few hundred files; one of this size is not one of ours.
MAX_MANIFEST_BYTES = 16 * 1024 * 1024
_CHUNK = 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What becomes part of a path.
_ID = re.compile(r"[0-9a-f-]{1,64}")


def sha256_file(path: str) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def list_files(folder: str) -> list[str]:
    """Relative paths of all plain files below I(folder) but the manifest, sorted.

    :raises MigrationError: for a symbolic link, device, socket or FIFO: a checkpoint holds none.
    """
    found = []
    for base, folders, names in os.walk(folder):
        for name in names + [name for name in folders if os.path.islink(os.path.join(base, name))]:
            path = os.path.join(base, name)
            relative = os.path.relpath(path, folder)
            if os.path.islink(path) or not os.path.isfile(path):
                raise MigrationError(f"{path} is not a plain file", "nothing was used of it", "remove that checkpoint")
            if relative != MANIFEST:
                found.append(relative)
    return sorted(found)


def describe_files(folder: str) -> dict[str, dict]:
    """Size in bytes, SHA-256 and mode of every file of a checkpoint, by relative path."""
    described = {}
    for relative in list_files(folder):
        path = os.path.join(folder, relative)
        status = os.stat(path)
        described[relative] = {"size": status.st_size, "sha256": sha256_file(path), "mode": status.st_mode & 0o777}
    return described


def total_size(manifest: dict) -> int:
    """Bytes of all files that the manifest lists."""
    return sum(entry["size"] for entry in manifest["files"].values())


def fsync_folder(folder: str) -> None:
    """Makes the names in I(folder) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(folder: str, manifest: dict) -> None:
    """Writes I(manifest) into I(folder), complete or not at all, and on the disk when it returns."""
    temporary = os.path.join(folder, "." + MANIFEST)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=2, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, os.path.join(folder, MANIFEST))
    fsync_folder(folder)


def _complaint(manifest: object) -> str | None:
    """Why this is not a manifest that can be trusted to describe a checkpoint, or None."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return "it is not a checkpoint's manifest"
    if manifest.get("version") != VERSION:
        return f"it has format version {manifest.get('version')!r}, this collection reads version {VERSION}"
    if not isinstance(manifest.get("container"), dict) or not isinstance(manifest.get("files"), dict):
        return "it lists no container or no files"
    return _complaint_of_files(manifest["files"]) or _complaint_of_facts(manifest)


def _complaint_of_files(files: dict) -> str | None:
    for relative, entry in files.items():
        problem = check_path(relative)
        if problem:
            return f"it lists {problem}"
        if not isinstance(entry, dict) or not is_whole(entry.get("size")) or entry["size"] >= 1 << 63:
            return f"it gives no size for {relative!r}"
        if not isinstance(entry.get("sha256"), str) or not _SHA256.fullmatch(entry["sha256"]):
            return f"it gives no SHA-256 for {relative!r}"
    return None


def _complaint_of_facts(manifest: dict) -> str | None:
    """What the modules rely on, and what becomes part of a path."""
    container, tags = manifest["container"], manifest["container"].get("image_tags") or []
    if not isinstance(manifest.get("id"), str) or not _ID.fullmatch(manifest["id"]):
        return "it gives no id"
    if not isinstance(manifest.get("name"), str) or not validate.NAME.fullmatch(manifest["name"]):
        return "it gives no name of a checkpoint"
    if not all(isinstance(manifest.get(key), str) for key in ("created", "architecture")):
        return "it does not tell when and on what it was made"
    if not isinstance(manifest.get("exit"), bool) or not isinstance(manifest.get("statistics", {}), dict):
        return "it does not tell how it was made"
    if not all(isinstance(container.get(key), str) for key in ("id", "name", "image")):
        return "it does not tell of which container it is"
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return "it gives tags of the image that are not strings"
    mounts = manifest.get("mounts", {})
    if not isinstance(mounts, dict) or not all(one is None or isinstance(one, str) for one in mounts.values()):
        return "it gives mounts that are not strings"
    if not isinstance(manifest.get("files_alone", []), list):
        return "it does not tell which mounts are of a file"
    if not isinstance(manifest.get("differences", []), list):
        return "it does not tell of which mounts it has what has changed"
    if not isinstance(manifest.get("since", ""), str) or not _ID.fullmatch(manifest.get("since", manifest["id"])):
        return "it does not tell since when it has what has changed"
    return None


def parse(text: str, origin: str) -> dict:
    """The manifest in I(text).

    :raises MigrationError: when it is not one, with the reason.
    """
    complaint: str | None
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        complaint = f"it is not JSON ({error})"
    else:
        complaint = _complaint(manifest)
    if complaint:
        raise MigrationError(
            f"{origin} cannot be used: {complaint}", "nothing was restored from it", "take a new checkpoint"
        )
    return manifest


def load(folder: str) -> dict:
    """Reads and checks the form of the manifest of the checkpoint in I(folder) (not the files that it lists).

    :raises MigrationError: when there is none, or when it is not one.
    """
    path = os.path.join(folder, MANIFEST)
    if not os.path.isdir(folder):
        raise MigrationError(f"there is no checkpoint at {folder}", "", "check the path")
    if not os.path.isfile(path) or os.path.islink(path):
        raise MigrationError(
            f"{folder} holds no {MANIFEST}, so it is not a complete checkpoint", "", "take a new checkpoint"
        )
    if os.path.getsize(path) > MAX_MANIFEST_BYTES:
        raise MigrationError(f"{path} is larger than any manifest", "nothing was read", "take a new checkpoint")
    with open(path, encoding="utf-8", errors="replace") as stream:
        return parse(stream.read(), path)


def inspected(folder: str, state: str) -> dict:
    """The container's inspect data when the checkpoint in I(folder) was taken.

    :param state: the clause that says in which state things are.
    :raises MigrationError: when they cannot be read, or no container can be made from them.
    """
    path = os.path.join(folder, CONTAINER)
    try:
        with open(path, encoding="utf-8") as stream:
            inspect = json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        raise MigrationError(f"{path} cannot be read ({error})", state, "take a new checkpoint") from error
    if not isinstance(inspect, dict) or not all(isinstance(inspect.get(key), dict) for key in _PARTS):
        raise MigrationError(f"{path} does not describe a container", state, "take a new checkpoint")
    return inspect


def problems(folder: str, manifest: dict) -> list[str]:
    """Every difference between the files in I(folder) and what I(manifest) says of them; empty when it is intact."""
    present = set(list_files(folder))
    found = [f"{relative} is not listed in the manifest" for relative in sorted(present - set(manifest["files"]))]
    for relative, entry in sorted(manifest["files"].items()):
        path = os.path.join(folder, relative)
        if relative not in present:
            found.append(f"{relative} is missing")
        elif os.path.getsize(path) != entry["size"]:
            found.append(f"{relative} has {os.path.getsize(path)} bytes instead of {entry['size']}")
        elif sha256_file(path) != entry["sha256"]:
            found.append(f"{relative} has another SHA-256 than the manifest says")
    return found


def require_intact(folder: str, manifest: dict, state: str) -> None:
    """Raises with the first differences when the checkpoint is not, byte for byte, what was written.

    :param state: the clause that says in which state things are.
    """
    found = problems(folder, manifest)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise MigrationError(
            f"the checkpoint {folder} is damaged: {', '.join(found[:3])}{more}",
            state,
            "transfer it again from where it is intact, or take a new checkpoint",
            problems=found,
        )
