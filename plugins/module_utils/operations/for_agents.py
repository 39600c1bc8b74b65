# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options with which a task asks the agents of a run. Action plugins handle them, the modules have no use for them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from typing import Any

# Of a task that a module does, which the agent on its host can do as well.
AGENTS: dict[str, dict[str, Any]] = {"agents": {"type": "dict"}}
# Of a task that the agents do for several migrations.
RUN: dict[str, dict[str, Any]] = {
    **AGENTS,
    "migrations": {"type": "list", "elements": "dict"},
    "all_or_none": {"type": "bool", "default": False},
}
