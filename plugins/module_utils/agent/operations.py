# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operations of modules that an agent can run in its own process, without Ansible.

Each is imported when it is asked for.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import options as docker_options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.operations import options
from ansible_collections.fog.migration.plugins.module_utils.operations.operation import Operation
from ansible_collections.fog.migration.plugins.module_utils.request import Request


def _container_checkpoint() -> Operation:
    from ansible_collections.fog.migration.plugins.module_utils.operations import container_checkpoint

    return container_checkpoint.OPERATION


def _container_restore() -> Operation:
    from ansible_collections.fog.migration.plugins.module_utils.operations import container_restore

    return container_restore.OPERATION


def _checkpoint_transfer() -> Operation:
    from ansible_collections.fog.migration.plugins.module_utils.operations import checkpoint_transfer

    return checkpoint_transfer.OPERATION


def _migration_journal() -> Operation:
    from ansible_collections.fog.migration.plugins.module_utils.operations import migration_journal

    return migration_journal.OPERATION


def _image_export() -> Operation:
    from ansible_collections.fog.migration.plugins.module_utils.operations import image_export

    return image_export.OPERATION


def _image_load() -> Operation:
    from ansible_collections.fog.migration.plugins.module_utils.operations import image_load

    return image_load.OPERATION


def _network_create() -> Operation:
    from ansible_collections.fog.migration.plugins.module_utils.operations import network_create

    return network_create.OPERATION


def _server_info() -> Operation:
    from ansible_collections.fog.migration.plugins.module_utils.operations import server_info

    return server_info.OPERATION


# By the name of the module that does the same.
OPERATIONS: dict[str, Callable[[], Operation]] = {
    "container_checkpoint": _container_checkpoint,
    "container_restore": _container_restore,
    "checkpoint_transfer": _checkpoint_transfer,
    "migration_journal": _migration_journal,
    "image_export": _image_export,
    "image_load": _image_load,
    "network_create": _network_create,
    "server_info": _server_info,
}


def spec_of(operation: Operation) -> dict[str, Any]:
    """All options of an operation, those by which it connects to Docker's daemon among them."""
    return {**docker_options.OPTIONS, **operation.spec} if operation.connects else operation.spec


def run(name: str, params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Runs what a module of this collection does.

    :param params: as a task says them; options that are left out have their defaults.
    :returns: what the module would return: its result, or C(failed) and C(msg); and C(warnings).
    """
    asked = time.time()
    if name not in OPERATIONS:
        return _failed(f"the agent runs no module {name}")
    operation = OPERATIONS[name]()
    try:
        complete = options.complete(spec_of(operation), {**_environment(operation), **params}, operation.rules)
    except MigrationError as error:
        return _failed(f"{name}: {error}")
    warnings: list[str] = []
    result = operation.outcome(Request(complete, check_mode, warnings.append, asked))
    return {"changed": False, **result, "warnings": warnings}


def _environment(operation: Operation) -> dict[str, Any]:
    """What the environment says of the connection to Docker's daemon."""
    variables = docker_options.VARIABLES if operation.connects else {}
    return {name: os.environ[variable] for name, variable in variables.items() if variable in os.environ}


def _failed(what: str) -> dict[str, Any]:
    return {"changed": False, "failed": True, "msg": what, "warnings": []}
