# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a dump can leave in a container that goes on where it was: in words, and whether it runs as before.

CRIU undoes what it does to a container, but not when it is killed, and neither does a program of ours.

Pure functions all of them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.network.leftover_filters import Leftover
from ansible_collections.fog.migration.plugins.module_utils.network.repair_mode import Connection


@dataclasses.dataclass(frozen=True)
class Found:
    """How a container is, as far as a dump may have changed it."""

    # Why it is not there, as a clause; empty if it is.
    missing: str = ""
    has_ended: bool = False
    is_frozen: bool = False
    # Processes that CRIU holds, and those that a signal has stopped while it was paused.
    held: tuple[int, ...] = ()
    stopped: tuple[int, ...] = ()
    filters: tuple[Leftover, ...] = ()
    # Those in repair mode.
    connections: tuple[Connection, ...] = ()
    # What could not be looked at, each as a clause with the reason.
    unseen: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a container is after all was undone that could be."""

    has_ended: bool = False
    # What was undone, and what is there still: nouns.
    undone: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    # Whether a program may have met a connection in repair mode.
    had_errors: bool = False
    # See C(Found).
    unseen: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What there is to say besides that it runs: clauses, or nothing."""
        clauses = []
        if self.left:
            clauses.append(f"not as before, there still is {_listed(self.left)}")
        if self.undone:
            clauses.append(f"what a dump had left was undone: {_listed(self.undone)}")
        if self.had_errors:
            clauses.append("a program that used such a connection meanwhile has got an error")
        return "; ".join([*clauses, *(f"not looked at: {one}" for one in self.unseen)])

    def said(self, runs: str = "runs on", as_before: str = "runs on as before") -> str:
        """How it is, in words that follow its name, without the note.

        :param runs: the words where something was or is left, or could not be looked at.
        :param as_before: the words where nothing was.
        """
        if self.has_ended:
            return "has ended"
        return runs if self.undone or self.left or self.unseen else as_before

    def told(self, runs: str = "runs on", as_before: str = "runs on as before") -> str:
        """The same with the note."""
        said = self.said(runs, as_before)
        return f"{said} ({self.note})" if self.note else said


def problems(found: Found, paused: bool) -> list[str]:
    """What is not as in a container that just runs, as nouns.

    :param paused: whether it is frozen on purpose, and locked by the migration.
    """
    nouns = [
        _counted(found.held, "process that CRIU holds", "processes that CRIU holds"),
        _counted(found.stopped, "process that a signal has stopped", "processes that a signal has stopped"),
        "a frozen control group" if found.is_frozen and not paused else "",
        *(str(one) for one in found.filters if not (paused and one.is_ours)),
        _counted(found.connections, "connection in repair mode", "connections in repair mode"),
    ]
    # A table of ours may be there for several families.
    return [noun for noun in dict.fromkeys(nouns) if noun]


def outcome(before: Found, after: Found, paused: bool, ran: bool) -> Outcome:
    """What became of a container.

    :param before: how it was before all was undone.
    :param after: how it is afterwards, no longer paused.
    :param paused: whether it was paused before.
    :param ran: whether its processes may have run before all was undone.
    """
    if before.has_ended or after.has_ended:
        return Outcome(has_ended=True)
    missing = before.missing or after.missing
    if missing:
        return Outcome(unseen=(f"all of it ({missing})",))
    left = problems(after, paused=False)
    undone = [noun for noun in problems(before, paused) if noun not in left]
    return Outcome(False, tuple(undone), tuple(left), bool(before.connections) and ran, after.unseen)


def policy_left(wanted: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    """What is wrong with the restart policy of a container, as a noun.

    :param wanted: what it had before, or None where nothing was changed.
    """
    name = (now or {}).get("Name") or "no"
    if not wanted or wanted.get("Name") == name:
        return []
    return [f"the restart policy {name} in place of {wanted.get('Name')}"]


def _counted(some: Sequence[object], one: str, several: str) -> str:
    return f"{len(some)} {one if len(some) == 1 else several}" if some else ""


def _listed(nouns: Sequence[str]) -> str:
    *first, last = nouns
    return f"{', '.join(first)} and {last}" if first else last
