# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module, or has the agents of a run make and arm the containers of its migrations at the destination."""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.plugin_utils.migrations_action import MigrationsAction


class ActionModule(MigrationsAction):
    module = "fog.migration.container_restore"
    more = {"state": {"type": "str", "choices": ["armed"], "required": True}}

    def coordinate(self, one, options):
        one.arm()
