# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints that are encrypted where they are kept: with the key they are restored, without it nothing is read."""

from __future__ import annotations

import json
import subprocess
import uuid

import pytest
import yaml

from support.lab import CHECKPOINTS, environment, failure, wait_for
from support.sequences import counted

KEY = "correct horse battery staple"
PATH = f"{CHECKPOINTS}/kept"


class Secretive:
    """A counter with a secret in its environment, its memory and its root file system, and its checkpoint on fog1."""

    def __init__(self, lab):
        self.lab = lab
        self.secret = f"secret-{uuid.uuid4().hex}"
        script = "held=$PASSWORD; echo $held >/kept; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"
        lab.start("fog1", "looper100", script, "--env", f"PASSWORD={self.secret}")
        counted(lab, "fog1", "looper100", 10)

    def checkpoint(self, **more) -> dict:
        return self.lab.module("fog1", "container_checkpoint", container="looper100", name="kept", **more)

    def restore(self, **more) -> dict:
        return self.lab.module("fog1", "container_restore", path=PATH, **more)

    def found_in(self, folder: str) -> str:
        """The files there that hold the secret, or in clear what every checkpoint of it holds."""
        return self.lab.sh("fog1", f"grep -rlaE '{self.secret}|PASSWORD|pages-1.img' {folder} || true").strip()


@pytest.fixture
def secretive(lab) -> Secretive:
    return Secretive(lab)


def goes_on(lab, after: int) -> None:
    """The container counts on from where it stood."""
    counted(lab, "fog1", "looper100", after + 5)
    numbers = [int(line) for line in lab.lines("fog1", "looper100")]
    assert numbers == list(range(len(numbers)))


def test_a_plain_one_shows_what_is_looked_for(secretive):
    assert secretive.checkpoint()["changed"]
    found = secretive.found_in(PATH)
    assert all(f"{PATH}/{name}" in found for name in ("container.json", "rootfs.diff", "criu/pages-")), found


def test_only_with_the_key_it_goes_on(lab, secretive):
    made = secretive.checkpoint(encryption_key=KEY)
    assert made["changed"] and made["encrypted"], made
    assert secretive.found_in("/var/lib/fog-migration /run/fog-migration*") == ""
    assert lab.sh("fog1", f"ls -A {CHECKPOINTS}; ls {PATH}").split() == ["kept", "manifest.json", "sealed.tar"]
    assert lab.sh("fog1", f"stat -c '%a %U' {PATH} {PATH}/*").split() == ["700", "root", *["600", "root"] * 2]
    (told,) = lab.module("fog1", "checkpoint_info", name="kept")["checkpoints"]
    assert told["encrypted"] and told["intact"]
    seen = len(lab.lines("fog1", "looper100"))

    for more, problem in (
        ({}, "is encrypted; nothing was changed, the checkpoint is kept; give its encryption_key"),
        ({"encryption_key": KEY + "r"}, f"the encryption_key is not that of {PATH}; nothing was decrypted"),
    ):
        refused = secretive.restore(**more)
        assert refused["failed"] and problem in refused["msg"], refused
        assert lab.running_on("looper100") == []
    assert KEY not in json.dumps(refused)

    restored = secretive.restore(encryption_key=KEY)
    assert restored["changed"], restored
    assert {key: restored["checkpoint"][key] for key in ("name", "created")} == {
        key: told["manifest"][key] for key in ("name", "created")
    }
    goes_on(lab, seen)
    assert not secretive.restore(encryption_key=KEY)["changed"]
    # It was in clear for as long as it was used.
    assert lab.sh("fog1", f"ls -A {CHECKPOINTS}").split() == ["kept"]
    assert lab.docker("fog1", "exec", "looper100", "cat", "/kept") == secretive.secret


TAMPER = {
    "contents": f"printf X | dd of={PATH}/sealed.tar bs=1 seek=9000 conv=notrunc status=none",
    "manifest": f"sed -i 's/looper100/looper101/' {PATH}/manifest.json",
    "plain": f"python3 -c \"import json; p='{PATH}/manifest.json'; m=json.load(open(p)); del m['encryption']; "
    "json.dump(m, open(p, 'w'))\"",
}


@pytest.mark.parametrize("what", sorted(TAMPER))
def test_a_changed_one_is_refused(lab, secretive, what):
    secretive.checkpoint(encryption_key=KEY, leave_running=True)
    lab.sh("fog1", TAMPER[what])
    refused = secretive.restore(name="clone", encryption_key=KEY)
    problem = {"contents": "is damaged", "manifest": "was changed", "plain": "is not encrypted"}[what]
    assert refused["failed"] and problem in refused["msg"], refused
    assert lab.docker("fog1", "ps", "-aq", "--filter", "name=^clone$") == ""
    assert lab.sh("fog1", f"ls -A {CHECKPOINTS}").split() == ["kept"]


def test_one_that_is_there_already_is_encrypted_in_its_place(lab, secretive):
    secretive.checkpoint()
    seen = len(lab.lines("fog1", "looper100"))
    wishes = {"name": "kept", "state": "encrypted", "encryption_key": KEY}
    would = lab.module("fog1", "container_checkpoint", check_mode=True, **wishes)
    assert would["changed"] and secretive.found_in(PATH)
    assert lab.module("fog1", "container_checkpoint", **wishes)["changed"]
    assert secretive.found_in("/var/lib/fog-migration") == ""
    assert not lab.module("fog1", "container_checkpoint", **wishes)["changed"]
    other = lab.module("fog1", "container_checkpoint", **dict(wishes, encryption_key=KEY + "r"))
    assert other["failed"] and "is not that of" in other["msg"]
    assert secretive.restore(encryption_key=KEY)["changed"]
    goes_on(lab, seen)


def test_a_short_key_freezes_nothing(lab, secretive):
    refused = secretive.checkpoint(encryption_key="hunter2")
    assert refused["failed"] and "fewer than 12 characters; nothing was changed" in refused["msg"]
    assert lab.running_on("looper100") == ["fog1"]
    assert "key for the checkpoint" in failure(
        lab.migrate("looper100", migration_keep_checkpoint=True, migration_checkpoint_key="hunter2", check=False)
    )
    assert lab.running_on("looper100") == ["fog1"]


def test_what_a_migration_keeps_is_encrypted_with_a_key_from_a_vault(lab, secretive, tmp_path):
    """As README.md tells: the key is in a file that is encrypted itself."""
    (tmp_path / "password").write_text("of the vault")
    (tmp_path / "vault.yml").write_text(yaml.safe_dump({"migration_checkpoint_key": KEY}))
    vault = ["--vault-password-file", str(tmp_path / "password")]
    subprocess.run(["ansible-vault", "encrypt", *vault, str(tmp_path / "vault.yml")], check=True, env=environment())
    assert KEY not in (tmp_path / "vault.yml").read_text()
    done = lab.migrate(
        "looper100", *vault, "-e", f"@{tmp_path}/vault.yml", "-vvv", "--diff", migration_keep_checkpoint=True
    )
    assert lab.running_on("looper100") == ["fog2"]
    assert KEY not in done.stdout + done.stderr
    for node in lab.servers():
        (kept,) = lab.module(node, "checkpoint_info", container="looper100")["checkpoints"]
        assert kept["encrypted"] and kept["intact"], kept
        assert lab.sh(node, f"grep -rla {secretive.secret} /var/lib/fog-migration || true") == ""
    lab.docker("fog2", "rm", "-f", "looper100")
    restored = lab.module("fog2", "container_restore", path=kept["path"], encryption_key=KEY)
    assert restored["changed"], restored
    wait_for(lambda: lab.running_on("looper100") == ["fog2"], "the container's return")
