# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted checkpoints: nothing of them can be read without the key, and nothing changed is decrypted."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile

import pytest
from checkpoints import describe

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import encryption
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

KEY, SECRET = "correct horse battery staple", b"PASSWORD=hunter2"
# What checkpoints of earlier versions cost.
EARLIER = encryption.Cost(32768, 8, 1)


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    """What is tried here does not depend on what the keys cost."""
    monkeypatch.setattr(encryption, "COST", EARLIER)


@pytest.fixture
def plain(tmp_path):
    """A checkpoint with a secret in its memory and in its configuration."""
    folder = tmp_path / "checkpoint100"
    (folder / "criu").mkdir(parents=True)
    (folder / "criu" / "pages-1.img").write_bytes(os.urandom(100_000) + SECRET + os.urandom(100_000))
    (folder / "container.json").write_bytes(b'{"Config": {"Env": ["' + SECRET + b'"]}}')
    (folder / "container.json").chmod(0o600)
    (folder / "empty").touch(0o640)
    describe(folder)
    return folder


@pytest.fixture
def sealed(plain, tmp_path):
    """The same, encrypted."""
    encryption.seal(str(plain), _manifest.load(str(plain)), KEY, str(tmp_path / "sealed"))
    return tmp_path / "sealed"


def unseal(folder, key=KEY):
    target = folder.parent / "opened"
    return encryption.unseal(str(folder), _manifest.load(str(folder)), key, str(target)), target


def everything(folder):
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_was_encrypted_comes_back(plain, sealed):
    manifest, opened = unseal(sealed)
    assert everything(opened) == everything(plain)
    assert manifest == _manifest.load(str(plain))
    assert opened.stat().st_mode & 0o777 == 0o700


def test_nothing_of_it_can_be_read(sealed):
    assert sorted(os.listdir(sealed)) == ["manifest.json", "sealed.tar"]
    assert sealed.stat().st_mode & 0o777 == 0o700
    for path in sealed.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        data = path.read_bytes()
        assert SECRET not in data and b"hunter2" not in data and b"pages-1" not in data
    assert KEY not in (sealed / "manifest.json").read_text()


def test_it_is_never_encrypted_the_same_way_twice(plain, sealed, tmp_path):
    encryption.seal(str(plain), _manifest.load(str(plain)), KEY, str(tmp_path / "again"))
    first, second = ((folder / "sealed.tar").read_bytes() for folder in (sealed, tmp_path / "again"))
    assert len(first) == len(second)
    # Two streams with one key and one counter would show where the contents are equal.
    assert sum(a == b for a, b in zip(first, second, strict=True)) < len(first) / 50


def test_a_wrong_key_decrypts_nothing(sealed):
    with pytest.raises(MigrationError, match="the encryption_key is not that of"):
        unseal(sealed, KEY + "r")
    assert not (sealed.parent / "opened").exists()


def change(**values):
    def change_it(folder):
        path = folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change_it


def flip(folder):
    data = bytearray((folder / "sealed.tar").read_bytes())
    data[5000] ^= 1
    (folder / "sealed.tar").write_bytes(data)


def flip_and_forge(folder):
    """The manifest fits the changed file, but only who has the key can sign it."""
    flip(folder)
    files = _manifest.describe_files(str(folder))
    change(files={name: vars(one) for name, one in files.items()})(folder)


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        (flip, "damaged: sealed.tar has another SHA-256"),
        (flip_and_forge, "was changed"),
        (change(name="other"), "was changed"),
        (change(architecture="armv7l"), "was changed"),
        (change(container={"id": "c", "name": "other", "image": "i"}), "was changed"),
        (lambda folder: (folder / "sealed.tar").unlink(), "sealed.tar is missing"),
        (lambda folder: (folder / "more").touch(), "more is not listed"),
        (change(encryption={}), "not known here"),
        (change(encryption={"method": EARLIER.method, "salt": "zz", "check": "", "tag": ""}), "not known here"),
        (change(encryption={"method": EARLIER.method, "salt": "00", "check": "\u00e4", "tag": 1}), "not known here"),
        (change(created="2026-11-22T04:15:00Z"), "was changed"),
        (change(id="2"), "was changed"),
        (change(encryption={"method": "rot13", "salt": "00", "check": "00", "tag": "00"}), "not known here"),
    ],
)
def test_what_was_changed_is_not_decrypted(sealed, tamper, problem):
    tamper(sealed)
    with pytest.raises(MigrationError, match=problem):
        unseal(sealed)
    assert not (sealed.parent / "opened").exists()


@pytest.mark.parametrize("how", ["another file", "the same file"])
def test_what_is_exchanged_after_it_was_looked_at_is_not_used(sealed, monkeypatch, how):
    """The folder may be on a storage that belongs to somebody else."""
    look, used = _manifest.require_intact, []

    def and_exchange(folder, *arguments, **options):
        look(folder, *arguments, **options)
        if how == "another file":
            (sealed / "other").write_bytes((sealed / "sealed.tar").read_bytes())
            os.rename(sealed / "other", sealed / "sealed.tar")
        flip(sealed)

    monkeypatch.setattr(_manifest, "require_intact", and_exchange)
    monkeypatch.setattr(encryption, "_unpack", lambda *_arguments: used.append("unpacked"))
    with pytest.raises(MigrationError, match=r"damaged: sealed\.tar has another SHA-256"):
        unseal(sealed)
    assert used == [] and not (sealed.parent / "opened").exists()


def test_a_link_in_its_place_is_not_followed(sealed, monkeypatch):
    os.rename(sealed / "sealed.tar", sealed.parent / "elsewhere")
    os.symlink(sealed.parent / "elsewhere", sealed / "sealed.tar")
    with pytest.raises(MigrationError, match="not a plain file"):
        unseal(sealed)
    monkeypatch.setattr(_manifest, "list_files", lambda _folder: ["sealed.tar"])
    with pytest.raises(MigrationError, match="could not be decrypted"):
        unseal(sealed)


# What the keys cost


def test_new_ones_cost_more_and_earlier_ones_stay_readable(plain, sealed, monkeypatch, tmp_path):
    monkeypatch.undo()
    assert encryption.COST.memory > 128 << 20
    manifest, _opened = unseal(sealed)
    assert manifest == _manifest.load(str(plain))
    outer = encryption.seal(str(plain), _manifest.load(str(plain)), KEY, str(tmp_path / "new"))
    assert outer.encryption["method"] == "scrypt-131072-8-1 aes-256-ctr hmac-sha256"
    assert unseal(tmp_path / "new")[0] == manifest


@pytest.mark.parametrize(
    "method",
    [
        "scrypt-1073741824-8-1 aes-256-ctr hmac-sha256",
        "scrypt-131072-1024-1 aes-256-ctr hmac-sha256",
        "scrypt-131072-8-1000 aes-256-ctr hmac-sha256",
        "scrypt-99999999999999999999-8-1 aes-256-ctr hmac-sha256",
        "scrypt-131073-8-1 aes-256-ctr hmac-sha256",
        "scrypt-16384-8-1 aes-256-ctr hmac-sha256",
        "scrypt-0-8-1 aes-256-ctr hmac-sha256",
        "scrypt-131072-0-1 aes-256-ctr hmac-sha256",
        "scrypt-131072-8-0 aes-256-ctr hmac-sha256",
        "scrypt-131072-8-1 aes-256-ctr hmac-md5",
        "scrypt--131072-8-1 aes-256-ctr hmac-sha256",
        ["scrypt-131072-8-1 aes-256-ctr hmac-sha256"],
    ],
)
def test_a_manifest_cannot_ask_for_any_amount_of_memory(sealed, method, monkeypatch):
    monkeypatch.setattr(encryption.hashlib, "scrypt", None)
    how = json.loads((sealed / "manifest.json").read_text())["encryption"]
    change(encryption={**how, "method": method})(sealed)
    with pytest.raises(MigrationError, match="is encrypted in a way that is not known here"):
        unseal(sealed)


def test_what_they_cost_is_authenticated_as_well(sealed):
    how = json.loads((sealed / "manifest.json").read_text())["encryption"]
    change(encryption={**how, "method": encryption.Cost(65536, 8, 1).method})(sealed)
    with pytest.raises(MigrationError, match="the encryption_key is not that of"):
        unseal(sealed)


@pytest.mark.parametrize("name", ["../canary", "/tmp/canary", "a/../../canary"])
def test_names_in_it_lead_nowhere_else(tmp_path, name):
    """Only who has the key could make one; but a key may be known to more than one."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="it holds"):
        encryption._unpack(io.BytesIO(stream.getvalue()), str(tmp_path / "opened"))
    assert not (tmp_path / "canary").exists()


def test_links_in_it_are_refused(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(entry)
    with pytest.raises(ValueError, match="no file"):
        encryption._unpack(io.BytesIO(stream.getvalue()), str(tmp_path))


def test_the_key_is_on_no_command_line(plain, tmp_path, monkeypatch):
    begun = []
    popen = subprocess.Popen

    def look(command, **options):
        begun.append((command, options.get("env")))
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", look)
    encryption.seal(str(plain), _manifest.load(str(plain)), KEY, str(tmp_path / "sealed"))
    unseal(tmp_path / "sealed")
    assert len(begun) == 2
    for command, environment in begun:
        assert environment is None
        assert command[:2] == [encryption.program(), "enc"] and "-pass" in command and "-K" not in command
        # What is derived from it is as long as that.
        assert all(len(word) < 64 and KEY not in word for word in command[1:])


def test_a_file_that_cannot_be_read_leaves_nothing(plain, tmp_path):
    manifest = _manifest.load(str(plain))
    (plain / "empty").unlink()
    with pytest.raises(MigrationError, match="could not be encrypted"):
        encryption.seal(str(plain), manifest, KEY, str(tmp_path / "sealed"))
    assert sorted(os.listdir(tmp_path)) == ["checkpoint100"]


def test_a_short_key_is_refused():
    assert "fewer than 12" in encryption.key_refusal("hunter2")
    assert encryption.key_refusal(KEY) is None
