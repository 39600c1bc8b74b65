# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a migration, one on each of its two servers, and which of them may follow which.

The entry of the source decides who may run the container:

===========  ==========================================================================================================
owner        who may run it
===========  ==========================================================================================================
source       the source, whenever it wants to; the destination has no order to restore, or has refused it
in_doubt     the destination has the order, or is about to get it: only it can say who has the container (as in
             two-phase commit); the source must not run it
destination  the destination; the source never runs it again
===========  ==========================================================================================================

The owner in the destination's entry says less: C(destination) means that the container has run there, or, if it moves
together with others, that all of them go on there. It is written after the fact.

An entry is opened in its first state, and may be closed in any state. At the source, an entry is
opened first, and closed first when the migration ends well. At the destination, it is closed first when the migration
is undone. So a missing entry says something as well.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import enum

SOURCE = "source"
DESTINATION = "destination"
IN_DOUBT = "in_doubt"
ROLES = (SOURCE, DESTINATION)
OWNERS = (SOURCE, IN_DOUBT, DESTINATION)


class State(enum.Enum):
    """What a migration has come to on one server: the C(stage) and the C(owner) of its entry."""

    # The first one of both. What the migration needs is made, copied and armed in it.
    RESERVED = ("reservation", SOURCE)
    # Source, cold mode: the checkpoint is made, or was made.
    CHECKPOINT = ("checkpoint", SOURCE)
    # Source: written before the order to restore is given.
    HANDED_OVER = ("handover", IN_DOUBT)
    # Source: the order was not given after all, or the destination has refused it, itself.
    TAKEN_BACK = ("handover", SOURCE)
    # Source: the container runs at the destination, which has proved it.
    COMMITTED = ("commitment", DESTINATION)
    # Destination, cold mode: a restore is about to begin.
    RESTORING = ("restore", SOURCE)
    # Destination: the container has run there, or goes on there with all that move together with it.
    RESTORED = ("restored", DESTINATION)
    # Destination, of containers that move together: it does not run there and will not, so none of the others does.
    REFUSED = ("refused", SOURCE)

    @property
    def stage(self) -> str:
        """How far the migration is, as a word for people."""
        return self.value[0]

    @property
    def owner(self) -> str:
        """Who has the container, as this server knows it; one of C(OWNERS)."""
        return self.value[1]

    def __str__(self) -> str:
        return f"{self.stage} (owner {self.owner})"


FIRST = State.RESERVED
# What may follow a state, other than itself: a note may be repeated, by recover.yml or after a lost answer.
# TAKEN_BACK, COMMITTED, RESTORED and REFUSED are final, so no owner ever goes from destination back to source.
TRANSITIONS: dict[str, dict[State, tuple[State, ...]]] = {
    SOURCE: {
        State.RESERVED: (State.CHECKPOINT, State.HANDED_OVER),
        State.CHECKPOINT: (State.HANDED_OVER,),
        State.HANDED_OVER: (State.TAKEN_BACK, State.COMMITTED),
        State.TAKEN_BACK: (),
        State.COMMITTED: (),
    },
    DESTINATION: {
        State.RESERVED: (State.RESTORING, State.RESTORED, State.REFUSED),
        State.RESTORING: (State.RESTORED,),
        State.RESTORED: (),
        State.REFUSED: (),
    },
}
STAGES = tuple(dict.fromkeys(state.stage for state in State))


def state_of(role: str, stage: object, owner: object) -> State | None:
    """The state of this role with this stage and this owner, or None where it has none."""
    for state in TRANSITIONS[role]:
        if state.value == (stage, owner):
            return state
    return None


def is_allowed(role: str, before: State, after: State) -> bool:
    """Whether the entry of this role may come from one state into the other."""
    return before is after or after in TRANSITIONS[role][before]
