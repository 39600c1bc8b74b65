# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU is killed in a dump or a restore: the container runs on at the source as before, and its connections with it."""

from __future__ import annotations

import pytest

from support import criu_step, programs
from support.lab import failure, wait_for
from support.peer import Peers

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not criu_step.compiler(), reason="NOT TESTED: this machine has no C compiler"),
]

LOCK, CONNECTION = "CRIU's network lock in ", "1 connection in repair mode"
# What each step leaves. At the others, the images are complete, and it moves.
LEFT = {"frozen": [], "locked": [LOCK], "connections": [LOCK, CONNECTION], "written": [LOCK, CONNECTION]}
UNDONE = "what a dump had left was undone: "


@pytest.fixture
def client(lab):
    """A client of the container on fog1, with one connection, on which nothing may be lost."""
    programs.start(lab, "fog1", "mover", programs.ECHO + "echo()\n", "--restart", "always")
    address = lab.inspect("fog1", "mover")["NetworkSettings"]["IPAddress"]
    wait_for(lambda: "listening" in lab.lines("fog1", "mover"), "its port")
    peers = Peers(lab, "fog1", f"{address}:7001")
    peers.require_more()
    return peers


def goes_on(lab, client) -> None:
    """The container runs at fog1 as before, and its client has noticed a pause."""
    assert lab.running_on("mover") == ["fog1"]
    client.require_more()
    assert [one["problem"] for one in client.end()["connections"]] == [None]
    found = lab.module("fog1", "container_repair", check_mode=True, container="mover")
    assert (found["failed"], found["changed"], found["note"]) == (False, False, "")
    assert lab.inspect("fog1", "mover")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert not lab.inspect("fog1", "mover")["State"]["Paused"]
    lab.require_no_traces()


@pytest.mark.parametrize(
    "mode", ["precopy", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("postcopy", "cold"))]
)
@pytest.mark.parametrize("step", LEFT)
def test_criu_is_killed_in_a_dump(lab, client, step, mode):
    criu_step.install(lab, "fog1", criu_step.DUMP[step])
    try:
        message = failure(lab.migrate("mover", check=False, migration_mode=mode))
    finally:
        lab.sh("fog1", criu_step.REMOVE)
    subject = "the container" if mode == "cold" else "it"
    assert (f"{subject} runs on as before" in message) == (not LEFT[step])
    assert all(noun in message.partition(UNDONE)[2] for noun in LEFT[step]), message
    # What recovery has looked at once more.
    assert message.endswith("mover runs on as before at fog1, nothing is left over.")
    goes_on(lab, client)


@pytest.mark.parametrize("step", sorted(set(criu_step.DUMP) - set(LEFT)))
def test_criu_is_killed_when_it_has_dumped(lab, client, step):
    """It moves: all that is left is left in what is removed. On Docker's bridge, no connection does."""
    criu_step.install(lab, "fog1", criu_step.DUMP[step])
    try:
        done = lab.migrate("mover", check=False)
    finally:
        lab.sh("fog1", criu_step.REMOVE)
    if done.returncode:
        # The runtime has ended before it was seen that the images are complete.
        assert failure(done).endswith("mover runs on as before at fog1, nothing is left over.")
        goes_on(lab, client)
    else:
        assert lab.running_on("mover") == ["fog2"]
        client.process.kill()
        lab.require_no_traces()


@pytest.mark.parametrize("step", ["complete", pytest.param("unlocked", marks=pytest.mark.slow)])
def test_what_a_dump_has_left_is_undone_when_the_destination_refuses(lab, client, step):
    """It has stood still since."""
    criu_step.install(lab, "fog1", criu_step.DUMP[step])
    criu_step.install(lab, "fog2", criu_step.RESTORE["begun"])
    try:
        message = failure(lab.migrate("mover", check=False))
    finally:
        for node in lab.servers():
            lab.sh(node, criu_step.REMOVE)
    assert message.endswith("mover runs on as before at fog1, nothing is left over.")
    goes_on(lab, client)


@pytest.mark.parametrize("step", ["begun", "restored", "held"])
def test_criu_is_killed_in_a_restore(lab, client, step):
    criu_step.install(lab, "fog2", criu_step.RESTORE[step])
    try:
        message = failure(lab.migrate("mover", check=False))
    finally:
        lab.sh("fog2", criu_step.REMOVE)
    assert "it runs on as before" in message
    assert message.endswith("mover runs on as before at fog1, nothing is left over.")
    goes_on(lab, client)


def test_recovery_undoes_what_an_earlier_failure_has_left(lab, client):
    """No migration is open: the container is named, and nothing is done to it a second time."""
    criu_step.kill_in_dump(lab, "fog1", "mover", "written")
    before = client.seen()
    looked = lab.module("fog1", "container_repair", check_mode=True, container="mover")
    assert looked["changed"] and LOCK in looked["note"] and CONNECTION in looked["note"]
    assert not lab.module("fog2", "container_repair", container="mover")["runs"]
    done = lab.playbook("recover.yml", container="mover")
    assert f"mover runs on at fog1 ({UNDONE}{LOCK}" in done.stdout and CONNECTION in done.stdout
    wait_for(lambda: client.seen()[0]["numbers"] > before[0]["numbers"], "more numbers")
    assert "mover runs on as before at fog1." in lab.playbook("recover.yml", container="mover").stdout
    goes_on(lab, client)


@pytest.mark.parametrize("paused", [True, False])
def test_recovery_undoes_what_its_migration_has_left(lab, client, paused):
    """The programs of the migration have died with CRIU: only the journal knows of it."""
    identity = lab.inspect("fog1", "mover")["Id"]
    facts = {"container": identity, "name": "mover", "source": "fog1", "destination": "fog2", "mode": "precopy"}
    assert lab.task("fog1", "migration_journal", id="mover-1", state="open", role="source", **facts)["changed"]
    if paused:
        lab.docker("fog1", "pause", "mover")
    criu_step.kill_in_dump(lab, "fog1", "mover", "written")
    refused = lab.module("fog1", "container_repair", container="mover")
    assert refused["failed"] and "recover.yml" in refused["msg"]
    done = lab.playbook("recover.yml")
    said = "was resumed and runs" if paused else "runs on"
    assert f"mover {said} at fog1 ({UNDONE}{LOCK}" in done.stdout and CONNECTION in done.stdout
    assert "nothing is left over" in done.stdout
    goes_on(lab, client)
