# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong: the base of all exceptions of this collection, and those that several rooms raise.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import platform
from typing import Any


class CollectionError(Exception):
    """Base of all exceptions of this collection. The text is a clause or a sentence for people."""


class ChannelError(CollectionError):
    """Base of what can go wrong between two servers. The text is one sentence for people."""


class Interrupted(ChannelError):
    """The other end went away: trying again makes sense, and resumes."""


class Refused(ChannelError):
    """One end said no and told why: trying again the same way makes no sense."""


class MigrationError(CollectionError):
    """Something that a user has to be told: what went wrong, what state things are in now, what to do next.

    :param what: a clause without a full stop, e.g. C(the container looper100 is not running).
    :param state: a clause about the state of the container and of the files now.
    :param remedy: an imperative clause saying what to do next.
    :param details: further values for the module's result, e.g. C(criu_log).
    """

    def __init__(self, what: str, state: str = "", remedy: str = "", **details: Any) -> None:
        super().__init__(what)
        self.what = what
        self.state = state
        self.remedy = remedy
        self.details = details

    def sentence(self, stage: str, host: str = "") -> str:
        """One sentence: stage, host, what, state now, what to do next."""
        clauses = [clause for clause in (self.what, self.state, self.remedy) if clause]
        return f"{stage} on {host or platform.node()}: {'; '.join(clauses)}."

    def result(self, stage: str) -> dict:
        """The keyword arguments of C(fail_json)."""
        return dict(self.details, msg=self.sentence(stage), stage=stage, state_now=self.state, remedy=self.remedy)
