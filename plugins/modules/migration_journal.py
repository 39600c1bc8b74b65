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
    description: Name of the migration.
    type: str
    required: true
  state:
    description:
      - V(open) opens the journal of a migration on this server. At the source that has to be done first.
      - V(noted) writes down what has been reached.
      - V(quiet) waits until nothing of the migration happens on this server any more. What has begun to move the
        container goes on to its end; what waits for a controller that has gone is ended.
      - V(undone) gives the container back to the source, or removes what the destination has of it. At the destination
        that has to be done first.
      - V(finished) lets go of the container at the source, or leaves it to the destination. At the source that has to
        be done first.
      - Nothing is done with a migration that is not open on this server.
    type: str
    choices: [open, noted, quiet, undone, finished]
    required: true
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
    description: How far the migration is, for O(state=noted) and O(state=open).
    type: str
  owner:
    description:
      - For O(state=noted), who may run the container from now on. V(unknown) means that only the destination can say.
    type: str
    choices: [source, unknown, destination]
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
  sample: it was resumed and runs
other:
  description: The open migration that is in the way.
  returned: when the journal could not be opened because of it
  type: dict
  sample: {id: looper100-20261122T040000, stage: reservation}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils import journal, recovery
from ansible_collections.fog.migration.plugins.module_utils.docker import api, connection_options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

STAGE = "Journal"
SETTLED = "is as it was"
OPENING = ("role", "container", "name", "source", "destination", "mode")
# What an entry can have from a task, beside that.
FACTS = ("stage", "owner", "made")


class Journal:
    """One order to the journal of this server; C(run) returns the module's result."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.before = journal.load(self.params["id"])

    def run(self) -> dict:
        """Does it."""
        if self.module.check_mode:
            wanted = self.before is None if self.params["state"] == "open" else self.before is not None
            return self._result(wanted, self.before)
        return getattr(self, "_" + self.params["state"])()

    def _result(self, changed: bool, entry: dict | None, **more) -> dict:
        def told(one):
            return {key: one[key] for key in ("owner", "stage")} if one else {}

        diff = {"before": told(self.before), "after": told(entry)} if changed else {}
        return dict(changed=changed, entry=entry, diff=diff, **more)

    def _open(self) -> dict:
        facts = {key: self.params[key] for key in (*OPENING, "directory", "controller", "together")}
        entry = {"id": self.params["id"], "stage": self.params["stage"] or "reservation", **facts}
        entry["made"] = self._made()
        other = journal.open_entry(entry)
        if other:
            what, remedy = journal.under_way(other, None)
            raise MigrationError(what, "nothing was changed", remedy, other=other)
        return self._result(self.before is None, journal.load(self.params["id"]))

    def _made(self) -> dict:
        return {key: value for key, value in (self.params["made"] or {}).items() if value}

    def _noted(self) -> dict:
        facts = {key: self.params[key] for key in FACTS if self.params[key]}
        if "made" in facts:
            facts["made"] = self._made()
        entry = journal.note(self.params["id"], **facts)
        return self._result(entry != self.before, entry)

    def _client(self) -> api.CheckpointClient:
        return api.connect(self.params)

    def _quiet(self) -> dict:
        if not self.before:
            return self._result(False, None)
        client = self._client()
        recovery.quiet(self.before, client, self.params["patience"])
        # What has ended may have noted something.
        entry = journal.load(self.params["id"])
        now = recovery.present(entry, client) if entry else {}
        return self._result(entry != self.before, entry, now=now)

    def _undone(self) -> dict:
        if not self.before:
            return self._result(False, None, said=SETTLED)
        said = recovery.undo(self.before, self._client(), self.params["restore_timeout"])
        return self._result(True, self.before, said=said)

    def _finished(self) -> dict:
        if not self.before:
            return self._result(False, None, said=SETTLED)
        said = recovery.finish(self.before, self._client(), self.params["keep_checkpoint"])
        return self._result(True, self.before, said=said)


def main() -> None:
    made = {kind: {"type": "list", "elements": "str"} for kind in ("networks", "volumes")}
    module = connection_options.new_module(
        {
            "id": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["open", "noted", "quiet", "undone", "finished"], "required": True},
            "role": {"type": "str", "choices": list(journal.ROLES)},
            "container": {"type": "str"},
            "name": {"type": "str"},
            "source": {"type": "str"},
            "destination": {"type": "str"},
            "mode": {"type": "str", "choices": ["cold", "precopy", "postcopy", "hybrid"]},
            "directory": {"type": "path", "default": "/var/lib/fog-migration/checkpoints"},
            "together": {"type": "list", "elements": "str", "default": []},
            "controller": {"type": "dict"},
            "stage": {"type": "str"},
            "owner": {"type": "str", "choices": list(journal.OWNERS)},
            "made": {"type": "dict", "options": made},
            "keep_checkpoint": {"type": "bool", "default": False},
            "patience": {"type": "int", "default": 120},
            "restore_timeout": {"type": "int", "default": 600},
        },
        required_if=[("state", "open", OPENING)],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Journal(module).run())
    except MigrationError as error:
        module.fail_json(**error.result(STAGE))
    except api.FAILURES as error:
        module.fail_json(msg=MigrationError(api.api_message(error)).sentence(STAGE))


if __name__ == "__main__":
    main()
