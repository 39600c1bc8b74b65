# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a migration, who is in whose way, and who has the container when nobody else knows."""

from __future__ import annotations

import itertools
import json
import os
import threading

import pytest

from ansible_collections.fog.migration.plugins.filter.pending_migrations import busy, pending_migrations
from ansible_collections.fog.migration.plugins.filter.recovery_decision import recovery_decision
from ansible_collections.fog.migration.plugins.module_utils.journal import states
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry
from ansible_collections.fog.migration.plugins.module_utils.journal.states import State
from ansible_collections.fog.migration.plugins.module_utils.system import procfs
from ansible_collections.fog.migration.plugins.plugin_utils import _controller

FACTS = {
    "id": "looper100-1",
    "role": "source",
    "container": "4f9d",
    "name": "looper100",
    "source": "fog1",
    "destination": "fog2",
    "mode": "precopy",
    "directory": "/var/lib/fog-migration/checkpoints",
    "stage": "reservation",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    return tmp_path / "journal"


def test_an_entry_from_its_begin_to_its_end(folder):
    assert journal.open_entry(FACTS) is None
    assert (folder.stat().st_mode & 0o777, (folder / "looper100-1.json").stat().st_mode & 0o777) == (0o700, 0o600)
    entry = journal.load("looper100-1")
    assert (entry.owner, entry.stage, entry.transfers) == ("source", "reservation", [])
    assert entry.boot == procfs.boot()
    first, second = ({"id": one, "directory": f"/run/{one}"} for one in "12")
    journal.note("looper100-1", stage="handover", owner="in_doubt", made={"volumes": ["a"]}, transfers=[first])
    journal.note("looper100-1", made={"volumes": ["a", "b"], "networks": ["n"]}, transfers=[second])
    entry = journal.load("looper100-1")
    assert entry.made == {"volumes": ["a", "b"], "networks": ["n"]}
    assert (entry.owner, entry.transfers) == ("in_doubt", [first, second])
    assert journal.close_entry("looper100-1")
    assert not journal.close_entry("looper100-1")
    assert (journal.load("looper100-1"), journal.entries()) == (None, [])
    assert os.listdir(folder) == []


def test_opening_it_again_forgets_nothing():
    journal.open_entry(FACTS)
    journal.note("looper100-1", stage="handover", owner="in_doubt")
    assert journal.open_entry(FACTS) is None
    assert journal.load("looper100-1").state is State.HANDED_OVER


def test_what_is_not_open_is_not_noted():
    assert journal.note("looper100-1", owner="destination") is None
    assert journal.note(None, owner="destination") is None
    assert journal.entries() == []


@pytest.mark.parametrize(
    ("change", "in_the_way"),
    [
        ({}, True),
        ({"name": "clone"}, True),
        ({"container": "5a"}, False),
        ({"role": "destination"}, False),
    ],
)
def test_one_migration_of_a_container_at_a_time(change, in_the_way):
    journal.open_entry(FACTS)
    other = journal.open_entry({**FACTS, **change, "id": "looper100-2"})
    assert (other is not None and other.id == "looper100-1") == in_the_way
    assert (journal.load("looper100-2") is None) == in_the_way


def test_one_migration_to_a_name_at_a_time():
    there = {**FACTS, "role": "destination"}
    journal.open_entry(there)
    assert journal.open_entry({**there, "id": "other-1", "container": "5a"}).id == "looper100-1"
    assert journal.open_entry({**there, "id": "other-2", "container": "5a", "name": "other"}) is None


def test_of_many_at_once_one_is_opened():
    results = []

    def begin(number):
        results.append(journal.open_entry({**FACTS, "id": f"looper100-{number}"}))

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(None) == 1
    assert len(journal.entries()) == 1


def test_notes_of_many_at_once_are_all_there():
    journal.open_entry(FACTS)
    names = [f"n{number}" for number in range(12)]
    notes = [{"made": {"networks": [name]}} for name in names]
    note = [threading.Thread(target=journal.note, args=("looper100-1",), kwargs=one) for one in notes]
    for thread in note:
        thread.start()
    for thread in note:
        thread.join()
    assert sorted(journal.load("looper100-1").made["networks"]) == sorted(names)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", "[" * 100000, json.dumps({"format": journal.FORMAT, "version": 1}), "\xff\xfe"],
)
def test_what_is_no_entry_is_told(folder, text):
    folder.mkdir()
    (folder / "looper100-1.json").write_text(text, encoding="latin-1")
    for look in (lambda: journal.load("looper100-1"), journal.entries):
        with pytest.raises(journal.JournalError, match=r"looper100-1\.json cannot be read"):
            look()


@pytest.mark.parametrize(("field", "value"), [("role", "both"), ("owner", "me"), ("transfers", {}), ("id", 1)])
def test_an_entry_that_lies_is_told(folder, field, value):
    journal.open_entry(FACTS)
    path = folder / "looper100-1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(journal.JournalError):
        journal.load("looper100-1")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b"])
def test_names_that_lead_elsewhere(name):
    with pytest.raises(journal.JournalError, match="not the name of a migration"):
        journal.load(name)


def test_a_full_disk_leaves_the_entry_as_it_was(folder, monkeypatch):
    journal.open_entry(FACTS)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        journal.note("looper100-1", stage="handover", owner="in_doubt")
    assert journal.load("looper100-1").owner == "source"
    assert os.listdir(folder) == ["looper100-1.json"]


# ---------------------------------------------------------------------------------------------------------------------
# What moves together

TOGETHER = ["web-1", "db-1", "cache-1"]


@pytest.fixture
def group():
    for number, identity in enumerate(TOGETHER):
        facts = {"id": identity, "container": f"4f{number}", "name": identity, "role": "destination"}
        journal.open_entry({**FACTS, **facts, "together": TOGETHER})


def owners() -> list[str]:
    entries = [journal.load(identity) for identity in TOGETHER]
    return [entry.owner if entry else "nobody" for entry in entries]


def test_all_go_when_all_can(group):
    assert [journal.decide(identity, TOGETHER, True) for identity in TOGETHER] == [True, True, True]
    assert owners() == ["destination"] * 3


def test_none_goes_when_one_has_said_that_it_stays(group):
    assert not journal.decide("db-1", TOGETHER, False)
    assert not journal.decide("web-1", TOGETHER, True)
    assert not journal.decide("cache-1", TOGETHER, True)
    assert owners() == ["source"] * 3


def test_none_stays_when_one_has_gone(group):
    assert journal.decide("web-1", TOGETHER, True)
    assert journal.decide("db-1", TOGETHER, False)
    assert owners() == ["destination", "destination", "source"]


def test_none_goes_when_one_was_undone_already(group):
    journal.close_entry("cache-1")
    assert not journal.decide("web-1", TOGETHER, True)
    assert owners() == ["source", "source", "nobody"]


def test_none_goes_when_it_cannot_be_written(group, monkeypatch):
    with monkeypatch.context() as disk:
        disk.setattr(os, "rename", full_disk)
        with pytest.raises(OSError, match="No space"):
            journal.decide("web-1", TOGETHER, True)
    assert not journal.decide("db-1", TOGETHER, True)
    assert owners() == ["nobody", "source", "source"]


def full_disk(*_arguments):
    raise OSError(28, "No space left on device")


def test_they_decide_at_once_and_alike(group):
    """Whoever asks first, and whatever they ask for: one word for all."""
    told = []
    wishes = [(identity, identity != "db-1" or number % 2 == 0) for number in range(2) for identity in TOGETHER]
    threads = [
        threading.Thread(target=lambda one=one, goes=goes: told.append(journal.decide(one, TOGETHER, goes)))
        for one, goes in wishes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(told)) == 1
    assert set(owners()) == ({"destination"} if told[0] else {"source"})


@pytest.mark.parametrize(
    "steps", list(itertools.product(itertools.product(TOGETHER[:2], ("go", "stay", "finish")), repeat=3))
)
def test_one_word_for_all_whatever_comes_first(monkeypatch, steps):
    """One that has gone, and was finished and closed by recovery, is still known to the others."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    together = TOGETHER[:2]
    for identity in together:
        journal.open_entry({**FACTS, "id": identity, "name": identity, "role": "destination", "together": together})
    told = []
    for identity, step in steps:
        if step != "finish":
            told += [journal.decide(identity, together, step == "go")] if journal.load(identity) else []
        elif "destination" in owners():
            for one in together:
                journal.note(one, stage="restored", owner="destination")
            journal.close_entry(identity)
        found = {entry.state for entry in map(journal.load, together) if entry}
        assert not {State.RESTORED, State.REFUSED} <= found
    assert len(set(told)) <= 1


# ---------------------------------------------------------------------------------------------------------------------
# Who has it

SILENT = {"unreachable": True, "msg": "connection refused."}
NOTHING = {"entry": None}


def answer(owner="source", container="running", programs=False, **more):
    return {"entry": {"owner": owner, **more}, "now": {"container": container, "programs": programs}}


def member(owner="source", *others):
    """The destination's answer of one that moves together with others."""
    told = answer(owner, together=["web-1", "db-1"])
    told["now"]["together"] = list(others)
    return told


@pytest.mark.parametrize(
    ("source", "destination", "more", "wanted", "where"),
    [
        # Before the handover, whatever the destination has.
        (answer(), answer(container="created"), {}, "undo", ["fog2", "fog1"]),
        (answer(), answer(container="absent"), {}, "undo", ["fog2", "fog1"]),
        (answer(), NOTHING, {}, "undo", ["fog2", "fog1"]),
        (answer(), SILENT, {}, "undo", ["fog1"]),
        (answer(), {"skipped": True}, {}, "undo", ["fog1"]),
        (answer(), answer("destination"), {}, "undo", ["fog2", "fog1"]),
        # After it, only the destination knows.
        (answer("in_doubt", "paused"), answer(), {}, "finish", ["fog1", "fog2"]),
        (answer("in_doubt", "paused"), answer("destination"), {}, "finish", ["fog1", "fog2"]),
        (answer("in_doubt", "paused"), answer("destination", "paused"), {}, "finish", ["fog1", "fog2"]),
        (answer("in_doubt", "paused"), answer(container="created"), {}, "undo", ["fog2", "fog1"]),
        (answer("in_doubt", "exited"), answer(container="absent"), {}, "undo", ["fog2", "fog1"]),
        (answer("in_doubt", "paused"), answer("destination", "exited"), {}, "undo", ["fog2", "fog1"]),
        (answer("in_doubt", "paused"), NOTHING, {}, "undo", ["fog2", "fog1"]),
        (answer("in_doubt", "paused"), SILENT, {}, "wait", []),
        (answer("in_doubt", "paused"), {"failed": True, "msg": "no Docker"}, {}, "wait", []),
        (answer("in_doubt", "paused"), SILENT, {"lost": ["fog2"]}, "undo", ["fog1"]),
        (answer("in_doubt", "paused"), answer(), {"rejected": True}, "undo", ["fog2", "fog1"]),
        # A container that waits for memory that nobody brings any more is none.
        (answer("in_doubt", "paused"), answer(memory="arriving"), {}, "undo", ["fog2", "fog1"]),
        (answer("in_doubt", "paused"), answer(memory="arriving", programs=True), {}, "finish", ["fog1", "fog2"]),
        (answer("in_doubt", "paused"), answer(memory="complete"), {}, "finish", ["fog1", "fog2"]),
        # What waits for others has not run; when another one has, it is to follow; and none goes without all of it.
        (answer("in_doubt", "paused"), member(), {}, "undo", ["fog2", "fog1"]),
        (answer("in_doubt", "paused"), member("destination"), {}, "finish", ["fog1", "fog2"]),
        (answer("in_doubt", "paused"), member("source", answer("destination")), {}, "finish", ["fog1", "fog2"]),
        (answer("in_doubt", "paused"), member("source", answer("source")), {}, "undo", ["fog2", "fog1"]),
        (
            answer("in_doubt", "paused"),
            member("destination", answer("destination", "exited")),
            {},
            "undo",
            ["fog2", "fog1"],
        ),
        (
            answer("in_doubt", "paused"),
            member("destination", answer("destination", memory="arriving")),
            {},
            "undo",
            ["fog2", "fog1"],
        ),
        # Committed: the source never runs it again.
        (answer("destination", "paused"), answer(container="exited"), {}, "finish", ["fog1", "fog2"]),
        (answer("destination", "paused"), SILENT, {}, "finish", ["fog1"]),
        (answer("destination", "absent"), NOTHING, {}, "finish", ["fog1", "fog2"]),
        (answer("destination", "paused"), answer(), {"rejected": True}, "finish", ["fog1", "fog2"]),
        # The source closes its entry first when it is finished, and last when it is undone.
        (NOTHING, answer("destination"), {}, "finish", ["fog1", "fog2"]),
        # Its server was lost with it after that, or it has ended by itself.
        (NOTHING, answer("destination", "exited"), {}, "finish", ["fog1", "fog2"]),
        (NOTHING, answer("destination", "exited", memory="arriving"), {}, "undo", ["fog2", "fog1"]),
        (SILENT, answer("destination", "exited"), {"lost": ["fog1"]}, "finish", ["fog2"]),
        (NOTHING, answer(container="created"), {}, "undo", ["fog2", "fog1"]),
        (NOTHING, NOTHING, {}, "undo", ["fog2", "fog1"]),
        (NOTHING, SILENT, {}, "undo", ["fog1"]),
        # The source is away.
        (SILENT, answer("destination"), {}, "wait", []),
        # It has run at the destination, so the source may have let go of it.
        (SILENT, answer("destination", "exited"), {}, "wait", []),
        (SILENT, answer(container="created"), {}, "undo", ["fog2"]),
        (SILENT, NOTHING, {}, "undo", ["fog2"]),
        (SILENT, SILENT, {}, "wait", []),
        (SILENT, answer(), {"lost": ["fog1"]}, "finish", ["fog2"]),
        (SILENT, SILENT, {"lost": ["fog1"]}, "undo", []),
    ],
)
def test_who_has_it(source, destination, more, wanted, where):
    found = recovery_decision(source, destination, hosts=["fog1", "fog2"], **more)
    assert found["decision"] == wanted
    assert found["why"]
    assert {wanted: where} == {key: found[key] for key in ("undo", "finish") if found[key]} or not where
    assert bool(found["undo"] + found["finish"]) == bool(where)


def test_never_both():
    """Whatever is answered, it is never given to both, nor taken from both while one of them might have it."""
    answers = [SILENT, NOTHING]
    for owner in states.OWNERS:
        for container in ("running", "paused", "exited", "created", "absent"):
            for memory in ("arriving", "complete"):
                answers.append(answer(owner, container, memory=memory))
    for source in answers:
        for destination in answers:
            found = recovery_decision(source, destination, hosts=["fog1", "fog2"])
            assert not (found["undo"] and found["finish"])
            if destination is SILENT and source is not SILENT and (source["entry"] or {}).get("owner") == "in_doubt":
                assert found["decision"] == "wait"
            if source is not SILENT and source["entry"] and source["entry"]["owner"] == "destination":
                assert found["undo"] == []


# ---------------------------------------------------------------------------------------------------------------------
# What is under way


@pytest.mark.parametrize(
    ("alive", "noted", "wanted"),
    [
        ([True], 0, "still runs"),
        ([None, True], 0, "still runs"),
        ([False], 1000, None),
        ([None], 990, "was heard of 10 s ago"),
        ([None], 100, None),
    ],
)
def test_what_is_under_way_is_left_alone(alive, noted, wanted):
    told = iter(alive)
    found = busy([{"noted": noted}] * len(alive), 100, 1000, lambda _controller: next(told))
    assert found is None if wanted is None else wanted in found


def test_the_two_ends_of_a_migration_are_put_together():
    here = {**FACTS, "begun": 2.0, "noted": 3.0, "now": {"container": "paused"}, "stage": "handover"}
    there = {**here, "role": "destination", "now": {"container": "running"}, "stage": "restored"}
    other = {**here, "id": "other-1", "name": "other", "begun": 1.0}
    found = pending_migrations(
        {"fog1": {"migrations": [here]}, "fog2": {"migrations": [there, other]}, "fog3": SILENT}, now=10**6
    )
    assert [one["id"] for one in found] == ["other-1", "looper100-1"]
    assert found[1]["line"] == (
        "looper100 from fog1 to fog2 (precopy, stage handover and restored): paused at fog1, running at fog2"
    )
    assert found[1]["busy"] is None
    there["refused"] = ["the journal of the destination does not let it"]
    (found,) = pending_migrations({"fog1": {"migrations": [here]}, "fog2": {"migrations": [there]}}, now=10**6)
    assert found["line"].endswith("running at fog2; at fog2, the journal of the destination does not let it")


def test_what_is_in_the_way_is_told_with_what_to_do():
    entry = Entry(**{name: value for name, value in FACTS.items() if name != "stage"})
    what, remedy = journal.under_way(entry, True)
    assert what.endswith("begun at 1970-01-01 00:00:00 UTC, is under way (stage reservation)")
    assert remedy.startswith("wait for its end")
    what, remedy = journal.under_way(entry, False)
    assert what.endswith("was interrupted in the stage reservation")
    assert remedy == "settle it with ansible-playbook recover.yml"


def test_a_controller_is_known_again():
    here = _controller.identity(os.getpid())
    assert _controller.is_alive(here) is True
    assert _controller.is_alive({**here, "started": "1"}) is False
    assert _controller.is_alive({**here, "kernel": "before"}) is False
    assert _controller.is_alive({**here, "host": "another"}) is None
    assert _controller.is_alive(None) is None
