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
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.utils.display import Display

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport.ssh_access import shell_line

# The exit code of connect.py where no agent answers.
NO_AGENT = 3
# What an agent that was killed has left is removed by its own program.
_REMOVE = f"""
import os, sys
sys.path.insert(0, os.path.join(sys.argv[1], "agent.zip"))
from {deploy.PACKAGE}.agent import requests
print("removed" if requests.remove_unused(sys.argv[1]) else "")
"""
# The first Python that is there imports the agent's launcher from the archive that comes by standard input, and has it
# start the agent.
_FIND = """
program=$1 run=$2
shift 2
for python; do
    if command -v "$python" >/dev/null 2>&1; then exec "$python" -c "$program" "$run"; fi
done
echo "none of $* is there" >&2
exit 127
"""
_BOOT = """
import os, sys, tempfile
handle, path = tempfile.mkstemp(suffix=".zip")
try:
    with os.fdopen(handle, "wb") as stream:
        stream.write(sys.stdin.buffer.read())
    sys.path.insert(0, path)
    from ansible_collections.fog.migration.plugins.module_utils.agent import launch
    launch.main(sys.argv[1], path)
finally:
    os.unlink(path)
"""


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

    def remove_folder(self) -> bool:
        """Removes what an agent has left that was killed, if nothing of its run is open; whether it is removed."""
        command = shell_line([self._agent["python"], "-I", "-S", "-c", _REMOVE, self._agent["folder"]])
        try:
            return "removed" in self._action._low_level_execute_command(command)["stdout"].split()
        except AnsibleError:
            return False

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


# ---------------------------------------------------------------------------------------------------------------------
# Start and end


def interpreters(variables: Mapping[str, Any]) -> list[str]:
    """The Pythons that a server may have, the best one first: the one that Ansible was told, or those it looks for.

    :param variables: of the server.
    """
    # Not all of them: each one that is looked at is templated.
    names = ("ansible_python_interpreter", "ansible_interpreter_python_fallback")
    said = {name: variables[name] for name in names if name in variables}
    told = C.config.get_config_value("INTERPRETER_PYTHON", variables=said)
    if told and not str(told).startswith("auto"):
        return [str(told)]
    found = (variables.get("ansible_facts") or {}).get("discovered_interpreter_python")
    known = C.config.get_config_value("INTERPRETER_PYTHON_FALLBACK", variables=said)
    return [*([str(found)] if found else []), *known]


def packed() -> bytes:
    """The archive from which agents run."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(deploy.pack(os.path.join(folder, "agent.zip"))).read_bytes()


def start(action: Any, host: str, pythons: list[str], run: str, archive: bytes) -> dict[str, Any]:
    """Starts the agent of a run without a module: C(changed) and C(agent), or C(failed) or C(unreachable) and C(msg).

    :param action: an action plugin whose connection leads to the host.
    """
    command = shell_line(["sh", "-c", _FIND, "sh", _BOOT, run, *pythons])
    try:
        done = action._low_level_execute_command(command, in_data=archive)
    except AnsibleError as exc:
        word = "unreachable" if isinstance(exc, AnsibleConnectionFailure) else "failed"
        return {word: True, "msg": f"Migration agent on {host}: the connection was lost ({exc})"}
    for line in reversed(done["stdout"].splitlines()):
        try:
            told = json.loads(line)
        except ValueError:
            continue  # a login shell may say something as well
        if isinstance(told, dict) and ("agent" in told or "failed" in told):
            return told
    said = (done["stderr"].strip() or "no answer").splitlines()[-1]
    return {"failed": True, "msg": f"Migration agent on {host}: it could not be started ({said})"}


def stop(server: Server, agent: dict[str, Any], keep_log: bool) -> dict[str, Any]:
    """Has an agent end. One that does not answer has ended already, or ends by itself."""
    try:
        server.ask("stop", keep_log=keep_log)
    except NoAgent:
        return {"changed": server.remove_folder(), "agent": agent}
    except AgentError:
        return {"changed": False, "agent": agent}
    return {"changed": True, "agent": agent}
