# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What recovery writes down before it removes or resumes a container, and what it refuses to do."""

from __future__ import annotations

import pytest
from fake_docker import ID, Docker

from ansible_collections.fog.migration.plugins.module_utils import recovery
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import TransitionRefused
from ansible_collections.fog.migration.plugins.module_utils.journal.states import State
from ansible_collections.fog.migration.plugins.module_utils.transport import work_dir

# How an entry of the source comes into its states.
WAY = {
    State.RESERVED: [],
    State.TAKEN_BACK: [State.HANDED_OVER, State.TAKEN_BACK],
    State.HANDED_OVER: [State.HANDED_OVER],
    State.COMMITTED: [State.HANDED_OVER, State.COMMITTED],
}


@pytest.fixture
def docker(tmp_path):
    return Docker(tmp_path / "docker")


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens the entry of a migration and brings it into a state; the entry."""
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))

    def opened(role="source", *way, **more):
        facts = {"id": "looper-1", "container": ID, "name": "looper", "source": "fog1", "destination": "fog2"}
        journal.open_entry({**facts, "role": role, "mode": "precopy", "directory": str(tmp_path / "made"), **more})
        for state in way:
            journal.note("looper-1", stage=state.stage, owner=state.owner)
        return journal.load("looper-1")

    return opened


@pytest.mark.parametrize("state", [State.HANDED_OVER, State.COMMITTED])
def test_the_source_commits_before_it_lets_go(docker, opened, monkeypatch, state):
    entry = opened("source", *WAY[state])
    seen = []
    remove = docker.remove_container
    monkeypatch.setattr(
        docker, "remove_container", lambda *args, **more: (seen.append(journal.load(entry.id)), remove(*args, **more))
    )
    assert recovery.complete(entry, docker, keep=False) == "nothing of it is left"
    assert [one.state for one in seen] == [State.COMMITTED]
    assert (docker.there, journal.entries()) == ({}, [])


@pytest.mark.parametrize("state", [State.RESERVED, State.TAKEN_BACK])
def test_the_source_does_not_let_go_of_what_it_owns(docker, opened, state):
    entry = opened("source", *WAY[state])
    with pytest.raises(TransitionRefused, match=r"to commitment \(owner destination\)$"):
        recovery.complete(entry, docker, keep=False)
    assert (docker.events, list(docker.there), journal.load(entry.id)) == ([], [ID], entry)


def test_what_was_committed_meanwhile_is_not_undone_at_the_source(docker, opened):
    decided = opened("source", State.HANDED_OVER)
    entry = journal.note("looper-1", stage="commitment", owner="destination")
    with pytest.raises(MigrationError, match=r"^looper was committed at fog2$"):
        recovery.rollback(decided, docker, 1)
    assert (docker.events, journal.load(entry.id)) == ([], entry)


@pytest.mark.parametrize("state", [State.RESERVED, State.TAKEN_BACK, State.HANDED_OVER])
def test_what_was_not_committed_runs_on_at_the_source(docker, opened, state):
    entry = opened("source", *WAY[state])
    assert recovery.rollback(entry, docker, 1) == "runs on as before"
    assert (list(docker.there), journal.entries()) == ([ID], [])


@pytest.mark.parametrize(
    ("role", "more", "running", "noted"),
    [
        ("destination", {}, True, State.RESTORED),
        ("destination", {}, False, State.RESERVED),
        # It waits for the others, or for its memory.
        ("destination", {"together": ["looper-1", "db-1"]}, True, State.RESERVED),
        ("destination", {"memory": "arriving"}, True, State.RESERVED),
        ("source", {}, True, State.RESERVED),
    ],
)
def test_what_runs_at_the_destination_is_noted_before_the_source_lets_go(docker, opened, role, more, running, noted):
    entry = opened(role, made={"container": ID}, **more)
    docker.state()["Running"] = running
    recovery.note_arrival(entry, docker)
    assert journal.load(entry.id).state is noted


@pytest.mark.parametrize("other", [None, "db-1", "db-2"])
def test_what_a_killed_agent_has_left_goes_with_the_last_migration_of_its_run(
    docker, opened, monkeypatch, tmp_path, other
):
    monkeypatch.setattr(work_dir, "base_directory", lambda: str(tmp_path / "run"))
    left = tmp_path / "run" / "agent-1"
    left.mkdir(parents=True)
    (left / "reserved").touch()
    entry = opened("source")
    if other:
        opened("source", id=other, container="other", name="db")
    assert recovery.rollback(entry, docker, 1) == "runs on as before"
    assert left.exists() == (other == "db-1")


@pytest.mark.parametrize(
    ("written", "resumes"),
    [
        pytest.param(("core-1.img", "inventory.img"), False, id="its server died while Docker wrote them"),
        pytest.param(("core-1.img", "inventory.img", "pstree.img"), True, id="Docker has written them"),
    ],
)
def test_what_has_ended_goes_on_from_images_that_are_whole(docker, opened, monkeypatch, tmp_path, written, resumes):
    entry = opened("source", mode="cold", restart_policy={"Name": "on-failure", "MaximumRetryCount": 0})
    images = tmp_path / "made" / ".looper-1.partial" / "docker" / "looper-1"
    images.mkdir(parents=True)
    for name in written:
        (images / name).touch()
    docker.state().update(Running=False, Status="exited")
    restored = []
    monkeypatch.setattr(docker, "start", lambda _container: None, raising=False)
    monkeypatch.setattr(recovery.api, "daemon_facts", lambda _client: {"root": str(tmp_path)})
    monkeypatch.setattr(recovery.docker_restore, "from_checkpoint", lambda *words: restored.append(words[3]))
    said = recovery.rollback(entry, docker, 1)
    assert restored == ([str(images)] if resumes else [])
    assert said == ("was resumed and runs" if resumes else recovery.STARTED_ANEW)
