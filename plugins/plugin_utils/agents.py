# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side of the agents: one request, one answer, through Ansible's own connection to the server.

The connection stays open between requests as Ansible's connections do (SSH: ControlPersist), whatever the connection
plugin and the way to become root are.

Private to the collection fog.migration.
"""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError
from ansible_collections.fog.migration.plugins.module_utils.transport.ssh_access import shell_line

# The exit code of connect.py where no agent answers.
NO_AGENT = 3


class AgentError(CollectionError):
    """An agent cannot be asked, or has refused the whole request. The text is a clause.

    :param unreachable: whether the server itself could not be reached.
    :param details: what the agent says besides, such as C(state_now) and C(remedy).
    """

    def __init__(self, what: str, unreachable: bool = False, **details: Any) -> None:
        super().__init__(what)
        self.unreachable = unreachable
        self.details = details


class NoAgent(AgentError):
    """No agent runs there. Nothing was done."""


class Server:
    """One server with an agent.

    :param name: its name in the inventory.
    :param action: an action plugin whose connection leads there.
    :param agent: C(folder) and C(python) of its agent, as the module migration_agent has returned them.
    :param user: the user that Ansible logs in as, if the connection says so.
    """

    def __init__(self, name: str, action: Any, agent: dict[str, str]) -> None:
        self.name = name
        self._action = action
        self._agent = agent

    @property
    def user(self) -> str | None:
        """The user that Ansible logs in as, where the connection says so."""
        try:
            return self._action._connection.get_option("remote_user")
        except (KeyError, AttributeError):
            return None

    def ask(self, operation: str, **arguments: Any) -> Any:
        """The result of one request.

        :raises AgentError: when there is none.
        """
        program = os.path.join(self._agent["folder"], "connect.py")
        command = shell_line([self._agent["python"], "-I", "-S", program, "call"])
        request = json.dumps({"operation": operation, "arguments": arguments}) + "\n"
        Display().v(f"{self.name}: asked for {operation}")
        try:
            done = self._action._low_level_execute_command(command, in_data=request.encode("utf-8"))
        except AnsibleError as exc:
            raise AgentError(str(exc).strip().rstrip("."), unreachable=True) from exc
        answer = self._parsed(done)
        for line in answer.get("steps", []):
            Display().v(f"{self.name}: {line}")
        if "failure" in answer:
            details = dict(answer["failure"])
            raise AgentError(str(details.pop("msg")).rstrip("."), **details)
        return answer["result"]

    def _parsed(self, done: dict[str, Any]) -> dict[str, Any]:
        """The answer in what the command printed, which a login shell may have put something in front of."""
        for line in reversed(done["stdout"].splitlines()):
            try:
                answer = json.loads(line)
            except ValueError:
                continue
            if isinstance(answer, dict) and ("result" in answer or "failure" in answer):
                return answer
        if done["rc"] == NO_AGENT:
            raise NoAgent("no agent runs there")
        said = (done["stderr"].strip() or done["stdout"].strip()).splitlines()
        raise AgentError(f"its agent gave no answer ({said[-1] if said else 'it has ended'})")
