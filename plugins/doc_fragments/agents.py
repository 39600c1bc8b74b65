# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation of the options with which a task asks the agents of a run."""

from __future__ import annotations


class ModuleDocFragment:
    """What our modules have in common that agents can do as well."""

    DOCUMENTATION = r"""
options:
  agents:
    description:
      - The agents of a run, as M(fog.migration.migration_agent) returned them. Where one runs on the host of the task,
        it does what the module would do, and no module is run. Otherwise, and in check mode, the module is run.
    type: dict
"""

    RUN = r"""
options:
  migrations:
    description:
      - Migrations of a run, as P(fog.migration.migration_plan#filter) or the task before has returned them. The task is
        for all of them then, and asks the O(agents) of both servers. All other options but those that say so are of no
        use.
      - The host of the task is the source.
    type: list
    elements: dict
  all_or_none:
    description:
      - With O(migrations), whether all of them move or none. The task fails if one of them fails.
      - Otherwise, one that fails does not stop the others, and the task fails only if all of them fail.
    type: bool
    default: false
"""
