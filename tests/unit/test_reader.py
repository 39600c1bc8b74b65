# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring from a checkpoint: what is refused, what is done, and that a failure leaves nothing behind."""

from __future__ import annotations

import json
import os
import platform
import time

import pytest
from fake_docker import ID, IMAGE, INSPECT, Asked, Docker
from inspected import digests_of

from ansible_collections.fog.migration.plugins.module_utils.agent import operations
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import (
    encryption,
    manifest,
    reader,
    restore_notes,
)
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.file_loader import FileLoader
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.operations import options

KEY = "a key that is long enough"


@pytest.fixture
def docker(tmp_path, monkeypatch):
    monkeypatch.setattr(reader.tool, "version", lambda: "4.2.1")
    monkeypatch.setattr(reader.procfs, "settle_oom_score", lambda *_arguments: None)
    monkeypatch.setattr(reader.namespace, "inside", lambda *_arguments: None)
    monkeypatch.setattr(restore_notes, "FOLDER", str(tmp_path / "restored"))
    (tmp_path / "root").mkdir()
    docker = Docker(tmp_path / "root")
    # The container of the checkpoint is at another host.
    del docker.there[ID]

    def start(_client, _root, container, images, _checkpoint, _seconds):
        docker.do("start", container)
        assert os.path.exists(os.path.join(images, "inventory.img"))
        docker.state(container).update(Running=True, Status="running")
        return [], {"restore_time": 7}

    monkeypatch.setattr(reader.docker_restore, "from_checkpoint", start)
    return docker


@pytest.fixture
def with_runtime(docker, monkeypatch):
    """The same Docker, which has our OCI runtime and no experimental mode."""
    docker.runtimes["fog-runc"] = {}
    docker.experimental = False

    def start(docker_socket, container, images, _seconds, _binds, _etc):
        docker.do("runtime", container)
        assert docker_socket == "/var/run/docker.sock" and os.path.exists(os.path.join(images, "inventory.img"))
        docker.state(container).update(Running=True, Status="running")
        return [], {"restore_time": 7}

    monkeypatch.setattr(reader.runtime_restore, "from_images", start)
    return docker


@pytest.fixture
def path(tmp_path):
    """A checkpoint on disk."""
    path = tmp_path / "c1"
    (path / "criu").mkdir(parents=True)
    (path / "criu" / "inventory.img").write_bytes(b"memory")
    (path / "container.json").write_text(json.dumps(INSPECT))
    write(path)
    return path


def write(path, **more):
    """The manifest of what is there."""
    facts = {
        "id": "0b6f",
        "name": "c1",
        "created": "2026-11-21T04:15:00Z",
        "exit": True,
        "architecture": platform.machine(),
        "container": manifest.Container(ID, "looper", IMAGE),
        "files": manifest.describe_files(str(path)),
    }
    manifest.write(str(path), manifest.Manifest(**{**facts, **more}))


@pytest.fixture
def asked(path):
    spec = operations.OPERATIONS["container_restore"]().spec
    return Asked(options.complete(spec, {"path": str(path)}))


def test_a_container_is_restored(docker, asked):
    result = reader.run(asked(), docker)
    assert docker.events == [("create", "looper"), ("start", "f00"), ("policy", "always")]
    assert result["container"] == {"id": "f00", "name": "looper", "image": IMAGE, "in_place": False}
    assert result["statistics"] == {"restore_time": 7}
    assert result["diff"] == {"before": {"looper": "absent"}, "after": {"looper": "running"}}


def test_what_runs_from_it_already_is_left(docker, asked):
    reader.run(asked(), docker)
    del docker.events[:]
    assert not reader.run(asked(), docker)["changed"]
    assert docker.events == []


def test_the_container_itself_is_resumed_where_it_is(docker, asked):
    docker.add({**INSPECT, "State": {"Running": False, "Pid": 0}})
    assert reader.run(asked(), docker)["container"]["in_place"]
    assert docker.events == [("start", ID), ("policy", "always")]


def test_a_name_that_is_taken_is_refused(docker, asked):
    docker.add({**INSPECT, "Id": "bee"})
    with pytest.raises(MigrationError, match="another container has the name"):
        reader.run(asked(), docker)
    assert docker.events == []


def test_a_restore_that_fails_leaves_nothing(docker, asked):
    docker.failing["start"] = MigrationError("CRIU failed", criu_log=["Error (criu/tty.c): no tty"])
    with pytest.raises(MigrationError) as failure:
        reader.run(asked(), docker)
    assert failure.value.what.startswith("the container looper could not be restored (CRIU failed)")
    assert failure.value.state == "nothing of it is left on this host, the checkpoint is kept"
    assert failure.value.details["criu_log"] == ["Error (criu/tty.c): no tty"]
    assert docker.there == {}


def test_in_place_a_failure_leaves_it_stopped(docker, asked):
    docker.add({**INSPECT, "State": {"Running": False, "Pid": 0}})
    docker.failing["start"] = MigrationError("CRIU failed")
    with pytest.raises(MigrationError) as failure:
        reader.run(asked(), docker)
    assert failure.value.state == "the container is stopped as before, the checkpoint is kept"
    assert list(docker.there) == [ID]


def test_through_the_runtime_it_is_made_for_it(with_runtime, asked):
    result = reader.run(asked(), with_runtime)
    assert with_runtime.events == [("create", "looper"), ("runtime", "f00"), ("policy", "always")]
    assert with_runtime.there["f00"]["HostConfig"]["Runtime"] == "fog-runc"
    assert result["statistics"] == {"restore_time": 7}


def stopped(runtime="runc", **more):
    """The container of the checkpoint, stopped."""
    host = {**INSPECT["HostConfig"], "Runtime": runtime}
    return {**INSPECT, "State": {"Running": False, "Pid": 0}, "HostConfig": host, **more}


def test_through_the_runtime_what_was_made_for_it_is_resumed_where_it_is(with_runtime, asked):
    with_runtime.add(stopped("fog-runc"))
    assert reader.run(asked(), with_runtime)["container"]["in_place"]
    assert with_runtime.events == [("runtime", ID), ("policy", "always")]


def test_through_the_runtime_another_one_takes_the_place_of_what_was_not(with_runtime, asked):
    with_runtime.add(stopped())
    assert reader.run(asked(check_mode=True), with_runtime)["changed"] and with_runtime.events == []
    result = reader.run(asked(), with_runtime)
    assert result["container"] == {"id": "f00", "name": "looper", "image": IMAGE, "in_place": False}
    before = [("create", "looper.restored"), ("runtime", "f00")]
    assert with_runtime.events == [*before, ("remove", ID), ("rename", "looper"), ("policy", "always")]
    assert not reader.run(asked(), with_runtime)["changed"]


def test_a_place_is_kept_until_another_one_runs(with_runtime, asked):
    with_runtime.add(stopped())
    with_runtime.failing["runtime"] = MigrationError("CRIU failed")
    with pytest.raises(MigrationError) as failure:
        reader.run(asked(), with_runtime)
    assert failure.value.state == "the container is stopped as before, the checkpoint is kept"
    assert list(with_runtime.there) == [ID]


@pytest.mark.parametrize("old", [[], [stopped()]])
def test_a_place_that_was_not_taken_to_the_end_is_taken(with_runtime, asked, old):
    reader.run(asked(name="looper.restored"), with_runtime)
    for inspect in old:
        with_runtime.add(inspect)
    del with_runtime.events[:]
    assert reader.run(asked(), with_runtime)["container"]["id"] == "f00"
    removed = [("remove", ID)] if old else []
    assert with_runtime.events == [*removed, ("rename", "looper"), ("policy", "always")]


def test_what_was_made_for_a_place_and_does_not_run_is_made_anew(with_runtime, asked):
    with_runtime.add(stopped())
    with_runtime.add(stopped("fog-runc", Id="bee", Name="/looper.restored"))
    reader.run(asked(), with_runtime)
    assert with_runtime.events[:2] == [("remove", "bee"), ("create", "looper.restored")]


def test_locks_that_docker_would_lose_are_refused(docker, asked, path, monkeypatch):
    (path / "criu" / reader.docker_restore.LOCKS).write_bytes(b"lock")
    write(path)
    monkeypatch.setattr(reader.tool, "configuration", lambda: "tcp-established\n")
    with pytest.raises(MigrationError, match="looper holds locks on files, which would be lost here"):
        reader.run(asked(), docker)
    monkeypatch.setattr(reader.tool, "configuration", lambda: "file-locks\n")
    assert reader.run(asked(), docker)["changed"]


def test_a_docker_that_starts_nothing_from_checkpoints_is_refused(docker, asked):
    docker.experimental = False
    with pytest.raises(MigrationError, match="does not run in experimental mode, which its own checkpoints need"):
        reader.run(asked(), docker)
    docker.version = lambda: {"Version": "28.5.2", "ApiVersion": "1.51", "Experimental": True}
    with pytest.raises(MigrationError, match=r"Docker 28\.5\.2 cannot start a container from a checkpoint by itself"):
        reader.run(asked(), docker)
    assert docker.events == []


def test_a_restart_policy_that_does_not_come_back_is_a_warning(docker, asked):
    docker.failing["policy"] = OSError("no answer")
    assert reader.run(asked(), docker)["changed"]
    assert asked.warnings == ["looper runs, but its restart policy always is not back (no answer)"]


def test_within_a_migration_the_policy_comes_later(docker, asked, monkeypatch):
    monkeypatch.setattr(reader.journal, "load", lambda identity: {"id": identity})
    for name in ("note", "note_what_happened"):
        monkeypatch.setattr(reader.journal, name, lambda *_arguments, **_facts: None)
    reader.run(asked(migration="looper-1"), docker)
    assert docker.events == [("create", "looper"), ("start", "f00")]


def test_a_migration_that_has_ended_restores_nothing(docker, asked, monkeypatch):
    monkeypatch.setattr(reader.journal, "load", lambda identity: None)
    with pytest.raises(MigrationError, match="was taken back"):
        reader.run(asked(migration="looper-1"), docker)
    assert docker.events == []


def test_what_was_taken_back_does_not_begin(docker, asked):
    ordered = time.time() - 60
    assert not reader.run(asked(state="absent"), docker)["changed"]
    with pytest.raises(MigrationError, match="was taken back"):
        reader.run(asked(asked=ordered), docker)
    # What is ordered after that is something else.
    assert reader.run(asked(asked=time.time() + 60), docker)["changed"]


def test_taken_back_is_only_what_came_from_here(docker, asked):
    docker.add({**INSPECT, "Id": "bee"})
    assert not reader.run(asked(state="absent"), docker)["changed"]
    del docker.there["bee"]
    reader.run(asked(asked=time.time() + 60), docker)
    assert reader.run(asked(state="absent", check_mode=True), docker)["changed"]
    assert "f00" in docker.there
    assert reader.run(asked(state="absent"), docker)["changed"]
    assert docker.there == {}


def test_check_mode_verifies_and_makes_nothing(docker, asked, path):
    assert reader.run(asked(check_mode=True), docker)["container"]["id"] == ""
    (path / "criu" / "inventory.img").write_bytes(b"mammoth")
    with pytest.raises(MigrationError, match="is damaged"):
        reader.run(asked(check_mode=True), docker)
    assert docker.events == []


def test_a_prepared_checkpoint_is_only_armed(docker, asked, path):
    write(path, prepared=True)
    with pytest.raises(MigrationError, match="without any memory"):
        reader.run(asked(), docker)
    with pytest.raises(MigrationError, match="does not know the OCI runtime fog-runc"):
        reader.run(asked(state="armed"), docker)
    docker.runtimes["fog-runc"] = {}
    assert reader.run(asked(state="armed"), docker)["diff"]["after"] == {"looper": "created"}
    assert docker.there["f00"]["HostConfig"]["Runtime"] == "fog-runc"
    assert not reader.run(asked(state="armed"), docker)["changed"]


def test_volumes_are_filled_once(docker, asked):
    assert reader.run(asked(state="filled"), docker)["changed"]
    assert not reader.run(asked(state="filled"), docker)["changed"]


def test_changes_need_what_they_are_changes_of(docker, asked, path):
    write(path, differences=["/data"], since="0a11", mounts={"/data": "mount-0.diff"})
    with pytest.raises(MigrationError, match="volumes that were not filled here before"):
        reader.run(asked(), docker)
    assert docker.there == {}


def test_what_was_judged_is_what_is_made(docker, asked, path):
    told = digests_of(INSPECT, [])
    for state in ("present", "filled", "armed"):
        with pytest.raises(MigrationError, match=r"other are HostConfig\.NetworkMode, its image$") as refused:
            lied = digests_of({**INSPECT, "Image": "sha256:bbb", "HostConfig": {"NetworkMode": "lan"}}, [])
            reader.run(asked(state=state, judged=lied), docker)
        assert refused.value.state == "nothing was made of it"
    assert docker.events == []
    assert reader.run(asked(judged=told, mounts=[]), docker)["changed"]


def test_only_what_was_ordered_is_filled(docker, asked, path):
    write(path, mounts={"/data": None})
    for state in ("present", "filled", "armed"):
        with pytest.raises(MigrationError, match="the content of /data arrived for the container, and was not ordered"):
            reader.run(asked(state=state, mounts=[]), docker)
    assert docker.events == []
    order = {"place": "/data", "type": "volume", "name": "data", "path": "/v/data"}
    assert reader.run(asked(mounts=[order]), docker)["changed"]


@pytest.mark.parametrize(
    ("order", "is_ordered"),
    [
        ({"type": "bind", "path": "HERE"}, True),
        ({"type": "bind", "path": "HERE/"}, True),
        ({"type": "bind", "path": "/srv"}, False),
        ({"type": "volume", "name": "data"}, False),
        ({"type": "volume", "name": "a" * 64}, False),
    ],
)
def test_what_is_there_is_what_was_ordered(docker, path, tmp_path, order, is_ordered):
    here = tmp_path / "here"
    here.mkdir()
    write(path, mounts={"/data": "container.json"})
    order = {"place": "/data", "name": "", "path": "/x", **order}
    order["path"] = order["path"].replace("HERE", str(here))
    files = FileLoader(docker, str(path), manifest.load(str(path)), {}, ordered=[order])
    # What the checkpoint has for it is no archive.
    why = "the content of /data cannot be made" if is_ordered else f"there is {here} where the .* at /data was ordered"
    with pytest.raises(MigrationError, match=why):
        files.fill_mounts({"/data": {"type": "bind", "name": "", "destination": "/data", "source": str(here)}})
    files.close()


def test_an_encrypted_one_is_opened_for_the_restore_only(docker, asked, path):
    sealed = path.parent / "sealed"
    encryption.seal(str(path), manifest.load(str(path)), KEY, str(sealed))
    with pytest.raises(MigrationError, match="is encrypted"):
        reader.run(asked(path=str(sealed)), docker)
    assert reader.run(asked(path=str(sealed), encryption_key=KEY), docker)["changed"]
    assert sorted(os.listdir(path.parent)) == ["c1", "restored", "root", "sealed"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_an_exchanged_checkpoint_shows(docker, asked, path, check_mode):
    """Somebody puts an older one, which has the same key, in the place of the one that is wanted."""
    wanted = path.parent / "evening"
    write(path, name="morning", id="0a11", created="2026-11-20T04:15:00Z")
    encryption.seal(str(path), manifest.load(str(path)), KEY, str(wanted))
    result = reader.run(asked(check_mode, path=str(wanted), encryption_key=KEY), docker)
    assert result["checkpoint"] == {
        "id": "0a11",
        "name": "morning",
        "created": "2026-11-20T04:15:00Z",
        "container": {"id": ID, "name": "looper"},
    }
    assert asked.warnings == [f"{wanted} holds the checkpoint morning, which was made at 2026-11-20T04:15:00Z"]


def test_a_key_for_what_is_not_encrypted_is_refused(docker, asked):
    with pytest.raises(MigrationError, match="is not encrypted"):
        reader.run(asked(encryption_key=KEY), docker)


def test_notes_of_what_is_gone_are_forgotten(docker, tmp_path):
    restore_notes.note("bee", "0b6f", docker.root)
    assert not restore_notes.came_from("bee", "0b6f")
    os.makedirs(os.path.join(docker.root, "containers", "bee"))
    restore_notes.note("bee", "0b6f", docker.root)
    assert restore_notes.came_from("bee", "0b6f")
    assert not restore_notes.came_from("bee", "0b60")
    restore_notes.withdraw("0b6f")
    os.utime(tmp_path / "restored" / ".withdrawn-0b6f", (0, 0))
    restore_notes.note("bee", "0b6f", docker.root)
    assert os.listdir(tmp_path / "restored") == ["bee"]
