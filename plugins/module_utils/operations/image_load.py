# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module C(image_load) does.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.docker import api, image_load, image_pull
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.operations.with_docker import with_docker
from ansible_collections.fog.migration.plugins.module_utils.policy import rules
from ansible_collections.fog.migration.plugins.module_utils.request import Request

SPEC = {
    "image": {"type": "str", "required": True},
    "path": {"type": "path"},
    "tags": {"type": "list", "elements": "str", "default": []},
    "digests": {"type": "list", "elements": "str"},
}


def run(request: Request) -> dict:
    """Loads an image, or pulls it, and gives it those names that are free."""
    params = request.params
    client = api.connect(params)
    try:
        policy = rules.read()
    except rules.PolicyError as error:
        raise MigrationError(str(error), image_load.INTACT) from error
    pulled = {}
    if params["digests"] is not None:
        is_here = bool(client.find_image(params["image"]))
        if request.check_mode or is_here:
            return {"changed": not is_here, "why_not_pulled": ""}
        why_not = image_pull.pull(client, params["image"], params["digests"], policy)
        if why_not:
            return {"changed": False, "why_not_pulled": why_not}
        pulled = {"changed": True, "why_not_pulled": ""}
    done = image_load.load(client, params["image"], params["path"], params["tags"], request.check_mode, policy)
    return {**done, **pulled}


OPERATION = with_docker("Image", SPEC, run, for_agents=for_agents.AGENTS)
