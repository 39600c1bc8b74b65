# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugins of the modules that are run by themselves, or ask the agents of a run.

Private to the collection fog.migration.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import merge_hash

from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.plugin_utils import coordinator
from ansible_collections.fog.migration.plugins.plugin_utils.agents import AgentError, NoAgent, Server

# What these modules take for a run of migrations.
SPEC: dict[str, dict[str, Any]] = {
    **for_agents.RUN,
    "agents": {"type": "dict", "required": True},
    "migrations": {"type": "list", "elements": "dict", "required": True},
}


def own_agent(action: ActionBase, task_vars: dict[str, Any]) -> Server | None:
    """The agent on the host of the task, if the task names one."""
    name = action._task.delegate_to or task_vars["inventory_hostname"]
    agent = (action._task.args.get("agents") or {}).get(name)
    return Server(name, action, agent) if agent and not action._task.async_val else None


def ask_agent(action: Any, agent: Server | None, module: str) -> dict[str, Any] | None:
    """What the module returns, run in the agent; None where no agent runs, and the module has to be run by itself."""
    if agent is None or action._task.check_mode:
        return None
    try:
        return agent.ask("module", name=module.rpartition(".")[2], params=action.arguments())
    except NoAgent:
        return None
    except AgentError as exc:
        return {"unreachable" if exc.unreachable else "failed": True, "msg": str(exc), "changed": False}


def run_module(action: Any, module: str, task_vars: dict[str, Any]) -> dict[str, Any]:
    """As Ansible itself runs a module that has no action plugin."""
    wrap_async = action._task.async_val and not action._connection.has_native_async
    done: dict[str, Any] = action._execute_module(
        module_name=module, module_args=action.arguments(), task_vars=task_vars, wrap_async=wrap_async
    )
    if not wrap_async:
        action._remove_tmp_path(action._connection._shell.tmpdir)
    return done


def ask_or_run(action: Any, agent: Any, module: str, task_vars: dict[str, Any]) -> dict[str, Any]:
    """What the agent answers in the module's place, or the module where there is none that can.

    :param agent: an C(agents.Server), or None.
    """
    return ask_agent(action, agent, module) or run_module(action, module, task_vars)


class MigrationsAction(ActionBase):
    """Asks the agents where the task names migrations, and runs the module otherwise."""

    _supports_check_mode = True
    _supports_async = True
    module = ""
    # What the task may say besides SPEC where it names migrations.
    more: dict[str, dict[str, Any]] = {}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        result = super().run(tmp, task_vars)
        if "migrations" not in self._task.args:
            agent = own_agent(self, task_vars)
            return merge_hash(result, ask_or_run(self, agent, self.module, task_vars))
        _validation, options = self.validate_argument_spec({**SPEC, **self.more})
        if self._task.check_mode:
            return dict(result, changed=bool(options["migrations"]), migrations=options["migrations"])
        result.update(coordinator.run(self, task_vars, options, lambda one: self.coordinate(one, options)))
        return result

    def arguments(self) -> dict[str, Any]:
        """What the module is told."""
        return {name: value for name, value in self._task.args.items() if name != "agents"}

    def coordinate(self, one: coordinator.Coordinator, options: dict[str, Any]) -> None:
        """What is done for the migrations."""
        raise NotImplementedError
