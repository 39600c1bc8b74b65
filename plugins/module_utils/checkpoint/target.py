# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container that a checkpoint is to be taken of: what is known of it, and why that cannot work.

Private to the collection fog.migration.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import refusals
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import api, mounts, runc, storage_drivers
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

NOTHING_CHANGED = "nothing was changed"
STILL_RUNS = "the container runs on as before"


@dataclass(frozen=True)
class Target:
    """One container on this host."""

    # As the user calls it: its name or its ID.
    called: str
    inspect: dict[str, Any]
    # See C(api.daemon_facts).
    daemon: dict[str, Any]
    criu_version: str | None
    # Where its files are that differ from its image; None where there are none, or before C(with_storage).
    storage: storage_drivers.Storage | None = None

    @property
    def id(self) -> str:
        """Its ID."""
        return self.inspect["Id"]

    @property
    def name(self) -> str:
        """Its name."""
        return self.inspect["Name"].lstrip("/")

    def processes(self, problem: str, remedy: str) -> list[int]:
        """Its processes, whose files may change without showing it.

        :param problem: what it cannot be where they cannot be told, e.g. C(be moved live).
        :raises MigrationError: where they cannot be told.
        """
        try:
            return runc.processes(self.id)
        except runc.FreezeError as error:
            raise MigrationError(f"{self.called} cannot {problem} ({error})", STILL_RUNS, remedy) from error


def find(client: api.CheckpointClient, called: str) -> Target:
    """Looks at a container.

    :raises MigrationError: when there is none, or Docker's daemon runs on another host.
    """
    inspect = client.find_container(called)
    if inspect is None:
        raise MigrationError(f"there is no container {called}", NOTHING_CHANGED, "look for its name with docker ps")
    daemon = api.daemon_facts(client)
    api.require_local(daemon["root"], inspect["Id"])
    return Target(called, inspect, daemon, tool.version())


def with_storage(client: api.CheckpointClient, target: Target) -> Target:
    """Finds the container's files.

    :raises MigrationError: when its storage driver is not known and files were changed, which would be lost silently.
    """
    storage = storage_drivers.of_container(target.inspect, target.daemon["root"])
    if storage is None and client.diff(target.id):
        raise MigrationError(
            f"files in the root file system of {target.name} were changed, "
            f"which cannot be read from {target.inspect.get('Driver', 'this storage driver')}",
            NOTHING_CHANGED,
            f"use another storage driver ({', '.join(storage_drivers.DRIVERS)}), or keep the data in a volume",
        )
    return replace(target, storage=storage)


def require_possible(target: Target, goes_on: bool, way: str) -> None:
    """Raises with the reason where a checkpoint of this container cannot work.

    :param goes_on: whether the checkpoint does not end the container.
    :param way: one of C(ways.WAYS).
    """
    process = target.inspect["State"].get("Pid") or 0
    unreadable, stopped = procfs.unreadable_limits(process), procfs.stopped_below(process)
    refusal = refusals.checkpoint_refusal(
        target.inspect, target.daemon, target.criu_version, unreadable, goes_on, way, stopped
    )
    if refusal:
        raise MigrationError(refusal[0], NOTHING_CHANGED, refusal[1])


def require_mounts(target: Target, places: Collection[str]) -> None:
    """Raises where nothing is mounted at one of these places, which would be left out silently."""
    unknown = sorted(set(places) - set(mounts.sources(target.inspect)))
    if unknown:
        raise MigrationError(
            f"nothing is mounted at {', '.join(unknown)} in {target.called}",
            NOTHING_CHANGED,
            "look at its mounts with docker inspect",
        )


def hold_restart_policy(client: api.CheckpointClient, migration: str | None, target_id: str, held: dict | None) -> None:
    """A daemon that starts anew must not revive what is frozen here and runs elsewhere.

    :param held: the policy that is set to C(no), or None where there is nothing to hold.
    """
    if held:
        journal.note(migration, restart_policy=held)
        client.update_container(target_id, restart_policy={"Name": "no"})
