# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a migration of a run failed, as the tasks of the run keep it, in words.

Private to the collection fog.migration.
"""

from __future__ import annotations

from typing import Any


def sentence(failure: dict[str, Any]) -> str:
    """The sentence that a failure is, without its full stop: stage, host, what, and how things are as far as known.

    :param failure: C(stage), C(host), C(msg), and C(state_now) and C(remedy) if there are any; or all as C(sentence).
    """
    if "sentence" in failure:
        return str(failure["sentence"])
    clauses = [str(failure["msg"]).rstrip("."), failure.get("state_now", ""), failure.get("remedy", "")]
    return f"{failure['stage']} on {failure['host']}: {'; '.join(clause for clause in clauses if clause)}"
