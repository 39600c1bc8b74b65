# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unpacking what a checkpoint holds into a container that was made from it, and into its mounts.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import shutil

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import restore_notes
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import Manifest
from ansible_collections.fog.migration.plugins.module_utils.docker import api, mounts, storage_drivers
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive as _archive
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log, snapshot
from ansible_collections.fog.migration.plugins.module_utils.validate import load_json_file


class FileLoader:
    """Unpacks the files of one checkpoint.

    :param folder: where the checkpoint lies in clear.
    :param daemon: see C(api.daemon_facts).
    """

    def __init__(self, client: api.CheckpointClient, folder: str, manifest: Manifest, daemon: dict) -> None:
        self.client = client
        self.folder = folder
        self.manifest = manifest
        self.daemon = daemon

    def volumes(self) -> list[dict]:
        """How the container's named volumes were made.

        :raises MigrationError: when the file does not tell that.
        """
        path = os.path.join(self.folder, mounts.VOLUMES)
        try:
            volumes = load_json_file(path)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise MigrationError(f"{path} cannot be read ({error})", "", "take a new checkpoint") from error
        if not isinstance(volumes, list) or not all(
            isinstance(one, dict) and isinstance(one.get("Name"), str) for one in volumes
        ):
            raise MigrationError(f"{path} does not describe volumes", "", "take a new checkpoint")
        return volumes

    def fill_container(self, container_id: str) -> None:
        """Unpacks all that the checkpoint has of a container into the one that was made from it."""
        inspect = self.client.inspect_container(container_id)
        self._apply_rootfs(inspect)
        self.fill_mounts(mounts.sources(inspect))
        self._apply_log(container_id)

    def fill_replacement(self, container_id: str, old: dict) -> None:
        """Unpacks what a container lacks that was made from the checkpoint and has the volumes of another one.

        :param old: the inspect data of that one, which has ended; its log is told on.
        """
        self._apply_rootfs(self.client.inspect_container(container_id))
        container_log.save(old, self._log_of(container_id))

    def fill_volumes(self, inspect: dict) -> None:
        """Unpacks what the checkpoint has of volumes and folders, before there is a container.

        :param inspect: the container's inspect data when the checkpoint was taken.
        """
        self.fill_mounts(self._sources_here(inspect))

    def _sources_here(self, inspect: dict) -> dict[str, str]:
        """The folder or file of this host behind each place of a mount that has a name or a path."""
        named = [one for one in mounts.of_container(inspect) if not one["anonymous"]]
        return {
            one["destination"]: self.client.inspect_volume(one["name"])["Mountpoint"]
            if one["type"] == "volume"
            else one["source"]
            for one in named
        }

    def fill_mounts(self, sources: dict[str, str]) -> None:
        """Unpacks what the checkpoint has of volumes and folders into those here.

        :param sources: the folder or file of this host behind each place.
        """
        differences, since = self.manifest.differences or [], self.manifest.since
        if differences and not (since and restore_notes.is_filled(since)):
            raise MigrationError("the checkpoint has only what has changed in volumes that were not filled here before")
        for place, archive in (self.manifest.mounts or {}).items():
            # What has no file in it comes over the channel of a live migration.
            if archive in self.manifest.files:
                self._fill_mount(place, archive, sources[place], place in differences)

    def _fill_mount(self, place: str, archive: str, source: str, is_difference: bool) -> None:
        folder, only = _archive.split(source)
        if bool(only) != (place in (self.manifest.files_alone or [])):
            raise MigrationError(f"{source} has to be a {'folder' if only else 'file'} as at the source")
        try:
            if not only and not is_difference:
                _archive.empty(folder)
            _archive.apply(os.path.join(self.folder, archive), folder, only=only)
        except Refused as error:
            raise MigrationError(f"the content of {place} cannot be made ({error})") from error

    def _apply_rootfs(self, inspect: dict) -> None:
        archive = os.path.join(self.folder, snapshot.ARCHIVE)
        if not os.path.exists(archive):
            return
        storage = storage_drivers.of_container(inspect, self.daemon["root"])
        if storage is None:
            raise MigrationError(
                f"the root file system diff cannot be put into the storage driver {self.daemon['storage_driver']}, "
                f"but into {', '.join(storage_drivers.DRIVERS)}"
            )
        try:
            _archive.apply(archive, storage.folder, storage.is_layer)
        except Refused as error:
            raise MigrationError(f"the container's root file system cannot be made ({error})") from error

    def _apply_log(self, container_id: str) -> None:
        saved = os.path.join(self.folder, container_log.NAME)
        if os.path.exists(saved):
            target = self._log_of(container_id)
            shutil.copyfile(saved, target)
            os.chmod(target, 0o640)

    def _log_of(self, container_id: str) -> str:
        """The file of the log of a container that was not started yet: Docker goes on behind what is in it then."""
        folder = api.require_local(self.daemon["root"], container_id)
        return os.path.join(folder, f"{container_id}-json.log")
