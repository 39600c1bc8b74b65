# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is said to be a container's files, or to be a checkpoint: nothing outside of its place is ever touched."""

from __future__ import annotations

import functools
import io
import json
import os
import select
import stat
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive
from fuzz.made_up import as_json, like, little_memory, odd_json, payloads, values

# In the place of the folder that is made for a test, whose name has as many letters.
BASE = "{" + "-" * len(f"{tempfile.gettempdir()}/tmp123456") + "}"
CONTENT = b"content"
NAMES = ["a", "b", "a/b", "a/b/a", ".", "..", "../canary", "a/../../canary", f"{BASE}/canary", "", "a//b", "\udcff"]
TARGETS = ["../canary", f"{BASE}/canary", "..", f"{BASE}/home", "/", "a", "b"]
MODES = [stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600, stat.S_IFCHR, 0, 0o777]


def head(mode: int, **more: object) -> dict:
    """What describes a file of this mode, with all that any kind of file needs."""
    facts = {"owner": [os.geteuid(), os.getegid()], "times": [1, 1], "attributes": {}, "size": len(CONTENT)}
    return {"mode": mode, **facts, "extents": [[0, len(CONTENT)]], "device": [0, 0], "target": "a", **more}


heads = st.one_of(
    st.builds(lambda name: {"remove": name}, st.sampled_from(NAMES)),
    st.builds(lambda name, link: {"name": name, "link": link}, st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.builds(
        lambda mode, name, target, attributes: head(mode, name=name, target=target, attributes=attributes),
        st.sampled_from(MODES),
        st.sampled_from(NAMES),
        st.sampled_from(TARGETS),
        st.sampled_from([{}, {}, {"trusted.overlay.opaque": "eQ=="}, {"trusted.overlay.redirect": "L2I="}]),
    ),
)
# Large files, and changes of them: of something that is a file, and of something that is none.
SIZES = [0, 1, len(CONTENT), 2**20, 2**44, 2**63 - 1, 2**63, 2**70, -1, 1.5]
large = st.builds(
    lambda name, patch, size: head(MODES[0], name=name, blocks=True, patch=patch, size=size),
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from(SIZES),
)
offsets = st.one_of(
    st.sampled_from([0, 1, 7, 2**20 - 7, 2**44 - 7, 2**63 - 8, 2**63 - 1, 2**64 - 1]), st.integers(0, 20)
)
block_lengths = st.sampled_from([None, None, None, 0, 1, 2**18 + 1, 2**32 - 1])
odd_heads = st.one_of(
    like({**head(MODES[0], blocks=True, patch=True), "name": "a"}),
    like({**head(MODES[0]), "name": "a"}),
    like({**head(MODES[1]), "name": "a"}),
    like({"remove": "a"}),
    values,
)


def record(described: object) -> bytes:
    """One record, with the content where it is one of a file."""
    raw = described if isinstance(described, bytes) else as_json(described)
    is_file = isinstance(described, dict) and described.get("mode") == MODES[0]
    return struct.pack(">I", len(raw)) + raw + (CONTENT if is_file else b"")


def block(offset: int, length: int | None, data: bytes) -> bytes:
    """One block of a large file, of which the length may be a lie."""
    return struct.pack(">QI", offset, len(data) if length is None else length) + data


@st.composite
def large_records(draw: st.DrawFn) -> bytes:
    """A large file with its blocks, in any order, up to one without a length, or not."""
    described = draw(st.one_of(large, odd_heads))
    raw = as_json(described)
    contents = st.builds(block, offsets, block_lengths, st.sampled_from([CONTENT, b"", b"x" * 5000]))
    blocks = b"".join(draw(st.lists(contents, max_size=4)))
    return struct.pack(">I", len(raw)) + raw + blocks + draw(st.sampled_from([bytes(12), bytes(12), b""]))


streams = st.one_of(
    st.lists(st.one_of(large_records(), heads.map(record)), max_size=6).map(lambda parts: b"".join(parts) + bytes(4)),
    st.binary(max_size=200),
    st.lists(heads, max_size=8).map(lambda all_of_them: b"".join(map(record, all_of_them)) + bytes(4)),
    st.lists(st.one_of(heads, odd_heads, odd_json, payloads), max_size=4).map(
        lambda all_of_them: b"".join(map(record, all_of_them)) + bytes(4)
    ),
)


def outside(base: Path) -> dict:
    """All that a stream must not touch."""
    places = [base, base / "canary", base / "home", base / "home" / "secret"]
    return {
        place.name: (status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, os.listxattr(place))
        for place, status in ((place, place.lstat()) for place in places)
    } | {"said": [(base / "canary").read_text(), (base / "home" / "secret").read_text(), sorted(os.listdir(base))]}


# All ways of reading a stream: into a folder, a layer, a folder that becomes what a layer shows, and a single file.
WAYS = {
    "folder": archive.Unpacker,
    "layer": functools.partial(archive.Unpacker, layer=True),
    "merged": archive.Merger,
    "alone": functools.partial(archive.Unpacker, only=b"a"),
}


def unpack(base: Path, stream: bytes, way: str) -> None:
    """Unpacks into one of the folders there; only a refusal is allowed."""
    source = io.BytesIO(stream)

    def read(count: int) -> bytes:
        data = source.read(count)
        if len(data) < count:
            raise Refused("the end")
        return data

    try:
        WAYS[way](str(base / "root"), read).unpack()
    except Refused as refusal:
        assert "\n" not in str(refusal)


def swapped(mode: int) -> bytes:
    """A folder, then a link in its place: what is said of the folder must not come to what the link names."""
    folder = head(stat.S_IFDIR | mode, name="a", times=[5, 5])
    link = head(MODES[2], name="a", target=f"{BASE}/canary")
    return record(folder) + record(link) + bytes(4)


def changed(mode: int) -> bytes:
    """Something that is no file, and then a change of a file in its place."""
    patch = as_json(head(MODES[0], name="a", blocks=True, patch=True))
    change = struct.pack(">I", len(patch)) + patch + block(0, None, CONTENT) + bytes(12)
    return record(head(mode, name="a", target=f"{BASE}/canary", device=[1, 3])) + change + bytes(4)


# More than that, no stream of some hundred bytes needs, whatever it says.
ENOUGH = 8 << 20


@given(streams, st.sampled_from(sorted(WAYS)))
@example(swapped(0o777), "layer")
@example(swapped(0o777), "folder")
@example(swapped(0o777), "merged")
@example(swapped(0o777), "alone")
@example(changed(MODES[2]), "folder")
@example(changed(MODES[2]), "layer")
@example(changed(MODES[3]), "folder")
@example(changed(MODES[4]), "layer")
@example(record({"remove": "a/b", "name": 5}) + bytes(4), "folder")
@example(record(None) + record({"remove": ".."}), "folder")
def test_the_files_of_a_container(stream, way):
    with tempfile.TemporaryDirectory() as folder:
        assert len(folder) == len(BASE)
        base = Path(folder)
        (base / "home").mkdir()
        (base / "root").mkdir()
        for name in ("canary", "home/secret"):
            (base / name).write_text("sings")
            (base / name).chmod(0o600)
        before = outside(base)
        with little_memory(ENOUGH):
            unpack(base, stream.replace(BASE.encode(), os.fsencode(folder)), way)
        assert outside(base) == before
        os.system(f"rm -rf {folder}/root")


# Most of what comes is in order, so that what is not comes behind something that has been done.
few = st.sampled_from([*["a"] * 6, "new", "pipe", "link", "folder", "link/a", "../canary"])
sizes = st.sampled_from([*[2**20] * 6, *SIZES])
some_blocks = st.lists(
    st.one_of(
        st.builds(block, st.integers(0, 2**20 - 5000), st.none(), st.sampled_from([CONTENT, b"x" * 5000])),
        st.builds(block, st.sampled_from([0, *[5] * 5, 2**20 - 7, 2**63 - 1, 2**64 - 1]), st.none(), st.just(CONTENT)),
    ),
    max_size=3,
).map(b"".join)
changes = st.builds(
    lambda name, patch, size, parts: (
        record(as_json(head(MODES[0], name=name, blocks=True, patch=patch, size=size))) + parts + bytes(12)
    ),
    few,
    st.sampled_from([True, True, False]),
    sizes,
    some_blocks,
)


@given(st.lists(st.one_of(changes, changes, large_records(), heads.map(record)), min_size=1, max_size=4), st.booleans())
def test_changes_of_large_files(parts, layer):
    """Of a file, and of what is none: a pipe at which somebody listens, a link out of the tree, a folder."""
    with tempfile.TemporaryDirectory() as folder:
        base, root = Path(folder), Path(folder, "root")
        for made in (base / "home", root, root / "folder"):
            made.mkdir()
        for name in ("canary", "home/secret"):
            (base / name).write_text("sings")
        (root / "a").write_bytes(CONTENT)
        (root / "link").symlink_to("../canary")
        os.mkfifo(root / "pipe")
        listens, listener = select.poll(), os.open(root / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        listens.register(listener, select.POLLHUP)
        before = outside(base)
        with little_memory(ENOUGH):
            unpack(
                base,
                b"".join(parts).replace(BASE.encode(), os.fsencode(folder)) + bytes(4),
                "layer" if layer else "folder",
            )
        assert outside(base) == before
        assert listens.poll(0) == []
        os.close(listener)
        assert sum(found.stat().st_blocks for found in root.rglob("*") if found.is_file()) * 512 < ENOUGH
        os.system(f"rm -rf {folder}/root")


@pytest.mark.parametrize("length", [2**24, 2**24 + 1, 2**32 - 1])
def test_a_declared_length_takes_no_memory(tmp_path, length):
    (tmp_path / "archive").write_bytes(struct.pack(">I", length))
    (tmp_path / "root").mkdir()
    with little_memory((1 << 24) + (1 << 20)), pytest.raises(Refused):
        archive.apply(str(tmp_path / "archive"), str(tmp_path / "root"))


def test_a_file_of_any_size_takes_no_memory(tmp_path):
    stream = record(head(MODES[0], name="a", size=2**40, extents=[[0, 2**40]]))
    (tmp_path / "archive").write_bytes(stream)
    (tmp_path / "root").mkdir()
    with little_memory(4 << 20), pytest.raises(Refused, match="is cut off"):
        archive.apply(str(tmp_path / "archive"), str(tmp_path / "root"))


@pytest.mark.parametrize("patch", [False, True])
def test_a_file_in_blocks_of_any_size_takes_no_memory(tmp_path, patch):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").touch()
    stream = as_json(head(MODES[0], name="a", blocks=True, patch=patch, size=2**40))
    stream = struct.pack(">I", len(stream)) + stream + block(2**39, None, CONTENT) + block(0, 2**32 - 1, b"")
    (tmp_path / "archive").write_bytes(stream)
    with little_memory(4 << 20), pytest.raises(Refused, match="is cut off"):
        archive.apply(str(tmp_path / "archive"), str(tmp_path / "root"))
    assert (tmp_path / "root" / "a").stat().st_blocks * 512 < 1 << 20


def test_a_tree_that_is_deeper_than_one_can_go(tmp_path):
    names = ["/".join("d" * level) for level in range(1, 1500)]
    folders = b"".join(record(head(MODES[1], name=name)) for name in names)
    (tmp_path / "archive").write_bytes(folders + record({"remove": "d"}) + bytes(4))
    (tmp_path / "root").mkdir()
    try:
        archive.apply(str(tmp_path / "archive"), str(tmp_path / "root"))
    except Refused as refusal:
        assert "\n" not in str(refusal)
    finally:
        os.system(f"rm -rf {tmp_path}/root")


# ---------------------------------------------------------------------------------------------------------------------
# Manifests

SHA256 = "0" * 64
MANIFEST = {
    "format": _manifest.FORMAT,
    "version": _manifest.VERSION,
    "id": "0b6f4a52-8f0c-4b52-a5c7-4f6c54c0a7c1",
    "name": "checkpoint100",
    "created": "2026-11-21T04:15:00Z",
    "exit": True,
    "way": "runtime",
    "prepared": False,
    "container": {"id": "4f9d", "name": "looper100", "image": "sha256:1c35", "image_tags": ["busybox:lab"]},
    "docker": {"version": "26.1.5", "api_version": "1.45", "storage_driver": "overlay2"},
    "criu": {"version": "4.2.1"},
    "host": "fog1",
    "kernel": "6.12.0",
    "architecture": "x86_64",
    "cpu_features": ["sse"],
    "statistics": {},
    "mounts": {"/data": "mount-0.diff", "/etc/one": None},
    "files_alone": ["/etc/one"],
    "since": "0b6f4a52-8f0c-4b52-a5c7-4f6c54c0a7c2",
    "differences": ["/data"],
    "files": {"container.json": {"size": 2, "sha256": SHA256, "mode": 0o600}},
}


def use(manifest: _manifest.Manifest, folder: str) -> None:
    """All that the modules take from a manifest without looking at it again."""
    assert manifest.total_size >= 0
    assert all(isinstance(problem, str) for problem in _manifest.problems(folder, manifest))
    assert all(isinstance(one, str) for one in (manifest.created, manifest.architecture))
    assert "/" not in manifest.id + manifest.name and manifest.name not in (".", "..")
    assert isinstance(manifest.exit, bool)
    assert manifest.way in (None, "runtime", "docker")
    assert "/" not in (manifest.since or "")
    assert all(isinstance(one, (list, type(None))) for one in (manifest.files_alone, manifest.differences))
    container = manifest.container
    assert all(isinstance(one, str) for one in (container.id, container.name, container.image))
    ", ".join(container.image_tags or [])
    # What is written is read as the same.
    text = json.dumps(manifest.to_json())
    assert json.dumps(_manifest.parse(text, "it").to_json()) == text
    text.encode("ascii")


@given(st.one_of(like(MANIFEST).map(as_json), payloads))
def test_a_manifest(text):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "manifest.json").write_bytes(text)
        Path(folder, "container.json").write_text("{}")
        try:
            manifest = _manifest.load(folder)
        except MigrationError as error:
            assert "\n" not in error.sentence("Restore")
        else:
            use(manifest, folder)


def test_the_manifest_that_the_others_are_like_is_one():
    assert _manifest.parse(json.dumps(MANIFEST), "it").to_json() == MANIFEST


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", "x\0", "\ud800"])
@pytest.mark.parametrize("key", ["id", "name"])
def test_a_name_that_leads_elsewhere_is_none(name, key):
    with pytest.raises(MigrationError, match=f"gives no {key}"):
        _manifest.parse(json.dumps({**MANIFEST, key: name}), "it")
