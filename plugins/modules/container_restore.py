#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_restore
short_description: Restore a Docker container from a checkpoint
version_added: 0.1.0
description:
  - Makes a container again from the configuration in a checkpoint of M(fog.migration.container_checkpoint) and starts
    it from there, so that it goes on where it was frozen.
  - The container gets the image by ID, and command, environment, labels, limits, ports, mounts, networks and whatever
    else Docker's inspect data told of it.
  - Where the container of the checkpoint itself is still there, stopped, it is resumed in place.
  - The checkpoint is verified against its manifest first. A restore that fails or does not end in time leaves no
    container behind.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.docker
  - fog.migration.docker.actiongroup
attributes:
  check_mode:
    support: full
    description:
      - The checkpoint is verified and all that would refuse the restore is checked, nothing is created or started.
  diff_mode:
    support: full
    description: Shows the state of the container before and after.
  idempotent:
    support: full
    description:
      - A container that runs and was restored from this very checkpoint is left alone, and so are volumes that were
        filled from it.
options:
  path:
    description:
      - Folder of the checkpoint.
    type: path
    required: true
  name:
    description:
      - Name of the container; the name that it had when it was checkpointed if not given.
    type: str
  state:
    description:
      - V(present) restores the container.
      - V(absent) takes a restore back. It waits for one that is under way from the same O(path), removes the container
        that was made from this checkpoint, and sees to it that a restore that was ordered before does not begin after.
        The container that the checkpoint was taken of, and any other container of the same name, is never removed.
      - V(filled) makes the volumes and folders of which O(path) has the content, and fills them, without any container;
        O(path) was made with C(state=content) of M(fog.migration.container_checkpoint).
      - V(armed) makes the container and does not start it, so that a live migration can restore into it, through the
        OCI runtime of the role C(fog.migration.runtime). O(path) may be a prepared checkpoint, which has no memory.
        O(state=present) gives the container its restart policy, once it runs.
    type: str
    choices: [present, absent, armed, filled]
    default: present
  migration:
    description:
      - Name of the migration in whose journal this is noted, see M(fog.migration.migration_journal). Nothing is
        restored when that migration has ended.
    type: str
  encryption_key:
    description:
      - The key of an encrypted checkpoint, see M(fog.migration.container_checkpoint).
      - It is decrypted into a private folder beside it, C(.NAME.opened), which is removed at the end, and before the
        next restore if this one was killed.
      - A checkpoint that is not encrypted is refused when a key is given, for it is not what it is taken for.
    type: str
  restore_timeout:
    description:
      - Seconds that the restore may take. CRIU can hang for ever on images that are damaged. After this time, it and
        what it has restored so far are killed.
    type: int
    default: 600
notes:
  - The image has to be there already, and so do the networks. Volumes are made as they were; their content, and that of
    bind mounts, comes with the checkpoint where it was saved with it, and has to be there already where it was not.
seealso:
  - module: fog.migration.container_checkpoint
  - module: fog.migration.checkpoint_transfer
"""

EXAMPLES = r"""
- name: Restore the container under its own name
  fog.migration.container_restore:
    path: /var/lib/fog-migration/checkpoints/checkpoint100

- name: Fill its volumes before it comes
  fog.migration.container_restore:
    path: /var/lib/fog-migration/checkpoints/before
    state: filled

- name: Take the restore back
  fog.migration.container_restore:
    path: /var/lib/fog-migration/checkpoints/checkpoint100
    state: absent

- name: Restore an encrypted checkpoint
  fog.migration.container_restore:
    path: /var/lib/fog-migration/checkpoints/evening
    encryption_key: "{{ vault_checkpoint_key }}"

- name: Restore it as a clone, as the thesis did
  fog.migration.container_restore:
    path: /var/lib/fog-migration/checkpoints/checkpoint100
    name: looper100-clone
    restore_timeout: 60
"""

RETURN = r"""
container:
  description: The restored container.
  returned: success, O(state=present) or O(state=armed)
  type: dict
  contains:
    id:
      description: Its ID. Empty in check mode, when it would be created.
      type: str
      sample: 8a77d9...
    name:
      description: Its name.
      type: str
      sample: looper100-clone
    image:
      description: ID of its image.
      type: str
      sample: sha256:1c35c4412082...
    in_place:
      description: Whether the stopped container itself was resumed, rather than a new one made.
      type: bool
      sample: false
statistics:
  description: CRIU's own statistics of the restore. Times in microseconds, the others in pages. Empty if not found.
  returned: when a container was restored
  type: dict
  sample: {forking_time: 3120, restore_time: 45012, pages_restored: 53}
seconds:
  description:
    - Seconds taken by the verification (C(verify)), creation (C(create)), Docker's start (C(start)) and all
      (C(total)).
  returned: when a container was restored
  type: dict
  sample: {verify: 0.01, create: 0.09, start: 0.62, total: 0.75}
criu_log:
  description: The telling lines of CRIU's restore log.
  returned: when the restore failed and CRIU left a log
  type: list
  elements: str
  sample:
    - "(00.013107)      1: Error (criu/files-reg.c:2143): Can't open file data.log on restore:
      No such file or directory"
"""

import contextlib
import functools
import json
import os
import platform
import shutil
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils import journal, validate
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import (
    docker_restore,
    encryption,
    manifest,
    recreate,
)
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    connection_options,
    create,
    mounts,
    storage_drivers,
)
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive as _archive
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log, snapshot
from ansible_collections.fog.migration.plugins.module_utils.network import namespace
from ansible_collections.fog.migration.plugins.module_utils.system import files, procfs

STAGE = "Restore"
INTACT = "nothing was changed, the checkpoint is kept"
# One small file per restored container, named by its id, holding the checkpoint's id: that is how a second run knows.
RESTORED = "/var/lib/fog-migration/restored"
# When this module began to run: what was taken back after that must not be done.
STARTED = time.time()
DAY = 24 * 60 * 60
# What a restore can fail with: our own refusals, and what a call of the API can raise.
FAILURES: tuple[type[Exception], ...] = (MigrationError, *api.FAILURES)


def _write_note(name: str, text: str) -> None:
    os.makedirs(RESTORED, mode=0o700, exist_ok=True)
    with open(os.path.join(RESTORED, name), "w", encoding="utf-8") as stream:
        stream.write(text)


def _mark_of_filled(identity: str) -> str:
    """The file that tells that volumes were filled from the checkpoint with this ID."""
    return f".filled-{identity}"


class Restorer:
    """Restores one container; C(run) returns the module's result."""

    def __init__(self, module: AnsibleModule, client: api.CheckpointClient) -> None:
        self.module = module
        self.params = module.params
        self.client = client
        self.manifest: dict = {}
        # Where its files are in clear.
        self.folder = self.params["path"]
        self.daemon: dict = {}
        self.name = ""
        # What makes the container again, once there is something to make.
        self.recreation: recreate.Recreation | None = None
        # When the restore began and when the checkpoint was found intact, by the monotonic clock.
        self.begin = self.verified = time.monotonic()

    def run(self) -> dict:
        """Decides what is to be done and does it, one restore from a checkpoint at a time."""
        with self._alone():
            self._look()
            if self.params["state"] == "absent":
                return self._absent()
            with self._opened():
                return {"present": self._present, "armed": self._armed, "filled": self._filled}[self.params["state"]]()

    @contextlib.contextmanager
    def _opened(self):
        """Decrypts the checkpoint for as long as it is used, if it is encrypted."""
        path, key = self.params["path"], self.params["encryption_key"]
        if not self.manifest.get("encryption"):
            if key:
                raise MigrationError(
                    f"the checkpoint {path} is not encrypted", INTACT, "leave the encryption_key out if you trust it"
                )
            yield
            return
        if not key:
            raise MigrationError(f"the checkpoint {path} is encrypted", INTACT, "give its encryption_key")
        if self.module.check_mode:
            encryption.authenticate(path, self.manifest, key)
            yield
            return
        target = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.opened")
        try:
            self.manifest = encryption.unseal(path, self.manifest, key, target)
            self.folder = target
            yield
        finally:
            shutil.rmtree(target, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self):
        """Waits until no other restore from this folder is under way, and keeps others waiting."""
        deadline = time.monotonic() + self.params["restore_timeout"] + docker_restore.ANSWER_MARGIN
        manifest.load(self.params["path"])
        descriptor = os.open(self.params["path"], os.O_RDONLY)
        try:
            while not files.lock(descriptor):
                if time.monotonic() > deadline:
                    raise MigrationError(
                        f"another restore from {self.params['path']} is under way",
                        "nothing was changed",
                        "wait for its end",
                    )
                time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)

    def _look(self) -> None:
        self.manifest = manifest.load(self.params["path"])
        self.name = self.params["name"] or self.manifest["container"]["name"]
        refusal = validate.name_refusal("the container", self.name)
        if refusal:
            raise MigrationError(refusal, INTACT, "give another name")
        self.daemon = api.daemon_facts(self.client)

    def _absent(self) -> dict:
        """Removes what a restore has made, and marks that what was ordered before now must not begin any more."""
        existing = self.client.find_container(self.name)
        made = (
            existing is not None
            and existing["Id"] != self.manifest["container"]["id"]
            and self._came_from_here(existing)
        )
        if existing and made and not self.module.check_mode:
            self.client.remove_container(existing["Id"], v=True, force=True)
        if not self.module.check_mode:
            _write_note(self._withdrawal(), "")
        diff = {"before": {self.name: "present"}, "after": {self.name: "absent"}} if made else {}
        return {"changed": made, "diff": diff}

    def _withdrawal(self) -> str:
        return f".withdrawn-{self.manifest['id']}"

    def _refuse_withdrawn(self) -> None:
        """A restore whose order was taken back while it was on its way, its connection lost perhaps, must not begin."""
        mark = os.path.join(RESTORED, self._withdrawal())
        migration = self.params["migration"]
        ended = migration and journal.load(migration) is None
        if ended or (os.path.exists(mark) and os.path.getmtime(mark) >= STARTED):
            raise MigrationError("the order to restore was taken back", INTACT)

    def _present(self) -> dict:
        self._refuse_withdrawn()
        existing = self.client.find_container(self.name)
        if existing and existing["State"].get("Running") and self._came_from_here(existing):
            settled = not self.module.check_mode and self._settle(existing["Id"], existing)
            if not self.module.check_mode:
                self._mend(existing["Id"])
            return self._result(existing["Id"], changed=settled, in_place=False)
        if self.manifest.get("prepared"):
            raise MigrationError(
                f"{self.params['path']} is a prepared checkpoint, without any memory",
                INTACT,
                "restore into it by a live migration, or make a whole checkpoint",
            )
        in_place = self._may_resume(existing)
        manifest.require_intact(self.folder, self.manifest, INTACT)
        self.verified = time.monotonic()
        self._refuse_incompatible()
        if self.module.check_mode:
            return self._result(existing["Id"] if existing else "", changed=True, in_place=in_place)
        return self._restore(existing["Id"] if existing else None)

    def _armed(self) -> dict:
        """Makes the container that a live migration restores into."""
        self._refuse_withdrawn()
        existing = self.client.find_container(self.name)
        if existing and self._came_from_here(existing):
            return self._result(existing["Id"], changed=False, in_place=False)
        if existing:
            self._may_resume(dict(existing, State={"Running": True}))
        manifest.require_intact(self.folder, self.manifest, INTACT)
        self._refuse_incompatible()
        if create.RUNTIME not in self.daemon["runtimes"]:
            raise MigrationError(
                f"Docker here does not know the OCI runtime {create.RUNTIME}",
                INTACT,
                "install it with the role fog.migration.runtime",
            )
        container_id = ""
        if not self.module.check_mode:
            container_id = self._create(armed=True)
            self._note(container_id)
        return self._result(container_id, changed=True, in_place=False, after="created")

    def _filled(self) -> dict:
        """Has the volumes and folders filled before the container comes."""
        self._refuse_withdrawn()
        mark = _mark_of_filled(self.manifest["id"])
        if os.path.exists(os.path.join(RESTORED, mark)):
            return {"changed": False, "diff": {}}
        manifest.require_intact(self.folder, self.manifest, INTACT)
        if not self.module.check_mode:
            recreation = self._recreation()
            try:
                recreation.make_mounts()
                self._apply_mounts(self._sources_here(recreation.inspect))
            except Exception:
                recreation.remove()
                raise
            _write_note(mark, "")
        places = sorted(self.manifest.get("mounts", {}))
        return {"changed": True, "diff": {"before": {"filled": []}, "after": {"filled": places}}}

    def _sources_here(self, inspect: dict) -> dict[str, str]:
        """The folder or file of this host behind each place of a mount that has a name or a path."""
        named = [one for one in mounts.of_container(inspect) if not one["anonymous"]]
        return {
            one["destination"]: self.client.inspect_volume(one["name"])["Mountpoint"]
            if one["type"] == "volume"
            else one["source"]
            for one in named
        }

    def _came_from_here(self, existing: dict) -> bool:
        """Whether this container was restored from this very checkpoint."""
        try:
            with open(os.path.join(RESTORED, existing["Id"]), encoding="utf-8") as stream:
                return stream.read().strip() == self.manifest["id"]
        except OSError:
            return False

    def _may_resume(self, existing: dict | None) -> bool:
        """Whether the stopped container of the checkpoint itself is there; raises when the name is taken otherwise."""
        if existing is None:
            return False
        ours = existing["Id"] == self.manifest["container"]["id"]
        if ours and not existing["State"].get("Running"):
            return True
        which = "the container of this checkpoint runs" if ours else "another container has the name"
        raise MigrationError(
            f"the name {self.name} is taken ({which})",
            INTACT,
            "give another name, or stop or remove that container first",
        )

    def _refuse_incompatible(self) -> None:
        image = self.manifest["container"]["image"]
        tags = ", ".join(self.manifest["container"].get("image_tags") or [])
        here, there = platform.machine(), self.manifest["architecture"]
        if here != there:
            raise MigrationError(
                f"the checkpoint is from {there} and this host is {here}", INTACT, f"take a {there} host"
            )
        if not self.daemon["experimental"] and self.params["state"] != "armed":
            raise MigrationError(
                "the Docker daemon does not run in experimental mode, without which it restores no checkpoints",
                INTACT,
                'set "experimental": true in /etc/docker/daemon.json and restart Docker',
            )
        if not tool.version():
            raise MigrationError(
                "criu is not installed, and Docker restores with it", INTACT, "install criu on this host"
            )
        if self.client.find_image(image) is None:
            raise MigrationError(
                f"the image {image} ({tags or 'without a tag'}) is not on this host",
                INTACT,
                "bring it here first, for example with docker save and docker load",
            )

    def _restore(self, container_id: str | None) -> dict:
        in_place = container_id is not None
        lines: list[str] = []
        try:
            if container_id is None:
                container_id = self._create()
            self._note(container_id)
            journal.note(self.params["migration"], stage="restore")
            created = time.monotonic()
            lines, statistics = docker_restore.from_checkpoint(
                self.client,
                self.daemon["root"],
                container_id,
                os.path.join(self.folder, "criu"),
                self.manifest,
                self.params["restore_timeout"],
            )
            self._require_running(container_id)
            journal.note_what_happened(self.params["migration"], owner="destination")
        except FAILURES as error:
            what = api.api_message(error)
            if isinstance(error, MigrationError):
                what, lines = error.what, error.details.get("criu_log", lines)
            raise MigrationError(
                f"the container {self.name} could not be restored ({what}){tool.reason(lines)}",
                self._undone(in_place),
                "mend the cause and restore it again",
                criu_log=lines,
            ) from error
        started = time.monotonic()
        self._settle(container_id)
        self._mend(container_id)
        seconds = {
            "verify": round(self.verified - self.begin, 3),
            "create": round(created - self.verified, 3),
            "start": round(started - created, 3),
            "total": round(time.monotonic() - self.begin, 3),
        }
        return dict(self._result(container_id, True, in_place), statistics=statistics, seconds=seconds)

    def _inspected(self) -> dict:
        """The container's inspect data when it was checkpointed."""
        return manifest.inspected(self.folder, INTACT)

    def _recreation(self) -> recreate.Recreation:
        """What makes the container of this checkpoint again."""
        migration = self.params["migration"]
        self.recreation = recreate.Recreation(
            self.client,
            self.name,
            self._inspected(),
            self._volumes(),
            self.manifest.get("mounts", {}),
            self.manifest.get("files_alone", []),
            note=functools.partial(journal.note, migration),
        )
        return self.recreation

    def _create(self, armed: bool = False) -> str:
        recreation = self._recreation()
        # Where it may still run at the source, it cannot have its addresses.
        moves = bool(self.manifest["exit"] or self.manifest.get("prepared"))
        try:
            container_id = recreation.create(armed, same_addresses=moves)
            self._apply_rootfs(container_id)
            self._apply_mounts(mounts.sources(self.client.inspect_container(container_id)))
            self._apply_log(container_id)
        except Exception:
            recreation.remove()
            raise
        return container_id

    def _volumes(self) -> list[dict]:
        try:
            with open(os.path.join(self.folder, mounts.VOLUMES), encoding="utf-8") as stream:
                return json.load(stream)
        except FileNotFoundError:
            return []

    def _apply_log(self, container_id: str) -> None:
        """Docker goes on behind what is in its file already."""
        saved = os.path.join(self.folder, container_log.NAME)
        if os.path.exists(saved):
            folder = api.require_local(self.daemon["root"], container_id)
            target = os.path.join(folder, f"{container_id}-json.log")
            shutil.copyfile(saved, target)
            os.chmod(target, 0o640)

    def _apply_mounts(self, sources: dict[str, str]) -> None:
        """Unpacks what the checkpoint has of volumes and folders into those here.

        :param sources: the folder or file of this host behind each place.
        """
        differences = self.manifest.get("differences", [])
        if differences and not os.path.exists(os.path.join(RESTORED, _mark_of_filled(self.manifest["since"]))):
            raise MigrationError("the checkpoint has only what has changed in volumes that were not filled here before")
        for place, archive in self.manifest.get("mounts", {}).items():
            # What has no file in it comes over the channel of a live migration.
            if archive not in self.manifest["files"]:
                continue
            folder, only = _archive.split(sources[place])
            if bool(only) != (place in self.manifest.get("files_alone", [])):
                raise MigrationError(f"{sources[place]} has to be a {'folder' if only else 'file'} as at the source")
            try:
                if not only and place not in differences:
                    _archive.empty(folder)
                _archive.apply(os.path.join(self.folder, archive), folder, only=only)
            except Refused as error:
                raise MigrationError(f"the content of {place} cannot be made ({error})") from error

    def _apply_rootfs(self, container_id: str) -> None:
        archive = os.path.join(self.folder, snapshot.ARCHIVE)
        if not os.path.exists(archive):
            return
        storage = storage_drivers.of_container(self.client.inspect_container(container_id), self.daemon["root"])
        if storage is None:
            raise MigrationError(
                f"the root file system diff cannot be put into the storage driver {self.daemon['storage_driver']}, "
                f"but into {', '.join(storage_drivers.DRIVERS)}"
            )
        try:
            _archive.apply(archive, storage.folder, storage.is_layer)
        except Refused as error:
            raise MigrationError(f"the container's root file system cannot be made ({error})") from error

    def _require_running(self, container_id: str) -> None:
        state = self.client.inspect_container(container_id)["State"]
        if not state.get("Running"):
            raise MigrationError(f"it was restored and ended at once with exit code {state.get('ExitCode')}")

    def _undone(self, in_place: bool) -> str:
        """Removes what the restore has made; returns the clause that tells the state."""
        if in_place:
            return "the container is stopped as before, the checkpoint is kept"
        left = self.recreation.remove() if self.recreation else "nothing of it is left on this host"
        return f"{left}, the checkpoint is kept"

    def _settle(self, container_id: str, now: dict | None = None) -> bool:
        """The restart policy comes back once the container runs. That is not worth undoing the restore for.

        :param now: its inspect data; nothing is done when it has the policy already.
        """
        if self.params["migration"]:
            # It comes at the end: until then, a daemon that starts anew must not start this copy anew.
            return False
        policy = self._inspected()["HostConfig"].get("RestartPolicy") or {"Name": "no"}
        if now and (now["HostConfig"].get("RestartPolicy") or {}).get("Name") == policy["Name"]:
            return False
        try:
            self.client.update_container(container_id, restart_policy=policy)
        except api.FAILURES as error:
            self.module.warn(
                f"{self.name} runs, but its restart policy {policy['Name']} is not back ({api.api_message(error)})"
            )
            return False
        return True

    def _mend(self, container_id: str) -> None:
        """What CRIU does not bring along, from the container's configuration. It runs without that, too."""
        process, host = self.client.inspect_container(container_id)["State"]["Pid"], self._inspected()["HostConfig"]
        try:
            procfs.settle_oom_score(process, host.get("OomScoreAdj") or 0)
            namespace.inside(f"/proc/{process}/ns/net", namespace.set_sysctls, host.get("Sysctls") or {})
        except (OSError, ValueError) as error:
            self.module.warn(f"{self.name} runs, but not all of its settings are back ({error})")

    def _note(self, container_id: str) -> None:
        """Writes down which checkpoint the container comes from, and forgets what is gone or long past."""
        _write_note(container_id, self.manifest["id"])
        for entry in os.listdir(RESTORED):
            path = os.path.join(RESTORED, entry)
            mark = entry.startswith(".")
            gone = not mark and not os.path.isdir(os.path.join(self.daemon["root"], "containers", entry))
            if gone or (mark and os.path.getmtime(path) < STARTED - DAY):
                os.unlink(path)

    def _result(self, container_id: str, changed: bool, in_place: bool, after: str = "running") -> dict:
        before = "exited" if in_place else "absent"
        container = {
            "id": container_id,
            "name": self.name,
            "image": self.manifest["container"]["image"],
            "in_place": in_place,
        }
        diff = {"before": {self.name: before}, "after": {self.name: after}} if changed else {}
        return {"changed": changed, "container": container, "diff": diff}


def main() -> None:
    module = connection_options.new_module(
        {
            "path": {"type": "path", "required": True},
            "name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent", "armed", "filled"], "default": "present"},
            "migration": {"type": "str"},
            "encryption_key": {"type": "str", "no_log": True},
            "restore_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Restorer(module, api.connect(module.params)).run())
    except MigrationError as error:
        module.fail_json(**error.result(STAGE))
    except FAILURES as error:
        module.fail_json(msg=MigrationError(api.api_message(error), INTACT).sentence(STAGE))


if __name__ == "__main__":
    main()
