# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One entry of the journal: what a migration is, how far it is, and what there is of it on this server.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import states
from ansible_collections.fog.migration.plugins.module_utils.journal.states import State
from ansible_collections.fog.migration.plugins.module_utils.validate import are_texts, is_text

FORMAT = "fog.migration/journal"
VERSION = 2
IDENTITY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
MEMORY = ("arriving", "complete")


class JournalError(MigrationError):
    """The journal cannot be used. The text is a clause."""


class TransitionRefused(JournalError):
    """An entry cannot come from the state that it is in into the one that was to be noted. The text is a clause."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One migration on one of its two servers.

    C(begun) and C(noted) are seconds since the epoch, by the clock of this server.
    """

    # The name of the migration, the same on both servers.
    id: str
    # What this server is in it, one of C(states.ROLES).
    role: str
    # ID of the container at the source, and its name at the destination.
    container: str
    name: str
    # Inventory names.
    source: str
    destination: str
    # cold, precopy, postcopy or hybrid.
    mode: str
    # The folder for checkpoints on this server.
    directory: str
    state: State = states.FIRST
    begun: float = 0.0
    # When it was written last, and the boot ID of the server then.
    noted: float = 0.0
    boot: str = ""
    # The process that steers the migration: its host, kernel, pid and started. None where nobody has told.
    controller: dict[str, typing.Any] | None = None
    # The IDs of all migrations that move together, this one's among them; empty where it moves by itself.
    together: list[str] = dataclasses.field(default_factory=list)
    # The private folders of its programs: the id that its SSH key has, the directory, the user whom the key admits.
    transfers: list[dict[str, str]] = dataclasses.field(default_factory=list)
    # What was made for it here: networks, volumes, folders and scratch (lists of names or paths), container (its ID).
    made: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    # What the source lets go of at the end besides the container, as in I(made).
    moving: dict[str, typing.Any] = dataclasses.field(default_factory=dict)
    # The container's own restart policy while it is held at "no", as Docker has it.
    restart_policy: dict[str, typing.Any] | None = None
    # At the destination, whether memory is still on its way to the container; one of C(MEMORY).
    memory: str = "complete"
    # What was done but could not be noted, since the state of the entry did not allow it: sentences for people.
    refused: list[str] = dataclasses.field(default_factory=list)

    @property
    def stage(self) -> str:
        """How far the migration is, as a word for people."""
        return self.state.stage

    @property
    def owner(self) -> str:
        """Who has the container, as this server knows it."""
        return self.state.owner

    @property
    def run(self) -> str:
        """The run that it belongs to, which is the last part of its name: that of its agents and of their key."""
        return self.id.rpartition("-")[2]

    @property
    def went(self) -> bool:
        """Whether this is the destination's and says that its container has run there."""
        return self.role == states.DESTINATION and self.state is State.RESTORED

    def to_json(self) -> dict[str, typing.Any]:
        """As an object for JSON, with C(stage) and C(owner) in place of the state."""
        told = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "state"}
        return {"format": FORMAT, "version": VERSION, "stage": self.stage, "owner": self.owner, **told}

    @classmethod
    def from_json(cls, value: object) -> Entry:
        """The entry that an object of JSON is.

        :raises JournalError: when it is none. The text is a clause about it.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise JournalError("it is not an entry of a journal")
        if value.get("version") != VERSION:
            raise JournalError(f"it has version {value.get('version')!r}, this collection reads version {VERSION}")
        facts = {name: one for name, one in value.items() if name not in ("format", "version", "stage", "owner")}
        for name in _REQUIRED:
            if name not in value:
                raise JournalError(f"it has no {name}")
        for name, one in facts.items():
            if name not in _KINDS:
                raise JournalError(f"it has {name!r}, which no entry has")
            if not _KINDS[name](one):
                raise JournalError(f"its {name} is {one!r}")
        state = states.state_of(value["role"], value["stage"], value["owner"])
        if state is None:
            words = f"the stage {value['stage']!r} and the owner {value['owner']!r}"
            raise JournalError(f"it has {words}, which no {value['role']} has")
        return cls(**facts, state=state)

    def with_facts(self, facts: dict[str, typing.Any]) -> Entry:
        """This entry with more facts. Lists and objects are added to those that are there.

        :param facts: by the names of the fields, and C(stage) and C(owner), of which one that is left out stays.
        :raises TransitionRefused: when it cannot come into this state.
        :raises JournalError: when a value is none that this field can have.
        :raises TypeError: when there is no such field.
        """
        more = dict(facts)
        state = self._next(more.pop("stage", self.stage), more.pop("owner", self.owner))
        more = {name: _added(getattr(self, name, None), value) for name, value in more.items()}
        noted = dataclasses.replace(self, state=state, **more)
        # So that nothing is ever written that cannot be read.
        Entry.from_json(noted.to_json())
        return noted

    def _next(self, stage: object, owner: object) -> State:
        state = states.state_of(self.role, stage, owner)
        if state is None or not states.is_allowed(self.role, self.state, state):
            wanted = state or f"{stage} (owner {owner})"
            raise TransitionRefused(
                f"the journal of the {self.role} does not let the migration {self.id} go from {self.state} to {wanted}",
                "it stays as it is",
                "settle it with ansible-playbook recover.yml",
            )
        return state


def _added(before: object, value: typing.Any) -> typing.Any:
    if isinstance(before, list) and isinstance(value, (list, tuple)):
        return before + [one for one in value if one not in before]
    if isinstance(before, dict) and isinstance(value, dict):
        return {**before, **{name: _added(before.get(name), one) for name, one in value.items()}}
    return value


# ---------------------------------------------------------------------------------------------------------------------
# What a field can have


def _is_identity(value: object) -> bool:
    return isinstance(value, str) and bool(IDENTITY.fullmatch(value))


def _is_time(value: object) -> bool:
    """What is no number, as NaN, is in no range."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1 << 40


def _are_identities(value: object) -> bool:
    return isinstance(value, list) and all(_is_identity(one) for one in value)


def _are_transfers(value: object) -> bool:
    """The user may be missing: then no key is to be taken out."""
    return isinstance(value, list) and all(_is_transfer(one) for one in value)


def _is_transfer(value: object) -> bool:
    return (
        isinstance(value, dict)
        and {"id", "directory"} <= set(value) <= {"id", "directory", "user"}
        and all(isinstance(one, str) for one in value.values())
    )


def _are_things(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, str) if name == "container" else are_texts(one) for name, one in value.items()
    )


def _is_object(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _one_of(*words: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in words


_KINDS: dict[str, Callable[[object], bool]] = {
    "id": _is_identity,
    "role": _one_of(*states.ROLES),
    "container": is_text,
    "name": is_text,
    "source": is_text,
    "destination": is_text,
    "mode": is_text,
    "directory": is_text,
    "begun": _is_time,
    "noted": _is_time,
    "boot": is_text,
    "controller": _is_object,
    "together": _are_identities,
    "transfers": _are_transfers,
    "made": _are_things,
    "moving": _are_things,
    "restart_policy": _is_object,
    "memory": _one_of(*MEMORY),
    "refused": are_texts,
}
_REQUIRED = (
    *("id", "role", "stage", "owner", "container", "name", "source", "destination", "mode", "directory"),
    *("begun", "noted", "transfers", "made"),
)
