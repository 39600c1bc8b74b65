# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Operations that speak to Docker's daemon, and how their failures are told.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import api
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.operations.operation import Operation
from ansible_collections.fog.migration.plugins.module_utils.request import Request

# What they can fail with: our own refusals, and what a call of the API can raise.
FAILURES: tuple[type[Exception], ...] = (MigrationError, *api.FAILURES)


def with_docker(
    stage: str,
    spec: dict[str, Any],
    run: Callable[[Request], dict[str, Any]],
    rules: dict[str, Any] | None = None,
    state: str = "",
    for_agents: dict[str, Any] | None = None,
) -> Operation:
    """An operation that may call Docker's API.

    :param stage: the word by which its failures begin.
    :param state: the clause that tells in which state things are when the API fails unexpectedly.
    """

    def explain(error: Exception, _request: Request) -> dict[str, Any]:
        if isinstance(error, MigrationError):
            return error.result(stage)
        return {"msg": MigrationError(api.api_message(error), state).sentence(stage)}

    return Operation(spec, run, FAILURES, explain, rules or {}, for_agents or {})
