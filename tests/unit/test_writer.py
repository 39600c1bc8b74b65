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
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import docker_dump, manifest, target, writer
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.folder import Folder
from ansible_collections.fog.migration.plugins.module_utils.docker import api
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome
from ansible_collections.fog.migration.plugins.module_utils.operations import options


@pytest.fixture
def docker(tmp_path, monkeypatch):
    work = tmp_path / "work"
    monkeypatch.setattr(docker_dump.containerd, "collect_garbage", lambda: None)
    monkeypatch.setattr(docker_dump.tempfile, "mkdtemp", lambda **_more: work.mkdir() or str(work))
    monkeypatch.setattr(target.tool, "version", lambda: "4.2.1")
    (tmp_path / "root").mkdir()
    docker = Docker(tmp_path / "root")

    def resume(_client, _root, container, images, _checkpoint, _seconds):
        docker.do("resume", sorted(os.listdir(images)))
        docker.state(container)["Running"] = True
        return [], {}

    monkeypatch.setattr(docker_dump.docker_restore, "from_checkpoint", resume)
    monkeypatch.setattr(writer.repair, "bring_back", lambda _container: Outcome())
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
    assert set(found.files) == {"container.json", "volumes.json", "criu/inventory.img"}
    # As it was before it was held.
    assert manifest.inspected(folder.path, "")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert nothing_else(folder)


FIELDS = [
    *("architecture", "container", "cpu_features", "created", "criu", "docker", "exit", "files", "files_alone"),
    *("format", "host", "id", "kernel", "mounts", "name", "statistics", "version"),
]


@pytest.mark.parametrize(("state", "more"), [("present", []), ("prepared", ["prepared"])])
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
    assert result["files"] == 3
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
    with pytest.raises(MigrationError, match="experimental mode"):
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
    monkeypatch.setattr(writer.repair, "bring_back", lambda _container: outcome)
    docker.failing["checkpoint"] = OSError("CRIU was killed")
    monkeypatch.setattr(docker, "create_checkpoint", lambda *_arguments: docker.do("checkpoint"))
    with pytest.raises(MigrationError, match="CRIU was killed") as failure:
        writer.run(asked(), docker)
    assert failure.value.state == state


def test_what_docker_goes_on_with_is_not_touched(docker, asked, folder):
    docker.failing["checkpoint"] = api.READ_TIMEOUT()
    with pytest.raises(docker_dump.StillDumping, match="within 900 seconds"):
        writer.run(asked(leave_running=True), docker)
    assert docker.events == [("pause",), ("checkpoint",)]
    assert os.path.isdir(os.path.join(folder.partial, "docker"))


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
    for name in ("container.json", "volumes.json", "manifest.json"):
        assert os.stat(os.path.join(folder.path, name)).st_mode & 0o777 == 0o600
    assert os.stat(folder.path).st_mode & 0o777 == 0o700
    with open(os.path.join(folder.path, "volumes.json"), encoding="utf-8") as stream:
        assert json.load(stream) == []
