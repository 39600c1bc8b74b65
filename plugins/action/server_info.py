# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module, by itself or in the agent of a run, which it can start before."""

from __future__ import annotations

from ansible.plugins.action import ActionBase

from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.plugin_utils import agents, preloaded
from ansible_collections.fog.migration.plugins.plugin_utils.migrations_action import (
    ask_or_run,
    own_agent,
    run_module,
)

MODULE = "fog.migration.server_info"
# ansible-playbook imports this itself, before it forks.
preloaded.load()


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        agent = own_agent(self, task_vars)
        if agent:
            return dict(result, **ask_or_run(self, agent, MODULE, task_vars))
        run = self._task.args.get("run")
        if not run or self._task.check_mode or self._task.async_val:
            return dict(result, **run_module(self, MODULE, task_vars))
        name = self._task.delegate_to or task_vars["inventory_hostname"]
        pythons = agents.interpreters(task_vars["hostvars"][name])
        started = agents.start(self, name, pythons, str(run), agents.packed())
        if "unreachable" in started:
            return dict(result, **started)
        if "agent" not in started:
            # What keeps an agent from being started, the module tells as Ansible tells it of any module.
            return dict(result, **run_module(self, MODULE, task_vars))
        server = agents.Server(name, self, started["agent"])
        told = ask_or_run(self, server, MODULE, task_vars)
        return dict(result, **told, agent=started["agent"])

    def arguments(self):
        """What the module is told."""
        return {name: value for name, value in self._task.args.items() if name not in {*for_agents.AGENTS, "run"}}
