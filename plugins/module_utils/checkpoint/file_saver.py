# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saving a container's files, the content of its mounts and its log into the folder of a checkpoint.

Private to the collection fog.migration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import Manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.target import (
    NOTHING_CHANGED,
    STILL_RUNS,
    Target,
)
from ansible_collections.fog.migration.plugins.module_utils.docker import api, etc_files, mounts, storage_drivers
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive as _archive
from ansible_collections.fog.migration.plugins.module_utils.filesystem import blocks as _blocks
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log, roots
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot as _snapshot


def checkpoint_before(folder: str | None, target: Target) -> Manifest | None:
    """The manifest of the checkpoint since which only the changes are to be saved; None where there is none.

    :raises MigrationError: when it is of another container.
    """
    if not folder:
        return None
    before = manifest.load(folder)
    if before.container.id != target.id:
        raise MigrationError(
            f"{folder} is of another container ({before.container.name})",
            NOTHING_CHANGED,
            "leave it out, or make one of this container",
        )
    return before


class FileSaver:
    """Saves the files of one container. Where these are is looked up when this is made, while the container runs.

    :param target: with its storage.
    :param folder: of the checkpoint that is being made.
    :param before: the manifest of the checkpoint in I(since); of the mounts that it has, only changes are saved.
    :raises MigrationError: when something else has the path of a mount by now, or could be given it.
    """

    def __init__(
        self,
        client: api.CheckpointClient,
        target: Target,
        folder: str,
        places: list[str],
        since: str = "",
        before: Manifest | None = None,
    ) -> None:
        self.client = client
        self.target = target
        self.folder = folder
        self.places = places
        self.since = since
        self.before = (before.mounts if before else None) or {}
        there = mounts.of_container(target.inspect)
        try:
            self._roots = {one["destination"]: self._held(one) for one in there if one["destination"] in places}
            self._layer = roots.hold(target.storage.folder) if target.storage else None
        except Refused as error:
            remedy = "start the container again, or leave this mount out of what moves"
            raise MigrationError(str(error), STILL_RUNS, remedy) from error

    def _held(self, mount: dict[str, Any]) -> roots.Root:
        root, process = roots.hold(mount["source"]), self.target.inspect["State"].get("Pid") or 0
        if process and mount["type"] == "bind":
            roots.require_mounted(root, process, mount["destination"])
        return root

    def close(self) -> None:
        """Lets go of the files."""
        for root in [*self._roots.values(), *([self._layer] if self._layer else [])]:
            root.close()

    def save_frozen(self) -> dict[str, str]:
        """Saves what a container that stands still has in its root file system and its mounts.

        :returns: the archives of the mounts, by mount point.
        """
        storage = self.target.storage
        if storage and self._layer:
            self._save_storage(storage, self._layer)
        self._save_etc()
        return {place: self._save_mount(place, f"mount-{number}.diff") for number, place in enumerate(self.places)}

    def _save_etc(self) -> None:
        """Saves the files in its /etc that Docker makes."""
        path = os.path.join(self.folder, etc_files.FILE)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
            json.dump(etc_files.read(self.target.inspect).to_json(), stream)

    def _save_mount(self, place: str, archive: str) -> str:
        root, before = self._roots[place], self.before.get(place)
        now = root.snapshot(place=place)
        changed, blocks = _snapshot.Difference([], sorted(now)), None
        if before:
            snapshot, checksums = self._beside(self.since, before)
            changed, blocks = _snapshot.difference(_snapshot.load(snapshot)[1], now), _blocks.Blocks.load(checksums)
        self._save(root, changed.made, archive, removed=changed.removed, blocks=blocks)
        return archive

    def save_log(self) -> None:
        """Saves the log so far.

        :raises MigrationError: when it is kept by another log driver.
        """
        if not container_log.save(self.target.inspect, os.path.join(self.folder, container_log.NAME)):
            raise MigrationError(
                f"the log of {self.target.called} is not kept by the log driver {container_log.DRIVER}"
            )

    def save_running_rootfs(self) -> None:
        """Saves the root file system of a container that runs on.

        With a snapshot from before it is read: what is written meanwhile counts as changed, and travels later.
        """
        storage = self.target.storage
        if storage and self._layer:
            processes = self.target.processes("be moved live", "move it in cold mode")
            held = self._save_storage(storage, self._layer, processes, runs=True)
            _snapshot.store(storage.folder, held, os.path.join(self.folder, _snapshot.SNAPSHOT))

    def save_running_mounts(self) -> dict[str, str]:
        """Saves what a container that runs on has in its mounts, all but anonymous volumes.

        Beside each archive is what tells what has changed since.

        :returns: the archives, by mount point.
        """
        saved: dict[str, str] = {}
        for one in mounts.of_container(self.target.inspect):
            place = one["destination"]
            if one["anonymous"] or place not in self.places:
                continue
            archive, blocks = f"mount-{len(saved)}.diff", _blocks.Blocks()
            processes = self.target.processes("be saved while it runs", "make a whole checkpoint of it")
            before = self._roots[place].snapshot(processes, place)
            seen = self._save(self._roots[place], before, archive, blocks=blocks, runs=True)
            held = _snapshot.held(before, seen)
            snapshot, checksums = self._beside(self.folder, archive)
            _snapshot.store(one["source"], held, snapshot)
            blocks.store(checksums)
            saved[place] = archive
        return saved

    def _save_storage(
        self, storage: storage_drivers.Storage, root: roots.Root, processes: Iterable[int] = (), runs: bool = False
    ) -> dict[bytes, _snapshot.Entry]:
        """Saves what differs from the image; what the destination has then.

        :param root: of the storage.
        :param processes: the container's, if they run.
        :param runs: whether the container goes on meanwhile.
        """
        entries = root.snapshot(processes)
        if storage.is_layer:
            return _snapshot.held(entries, self._save(root, entries, runs=runs))
        changes = storage_drivers.changes(entries, self.client.diff(self.target.id) or [])
        seen = self._save(root, changes.names, layer=False, hidden=changes.hidden, runs=runs)
        as_in_image = {name: entry for name, entry in entries.items() if name not in changes.names}
        return {**as_in_image, **_snapshot.held(entries, seen)}

    def _save(
        self, root: roots.Root, names: Iterable[bytes], archive: str = _snapshot.ARCHIVE, **how: Any
    ) -> dict[bytes, os.stat_result]:
        try:
            return _archive.save(root.folder, os.path.join(self.folder, archive), names, **how)
        except OSError as error:
            raise MigrationError(
                f"the root file system diff cannot be saved ({error.strerror or error})",
                STILL_RUNS,
                "mend the cause and try again",
            ) from error

    @staticmethod
    def _beside(folder: str, archive: str) -> list[str]:
        """The files that tell what was there when this archive was made, and of which blocks its large files were."""
        return [os.path.join(folder, archive.replace(".diff", kind)) for kind in (".json", ".blocks")]
