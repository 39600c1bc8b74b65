# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(server_info) does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import reader
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.operation import Operation
from ansible_collections.fog.migration.plugins.module_utils.preflight import server_facts
from ansible_collections.fog.migration.plugins.module_utils.request import Request


def run(request: Request) -> dict[str, Any]:
    """Gathers what is wanted. Docker is not asked for what can be told without it."""
    client = reader.connect(request.params) if server_facts.needs_docker(request.params) else None
    return {"changed": False, **server_facts.gather(request.params, client)}


def _explain(error: Exception, _request: Request) -> dict[str, Any]:
    return error.result("Info") if isinstance(error, MigrationError) else {"msg": str(error)}


FOR_AGENTS = {**for_agents.AGENTS, "run": {"type": "str"}}
OPERATION = Operation(
    server_facts.argument_spec(), run, (MigrationError,), _explain, for_agents=FOR_AGENTS, needs_sdk=False
)
