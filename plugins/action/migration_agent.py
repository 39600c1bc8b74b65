# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts or stops the agents of several hosts at the same time."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.fog.migration.plugins.plugin_utils import coordinator
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
        peers: list[Peer] = []

        def asker(host: str) -> Any:
            if host == own:
                return lambda: self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
            peer = Peer(self, host, task_vars)
            peers.append(peer)
            return lambda: peer.run(MODULE, arguments)

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
