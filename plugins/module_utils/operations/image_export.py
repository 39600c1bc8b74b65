# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(image_export) does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.docker import api, image_export
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.with_docker import with_docker
from ansible_collections.fog.migration.plugins.module_utils.request import Request

SPEC = {
    "image": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
    "layers": {"type": "list", "elements": "str", "default": []},
}


def run(request: Request) -> dict:
    """Saves an image without the layers that another server has."""
    params = request.params
    client = api.connect(params)
    return image_export.export(client, params["image"], params["path"], set(params["layers"]), request.check_mode)


OPERATION = with_docker("Image", SPEC, run, state=image_export.INTACT, for_agents=for_agents.AGENTS)
