# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making, encrypting and deleting the checkpoint of a container.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import replace

from ansible_collections.fog.migration.plugins.module_utils import validate
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import encryption, file_saver
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import folder as _folder
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import target as _target
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.docker_dump import DockerDump
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.folder import summary
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.freeze import Freeze, StillDumping
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import Manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.runtime_dump import RuntimeDump
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.target import NOTHING_CHANGED, Target
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import api, restart_policy, ways
from ansible_collections.fog.migration.plugins.module_utils.docker.reader import socket_of
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.request import Request

STATES = ("present", "absent", "prepared", "content", "encrypted")
OTHER_NAME = "give another name, or force: true to replace it"


def run(request: Request, client: api.CheckpointClient) -> dict:
    """Does what is asked of a checkpoint; the result of the module.

    :raises MigrationError: when that cannot be.
    """
    require_valid(request.params)
    writer = Writer(request, client)
    states = {
        "present": writer.present,
        "absent": writer.absent,
        "prepared": writer.running,
        "content": writer.running,
        "encrypted": writer.encrypted,
    }
    return states[request.params["state"]]()


def require_valid(params: dict) -> None:
    """Raises with the reason where the parameters cannot be used."""
    refusal = validate.name_refusal("the checkpoint", params["name"])
    if refusal:
        raise MigrationError(refusal, NOTHING_CHANGED, "give another name")
    if not os.path.isabs(params["directory"]):
        raise MigrationError(
            f"the directory {params['directory']!r} is not an absolute path", NOTHING_CHANGED, "give one"
        )
    key, state = params["encryption_key"], params["state"]
    if key is None:
        return
    if state not in ("present", "encrypted"):
        raise MigrationError(f"an encryption_key has no use with state {state}", NOTHING_CHANGED, "leave it out")
    refusal = encryption.key_refusal(key)
    if refusal:
        raise MigrationError(refusal, NOTHING_CHANGED, "give a longer one")
    encryption.program()


class Writer:
    """Makes, encrypts or deletes one checkpoint."""

    def __init__(self, request: Request, client: api.CheckpointClient) -> None:
        self.request = request
        self.params = request.params
        self.check_mode = request.check_mode
        self.client = client
        self.folder = _folder.Folder(self.params["directory"], self.params["name"])
        self.docker_socket = socket_of(self.params)

    def absent(self) -> dict:
        """Deletes the checkpoint."""
        path, there = self.folder.path, self.folder.exists()
        if there and not os.path.isfile(os.path.join(path, _manifest.MANIFEST)):
            raise MigrationError(
                f"{path} holds no {_manifest.MANIFEST}, so it is no checkpoint of ours",
                "nothing was deleted",
                "check the path",
            )
        if there and not self.check_mode:
            shutil.rmtree(path)
        diff = {"before": {"checkpoint": "present" if there else "absent"}, "after": {"checkpoint": "absent"}}
        return {"changed": there, "path": path, "diff": diff}

    def encrypted(self) -> dict:
        """Encrypts a checkpoint that is there."""
        path, key = self.folder.path, self.params["encryption_key"]
        manifest = _manifest.load(path)
        if manifest.encryption:
            encryption.authenticate(path, manifest, key)
            return self._unchanged(manifest)
        _manifest.require_intact(path, manifest, NOTHING_CHANGED)
        if not self.check_mode:
            manifest = self.folder.encrypt(manifest, key)
        diff = {"before": {"encrypted": False}, "after": {"encrypted": True}}
        return {"changed": True, "path": path, "diff": diff, **summary(manifest), "encrypted": True}

    def _unchanged(self, manifest: Manifest) -> dict:
        return {"changed": False, "path": self.folder.path, "diff": {}, **summary(manifest)}

    # Of a container that runs on

    def running(self) -> dict:
        """Makes a checkpoint without the memory; the container is not touched."""
        target = _target.find(self.client, self.params["container"])
        if self.folder.exists() and not self.params["force"]:
            return self._running_already(target)
        # Docker has no part in it, so it needs no experimental mode.
        _target.require_possible(target, goes_on=True, way=ways.THROUGH_RUNTIME)
        target = _target.with_storage(self.client, target)
        _target.require_mounts(target, self.params["mounts"])
        diff = {"before": {"checkpoint": "absent"}, "after": {"checkpoint": "prepared"}}
        result = {"changed": True, "path": self.folder.path, "diff": diff}
        if not self.check_mode:
            with self.folder.being_made():
                try:
                    result.update(summary(self._save_running(target)))
                finally:
                    self.folder.drop_partial()
        return result

    def _running_already(self, target: Target) -> dict:
        manifest = _manifest.load(self.folder.path)
        if manifest.prepared and manifest.container.id == target.id:
            return self._unchanged(manifest)
        raise MigrationError(
            f"{self.folder.path} is there already and no prepared checkpoint of {target.called}",
            NOTHING_CHANGED,
            OTHER_NAME,
        )

    def _save_running(self, target: Target) -> Manifest:
        saved: dict[str, str | None] = {}
        with contextlib.closing(
            file_saver.FileSaver(self.client, target, self.folder.partial, self.params["mounts"])
        ) as saver:
            if self.params["state"] == "prepared":
                saver.save_running_rootfs()
                # Their content comes over the channel.
                saved.update(dict.fromkeys(self.params["mounts"]))
            else:
                saved.update(saver.save_running_mounts())
        manifest = _folder.describe(self.client, self.folder, target, self.params, time.time())
        self.folder.publish(replace(manifest, prepared=True, mounts=saved), self.params["encryption_key"])
        return manifest

    # With its memory

    def present(self) -> dict:
        """Makes a whole checkpoint."""
        target = _target.find(self.client, self.params["container"])
        if self.folder.exists() and not self.params["force"]:
            return self._present_already(target)
        way = ways.way(target.daemon, bool(self.docker_socket))
        after = self._after(target, way)
        _target.require_possible(target, after != "exited", way)
        target = _target.with_storage(self.client, target)
        _target.require_mounts(target, self.params["mounts"])
        before = file_saver.checkpoint_before(self.params["since"], target)
        result = {"changed": True, "path": self.folder.path, "diff": self._diff(target, after)}
        if not self.check_mode:
            with self.folder.being_made():
                result.update(self._make(target, self._freeze(target, way), before))
        return result

    def _after(self, target: Target, way: str) -> str:
        """How the container is afterwards, as Docker says it.

        Within a migration it stays paused, if that is up to us: until it is settled, it may have to go on here.
        """
        if self.params["leave_running"]:
            return target.inspect["State"].get("Status", "running")
        return "paused" if way == ways.THROUGH_RUNTIME and self.params["migration"] else "exited"

    def _freeze(self, target: Target, way: str) -> Freeze:
        params = self.params
        facts = self.client, target, self.folder, params["leave_running"], params["checkpoint_timeout"]
        if way == ways.THROUGH_RUNTIME and self.docker_socket:
            return RuntimeDump(self.docker_socket, bool(params["migration"]), *facts)
        return DockerDump(*facts)

    def _present_already(self, target: Target) -> dict:
        path = self.folder.path
        manifest = _manifest.load(path)
        if manifest.container.id != target.id:
            problem = f"{path} is a checkpoint of another container ({manifest.container.name})"
        elif _runs(target.inspect) and not self.params["leave_running"]:
            made = manifest.created
            problem = f"{path} was made at {made}, and the container {target.name} was started again since"
        elif self.params["encryption_key"] and not manifest.encryption:
            raise MigrationError(f"{path} is there already and not encrypted", NOTHING_CHANGED, "say state: encrypted")
        else:
            return self._unchanged(manifest)
        raise MigrationError(problem, NOTHING_CHANGED, OTHER_NAME)

    def _diff(self, target: Target, after: str) -> dict:
        status = target.inspect["State"].get("Status", "running")
        there = "present" if self.folder.exists() else "absent"
        return {
            "before": {"checkpoint": there, "container": status},
            "after": {"checkpoint": "present", "container": after},
        }

    def _make(self, target: Target, freeze: Freeze, before: Manifest | None) -> dict:
        """Freezes the container and writes the checkpoint; whatever fails, the container runs again afterwards."""
        held = restart_policy.to_hold(target.inspect, self.params["leave_running"])
        try:
            _target.hold_restart_policy(self.client, self.params["migration"], target.id, held)
            journal.note(self.params["migration"], stage="checkpoint")
            with freeze.prepared():
                result = self._freeze_and_write(target, freeze, before, held)
        except StillDumping:
            raise
        except Exception as error:
            state = self._undo(target, freeze, held)
            self.folder.drop_partial()
            if isinstance(error, MigrationError):
                error.state = state
                raise
            raise MigrationError(
                f"the checkpoint of {target.called} failed ({api.api_message(error)})" + tool.reason(freeze.criu_log),
                state,
                "mend the cause and try again",
                criu_log=freeze.criu_log,
            ) from error
        # Nothing is undone any more: the checkpoint is complete.
        freeze.finish()
        return result

    def _freeze_and_write(self, target: Target, freeze: Freeze, before: Manifest | None, held: dict | None) -> dict:
        places, since = self.params["mounts"], self.params["since"]
        with contextlib.closing(
            file_saver.FileSaver(self.client, target, self.folder.partial, places, since, before)
        ) as saver:
            begin = time.time()
            checkpointed = freeze.take()
            saved = saver.save_frozen()
            if self.params["log"]:
                saver.save_log()
        how = freeze.release()
        if how:
            self.request.warn(f"the container {target.called} {how}")
        files_saved = time.time()
        manifest = _folder.describe(self.client, self.folder, target, self.params, begin, held)
        manifest = replace(manifest, way=freeze.way, mounts=dict(saved))
        if before:
            differences = sorted(set(saved) & set(before.mounts or {}))
            manifest = replace(manifest, since=before.id, differences=differences)
        manifest = self.folder.publish(manifest, self.params["encryption_key"])
        end = time.time()
        seconds = {
            "checkpoint": round(checkpointed - begin, 3),
            "rootfs": round(files_saved - checkpointed, 3),
            "manifest": round(end - files_saved, 3),
            "total": round(end - begin, 3),
        }
        return {"seconds": seconds, "restart_policy_held": held, **summary(manifest)}

    def _undo(self, target: Target, freeze: Freeze, held: dict | None) -> str:
        """Makes the container run again after a failure, with its restart policy.

        :returns: the clause that tells its state.
        """
        try:
            how = freeze.undo()
            if held:
                self.client.update_container(target.id, restart_policy=held)
        except Exception as error:
            kept = os.path.join(self.folder.directory, f"{self.folder.name}.rescued-{int(time.time())}")
            os.rename(self.folder.partial, kept)
            return (
                f"the container is {freeze.left} and could not be resumed ({api.api_message(error)}), "
                f"what was written is kept in {kept}"
            )
        return f"the container {how}"


def _runs(inspect: dict) -> bool:
    """Whether a container is neither stopped nor paused."""
    return bool(inspect["State"].get("Running") and not inspect["State"].get("Paused"))
