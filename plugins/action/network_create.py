# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module, by itself or in the agent of a run."""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.plugin_utils.migrations_action import MigrationsAction


class ActionModule(MigrationsAction):
    module = "fog.migration.network_create"
