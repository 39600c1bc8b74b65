# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(network_create) does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.docker import api
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.network import docker_networks
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.with_docker import with_docker
from ansible_collections.fog.migration.plugins.module_utils.request import Request

SPEC = {
    "networks": {"type": "dict", "required": True},
    "judged": {"type": "dict"},
    "migration": {"type": "str"},
}


def run(request: Request) -> dict:
    """Makes the networks that are not here."""
    params = request.params

    def note(name: str) -> None:
        if params["migration"]:
            journal.note(params["migration"], made={"networks": [name]})

    client = api.connect(params)
    made = docker_networks.make(client, params["networks"], params["judged"], note, request.check_mode)
    return {"changed": bool(made), "made": made}


OPERATION = with_docker("Reservation", SPEC, run, for_agents=for_agents.AGENTS)
