# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks by somebody who has an account on a server: real processes and files of nobody's."""

from __future__ import annotations

import os
import stat
import subprocess
import time

import pytest
from destinations import NEEDS_ROOT
from fake_docker import ID, Docker
from runtimes import environment, runc_of

from ansible_collections.fog.migration.plugins.module_utils import recovery
from ansible_collections.fog.migration.plugins.module_utils.docker import checkpoint_layout
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal

pytestmark = NEEDS_ROOT

NOBODY = 65534
# It waits, with whatever words come behind it.
WAIT = "import os; os.setresuid({0}, {0}, {0}); print(1, flush=True); input()"


@pytest.fixture
def says(tmp_path):
    """C(says(user, verb)): a process called runc of this user, which says that it does this with the container."""
    started = []

    def says(user, verb):
        words = [runc_of(tmp_path), "-c", WAIT.format(user), "--root", "/run/docker/runtime-runc/moby", verb, ID]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(words, env=environment(), **pipes))
        assert started[-1].stdout.readline()
        return started[-1]

    yield says
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """The entry of a migration in the journal of its source, which nobody has settled."""
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    facts = {"id": "looper-1", "container": ID, "name": "looper", "source": "fog1", "destination": "fog2"}
    journal.open_entry({**facts, "role": "source", "mode": "cold", "directory": str(tmp_path / "made")})
    return journal.load("looper-1")


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_recovery_does_not_wait_for_who_lies_in_his_words(tmp_path, entry, says, verb):
    liar = says(NOBODY, verb)
    began = time.monotonic()
    recovery.quiesce(entry, Docker(tmp_path / "docker"), 30)
    assert time.monotonic() - began < 20
    assert liar.poll() is None


def test_recovery_waits_for_who_does_not_lie(tmp_path, entry, says):
    """The same process of root's is what it says, as far as anybody can tell."""
    says(0, "checkpoint")
    with pytest.raises(MigrationError, match="is still being dumped"):
        recovery.quiesce(entry, Docker(tmp_path / "docker"), 0)


@pytest.fixture
def temporary(tmp_path):
    """A folder in which anybody can make names, as F(/tmp)."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    for above in list(folder.parents)[:-2]:
        above.chmod(above.stat().st_mode | 0o711)
    return folder


MAKE = """
import os, sys
os.setresuid({0}, {0}, {0})
os.chdir(sys.argv[1])
os.mkdir("ctrd-checkpoint1", 0o700)
os.chdir("ctrd-checkpoint1")
os.mkfifo("inventory.img")
os.symlink("/dev/watchdog", "pages-1.img")
"""


def test_nobodys_folders_are_not_taken_for_containerds(tmp_path, temporary):
    """To open what is in them would wait for ever, or start a watchdog."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    for name in ("inventory.img", "pages-1.img"):
        (checkpoint / name).write_bytes(b"x" * 100)
    subprocess.run(["python3", "-c", MAKE.format(NOBODY), str(temporary)], check=True)
    looking = os.fork()
    if not looking:
        found = checkpoint_layout.remove_copies(str(checkpoint), [str(temporary)], 0)
        os._exit(len(found))
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(looking, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    if not ended[0]:
        os.kill(looking, 9)
        os.waitpid(looking, 0)
    assert ended == (looking, 0)
    assert stat.S_ISFIFO((temporary / "ctrd-checkpoint1" / "inventory.img").lstat().st_mode)
