# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module, or has the agents of a run keep the journals of its migrations."""

from __future__ import annotations

import os

from ansible_collections.fog.migration.plugins.module_utils.operations.migration_settings import SETTINGS
from ansible_collections.fog.migration.plugins.plugin_utils import _controller
from ansible_collections.fog.migration.plugins.plugin_utils.migrations_action import MigrationsAction


class ActionModule(MigrationsAction):
    _supports_async = False
    module = "fog.migration.migration_journal"
    more = {
        "state": {"type": "str", "choices": ["reserved", "committed", "finished"], "required": True},
        "settings": {"type": "dict", "options": SETTINGS, "apply_defaults": True},
    }

    def arguments(self):
        """Tells the module which controller opens a journal."""
        arguments = super().arguments()
        if arguments.get("state") == "open":
            # Tasks run in processes that ansible-playbook has forked.
            arguments["controller"] = _controller.identity(os.getppid())
        return arguments

    def coordinate(self, one, options):
        if options["state"] == "reserved":
            settings = dict(options["settings"])
            limits = {"rounds": settings.pop("max_rounds")}
            limits.update({name: settings.pop(name) for name in ("threshold", "shrink")})
            one.reserve(dict(settings, limits=limits))
        elif options["state"] == "committed":
            one.commit()
        else:
            one.finish()
