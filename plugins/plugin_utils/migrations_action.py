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

from ansible_collections.fog.migration.plugins.plugin_utils import coordinator

# What these modules take for a run of migrations.
SPEC: dict[str, dict[str, Any]] = {
    "agents": {"type": "dict", "required": True},
    "migrations": {"type": "list", "elements": "dict", "required": True},
    "together": {"type": "bool", "default": False},
}


class MigrationsAction(ActionBase):
    """Asks the agents where the task names migrations, and runs the module otherwise."""

    _supports_check_mode = True
    _supports_async = True
    module = ""
    # What the task may say besides SPEC where it names migrations.
    more: dict[str, dict[str, Any]] = {}

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        if "migrations" not in self._task.args:
            return merge_hash(result, self.run_module(task_vars))
        _validation, options = self.validate_argument_spec({**SPEC, **self.more})
        if self._task.check_mode:
            return dict(result, changed=bool(options["migrations"]), migrations=options["migrations"])
        result.update(coordinator.run(self, task_vars, options, lambda one: self.coordinate(one, options)))
        return result

    def run_module(self, task_vars):
        """As Ansible itself runs a module that has no action plugin."""
        wrap_async = self._task.async_val and not self._connection.has_native_async
        done = self._execute_module(module_name=self.module, task_vars=task_vars, wrap_async=wrap_async)
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return done

    def coordinate(self, one: coordinator.Coordinator, options: dict[str, Any]) -> None:
        """What is done for the migrations."""
        raise NotImplementedError
