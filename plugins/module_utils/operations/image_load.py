# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(image_load) does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.docker import api, image_load
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.with_docker import with_docker
from ansible_collections.fog.migration.plugins.module_utils.request import Request

SPEC = {
    "image": {"type": "str", "required": True},
    "path": {"type": "path"},
    "tags": {"type": "list", "elements": "str", "default": []},
}


def run(request: Request) -> dict:
    """Loads an image, and gives it those names that are free."""
    params = request.params
    client = api.connect(params)
    return image_load.load(client, params["image"], params["path"], params["tags"], request.check_mode)


OPERATION = with_docker("Image", SPEC, run, for_agents=for_agents.AGENTS)
