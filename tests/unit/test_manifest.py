# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest: what is written is read again, and every damage is found and named."""

from __future__ import annotations

import json
import os

import pytest
from checkpoints import describe

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with two files and their manifest."""
    (tmp_path / "criu").mkdir()
    (tmp_path / "criu" / "pages-1.img").write_bytes(os.urandom(8192))
    (tmp_path / "container.json").write_text("{}")
    describe(tmp_path)
    return tmp_path


def test_an_intact_checkpoint_has_no_problems(checkpoint):
    manifest = _manifest.load(str(checkpoint))
    assert _manifest.problems(str(checkpoint), manifest) == []
    assert manifest.total_size == 8192 + 2
    assert sorted(manifest.files) == ["container.json", "criu/pages-1.img"]
    assert (checkpoint / "manifest.json").stat().st_mode & 0o777 == 0o600


def flip(path):
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (flip, "another SHA-256"),
        (lambda path: path.write_bytes(path.read_bytes()[:4096]), "4096 bytes instead of 8192"),
        (lambda path: path.unlink(), "pages-1.img is missing"),
        (lambda path: (path.parent / "extra.img").write_text("x"), "extra.img is not listed"),
    ],
)
def test_every_damage_is_named(checkpoint, damage, problem):
    damage(checkpoint / "criu" / "pages-1.img")
    manifest = _manifest.load(str(checkpoint))
    assert problem in _manifest.problems(str(checkpoint), manifest)[0]
    with pytest.raises(MigrationError, match="damaged"):
        _manifest.require_intact(str(checkpoint), manifest, "")


def test_a_symbolic_link_is_no_part_of_a_checkpoint(checkpoint):
    (checkpoint / "criu" / "link").symlink_to("/etc/passwd")
    with pytest.raises(MigrationError, match="not a plain file"):
        _manifest.problems(str(checkpoint), _manifest.load(str(checkpoint)))


def with_files(files):
    manifest = {"format": _manifest.FORMAT, "version": _manifest.VERSION, "container": {}, "files": files}
    return json.dumps(manifest)


GOOD = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "[" * 100000,
        '{"format": "fog.migration/checkpoint", "version": 1, "container": {}, "files": {}}',
        '{"format": "fog.migration/checkpoint", "version": 3, "container": {}, "files": []}',
        '{"format": "fog.migration/checkpoint", "version": 3, "container": {}, "files": {}}',
        with_files({"/etc/passwd": GOOD}),
        with_files({"../up": GOOD}),
        with_files({"a/../../up": GOOD}),
        with_files({"a//b": GOOD}),
        with_files({"a": {"size": -1, "sha256": "0" * 64}}),
        with_files({"a": {"size": "1", "sha256": "0" * 64}}),
        with_files({"a": {"size": 1, "sha256": "0" * 63}}),
        with_files({"a": {"size": 1, "sha256": None}}),
        with_files({"a": 1}),
    ],
)
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(MigrationError, match="cannot be used"):
        _manifest.parse(text, "manifest.json")


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path):
    with pytest.raises(MigrationError, match="not a complete checkpoint"):
        _manifest.load(str(tmp_path))
    with pytest.raises(MigrationError, match="no checkpoint at"):
        _manifest.load(str(tmp_path / "absent"))


# What this collection writes: as a whole, with what has changed, and without memory.
WHOLE = {
    "format": "fog.migration/checkpoint",
    "version": 3,
    "id": "0b6f4a52-8f0c-4b52-a5c7-4f6c54c0a7c1",
    "name": "checkpoint100",
    "created": "2026-11-21T04:15:00Z",
    "exit": True,
    "container": {"id": "4f9d", "name": "looper100", "image": "sha256:1c35", "image_tags": ["busybox:lab"]},
    "docker": {"version": "26.1.5", "api_version": "1.45", "storage_driver": "overlay2"},
    "criu": {"version": "4.2.1"},
    "host": "fog1",
    "kernel": "6.12.0",
    "architecture": "x86_64",
    "cpu_features": ["sse"],
    "files_alone": ["/etc/one"],
    "statistics": {"frozen_time": 52011},
    "way": "runtime",
    "mounts": {"/data": "mount-0.diff", "/etc/one": "mount-1.diff"},
    "files": {"container.json": {"size": 2, "sha256": "0" * 64, "mode": 0o600}},
}
WITHOUT_MEMORY = {name: one for name, one in WHOLE.items() if name != "way"}
KEPT = [
    WHOLE,
    {**WHOLE, "since": "0b6f4a52-8f0c-4b52-a5c7-4f6c54c0a7c2", "differences": ["/data"]},
    {**WITHOUT_MEMORY, "prepared": True, "mounts": {"/data": None}, "statistics": {}},
    {**WHOLE, "way": "docker"},
    {**WHOLE, "encryption": {"method": "rot13"}},
    # With what a later version may tell.
    {**WHOLE, "later": [1]},
]


@pytest.mark.parametrize("kept", KEPT)
def test_what_was_written_is_read_and_written_as_it_was(kept, tmp_path):
    text = json.dumps(kept, indent=2, sort_keys=True)
    manifest = _manifest.parse(text, "it")
    _manifest.write(str(tmp_path), manifest)
    assert (tmp_path / "manifest.json").read_text() == text
    assert _manifest.load(str(tmp_path)) == manifest


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"format": "tar"}, "it is not a checkpoint's manifest"),
        ({"version": 2}, "it has format version 2, this collection reads version 3"),
        ({"version": 4}, "it has format version 4, this collection reads version 3"),
        ({"id": "../x"}, "it gives no id"),
        ({"name": "a/b"}, "it gives no name of a checkpoint"),
        ({"created": 7}, "it does not tell when and on what it was made"),
        ({"architecture": None}, "it does not tell when and on what it was made"),
        ({"cpu_features": "sse"}, "it does not tell when and on what it was made"),
        ({"exit": 1}, "it does not tell how it was made"),
        ({"prepared": "yes"}, "it does not tell how it was made"),
        ({"way": "podman"}, "it does not tell how it was made"),
        ({"way": ["docker"]}, "it does not tell how it was made"),
        ({"statistics": []}, "it does not tell how it was made"),
        ({"docker": {"version": "26.1.5"}}, "it tells too little or too much of Docker"),
        ({"docker": {"version": 26}}, "it does not tell by which Docker it was made"),
        ({"criu": {"version": 4}}, "it does not tell by which CRIU it was made"),
        ({"container": None}, "it lists no container or no files"),
        ({"container": {"id": "c", "name": "n"}}, "it does not tell of which container it is"),
        (
            {"container": {"id": "c", "name": "n", "image": "i", "x": 1}},
            "it tells too little or too much of the container",
        ),
        (
            {"container": {"id": "c", "name": "n", "image": "i", "image_tags": [1]}},
            "it gives tags of the image that are not strings",
        ),
        ({"files": {"a": {**GOOD, "size": 1 << 63}}}, "it gives no size for 'a'"),
        ({"files": {"a": {"size": 1}}}, "it gives no SHA-256 for 'a'"),
        ({"files": {"a": {**GOOD, "mode": "rw"}}}, "it gives no mode for 'a'"),
        ({"files": {"a": {**GOOD, "owner": 0}}}, "it tells too little or too much of 'a'"),
        ({"mounts": {"/data": 1}}, "it gives mounts that are not strings"),
        ({"files_alone": {}}, "it does not tell which mounts are of a file"),
        ({"differences": "/data"}, "it does not tell of which mounts it has what has changed"),
        ({"since": "../x"}, "it does not tell since when it has what has changed"),
        ({"encryption": "rot13"}, "it does not tell how it is encrypted"),
    ],
)
def test_what_is_wrong_with_a_manifest(more, complaint):
    with pytest.raises(MigrationError) as refused:
        _manifest.parse(json.dumps({**WHOLE, **more}), "it")
    assert refused.value.what == f"it cannot be used: {complaint}"


@pytest.mark.parametrize("name", ["id", "name", "created", "architecture", "exit", "container", "files"])
def test_what_a_manifest_must_have(name):
    with pytest.raises(MigrationError, match="cannot be used"):
        _manifest.parse(json.dumps({key: one for key, one in WHOLE.items() if key != name}), "it")
