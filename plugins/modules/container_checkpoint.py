#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: container_checkpoint
short_description: Checkpoint a running Docker container
version_added: 0.1.0
description:
  - Freezes a running container through Docker's checkpoint API and writes a checkpoint, from which
    M(fog.migration.container_restore) makes the container again, on this or on another host.
  - Whatever version of Docker wrote it, a checkpoint has one format. It is a folder with CRIU's images (C(criu/)), the
    container's configuration (C(container.json)), its root file system diff (C(rootfs.diff)) and a manifest
    (C(manifest.json)) with the size and the SHA-256 of every file and with what the checkpoint was taken from.
  - A checkpoint holds everything that was in the container's memory, secrets included. It belongs to root, mode 0700,
    and can be encrypted (O(encryption_key)).
  - The content of volumes and bind mounts is part of a checkpoint only where O(mounts) says so.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.docker
  - fog.migration.docker.actiongroup
attributes:
  check_mode:
    support: full
    description: Everything that would refuse the checkpoint is checked, nothing is frozen or written.
  diff_mode:
    support: full
    description: Shows the state of the container and of the checkpoint before and after.
  idempotent:
    support: partial
    description:
      - A checkpoint that is there already is left as it is, unless O(force=true).
      - It is an error when O(leave_running=false) and the container was started again since, because that checkpoint
        is older than the container.
options:
  container:
    description:
      - Name or ID of the container.
      - Required for O(state=present).
    type: str
  name:
    description:
      - Name of the checkpoint, two or more characters of C([a-zA-Z0-9_.-]), the first one a letter or a digit.
    type: str
    required: true
    aliases: [checkpoint]
  directory:
    description:
      - Folder that holds checkpoints. The checkpoint becomes C(DIRECTORY/NAME).
      - It has to lie on the file system that Docker's daemon sees under the same path.
    type: path
    default: /var/lib/fog-migration/checkpoints
  state:
    description:
      - V(present) makes the checkpoint, V(absent) deletes it. The container itself is never deleted.
      - V(prepared) makes a checkpoint without the memory, of a container that runs on. It has the configuration and the
        root file system diff, from which M(fog.migration.container_restore) arms the destination of a live migration.
      - V(content) makes a checkpoint of nothing but what is in O(mounts), of a container that runs on. With a later one
        that is O(since) this one, only what has changed has to travel. Anonymous volumes are left out.
      - V(encrypted) encrypts a checkpoint that is there already, with O(encryption_key). The container need not be
        there.
    type: str
    choices: [present, absent, prepared, content, encrypted]
    default: present
  encryption_key:
    description:
      - Encrypt the checkpoint with this passphrase or key, of 12 or more characters. Keep it in Ansible Vault, for
        without it nothing can be restored.
      - The folder has one file with everything in it then, by C(openssl) with AES-256-CTR, and a manifest that is
        authenticated with HMAC-SHA256. Both keys come from this one by scrypt. What the manifest tells, names, image
        and versions among it, can still be read.
      - Docker writes a checkpoint in clear before it can be encrypted. What was written is deleted, but a file system
        may keep deleted blocks.
      - Only for O(state=present) without O(channel), and for O(state=encrypted).
    type: str
  channel:
    description:
      - What M(fog.migration.checkpoint_transfer) returned as C(channel) when it opened one for a live migration. The
        container is then frozen through its OCI runtime and restored at the channel's other end before the task ends,
        and nothing is written to O(directory).
      - Docker shows the frozen container as paused, and it stays so afterwards. When the migration fails, it runs on
        here, or the message says why not.
    type: path
  others:
    description:
      - With O(channel), the containers that move together with this one. All of them are frozen, and run at the other
        ends of their channels when all of them are restored there; otherwise, all of them run on here.
      - Their channels have to be opened with the names of all these migrations as O(migration).
    type: list
    elements: dict
    default: []
    suboptions:
      container:
        description: Name or ID of the container.
        type: str
        required: true
      channel:
        description: As O(channel).
        type: path
        required: true
      migration:
        description: As O(migration).
        type: str
        required: true
      mode:
        description: As O(mode).
        type: str
        choices: [stop-and-copy, precopy, postcopy, hybrid]
        default: stop-and-copy
  mode:
    description:
      - With O(channel), how the memory travels.
      - V(stop-and-copy) sends all of it while the container stands still.
      - V(precopy) sends only what has changed since M(fog.migration.checkpoint_transfer) copied it over this channel.
      - V(postcopy) sends none of it; the destination fetches it while the container runs there already.
      - V(hybrid) is V(precopy), but what has changed is sent while the container runs there already.
      - The task ends when all of the memory has arrived. With V(postcopy) and V(hybrid), a source that is lost before
        that takes the container with it; with the others it does not.
    type: str
    choices: [stop-and-copy, precopy, postcopy, hybrid]
    default: stop-and-copy
  mounts:
    description:
      - Where in the container those volumes, folders and files are mounted that belong to the checkpoint. Their content
        is saved with it. With O(state=prepared), only which they are; their content follows over the channel.
      - Volumes are made again at the restore with the same driver, options and labels.
    type: list
    elements: str
    default: []
  since:
    description:
      - Folder of a checkpoint that O(state=content) has made of this container. Of the mounts that it has, only what
        has changed since is saved. Such a checkpoint can be restored only where M(fog.migration.container_restore) has
        filled them from that one.
    type: path
  log:
    description:
      - Whether the container's log so far (C(docker logs)) belongs to the checkpoint, for the log driver json-file.
    type: bool
    default: false
  migration:
    description:
      - Name of the migration in whose journal this is noted, see M(fog.migration.migration_journal).
    type: str
  leave_running:
    description:
      - Whether the container runs on after the checkpoint.
      - With V(true) it is paused until its files are saved as well, so that they are of the same instant as its memory.
        Docker before 18.09 does not checkpoint what is paused; there, files written right after the checkpoint may be
        newer than the memory.
    type: bool
    default: false
  force:
    description:
      - Replace a checkpoint that is there already.
    type: bool
    default: false
  checkpoint_timeout:
    description:
      - Seconds that Docker may take for the checkpoint.
    type: int
    default: 900
notes:
  - A container that a checkpoint ends, ends with exit code 137, which a restart policy takes for a crash. The policy is
    therefore set to V(no) before the freeze. It is put back as soon as the container runs again, here or at the
    destination, by M(fog.migration.container_restore) or by this module when the checkpoint fails.
seealso:
  - module: fog.migration.checkpoint_transfer
  - module: fog.migration.container_restore
  - module: fog.migration.checkpoint_info
"""

EXAMPLES = r"""
- name: Freeze looper100 into a checkpoint
  fog.migration.container_checkpoint:
    container: looper100
    name: checkpoint100

- name: Save a copy of its state every night and let it run on
  fog.migration.container_checkpoint:
    container: looper100
    name: nightly
    directory: /srv/checkpoints
    leave_running: true
    force: true

- name: Freeze looper100 and let it go on at the other end of a channel
  fog.migration.container_checkpoint:
    container: looper100
    name: looper100
    channel: "{{ opened.channel }}"
    mode: postcopy

- name: Save it with a key from Ansible Vault
  fog.migration.container_checkpoint:
    container: looper100
    name: evening
    leave_running: true
    encryption_key: "{{ vault_checkpoint_key }}"

- name: Save what is in a volume while the container runs
  fog.migration.container_checkpoint:
    container: looper100
    name: before
    state: content
    mounts: [/data]

- name: Freeze it, with only what has changed in the volume since
  fog.migration.container_checkpoint:
    container: looper100
    name: checkpoint100
    mounts: [/data]
    since: /var/lib/fog-migration/checkpoints/before

- name: Encrypt a checkpoint that is there already
  fog.migration.container_checkpoint:
    name: nightly
    directory: /srv/checkpoints
    state: encrypted
    encryption_key: "{{ vault_checkpoint_key }}"

- name: Delete a checkpoint
  fog.migration.container_checkpoint:
    name: checkpoint100
    state: absent
"""

RETURN = r"""
path:
  description: Folder of the checkpoint.
  returned: success
  type: str
  sample: /var/lib/fog-migration/checkpoints/checkpoint100
manifest:
  description:
    - The manifest without its lists of files and of the processor's features. C(container) is what was checkpointed,
      C(docker), C(criu), C(host), C(kernel) and C(architecture) tell where.
  returned: when the checkpoint is there
  type: dict
  sample:
    id: 0b6f4a52-8f0c-4b52-a5c7-4f6c54c0a7c1
    name: checkpoint100
    created: "2026-11-21T04:15:00Z"
    exit: true
    container: {id: 4f9d..., name: looper100, image: "sha256:1c35...", image_tags: ["busybox:lab"]}
    docker: {version: 26.1.5, api_version: "1.45", storage_driver: overlay2}
    criu: {version: 4.2.1}
    kernel: 6.12.0
    architecture: x86_64
encrypted:
  description: Whether the checkpoint is encrypted.
  returned: when the checkpoint is there
  type: bool
  sample: false
statistics:
  description:
    - CRIU's own statistics of the dump, and of the restore with O(channel). CRIU 4.2 says nothing that makes sense of a
      dump that leaves the memory with the processes. Times in microseconds, the others in pages.
    - Empty where CRIU's statistics could not be found.
  returned: when the checkpoint is there
  type: dict
  sample:
    freezing_time: 120
    frozen_time: 52011
    memdump_time: 3501
    memwrite_time: 1202
    pages_scanned: 1250
    pages_written: 53
bytes_checkpoint:
  description: Bytes of all files of the checkpoint.
  returned: when the checkpoint is there
  type: int
  sample: 184320
files:
  description: Number of files of the checkpoint.
  returned: when the checkpoint is there
  type: int
  sample: 33
seconds:
  description:
    - Seconds taken by Docker's checkpoint (C(checkpoint)), by the root file system diff (C(rootfs)), by the checksums
      (C(manifest)), and from the order to freeze to the end (C(total)).
    - With O(channel), those of the freeze (C(pause), C(dump)), of the way of the last files (C(files)) and of the
      images (C(send)), of the restore as the destination measured it (C(restore)), and all of it by the source's clock
      (C(downtime)), with O(others) also until it waited for them (C(together)); and from then on until no page was
      missing at the destination any more (C(completion)).
  returned: when a checkpoint was made, or the container was moved
  type: dict
  sample: {checkpoint: 0.71, rootfs: 0.02, manifest: 0.01, total: 0.76}
bytes_sent:
  description: Bytes of the images that were sent while the container stood still.
  returned: when the container was moved
  type: int
  sample: 86839
files_sent:
  description:
    - What the container had written in its root file system since O(state=prepared), each time that something of it was
      sent. The last time may have been while it stood still (C(files) of RV(seconds)).
  returned: when the container was moved
  type: list
  elements: dict
  contains:
    names:
      description: Number of files, folders, links and so on that were sent or removed at the destination.
      type: int
      sample: 3
    bytes_sent:
      description: Bytes that were sent.
      type: int
      sample: 4711
    seconds:
      description: Time until the destination had written it.
      type: float
      sample: 0.012
rounds:
  description:
    - The rounds of pre-copy, those before the task as well, see M(fog.migration.checkpoint_transfer). The last one is
      of the frozen container; with V(hybrid), a further one is of what was sent after it.
  returned: when the container was moved
  type: list
  elements: dict
  sample: [{bytes_memory: 268435456, bytes_sent: 268435456, seconds: 2.11}]
connections_closed:
  description: Connections that could not move with the container and were closed, with their local and remote ends.
  returned: when the container was moved
  type: list
  elements: str
  sample: ["172.17.0.2:80 - 192.0.2.7:51234"]
others:
  description: What was moved together with it, in the order of O(others), each with what is told of this one.
  returned: when the container was moved
  type: list
  elements: dict
  sample: []
container_state:
  description:
    - How far the migration was. V(runs) and V(paused) tell how the container is here; with V(handed over) and V(moved)
      it is paused, and may run at the destination.
  returned: when the migration through O(channel) failed
  type: str
  sample: runs
restart_policy_held:
  description: The restart policy that was set to V(no) and that a restore puts back, or null.
  returned: when a checkpoint was made, or O(channel) was given
  type: dict
  sample: {Name: always, MaximumRetryCount: 0}
criu_log:
  description: The telling lines of CRIU's log.
  returned: when CRIU failed and left a log
  type: list
  elements: str
  sample: ["(00.005120) Error (criu/tty.c:1861): tty: Found slave peer index 0 without correspond master peer"]
"""

import contextlib
import datetime
import fcntl
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils import journal, validate
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import docker_restore, encryption, refusals
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    checkpoint_layout,
    connection_options,
    containerd,
    restart_policy,
    runc,
    storage_drivers,
    version,
)
from ansible_collections.fog.migration.plugins.module_utils.docker import mounts as _mounts
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive as _archive
from ansible_collections.fog.migration.plugins.module_utils.filesystem import blocks as _blocks
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot as _snapshot
from ansible_collections.fog.migration.plugins.module_utils.migration import group_migration
from ansible_collections.fog.migration.plugins.module_utils.migration import source as _source
from ansible_collections.fog.migration.plugins.module_utils.system import files as _files
from ansible_collections.fog.migration.plugins.module_utils.system import host as _host
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

STAGE = "Checkpoint"
STILL_RUNS = "the container runs on as before"
STATES = ["present", "absent", "prepared", "content", "encrypted"]


@contextlib.contextmanager
def kept_work_folder(root: str, container_id: str, keep: str):
    """Makes CRIU's log and statistics of the dump appear in the folder I(keep).

    containerd's shim gives CRIU the working folder C(criu-work) and deletes it afterwards. Where that name is a
    symbolic link, the deletion takes the link only.
    """
    folder = checkpoint_layout.task_folder(root, container_id)
    link = os.path.join(folder, "criu-work") if folder else None
    if link and not os.path.lexists(link):
        os.symlink(keep, link)
    try:
        yield
    finally:
        if link and os.path.islink(link):
            os.unlink(link)


class StillAtIt(MigrationError):
    """Docker has not answered in time and goes on with the checkpoint: nothing of it may be undone or removed now."""


class Checkpointer:
    """Makes or deletes one checkpoint; C(run) returns the module's result."""

    def __init__(self, module: AnsibleModule, client: api.CheckpointClient) -> None:
        self.module = module
        self.params = module.params
        self.client = client
        self.folder = os.path.join(self.params["directory"], self.params["name"])
        self.partial = os.path.join(self.params["directory"], f".{self.params['name']}.partial")
        self.sealed = os.path.join(self.params["directory"], f".{self.params['name']}.sealed")
        self.work = ""
        self.criu_log: list[str] = []
        # Where the files of the container are that differ from its image.
        self.storage: storage_drivers.Storage | None = None
        # The manifest of what it is since.
        self.before: dict = {}

    def run(self) -> dict:
        """Decides what is to be done and does it."""
        self._check_arguments()
        if self.params["state"] == "absent":
            return self._absent()
        if self.params["state"] == "encrypted":
            return self._encrypted()
        if self.params["state"] in ("prepared", "content"):
            return self._prepared()
        if self.params["channel"]:
            return self._moved()
        inspect, daemon, criu_version = self._look()
        if os.path.lexists(self.folder) and not self.params["force"]:
            return self._present_already(inspect)
        self._refuse(inspect, daemon, criu_version, self.params["leave_running"])
        self._find_files(inspect, daemon)
        self._refuse_mounts(inspect)
        self._load_before(inspect)
        result = {"changed": True, "path": self.folder, "diff": self._diff(inspect)}
        if not self.module.check_mode:
            result.update(self._make(inspect, daemon, criu_version))
        return result

    def _check_arguments(self) -> None:
        refusal = validate.name_refusal("the checkpoint", self.params["name"])
        if refusal:
            raise MigrationError(refusal, "nothing was changed", "give another name")
        if not os.path.isabs(self.params["directory"]):
            raise MigrationError(
                f"the directory {self.params['directory']!r} is not an absolute path", "nothing was changed", "give one"
            )
        self._check_key()

    def _check_key(self) -> None:
        key, state = self.params["encryption_key"], self.params["state"]
        if key is None:
            return
        if state not in ("present", "encrypted"):
            raise MigrationError(
                f"an encryption_key has no use with state {state}", "nothing was changed", "leave it out"
            )
        refusal = encryption.key_refusal(key)
        if refusal:
            raise MigrationError(refusal, "nothing was changed", "give a longer one")
        encryption.program()

    def _absent(self) -> dict:
        there = os.path.lexists(self.folder)
        if there and not os.path.isfile(os.path.join(self.folder, _manifest.MANIFEST)):
            raise MigrationError(
                f"{self.folder} holds no {_manifest.MANIFEST}, so it is no checkpoint of ours",
                "nothing was deleted",
                "check the path",
            )
        if there and not self.module.check_mode:
            shutil.rmtree(self.folder)
        diff = {"before": {"checkpoint": "present" if there else "absent"}, "after": {"checkpoint": "absent"}}
        return {"changed": there, "path": self.folder, "diff": diff}

    def _encrypted(self) -> dict:
        """Puts an encrypted checkpoint in the place of a plain one."""
        manifest, key = _manifest.load(self.folder), self.params["encryption_key"]
        if manifest.get("encryption"):
            encryption.authenticate(self.folder, manifest, key)
            return {"changed": False, "path": self.folder, "diff": {}, **summary(manifest)}
        _manifest.require_intact(self.folder, manifest, "nothing was changed")
        if not self.module.check_mode:
            with self._not_in_use():
                manifest = encryption.seal(self.folder, manifest, key, self.sealed)
                shutil.rmtree(self.partial, ignore_errors=True)
                os.rename(self.folder, self.partial)
                os.rename(self.sealed, self.folder)
                shutil.rmtree(self.partial)
                _manifest.fsync_folder(self.params["directory"])
        diff = {"before": {"encrypted": False}, "after": {"encrypted": True}}
        return {"changed": True, "path": self.folder, "diff": diff, **summary(manifest), "encrypted": True}

    @contextlib.contextmanager
    def _not_in_use(self):
        """As container_restore locks it."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            if not _files.lock(descriptor):
                raise MigrationError(
                    f"a restore from {self.folder} is under way", "nothing was changed", "wait for its end"
                )
            yield
        finally:
            os.close(descriptor)

    def _prepared(self) -> dict:
        """A checkpoint without the memory; the container is not touched."""
        inspect, daemon, criu_version = self._look()
        if os.path.lexists(self.folder) and not self.params["force"]:
            manifest = _manifest.load(self.folder)
            if manifest.get("prepared") and manifest["container"]["id"] == inspect["Id"]:
                return {"changed": False, "path": self.folder, "diff": {}, **summary(manifest)}
            raise MigrationError(
                f"{self.folder} is there already and no prepared checkpoint of {self.params['container']}",
                "nothing was changed",
                "give another name, or force: true to replace it",
            )
        # The runtime's checkpoints need no experimental mode of Docker's.
        self._refuse(inspect, dict(daemon, experimental=True), criu_version, leave_running=True)
        self._find_files(inspect, daemon)
        self._refuse_mounts(inspect)
        diff = {"before": {"checkpoint": "absent"}, "after": {"checkpoint": "prepared"}}
        result = {"changed": True, "path": self.folder, "diff": diff}
        if not self.module.check_mode:
            self._prepare_partial()
            try:
                mounts = self._save_running(inspect)
                manifest = self._describe(inspect, daemon, criu_version, None, time.time())
                self._publish(dict(manifest, prepared=True, mounts=mounts))
            finally:
                shutil.rmtree(self.partial, ignore_errors=True)
            result.update(summary(manifest))
        return result

    def _moved(self) -> dict:
        """Freezes the container, and those that move with it, and has all go on at the other ends of their channels."""
        diff = {"before": {"container": "running"}, "after": {"container": "paused"}}
        result = {"changed": True, "path": self.folder, "diff": diff}
        if self.module.check_mode:
            return result
        looks = [self._look(one["container"]) for one in self._moving()]
        for inspect, daemon, _criu_version in looks:
            self._find_files(inspect, daemon)
        moves = group_migration.Moves([self._held(one, look[0]) for one, look in zip(self._moving(), looks)])
        try:
            moves.run()
        except MigrationError as error:
            for one in moves.stayed:
                if one.held:
                    self.client.update_container(one.container_id, restart_policy=one.held)
            error.details["restart_policy_held"] = moves.members[0].held
            raise
        told = [dict(one.told, container=one.container, restart_policy_held=one.held) for one in moves.members]
        return dict(result, **told[0], others=told[1:])

    def _moving(self) -> list[dict]:
        return [self.params, *self.params["others"]]

    def _held(self, wish: dict, inspect: dict) -> group_migration.Move:
        held = restart_policy.to_hold(inspect, leave_running=False)
        self._hold_restart_policy(wish["migration"], inspect["Id"], held)
        return group_migration.Move(wish["container"], wish["channel"], wish["mode"], inspect["Id"], held)

    def _look(self, name: str | None = None) -> tuple[dict, dict, str | None]:
        name = name or self.params["container"]
        inspect = self.client.find_container(name)
        if inspect is None:
            raise MigrationError(
                f"there is no container {name}", "nothing was changed", "look for its name with docker ps"
            )
        daemon = api.daemon_facts(self.client)
        api.require_local(daemon["root"], inspect["Id"])
        return inspect, daemon, tool.version()

    def _refuse(self, inspect: dict, daemon: dict, criu_version: str | None, leave_running: bool) -> None:
        """Raises with the reason where this checkpoint cannot work."""
        process = inspect["State"].get("Pid") or 0
        unreadable, stopped = procfs.unreadable_limits(process), procfs.stopped_below(process)
        refusal = refusals.checkpoint_refusal(inspect, daemon, criu_version, unreadable, leave_running, stopped)
        if refusal:
            raise MigrationError(refusal[0], "nothing was changed", refusal[1])

    def _present_already(self, inspect: dict) -> dict:
        manifest = _manifest.load(self.folder)
        name, created = inspect["Name"].lstrip("/"), manifest["created"]
        if manifest["container"]["id"] != inspect["Id"]:
            problem = f"{self.folder} is a checkpoint of another container ({manifest['container']['name']})"
        elif inspect["State"].get("Running") and not self.params["leave_running"]:
            problem = f"{self.folder} was made at {created}, and the container {name} was started again since"
        elif self.params["encryption_key"] and not manifest.get("encryption"):
            raise MigrationError(
                f"{self.folder} is there already and not encrypted", "nothing was changed", "say state: encrypted"
            )
        else:
            return {"changed": False, "path": self.folder, "diff": {}, **summary(manifest)}
        raise MigrationError(problem, "nothing was changed", "give another name, or force: true to replace it")

    def _find_files(self, inspect: dict, daemon: dict) -> None:
        """Where the storage driver keeps its files is not known of all: a changed one would be lost silently."""
        self.storage = storage_drivers.of_container(inspect, daemon["root"])
        if self.storage is None and self.client.diff(inspect["Id"]):
            driver = inspect.get("Driver", "this storage driver")
            raise MigrationError(
                f"files in the root file system of {inspect['Name'].lstrip('/')} were changed, "
                f"which cannot be read from {driver}",
                "nothing was changed",
                f"use another storage driver ({', '.join(storage_drivers.DRIVERS)}), or keep the data in a volume",
            )

    def _diff(self, inspect: dict) -> dict:
        status = inspect["State"].get("Status", "running")
        after = status if self.params["leave_running"] else "exited"
        there = "present" if os.path.lexists(self.folder) else "absent"
        return {
            "before": {"checkpoint": there, "container": status},
            "after": {"checkpoint": "present", "container": after},
        }

    def _make(self, inspect: dict, daemon: dict, criu_version: str | None) -> dict:
        """Freezes the container and writes the checkpoint; whatever fails, the container runs again afterwards."""
        self._prepare_partial()
        held = restart_policy.to_hold(inspect, self.params["leave_running"])
        try:
            self._hold_restart_policy(self.params["migration"], inspect["Id"], held)
            journal.note(self.params["migration"], stage="checkpoint")
            return self._freeze_and_write(inspect, daemon, criu_version, held)
        except StillAtIt:
            raise
        except Exception as error:
            state = self._undo(inspect, daemon, held)
            # It must not be taken for something usable.
            shutil.rmtree(self.partial, ignore_errors=True)
            if isinstance(error, MigrationError):
                error.state = state
                raise
            raise MigrationError(
                f"the checkpoint of {self.params['container']} failed ({api.api_message(error)})"
                + tool.reason(self.criu_log),
                state,
                "mend the cause and try again",
                criu_log=self.criu_log,
            ) from error

    def _hold_restart_policy(self, migration: str | None, container_id: str, held: dict | None) -> None:
        """A daemon that starts anew must not revive what is frozen here and runs elsewhere."""
        if held:
            journal.note(migration, restart_policy=held)
            self.client.update_container(container_id, restart_policy={"Name": "no"})

    def _prepare_partial(self) -> None:
        os.makedirs(self.params["directory"], mode=0o700, exist_ok=True)
        shutil.rmtree(self.partial, ignore_errors=True)
        os.makedirs(os.path.join(self.partial, "criu"), mode=0o700)
        os.chmod(self.partial, 0o700)
        # As long as this module lives: a recovery waits for its end.
        fcntl.flock(os.open(self.partial, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)

    def _freeze_and_write(self, inspect: dict, daemon: dict, criu_version: str | None, held: dict | None) -> dict:
        directory = os.path.join(self.partial, "docker")
        name, container_id = self.params["name"], inspect["Id"]
        os.mkdir(directory, mode=0o700)
        self.work = tempfile.mkdtemp(prefix="fog-migration-", dir="/run")
        try:
            containerd.collect_garbage()
            begin = time.time()
            with self._standing_still(container_id, daemon):
                with kept_work_folder(daemon["root"], container_id, self.work):
                    self._order(container_id, name, directory)
                self._wait_for_exit(container_id)
                checkpointed = time.time()
                self._adopt(checkpoint_layout.written_checkpoint(directory, container_id, name))
                if self.storage:
                    self._save_storage(self.storage, inspect, _snapshot.snapshot(self.storage.folder))
                mounts = self._save_mounts(inspect)
                self._save_log(inspect)
            saved = time.time()
            manifest = dict(self._describe(inspect, daemon, criu_version, held, begin), mounts=mounts)
            if self.before:
                manifest.update(since=self.before["id"], differences=sorted(set(mounts) & set(self.before["mounts"])))
            manifest = self._publish(manifest)
        except StillAtIt:
            raise
        except Exception:
            self.criu_log = self._dump_log()
            shutil.rmtree(self.work, ignore_errors=True)
            raise
        shutil.rmtree(self.work, ignore_errors=True)
        end = time.time()
        seconds = {
            "checkpoint": round(checkpointed - begin, 3),
            "rootfs": round(saved - checkpointed, 3),
            "manifest": round(end - saved, 3),
            "total": round(end - begin, 3),
        }
        return {"seconds": seconds, "restart_policy_held": held, **summary(manifest)}

    @contextlib.contextmanager
    def _standing_still(self, container_id: str, daemon: dict):
        """A container that runs on stands still until its files are saved, too; CRIU leaves it as it was: paused."""
        pauses = self.params["leave_running"] and version.checkpoints_paused(daemon["version"])
        if pauses:
            self.client.pause(container_id)
        try:
            yield
        except StillAtIt:
            # What goes on must not be thawed.
            pauses = False
            raise
        finally:
            if pauses:
                self.client.unpause(container_id)

    def _order(self, container_id: str, name: str, directory: str) -> None:
        """Docker's checkpoint itself."""
        seconds = self.params["checkpoint_timeout"]
        try:
            self.client.create_checkpoint(container_id, name, directory, self.params["leave_running"], seconds)
        except api.READ_TIMEOUT as error:
            raise StillAtIt(
                f"Docker has not finished the checkpoint of {self.params['container']} within {seconds} seconds",
                f"it goes on with it and writes to {directory}, the container "
                + ("is paused" if self.params["leave_running"] else "stops when it is done"),
                "wait for that, move what it wrote into the container's own folder of checkpoints and start it with "
                "docker start --checkpoint, or docker unpause; give it more time (checkpoint_timeout) next time",
            ) from error

    def _wait_for_exit(self, container_id: str) -> None:
        """Right after an exiting checkpoint Docker 17.09 still shows the container as running for a moment."""
        if self.params["leave_running"]:
            return
        deadline = time.monotonic() + 10
        while self.client.inspect_container(container_id)["State"].get("Running"):
            if time.monotonic() > deadline:
                raise MigrationError("the container still runs ten seconds after a checkpoint that should end it")
            time.sleep(0.02)

    def _adopt(self, written: str) -> None:
        """Moves Docker's files (on the same file system, so by name only) to C(criu/) of the checkpoint."""
        target = os.path.join(self.partial, "criu")
        for entry in os.listdir(written):
            os.rename(os.path.join(written, entry), os.path.join(target, entry))
        statistics = checkpoint_layout.find_file(self.work, "stats-dump")
        if statistics:
            shutil.copy(statistics, os.path.join(target, "stats-dump"))
        shutil.rmtree(os.path.join(self.partial, "docker"))

    def _save_storage(
        self, storage: storage_drivers.Storage, inspect: dict, entries: dict[bytes, _snapshot.Entry]
    ) -> dict[bytes, _snapshot.Entry]:
        """Saves what differs from the image; what the destination has then.

        :param entries: a snapshot from before.
        """
        if storage.is_layer:
            return _snapshot.held(entries, self._save_files(storage.folder, entries))
        changes = storage_drivers.changes(entries, self.client.diff(inspect["Id"]) or [])
        seen = self._save_files(storage.folder, changes.names, layer=False, hidden=changes.hidden)
        as_in_image = {name: entry for name, entry in entries.items() if name not in changes.names}
        return {**as_in_image, **_snapshot.held(entries, seen)}

    def _save_mounts(self, inspect: dict) -> dict[str, str]:
        """Saves the content of the mounts that belong to the checkpoint; its files, by place in the container."""
        saved = {}
        for number, place in enumerate(self.params["mounts"]):
            source = _mounts.sources(inspect)[place]
            saved[place] = f"mount-{number}.diff"
            now, before = _snapshot.snapshot(source, place=place), self.before.get("mounts", {}).get(place)
            changed, blocks = _snapshot.Difference([], sorted(now)), None
            if before:
                snapshot, checksums = self._beside(self.params["since"], before)
                changed, blocks = _snapshot.difference(_snapshot.load(snapshot)[1], now), _blocks.Blocks.load(checksums)
            how = {"removed": changed.removed, "blocks": blocks}
            self._save_files(_archive.split(source)[0], changed.made, saved[place], **how)
        return saved

    @staticmethod
    def _beside(folder: str, archive: str) -> list[str]:
        """The files that tell what was there when this archive was made, and of which blocks its large files were."""
        return [os.path.join(folder, archive.replace(".diff", kind)) for kind in (".json", ".blocks")]

    def _save_running(self, inspect: dict) -> dict[str, str | None]:
        """What can be saved while it runs; the mounts of which that is, by place, with their files if they have any."""
        if self.params["state"] == "prepared":
            self._save_running_rootfs(inspect)
            return dict.fromkeys(self.params["mounts"])
        saved: dict[str, str | None] = {}
        named = [one for one in _mounts.of_container(inspect) if not one["anonymous"]]
        for one in (one for one in named if one["destination"] in self.params["mounts"]):
            place, source, archive = one["destination"], one["source"], f"mount-{len(saved)}.diff"
            before, blocks = _snapshot.snapshot(source, self._processes(inspect), place), _blocks.Blocks()
            held = _snapshot.held(before, self._save_files(_archive.split(source)[0], before, archive, blocks=blocks))
            snapshot, checksums = self._beside(self.partial, archive)
            _snapshot.store(source, held, snapshot)
            blocks.store(checksums)
            saved[place] = archive
        return saved

    def _load_before(self, inspect: dict) -> None:
        """Looks at the checkpoint that this one is since."""
        since = self.params["since"]
        if since:
            self.before = _manifest.load(since)
            if self.before["container"]["id"] != inspect["Id"]:
                raise MigrationError(
                    f"{since} is of another container ({self.before['container']['name']})",
                    "nothing was changed",
                    "leave it out, or make one of this container",
                )

    def _files_alone(self, inspect: dict) -> list[str]:
        """Which of the mounts that belong to the checkpoint are of a file."""
        sources = _mounts.sources(inspect)
        return [place for place in self.params["mounts"] if _mounts.is_file(sources[place])]

    def _save_log(self, inspect: dict) -> None:
        """In live mode it comes over the channel."""
        if self.params["log"] and not container_log.save(inspect, os.path.join(self.partial, container_log.NAME)):
            raise MigrationError(
                f"the log of {self.params['container']} is not kept by the log driver {container_log.DRIVER}"
            )

    def _refuse_mounts(self, inspect: dict) -> None:
        """A place at which nothing is mounted would be left out silently."""
        unknown = sorted(set(self.params["mounts"]) - set(_mounts.sources(inspect)))
        if unknown:
            raise MigrationError(
                f"nothing is mounted at {', '.join(unknown)} in {self.params['container']}",
                "nothing was changed",
                "look at its mounts with docker inspect",
            )

    def _save_files(
        self, folder: str, names: Iterable[bytes], archive: str = _snapshot.ARCHIVE, **how
    ) -> dict[bytes, os.stat_result]:
        try:
            return _archive.save(folder, os.path.join(self.partial, archive), names, **how)
        except OSError as error:
            raise MigrationError(
                f"the root file system diff cannot be saved ({error.strerror or error})",
                STILL_RUNS,
                "mend the cause and try again",
            ) from error

    def _save_running_rootfs(self, inspect: dict) -> None:
        """With a snapshot from before it is read: what is written meanwhile counts as changed, and travels later."""
        if self.storage:
            before = _snapshot.snapshot(self.storage.folder, self._processes(inspect))
            held = self._save_storage(self.storage, inspect, before)
            _snapshot.store(self.storage.folder, held, os.path.join(self.partial, _snapshot.SNAPSHOT))

    def _processes(self, inspect: dict) -> list[int]:
        """Those of the container, whose files may change without showing it."""
        try:
            return runc.processes(inspect["Id"])
        except runc.FreezeError as error:
            problem, remedy = "be moved live", "move it in cold mode"
            if self.params["state"] == "content":
                problem, remedy = "be saved while it runs", "make a whole checkpoint of it"
            raise MigrationError(
                f"{self.params['container']} cannot {problem} ({error})", STILL_RUNS, remedy
            ) from error

    def _describe(self, inspect: dict, daemon: dict, criu_version: str | None, held: dict | None, begin: float) -> dict:
        """Writes C(container.json) and returns the manifest of all files."""
        image = self.client.inspect_image(inspect["Image"])
        if held:
            inspect["HostConfig"]["RestartPolicy"] = held
        descriptor = os.open(os.path.join(self.partial, _manifest.CONTAINER), os.O_WRONLY | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(inspect, stream, indent=2, sort_keys=True)
        self._save_volumes(inspect)
        files = _manifest.describe_files(self.partial)
        statistics_file = checkpoint_layout.find_file(os.path.join(self.partial, "criu"), "stats-dump")
        host = _host.facts()
        return {
            "format": _manifest.FORMAT,
            "version": _manifest.VERSION,
            "id": str(uuid.uuid4()),
            "name": self.params["name"],
            "created": datetime.datetime.fromtimestamp(begin, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "exit": not self.params["leave_running"],
            "container": {
                "id": inspect["Id"],
                "name": inspect["Name"].lstrip("/"),
                "image": inspect["Image"],
                "image_tags": image.get("RepoTags") or [],
            },
            "docker": {key: daemon[key] for key in ("version", "api_version", "storage_driver")},
            "criu": {"version": criu_version},
            "host": host["hostname"],
            "kernel": host["kernel"],
            "architecture": host["architecture"],
            "cpu_features": host["cpu_features"],
            "files_alone": self._files_alone(inspect),
            "statistics": tool.read_stats(statistics_file) if statistics_file else {},
            "files": files,
        }

    def _save_volumes(self, inspect: dict) -> None:
        """How its volumes were made; and which of them move, so that the source lets go of them at the end."""
        mounts = _mounts.of_container(inspect)
        named = [one for one in mounts if one["type"] == "volume" and not one["anonymous"]]
        volumes = [self.client.inspect_volume(one["name"]) for one in named]
        with open(os.path.join(self.partial, _mounts.VOLUMES), "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            json.dump(volumes, stream, indent=2, sort_keys=True)
        moving = [one for one in mounts if one["type"] == "volume" and one["destination"] in self.params["mounts"]]
        journal.note(self.params["migration"], moving={"volumes": [one["name"] for one in moving]})

    def _publish(self, manifest: dict) -> dict:
        """Gives the complete checkpoint its final name in one step; its manifest, which is another one if encrypted."""
        _manifest.write(self.partial, manifest)
        ready = self.partial
        if self.params["encryption_key"]:
            ready = self.sealed
            manifest = encryption.seal(self.partial, manifest, self.params["encryption_key"], ready)
        if os.path.lexists(self.folder):
            shutil.rmtree(self.folder)
        os.rename(ready, self.folder)
        if ready != self.partial:
            shutil.rmtree(self.partial)
        _manifest.fsync_folder(self.params["directory"])
        return manifest

    def _undo(self, inspect: dict, daemon: dict, held: dict | None) -> str:
        """Makes the container run again after a failure, with its restart policy.

        :returns: the clause that tells its state.
        """
        try:
            running = self.client.inspect_container(inspect["Id"])["State"].get("Running")
            if not running:
                self._start_from_partial(inspect, daemon)
            if held:
                self.client.update_container(inspect["Id"], restart_policy=held)
        except Exception as error:
            kept = os.path.join(self.params["directory"], f"{self.params['name']}.rescued-{int(time.time())}")
            os.rename(self.partial, kept)
            return (
                f"the container is stopped and could not be resumed ({api.api_message(error)}), "
                f"what was written is kept in {kept}"
            )
        return STILL_RUNS if running else "the container was resumed from what had been written and runs"

    def _start_from_partial(self, inspect: dict, daemon: dict) -> None:
        """Resumes a frozen container from Docker's files, whether they were already moved or not."""
        images = checkpoint_layout.find_file(self.partial, "inventory.img")
        if images is None:
            raise MigrationError("there are no images to resume it from")
        checkpoint = {"name": self.params["name"], "created": ""}
        docker_restore.from_checkpoint(
            self.client,
            daemon["root"],
            inspect["Id"],
            os.path.dirname(images),
            checkpoint,
            self.params["checkpoint_timeout"],
        )

    def _dump_log(self) -> list[str]:
        for folder in (self.work, self.partial):
            path = checkpoint_layout.find_file(folder, "dump.log")
            if path:
                with open(path, encoding="utf-8", errors="replace") as stream:
                    return tool.log_tail(stream.read())
        return []


def summary(manifest: dict) -> dict:
    """The return values that every result about an existing checkpoint has."""
    left_out = ("files", "statistics", "cpu_features", "encryption")
    return {
        "manifest": {key: value for key, value in manifest.items() if key not in left_out},
        "encrypted": bool(manifest.get("encryption")),
        "statistics": manifest.get("statistics", {}),
        "bytes_checkpoint": _manifest.total_size(manifest),
        "files": len(manifest["files"]),
    }


def main() -> None:
    others = {
        "container": {"type": "str", "required": True},
        "channel": {"type": "path", "required": True},
        "migration": {"type": "str", "required": True},
        "mode": {"type": "str", "choices": list(_source.MODES), "default": "stop-and-copy"},
    }
    module = connection_options.new_module(
        {
            "container": {"type": "str"},
            "name": {"type": "str", "required": True, "aliases": ["checkpoint"]},
            "directory": {"type": "path", "default": "/var/lib/fog-migration/checkpoints"},
            "state": {"type": "str", "choices": STATES, "default": "present"},
            "since": {"type": "path"},
            "encryption_key": {"type": "str", "no_log": True},
            "channel": {"type": "path"},
            "others": {"type": "list", "elements": "dict", "default": [], "options": others},
            "mode": others["mode"],
            "mounts": {"type": "list", "elements": "str", "default": []},
            "log": {"type": "bool", "default": False},
            "migration": {"type": "str"},
            "leave_running": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "checkpoint_timeout": {"type": "int", "default": 900},
        },
        required_if=[
            *(("state", state, ["container"]) for state in ("present", "prepared", "content")),
            ("state", "encrypted", ["encryption_key"]),
        ],
        mutually_exclusive=[("channel", "encryption_key"), ("channel", "since")],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Checkpointer(module, api.connect(module.params)).run())
    except MigrationError as error:
        module.fail_json(**error.result(STAGE))
    except api.FAILURES as error:
        module.fail_json(msg=MigrationError(api.api_message(error)).sentence(STAGE))


if __name__ == "__main__":
    main()
