# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts or stops the agents of several hosts at the same time."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.fog.migration.plugins.plugin_utils import coordinator
from ansible_collections.fog.migration.plugins.plugin_utils._peer import Peer, PeerError
from ansible_collections.fog.migration.plugins.plugin_utils.agents import AgentError, Server

MODULE = "fog.migration.migration_agent"


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
        agents = arguments.pop("agents", None) or {}
        peers: list[Peer] = []

        def asker(host: str) -> Any:
            peer = None
            if host != own:
                peer = Peer(self, host, task_vars)
                peers.append(peer)
            if host in agents and arguments.get("state") == "stopped" and not self._task.check_mode:
                server = Server(host, peer.action if peer else self, agents[host])
                return lambda: stop(server, agents[host], bool(arguments.get("keep_log")))
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
