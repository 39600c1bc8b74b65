# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module, or has the agents of a run freeze the containers of its migrations and hand them over."""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.plugin_utils.migrations_action import MigrationsAction


class ActionModule(MigrationsAction):
    module = "fog.migration.container_checkpoint"
    more = {"at_once": {"type": "int", "default": 1}}

    def coordinate(self, one, options):
        one.switch_over(options["at_once"])
