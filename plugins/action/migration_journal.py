# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the module which controller opens a journal."""

from __future__ import annotations

import os

from ansible.plugins.action import ActionBase

from ansible_collections.fog.migration.plugins.plugin_utils import _controller


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if arguments.get("state") == "open":
            # Tasks run in processes that ansible-playbook has forked.
            arguments["controller"] = _controller.identity(os.getppid())
        result.update(
            self._execute_module(
                module_name="fog.migration.migration_journal", module_args=arguments, task_vars=task_vars
            )
        )
        return result
