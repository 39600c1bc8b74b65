# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switchover of a live migration: containers freeze at the source, and go on at the other ends of their channels.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import target as _target
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import writer
from ansible_collections.fog.migration.plugins.module_utils.docker import api, restart_policy
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.migration import group_migration
from ansible_collections.fog.migration.plugins.module_utils.request import Request


def run(request: Request, client: api.CheckpointClient) -> dict:
    """Freezes the container, and those that move with it, and has all go on at the other ends of their channels.

    :returns: the result of the module.
    :raises MigrationError: when one of them could not.
    """
    params = request.params
    writer.require_valid(params)
    path = os.path.join(params["directory"], params["name"])
    diff = {"before": {"container": "running"}, "after": {"container": "paused"}}
    result = {"changed": True, "path": path, "diff": diff}
    if request.check_mode:
        return result
    members = _members(client, [params, *params["others"]])
    try:
        results = move(client, members)
    except MigrationError as error:
        error.details["restart_policy_held"] = members[0].held
        raise
    return dict(result, **results[0], others=results[1:])


def move(client: api.CheckpointClient, members: list[group_migration.Move]) -> list[dict]:
    """Moves these containers together; the result of each.

    :raises MigrationError: of the first one that could not; the restart policy of those that stayed is back then.
    """
    moves = group_migration.Moves(members)
    try:
        moves.run()
    except MigrationError:
        for one in moves.stayed:
            if one.held:
                client.update_container(one.container_id, restart_policy=one.held)
        raise
    return [dict(one.result, container=one.container, restart_policy_held=one.held) for one in members]


def _members(client: api.CheckpointClient, moving: list[dict]) -> list[group_migration.Move]:
    """All of them are looked at before the restart policy of one is held."""
    targets = [_target.with_storage(client, _target.find(client, one["container"])) for one in moving]
    return [_held(client, one, target) for one, target in zip(moving, targets)]


def _held(client: api.CheckpointClient, options: dict, target: _target.Target) -> group_migration.Move:
    held = restart_policy.to_hold(target.inspect, leave_running=False)
    _target.hold_restart_policy(client, options["migration"], target.id, held)
    return group_migration.Move(options["container"], options["channel"], options["mode"], target.id, held)
