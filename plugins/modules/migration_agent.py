#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_agent
short_description: Start the agents of a run of migrations, and stop them
version_added: 0.1.0
description:
  - An agent is one process on a fog server. It does the work of a run of migrations there, for all of its containers,
    so that nothing has to be started and imported again for each step. M(fog.migration.container_restore),
    M(fog.migration.checkpoint_transfer), M(fog.migration.container_checkpoint) and M(fog.migration.migration_journal)
    send requests to it where they are given O(ignore:agents).
  - An agent listens at a Unix socket in a folder that only root can read. It opens no port. Requests come through
    Ansible's own connection.
  - It is started without a module being run, by the Python interpreter that Ansible would use for one.
  - What it moves does not depend on it. If it is killed, or nobody asks it any more, the journal tells what is left,
    and C(recover.yml) settles that. Without work, an agent ends by itself.
author:
  - fog.migration contributors (@fog-migration)
attributes:
  check_mode:
    support: full
    description: Nothing is started or stopped.
  diff_mode:
    support: none
    description: There is nothing to show.
  idempotent:
    support: full
    description: An agent that runs already is left as it is.
options:
  run:
    description: Name of the run, of letters and digits.
    type: str
    required: true
  state:
    description: V(started) or V(stopped).
    type: str
    choices: [started, stopped]
    default: started
  hosts:
    description:
      - Inventory hosts that the task is for. All of them are asked at the same time.
      - Without it, the host of the task.
    type: list
    elements: str
  agents:
    description:
      - With O(state=stopped), what this module returned as RV(agents) when it started them, or
        M(fog.migration.server_info) as RV(fog.migration.server_info#module:agent) of each host. Then only these are
        asked, without a module being run, and those that do not answer are left to end by themselves.
    type: dict
  keep_log:
    description:
      - With O(state=stopped), whether the log of the agent's steps is kept, in C(/var/log/fog-migration) on each
        server.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Start an agent on each server
  fog.migration.migration_agent:
    run: 20261128a
    hosts: [fog1, fog2]
  register: started

- name: Stop them
  fog.migration.migration_agent:
    run: 20261128a
    state: stopped
    hosts: [fog1, fog2]
"""

RETURN = r"""
agents:
  description:
    - The agents by host, each with its C(folder), the C(python) that runs it, and its C(log). In check mode they are
      those that would be started.
  returned: success
  type: dict
  sample:
    fog1:
      folder: /run/fog-migration/agent-20261128a
      python: /usr/bin/python3
      log: /var/log/fog-migration/agent-20261128a.log
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils.agent import launch, steps
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import deploy


def main() -> None:
    """Stops an agent, or tells in check mode what would be done. The action plugin starts them."""
    module = AnsibleModule(
        {
            "run": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
            "hosts": {"type": "list", "elements": "str"},
            "agents": {"type": "dict"},
            "keep_log": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    started = module.params["state"] == "started"
    try:
        folder = launch.folder_of(module.params["run"])
        if module.check_mode:
            changed = (deploy.running(folder) is None) == started
        elif started:
            raise MigrationError("it is started by the action plugin of this module only", "nothing was changed")
        else:
            changed = launch.stop(folder)
            steps.Steps(folder).close(keep=module.params["keep_log"])
        module.exit_json(changed=changed, agent=launch.described(folder))
    except MigrationError as error:
        module.fail_json(**error.result(launch.STAGE))
    except OSError as error:
        module.fail_json(msg=MigrationError(f"{error.strerror or error}: {error.filename}").sentence(launch.STAGE))


if __name__ == "__main__":
    main()
