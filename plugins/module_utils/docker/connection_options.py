# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options by which modules connect to Docker's daemon, as those of community.docker.

This needs Ansible: what runs without it, C(api) does not import it.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ansible_collections.fog.migration.plugins.module_utils.docker.options import OPTIONS, VARIABLES

_FALLBACKS = {name: {"fallback": (env_fallback, [variable])} for name, variable in VARIABLES.items()}
CONNECTION_SPEC = {name: {**option, **_FALLBACKS.get(name, {})} for name, option in OPTIONS.items()}


def new_module(argument_spec: dict, needs_sdk: bool = True, **more: object) -> AnsibleModule:
    """An AnsibleModule with the connection options; ends with one sentence where the Docker SDK is missing.

    :param needs_sdk: whether the module always uses the SDK.
    """
    module = AnsibleModule(argument_spec=dict(CONNECTION_SPEC, **argument_spec), **more)
    if needs_sdk:
        _require_sdk(module)
    if module.params["debug"]:
        import logging
        import logging.handlers

        logger = logging.getLogger("urllib3")
        logger.setLevel(logging.DEBUG)
        if os.path.exists("/dev/log"):
            logger.addHandler(logging.handlers.SysLogHandler(address="/dev/log"))
    return module


def _require_sdk(module: AnsibleModule) -> None:
    """Ends the module with one sentence where the Docker SDK is missing. The import takes a moment."""
    from ansible_collections.fog.migration.plugins.module_utils.docker.api import DOCKER_IMPORT_ERROR

    if DOCKER_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("docker"), exception=DOCKER_IMPORT_ERROR)
