# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What recovery writes down before it removes or resumes a container, and what it refuses to do."""

from __future__ import annotations

import os
import pathlib

import checkpoints
import pytest
from fake_docker import ID, Docker

from ansible_collections.fog.migration.plugins.module_utils import recovery
from ansible_collections.fog.migration.plugins.module_utils.docker import options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import TransitionRefused
from ansible_collections.fog.migration.plugins.module_utils.journal.states import State
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome
from ansible_collections.fog.migration.plugins.module_utils.operations import container_restore
from ansible_collections.fog.migration.plugins.module_utils.transport import work_dir

PARAMS = {**options.DEFAULTS, "restore_timeout": 1}
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
        recovery.rollback(decided, docker, PARAMS)
    assert (docker.events, journal.load(entry.id)) == ([], entry)


@pytest.fixture
def brought_back(monkeypatch):
    """C(brought_back(outcome)): how the container is found to be when it runs again."""

    def brought_back(outcome):
        def bring_back(_container, resume=None):
            if resume:
                resume()
            return outcome

        monkeypatch.setattr(recovery.repair, "bring_back", bring_back)

    brought_back(Outcome())
    return brought_back


LOCK = "CRIU's network lock in the nftables table CRIU-7"


@pytest.mark.parametrize("state", [State.RESERVED, State.TAKEN_BACK, State.HANDED_OVER])
def test_what_was_not_committed_runs_on_at_the_source(docker, opened, brought_back, state):
    entry = opened("source", *WAY[state])
    assert recovery.rollback(entry, docker, PARAMS) == ("runs on as before", "")
    assert (list(docker.there), journal.entries()) == ([ID], [])


@pytest.fixture
def restored(monkeypatch, brought_back):
    """The paths from which a container was restored."""
    paths = []

    def run(request, _client):
        # It is asked as by the module, whose options have all of them a value.
        assert set(request.params) >= set(container_restore.SPEC)
        paths.append(request.params["path"])
        return {"container": {"id": ID}}

    monkeypatch.setattr(recovery.reader, "run", run)
    monkeypatch.setattr(recovery.docker_restore, "from_checkpoint", lambda *words: paths.append(words[3]))
    return paths


def whole(entry):
    """The complete checkpoint of a migration."""
    folder = recovery.places(entry)["checkpoint"][0]
    os.makedirs(folder)
    (pathlib.Path(folder) / "looper.txt").touch()
    checkpoints.describe(folder)
    return folder


@pytest.mark.parametrize("runtimes", [["runc"], ["runc", "fog-runc"]])
def test_what_has_ended_goes_on_from_a_whole_checkpoint(docker, opened, restored, runtimes):
    docker.runtimes = dict.fromkeys(runtimes)
    docker.state()["Running"] = False
    entry = opened("source", State.HANDED_OVER, mode="cold")
    folder = whole(entry)
    assert recovery.rollback(entry, docker, PARAMS) == ("was resumed and runs", "")
    assert restored == [folder] and not os.path.exists(folder)


@pytest.mark.parametrize(("runtimes", "by_docker"), [(["runc"], True), (["runc", "fog-runc"], False)])
def test_only_dockers_unfinished_checkpoints_are_of_use(docker, opened, restored, runtimes, by_docker):
    docker.runtimes = dict.fromkeys(runtimes)
    docker.state()["Running"] = False
    docker.there[ID]["HostConfig"]["RestartPolicy"] = {"Name": "no"}
    entry = opened("source", mode="cold")
    images = pathlib.Path(recovery.places(entry)["unfinished"][0], "criu")
    images.mkdir(parents=True)
    for name in ("inventory.img", "pstree.img"):
        (images / name).touch()
    said = "was resumed and runs" if by_docker else "has ended, with nothing to resume it from"
    assert recovery.rollback(entry, docker, PARAMS) == (said, "")
    assert restored == ([str(images)] if by_docker else [])


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("name", ["n.restored", "n"])
def test_what_takes_its_place_is_found(docker, opened, restored, monkeypatch, name, runs):
    """An earlier recovery was interrupted before, or after, what it had restored got the name."""
    monkeypatch.setattr(recovery.restore_notes, "came_from", lambda identity, _checkpoint: identity == "f00")
    entry = opened("source", State.HANDED_OVER, mode="cold")
    whole(entry)
    del docker.there[ID]
    docker.add({"Id": "f00", "Name": f"/{name}", "State": {"Running": runs}, "HostConfig": {}})
    said = "was resumed and runs" if runs else "is not there any more"
    assert (recovery.rollback(entry, docker, PARAMS), len(restored)) == ((said, ""), runs)


def test_another_container_of_its_name_is_left_alone(docker, opened, restored):
    entry = opened("source", State.HANDED_OVER, mode="cold")
    whole(entry)
    del docker.there[ID]
    docker.add({"Id": "f00", "Name": "/n", "State": {"Running": True}})
    assert recovery.rollback(entry, docker, PARAMS) == ("is not there any more", "") and restored == []


def test_a_restore_that_fails_leaves_everything(docker, opened, restored, monkeypatch):
    def fail(_request, _client):
        raise MigrationError("CRIU failed")

    docker.state()["Running"] = False
    entry = opened("source", mode="cold")
    folder = whole(entry)
    monkeypatch.setattr(recovery.reader, "run", fail)
    with pytest.raises(MigrationError, match=r"looper could not be resumed \(CRIU failed\)") as failure:
        recovery.rollback(entry, docker, PARAMS)
    assert failure.value.state == f"it has ended, its checkpoint is kept in {folder}"
    assert journal.load(entry.id) and os.path.exists(folder) and docker.events == []


def test_what_is_paused_is_resumed(docker, opened, brought_back):
    docker.state()["Paused"] = True
    entry = opened("source", State.HANDED_OVER, mode="cold", restart_policy={"Name": "always"})
    whole(entry)
    assert recovery.rollback(entry, docker, PARAMS) == ("was resumed and runs", "")
    assert docker.events == [("policy", "always"), ("unpause",)]


@pytest.mark.parametrize(("paused", "said"), [(False, "runs on"), (True, "was resumed and runs")])
def test_what_a_dump_has_left_is_told_and_the_migration_is_over(docker, opened, brought_back, paused, said):
    entry = opened("source")
    docker.state()["Paused"] = paused
    brought_back(Outcome(undone=(LOCK,)))
    assert recovery.rollback(entry, docker, PARAMS) == (said, f"what a dump had left was undone: {LOCK}")
    assert docker.events == [("unpause",)] * paused
    assert journal.entries() == []


def test_what_does_not_run_as_before_stays_open(docker, opened, brought_back):
    entry = opened("source")
    brought_back(Outcome(left=(LOCK,)))
    with pytest.raises(MigrationError) as failure:
        recovery.rollback(entry, docker, PARAMS)
    assert failure.value.what == f"looper runs on (not as before, there still is {LOCK}) at fog1"
    assert journal.load(entry.id) == entry


def test_the_restart_policy_is_looked_at(docker, opened, brought_back, monkeypatch):
    opened("source")
    entry = journal.note("looper-1", restart_policy={"Name": "always"})
    docker.there[ID]["HostConfig"]["RestartPolicy"] = {"Name": "no"}
    monkeypatch.setattr(docker, "update_container", lambda *_args, **_more: None)
    with pytest.raises(MigrationError, match="the restart policy no in place of always"):
        recovery.rollback(entry, docker, PARAMS)


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
    docker, opened, brought_back, monkeypatch, tmp_path, other
):
    monkeypatch.setattr(work_dir, "base_directory", lambda: str(tmp_path / "run"))
    left = tmp_path / "run" / "agent-1"
    left.mkdir(parents=True)
    (left / "reserved").touch()
    entry = opened("source")
    if other:
        opened("source", id=other, container="other", name="db")
    assert recovery.rollback(entry, docker, PARAMS) == ("runs on as before", "")
    assert left.exists() == (other == "db-1")


@pytest.mark.parametrize(
    ("written", "resumes"),
    [
        pytest.param(("core-1.img", "inventory.img"), False, id="its server died while Docker wrote them"),
        pytest.param(("core-1.img", "inventory.img", "pstree.img"), True, id="Docker has written them"),
    ],
)
def test_what_has_ended_goes_on_from_images_that_docker_has_written(
    docker, opened, restored, monkeypatch, tmp_path, written, resumes
):
    entry = opened("source", mode="cold", restart_policy={"Name": "on-failure", "MaximumRetryCount": 0})
    images = tmp_path / "made" / ".looper-1.partial" / "docker" / "looper-1"
    images.mkdir(parents=True)
    for name in written:
        (images / name).touch()
    docker.state().update(Running=False, Status="exited")
    monkeypatch.setattr(docker, "start", lambda _container: None, raising=False)
    said = recovery.rollback(entry, docker, PARAMS).said
    assert restored == ([str(images)] if resumes else [])
    assert said == ("was resumed and runs" if resumes else recovery.STARTED_ANEW)
