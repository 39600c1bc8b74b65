# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unpacking what a checkpoint holds into a container that was made from it, and into its mounts.

Private to the collection fog.migration.
"""

from __future__ import annotations

import json
import os
import shutil

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import restore_notes
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import Manifest
from ansible_collections.fog.migration.plugins.module_utils.docker import api, mounts, storage_drivers
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive as _archive
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log, snapshot


class FileLoader:
    """Unpacks the files of one checkpoint.

    :param folder: where the checkpoint lies in clear.
    :param daemon: see C(api.daemon_facts).
    :param ordered: the mounts that may be filled, see C(mounts.ordered); None where the checkpoint says which.
    """

    def __init__(
        self,
        client: api.CheckpointClient,
        folder: str,
        manifest: Manifest,
        daemon: dict,
        ordered: list[dict] | None = None,
    ) -> None:
        self.client = client
        self.folder = folder
        self.manifest = manifest
        self.daemon = daemon
        self.ordered = None if ordered is None else [mounts.Ordered(**one) for one in ordered]

    def require_ordered(self) -> None:
        """Returns when the checkpoint fills nothing but what was ordered.

        :raises MigrationError: when it would.
        """
        if self.ordered is not None:
            mounts.require_ordered(self.ordered, self.manifest.mounts or {})

    def volumes(self) -> list[dict]:
        """How the container's named volumes were made."""
        try:
            with open(os.path.join(self.folder, mounts.VOLUMES), encoding="utf-8") as stream:
                return json.load(stream)
        except FileNotFoundError:
            return []
        except (ValueError, RecursionError) as error:
            raise MigrationError(f"the checkpoint does not describe its volumes ({error!r})") from error

    def fill_container(self, container_id: str) -> None:
        """Unpacks all that the checkpoint has of a container into the one that was made from it."""
        inspect = self.client.inspect_container(container_id)
        self._apply_rootfs(inspect)
        self.fill_mounts(mounts.of_container(inspect))
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
        self.fill_mounts(self._mounts_here(inspect))

    def _mounts_here(self, inspect: dict) -> list[dict]:
        """The mounts that have a name or a path, as they are on this host."""
        named = [one for one in mounts.of_container(inspect) if not one["anonymous"]]
        return [
            dict(one, source=self.client.inspect_volume(one["name"])["Mountpoint"]) if one["type"] == "volume" else one
            for one in named
        ]

    def fill_mounts(self, here: list[dict]) -> None:
        """Unpacks what the checkpoint has of volumes and folders into those here.

        :param here: see C(mounts.of_container), with the folders or files of this host.
        """
        self._require_what_was_ordered(here)
        sources = {one["destination"]: one["source"] for one in here}
        differences, since = self.manifest.differences or [], self.manifest.since
        if differences and not (since and restore_notes.is_filled(since)):
            raise MigrationError("the checkpoint has only what has changed in volumes that were not filled here before")
        for place, archive in (self.manifest.mounts or {}).items():
            # What has no file in it comes over the channel of a live migration.
            if archive in self.manifest.files:
                self._fill_mount(place, archive, sources[place], place in differences)

    def _require_what_was_ordered(self, here: list[dict]) -> None:
        orders = {one.place: one for one in self.ordered or []}
        for mount in here:
            order = orders.get(mount["destination"])
            if order and not order.is_filled_by(mount):
                raise MigrationError(f"there is {mount['source']} where the {order} was ordered to be filled")

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
