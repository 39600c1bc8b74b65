# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a migration of a run failed, as the tasks of the run keep it, in words.

Private to the collection fog.migration.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a migration of a run does not go on: a stage, a host and what was wrong there, or all of it as a sentence.

    It crosses the tasks of a run as an object for JSON. A field that is None is not in it.
    """

    # The stage, as people call it, and the server, as the inventory calls it.
    stage: str | None = None
    host: str | None = None
    # Clauses: what was wrong, how things are now, what to do next.
    msg: str | None = None
    state_now: str | None = None
    remedy: str | None = None
    # Whether it was restored at the destination and found unfit.
    rejected: bool | None = None
    # All of it, without a full stop, where a task has failed as a whole.
    sentence: str | None = None
    # What else an agent has told, such as container_state and criu_log.
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def in_words(self) -> str:
        """The sentence that it is, without its full stop: stage, host, what, and how things are as far as known."""
        if self.sentence is not None:
            return self.sentence
        clauses = [str(self.msg).rstrip("."), self.state_now, self.remedy]
        return f"{self.stage} on {self.host}: {'; '.join(clause for clause in clauses if clause)}"

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON."""
        told = {name: getattr(self, name) for name in _NAMES}
        return {**self.details, **{name: value for name, value in told.items() if value is not None}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Failure:
        """The failure that an object for JSON is, as a task or an agent has made it."""
        details = {name: one for name, one in value.items() if name not in _NAMES}
        return cls(**{name: value[name] for name in _NAMES if name in value}, details=details)


_NAMES = tuple(one.name for one in dataclasses.fields(Failure) if one.name != "details")
