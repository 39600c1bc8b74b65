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
  - It is restored through the OCI runtime of the role C(fog.migration.runtime) where the host has that, with Docker
    19.03 or newer at a Unix socket, whichever way the checkpoint was made. Elsewhere Docker starts it from the
    checkpoint, which needs its experimental mode, and a Docker older than 28.
  - Where the container of the checkpoint itself is still there, stopped, it is resumed in place. Docker starts a
    container with the OCI runtime that it was made for, so where that is not ours, another container is made in its
    place, with its volumes and its log. The old one is removed once the new one runs.
  - The checkpoint is verified against its manifest first. A restore that fails or does not end in time leaves no
    container behind.
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
      - Required without O(migrations).
    type: path
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
  judged:
    description:
      - What the preflight of a migration has judged of the container, as the filter
        P(fog.migration.migration_plan#filter) says it. A checkpoint of something else is refused before anything is
        made. Without it, nothing is compared.
    type: dict
    version_added: 0.2.0
  mounts:
    description:
      - The volumes, folders and files that may be filled, as the same filter says it. A checkpoint with the content of
        others is refused, and so is one whose container has something else mounted there. Without it, the checkpoint
        says which are filled.
    type: list
    elements: dict
    version_added: 0.2.0
    suboptions:
      place:
        description: Where it is mounted in the container.
        type: str
        required: true
      type:
        description: What it is.
        type: str
        choices: [volume, bind]
        required: true
      name:
        description: The volume's name.
        type: str
        default: ""
      path:
        description: The folder or the file of the source that is mounted.
        type: str
        required: true
  encryption_key:
    description:
      - The key of an encrypted checkpoint, see M(fog.migration.container_checkpoint).
      - It is decrypted into a private folder beside it, C(.NAME.opened), which is removed at the end, and before the
        next restore if this one was killed. Meanwhile it takes its size twice there.
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
  - Content is put only into volumes and folders that were made for this restore, or that have nothing in them. Where
    there is something already, the restore is refused.
  - The path of a bind mount is followed through a symbolic link only where nobody but root can have made that.
seealso:
  - module: fog.migration.container_checkpoint
  - module: fog.migration.checkpoint_transfer
"""

EXAMPLES = r"""
- name: Make the containers of a run at the destination, where they wait for their memory
  fog.migration.container_restore:
    agents: "{{ started.agents }}"
    migrations: "{{ reserved.migrations }}"
    state: armed
  register: armed

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
migrations:
  description:
    - The migrations, with what is known of each by now. Of one that has failed, C(failure) tells the C(stage), the
      C(host), and why (C(msg)).
  returned: with O(migrations)
  type: list
  elements: dict
  sample: [{id: looper100-20261128a, container: looper100, source: fog1, destination: fog2, failure: null}]
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
      description: Whether the stopped container itself was resumed, rather than a new one made, in its place perhaps.
      type: bool
      sample: false
checkpoint:
  description:
    - Which checkpoint it was restored from, as its manifest says. That of an encrypted one was authenticated with the
      key; another one, perhaps an older one, that somebody has put in its place with the same key is told by this.
  returned: success, O(state=present) or O(state=armed)
  type: dict
  contains:
    id:
      description: The ID of the checkpoint itself.
      type: str
      sample: 0b6f3c0e-7a53-4b0a-9f0e-1d1f6d2a8c11
    name:
      description: The name that it was made with. There is a warning when its folder has another one.
      type: str
      sample: checkpoint100
    created:
      description: When it was begun, in UTC.
      type: str
      sample: "2026-11-21T04:15:00Z"
    container:
      description: C(id) and C(name) of the container that it was taken of.
      type: dict
      sample: {id: 4f6e..., name: looper100}
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

from ansible_collections.fog.migration.plugins.module_utils.operations import container_restore
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import run_as_module


def main() -> None:
    run_as_module(container_restore.OPERATION)


if __name__ == "__main__":
    main()
