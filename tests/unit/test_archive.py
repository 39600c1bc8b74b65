# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has changed in a root file system, and how it becomes another tree of files."""

from __future__ import annotations

import io
import json
import mmap
import os
import signal
import stat
import struct
import subprocess
import sys
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive as _archive
from ansible_collections.fog.migration.plugins.module_utils.filesystem import roots, snapshot
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import file_sync
from ansible_collections.fog.migration.plugins.module_utils.transport import framing

FILE, FOLDER, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
NOBODY = 2**32 - 1
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def known(mode=FILE, inode=1, changed=1, **more):
    facts = {"uid": 0, "gid": 0, "size": 0, "device": 0, "links": 1, **more}
    return snapshot.Entry(mode=mode, inode=inode, changed=changed, **facts)


WHITEOUT = known(stat.S_IFCHR, inode=9)
SOCKET = known(stat.S_IFSOCK | 0o755, inode=8)
TOP = {b".": known(FOLDER, inode=2)}


@pytest.mark.parametrize(
    ("old", "new", "removed", "made"),
    [
        ({}, {}, [], []),
        ({b"a": known()}, {b"a": known()}, [], []),
        # In place, larger, another one of the same name, another mode; and what may have changed unseen.
        ({b"a": known()}, {b"a": known(changed=2)}, [], [b".", b"a"]),
        ({b"a": known()}, {b"a": known(size=5)}, [], [b".", b"a"]),
        ({b"a": known()}, {b"a": known(inode=5)}, [], [b".", b"a"]),
        ({b"a": known()}, {b"a": known(FILE | 0o4000)}, [], [b".", b"a"]),
        ({b"a": known(settled=False)}, {b"a": known()}, [], [b".", b"a"]),
        ({b"a": known()}, {b"a": known(settled=False)}, [], []),
        # New, gone, gone where the image has it.
        ({}, {b"a": known()}, [], [b".", b"a"]),
        ({b"a": known()}, {}, [b"a"], [b"."]),
        ({b"a": known()}, {b"a": WHITEOUT}, [b"a"], [b"."]),
        ({}, {b"a": WHITEOUT}, [b"a"], [b"."]),
        ({b"a": WHITEOUT}, {b"a": WHITEOUT}, [], []),
        ({b"a": WHITEOUT}, {b"a": known()}, [], [b".", b"a"]),
        # All whiteouts are one file with many names.
        ({b"a": WHITEOUT}, {b"a": WHITEOUT._replace(changed=2, links=2)}, [], []),
        ({b"a": WHITEOUT}, {}, [], []),
        # Sockets are made by who listens.
        ({}, {b"a": SOCKET}, [b"a"], [b"."]),
        # The folder is looked at, but not what is beside.
        (
            {b"d": known(FOLDER), b"d/a": known(), b"d/b": known(inode=3)},
            {b"d": known(FOLDER), b"d/a": known(changed=2), b"d/b": known(inode=3)},
            [],
            [b"d", b"d/a"],
        ),
        # A folder becomes a file.
        (
            {b"d": known(FOLDER), b"d/a": known()},
            {b"d": known(inode=7)},
            [b"d/a"],
            [b".", b"d"],
        ),
        # A folder of the image is deleted and made anew: all that is in it travels, and nothing of the old one stays.
        (
            {b"d": known(FOLDER), b"d/a": known(), b"d/old": known(inode=4)},
            {b"d": known(FOLDER, inode=5, overlay="opaque"), b"d/a": known()},
            [b"d", b"d/old"],
            [b".", b"d", b"d/a"],
        ),
        (
            {b"d": known(FOLDER, overlay="opaque"), b"d/a": known()},
            {b"d": known(FOLDER, overlay="opaque", changed=2), b"d/a": known()},
            [],
            [b".", b"d"],
        ),
        # Hard links travel together, wherever they are.
        (
            {b"d": known(FOLDER), b"d/a": known(links=2), b"e": known(FOLDER, inode=6), b"e/b": known(links=2)},
            {b"c": known(FOLDER), b"c/a": known(links=2), b"e": known(FOLDER, inode=6), b"e/b": known(links=2)},
            [b"d", b"d/a"],
            [b".", b"c", b"c/a", b"e", b"e/b"],
        ),
    ],
)
def test_differences(old, new, removed, made):
    assert snapshot.difference({**TOP, **old}, {**TOP, **new}) == (removed, made)
    assert bool(snapshot.difference({**TOP, **old}, {**TOP, **new})) == bool(removed or made)


def test_a_renamed_folder_of_the_image_is_refused():
    new = {**TOP, b"d": known(FOLDER, overlay="redirect /e")}
    with pytest.raises(MigrationError, match="renamed a folder of its image to /d"):
        snapshot.difference(TOP, new)
    assert not snapshot.difference(new, new)


def test_a_snapshot(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    os.symlink("f", tmp_path / "d" / "l")
    odd = os.fsencode(tmp_path) + b"/d/\xff\n\\"
    os.close(os.open(odd, os.O_CREAT | os.O_WRONLY))
    entries = snapshot.snapshot(str(tmp_path))
    assert set(entries) == {b".", b"d", b"d/f", b"d/l", b"d/\xff\n\\"}
    assert entries[b"d/f"].size == 1 and stat.S_ISLNK(entries[b"d/l"].mode)
    # All of it is too fresh to be sure.
    assert not any(entry.settled for entry in entries.values())
    time.sleep(snapshot.FRESH / 1e9)
    later = snapshot.snapshot(str(tmp_path))
    assert all(entry.settled for entry in later.values())
    assert not snapshot.difference(later, snapshot.snapshot(str(tmp_path)))
    snapshot.store("/there", later, str(tmp_path / "kept"))
    assert snapshot.load(str(tmp_path / "kept")) == ("/there", later)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("changed", "settled"),
    [
        (9_500_000_001, True),
        (9_800_000_001, False),
        (10_000_000_001, False),
        (7_000_000_000, True),
        (9_000_000_000, False),
    ],
)
def test_what_was_changed_just_now_may_change_again(changed, settled):
    """Whole seconds may be all that the file system knows."""
    assert snapshot._is_old(changed, 10_000_000_000) == settled


def test_a_file_that_is_mapped_is_never_settled(tmp_path):
    path = tmp_path / "a b"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 4096):
        assert os.fsencode(path).lstrip(b"/") in snapshot.shared_mappings([os.getpid()])
        with mmap.mmap(stream.fileno(), 4096, prot=mmap.PROT_READ), mmap.mmap(-1, 4096):
            pass
    assert os.fsencode(path).lstrip(b"/") not in snapshot.shared_mappings([os.getpid(), 2**22 + 1])


# ---------------------------------------------------------------------------------------------------------------------
# What gives rights


def fill_with_rights(folder):
    """Whoever can reach this can become somebody else, or open a disk."""
    folder.joinpath("d").mkdir()
    folder.joinpath("d").chmod(0o2775)
    for name, mode in (
        ("d/setuid", 0o4755),
        ("setgid", 0o2755),
        ("both", 0o6711),
        ("capable", 0o755),
        ("plain", 0o644),
    ):
        folder.joinpath(name).write_text(name)
        os.chown(folder / name, 7, 8)
        folder.joinpath(name).chmod(mode)
    # The right to open raw sockets.
    os.setxattr(folder / "capable", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
    os.setxattr(folder / "capable", "user.note", b"kept")
    os.link(folder / "both", folder / "same")
    os.mkfifo(folder / "fifo")
    for name, kind in (("disk", stat.S_IFBLK), ("null", stat.S_IFCHR)):
        os.mknod(folder / name, kind | 0o666, os.makedev(1, 3))
    os.link(folder / "disk", folder / "d" / "disk too")


def require_harmless(there):
    """Everything has come, but nothing that gives rights."""
    modes = {str(path.relative_to(there)): stat.S_IMODE(path.lstat().st_mode) for path in there.rglob("*")}
    told = {"d": 0o2775, "d/setuid": 0o755, "setgid": 0o755, "both": 0o711, "same": 0o711, "capable": 0o755}
    assert modes == {**told, "plain": 0o644, "fifo": stat.S_IMODE((there / "fifo").stat().st_mode)}
    assert os.listxattr(there / "capable") == ["user.note"]
    assert (there / "same").samefile(there / "both") and (there / "d" / "setuid").read_text() == "d/setuid"
    assert ((there / "plain").stat().st_uid, (there / "plain").stat().st_gid) == (7, 8)


@root_only
def test_what_gives_rights_is_left_out(trees, tmp_path):
    here, there = trees
    fill_with_rights(here)
    # As it was, for comparison; and then over that.
    saved(here, there, tmp_path / "archive")
    assert tree_of(there) == tree_of(here)
    _archive.apply(str(tmp_path / "archive"), str(there), make=_archive.Harmless)
    require_harmless(there)


@root_only
@pytest.mark.parametrize(
    "head",
    [
        # What names no kind of file, becomes one.
        {"name": "x", "mode": 0o4755, "device": [0, 0]},
        {"name": "there", "mode": 0o4755, "patch": True, "size": 0},
        {"name": "there", "mode": FILE | 0o6000, "patch": True, "size": 0},
    ],
)
def test_what_a_source_makes_up_gives_no_rights(tmp_path, head):
    (tmp_path / "there").touch()
    text = json.dumps({"owner": [0, 0], "times": [1, 1], "attributes": {}, **head}).encode()
    end = bytes(12) if "patch" in head else b""
    stream = io.BytesIO(struct.pack(">I", len(text)) + text + end + bytes(4))
    _archive.Harmless(str(tmp_path), stream.read).unpack()
    assert not (tmp_path / head["name"]).stat().st_mode & 0o6000


# ---------------------------------------------------------------------------------------------------------------------
# Streams


def carry(source, there, removed=(), made=()):
    """Sends this from the one tree to the other."""
    stream = io.BytesIO()
    seen = _archive.Packer(str(source), stream.write).pack(removed, made)
    stream.seek(0)
    count = _archive.Unpacker(str(there), stream.read).unpack()
    assert stream.read() == b""
    return seen, count


def equalize(source, there, before):
    """Makes the one tree the other by their difference, as a migration does."""
    now = snapshot.snapshot(str(source))
    carry(source, there, *snapshot.difference(before, now))
    return now


def tree_of(top):
    """All that one can see of a tree."""
    found: list[bytes] = [b"."]
    for base, folders, files in os.walk(os.fsencode(top)):
        found += [os.path.relpath(os.path.join(base, name), os.fsencode(top)) for name in [*folders, *files]]
    first: dict[int, bytes] = {}
    return {name: all_of(os.path.join(os.fsencode(top), name), name, first) for name in sorted(found)}


def all_of(path, name, first):
    """All that one can see of a file; instead of its inode, the first name that it has."""
    facts = os.lstat(path)
    content = None
    if stat.S_ISREG(facts.st_mode):
        with open(path, "rb") as stream:
            content = stream.read()
    elif stat.S_ISLNK(facts.st_mode):
        content = os.readlink(path)
    names = os.listxattr(path, follow_symlinks=False)
    attributes = {one: os.getxattr(path, one, follow_symlinks=False) for one in names}
    who = (facts.st_mode, facts.st_uid, facts.st_gid, facts.st_rdev, facts.st_mtime_ns)
    return who, content, attributes, first.setdefault(facts.st_ino, name)


@pytest.fixture
def trees(tmp_path):
    """Two empty folders, at whose parent nothing else is."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    return tmp_path / "here", tmp_path / "there"


def fill(top):
    """Files of all kinds and with all that they can have."""
    (top / "d" / "e").mkdir(parents=True)
    (top / "d" / "f").write_text("content")
    (top / "d" / "f").chmod(0o4751)
    os.setxattr(top / "d" / "f", "user.origin", b"\0binary\xff")
    os.link(top / "d" / "f", top / "z")
    (top / "empty").touch()
    os.symlink("../somewhere/else", top / "d" / "link")
    os.utime(top / "d" / "link", ns=(1, -1_500_000_000), follow_symlinks=False)
    os.mkfifo(top / "fifo", 0o620)
    with (top / "sparse").open("wb") as stream:
        stream.truncate(64 << 20)
        os.pwrite(stream.fileno(), b"x" * 5000, 32 << 20)
    odd = os.fsencode(top) + b"/d/-o \xff\n\\n'\""
    os.close(os.open(odd, os.O_CREAT | os.O_WRONLY))
    (top / "large").write_bytes(os.urandom(3 * 256 * 1024 + 17))
    os.utime(top / "d", ns=(5, 123456789))
    (top / "d").chmod(0o1770)


def test_all_kinds_of_files(trees):
    here, there = trees
    fill(here)
    before = equalize(here, there, {})
    assert tree_of(there) == tree_of(here)
    assert (there / "d" / "f").stat().st_ino == (there / "z").stat().st_ino
    assert (there / "sparse").stat().st_blocks * 512 < 1 << 20

    # Each becomes another kind; a folder is exchanged for another one; links part.
    (here / "empty").unlink()
    (here / "empty").mkdir()
    (here / "empty" / "new").touch()
    os.rename(here / "d", here / "moved")
    (here / "d").write_text("no folder any more")
    (here / "fifo").unlink()
    os.symlink("/etc", here / "fifo")
    (here / "z").unlink()
    (here / "z").write_text("alone")
    os.removexattr(here / "moved" / "f", "user.origin")
    (here / "sparse").write_text("short")
    before = equalize(here, there, before)
    assert tree_of(there) == tree_of(here)

    os.unlink(here / "fifo")
    os.rename(here / "moved", here / "fifo")
    before = equalize(here, there, before)
    assert tree_of(there) == tree_of(here)
    time.sleep(snapshot.FRESH / 1e9)
    before = equalize(here, there, before)
    assert not snapshot.difference(before, snapshot.snapshot(str(here)))


@root_only
def test_what_only_root_can_make(trees):
    here, there = trees
    (here / "d").mkdir()
    os.mknod(here / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (here / "given").touch()
    os.chown(here / "given", 12345, 3_000_000_000)
    os.setxattr(here / "d", "trusted.mine", b"1")
    # Rights of a folder that files in it inherit: user 7 may read, and by default nobody of the group.
    rights = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", kind, may, user)
        for kind, may, user in [(1, 7, NOBODY), (2, 4, 7), (4, 5, NOBODY), (16, 5, NOBODY), (32, 0, NOBODY)]
    )
    os.setxattr(here / "d", "system.posix_acl_default", rights)
    (here / "d" / "heir").touch()
    (here / "d" / "plain").touch()
    os.removexattr(here / "d" / "plain", "system.posix_acl_access")
    before = equalize(here, there, {})
    assert tree_of(there) == tree_of(here)
    (here / "d" / "plain").write_text("changed")
    equalize(here, there, before)
    assert tree_of(there) == tree_of(here)


def saved(layer, there, archive):
    """Has the one empty folder become the other layer, as in a checkpoint; what the other holds by then."""
    before = snapshot.snapshot(str(layer))
    held = snapshot.held(before, _archive.save(str(layer), str(archive), before))
    _archive.apply(str(archive), str(there))
    return held


def test_a_layer_of_all_kinds_of_files(trees, tmp_path):
    here, there = trees
    fill(here)
    assert saved(here, there, tmp_path / "archive") == snapshot.snapshot(str(here))
    assert tree_of(there) == tree_of(here)
    assert (there / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (tmp_path / "archive").stat().st_mode & 0o777 == 0o600


@root_only
def test_a_layer_with_what_overlay_notes_in_it(trees, tmp_path):
    here, there = trees
    (here / "d").mkdir()
    (here / "other").mkdir()
    os.mknod(here / "deleted", stat.S_IFCHR, os.makedev(0, 0))
    os.link(here / "deleted", here / "d" / "too")
    os.setxattr(here / "d", "trusted.overlay.opaque", b"y")
    os.setxattr(here / "d", "trusted.overlay.origin", b"a handle")
    os.setxattr(here / "other", "trusted.overlay.redirect", b"/e")
    saved(here, there, tmp_path / "archive")
    assert stat.S_ISCHR((there / "d" / "too").stat().st_mode) and (there / "deleted").stat().st_rdev == 0
    assert os.listxattr(there / "d") == ["trusted.overlay.opaque"]
    assert os.getxattr(there / "other", "trusted.overlay.redirect") == b"/e"
    with pytest.raises(Refused, match="other is a renamed part of its image"):
        _archive.apply(str(tmp_path / "archive"), str(there), layer=False)


@root_only
def test_a_layer_on_top_of_all_files(trees, tmp_path):
    here, there = trees
    for name in ("d", "e"):
        (here / name).mkdir()
        (there / name).mkdir()
        (there / name / "old").touch()
    os.mknod(here / "deleted", stat.S_IFCHR, os.makedev(0, 0))
    os.link(here / "deleted", here / "e" / "old")
    (there / "deleted").mkdir()
    (there / "deleted" / "f").touch()
    os.setxattr(here / "d", "trusted.overlay.opaque", b"y")
    os.setxattr(here / "d", "user.mine", b"x")
    (here / "d" / "new").touch()
    (there / "kept").touch()
    _archive.save(str(here), str(tmp_path / "archive"), snapshot.snapshot(str(here)))
    _archive.apply(str(tmp_path / "archive"), str(there), layer=False)
    assert sorted(os.listdir(there)) == ["d", "e", "kept"]
    assert (os.listdir(there / "d"), os.listdir(there / "e")) == (["new"], [])
    assert os.listxattr(there / "d") == ["user.mine"]


def test_a_file_alone(trees, tmp_path):
    here, there = trees
    (here / "one").write_text("first")
    (here / "other").write_text("another's")
    (there / "kept").write_text("kept")
    assert snapshot.snapshot_of_file(os.fsencode(here / "none")) == {}
    with roots.hold(str(here / "one")) as root:
        assert set(root.snapshot()) == {b"one"} == {root.only}
        _archive.save(root.folder, str(tmp_path / "archive"), root.snapshot())
    _archive.apply(str(tmp_path / "archive"), str(there), only=b"one")
    assert {name.name: name.read_text() for name in there.iterdir()} == {"one": "first", "kept": "kept"}


@pytest.mark.parametrize("names", [["other"], ["one", "other"], ["link"], ["folder"], [".", "one"]])
def test_nothing_but_the_file(trees, tmp_path, names):
    here, there = trees
    (here / "one").touch()
    (here / "other").touch()
    (here / "link").symlink_to("/etc/shadow")
    (here / "folder").mkdir()
    _archive.save(str(here), str(tmp_path / "archive"), {os.fsencode(name) for name in names})
    for only in {b"one", os.fsencode(names[0])} - {b"other"}:
        with pytest.raises(Refused, match="something other than the file"):
            _archive.apply(str(tmp_path / "archive"), str(there), only=only)
    assert set(os.listdir(there)) <= {"one"}


def test_a_layer_without_an_end_is_refused(trees, tmp_path):
    here, there = trees
    (here / "f").write_text("content")
    saved(here, there, tmp_path / "archive")
    whole = (tmp_path / "archive").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "archive").write_bytes(whole[:size])
        with pytest.raises(Refused, match="is cut off"):
            _archive.apply(str(tmp_path / "archive"), str(there))


GROWING = """
import os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
while True:
    for number in range(3000):
        os.pwrite(handle, b"x" * 7, number * 9999)
    os.ftruncate(handle, 0)
"""


def test_a_layer_is_whole_whatever_a_file_in_it_becomes(trees, tmp_path):
    """A sparse file that grows or shrinks while it is read is no reason for a damaged archive; it is not settled."""
    here, there = trees
    (here / "z").write_text("behind it")
    with subprocess.Popen([sys.executable, "-c", GROWING, here / "sparse"]) as growing:
        try:
            for _number in range(40):
                held = saved(here, there, tmp_path / "archive")
                assert (there / "z").read_text() == "behind it"
                sparse = held.get(b"sparse", known(settled=False))
                # On a busy machine, the other process may not have written anything for some time.
                assert not sparse.settled or time.time_ns() - sparse.changed > snapshot.FRESH
        finally:
            growing.kill()
    equalize(here, there, held)
    assert tree_of(there) == tree_of(here)


@pytest.mark.parametrize(
    "sent", [known(changed=2), known(size=3), known(FILE | 0o1), known(links=2), known(FOLDER), WHITEOUT]
)
def test_what_is_held_is_what_was_sent(sent):
    facts = os.stat_result(
        (sent.mode, sent.inode, 0, sent.links, sent.uid, sent.gid, sent.size, 0, 0, 0),
        {"st_ctime_ns": sent.changed, "st_rdev": sent.device, "st_ctime": 0.0},
    )
    before = {**TOP, b"a": known(), b"gone": known()}
    assert snapshot.held(before, {b"a": facts}) == {b"a": sent.unsettled()}


def test_what_is_in_a_folder_that_was_a_file_just_now_does_not_go_along(trees):
    here, there = trees
    (here / "d").touch()
    stream = io.BytesIO()

    def write(part):
        stream.write(part)
        if b'"name":"d"' in part:
            (here / "d").unlink()
            (here / "d").mkdir()
            (here / "d" / "f").touch()

    seen = _archive.Packer(str(here), write).pack([], [b".", b"d", b"d/f"])
    assert sorted(seen) == [b".", b"d"]
    stream.seek(0)
    _archive.Unpacker(str(there), stream.read).unpack()
    assert (there / "d").is_file()


def test_what_is_gone_meanwhile_is_not_seen(trees):
    here, there = trees
    (here / "d").mkdir()
    (here / "file").touch()
    os.symlink("file", here / "link")
    made = [b"d", b"d/gone", b"file", b"gone", b"gone/a", b"link/b"]
    seen, count = carry(here, there, [b"a", b"b/c", b"link/x"], made)
    assert set(seen) == {b"d", b"file"} and count == 5
    assert sorted(os.listdir(there)) == ["d", "file"]


def test_a_file_that_becomes_shorter(trees):
    here, there = trees
    (here / "f").write_bytes(b"x" * 600_000)
    stream = io.BytesIO()

    def write(part):
        if stream.tell() > 100_000:
            os.truncate(here / "f", 5)
        stream.write(part)

    _archive.Packer(str(here), write).pack([], [b"f"])
    stream.seek(0)
    _archive.Unpacker(str(there), stream.read).unpack()
    assert (there / "f").stat().st_size == 600_000


class Channel:
    """Frames and the destination's word; C(meanwhile) happens when something was found and is not read yet."""

    def __init__(self, there, meanwhile):
        self._there, self._meanwhile = there, meanwhile
        self._stream = io.BytesIO()

    def write_json(self, kind, _value):
        if kind == framing.DO:
            self._stream = io.BytesIO()
            self._meanwhile()

    def write(self, _kind, data):
        self._stream.write(data)

    def done(self, _what):
        self._stream.seek(0)
        _archive.Unpacker(str(self._there), self._stream.read).unpack()


def following(here, there, kept, meanwhile=lambda: None):
    """The source's end, that has sent nothing yet."""
    snapshot.store(str(here), {}, str(kept))
    channel = Channel(there, meanwhile)
    sync = file_sync.FileSync(channel, "c", 0, channel.done)
    sync.add_tree("", snapshot=str(kept))
    return sync


def test_what_changes_while_it_is_sent_is_sent_again(trees, tmp_path, monkeypatch):
    here, there = trees
    monkeypatch.setattr(runc, "processes", lambda _container: [])
    for name in ("deleted", "exchanged", "rewritten", "folder/moved", "image/deleted"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text("first")
    carry(here, there, *snapshot.difference({}, snapshot.snapshot(str(here))))

    def meanwhile():
        if (here / "deleted").exists():
            (here / "deleted").unlink()
            (here / "exchanged").unlink()
            (here / "exchanged").mkdir()
            (here / "rewritten").write_text("other")
            os.rename(here / "folder", here / "elsewhere")

    follower = following(here, there, tmp_path / "kept", meanwhile)
    follower.catch_up()
    follower.look()
    follower.send()
    assert tree_of(there) == tree_of(here)
    assert [figures["names"] > 0 for figures in follower.figures] == [True, True]


def test_a_folder_that_goes_and_comes_back_while_it_is_sent(trees, tmp_path, monkeypatch):
    """What is in it has not changed, but at the destination it went with the folder."""
    here, there = trees
    monkeypatch.setattr(runc, "processes", lambda _container: [])
    monkeypatch.setattr(snapshot, "FRESH", 0)
    monkeypatch.setattr(snapshot, "FRESH_SECONDS", 0)
    (here / "folder" / "deep").mkdir(parents=True)
    (here / "folder" / "deep" / "kept").write_text("kept")

    def goes():
        os.rename(here / "folder", here / "away")
        (here / "folder").write_text("a file of that name")

    follower = following(here, there, tmp_path / "kept")
    follower.catch_up()
    (here / "folder" / "new").touch()
    (tree,) = follower._trees
    tree.look([])
    follower.frames._meanwhile = goes
    tree.send(0)
    follower.frames._meanwhile = lambda: None
    (here / "folder").unlink()
    os.rename(here / "away", here / "folder")
    follower.look()
    follower.send()
    assert tree_of(there) == tree_of(here)


def test_large_files_are_compared_when_it_stands_still(trees, tmp_path, monkeypatch):
    """Not while it runs: what is compared before it is sent would not be what is sent."""
    here, there = trees
    monkeypatch.setattr(runc, "processes", lambda _container: [])
    (here / "large").write_bytes(os.urandom(2 << 20))
    follower = following(here, there, tmp_path / "kept")
    follower.catch_up()
    (tree,) = follower._trees
    assert tree._states == {}
    with open(here / "large", "r+b") as stream:
        stream.write(b"other")
    follower.look()
    assert list(tree._states) == [b"large"]
    follower.send()
    assert tree_of(there) == tree_of(here)
    tree.look([])
    assert tree._states == {}


def test_what_changes_while_it_stands_still_is_refused(trees, tmp_path, monkeypatch):
    here, there = trees
    (here / "tmp").mkdir()
    (here / "f").write_text("first")
    follower = following(here, there, tmp_path / "kept")
    follower.look()
    follower.send()
    assert tree_of(there) == tree_of(here)
    for change in (lambda: (here / "f").write_text("second"), (here / "folder").rmdir):
        (here / "folder").mkdir(exist_ok=True)
        follower = following(here, there, tmp_path / "kept", change)
        follower.look()
        with pytest.raises(runc.FreezeError, match="changed while it stood still"):
            follower.send()


HOLDER = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, lambda *_words: fcntl.fcntl(file, 1024, fcntl.F_UNLCK))
file = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(file, 1024, fcntl.F_WRLCK)
print(flush=True)
while True:
    signal.pause()
"""


@pytest.fixture
def holder(trees):
    """A process that holds a lease for writing on the file C(leased), and stands still; with C(SIGCONT) it goes on."""
    (trees[0] / "leased").write_bytes(b"content" * 200_000)
    process = subprocess.Popen([sys.executable, "-c", HOLDER, trees[0] / "leased"], stdout=subprocess.PIPE)
    if not process.stdout.readline():
        pytest.skip("no leases here")
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.communicate()


def test_nobody_waits_for_a_lease_that_stands_still(trees, holder, tmp_path):
    here, there = trees
    (here / "other").write_text("other")
    assert _archive.block_states(str(here), [b"leased"]) == {}
    follower = following(here, there, tmp_path / "kept")
    follower.look()
    with pytest.raises(runc.FreezeError, match="holds a lease on /leased, and cannot give it back"):
        follower.send()
    with pytest.raises(OSError, match="a process of the container holds a lease on /leased"):
        _archive.save(str(here), str(tmp_path / "archive"), [b"leased", b"other"])


def test_a_lease_that_is_held_by_who_runs_is_given_back(trees, holder, tmp_path, monkeypatch):
    """It is asked for in the one round, and its file goes along in a later one."""
    here, there = trees
    monkeypatch.setattr(runc, "processes", lambda _container: [])
    seen = _archive.save(str(here), str(tmp_path / "archive"), [b".", b"leased"], runs=True)
    assert list(seen) == [b"."]
    follower = following(here, there, tmp_path / "kept")
    follower.catch_up()
    assert not (there / "leased").exists()
    holder.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 30
    while not (there / "leased").exists() and time.monotonic() < deadline:
        follower.catch_up()
    follower.look()
    follower.send()
    assert tree_of(there) == tree_of(here)


def test_folders_that_criu_makes_for_a_dump_do_not_travel(trees, tmp_path):
    here, there = trees
    folders = [here / "tmp" / "cr-tmpfs.1", here / "tmp" / ".criu.mntns.2", here / "crtools-3"]
    for folder in folders:
        folder.mkdir(parents=True)
    follower = following(here, there, tmp_path / "kept", lambda: [folder.rmdir() for folder in folders])
    follower.look()
    follower.send()
    assert tree_of(there) == tree_of(here)
    assert os.listdir(there / "tmp") == []


def stream_of(*heads):
    """What a source sends that is not ours."""
    made = b""
    for head in heads:
        words = json.dumps(head).encode()
        made += struct.pack(">I", len(words)) + words
    return io.BytesIO(made + bytes(4))


def head(name, mode=FILE, **more):
    return {
        "name": name,
        "mode": mode,
        "owner": [os.geteuid(), os.getegid()],
        "times": [0, 0],
        "attributes": {},
        **more,
    }


EMPTY = {"size": 0, "extents": []}


@pytest.mark.parametrize(
    "heads",
    [
        [head("../outside/evil", **EMPTY)],
        [head("/outside/evil", **EMPTY)],
        [head("d/../../outside/evil", **EMPTY)],
        [head("d//evil", **EMPTY)],
        [head("", **EMPTY)],
        [head("a\0b", **EMPTY)],
        # Through a link that was there, that is sent first, that leads to another; as a file, a folder, a link.
        [head("way/evil", **EMPTY)],
        [head("new", LINK, target="../outside"), head("new/evil", **EMPTY)],
        [head("new", LINK, target="way"), head("new/evil", **EMPTY)],
        [head("way/evil", FOLDER)],
        [head("way/evil", LINK, target="x")],
        [head("f", **EMPTY), {"name": "way/evil", "link": "f"}],
        [{"name": "f", "link": "way/secret"}],
        [{"name": "f", "link": "../outside/secret"}],
        [{"remove": "../outside/secret"}],
        [{"remove": "."}],
        [head(".", **EMPTY)],
        # What is none.
        [1],
        ["remove"],
        [{}],
        [{"remove": 1}],
        [head(5, **EMPTY)],
        [head("f")],
        [head("f", size=-1, extents=[])],
        [head("f", size=5, extents=[[1, 5]])],
        [head("f", size=5, extents=[[-1, 2]])],
        [head("f", size=2**80, extents=[])],
        [head("f", mode="x", **EMPTY)],
        [head("f", stat.S_IFCHR, device=[1])],
        [head("f", **{**EMPTY, "times": [0]})],
        [head("f", **{**EMPTY, "owner": [-1, 0]})],
        [head("f", **{**EMPTY, "attributes": {"trusted.overlay.redirect": "eA=="}})],
        [head("f", **{**EMPTY, "attributes": {"user.x": "no base64"}})],
        [head("no/folder", **EMPTY)],
    ],
)
def test_a_stream_that_is_not_ours(trees, heads):
    """It is refused, and whatever it wanted, nothing outside the tree is touched."""
    _here, there = trees
    outside = there.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    os.symlink("../outside", there / "way")
    (there / "d").mkdir()
    before = tree_of(outside)
    with pytest.raises(Refused):
        _archive.Unpacker(str(there), stream_of(*heads).read).unpack()
    assert tree_of(outside) == before
    assert not [name for name, facts in tree_of(there).items() if facts[1] == b"secret"]


def test_removing_does_not_follow_links(trees):
    _here, there = trees
    outside = there.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    os.symlink("../outside", there / "way")
    (there / "d").mkdir()
    os.symlink("../../outside", there / "d" / "way")
    _archive.Unpacker(str(there), stream_of({"remove": "way/secret"}, {"remove": "d"}, {"remove": "way"}).read).unpack()
    assert os.listdir(there) == [] and (outside / "secret").read_text() == "secret"


def test_the_source_does_not_follow_links_either(trees):
    """A container that runs could exchange a folder for a link to what only its host may read."""
    here, there = trees
    (here.parent / "secret").write_text("secret")
    os.symlink("..", here / "d")
    seen, _count = carry(here, there, [], [b"d/secret"])
    assert seen == {} and os.listdir(there) == []


def test_a_head_that_is_too_long_is_refused(trees):
    with pytest.raises(Refused, match="of 4294967295 bytes, which is too long"):
        _archive.Unpacker(str(trees[1]), io.BytesIO(b"\xff\xff\xff\xff").read).unpack()


def test_folders_without_end_are_refused(trees, monkeypatch):
    monkeypatch.setattr(_archive, "_MOST_REMEMBERED", 10 * 310)
    one = [head("d", FOLDER, times=[number, 5]) for number in range(100)]
    _archive.Unpacker(str(trees[1]), stream_of(*one).read).unpack()
    assert (trees[1] / "d").stat().st_mtime_ns == 5
    several = [head(f"d{number:08}", FOLDER) for number in range(100)]
    with pytest.raises(Refused, match="more folders than this server can remember"):
        _archive.Unpacker(str(trees[1]), stream_of(*several).read).unpack()
    hides = [head(f"h{number:08}", stat.S_IFCHR, device=[0, 0]) for number in range(100)]
    with pytest.raises(Refused, match="more folders than this server can remember"):
        _archive.Merger(str(trees[1]), stream_of(*hides).read).unpack()


def test_more_names_than_there_is_memory_for(tmp_path, monkeypatch):
    for number in range(10):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(snapshot, "_NAMES", 5)
    assert len(snapshot.snapshot(str(tmp_path))) == 11
    monkeypatch.setattr(snapshot, "_SPARE_MEMORY", 1 << 60)
    with pytest.raises(MigrationError, match="more files than there is memory to remember their names"):
        snapshot.snapshot(str(tmp_path))


@pytest.fixture
def full_disk(tmp_path):
    """A folder in which a file can be made, but nothing written."""
    path = tmp_path / "full"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=10", "none", path], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    (path / "x").write_bytes(bytes(4096))
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_told(trees, full_disk):
    here, _there = trees
    (here / "f").write_bytes(b"x" * 100)
    with pytest.raises(Refused, match=r"/f could not be written at the destination \(No space left on device, but"):
        carry(here, full_disk, [], [b"f"])
