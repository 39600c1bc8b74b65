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
  - Freezes a running container and writes a checkpoint, from which M(fog.migration.container_restore) makes the
    container again, on this or on another host.
  - It does so through the container's OCI runtime where the host has that of the role C(fog.migration.runtime), with
    Docker 19.03 or newer at a Unix socket. Elsewhere it does so through Docker's checkpoint API, which needs Docker's
    experimental mode.
  - Whichever way it was written, a checkpoint has one format. It is a folder with CRIU's images (C(criu/)), the
    container's configuration (C(container.json)), its root file system diff (C(rootfs.diff)) and a manifest
    (C(manifest.json)) with the size and the SHA-256 of every file and with what the checkpoint was taken from.
  - A checkpoint holds everything that was in the container's memory, secrets included. It belongs to root, mode 0700,
    and can be encrypted (O(encryption_key)).
  - The content of volumes and bind mounts is part of a checkpoint only where O(mounts) says so.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.agents
  - fog.migration.agents.run
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
      - Required without O(migrations).
    type: str
    aliases: [checkpoint]
  directory:
    description:
      - Folder that holds checkpoints. The checkpoint becomes C(DIRECTORY/NAME).
      - It has to lie on the file system that Docker's daemon sees under the same path.
      - Only root may be able to write in it, and in the folders on the way to it. A folder such as C(/tmp) may be on
        the way, since what is root's in it nobody else can rename.
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
      - A checkpoint is written in clear before it can be encrypted. What was written is deleted, but a file system
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
      - V(postcopy) sends none of it but what processes share, or what has changed of that since it was copied over this
        channel; the destination fetches the rest while the container runs there already.
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
      - Through the OCI runtime, the container then does not end, but stays paused with its memory until the migration
        is settled.
    type: str
  leave_running:
    description:
      - Whether the container runs on after the checkpoint.
      - With V(true) it is paused until its files are saved as well, so that they are of the same instant as its memory.
        Docker before 18.09 does not checkpoint what is paused; there, files written right after the checkpoint may be
        newer than the memory.
      - With V(false) it ends. Through the OCI runtime it does so when the checkpoint is complete, and stays paused
        until then, so that it runs on whatever fails.
    type: bool
    default: false
  force:
    description:
      - Replace a checkpoint that is there already.
    type: bool
    default: false
  at_once:
    description:
      - With O(migrations) that move each by itself, how many are frozen at the same time.
    type: int
    default: 1
  checkpoint_timeout:
    description:
      - Seconds that the dump of the container's memory may take. What takes longer goes on, and nothing of it is
        undone; the message tells how to go on from there.
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
- name: Freeze the containers of a run, and have them go on at the destination
  fog.migration.container_checkpoint:
    agents: "{{ started.agents }}"
    migrations: "{{ copied.migrations }}"
    all_or_none: true
  register: moved

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
migrations:
  description:
    - The migrations, with what is known of each by now. Of one that has failed, C(failure) tells the C(stage), the
      C(host), and why (C(msg)).
  returned: with O(migrations)
  type: list
  elements: dict
  sample: [{id: looper100-20261128a, container: looper100, source: fog1, destination: fog2, failure: null}]
path:
  description: Folder of the checkpoint.
  returned: success
  type: str
  sample: /var/lib/fog-migration/checkpoints/checkpoint100
manifest:
  description:
    - The manifest without its lists of files and of the processor's features. C(container) is what was checkpointed,
      C(docker), C(criu), C(host), C(kernel) and C(architecture) tell where. C(way) tells how the memory was dumped,
      V(runtime) or V(docker).
  returned: when the checkpoint is there
  type: dict
  sample:
    id: 0b6f4a52-8f0c-4b52-a5c7-4f6c54c0a7c1
    name: checkpoint100
    created: "2026-11-21T04:15:00Z"
    exit: true
    container: {id: 4f9d..., name: looper100, image: "sha256:1c35...", image_tags: ["busybox:lab"]}
    way: runtime
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
    - Seconds taken by the dump of the memory (C(checkpoint)), by the root file system diff (C(rootfs)), by the
      checksums (C(manifest)), and from the order to freeze to the end (C(total)).
    - With O(channel), those of the freeze (C(pause), C(dump)), of the way of the last files (C(files), which is a part
      of C(dump)) and of the images (C(send)), of the restore as the destination measured it (C(restore)), and all of it
      by the source's clock (C(downtime)), with O(others) also until it waited for them (C(together)); and from then on
      until no page was missing at the destination any more (C(completion)).
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

from ansible_collections.fog.migration.plugins.module_utils.operations import container_checkpoint
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import run_as_module


def main() -> None:
    run_as_module(container_checkpoint.OPERATION)


if __name__ == "__main__":
    main()
