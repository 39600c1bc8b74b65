# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unpacking what a checkpoint holds into a container that was made from it, and into its mounts.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import restore_notes
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import Manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.recreate import policy_here
from ansible_collections.fog.migration.plugins.module_utils.docker import api, etc_files, mounts, storage_drivers
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive as _archive
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log, roots, snapshot
from ansible_collections.fog.migration.plugins.module_utils.filesystem.roots import Identity
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.validate import load_json_file


class FileLoader:
    """Unpacks the files of one checkpoint.

    :param folder: where the checkpoint lies in clear.
    :param daemon: see C(api.daemon_facts).
    :param migration: the name of the migration that it belongs to; None outside of one.
    :param ordered: the mounts that may be filled, see C(mounts.ordered); None where the checkpoint says which.
    """

    def __init__(
        self,
        client: api.CheckpointClient,
        folder: str,
        manifest: Manifest,
        daemon: dict,
        migration: str | None = None,
        ordered: list[dict] | None = None,
    ) -> None:
        self.client = client
        self.folder = folder
        self.manifest = manifest
        self.daemon = daemon
        self.migration = migration
        # The folders and files of this host that were filled, by place.
        self.binds: dict[str, roots.Root] = {}
        self.ordered = None if ordered is None else [mounts.Ordered(**one) for one in ordered]

    def require_ordered(self) -> None:
        """Returns when the checkpoint fills nothing but what was ordered.

        :raises MigrationError: when it would.
        """
        if self.ordered is not None:
            mounts.require_ordered(self.ordered, self.manifest.mounts or {})

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
        self.fill_mounts({one["destination"]: one for one in mounts.of_container(inspect)})
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
        filled = self.fill_mounts(self._mounts_here(inspect))
        identities = {place: list(identity) for place, identity in filled.items()}
        restore_notes.mark_filled(self.manifest.id, self.migration, identities)

    def _mounts_here(self, inspect: dict) -> dict[str, dict]:
        """The mounts that have a name or a path, by place, see C(mounts.of_container), as they are on this host."""
        named = [one for one in mounts.of_container(inspect) if not one["anonymous"]]
        return {
            one["destination"]: dict(one, source=self.client.inspect_volume(one["name"])["Mountpoint"])
            if one["type"] == "volume"
            else one
            for one in named
        }

    def fill_mounts(self, there: Mapping[str, dict]) -> dict[str, Identity]:
        """Unpacks what the checkpoint has of volumes and folders into those here. Folders of this host stay held.

        :param there: the mounts on this host by place, see C(mounts.of_container).
        :returns: what was filled, by place.
        """
        self._require_what_was_ordered(there)
        # What has no file in it comes over the channel of a live migration.
        archives = {place: one for place, one in (self.manifest.mounts or {}).items() if one in self.manifest.files}
        before = self._filled_before()
        if not archives:
            return {}
        # All of them before the first one is filled, which may be above another one and have a link in that one's path.
        held = self._hold({place: there[place] for place in archives}, before)
        try:
            for place, archive in archives.items():
                harmless = there[place]["type"] == "bind" and not policy_here().bind_privileges
                make = _archive.Harmless if harmless else _archive.Unpacker
                self._fill_mount(place, archive, held[place], make)
            return {place: identity for place, root in held.items() if (identity := root.identity())}
        finally:
            self.binds = {place: root for place, root in held.items() if there[place]["type"] == "bind"}
            for place in set(held) - set(self.binds):
                held[place].close()

    def _require_what_was_ordered(self, there: Mapping[str, dict]) -> None:
        for order in self.ordered or []:
            mount = there.get(order.place)
            if mount and not order.is_filled_by(mount):
                raise MigrationError(f"there is {mount['source']} where the {order} was ordered to be filled")

    def _filled_before(self) -> dict[str, Identity]:
        """What was filled here before, of which the checkpoint has only what has changed."""
        differences, since = self.manifest.differences or [], self.manifest.since
        noted = restore_notes.filled(since, self.migration) if since else {}
        if not set(differences) <= set(noted):
            raise MigrationError("the checkpoint has only what has changed in volumes that were not filled here before")
        return {place: Identity(*noted[place]) for place in differences}

    def _hold(self, there: Mapping[str, dict], before: Mapping[str, Identity]) -> dict[str, roots.Root]:
        """The roots of these mounts, in which nothing is but what was made for this, or filled before."""
        volumes = journal.made_volumes(self.migration)
        made = {place for place, one in there.items() if one["type"] == "volume" and one["name"] in volumes}
        written = roots.identities(mounts.writable(self.client.containers(all=True)))
        try:
            held = {place: roots.hold(one["source"], written) for place, one in there.items()}
            roots.require_unused(held, made.union(before))
        except Refused as error:
            remedy = "remove it, or leave this mount out of what moves"
            raise MigrationError(f"the content of its mounts cannot be made ({error})", "", remedy) from error
        for place, root in held.items():
            if place in before and root.identity() != before[place]:
                raise MigrationError(f"{root.path} is not any more what was filled, something else has its place")
            if place in made and place not in before:
                root.empty()
        return held

    def _fill_mount(self, place: str, archive: str, root: roots.Root, make: type[_archive.Unpacker]) -> None:
        if bool(root.only) != (place in (self.manifest.files_alone or [])):
            raise MigrationError(f"{root.path} has to be a {'folder' if root.only else 'file'} as at the source")
        try:
            _archive.apply(os.path.join(self.folder, archive), root.folder, only=root.only, make=make)
        except Refused as error:
            raise MigrationError(f"the content of {place} cannot be made ({error})") from error

    def require_in_place(self) -> None:
        """Returns when what was filled is what has its path still.

        :raises MigrationError: when something else has it.
        """
        try:
            for root in self.binds.values():
                root.require_in_place()
        except Refused as error:
            raise MigrationError(str(error)) from error

    def close(self) -> None:
        """Lets go of what was filled."""
        for root in self.binds.values():
            root.close()

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
            with roots.hold(storage.folder) as root:
                _archive.apply(archive, root.folder, storage.is_layer)
        except Refused as error:
            raise MigrationError(f"the container's root file system cannot be made ({error})") from error

    def etc(self, container_id: str) -> etc_files.Placing | None:
        """The files in its /etc that Docker makes; None in a checkpoint from before these were saved.

        :raises Refused: when they cannot be read.
        """
        path = os.path.join(self.folder, etc_files.FILE)
        if not os.path.exists(path):
            return None
        try:
            known = etc_files.EtcFiles.from_json(load_json_file(path))
        except ValueError as error:
            raise Refused(f"the checkpoint's {etc_files.FILE} cannot be read ({error})") from error
        return etc_files.Placing(api.require_local(self.daemon["root"], container_id), known)

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
