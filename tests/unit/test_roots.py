# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roots of trees: which links are followed, that what was looked at is what is filled, and what is left alone."""

from __future__ import annotations

import io
import json
import os
import subprocess

import pytest

from ansible_collections.fog.migration.plugins.module_utils import recovery
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import file_loader, restore_notes
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.file_saver import FileSaver
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import Container, Manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.recreate import Recreation
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.target import Target
from ansible_collections.fog.migration.plugins.module_utils.docker import mounts, runc
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive, roots, snapshot
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import file_sync
from ansible_collections.fog.migration.plugins.module_utils.policy import rules
from ansible_collections.fog.migration.plugins.module_utils.preflight import container_description
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore.armed_start import ArmedStart

ALICE = 1000


@pytest.fixture(autouse=True)
def no_journal(monkeypatch, tmp_path):
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    monkeypatch.setattr(restore_notes, "FOLDER", str(tmp_path / "restored"))


@pytest.fixture
def secret(tmp_path):
    """A folder of the server that is nobody else's."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow").write_text("secret")
    return tmp_path / "etc"


@pytest.fixture
def app(tmp_path):
    """A folder of the host with another one in it, each of which is mounted into a container."""
    (tmp_path / "app" / "data").mkdir(parents=True)
    return tmp_path / "app"


def names(folder):
    return sorted(os.listdir(folder))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


# ---------------------------------------------------------------------------------------------------------------------
# Which links are followed


def test_a_plain_path(app):
    before = descriptors()
    with roots.hold(f"{app}//./data/") as root:
        assert root.real == str(app / "data") and root.only is None
        assert os.path.samefile(root.folder, app / "data")
    (app / "file").write_text("x")
    with roots.hold(str(app / "file")) as root:
        assert root.only == b"file" and os.path.samefile(root.folder, app)
    assert descriptors() == before


@pytest.mark.parametrize("target", ["data", "../app/data", "{app}/data", "../app/./data/../data"])
def test_what_only_root_can_have_linked_is_followed(app, target):
    """As /var/run, or a link to another disk in Docker's own folders."""
    (app / "link").symlink_to(target.format(app=app))
    with roots.hold(str(app / "link")) as root:
        assert root.real == str(app / "data")
        root.require_in_place()
    assert roots.refusal(str(app / "link" / "more")) == ""


@pytest.mark.parametrize(
    ("mode", "owner", "of_link", "followed"),
    [
        (0o755, 0, 0, True),
        (0o755, 0, ALICE, False),
        (0o755, ALICE, 0, False),
        (0o775, 0, 0, False),
        (0o777, 0, 0, False),
        # There, nobody else can remove it, but give another name to a link of root's.
        (0o1777, 0, 0, False),
        (0o1777, 0, ALICE, False),
    ],
)
def test_a_link_that_others_could_have_made(app, secret, mode, owner, of_link, followed):
    (app / "link").symlink_to(secret)
    os.chown(app / "link", of_link, of_link, follow_symlinks=False)
    app.chmod(mode)
    os.chown(app, owner, 0)
    before = descriptors()
    for path in (app / "link", app / "link" / "."):
        if followed:
            roots.hold(str(path)).close()
            assert roots.refusal(str(path)) == ""
            continue
        with pytest.raises(Refused, match=f"leads through the symbolic link {app}/link, which others than root could"):
            roots.hold(str(path))
        assert "leads through" in roots.refusal(str(path))
    assert descriptors() == before


def test_a_link_below_what_others_can_exchange(app, secret):
    """The folder itself is root's alone, but not its name."""
    (app / "data" / "link").symlink_to(secret)
    app.chmod(0o777)
    with pytest.raises(Refused, match="others than root could have made"):
        roots.hold(str(app / "data" / "link"))


def test_a_link_that_a_container_may_have_made(app, secret):
    """Its root is root here as well."""
    (app / "link").symlink_to(secret)
    listed = [{"Mounts": [{"Source": str(app), "RW": True}, {"Source": str(secret), "RW": False}, {"Source": "/"}]}]
    writable = mounts.writable([*listed, {"Mounts": None}])
    assert writable == {str(app)}
    with pytest.raises(Refused, match="others than root could have made"):
        roots.hold(str(app / "link"), roots.identities([*writable, "/none"]))
    with pytest.raises(Refused, match="others than root could have made"):
        roots.real_path(str(app / "link" / "new"), roots.identities(writable))


def test_what_is_no_root(app):
    (app / "loop").symlink_to("loop")
    (app / "file").write_text("x")
    os.mkfifo(app / "fifo")
    before = descriptors()
    for name, why in (("loop", "cannot be opened"), ("fifo", "neither a folder"), ("none", "is not there")):
        with pytest.raises(Refused, match=why):
            roots.hold(str(app / name))
    with pytest.raises(Refused, match="Not a directory"):
        roots.hold(str(app / "file" / "x"))
    assert descriptors() == before


# ---------------------------------------------------------------------------------------------------------------------
# What is held


def test_a_parent_that_is_exchanged(tmp_path, app, secret):
    """A local user owns what the folder is in, as with Compose, and exchanges it after the look at it."""
    (app / "data" / "ours").write_text("x")
    with roots.hold(str(app / "data")) as root:
        app.rename(tmp_path / "aside")
        app.mkdir()
        (app / "data").symlink_to(secret)
        assert set(root.snapshot()) == {b".", b"ours"}
        root.empty()
        assert names(tmp_path / "aside" / "data") == [] and names(secret) == ["shadow"]
        with pytest.raises(Refused, match="something else has its place"):
            root.require_in_place()
        (app / "data").unlink()
        (app / "data").mkdir()
        with pytest.raises(Refused, match="something else has its place"):
            root.require_in_place()


@pytest.mark.parametrize("deep", [True, False])
def test_a_folder_in_it_that_is_exchanged(app, secret, monkeypatch, deep):
    """After its name was seen, and before it is looked into."""
    (app / "data" / "below").mkdir()
    (secret / "below").mkdir()
    (secret / "below" / "key").write_text("secret")
    overlay = snapshot._overlay

    def seen(folder):
        if folder.endswith(b"/below" if deep else b"/data"):
            exchange(app, secret)
        return overlay(folder)

    monkeypatch.setattr(snapshot, "_overlay", seen)
    with roots.hold(str(app)) as root:
        assert set(root.snapshot()) == {b".", b"data", *([b"data/below"] if deep else [])}


def test_a_file_that_is_exchanged(app, secret):
    path = app / "file"
    path.write_text("x")
    with roots.hold(str(path)) as root:
        assert set(root.snapshot()) == {b"file"}
        root.require_in_place()
        for exchange in (
            lambda: path.symlink_to(secret / "shadow"),
            path.mkdir,
            lambda: os.link(secret / "shadow", path),
        ):
            path.rename(app / "aside") if path.is_dir() else path.unlink()
            exchange()
            with pytest.raises(MigrationError, match="is another file by now"):
                root.snapshot()


def test_what_lies_there_already(app):
    (app / "one").mkdir()
    (app / "file").write_text("")
    found = {"/a": str(app), "/d": str(app / "data"), "/f": str(app / "file")}
    held = {place: roots.hold(path) for place, path in found.items()}
    with pytest.raises(Refused, match=f"there is something in {app} already"):
        roots.require_unused(held)
    (app / "one").rmdir()
    roots.require_unused(held)
    (app / "data" / "deep").mkdir()
    with pytest.raises(Refused, match="already, which was not made for this container"):
        roots.require_unused(held)
    roots.require_unused(held, ["/a", "/d"])
    (app / "file").write_text("x")
    with pytest.raises(Refused, match=f"there is something in {app}/file already"):
        roots.require_unused(held, ["/a", "/d"])


# ---------------------------------------------------------------------------------------------------------------------
# What a container has


@pytest.fixture
def container(app):
    """C(container(nested)): the PID of a process that has the two folders mounted, perhaps the one below the other."""
    (app.parent / "view" / "a").mkdir(parents=True)
    (app.parent / "view" / "d").mkdir()
    started = []

    def start(nested=True):
        place = app.parent / "view" / ("a/data" if nested else "d")
        (app / "data").mkdir(exist_ok=True)
        script = f"mount --bind {app} {app.parent}/view/a && mount --bind {app}/data {place} && echo there && exec cat"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        if process.stdout.readline() != b"there\n":
            pytest.skip("nothing can be mounted here")
        return process.pid, str(place)

    yield start
    for process in started:
        process.communicate()


@pytest.mark.parametrize("nested", [True, False])
def test_what_a_container_has(app, container, nested):
    process, place = container(nested)
    with roots.hold(str(app / "data")) as root:
        assert roots.mounted(process, place) == root.identity()
        roots.require_mounted(root, process, place)
        with pytest.raises(Refused, match="has nothing at /none by now"):
            roots.require_mounted(root, process, "/none")


def test_links_in_a_container_lead_to_its_own_files(app, container):
    process, place = container()
    view = app.parent / "view"
    (view / "absolute").symlink_to(place)
    (view / "above").symlink_to("../../../../../../../../../.." + place)
    with roots.hold(str(app / "data")) as root:
        for name in ("absolute", "above"):
            assert roots.mounted(process, str(view / name)) == root.identity()


def test_one_that_has_ended(app):
    process = subprocess.Popen(["true"])
    with roots.hold(str(app)) as root:
        process.wait()
        assert roots.mounted(process.pid, "/") is None
        roots.require_mounted(root, process.pid, "/nowhere")


def exchange(app, secret):
    """What a container does to which the upper folder is mounted as well: there, the lower one is no mount."""
    (app / "data").rename(app / "moved")
    (app / "data").symlink_to(secret)


def inspect_of(app, process, place):
    bind = {"Type": "bind", "Source": str(app / "data"), "Destination": place}
    return {"Id": "c1", "Name": "/c1", "State": {"Pid": process}, "Mounts": [bind], "HostConfig": {}, "Config": {}}


def test_a_container_that_has_exchanged_it_is_seen_beforehand(app, container, secret):
    process, place = container(nested=False)
    inspect = inspect_of(app, process, place)
    (mount,) = mounts.of_container(inspect)
    assert container_description.standing(inspect, mount) == {"replaced": False, "refused": ""}
    exchange(app, secret)
    assert container_description.standing(inspect, mount) == {"replaced": True, "refused": ""}
    os.chown(app / "data", ALICE, ALICE, follow_symlinks=False)
    told = container_description.standing(inspect, mount)
    assert not told["replaced"] and "leads through the symbolic link" in told["refused"]
    assert container_description.standing(inspect, {**mount, "type": "volume"}) == {"replaced": False, "refused": ""}


def test_nothing_of_the_server_is_sent_in_its_place(app, container, secret):
    """Live, and in cold mode."""
    process, place = container(nested=False)
    exchange(app, secret)
    sync = file_sync.FileSync(None, "c1", 0, lambda _answer: None)
    with pytest.raises(Refused, match=f"has something else at {place} than what is"):
        sync.add_tree(place, str(app / "data"), process=process)
    target = Target("c1", inspect_of(app, process, place), {}, None)
    with pytest.raises(MigrationError, match=f"has something else at {place} than what is"):
        FileSaver(None, target, str(app.parent), [place])


def test_what_it_exchanges_later_makes_no_difference(app, container, secret):
    process, place = container(nested=False)
    (app / "data" / "ours").write_text("x")
    sync = file_sync.FileSync(None, "c1", 0, lambda _answer: None)
    sync.add_tree(place, str(app / "data"), process=process)
    (app.parent / "cold").mkdir()
    saver = FileSaver(None, Target("c1", inspect_of(app, process, place), {}, None), str(app.parent / "cold"), [place])
    exchange(app, secret)
    (tree,) = sync._trees
    tree.look([])
    assert tree._difference.made == [b".", b"ours"]
    assert saver.save_frozen() == {place: "mount-0.diff"}
    saved = (app.parent / "cold" / "mount-0.diff").read_bytes()
    assert b"ours" in saved and b"shadow" not in saved
    sync.close()
    saver.close()


def test_what_was_restored_has_what_was_filled(app, container, monkeypatch):
    process, place = container(nested=False)
    monkeypatch.setattr(runc, "first_process", lambda _container: (process, 0))
    start = ArmedStart("/none.sock", "c1", lambda: None)
    start._require_filled()
    with roots.hold(str(app / "data")) as right, roots.hold(str(app)) as wrong:
        start.binds = {place: right}
        start._require_filled()
        start.binds = {place: wrong}
        with pytest.raises(Refused, match="has something else at"):
            start._require_filled()


# ---------------------------------------------------------------------------------------------------------------------
# The destination of a live migration


def record(**head):
    text = json.dumps(head).encode()
    return len(text).to_bytes(4, "big") + text


def described(name, mode, **more):
    return record(name=name, mode=mode, owner=[0, 0], times=[0, 0], attributes={}, **more)


FOLDER, LINK, FILE = 0o40755, 0o120777, 0o100644


class Frames:
    """What the source sends, as one stream."""

    def __init__(self, *records):
        self._stream = io.BytesIO(b"".join(records) + bytes(4))

    def read(self, count):
        return self._stream.read(count)

    def end(self):
        assert self._stream.read() == b""


@pytest.fixture
def arriving(app, monkeypatch):
    """C(arriving(*mounts)): the mounts of a container that Docker has made here."""
    monkeypatch.setattr(file_sync, "Incoming", lambda frames: frames)
    held = []

    def arrive(*found, made=()):
        answers = {"/containers/c2/json": {"Mounts": list(found)}, "/containers/json?all=1": []}
        monkeypatch.setattr(file_sync.engine, "get", lambda _socket, path: (answers[path], None))
        ordered = [mounts.Ordered(one["Destination"]) for one in found]
        held.append(file_sync.Mounts("/none.sock", "c2", ordered, made, rules.Policy, "fog2"))
        return held[-1]

    yield arrive
    for one in held:
        one.close()


def bind(source, destination):
    return {"Type": "bind", "Source": str(source), "Destination": destination}


def volume(source, destination):
    return {"Type": "volume", "Name": source.name, "Driver": "local", "Source": str(source), "Destination": destination}


def test_nested_mounts_arrive(app, arriving):
    its = arriving(bind(app, "/app"), bind(app / "data", "/data"))
    file = described("data/file", FILE, size=1, extents=[[0, 1]]) + b"x"
    its.receive(Frames(described(".", FOLDER), described("data", FOLDER), file), "/app", True)
    file = described("file", FILE, size=1, extents=[[0, 1]]) + b"y"
    its.receive(Frames(described(".", FOLDER), file), "/data", True)
    its.require_in_place()
    assert (app / "data" / "file").read_text() == "y"


@pytest.mark.parametrize("link_first", [True, False])
def test_a_link_that_arrives_where_another_mount_is(app, arriving, secret, link_first):
    """The content of the upper one has a link where the lower one is; Docker would mount what that leads to."""
    its = arriving(bind(app, "/app"), bind(app / "data", "/data"))
    link = described("data", LINK, target=str(secret))
    file = described("shadow", FILE, size=4, extents=[[0, 4]]) + b"evil"
    if not link_first:
        its.receive(Frames(described(".", FOLDER), file), "/data", True)
    its.receive(Frames(described(".", FOLDER), link), "/app", True)
    assert (app / "data").is_symlink()
    if link_first:
        with pytest.raises(Refused, match="could not be written at the destination"):
            its.receive(Frames(described(".", FOLDER), file), "/data", True)
    assert (secret / "shadow").read_text() == "secret" and names(secret) == ["shadow"]
    with pytest.raises(Refused, match="something else has its place"):
        its.require_in_place()


def test_what_is_there_already_is_neither_emptied_nor_filled(app, arriving):
    (app / "data" / "kept").write_text("x")
    with pytest.raises(Refused, match=f"there is something in {app}/data already"):
        arriving(bind(app / "data", "/data"))
    with pytest.raises(Refused, match=f"there is something in {app}/data already"):
        arriving(volume(app / "data", "/data"))
    assert names(app / "data") == ["kept"]


def test_a_volume_that_was_made_for_it_is_emptied_once(app, arriving):
    (app / "data" / "of_image").write_text("x")
    its = arriving(volume(app / "data", "/data"), made=["data"])
    file = described("file", FILE, size=0, extents=[])
    its.receive(Frames(file), "/data", True)
    assert names(app / "data") == ["file"]
    its.receive(Frames(described("more", FILE, size=0, extents=[])), "/data", False)
    assert names(app / "data") == ["file", "more"]


def test_which_volumes_were_made(tmp_path):
    def entry(identity, *volumes, together=()):
        facts = ("destination", "c1", "c1", "fog1", "fog2", "cold", "/x")
        return Entry(identity, *facts, made={"volumes": list(volumes)}, together=list(together))

    os.mkdir(journal.FOLDER)
    for one in (entry("m1", "a", together=["m1", "m2", "m3"]), entry("m2", "b"), entry("m4", "c")):
        with open(journal.path_of(one.id), "w", encoding="utf-8") as stream:
            json.dump(one.to_json(), stream)
    assert journal.made_volumes("m1") == {"a", "b"}
    assert journal.made_volumes(None) == journal.made_volumes("m9") == set()


# ---------------------------------------------------------------------------------------------------------------------
# The destination in cold mode


class Docker:
    """One that knows of no container."""

    def containers(self, all):
        assert all
        return []


@pytest.fixture
def loader(app, tmp_path):
    """C(loader(**manifest)): of a checkpoint with one file in the lower folder, and a link in the upper one."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "file").write_text("x")
    for number, wanted in enumerate(([], [b"file"])):
        archive.save(str(tmp_path / "content"), str(folder / f"mount-{number}.diff"), wanted)
    files = {name: {"size": 1, "sha256": "", "mode": 0} for name in ("mount-0.diff", "mount-1.diff")}
    loaders = []

    def make(places=("/data",), **more):
        found = {place: {"/app": "mount-0.diff", "/data": "mount-1.diff"}[place] for place in places}
        facts = {"id": "k1", "name": "k1", "container": Container("c1", "c1", "i"), "files": files, "mounts": found}
        facts.update(created="2026-11-21T04:15:00Z", exit=True, architecture="x86_64")
        loaders.append(file_loader.FileLoader(Docker(), str(folder), Manifest(**{**facts, **more}), {}))
        return loaders[-1]

    yield make
    for one in loaders:
        one.close()


@pytest.fixture
def there(app):
    found = [bind(app, "/app"), bind(app / "data", "/data")]
    return {one["destination"]: one for one in mounts.of_container({"Mounts": found})}


def test_cold_what_is_there_already_is_neither_emptied_nor_filled(app, loader, there):
    (app / "data" / "kept").write_text("x")
    with pytest.raises(MigrationError, match=f"there is something in {app}/data already"):
        loader().fill_mounts(there)
    assert names(app / "data") == ["kept"]
    (app / "data" / "kept").unlink()
    loader().fill_mounts(there)
    assert names(app / "data") == ["file"]


def test_cold_nested_mounts(app, loader, there, secret, monkeypatch):
    """The upper one is filled first, and has a link where the lower one is."""
    apply = archive.apply

    def with_link(path, root, *args, **more):
        if path.endswith("mount-0.diff"):
            (app / "data").rename(app / "aside")
            (app / "data").symlink_to(secret)
        apply(path, root, *args, **more)

    monkeypatch.setattr(file_loader._archive, "apply", with_link)
    its = loader(("/app", "/data"))
    its.fill_mounts(there)
    assert names(secret) == ["shadow"] and names(app / "aside") == ["file"]
    with pytest.raises(MigrationError, match="something else has its place"):
        its.require_in_place()


def test_cold_changes_go_to_what_was_filled_before_alone(app, loader, there, tmp_path):
    what = {"since": "k0", "differences": ["/data"]}
    found = app.stat().st_dev, (app / "data").stat().st_ino
    for migration, noted in ((None, None), (None, {}), ("m1", {"/data": list(found)})):
        if noted is not None:
            restore_notes.mark_filled("k0", migration, noted)
        with pytest.raises(MigrationError, match="that were not filled here before"):
            loader(**what).fill_mounts(there)
    restore_notes.mark_filled("k0", None, {"/data": list(found)})
    (app / "data" / "of_before").write_text("x")
    assert loader(**what).fill_mounts(there) == {"/data": found}
    assert names(app / "data") == ["file", "of_before"]
    (app / "data").rename(app / "aside")
    (app / "data").mkdir()
    with pytest.raises(MigrationError, match="something else has its place"):
        loader(**what).fill_mounts(there)


# ---------------------------------------------------------------------------------------------------------------------
# Making and removing


def test_what_is_made_is_for_root(tmp_path):
    roots.make(str(tmp_path / "new" / "folder"), single_file=False)
    roots.make(str(tmp_path / "new" / "other" / "file"), single_file=True)
    assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "other" / "file").stat().st_mode & 0o177777 == 0o100600
    with pytest.raises(FileExistsError):
        roots.make(str(tmp_path / "new"), single_file=False)


def test_nothing_is_made_through_a_link(app, secret):
    (app / "link").symlink_to(secret)
    assert roots.real_path(str(app / "link" / "new" / "one")) == str(secret / "new" / "one")
    with pytest.raises(Refused, match="leads through the symbolic link"):
        roots.make(str(app / "link" / "new"), single_file=False)
    os.chown(app / "link", ALICE, ALICE, follow_symlinks=False)
    with pytest.raises(Refused, match="leads through the symbolic link"):
        roots.real_path(str(app / "link" / "new"))
    assert names(secret) == ["shadow"]


def test_nothing_is_removed_through_a_link(app, secret):
    """What was made for a migration that is taken back, in the midst of which a link has come."""
    (app / "data" / "deep").mkdir()
    (app / "data" / "file").write_text("x")
    assert roots.remove(str(app / "data" / "file")) and roots.remove(str(app / "data" / "deep"))
    assert names(app / "data") == [] and roots.remove(str(app / "data" / "deep" / "none"))
    exchange(app, secret)
    assert not roots.remove(str(app / "data" / "shadow"))
    assert names(secret) == ["shadow"]
    assert roots.remove(str(app / "data"))
    assert names(secret) == ["shadow"] and names(app) == ["moved"]
    assert roots.remove(str(app)) and not app.exists()


def test_recovery_removes_nothing_through_a_link(app, secret, monkeypatch):
    exchange(app, secret)
    facts = ("destination", "c1", "c1", "fog1", "fog2", "cold", "/x")
    entry = Entry("m1", *facts, made={"folders": [str(app / "moved"), str(app / "data" / "shadow")]})
    monkeypatch.setattr(recovery, "container_of", lambda *_arguments: None)
    undone = recovery._remove_at_destination(entry, None)
    assert undone.note == f"what was made in {app}/data/shadow could not be removed"
    assert names(secret) == ["shadow"] and names(app) == ["data"]


def test_only_new_volumes_are_emptied_of_what_an_image_has(app, tmp_path):
    class Made(Docker):
        def inspect_container(self, _container):
            return {"Mounts": [volume(app / name, f"/{name}") for name in ("new", "old", "stays")]}

    for name in ("new", "old", "stays"):
        (app / name).mkdir()
        (app / name / "of_image").write_text("x")
    inspect = {"Mounts": [volume(app / "new", "/new"), volume(app / "old", "/old")]}
    recreation = Recreation(Made(), "c2", inspect, [], ["/new", "/old"])
    recreation._empty_new_volumes({"old"})
    assert [names(app / name) for name in ("new", "old", "stays")] == [[], ["of_image"], ["of_image"]]
