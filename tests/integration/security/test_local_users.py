# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile users of a fog server, and hostile containers on it, beside migrations of others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.lab import IMAGE, wait_for
from support.sequences import NATURALS, counted

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"
NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"
# A program of nobody's that is called as a runtime, and has the words of one.
LIAR = """
cp "$(readlink -f "$(command -v python3)")" /var/tmp/runc && chmod 755 /var/tmp/runc
for verb in checkpoint restore; do
    setsid {nobody} /var/tmp/runc -c 'import time; time.sleep(600)' --root /run/docker/runtime-runc/moby $verb {id} \
        >/dev/null 2>&1 </dev/null &
done
"""


@pytest.fixture
def liars(lab) -> Iterator:
    """C(liars(ID)): a user and a container of each server say that they dump and restore this container."""

    def liars(identity: str) -> None:
        lab.copy_image()
        for node in lab.servers():
            lab.sh(node, LIAR.format(nobody=NOBODY, id=identity))
            for verb in ("checkpoint", "restore"):
                words = ["sh", "-c", "while :; do sleep 1; done", "runc", verb, identity]
                lab.docker(node, "run", "-d", "--name", f"liar-{verb}", IMAGE, *words)
            wait_for(lambda node=node: count_of(lab, node, identity) >= 4, "the liars")

    yield liars
    for node in lab.servers():
        lab.sh(node, "pkill -KILL -f '^/var/tmp/[r]unc'; rm -f /var/tmp/runc", check=False)


def count_of(lab, node: str, identity: str) -> int:
    """How many processes have the ID of this container among their words."""
    return int(lab.sh(node, f"pgrep -fc '(checkpoint|restore) {identity}' || true").strip())


def test_who_lies_in_his_words_does_not_hold_up_recovery(lab, start, liars):
    start(COUNTER, "--restart", "always")
    identity = lab.inspect("fog1", "mover")["Id"]
    lab.interrupt("Transfer the checkpoint to the destination", container="mover", migration_mode="cold")
    liars(identity)
    done = lab.playbook("recover.yml")
    assert "fog1, nothing is left over" in done.stdout
    assert lab.running_on("mover") == ["fog1"]
    # They have only said something.
    for node in lab.servers():
        assert count_of(lab, node, identity) >= 4


# Names that containerd would give, with what nobody should open: a FIFO, a watchdog, a file of root's.
PRE_MADE = """
{nobody} sh -c '
    umask 0
    for name in ctrd-checkpoint1 ctrd-checkpoint999; do
        mkdir /tmp/$name && mkfifo /tmp/$name/inventory.img
        ln -s /dev/watchdog /tmp/$name/pages-1.img && ln -s /etc/shadow /tmp/$name/core-1.img
    done'
"""
THEIRS = (
    "find /tmp -name 'ctrd-checkpoint*' -user 65534 -printf '%y %p %T@\\n' | sort; find /tmp/ctrd-checkpoint1 | sort"
)


@pytest.mark.parametrize("mode", ["cold", pytest.param("precopy", marks=pytest.mark.slow)])
def test_what_nobody_has_put_into_tmp_is_left_alone(lab, way, mode):
    """Nobody waits for the FIFO, and nothing of theirs is opened or removed."""
    if way == "docker" and mode != "cold":
        pytest.skip("live mode needs the runtime")
    before = {}
    for node in lab.servers():
        lab.sh(node, PRE_MADE.format(nobody=NOBODY))
        before[node] = lab.sh(node, THEIRS)
    lab.start("fog1", "looper100", NATURALS)
    counted(lab, "fog1", "looper100", 5)
    lab.migrate("looper100", migration_mode=mode)
    assert lab.running_on("looper100") == ["fog2"]
    for node in lab.servers():
        assert lab.sh(node, THEIRS) == before[node]
        lab.sh(node, "rm -rf /tmp/ctrd-checkpoint1 /tmp/ctrd-checkpoint999")
    lab.require_no_traces()
