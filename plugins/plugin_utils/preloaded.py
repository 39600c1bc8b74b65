# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plugins that C(ansible-playbook) itself loads, once, before it forks.

Ansible runs each task in a process that it forks from C(ansible-playbook). What is loaded there only, each of these
processes loads again: all filters of Ansible, and all of this collection, for the first one that a task uses.

Private to the collection fog.migration.
"""

from __future__ import annotations

from ansible.plugins.loader import filter_loader, test_loader


def load() -> None:
    """Loads all filters and tests of Ansible, and the filters of this collection."""
    # Looking for one loads all of them.
    filter_loader.get("fog.migration.migration_plan")
    filter_loader.get("ansible.builtin.default")
    test_loader.get("ansible.builtin.defined")
