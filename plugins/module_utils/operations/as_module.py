# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An operation as an Ansible module. This needs Ansible; what the agent imports does not import it.

Private to the collection fog.migration.
"""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils.docker import connection_options
from ansible_collections.fog.migration.plugins.module_utils.operations.operation import Operation
from ansible_collections.fog.migration.plugins.module_utils.request import Request


def run_as_module(operation: Operation) -> None:
    """Reads the module's parameters, runs the operation and ends the module with its result."""
    more = {"argument_spec": operation.spec, "supports_check_mode": True, **operation.rules}
    if operation.connects:
        module = connection_options.new_module(needs_sdk=operation.needs_sdk, **more)
    else:
        module = AnsibleModule(**more)
    request = Request.of_module(module)
    try:
        module.exit_json(**operation.run(request))
    except operation.failures as error:
        module.fail_json(**operation.explain(error, request))
