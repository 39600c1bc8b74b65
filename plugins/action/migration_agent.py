# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts or stops the agents of several hosts at the same time."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport.ssh_access import shell_line
from ansible_collections.fog.migration.plugins.plugin_utils import coordinator
from ansible_collections.fog.migration.plugins.plugin_utils._peer import Peer, PeerError
from ansible_collections.fog.migration.plugins.plugin_utils.agents import AgentError, Server

MODULE = "fog.migration.migration_agent"


# Imports the agent's launcher from the archive that comes by standard input, and has it start the agent.
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


def packed() -> bytes:
    """The archive from which agents run."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(deploy.pack(os.path.join(folder, "agent.zip"))).read_bytes()


def start(action: ActionBase, host: str, python: str, run: str, archive: bytes) -> dict[str, Any]:
    """Starts an agent without a module; what the module would return."""
    command = shell_line([python, "-c", _BOOT, run])
    try:
        done = action._low_level_execute_command(command, in_data=archive)
    except AnsibleError as exc:
        return {"failed": True, "msg": f"Migration agent on {host}: the connection was lost ({exc})"}
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
    except AgentError:
        return {"changed": False, "agent": agent}
    return {"changed": True, "agent": agent}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        own = self._task.delegate_to or task_vars["inventory_hostname"]
        hosts = arguments.pop("hosts", None) or [own]
        agents, pythons = arguments.pop("agents", None) or {}, arguments.pop("pythons", None) or {}
        starts = arguments.get("state", "started") == "started"
        archive = packed() if pythons and starts and not self._task.check_mode else b""
        peers: list[Peer] = []

        def asker(host: str) -> Any:
            peer = None
            if host != own:
                peer = Peer(self, host, task_vars)
                peers.append(peer)
            if host in agents and not starts and not self._task.check_mode:
                server = Server(host, peer.action if peer else self, agents[host])
                return lambda: stop(server, agents[host], bool(arguments.get("keep_log")))
            if archive and host in pythons:
                action = peer.action if peer else self
                return lambda: start(action, host, pythons[host], str(arguments["run"]), archive)
            if peer:
                return lambda: peer.run(MODULE, arguments)
            return lambda: self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)

        try:
            # Built one after the other: templating is not for several threads.
            answers = dict(zip(hosts, coordinator.at_the_same_time([asker(host) for host in hosts]), strict=True))
        except PeerError as exc:
            return dict(result, failed=True, msg=f"Migration agent: {exc}")
        finally:
            for peer in peers:
                peer.close()
        failed = [answer for answer in answers.values() if answer.get("failed")]
        if failed:
            return dict(result, failed=True, msg=failed[0].get("msg", "an agent could not be started"))
        changed = any(answer["changed"] for answer in answers.values())
        return dict(result, changed=changed, agents={host: answer["agent"] for host, answer in answers.items()})
