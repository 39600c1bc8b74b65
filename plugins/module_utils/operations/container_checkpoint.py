# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(container_checkpoint) does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import writer
from ansible_collections.fog.migration.plugins.module_utils.docker import api
from ansible_collections.fog.migration.plugins.module_utils.migration import switchover
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import source_requests
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.with_docker import with_docker
from ansible_collections.fog.migration.plugins.module_utils.request import Request

MODE = {"type": "str", "choices": list(source_requests.MODES), "default": "stop-and-copy"}
OTHERS = {
    "container": {"type": "str", "required": True},
    "channel": {"type": "path", "required": True},
    "migration": {"type": "str", "required": True},
    "mode": MODE,
}
SPEC = {
    "container": {"type": "str"},
    "name": {"type": "str", "required": True, "aliases": ["checkpoint"]},
    "directory": {"type": "path", "default": "/var/lib/fog-migration/checkpoints"},
    "state": {"type": "str", "choices": list(writer.STATES), "default": "present"},
    "since": {"type": "path"},
    "encryption_key": {"type": "str", "no_log": True},
    "channel": {"type": "path"},
    "others": {"type": "list", "elements": "dict", "default": [], "options": OTHERS},
    "mode": MODE,
    "mounts": {"type": "list", "elements": "str", "default": []},
    "log": {"type": "bool", "default": False},
    "migration": {"type": "str"},
    "leave_running": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "checkpoint_timeout": {"type": "int", "default": 900},
}
RULES = {
    "required_if": [
        *(("state", state, ["container"]) for state in ("present", "prepared", "content")),
        ("state", "encrypted", ["encryption_key"]),
    ],
    "mutually_exclusive": [("channel", "encryption_key"), ("channel", "since")],
}


def run(request: Request) -> dict:
    """Makes, encrypts or deletes a checkpoint, or has the container go on at the other end of a channel."""
    client = api.connect(request.params)
    if request.params["state"] == "present" and request.params["channel"]:
        return switchover.run(request, client)
    return writer.run(request, client)


OPERATION = with_docker(
    "Checkpoint", SPEC, run, RULES, for_agents={**for_agents.RUN, "at_once": {"type": "int", "default": 1}}
)
