# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root makes nothing in folders in which a local user could have a hand."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading

import pytest
from checkpoints import describe
from fake_docker import ID, IMAGE, Asked, Docker

from ansible_collections.fog.migration.plugins.module_utils.agent import operations
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import encryption, reader
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.folder import Folder
from ansible_collections.fog.migration.plugins.module_utils.docker import image_export, image_load
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.operations import migration_journal, options
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, private_folders
from ansible_collections.fog.migration.plugins.module_utils.transport import framing, staging, work_dir
from ansible_collections.fog.migration.plugins.module_utils.transport.directory_transfer import Receiver

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, and other users")
NOBODY = 65534
BY_OTHERS = "can be written by others than root, who could exchange what is in it"
BY_ANOTHER = "belongs to another user than root, who could exchange what is in it"


@pytest.fixture
def shared(tmp_path):
    """A folder as /tmp is one."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_with_those_above_it(tmp_path):
    path = tmp_path / "a" / "b"
    private_folders.require(str(path))
    assert not (tmp_path / "a").exists()
    private_folders.make(str(path))
    private_folders.make(f"{tmp_path}/./a//b/")
    private_folders.require(str(path))
    assert (mode_of(tmp_path / "a"), mode_of(path)) == (0o755, 0o700)


@pytest.mark.parametrize("place", ["/var/lib/fog-migration/checkpoints", "/var/lib/fog-migration/staging", "/run/x"])
def test_the_defaults_can_be_used(place):
    private_folders.require(place)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o775, 0o757, 0o1777])
def test_nothing_is_made_in_what_others_can_write(tmp_path, mode):
    tmp_path.joinpath("open").mkdir()
    tmp_path.joinpath("open").chmod(mode)
    for act in (private_folders.make, private_folders.require):
        with pytest.raises(MigrationError) as caught:
            act(str(tmp_path / "open"))
        assert caught.value.what == f"the folder {tmp_path}/open cannot be used, since {tmp_path}/open {BY_OTHERS}"
        assert caught.value.state == "nothing was made there"
        assert "chmod go-w" in caught.value.remedy


def test_a_way_leads_through_no_folder_that_others_can_write(tmp_path):
    way = tmp_path / "open" / "mine"
    way.mkdir(parents=True)
    way.parent.chmod(0o777)
    with pytest.raises(MigrationError, match=f"since {way.parent} {BY_OTHERS}"):
        private_folders.make(str(way / "new"))
    assert list(way.iterdir()) == []


def test_only_what_is_roots_own_is_used_below_a_folder_like_tmp(shared):
    private_folders.make(str(shared / "mine" / "deep"))
    (shared / "theirs").mkdir()
    os.chown(shared / "theirs", NOBODY, NOBODY)
    for path in (shared / "theirs", shared / "theirs" / "deep"):
        with pytest.raises(MigrationError, match=f"since {shared}/theirs {BY_ANOTHER}"):
            private_folders.make(str(path))
    os.chown(shared, NOBODY, NOBODY)
    with pytest.raises(MigrationError, match=f"since {shared} {BY_ANOTHER}"):
        private_folders.make(str(shared / "mine"))


def test_links_are_followed_where_root_has_made_them(tmp_path, shared):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    (tmp_path / "again").symlink_to(f"{tmp_path}/./link/../link")
    private_folders.make(str(tmp_path / "again" / "new"))
    assert (tmp_path / "disk" / "new").is_dir()
    (shared / "link").symlink_to(tmp_path / "disk")
    private_folders.require(str(shared / "link"))
    os.chown(shared / "link", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(MigrationError, match=f"since {shared}/link {BY_ANOTHER}"):
        private_folders.require(str(shared / "link" / "new"))
    # What a link of root's leads to is looked at as well.
    (tmp_path / "out").symlink_to(shared)
    with pytest.raises(MigrationError, match=f"since {shared} {BY_OTHERS}"):
        private_folders.make(str(tmp_path / "out"))


def test_links_without_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        private_folders.make(str(tmp_path / "a"))


def test_what_is_no_folder_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        private_folders.make(str(tmp_path / "file" / "x"))
    assert caught.value.filename == str(tmp_path / "file")


def test_several_make_the_same_folder_at_once(tmp_path):
    problems = []

    def make():
        try:
            private_folders.make(str(tmp_path / "a" / "b" / "c"))
        except Exception as exc:
            problems.append(exc)

    threads = [threading.Thread(target=make) for _each in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


AS_NOBODY = """
import os, sys
from ansible_collections.fog.migration.plugins.module_utils.system import private_folders
os.chdir(sys.argv[1])
os.setgid(65534)
os.setuid(65534)
private_folders.require("new")
private_folders.make("new")
"""


def test_another_user_makes_folders_as_ever(tmp_path):
    """Root's rights are not at stake."""
    os.chown(tmp_path, NOBODY, NOBODY)
    path = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", AS_NOBODY, str(tmp_path)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)
    assert (tmp_path / "new").stat().st_uid == NOBODY


# Where it is used


def test_no_checkpoint_is_made_where_others_could_have_made_its_folder(shared):
    """Somebody waits for the memory with a folder of the name under which it is written."""
    (shared / ".evening.partial").mkdir(mode=0o777)
    os.chown(shared / ".evening.partial", NOBODY, NOBODY)
    with pytest.raises(MigrationError, match=BY_OTHERS), Folder(str(shared), "evening").being_made():
        raise AssertionError("it was made")
    assert os.listdir(shared / ".evening.partial") == []


def test_a_folder_for_what_is_not_complete_is_always_a_new_one(tmp_path):
    folder = Folder(str(tmp_path / "checkpoints"), "evening")
    os.makedirs(os.path.join(folder.partial, "criu", "deep"), 0o777)
    with folder.being_made():
        assert os.listdir(folder.partial) == ["criu"] and os.listdir(os.path.join(folder.partial, "criu")) == []
        assert stat.S_IMODE(os.stat(folder.partial).st_mode) == 0o700


@pytest.fixture
def checkpoint(shared):
    """A plain checkpoint where everybody can write."""
    folder = shared / "checkpoint100"
    (folder / "criu").mkdir(parents=True)
    (folder / "criu" / "inventory.img").write_bytes(b"memory")
    describe(folder)
    return folder


def test_none_is_encrypted_there(checkpoint):
    with pytest.raises(MigrationError, match=BY_OTHERS):
        Folder(str(checkpoint.parent), checkpoint.name).encrypt(_manifest.load(str(checkpoint)), "a long enough key")
    assert os.listdir(checkpoint.parent) == [checkpoint.name]


@pytest.mark.parametrize("encrypted", [False, True])
def test_none_is_restored_that_others_could_change_meanwhile(checkpoint, tmp_path, encrypted):
    key = "a long enough key" if encrypted else None
    if key:
        encryption.seal(str(checkpoint), _manifest.load(str(checkpoint)), key, str(tmp_path / "sealed"))
        checkpoint = (tmp_path / "sealed").rename(checkpoint.parent / "sealed")
    os.chown(checkpoint, NOBODY, NOBODY)
    (tmp_path / "root").mkdir()
    docker = Docker(tmp_path / "root")
    spec = operations.OPERATIONS["container_restore"]().spec
    asked = Asked(options.complete(spec, {"path": str(checkpoint), "encryption_key": key, "name": "clone"}))
    with pytest.raises(MigrationError, match=BY_ANOTHER):
        reader.run(asked(), docker)
    assert set(docker.there) == {ID} and docker.events == []
    assert not (checkpoint.parent / ".sealed.opened").exists()


def test_nothing_is_received_there(shared):
    reading, writing = os.pipe()
    answer, saying = os.pipe()
    other = framing.Frames(answer, writing)
    other.write_json(framing.HELLO, framing.greeting("sender", compression="none"))
    other.write_list(framing.LISTING, [{"path": ".", "dir": True, "mode": 0o700}])
    os.close(writing)
    with pytest.raises(Refused, match=f"{BY_OTHERS}; nothing was received on fog2, name a folder of root's"):
        Receiver(framing.Frames(reading, saying), str(shared / "there"), "fog2").run()
    assert other.expect(framing.HELLO)
    with pytest.raises(Refused, match=BY_OTHERS):
        other.expect(framing.WANTS)
    assert os.listdir(shared) == []


def test_no_memory_is_staged_there(tmp_path, shared):
    (tmp_path / "transfer-1").mkdir()
    with pytest.raises(MigrationError, match=BY_OTHERS):
        staging.make(str(tmp_path / "transfer-1" / "staging"), str(shared), most=1000, expected=1000, limit=1)
    assert os.listdir(shared) == os.listdir(tmp_path / "transfer-1") == []


def test_no_program_is_laid_down_there(shared):
    with pytest.raises(MigrationError, match=BY_OTHERS):
        work_dir.make(str(shared / "transfer-0a1b-source-4102444800"))
    assert os.listdir(shared) == []


def test_what_is_beside_a_transfer_stays(tmp_path):
    """Of transfers, those whose time is over are removed; of agents and others, nothing."""
    base = tmp_path / "base"
    names = ["agent-20261130T031149", "runtime", "transfer-1", "transfer-0a-source-4102444800", "transfer-0b-source-1"]
    for name in names:
        (base / name).mkdir(parents=True, mode=0o700)
    base.chmod(0o700)
    work_dir.make(str(base / "transfer-0c-source-4102444800"))
    assert sorted(os.listdir(base)) == sorted([*names[:-1], "transfer-0c-source-4102444800"])


@pytest.mark.parametrize("part", ["", "supervisor", "holder"])
def test_a_transfer_that_goes_on_stays(tmp_path, part):
    """However late it is: a container may depend on it."""
    base = tmp_path / "base"
    late = base / "transfer-0b-source-1"
    (late / part).mkdir(parents=True, mode=0o700)
    base.chmod(0o700)
    with subprocess.Popen(["sleep", "20"]) as program:
        deploy.register(str(late / part), program.pid)
        work_dir.make(str(base / "transfer-0c-source-4102444800"))
        is_there = late.is_dir()
        program.kill()
    assert is_there
    work_dir.make(str(base / "transfer-0d-source-4102444800"))
    assert not late.exists()


def test_no_image_is_saved_or_loaded_there(tmp_path, shared):
    (tmp_path / "root").mkdir()
    docker = Docker(tmp_path / "root")
    with pytest.raises(MigrationError, match=BY_OTHERS):
        image_export.export(docker, IMAGE, str(shared / "image.tar"), set(), check_mode=False)
    with pytest.raises(MigrationError, match=BY_OTHERS):
        image_load.load(docker, "sha256:" + "1" * 64, str(shared / "image.tar"), [], False, Policy())
    assert os.listdir(shared) == []


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_a_cold_migration_is_refused_before_anything_stands_still(tmp_path, shared, monkeypatch, mode):
    """In the other modes, nothing is written there."""
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    facts = {"id": "looper-1", "state": "open", "role": "source", "container": ID, "name": "looper", "mode": mode}
    given = {**facts, "source": "fog1", "destination": "fog2", "directory": str(shared)}
    request = Asked(options.complete(migration_journal.OPERATION.spec, given))()
    if mode == "cold":
        with pytest.raises(MigrationError, match=BY_OTHERS):
            migration_journal.run(request)
        assert journal.entries() == []
    else:
        assert migration_journal.run(request)["changed"]
        assert json.loads((tmp_path / "journal" / "looper-1.json").read_text())["mode"] == mode
