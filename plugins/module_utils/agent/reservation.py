# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both servers reserve for a migration: its entry in the journal, a private folder, and room for the memory.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import json
import os
import secrets
import time
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.agent.each import Move, order_path
from ansible_collections.fog.migration.plugins.module_utils.docker import options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access, staging, work_dir

MIB = 1 << 20
# Seconds for which a folder of a migration is left alone after its time.
EXPIRY_MARGIN = 300
_TOLD = ("id", "name", "source", "destination", "mode", "together")


def run_of(folder: str) -> str:
    """The name of the run, by which its key is known, from the agent's folder."""
    return os.path.basename(folder).rpartition("-")[2]


def reserve(folder: str, move: Move, arguments: dict[str, Any], role: str, copies: tuple[int, int]) -> dict[str, Any]:
    """Opens the journal and makes a private folder; C(directory), C(staging) and C(staging_path).

    :param copies: how many copies of the memory staging can hold, and how many it will.
    :raises MigrationError: when another migration of the container is open.
    """
    entry = {key: move[key] for key in _TOLD}
    entry.update(role=role, container=move["container_id"], stage="reservation")
    entry.update({key: arguments[key] for key in ("directory", "controller")})
    other = journal.open_entry(entry)
    if other:
        what, remedy = journal.under_way(other, None)
        raise MigrationError(what, "nothing was changed", remedy)
    user = ssh_access.login_user(arguments.get("user"))
    expires = int(time.time()) + int(arguments["timeout"]) + EXPIRY_MARGIN
    # Sockets have no long names.
    directory = work_dir.path_of(secrets.token_hex(8), role, expires)
    # So that what ends the migration removes this folder, and takes the key of the run out again.
    journal.note(move["id"], transfers=[{"id": run_of(folder), "directory": directory, "user": user}])
    work_dir.make(directory)
    with open(os.path.join(folder, "reserved"), "a", encoding="utf-8") as stream:
        stream.write(directory + "\n")
    path, limit = os.path.join(directory, work_dir.STAGING), int(arguments["staging_limit"]) * MIB
    made = staging.make(path, arguments["staging_directory"], int(move["memory"]), *copies, limit)
    if made["kind"] == "disk":
        # What is below /run, a restart of the server removes; this it does not.
        journal.note(move["id"], made={"scratch": [os.path.realpath(path)]})
    return {"directory": directory, "staging": made, "staging_path": path}


def write_order(folder: str, move: Move, made: dict[str, Any], order: dict[str, Any]) -> None:
    """Keeps what an end of the channel has to know, until it is started."""
    common: dict[str, Any] = {
        "migration": move["id"],
        "directory": made["directory"],
        "staging": made["staging_path"],
        "docker_socket": str(options.DEFAULTS["docker_host"])[len("unix://") :],
        "together": move["together"],
        "mounts": move["mounts"],
    }
    path = order_path(folder, move["id"])
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump({**common, **order}, stream)


def read_order(folder: str, identity: str) -> dict[str, Any]:
    """What C(write_order) has kept.

    :raises MigrationError: when nothing was reserved for this migration in this run.
    """
    journal.path_of(identity)
    try:
        with open(order_path(folder, identity), encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError as exc:
        raise MigrationError(f"nothing was reserved here for the migration {identity}") from exc
