# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts or stops the agents of several hosts at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.fog.migration.plugins.plugin_utils import agents, coordinator
from ansible_collections.fog.migration.plugins.plugin_utils._peer import Peer, PeerError

MODULE = "fog.migration.migration_agent"


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        own = self._task.delegate_to or task_vars["inventory_hostname"]
        hosts = arguments.pop("hosts", None) or [own]
        known, keep_log = arguments.pop("agents", None), bool(arguments.get("keep_log"))
        starts = arguments.get("state", "started") == "started" and not self._task.check_mode
        archive = agents.packed() if starts else b""
        peers: list[Peer] = []

        def asker(host: str) -> Callable[[], dict[str, Any]]:
            peer = None if host == own else Peer(self, host, task_vars)
            peers.extend([peer] if peer else [])
            action = peer.action if peer else self
            if starts:
                pythons = agents.interpreters(task_vars["hostvars"][host])
                return lambda: agents.start(action, host, pythons, str(arguments["run"]), archive)
            if known is not None and not self._task.check_mode:
                server = agents.Server(host, action, known[host])
                return lambda: agents.stop(server, known[host], keep_log)
            if peer:
                return lambda: peer.run(MODULE, arguments)
            return lambda: self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)

        # Those that are known are all that there are.
        hosts = hosts if known is None else [host for host in hosts if host in known]
        if not hosts:
            return dict(result, changed=False, agents={})
        try:
            # Built one after the other: templating is not for several threads.
            answers = dict(zip(hosts, coordinator.at_the_same_time([asker(host) for host in hosts]), strict=True))
        except PeerError as exc:
            return dict(result, failed=True, msg=f"Migration agent: {exc}")
        finally:
            for peer in peers:
                peer.close()
        failed = [answer for answer in answers.values() if "agent" not in answer]
        if failed:
            return dict(result, failed=True, msg=failed[0].get("msg", "an agent could not be started"))
        changed = any(answer["changed"] for answer in answers.values())
        return dict(result, changed=changed, agents={host: answer["agent"] for host, answer in answers.items()})
