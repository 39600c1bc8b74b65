# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing a checkpoint: what is refused, what is done in which order, and what becomes of it when something fails."""

from __future__ import annotations

import fcntl
import json
import os

import pytest
from fake_docker import ID, Asked, Docker

from ansible_collections.fog.migration.plugins.module_utils.agent import operations
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import (
    docker_dump,
    freeze,
    manifest,
    runtime_dump,
    target,
    writer,
)
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.folder import Folder
from ansible_collections.fog.migration.plugins.module_utils.docker import api, runc
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome
from ansible_collections.fog.migration.plugins.module_utils.operations import options


def bring_back(_container, resume=None):
    """A container in which nothing is left goes on."""
    if resume:
        resume()
    return Outcome()


@pytest.fixture
def docker(tmp_path, monkeypatch):
    work = tmp_path / "work"
    monkeypatch.setattr(docker_dump.containerd, "collect_garbage", lambda: None)
    monkeypatch.setattr(freeze.tempfile, "mkdtemp", lambda **_more: work.mkdir() or str(work))
    monkeypatch.setattr(target.tool, "version", lambda: "4.2.1")
    (tmp_path / "root").mkdir()
    docker = Docker(tmp_path / "root")

    def resume(_client, _root, container, images, _checkpoint, _seconds):
        docker.do("resume", sorted(os.listdir(images)))
        docker.state(container)["Running"] = True
        return [], {}

    monkeypatch.setattr(docker_dump.docker_restore, "from_checkpoint", resume)
    monkeypatch.setattr(docker_dump.repair, "bring_back", bring_back)
    monkeypatch.setattr(runtime_dump.repair, "without_dump", lambda _container: Outcome())
    return docker


class Network:
    """The container's network, with which nothing is done."""

    def prepare(self):
        pass

    drain_pending = prepare

    def detach_sockets(self, _images):
        pass


class Frozen:
    """A container that is frozen through its OCI runtime; C(dump) is what its dump does."""

    docker: Docker
    outcome = Outcome()

    def __init__(self, container, _docker_socket, images, work):
        self.id, self.images, self.work, self.network = container, images, work, Network()

    def __getattr__(self, name):
        return lambda: self.docker.do(name)

    def start_dump(self, lazy):
        with open(os.path.join(self.images, "inventory.img"), "wb") as stream:
            stream.write(b"memory")
        return Dumping(self.docker)

    def end(self):
        self.docker.do("end")
        self.docker.state(self.id)["Running"] = False


class Dumping:
    """A dump, which has ended unless Docker says otherwise."""

    def __init__(self, docker):
        self.docker = docker

    def join(self, _seconds):
        pass

    def is_alive(self):
        return "forever" in self.docker.failing

    def wait(self):
        self.docker.do("dump")


@pytest.fixture
def with_runtime(docker, monkeypatch):
    """The same Docker, which has our OCI runtime and no experimental mode."""
    docker.runtimes["fog-runc"] = {}
    docker.experimental = False
    monkeypatch.setattr(Frozen, "docker", docker, raising=False)
    monkeypatch.setattr(runtime_dump, "FrozenContainer", Frozen)
    return docker


@pytest.fixture
def asked(tmp_path):
    spec = operations.OPERATIONS["container_checkpoint"]().spec
    given = {"container": "looper", "name": "c1", "directory": str(tmp_path / "checkpoints")}
    return Asked(options.complete(spec, given))


@pytest.fixture
def folder(asked):
    return Folder(asked.defaults["directory"], "c1")


def nothing_else(folder):
    """Whether there is the complete checkpoint and nothing beside it."""
    return os.listdir(folder.directory) == ["c1"]


def test_a_checkpoint_is_written(docker, asked, folder):
    result = writer.run(asked(), docker)
    assert docker.events == [("policy", "no"), ("checkpoint",)]
    assert result["changed"]
    assert result["path"] == folder.path
    assert result["restart_policy_held"]["Name"] == "always"
    found = manifest.load(folder.path)
    manifest.require_intact(folder.path, found, "")
    assert set(found.files) == {"container.json", "volumes.json", "etc.json", "criu/inventory.img"}
    # As it was before it was held.
    assert manifest.inspected(folder.path, "")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert nothing_else(folder)


FIELDS = [
    *("architecture", "container", "cpu_features", "created", "criu", "docker", "exit", "files", "files_alone"),
    *("format", "host", "id", "kernel", "mounts", "name", "statistics", "version"),
]


@pytest.mark.parametrize(("state", "more"), [("present", ["way"]), ("prepared", ["prepared"])])
def test_what_a_manifest_tells(docker, asked, folder, state, more):
    result = writer.run(asked(state=state), docker)
    with open(os.path.join(folder.path, "manifest.json"), encoding="utf-8") as stream:
        written = json.load(stream)
    assert sorted(written) == sorted([*FIELDS, *more])
    assert sorted(written["container"]) == ["id", "image", "image_tags", "name"]
    assert sorted(written["docker"]) == ["api_version", "storage_driver", "version"]
    assert sorted(written["criu"]) == ["version"]
    assert {tuple(sorted(one)) for one in written["files"].values()} == {("mode", "sha256", "size")}
    left_out = ("files", "statistics", "cpu_features")
    told = {name: one for name, one in written.items() if name not in left_out}
    assert result["manifest"].items() <= told.items()


def test_one_that_is_there_is_left(docker, asked, folder):
    writer.run(asked(), docker)
    del docker.events[:]
    result = writer.run(asked(), docker)
    assert not result["changed"]
    assert result["files"] == 4
    assert docker.events == []


def test_one_that_is_older_than_the_container_is_no_success(docker, asked):
    writer.run(asked(), docker)
    docker.state()["Running"] = True
    with pytest.raises(MigrationError, match="was started again since"):
        writer.run(asked(), docker)


def test_check_mode_refuses_and_does_nothing(docker, asked, folder):
    result = writer.run(asked(check_mode=True), docker)
    assert result == {
        "changed": True,
        "path": folder.path,
        "diff": {
            "before": {"checkpoint": "absent", "container": "running"},
            "after": {"checkpoint": "present", "container": "exited"},
        },
    }
    assert not os.path.exists(folder.directory)
    docker.experimental = False
    with pytest.raises(MigrationError, match="does not run in experimental mode, which its own checkpoints need"):
        writer.run(asked(check_mode=True), docker)


def test_a_container_that_runs_on_stands_still_meanwhile(docker, asked):
    writer.run(asked(leave_running=True), docker)
    assert docker.events == [("pause",), ("checkpoint",), ("unpause",)]


def test_after_a_failure_it_goes_on_from_what_was_written(docker, asked, folder, monkeypatch):
    def full(*_arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(writer._folder, "describe", full)
    with pytest.raises(MigrationError, match="the disk is full") as failure:
        writer.run(asked(), docker)
    assert failure.value.state == "the container was resumed from what had been written and runs"
    assert docker.events[-2:] == [("resume", ["inventory.img"]), ("policy", "always")]
    assert os.listdir(folder.directory) == []


def test_what_cannot_go_on_is_kept(docker, asked, folder, monkeypatch):
    def broken(*_arguments):
        raise MigrationError("the manifest cannot be written")

    monkeypatch.setattr(writer._folder, "describe", broken)
    docker.failing["resume"] = MigrationError("CRIU failed")
    with pytest.raises(MigrationError) as failure:
        writer.run(asked(), docker)
    (kept,) = os.listdir(folder.directory)
    assert kept.startswith("c1.rescued-")
    assert failure.value.state.startswith("the container is stopped and could not be resumed (CRIU failed)")
    assert os.path.exists(os.path.join(folder.directory, kept, "criu", "inventory.img"))


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome(), "the container runs on as before"),
        (Outcome(undone=("a lock",)), "the container runs on (what a dump had left was undone: a lock)"),
    ],
)
def test_after_a_dump_that_failed_it_is_looked_at(docker, asked, monkeypatch, outcome, state):
    monkeypatch.setattr(docker_dump.repair, "bring_back", lambda _container, _resume=None: outcome)
    docker.failing["checkpoint"] = OSError("CRIU was killed")
    monkeypatch.setattr(docker, "create_checkpoint", lambda *_arguments: docker.do("checkpoint"))
    with pytest.raises(MigrationError, match="CRIU was killed") as failure:
        writer.run(asked(), docker)
    assert failure.value.state == state


def test_what_docker_goes_on_with_is_not_touched(docker, asked, folder):
    docker.failing["checkpoint"] = api.READ_TIMEOUT()
    with pytest.raises(freeze.StillDumping, match="within 900 seconds"):
        writer.run(asked(leave_running=True), docker)
    assert docker.events == [("pause",), ("checkpoint",)]
    assert os.path.isdir(os.path.join(folder.partial, "docker"))


def test_through_the_runtime_it_ends_when_the_checkpoint_is_complete(with_runtime, asked, folder, monkeypatch):
    complete, end = [], Frozen.end
    monkeypatch.setattr(Frozen, "end", lambda frozen: complete.append(folder.exists()) or end(frozen))
    result = writer.run(asked(), with_runtime)
    before = [("policy", "no"), ("prepare_dump",), ("pause",), ("lock_network",), ("dump",)]
    assert with_runtime.events == [*before, ("end",)] and complete == [True]
    assert result["manifest"]["way"] == "runtime"
    assert result["diff"]["after"] == {"checkpoint": "present", "container": "exited"}
    assert nothing_else(folder)


def test_within_a_migration_it_stays_paused(with_runtime, asked, monkeypatch):
    monkeypatch.setattr(writer.journal, "note", lambda *_arguments, **_facts: None)
    result = writer.run(asked(migration="looper-1"), with_runtime)
    assert with_runtime.events[-2:] == [("dump",), ("leave",)]
    assert result["diff"]["after"]["container"] == "paused"
    # Once more, it is the same.
    with_runtime.state()["Paused"] = True
    assert not writer.run(asked(migration="looper-1"), with_runtime)["changed"]


def test_one_that_runs_on_does_so_when_its_files_are_saved(with_runtime, asked):
    writer.run(asked(leave_running=True), with_runtime)
    assert with_runtime.events[-2:] == [("dump",), ("resume",)] and asked.warnings == []


def test_what_a_dump_has_left_in_one_that_runs_on_is_told(with_runtime, asked, monkeypatch):
    monkeypatch.setattr(Frozen, "outcome", Outcome(undone=("a lock",)))
    assert writer.run(asked(leave_running=True), with_runtime)["changed"]
    assert asked.warnings == ["the container looper runs on (what a dump had left was undone: a lock)"]


@pytest.mark.parametrize("failing", ["pause", "lock_network", "dump"])
def test_whatever_fails_through_the_runtime_it_runs_on(with_runtime, asked, folder, monkeypatch, failing):
    monkeypatch.setattr(Frozen, "outcome", Outcome(undone=("a lock",)))
    with_runtime.failing[failing] = runc.FreezeError("runc ended with 1, CRIU said: no")
    with pytest.raises(MigrationError) as failure:
        writer.run(asked(), with_runtime)
    assert failure.value.what == "the checkpoint of looper failed (runc ended with 1, CRIU said: no)"
    assert failure.value.state == "the container runs on (what a dump had left was undone: a lock)"
    assert with_runtime.events[-2:] == [("resume",), ("policy", "always")]
    assert os.listdir(folder.directory) == []


def test_what_the_runtime_goes_on_with_is_not_touched(with_runtime, asked, folder):
    with_runtime.failing["forever"] = None
    with pytest.raises(freeze.StillDumping, match="has not finished the dump of looper within 900 seconds") as failure:
        writer.run(asked(), with_runtime)
    assert "docker unpause looper" in failure.value.remedy
    assert with_runtime.events[-1] == ("lock_network",)
    assert os.path.exists(os.path.join(folder.partial, "criu", "inventory.img"))


def test_one_that_cannot_be_ended_has_its_checkpoint(with_runtime, asked, folder):
    with_runtime.failing["end"] = runc.FreezeError("no OCI runtime knows it")
    with pytest.raises(MigrationError, match=r"could not be ended \(no OCI runtime knows it\)"):
        writer.run(asked(), with_runtime)
    manifest.require_intact(folder.path, manifest.load(folder.path), "")


def test_a_daemon_behind_tls_makes_its_checkpoints_itself(with_runtime, asked):
    with_runtime.experimental = True
    result = writer.run(asked(docker_host="tcp://127.0.0.1:2376", tls=True), with_runtime)
    assert result["manifest"]["way"] == "docker"


def test_a_prepared_one_leaves_the_container_alone(docker, asked, folder):
    docker.experimental = False
    result = writer.run(asked(state="prepared"), docker)
    assert result["changed"]
    assert docker.events == []
    found = manifest.load(folder.path)
    assert found.prepared
    assert "criu/inventory.img" not in found.files
    assert not writer.run(asked(state="prepared"), docker)["changed"]
    assert nothing_else(folder)


def test_a_mount_that_is_none_is_refused(docker, asked):
    with pytest.raises(MigrationError, match="nothing is mounted at /data in looper"):
        writer.run(asked(mounts=["/data"]), docker)
    assert docker.events == []


def test_changes_since_a_checkpoint_of_another_container_are_refused(docker, asked, tmp_path):
    writer.run(asked(), docker)
    docker.add({**docker.there[ID], "Id": "bee", "Name": "/other", "State": {"Running": True, "Pid": 0}})
    with pytest.raises(MigrationError, match=r"is of another container \(looper\)"):
        writer.run(asked(container="other", name="c2", since=str(tmp_path / "checkpoints/c1")), docker)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"name": "../c1"}, "refused by Docker"),
        ({"directory": "here"}, "is not an absolute path"),
        ({"encryption_key": "short"}, "has fewer than 12 characters"),
        ({"encryption_key": "a long enough key", "state": "prepared"}, "has no use with state prepared"),
        ({"container": "nobody"}, "there is no container nobody"),
    ],
)
def test_what_is_refused_at_once(docker, asked, wrong, problem):
    with pytest.raises(MigrationError, match=problem):
        writer.run(asked(**wrong), docker)
    assert docker.events == []


def test_only_a_checkpoint_is_deleted(docker, asked, folder):
    os.makedirs(folder.path)
    with pytest.raises(MigrationError, match="is no checkpoint of ours"):
        writer.run(asked(state="absent"), docker)
    os.rmdir(folder.path)
    assert not writer.run(asked(state="absent"), docker)["changed"]
    writer.run(asked(), docker)
    assert writer.run(asked(state="absent", check_mode=True), docker)["changed"]
    assert folder.exists()
    assert writer.run(asked(state="absent"), docker)["changed"]
    assert not folder.exists()


def test_the_folder_is_locked_for_as_long_as_it_is_made(tmp_path):
    folder = Folder(str(tmp_path), "c1")

    def is_free(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True

    with folder.being_made():
        assert not is_free(folder.partial)
        os.rename(folder.partial, folder.path)
        assert not is_free(folder.path)
        with pytest.raises(MigrationError, match="is under way"), folder.not_in_use():
            pytest.fail("it is in use")
    # An agent that runs on does not keep it.
    assert is_free(folder.path)


def test_what_is_written_is_for_root_only(docker, asked, folder):
    writer.run(asked(), docker)
    for name in ("container.json", "volumes.json", "etc.json", "manifest.json"):
        assert os.stat(os.path.join(folder.path, name)).st_mode & 0o777 == 0o600
    assert os.stat(folder.path).st_mode & 0o777 == 0o700
    with open(os.path.join(folder.path, "volumes.json"), encoding="utf-8") as stream:
        assert json.load(stream) == []
