# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest of a checkpoint: what it holds, byte for byte, and what it was taken from.

C(manifest.json) is written last and names every other file of the checkpoint folder::

    {"format": "fog.migration/checkpoint", "version": 3, "id": "...", ..., "files": {"criu/core-1.img": {"size": 1024,
     "sha256": "...", "mode": 384}}}
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import typing
from collections.abc import Callable, Collection

from ansible_collections.fog.migration.plugins.module_utils import validate
from ansible_collections.fog.migration.plugins.module_utils.docker import ways
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.validate import (
    are_texts,
    check_path,
    is_text,
    is_whole,
    load_json,
    load_json_file,
)

FORMAT = "fog.migration/checkpoint"
VERSION = 3
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
_T = typing.TypeVar("_T")


# ---------------------------------------------------------------------------------------------------------------------
# What a manifest is


@dataclasses.dataclass(frozen=True)
class File:
    """One file of a checkpoint.

    :param size: bytes.
    :param sha256: in hexadecimal.
    :param mode: its permissions, as a number.
    """

    size: int
    sha256: str
    mode: int | None = None

    @classmethod
    def from_json(cls, value: object, relative: str) -> File:
        """The file that an object of JSON is.

        :param relative: its path in the checkpoint.
        :raises MigrationError: when it is none. The text is a clause about the manifest.
        """
        if not isinstance(value, dict) or not is_whole(value.get("size")) or value["size"] >= 1 << 63:
            raise MigrationError(f"it gives no size for {relative!r}")
        if not isinstance(value.get("sha256"), str) or not _SHA256.fullmatch(value["sha256"]):
            raise MigrationError(f"it gives no SHA-256 for {relative!r}")
        if not is_whole(value.get("mode", 0)):
            raise MigrationError(f"it gives no mode for {relative!r}")
        return _made(cls, value, repr(relative))


@dataclasses.dataclass(frozen=True)
class Container:
    """The container that was checkpointed.

    :param id: its ID at the source.
    :param name: its name there, without a slash.
    :param image: the ID of its image.
    :param image_tags: the tags that the image had there.
    """

    id: str
    name: str
    image: str
    image_tags: list[str] | None = None

    @classmethod
    def from_json(cls, value: object) -> Container:
        """The container that an object of JSON is.

        :raises MigrationError: when it is none. The text is a clause about the manifest.
        """
        if not isinstance(value, dict) or not all(isinstance(value.get(key), str) for key in ("id", "name", "image")):
            raise MigrationError("it does not tell of which container it is")
        if value.get("image_tags") is not None and not are_texts(value["image_tags"]):
            raise MigrationError("it gives tags of the image that are not strings")
        return _made(cls, value, "the container")


@dataclasses.dataclass(frozen=True)
class Docker:
    """The Docker daemon at the source."""

    version: str
    api_version: str
    storage_driver: str

    @classmethod
    def from_json(cls, value: object) -> Docker:
        """The daemon that an object of JSON is.

        :raises MigrationError: when it is none. The text is a clause about the manifest.
        """
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise MigrationError("it does not tell by which Docker it was made")
        return _made(cls, value, "Docker")


@dataclasses.dataclass(frozen=True)
class Criu:
    """CRIU at the source."""

    version: str | None = None

    @classmethod
    def from_json(cls, value: object) -> Criu:
        """The CRIU that an object of JSON is.

        :raises MigrationError: when it is none. The text is a clause about the manifest.
        """
        if not isinstance(value, dict) or not isinstance(value.get("version"), (str, type(None))):
            raise MigrationError("it does not tell by which CRIU it was made")
        return _made(cls, value, "CRIU")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds, and what it was taken from.

    A field that is None is not in the file: the HMAC of an encrypted checkpoint is over exactly the fields that were
    written.
    """

    # A UUID, and the name of the folder.
    id: str
    name: str
    # When it was begun, in UTC, as in C(2026-11-21T04:15:00Z).
    created: str
    # Whether the container was stopped with it.
    exit: bool
    # As C(uname -m) has it, of the source.
    architecture: str
    container: Container
    # By their paths in the folder, which lead nowhere else. The manifest itself is not among them.
    files: dict[str, File]
    docker: Docker | None = None
    criu: Criu | None = None
    # The source's host name, kernel release and features of its processor.
    host: str | None = None
    kernel: str | None = None
    cpu_features: list[str] | None = None
    # CRIU's of the dump: times in microseconds, others in pages. Empty where there were none.
    statistics: dict[str, typing.Any] | None = None
    # By which way the memory was dumped, one of C(ways.WAYS); None without the memory.
    way: str | None = None
    # Whether it is one without the memory, of a container that ran on.
    prepared: bool | None = None
    # By mount point, the archive of what is in it. None where its content is not in the checkpoint.
    mounts: dict[str, str | None] | None = None
    # The mount points at which a single file is mounted.
    files_alone: list[str] | None = None
    # The ID of a checkpoint, and the mount points of which this one has only what has changed since that one.
    since: str | None = None
    differences: list[str] | None = None
    # How it is encrypted, see C(encryption.Encryption). It is not checked here: another method has other fields.
    encryption: dict[str, typing.Any] | None = None
    # Fields that are not known here. They are kept.
    others: dict[str, typing.Any] = dataclasses.field(default_factory=dict)

    @property
    def total_size(self) -> int:
        """Bytes of all files."""
        return sum(one.size for one in self.files.values())

    def to_json(self) -> dict[str, typing.Any]:
        """As an object for JSON, with C(format) and C(version)."""
        told = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "others"}
        told.update({name: _told(told[name]) for name in _NESTED if told[name] is not None})
        told["files"] = {relative: _told(one) for relative, one in self.files.items()}
        told = {name: one for name, one in told.items() if one is not None}
        return {"format": FORMAT, "version": VERSION, **self.others, **told}

    @classmethod
    def from_json(cls, value: object) -> Manifest:
        """The manifest that an object of JSON is.

        :raises MigrationError: when it is none. The text is a clause about it.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise MigrationError("it is not a checkpoint's manifest")
        if value.get("version") != VERSION:
            raise MigrationError(
                f"it has format version {value.get('version')!r}, this collection reads version {VERSION}"
            )
        if not isinstance(value.get("container"), dict) or not isinstance(value.get("files"), dict):
            raise MigrationError("it lists no container or no files")
        told = {name: one for name, one in value.items() if name not in ("format", "version")}
        told["files"] = _files(value["files"])
        for name, is_right, complaint in _CHECKS:
            if not is_right(value[name]) if name in value else name in _REQUIRED:
                raise MigrationError(complaint)
        told.update({name: read(told[name]) for name, read in _NESTED.items() if name in told})
        known = {one.name for one in dataclasses.fields(cls)} - {"others"}
        others = {name: told.pop(name) for name in sorted(set(told) - known)}
        return cls(**told, others=others)


def _told(one: object) -> dict[str, typing.Any]:
    return {name: value for name, value in vars(one).items() if value is not None}


def _made(cls: type[_T], value: dict[str, typing.Any], what: str) -> _T:
    """An object of this dataclass, of which the fields that are there were checked.

    :raises MigrationError: when one is missing or unknown. The text is a clause about the manifest.
    """
    try:
        return cls(**value)
    except TypeError as error:
        raise MigrationError(f"it tells too little or too much of {what}") from error


def _files(value: dict[str, typing.Any]) -> dict[str, File]:
    files = {}
    for relative, one in value.items():
        problem = check_path(relative)
        if problem:
            raise MigrationError(f"it lists {problem}")
        files[relative] = File.from_json(one, relative)
    return files


def _is_id(value: object) -> bool:
    return isinstance(value, str) and bool(_ID.fullmatch(value))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(validate.NAME.fullmatch(value))


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_way(value: object) -> bool:
    return isinstance(value, str) and value in ways.WAYS


def _are_mounts(value: object) -> bool:
    return isinstance(value, dict) and all(one is None or isinstance(one, str) for one in value.values())


_NESTED: dict[str, Callable[[object], object]] = {
    "container": Container.from_json,
    "docker": Docker.from_json,
    "criu": Criu.from_json,
}
_REQUIRED = ("id", "name", "created", "architecture", "exit")
_WHERE, _HOW = "it does not tell when and on what it was made", "it does not tell how it was made"
# What a field can have, and the clause about a manifest in which it has something else.
_CHECKS: tuple[tuple[str, Callable[[object], bool], str], ...] = (
    ("id", _is_id, "it gives no id"),
    ("name", _is_name, "it gives no name of a checkpoint"),
    ("created", is_text, _WHERE),
    ("architecture", is_text, _WHERE),
    ("host", is_text, _WHERE),
    ("kernel", is_text, _WHERE),
    ("cpu_features", are_texts, _WHERE),
    ("exit", _is_flag, _HOW),
    ("way", _is_way, _HOW),
    ("prepared", _is_flag, _HOW),
    ("statistics", _is_object, _HOW),
    ("encryption", _is_object, "it does not tell how it is encrypted"),
    ("mounts", _are_mounts, "it gives mounts that are not strings"),
    ("files_alone", are_texts, "it does not tell which mounts are of a file"),
    ("differences", are_texts, "it does not tell of which mounts it has what has changed"),
    ("since", _is_id, "it does not tell since when it has what has changed"),
)


# ---------------------------------------------------------------------------------------------------------------------
# The folder that it is in


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


def describe_files(folder: str) -> dict[str, File]:
    """Size in bytes, SHA-256 and mode of every file of a checkpoint, by relative path."""
    described = {}
    for relative in list_files(folder):
        path = os.path.join(folder, relative)
        status = os.stat(path)
        described[relative] = File(status.st_size, sha256_file(path), status.st_mode & 0o777)
    return described


def fsync_folder(folder: str) -> None:
    """Makes the names in I(folder) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(folder: str, manifest: Manifest) -> None:
    """Writes I(manifest) into I(folder), complete or not at all, and on the disk when it returns."""
    temporary = os.path.join(folder, "." + MANIFEST)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(manifest.to_json(), stream, indent=2, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(temporary, os.path.join(folder, MANIFEST))
    fsync_folder(folder)


def parse(text: str, origin: str) -> Manifest:
    """The manifest in I(text).

    :raises MigrationError: when it is not one, with the reason.
    """
    try:
        return Manifest.from_json(load_json(text))
    except (ValueError, RecursionError) as error:
        complaint = f"it is not JSON ({error})"
    except MigrationError as error:
        complaint = error.what
    what = f"{origin} cannot be used: {complaint}"
    raise MigrationError(what, "nothing was restored from it", "take a new checkpoint")


def load(folder: str) -> Manifest:
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
        inspect = load_json_file(path)
    except (OSError, ValueError) as error:
        raise MigrationError(f"{path} cannot be read ({error})", state, "take a new checkpoint") from error
    if not isinstance(inspect, dict) or not all(isinstance(inspect.get(key), dict) for key in _PARTS):
        raise MigrationError(f"{path} does not describe a container", state, "take a new checkpoint")
    return inspect


def problems(folder: str, manifest: Manifest, unread: Collection[str] = ()) -> list[str]:
    """Every difference between the files in I(folder) and what I(manifest) says of them; empty when it is intact.

    :param unread: files of which only the size is compared.
    """
    present = set(list_files(folder))
    found = [f"{relative} is not listed in the manifest" for relative in sorted(present - set(manifest.files))]
    for relative, entry in sorted(manifest.files.items()):
        path = os.path.join(folder, relative)
        if relative not in present:
            found.append(f"{relative} is missing")
        elif os.path.getsize(path) != entry.size:
            found.append(f"{relative} has {os.path.getsize(path)} bytes instead of {entry.size}")
        elif relative not in unread and sha256_file(path) != entry.sha256:
            found.append(f"{relative} has another SHA-256 than the manifest says")
    return found


def require_intact(folder: str, manifest: Manifest, state: str, unread: Collection[str] = ()) -> None:
    """Raises with the first differences when the checkpoint is not, byte for byte, what was written.

    :param state: the clause that says in which state things are.
    :param unread: files of which only the size is compared.
    """
    found = problems(folder, manifest, unread)
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise MigrationError(
            f"the checkpoint {folder} is damaged: {', '.join(found[:3])}{more}",
            state,
            "transfer it again from where it is intact, or take a new checkpoint",
            problems=found,
        )
