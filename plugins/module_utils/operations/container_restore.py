# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(container_restore) does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import reader
from ansible_collections.fog.migration.plugins.module_utils.docker import api
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.with_docker import with_docker
from ansible_collections.fog.migration.plugins.module_utils.request import Request

ORDER = {
    "place": {"type": "str", "required": True},
    "type": {"type": "str", "required": True, "choices": ["volume", "bind"]},
    "name": {"type": "str", "default": ""},
    "path": {"type": "str", "required": True},
}
SPEC = {
    "path": {"type": "path", "required": True},
    "name": {"type": "str"},
    "state": {"type": "str", "choices": list(reader.STATES), "default": "present"},
    "migration": {"type": "str"},
    "judged": {"type": "dict"},
    "mounts": {"type": "list", "elements": "dict", "options": ORDER},
    "encryption_key": {"type": "str", "no_log": True},
    "restore_timeout": {"type": "int", "default": 600},
}


def run(request: Request) -> dict:
    """Restores a container from a checkpoint, prepares that, or takes it back."""
    return reader.run(request, api.connect(request.params))


OPERATION = with_docker("Restore", SPEC, run, state=reader.INTACT, for_agents=for_agents.RUN)
