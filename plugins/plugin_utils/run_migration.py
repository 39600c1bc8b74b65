# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration of a run, as its tasks hand it on: what it is, and what is known of it by now.

Private to the collection fog.migration.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.agent.migration import Migration
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.plugin_utils.failures import Failure


@dataclasses.dataclass
class RunMigration:
    """A migration of a run. What a task learns of it is set here.

    It crosses the tasks of the run as an object for JSON, with the fields of I(told) among its own. Of the others, one
    that is None is not in it, but for the failure.
    """

    # What the agents are told of it.
    told: Migration
    # When each stage ended, and C(start), in seconds since the epoch by the controller's clock.
    clock: dict[str, float]
    # Why it does not go on.
    failure: Failure | None = None
    # By C(source) and C(destination): whether memory goes through memory or the disk there, and why.
    staging: dict[str, dict[str, Any]] | None = None
    # How to log in at the destination: user, host_keys, and sessions in one connection.
    access: dict[str, Any] | None = None
    # The ID of the container at the destination.
    container_there: str | None = None
    # What pre-copy and the switchover have cost, for the report.
    transfer: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    # By server, why it could not remove what the migration has there, as objects for JSON.
    left: dict[str, dict[str, Any]] | None = None
    # What others note and read: the role and the filters.
    others: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def id(self) -> str:
        """The name of the migration."""
        return self.told.id

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON."""
        learnt = {name: getattr(self, name) for name in _LEARNT}
        return {
            **self.others,
            **self.told.to_json(),
            "clock": self.clock,
            "failure": self.failure.to_json() if self.failure else None,
            **{name: value for name, value in learnt.items() if value is not None},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> RunMigration:
        """The migration that an object for JSON is.

        :raises MigrationError: when a field is missing that an agent has to be told, or is wrong.
        """
        told = Migration.from_json({name: value[name] for name in _TOLD if name in value})
        if not isinstance(value.get("clock"), dict):
            raise MigrationError(f"the migration {told.id} has no clock")
        failure = Failure.from_json(value["failure"]) if value.get("failure") else None
        known = (*_TOLD, *_LEARNT, "clock", "failure")
        others = {name: one for name, one in value.items() if name not in known}
        learnt = {name: value[name] for name in _LEARNT if name in value}
        return cls(told, value["clock"], failure, **learnt, others=others)


_TOLD = tuple(one.name for one in dataclasses.fields(Migration))
_LEARNT = ("staging", "access", "container_there", "transfer", "checkpoint", "left")
