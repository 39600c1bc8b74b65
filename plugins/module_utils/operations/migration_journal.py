# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(migration_journal) does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils import recovery
from ansible_collections.fog.migration.plugins.module_utils.docker import api
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import states
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.migration_settings import SETTINGS
from ansible_collections.fog.migration.plugins.module_utils.operations.with_docker import with_docker
from ansible_collections.fog.migration.plugins.module_utils.request import Request
from ansible_collections.fog.migration.plugins.module_utils.system import private_folders

SETTLED = "is as it was"
# What opens an entry, and what can be noted in it later.
OPENING = ("role", "container", "name", "source", "destination", "mode")
FACTS = ("stage", "owner", "made")
STATES = ("open", "noted", "quiet", "undone", "finished")
# What agents note for several migrations.
RUN_STATES = ("reserved", "committed")
MADE = {kind: {"type": "list", "elements": "str"} for kind in ("networks", "volumes")}
SPEC = {
    "id": {"type": "str", "required": True},
    "state": {"type": "str", "choices": [*STATES, *RUN_STATES], "required": True},
    "role": {"type": "str", "choices": list(states.ROLES)},
    "container": {"type": "str"},
    "name": {"type": "str"},
    "source": {"type": "str"},
    "destination": {"type": "str"},
    "mode": {"type": "str", "choices": ["cold", "precopy", "postcopy", "hybrid"]},
    "directory": {"type": "path", "default": "/var/lib/fog-migration/checkpoints"},
    "together": {"type": "list", "elements": "str", "default": []},
    "controller": {"type": "dict"},
    "stage": {"type": "str", "choices": list(states.STAGES)},
    "owner": {"type": "str", "choices": list(states.OWNERS)},
    "made": {"type": "dict", "options": MADE},
    "keep_checkpoint": {"type": "bool", "default": False},
    "patience": {"type": "int", "default": 120},
    "restore_timeout": {"type": "int", "default": 600},
}
RULES = {"required_if": [("state", "open", OPENING)]}


class EntryRequest:
    """One request to the journal of this server."""

    def __init__(self, request: Request) -> None:
        self.params = request.params
        self.check_mode = request.check_mode
        self.before = journal.load(self.params["id"])

    def run(self) -> dict:
        """Does it; the result of the module."""
        state = self.params["state"]
        if self.check_mode:
            return self._result(self.before is None if state == "open" else self.before is not None, self.before)
        if state not in STATES:
            raise MigrationError(f"state: {state} is for migrations of a run", "nothing was changed", "give migrations")
        states = {
            "open": self._open,
            "noted": self._note,
            "quiet": self._quiesce,
            "undone": self._undo,
            "finished": self._finish,
        }
        return states[state]()

    def _result(self, changed: bool, entry: Entry | None, **more: object) -> dict:
        def told(one: Entry | None) -> dict:
            return {"owner": one.owner, "stage": one.stage} if one else {}

        diff = {"before": told(self.before), "after": told(entry)} if changed else {}
        return dict(changed=changed, entry=entry.to_json() if entry else None, diff=diff, **more)

    def _open(self) -> dict:
        if self.params["mode"] == "cold":
            # Before anything stands still for it.
            private_folders.require(self.params["directory"])
        facts = {key: self.params[key] for key in (*OPENING, "directory", "controller", "together")}
        entry = {"id": self.params["id"], "stage": self.params["stage"] or states.FIRST.stage, **facts}
        entry["made"] = self._made()
        other = journal.open_entry(entry)
        if other:
            what, remedy = journal.under_way(other, None)
            raise MigrationError(what, "nothing was changed", remedy, other=other.to_json())
        return self._result(self.before is None, journal.load(self.params["id"]))

    def _made(self) -> dict:
        return {key: value for key, value in (self.params["made"] or {}).items() if value}

    def _note(self) -> dict:
        facts = {key: self.params[key] for key in FACTS if self.params[key]}
        if "made" in facts:
            facts["made"] = self._made()
        entry = journal.note(self.params["id"], **facts)
        return self._result(entry != self.before, entry)

    def _client(self) -> api.CheckpointClient:
        return api.connect(self.params)

    def _quiesce(self) -> dict:
        if not self.before:
            return self._result(False, None)
        client = self._client()
        recovery.quiesce(self.before, client, self.params["patience"])
        # What has ended may have noted something.
        entry = journal.load(self.params["id"])
        if entry:
            recovery.note_arrival(entry, client)
            entry = journal.load(self.params["id"])
        now = recovery.inspect_state(entry, client) if entry else {}
        return self._result(entry != self.before, entry, now=now)

    def _undo(self) -> dict:
        if not self.before:
            return self._result(False, None, said=SETTLED, note="")
        undone = recovery.rollback(self.before, self._client(), self.params)
        return self._result(True, self.before, **undone._asdict())

    def _finish(self) -> dict:
        if not self.before:
            return self._result(False, None, said=SETTLED)
        said = recovery.complete(self.before, self._client(), self.params["keep_checkpoint"])
        return self._result(True, self.before, said=said)


def run(request: Request) -> dict:
    """Opens an entry of the journal, notes something in it, or settles the migration on this server."""
    return EntryRequest(request).run()


FOR_AGENTS = {**for_agents.RUN, "settings": {"type": "dict", "options": SETTINGS}}
OPERATION = with_docker("Journal", SPEC, run, RULES, for_agents=FOR_AGENTS)
