# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one module does: its options, the function that does it, and the words in which its failures are told.

A module and the agent run the same operation. This needs no Ansible.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.request import Request


@dataclass(frozen=True)
class Operation:
    """One operation."""

    # The options, as an AnsibleModule wants them.
    spec: dict[str, Any]
    # Returns the module's result, or raises one of C(failures).
    run: Callable[[Request], dict[str, Any]]
    failures: tuple[type[Exception], ...]
    # The module's result after such a failure.
    explain: Callable[[Exception, Request], dict[str, Any]]
    # What an AnsibleModule wants besides, such as C(required_if).
    rules: dict[str, Any] = field(default_factory=dict)
    # The options with which a task asks agents, see C(for_agents).
    for_agents: dict[str, Any] = field(default_factory=dict)
    # Whether it has the options by which modules connect to Docker's daemon.
    connects: bool = True
    # Whether it always does so by Docker's SDK.
    needs_sdk: bool = True

    def outcome(self, request: Request) -> dict[str, Any]:
        """The module's result, C(failed) and C(msg) among it after a failure."""
        try:
            return self.run(request)
        except Exception as error:
            if not isinstance(error, self.failures):
                raise
            return dict(self.explain(error, request), failed=True)
