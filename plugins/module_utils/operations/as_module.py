# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operation as an Ansible module. This needs Ansible; what the agent imports does not import it.

Private to the collection fog.migration.
"""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils.docker import connection_options
from ansible_collections.fog.migration.plugins.module_utils.operations.operation import Operation
from ansible_collections.fog.migration.plugins.module_utils.request import Request


def for_module(operation: Operation) -> tuple[dict[str, Any], dict[str, Any]]:
    """The module's options and rules. What a module cannot do without, a task for several migrations can."""
    if "migrations" not in operation.for_agents:
        return {**operation.spec, **operation.for_agents}, operation.rules
    required = [name for name, option in operation.spec.items() if option.get("required")]
    spec = {
        name: {key: one for key, one in option.items() if key != "required"} for name, option in operation.spec.items()
    }
    one_of = [(name, "migrations") for name in required]
    return {**spec, **operation.for_agents}, {**operation.rules, "required_one_of": one_of}


def run_as_module(operation: Operation) -> None:
    """Reads the module's parameters, runs the operation and ends the module with its result."""
    spec, rules = for_module(operation)
    more = {"argument_spec": spec, "supports_check_mode": True, **rules}
    if operation.connects:
        module = connection_options.new_module(needs_sdk=operation.needs_sdk, **more)
    else:
        module = AnsibleModule(**more)
    # One with a default has a value in any case.
    asked = {name: module.params.pop(name, None) for name in operation.for_agents}
    if any(value != operation.for_agents[name].get("default") for name, value in asked.items()):
        module.fail_json(msg="Agents are asked by the action plugin on the controller; nothing was done.")
    request = Request.of_module(module)
    try:
        module.exit_json(**operation.run(request))
    except operation.failures as error:
        module.fail_json(**operation.explain(error, request))
