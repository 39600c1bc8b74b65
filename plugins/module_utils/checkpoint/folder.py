# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder of a checkpoint: under which name it is made, described, encrypted, and published when it is complete.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import encryption
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import (
    Container,
    Criu,
    Docker,
    Manifest,
)
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.target import NOTHING_CHANGED, Target
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import api, checkpoint_layout, mounts
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.system import files, host, private_folders


class Folder:
    """Where one checkpoint lies.

    :param directory: the folder that holds checkpoints.
    """

    def __init__(self, directory: str, name: str) -> None:
        self.directory = directory
        self.name = name
        # The checkpoint when it is complete, while it is made, and while it is encrypted.
        self.path = os.path.join(directory, name)
        self.partial = os.path.join(directory, f".{name}.partial")
        self.sealed = os.path.join(directory, f".{name}.sealed")

    def exists(self) -> bool:
        """Whether something has the name of the complete checkpoint."""
        return os.path.lexists(self.path)

    @contextlib.contextmanager
    def being_made(self) -> Iterator[None]:
        """Makes the empty folder of a checkpoint, which is locked until the end: a recovery waits for that.

        :raises MigrationError: when others than root could have a hand in it.
        """
        private_folders.make(self.directory)
        shutil.rmtree(self.partial, ignore_errors=True)
        os.mkdir(self.partial, 0o700)
        os.mkdir(os.path.join(self.partial, "criu"), 0o700)
        descriptor = os.open(self.partial, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def not_in_use(self) -> Iterator[None]:
        """Locks the complete checkpoint as a restore does.

        :raises MigrationError: when a restore from it is under way.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            if not files.lock(descriptor):
                raise MigrationError(f"a restore from {self.path} is under way", NOTHING_CHANGED, "wait for its end")
            yield
        finally:
            os.close(descriptor)

    def drop_partial(self) -> None:
        """Removes what is not complete: it must not be taken for something usable."""
        shutil.rmtree(self.partial, ignore_errors=True)

    def publish(self, manifest: Manifest, key: str | None) -> Manifest:
        """Gives the complete checkpoint its final name in one step.

        :param key: to encrypt it with.
        :returns: its manifest, which is another one if it is encrypted.
        """
        _manifest.write(self.partial, manifest)
        ready = self.partial
        if key:
            ready = self.sealed
            manifest = encryption.seal(self.partial, manifest, key, ready)
        if self.exists():
            shutil.rmtree(self.path)
        os.rename(ready, self.path)
        if ready != self.partial:
            shutil.rmtree(self.partial)
        _manifest.fsync_folder(self.directory)
        return manifest

    def encrypt(self, manifest: Manifest, key: str) -> Manifest:
        """Puts an encrypted checkpoint in the place of a plain one; its manifest."""
        private_folders.require(self.directory)
        with self.not_in_use():
            manifest = encryption.seal(self.path, manifest, key, self.sealed)
            shutil.rmtree(self.partial, ignore_errors=True)
            os.rename(self.path, self.partial)
            os.rename(self.sealed, self.path)
            shutil.rmtree(self.partial)
            _manifest.fsync_folder(self.directory)
        return manifest


def describe(
    client: api.CheckpointClient, folder: Folder, target: Target, params: dict, begin: float, held: dict | None = None
) -> Manifest:
    """Writes how the container and its volumes are made, and returns the manifest of all files that are there.

    :param begin: when the checkpoint began.
    :param held: the restart policy that the container has, where another one is set for now.
    """
    image = client.inspect_image(target.inspect["Image"])
    _write_json(folder, _manifest.CONTAINER, _with_policy(target.inspect, held))
    _save_volumes(client, folder, target.inspect, params)
    statistics = checkpoint_layout.find_file(os.path.join(folder.partial, "criu"), "stats-dump")
    facts = host.facts()
    return Manifest(
        id=str(uuid.uuid4()),
        name=folder.name,
        created=datetime.datetime.fromtimestamp(begin, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        exit=not params["leave_running"],
        container=Container(target.id, target.name, target.inspect["Image"], image.get("RepoTags") or []),
        docker=Docker(**{key: target.daemon[key] for key in ("version", "api_version", "storage_driver")}),
        criu=Criu(target.criu_version),
        host=facts["hostname"],
        kernel=facts["kernel"],
        architecture=facts["architecture"],
        cpu_features=facts["cpu_features"],
        files_alone=_single_files(target.inspect, params["mounts"]),
        statistics=tool.read_stats(statistics) if statistics else {},
        files=_manifest.describe_files(folder.partial),
    )


def _with_policy(inspect: dict, policy: dict | None) -> dict:
    return dict(inspect, HostConfig=dict(inspect["HostConfig"], RestartPolicy=policy)) if policy else inspect


def _single_files(inspect: dict, places: list[str]) -> list[str]:
    """Which of the mounts at these places are of a single file."""
    sources = mounts.sources(inspect)
    return [place for place in places if mounts.is_file(sources[place])]


def _save_volumes(client: api.CheckpointClient, folder: Folder, inspect: dict, params: dict) -> None:
    """How its volumes were made; and which of them move, so that the source lets go of them at the end."""
    volumes = [one for one in mounts.of_container(inspect) if one["type"] == "volume"]
    _write_json(folder, mounts.VOLUMES, [client.inspect_volume(one["name"]) for one in volumes if not one["anonymous"]])
    moving = [one["name"] for one in volumes if one["destination"] in params["mounts"]]
    journal.note(params["migration"], moving={"volumes": moving})


def _write_json(folder: Folder, name: str, value: object) -> None:
    descriptor = os.open(os.path.join(folder.partial, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=2, sort_keys=True)


def summary(manifest: Manifest) -> dict:
    """The return values that every result about an existing checkpoint has."""
    left_out = ("files", "statistics", "cpu_features", "encryption")
    return {
        "manifest": {key: value for key, value in manifest.to_json().items() if key not in left_out},
        "encrypted": bool(manifest.encryption),
        "statistics": manifest.statistics or {},
        "bytes_checkpoint": manifest.total_size,
        "files": len(manifest.files),
    }
