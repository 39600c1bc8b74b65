# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a migration: which may follow which, and that no two servers may ever run its container.

The second half is a small model of one migration, all of whose states are enumerated. Its steps are those of the code,
every program may be killed between any two of them, and who has the container is decided by the real filter.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fog.migration.plugins.filter.recovery_decision import recovery_decision
from ansible_collections.fog.migration.plugins.module_utils.journal import states
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry, JournalError, TransitionRefused
from ansible_collections.fog.migration.plugins.module_utils.journal.states import (
    DESTINATION,
    OWNERS,
    ROLES,
    SOURCE,
    STAGES,
    TRANSITIONS,
    State,
    is_allowed,
    state_of,
)

ID = "looper100-1"
EDGES = [(role, before, after) for role in ROLES for before, more in TRANSITIONS[role].items() for after in more]


def entry_of(role: str, state: State = states.FIRST) -> Entry:
    return Entry(ID, role, "4f9d", "looper100", "fog1", "fog2", "precopy", "/var/lib/checkpoints", state)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    return tmp_path / "journal"


def write(entry: Entry) -> None:
    with journal._alone() as descriptor:
        journal._write(entry, descriptor)


# ---------------------------------------------------------------------------------------------------------------------
# The table


def test_every_state_of_a_role_can_be_reached():
    for role in ROLES:
        reached = {states.FIRST} | {after for one, _before, after in EDGES if one == role}
        assert reached == set(TRANSITIONS[role])


def test_a_stage_and_an_owner_are_one_state():
    assert len({state.value for state in State}) == len(State)
    assert {state.owner for state in State} == set(OWNERS)
    assert state_of(SOURCE, "handover", "in_doubt") is State.HANDED_OVER
    assert state_of(DESTINATION, "handover", "in_doubt") is None


@pytest.mark.parametrize(("role", "before", "after"), EDGES)
def test_the_owner_never_comes_back_from_the_destination(role, before, after):
    assert before.owner != "destination" or after.owner == "destination"
    if role == SOURCE and before.owner == "in_doubt":
        assert after in (State.TAKEN_BACK, State.COMMITTED)


@pytest.mark.parametrize(
    ("role", "before", "after"),
    [(role, *pair) for role in ROLES for pair in itertools.product(TRANSITIONS[role], repeat=2)],
)
def test_what_is_in_the_table_is_noted_and_nothing_else(folder, role, before, after):
    write(entry_of(role, before))
    text = (folder / f"{ID}.json").read_text()
    facts = {"stage": after.stage, "owner": after.owner, "made": {"networks": ["lan"]}}
    if is_allowed(role, before, after):
        assert journal.note(ID, **facts).state is after
        assert journal.load(ID).made == {"networks": ["lan"]}
        assert journal.note(ID, **facts).state is after
        return
    with pytest.raises(TransitionRefused) as refusal:
        journal.note(ID, **facts)
    assert str(refusal.value) == (
        f"the journal of the {role} does not let the migration {ID} go from {before.stage} (owner {before.owner}) "
        f"to {after.stage} (owner {after.owner})"
    )
    assert (folder / f"{ID}.json").read_text() == text
    journal.note_what_happened(ID, **facts)
    journal.note_what_happened(ID, **facts)
    entry = journal.load(ID)
    assert (entry.state, entry.made, entry.refused) == (before, {"networks": ["lan"]}, [str(refusal.value)])


def test_a_source_does_not_take_back_what_was_committed():
    write(entry_of(SOURCE, State.COMMITTED))
    with pytest.raises(JournalError, match=r"from commitment \(owner destination\) to commitment \(owner source\)"):
        journal.note(ID, owner="source")


def test_a_fact_that_no_entry_has_is_a_bug():
    write(entry_of(SOURCE))
    for note in (journal.note, journal.note_what_happened):
        with pytest.raises(TypeError):
            note(ID, colour="red")


@given(
    st.sampled_from(ROLES),
    st.lists(st.fixed_dictionaries({}, optional={"stage": st.sampled_from(STAGES), "owner": st.sampled_from(OWNERS)})),
)
def test_whatever_is_noted_in_whatever_order(role, notes):
    entry = entry_of(role)
    for facts in notes:
        before = entry
        try:
            entry = entry.with_facts(facts)
        except TransitionRefused:
            continue
        assert is_allowed(role, before.state, entry.state)
        assert before.owner != "destination" or entry.owner == "destination"
        assert Entry.from_json(json.loads(json.dumps(entry.to_json()))) == entry


# ---------------------------------------------------------------------------------------------------------------------
# An entry as JSON

GOOD = entry_of(SOURCE).to_json()
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("change", "clause"),
    [
        ({"version": 1}, "it has version 1, this collection reads version 2"),
        ({"format": "x"}, "it is not an entry of a journal"),
        ({"role": "both"}, "its role is 'both'"),
        ({"role": []}, r"its role is \[\]"),
        ({"id": "../x"}, r"its id is '\.\./x'"),
        ({"name": None}, "its name is None"),
        ({"begun": True}, "its begun is True"),
        ({"begun": float("nan")}, "its begun is nan"),
        ({"transfers": [{"id": "1"}]}, r"its transfers is \[{'id': '1'}\]"),
        ({"made": {"volumes": "data"}}, "its made is {'volumes': 'data'}"),
        ({"memory": "some"}, "its memory is 'some'"),
        ({"colour": "red"}, "it has 'colour', which no entry has"),
        ({"owner": "me"}, "it has the stage 'reservation' and the owner 'me', which no source has"),
        ({"stage": "restored"}, "it has the stage 'restored' and the owner 'source', which no source has"),
    ],
)
def test_an_entry_that_is_none_is_refused_in_a_clause(change, clause):
    with pytest.raises(JournalError, match=f"^{clause}$"):
        Entry.from_json({**GOOD, **change})


@pytest.mark.parametrize("name", ["id", "role", "stage", "owner", "begun", "transfers", "made", "directory"])
def test_what_is_missing_is_told(name):
    with pytest.raises(JournalError, match=f"^it has no {name}$"):
        Entry.from_json({key: value for key, value in GOOD.items() if key != name})


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), ANYTHING))
def test_whatever_a_file_holds_it_is_an_entry_or_refused(change):
    try:
        entry = Entry.from_json({**GOOD, **change})
    except JournalError:
        return
    assert Entry.from_json(entry.to_json()) == entry


# ---------------------------------------------------------------------------------------------------------------------
# All states of one migration


class World(NamedTuple):
    """One migration, and what runs of it. Whatever can be killed is False when it was."""

    mode: str
    # The entry on each server: its state, or None before it was opened and after it was closed.
    source: State | None = None
    destination: State | None = None
    # The container at the source: running, frozen, gone; at the destination: absent, restoring, running, ended.
    here: str = "running"
    there: str = "absent"
    # Whoever runs migrate.yml; in live mode, the source's end of the channel; the destination's end, or its module.
    controller: bool = True
    source_program: bool = True
    destination_program: bool = False
    # none, sent, taken
    order: str = "none"
    # What the destination has answered: none, refused, complete.
    answer: str = "none"
    # What is left to do of what recovery, or the end of the migration, has begun to do.
    plan: tuple[str, ...] = ()


USED: set[tuple[str, State, State]] = set()
HOSTS = ["here", "there"]
UNDO = {"here": ("resume here", "close here"), "there": ("remove there", "close there")}
FINISH = {"here": ("commit here", "remove here", "close here"), "there": ("close there",)}


def noted(world: World, role: str, after: State) -> World:
    """As C(journal.note): there has to be an entry, and the table has to allow it."""
    before = getattr(world, role)
    assert before is not None and is_allowed(role, before, after), (world, role, after)
    if before is not after:
        USED.add((role, before, after))
    return world._replace(**{role: after})


def stages(world: World) -> Iterator[World]:
    """What the migration does when nothing goes wrong, and how it gives up."""
    if world.controller:
        yield from controller_steps(world)
    # In cold mode, the controller has modules do it, one after the other.
    if world.source_program if world.mode == "live" else world.controller:
        yield from source_steps(world)
    if world.destination_program:
        yield from destination_steps(world)
    if world.there == "restoring":
        # CRIU needs none of our programs for it.
        yield world._replace(there="running")


def controller_steps(world: World) -> Iterator[World]:
    first = world.source is State.RESERVED and world.here == "running"
    if world.source is None and world.order == "none":
        yield world._replace(source=State.RESERVED)
    if first and world.destination is None:
        yield world._replace(destination=State.RESERVED, destination_program=True)
    if first and world.destination and world.source_program:
        frozen = noted(world, SOURCE, State.CHECKPOINT) if world.mode == "cold" else world
        yield frozen._replace(here="frozen")
    if world.source is State.HANDED_OVER and world.answer == "complete":
        yield noted(world, SOURCE, State.COMMITTED)
    if world.source is State.COMMITTED:
        yield world._replace(plan=FINISH["here"] + FINISH["there"], controller=False, source_program=False)


def source_steps(world: World) -> Iterator[World]:
    if world.here == "frozen" and world.source in (State.RESERVED, State.CHECKPOINT):
        yield noted(world, SOURCE, State.HANDED_OVER)
        yield world._replace(here="running", source_program=False)
    if world.source is State.HANDED_OVER and world.order == "none":
        yield world._replace(order="sent")
    # It has given no order, or the destination has refused it.
    unordered = world.order == "none" or world.answer == "refused"
    if world.source is State.HANDED_OVER and world.mode == "live" and unordered:
        yield noted(world, SOURCE, State.TAKEN_BACK)
    if world.source is State.TAKEN_BACK:
        yield world._replace(here="running", source_program=False)


def destination_steps(world: World) -> Iterator[World]:
    if world.order == "sent" and world.destination:
        cold = world.mode == "cold"
        taken = noted(world, DESTINATION, State.RESTORING) if cold else world
        yield taken._replace(order="taken", there="restoring")
    if world.there == "running":
        yield noted(world, DESTINATION, State.RESTORED)
    if world.order == "taken":
        yield world._replace(there="absent", answer="refused", destination_program=False)
    if world.there == "running" and world.destination is State.RESTORED:
        yield world._replace(answer="complete", destination_program=False)


def faults(world: World) -> Iterator[World]:
    """Programs and the controller are killed, the destination is lost for a while, a container ends by itself."""
    yield world._replace(controller=False)
    yield world._replace(source_program=False)
    yield world._replace(destination_program=False)
    yield world._replace(plan=())
    if world.there in ("restoring", "running"):
        yield world._replace(there="absent" if world.there == "restoring" else "ended", destination_program=False)
    if world.there == "running":
        yield world._replace(there="ended")


def answers(world: World) -> Iterator[tuple[World, dict, dict]]:
    """What recovery can be told by both servers: each of them is quiet, or cannot be asked."""
    silent = {"unreachable": True, "msg": "no route to host"}
    can_ask = world.mode == "cold" or not world.source_program
    can_ask_there = not world.destination_program and world.there != "restoring"
    after = world
    # What migration_journal notes with state=quiet.
    if can_ask_there and world.there == "running" and world.destination:
        after = noted(world, DESTINATION, State.RESTORED)
    here = told(world.source, "running" if world.here == "running" else "paused")
    there = told(after.destination, {"ended": "exited"}.get(world.there, world.there))
    yield world, silent, silent
    if can_ask:
        yield world, here, silent
    if can_ask_there:
        yield after, silent, there
    if can_ask and can_ask_there:
        yield after, here, there


def told(state: State | None, container: str) -> dict:
    entry = {"owner": state.owner, "memory": "complete"} if state else None
    return {"entry": entry, "now": {"container": container, "programs": False}}


def recovery(world: World) -> Iterator[World]:
    """Settles it, once the controller that moved it has gone, or has failed and does this itself.

    It may have found the container unfit there, instead of committing.
    """
    if world.plan:
        yield done(world)
    if world.plan or world.controller:
        return
    for after, here, there in answers(world):
        unfit = after.source is State.HANDED_OVER and after.answer == "complete"
        for rejected in (False, True) if unfit else (False,):
            decision = recovery_decision(here, there, hosts=HOSTS, rejected=rejected)
            steps = [UNDO[one] for one in decision["undo"]] + [FINISH[one] for one in decision["finish"]]
            yield after._replace(plan=tuple(itertools.chain(*steps)))


def done(world: World) -> World:
    """The next step of a plan. Where there is no entry, nothing is done."""
    step, *rest = world.plan
    world = world._replace(plan=tuple(rest))
    role = SOURCE if step.endswith(" here") else DESTINATION
    if getattr(world, role) is None:
        return world
    return PLANNED[step](world)


def resumed(world: World) -> World:
    assert world.source is not State.COMMITTED, world
    return world._replace(here="gone" if world.here == "gone" else "running")


PLANNED: dict[str, Callable[[World], World]] = {
    "resume here": resumed,
    "close here": lambda world: world._replace(source=None),
    # What is to restore it ends with it.
    "remove there": lambda world: world._replace(there="absent", destination_program=False),
    "close there": lambda world: world._replace(destination=None),
    "commit here": lambda world: noted(world, SOURCE, State.COMMITTED),
    "remove here": lambda world: world._replace(here="gone"),
}


def everything() -> set[World]:
    """All worlds that can come to be. The way to one in which something forbidden happens is told."""
    came_from: dict[World, World | None] = {World("live"): None, World("cold"): None}
    left = list(came_from)
    while left:
        world = left.pop(0)
        try:
            for after in (*stages(world), *faults(world), *recovery(world)):
                if after not in came_from:
                    came_from[after] = world
                    check(after)
                    left.append(after)
        except AssertionError as problem:
            pytest.fail("\n".join([*way_to(world, came_from), str(problem)]), pytrace=False)
    return set(came_from)


def way_to(world: World, came_from: dict[World, World | None]) -> list[str]:
    """What has changed in each step from the beginning to this world."""
    before = came_from[world]
    if before is None:
        return [world.mode]
    changed = {name: value for name, value in world._asdict().items() if value != getattr(before, name)}
    return [*way_to(before, came_from), str(changed)]


def check(world: World) -> None:
    """What is never allowed to happen."""
    taken = world.there in ("restoring", "running")
    assert not (world.here == "running" and taken), f"two copies: {world}"
    assert not (world.here == "gone" and world.there == "absent"), f"no copy: {world}"
    assert not (taken and world.source and world.source.owner == SOURCE), f"the source may run it as well: {world}"


@pytest.fixture(scope="module")
def worlds() -> set[World]:
    USED.clear()
    return everything()


def test_never_two_copies_and_never_none(worlds):
    assert len(worlds) > 200


def test_the_table_has_what_the_steps_need_and_nothing_else(worlds):
    # What moves together is in C(journal.decide).
    assert USED | {(DESTINATION, State.RESERVED, State.REFUSED)} == set(EDGES)


def test_recovery_that_can_ask_everybody_settles_everything(worlds):
    for world in worlds:
        quiet = world._replace(controller=False, source_program=False, destination_program=False, plan=())
        if quiet.there == "restoring":
            quiet = quiet._replace(there="running")
        *_others, (after, here, there) = answers(quiet)
        decision = recovery_decision(here, there, hosts=HOSTS)
        assert decision["decision"] in ("undo", "finish")
        steps = [UNDO[one] for one in decision["undo"]] + [FINISH[one] for one in decision["finish"]]
        after = after._replace(plan=tuple(itertools.chain(*steps)))
        while after.plan:
            after = done(after)
        assert (after.source, after.destination) == (None, None)
        assert [after.here, after.there] in (["running", "absent"], ["gone", "running"], ["gone", "ended"]), world
