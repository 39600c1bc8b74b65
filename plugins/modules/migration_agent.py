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
      - With O(state=stopped), what this module returned as RV(agents) when it started them. Then they end without a
        module being run, and those that do not answer are left to end by themselves.
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

import contextlib
import os
import shutil
import sys
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils.agent import connect, steps
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import work_dir

STAGE = "Migration agent"
# Seconds until a new agent answers, and until one that was told to has ended.
START_LIMIT = 30
STOP_LIMIT = 10


def bundled() -> object:
    """The agent itself, which Ansible brings along because it is imported here. The module does not run it."""
    from ansible_collections.fog.migration.plugins.module_utils.agent import server

    return server


def start(folder: str) -> bool:
    """Starts the agent of this folder; whether it did not run yet.

    :raises MigrationError: when it does not come up.
    """
    if deploy.running(folder):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(os.path.dirname(folder), 0o700, exist_ok=True)
    os.mkdir(folder, 0o700)
    try:
        _launch(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return True


def _launch(folder: str) -> None:
    words = deploy.install(folder, {}, "agent.server")
    deploy.install_program(folder, "agent.connect")
    log = os.path.join(folder, "agent.log")
    # Not isolated as other programs are: the Docker SDK may be where this Python finds it only so.
    agent = deploy.spawn([word for word in words if word != "-I"], log)
    deadline = time.monotonic() + START_LIMIT
    while not os.path.exists(os.path.join(folder, connect.SOCKET)):
        if agent.poll() is not None or time.monotonic() > deadline:
            with contextlib.suppress(OSError):
                agent.kill()
            with open(log, encoding="utf-8", errors="replace") as stream:
                said = stream.read().strip().splitlines()
            why = said[-1] if said else "no answer"
            raise MigrationError(f"the agent did not start ({why})", "nothing was changed")
        time.sleep(0.005)


def stop(folder: str) -> bool:
    """Stops the agent of this folder; whether it ran."""
    ran = deploy.running(folder) is not None
    deploy.stop(folder)
    deadline = time.monotonic() + STOP_LIMIT
    while deploy.running(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    return ran


def main() -> None:
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
    run, started = module.params["run"], module.params["state"] == "started"
    folder = os.path.join(work_dir.base_directory(), f"agent-{run}")
    told = {"folder": folder, "python": sys.executable, "log": steps.path_of(folder)}
    try:
        if not run.isalnum():
            raise MigrationError(
                f"{run!r} is no name of a run, which has letters and digits only", "nothing was changed"
            )
        if module.check_mode:
            changed = (deploy.running(folder) is None) == started
        elif started:
            changed = start(folder)
        else:
            changed = stop(folder)
            steps.Steps(folder).close(keep=module.params["keep_log"])
        module.exit_json(changed=changed, agent=told)
    except MigrationError as error:
        module.fail_json(**error.result(STAGE))
    except OSError as error:
        module.fail_json(msg=MigrationError(f"{error.strerror or error}: {error.filename}").sentence(STAGE))


if __name__ == "__main__":
    main()
