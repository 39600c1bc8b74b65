# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source that says one thing to the preflight, and another one afterwards.

Its Docker lies: what it tells is changed on the way, to something of the same length, once the preflight is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from support import policy
from support.lab import failure, wait_for
from support.sequences import counted

pytestmark = pytest.mark.lab

SCRIPT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"
LIAR = """
import glob, os, socket, sys, threading

true, lie = (word.encode() for word in sys.argv[1:])
assert len(true) == len(lie)
server = socket.socket(socket.AF_UNIX)
server.bind("/run/docker.sock")
server.listen(64)


def is_judged():
    return bool(glob.glob("/var/lib/fog-migration/journal/*.json"))


def pass_on(source, target, change):
    held = b""
    while data := source.recv(1 << 16):
        held += data
        if change and is_judged():
            held = held.replace(true, lie)
        # What may be the begin of it, the rest of which has not come yet.
        keep = next((n for n in range(len(true) - 1, 0, -1) if held.endswith(true[:n])), 0) if change else 0
        target.sendall(held[: len(held) - keep])
        held = held[len(held) - keep :]
    target.sendall(held)
    target.shutdown(socket.SHUT_WR)


while True:
    client = server.accept()[0]
    docker = socket.socket(socket.AF_UNIX)
    docker.connect("/run/docker.real")
    for one, other, change in ((client, docker, False), (docker, client, True)):
        threading.Thread(target=pass_on, args=(one, other, change), daemon=True).start()
"""


@contextlib.contextmanager
def lying(lab, true: str, lie: str) -> Iterator[None]:
    """Docker on fog1 tells I(lie) in place of I(true) as soon as a migration is in the journal there."""
    assert len(true) == len(lie)
    lab.sh("fog1", f"cat >/root/liar.py <<'END'\n{LIAR}\nEND")
    lab.sh("fog1", "mv /run/docker.sock /run/docker.real")
    try:
        lab.sh("fog1", f"setsid python3 /root/liar.py '{true}' '{lie}' >/root/liar.log 2>&1 </dev/null &")
        wait_for(lambda: lab.docker("fog1", "ps", "-q", check=False), "a Docker that answers")
        yield
    finally:
        lab.sh(
            "fog1", "pkill -f '/root/liar[.]py'; mv /run/docker.real /run/docker.sock; rm -f /root/liar.*", check=False
        )


LIES = {
    "privileged": ('"Privileged":false', '"Privileged":true ', "other are HostConfig.Privileged"),
    "a key that nobody knows": ('"Isolation":""', '"Tomorrow_":1 ', "other are HostConfig.Tomorrow_"),
}


@pytest.mark.parametrize("mode", ["cold", "precopy"])
@pytest.mark.parametrize("what", LIES)
def test_what_is_not_allowed_after_it_was(lab, mode, what):
    true, lie, why = LIES[what]
    lab.start("fog1", "looper100", SCRIPT)
    counted(lab, "fog1", "looper100", 10)
    with lying(lab, true, lie):
        message = failure(lab.migrate("looper100", check=False, migration_mode=mode))
    assert why in message, message
    assert lab.running_on("looper100") == ["fog1"]
    assert "looper100" not in lab.docker("fog2", "ps", "-a", "--format", "{{.Names}}")
    lab.require_no_traces()


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_another_folder_than_the_one_that_was_judged(lab, mode):
    """Both may come by the policy; but of one, it was judged that nobody's files are in it."""
    said, real = "/srv/fog-data1", "/srv/fog-other"
    for node in lab.servers():
        lab.sh(node, f"mkdir -p {real} && echo sings >{real}/canary")
    lab.start("fog1", "looper100", SCRIPT, "-v", f"{said}:/data")
    counted(lab, "fog1", "looper100", 10)
    try:
        with policy.allowed(lab, "fog2", bind_folders=["/srv"]), lying(lab, said, real):
            failure(lab.migrate("looper100", check=False, migration_mode=mode, migration_binds="all"))
        assert lab.sh("fog2", f"ls {real}; cat {real}/canary") == "canary\nsings\n"
        assert lab.running_on("looper100") == ["fog1"]
        lab.require_no_traces()
    finally:
        for node in lab.servers():
            lab.sh(node, f"rm -rf {said} {real}")
