#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_journal
short_description: Keep the journal of a migration on one of its two servers
version_added: 0.2.0
description:
  - The journal is one small file for each migration that has not ended, on both servers
    (C(/var/lib/fog-migration/journal/ID.json)). It tells who owns the container, how far the migration is, and what
    there is of it on that server, so that it can be settled when nobody else knows any more.
  - It is the lock as well. While it is open at the source, no other migration of the same container can be opened, and
    none to the same name at the destination.
  - The role P(fog.migration.migrate#role) and the playbook C(recover.yml) use it; M(fog.migration.migration_info)
    shows what is open.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.agents
  - fog.migration.agents.run
  - fog.migration.docker
  - fog.migration.docker.actiongroup
attributes:
  action:
    description: An action plugin of this name tells which controller opens the journal.
    support: full
  check_mode:
    support: full
    description: Tells whether something would be done, and does nothing.
  diff_mode:
    support: full
    description: Shows who owns the container before and after.
  idempotent:
    support: full
    description: What is open, noted or closed already is left as it is.
options:
  id:
    description: Name of the migration. Required without O(migrations).
    type: str
  state:
    description:
      - V(open) opens the journal of a migration on this server. At the source that has to be done first.
      - V(noted) writes down what has been reached.
      - V(quiet) waits until nothing of the migration happens on this server any more. What has begun to move the
        container goes on to its end; what waits for a controller that has gone is ended.
      - V(undone) gives the container back to the source, or removes what the destination has of it. At the destination
        that has to be done first. It fails at the source once the migration was committed, and while the container
        there does not run as before.
      - V(finished) lets go of the container at the source, or leaves it to the destination. At the source that has to
        be done first. It fails there while the source owns the container.
      - Nothing is done with a migration that is not open on this server.
      - V(reserved), only with O(migrations), opens the journals on both servers, makes the networks that the
        destination lacks and room for the memory, and admits the source's key at the destination.
      - V(committed), only with O(migrations), asks the destination whether the containers run, and notes that the
        source must not run them any more. V(finished) is for O(migrations), too.
      - It has to be given in any case.
    type: str
    choices: [open, noted, quiet, undone, finished, reserved, committed]
  role:
    description: What this server is in this migration. Required for O(state=open), as are the next five.
    type: str
    choices: [source, destination]
  container:
    description: ID of the container at the source.
    type: str
  name:
    description: Name of the container at the destination.
    type: str
  source:
    description: Inventory name of the source.
    type: str
  destination:
    description: Inventory name of the destination.
    type: str
  mode:
    description: Mode of the migration.
    type: str
    choices: [cold, precopy, postcopy, hybrid]
  directory:
    description: Folder for checkpoints.
    type: path
    default: /var/lib/fog-migration/checkpoints
  together:
    description:
      - For O(state=open), the names of the migrations of all containers that move together, this one's among them.
        Either all of them run at the destination in the end, or none.
    type: list
    elements: str
    default: []
  controller:
    description: Where the migration is steered from. The action plugin fills it in.
    type: dict
  stage:
    description:
      - How far the migration is, for O(state=noted). Together with O(owner), it has to follow what the entry says
        already; what is refused is not noted. An entry begins with V(reservation).
    type: str
    choices: [reservation, checkpoint, handover, commitment, restore, restored, refused]
  owner:
    description:
      - For O(state=noted), who may run the container from now on. V(in_doubt) means that only the destination can say.
        What belongs to the destination is never given back to the source by a note.
    type: str
    choices: [source, in_doubt, destination]
  made:
    description: What was made on this server for the migration, and is removed when it is undone.
    type: dict
    suboptions:
      networks:
        description: Names of networks.
        type: list
        elements: str
      volumes:
        description: Names of volumes.
        type: list
        elements: str
  settings:
    description: With O(state=reserved), how the containers move.
    type: dict
    suboptions:
      directory:
        description: Folder that holds checkpoints.
        type: str
        default: /var/lib/fog-migration/checkpoints
      compression:
        description: V(none), or V(auto) for what pays with the link and the processors; V(zstd) is the same as V(auto).
        type: str
        choices: [auto, zstd, none]
        default: auto
      rate_limit:
        description: MiB per second for what travels while the containers run, 0 for no limit.
        type: float
        default: 0.0
      max_rounds:
        description: The most rounds of pre-copy.
        type: int
        default: 10
      threshold:
        description: A round that sent no more than so many MiB is the last one.
        type: float
        default: 1.0
      shrink:
        description: A round that sent more than this part of the one before is the last one.
        type: float
        default: 0.9
      staging_limit:
        description: The most MiB of memory that a container's memory takes on its way, on each server; 0 for no limit.
        type: int
        default: 0
      staging_directory:
        description: Folder on disk for it, on servers on which memory is short.
        type: str
        default: /var/lib/fog-migration/staging
      restore_timeout:
        description: Seconds that a restore may take.
        type: int
        default: 600
      timeout:
        description: Seconds after which what nobody asks for any more ends.
        type: int
        default: 3600
  keep_checkpoint:
    description: For O(state=finished), whether the checkpoint is left.
    type: bool
    default: false
  patience:
    description: For O(state=quiet), the seconds after which what does not end by itself is ended.
    type: int
    default: 120
  restore_timeout:
    description: For O(state=undone), the seconds that a restore from the checkpoint may take.
    type: int
    default: 600
seealso:
  - module: fog.migration.migration_info
"""

EXAMPLES = r"""
- name: Reserve what the migrations of a run need
  fog.migration.migration_journal:
    agents: "{{ started.agents }}"
    migrations: "{{ plan.migrations }}"
    state: reserved
    settings:
      rate_limit: 100
  register: reserved

- name: Open the journal at the source
  fog.migration.migration_journal:
    id: looper100-20261122T041500
    state: open
    role: source
    container: 4f9d3c
    name: looper100
    source: fog1
    destination: fog2
    mode: precopy

- name: The destination has it
  fog.migration.migration_journal:
    id: looper100-20261122T041500
    state: noted
    stage: commitment
    owner: destination

- name: Give it back to the source
  fog.migration.migration_journal:
    id: looper100-20261122T041500
    state: undone
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
entry:
  description: The entry of this server as it is now, or as it was before it was closed. None where there is none.
  returned: success
  type: dict
  sample: {id: looper100-20261122T041500, role: source, owner: source, stage: reservation, container: 4f9d3c}
now:
  description:
    - How things really are. C(container) is Docker's word for the state of the container or V(absent), C(checkpoint)
      tells whether it could be resumed from files here, C(same_boot) whether the server has not been started anew
      since the last note, C(programs) whether a program of the migration runs. C(together) has C(entry) and C(now) of
      each that moves together with it and was not settled on this server yet.
  returned: when there is an entry and O(state=quiet)
  type: dict
  sample: {container: paused, id: 4f9d3c, checkpoint: false, same_boot: true, programs: false, together: []}
said:
  description: How the container is on this server now, as a clause.
  returned: with O(state=undone) and O(state=finished)
  type: str
  sample: was resumed and runs
note:
  description:
    - What there is to say besides, as clauses, such as what CRIU had left in the container and was undone, or what
      could not be looked at. Empty if there is nothing.
  returned: with O(state=undone)
  type: str
  sample: "what a dump had left was undone: CRIU's network lock in the nftables table CRIU-4711"
other:
  description: The open migration that is in the way.
  returned: when the journal could not be opened because of it
  type: dict
  sample: {id: looper100-20261122T040000, stage: reservation}
"""

from ansible_collections.fog.migration.plugins.module_utils.operations import migration_journal
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import run_as_module


def main() -> None:
    run_as_module(migration_journal.OPERATION)


if __name__ == "__main__":
    main()
