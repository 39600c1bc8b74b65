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
    assert _manifest.total_size(manifest) == 8192 + 2
    assert sorted(manifest["files"]) == ["container.json", "criu/pages-1.img"]
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
        '{"format": "fog.migration/checkpoint", "version": 2, "container": {}, "files": []}',
        '{"format": "fog.migration/checkpoint", "version": 2, "container": {}, "files": {}}',
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
