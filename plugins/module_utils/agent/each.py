# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doing the same for each migration of a request, so that one that fails concerns no other one.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.agent.migration import Migration
from ansible_collections.fog.migration.plugins.module_utils.agent.steps import Steps
from ansible_collections.fog.migration.plugins.module_utils.docker import api
from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError, MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import limits

# What can go wrong with one of them.
FAILURES: tuple[type[Exception], ...] = (CollectionError, *api.FAILURES)


def failure_of(exc: Exception) -> dict[str, Any]:
    """Why one migration failed, for the coordinator."""
    if isinstance(exc, MigrationError):
        return dict(exc.details, msg=exc.what, state_now=exc.state, remedy=exc.remedy)
    what = str(exc) if isinstance(exc, CollectionError) else api.api_message(exc)
    return {"msg": what, "state_now": "", "remedy": ""}


def each(
    migrations: list[Migration], work: Callable[[Migration], Any], steps: Steps, what: str, at_once: int = 0
) -> dict[str, dict[str, Any]]:
    """What came of each: C(result) or C(failure), by the ID of the migration.

    :param what: what is done, for the log.
    :param at_once: how many at the same time at the most; 0 for all.
    """

    def guarded(one: Migration) -> dict[str, Any]:
        try:
            with steps.step(one.container, what):
                return {"result": work(one)}
        except FAILURES as exc:
            return {"failure": failure_of(exc)}
        except limits.NO_MEMORY as exc:
            return {"failure": {"msg": limits.out_of_memory(exc), "state_now": "", "remedy": ""}}
        except Exception as exc:
            return {"failure": {"msg": f"{type(exc).__name__}: {exc}", "state_now": "", "remedy": ""}}

    if not migrations:
        return {}
    with ThreadPoolExecutor(at_once or len(migrations)) as pool:
        return dict(zip([one.id for one in migrations], pool.map(guarded, migrations)))
