# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration is interrupted: who has the container is found out, and settled by recover.yml."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import checkpoints, daemons, programs
from support.lab import RUNTIME, failure, wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"


def during_the_restore(lab, script: str) -> threading.Thread:
    """Runs a script on fog2 as soon as a container is being restored there."""
    loop = f"while ! pgrep -f 'runc .*[r]estore' >/dev/null; do sleep 0.02; done; {script}"
    thread = threading.Thread(target=lab.sh, args=("fog2", f'timeout 120 sh -c "{loop}"'), kwargs={"check": False})
    thread.start()
    return thread


def lives_on(lab, node: str, followed=None) -> None:
    assert lab.running_on("mover") == [node]
    seen = len(lab.lines(node, "mover"))
    wait_for(lambda: len(lab.lines(node, "mover")) > seen + 5, f"more lines on {node}")
    numbers = [int(line) for line in (followed.lines() if followed else []) + lab.lines(node, "mover")]
    assert numbers == list(range(len(numbers)))
    assert lab.inspect(node, "mover")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    lab.require_no_traces()


@pytest.mark.parametrize("mode", ["cold"])
def test_connection_lost_during_the_restore(lab, start, mode):
    """The restore goes on at the destination without anybody listening; it has the container then."""
    start(COUNTER, "--restart", "always")
    followed = lab.follow("fog1", "mover")
    cutter = during_the_restore(lab, "pkill -KILL sshd-session")
    done = lab.migrate("mover", migration_mode=mode)
    cutter.join()
    assert "mover runs at fog2, nothing is left over" in done.stdout
    lives_on(lab, "fog2", followed)


def test_destination_lost_at_the_worst_moment(lab, start):
    """Nobody can say whether it runs there: it stays frozen at the source, and recover.yml settles it afterwards."""
    start(COUNTER, "--restart", "always")
    followed = lab.follow("fog1", "mover")
    rule = "INPUT -p tcp --dport 22 -j DROP"
    cutter = during_the_restore(lab, f"iptables -I {rule}; pkill -KILL sshd-session")
    try:
        message = failure(lab.migrate("mover", check=False, migration_mode="cold"))
        cutter.join()
        assert "mover stays as it is, since only fog2 can say whether it runs there" in message
        assert "When fog2 is back, settle it with ansible-playbook recover.yml" in message
        assert lab.inspect("fog1", "mover")["State"]["Status"] == "paused"
        waiting = failure(lab.playbook("recover.yml", check=False))
        assert "mover stays as it is" in waiting
    finally:
        lab.sh("fog2", f"iptables -D {rule}")
    wait_for(lambda: "fog2" in lab.running_on("mover"), "the restore that went on at fog2")
    done = lab.playbook("recover.yml")
    assert "mover runs at fog2, nothing is left over" in done.stdout
    lives_on(lab, "fog2", followed)
    assert "No migration is open" in lab.playbook("recover.yml").stdout


@contextlib.contextmanager
def destination_dies(lab, place: str):
    """Its end is killed when our runtime comes to a place in its script while a container is restored."""
    kill = "cut -d' ' -f1 /run/fog-migration/transfer-*/pid | xargs kill -KILL"
    kept = lab.sh("fog2", f"cat {RUNTIME}")
    assert kept.count(place) == 1
    lab.sh("fog2", f"cat >{RUNTIME} <<'END'\n{kept.replace(place, f'{kill}; {place}')}\nEND")
    try:
        yield
    finally:
        lab.sh("fog2", f"cat >{RUNTIME} <<'END'\n{kept.rstrip()}\nEND")


@pytest.mark.parametrize(
    ("place", "mode", "node"),
    [
        ("echo held 1<>", "precopy", "fog1"),
        ("echo held 1<>", "postcopy", "fog1"),
        ("echo running 1<>", "precopy", "fog2"),
    ],
    ids=["before the looks", "before the looks, postcopy", "after the looks"],
)
def test_the_destination_dies_when_all_is_restored(lab, start, place, mode, node):
    """What nobody has looked at does not run; what was looked at goes on there. There is one copy, and nothing left."""
    start(COUNTER, "--restart", "always")
    followed = lab.follow("fog1", "mover")
    # A CRIU that was killed in an earlier test may have left its own.
    mounts = lab.sh("fog2", "grep criu-root /proc/mounts", check=False)
    with destination_dies(lab, place):
        done = lab.migrate("mover", check=False, migration_mode=mode)
        settled = done.stdout + lab.playbook("recover.yml").stdout
    assert f"{node}, nothing is left over" in settled, settled
    lives_on(lab, node, followed if node == "fog2" else None)
    assert lab.sh("fog2", "grep criu-root /proc/mounts", check=False) == mounts
    assert lab.sh("fog2", "ls /run/fog-migration/runtime", check=False) == ""


@pytest.mark.parametrize(
    ("mode", "task", "node"),
    [
        ("precopy", "Stage 1, reservation, prepare and arm the destination", "fog1"),
        ("precopy", "Stage 4, commitment", "fog2"),
        ("cold", "Transfer the checkpoint to the destination", "fog1"),
        ("cold", "Commit", "fog2"),
    ],
)
def test_the_controller_dies(lab, start, mode, task, node):
    start(COUNTER, "--restart", "always")
    followed = lab.follow("fog1", "mover")
    lab.interrupt(task, container="mover", migration_mode=mode)
    # Until it is settled, it is nobody else's.
    if lab.running_on("mover") == ["fog1"]:
        message = failure(lab.migrate("mover", check=False))
        assert "was interrupted in the stage" in message
        assert "settle it with ansible-playbook recover.yml" in message
    done = lab.playbook("recover.yml")
    assert f"{node}, nothing is left over" in done.stdout
    # What has never ended at the source has all of its log there.
    lives_on(lab, node, followed if node == "fog2" else None)


@pytest.mark.parametrize("by_docker", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_has_ended_at_the_source_goes_on_from_its_checkpoint(lab, start, by_docker):
    """As after a start of its server: through our runtime, another container takes its place."""
    without = ["fog1"] if by_docker else []
    checkpoints.require_starts(lab, *without)
    with daemons.without_runtime(lab, *without):
        start(COUNTER, "--restart", "always")
        identity = lab.inspect("fog1", "mover")["Id"]
        lab.interrupt("Transfer the checkpoint to the destination", container="mover", migration_mode="cold")
        if not by_docker:
            lab.sh("fog1", "kill -KILL $(docker inspect --format '{{.State.Pid}}' mover); docker unpause mover")
        wait_for(lambda: lab.inspect("fog1", "mover")["State"]["Status"] == "exited", "the end of the container")
        done = lab.playbook("recover.yml")
        assert "mover was resumed and runs at fog1, nothing is left over" in done.stdout
        assert (lab.inspect("fog1", "mover")["Id"] == identity) == by_docker
        lives_on(lab, "fog1")


def test_one_migration_at_a_time(lab, start):
    start(COUNTER + " & x=$(head -c 30000000 /dev/urandom | base64); wait", "--restart", "always")
    followed = lab.follow("fog1", "mover")
    first = threading.Thread(target=lab.migrate, args=("mover",), kwargs={"migration_rate_limit": 2})
    first.start()
    wait_for(
        lambda: "journal" in lab.sh("fog1", "ls -d /var/lib/fog-migration/journal/*.json", check=False), "its begin"
    )
    # Side by side, so that both come while the first one still sends.
    with ThreadPoolExecutor() as pool:
        recovery = pool.submit(lab.playbook, "recover.yml", check=False)
        message = failure(lab.migrate("mover", check=False))
        settled = failure(recovery.result())
    assert "is under way" in message
    assert "nothing was changed" in message or "is as it was" in message
    assert "is under way, since the playbook that moves it still runs" in settled
    first.join()
    lives_on(lab, "fog2", followed)


def test_what_is_let_go_of_never_runs_again(lab):
    """The children of a container outlive its first process by a moment, which is enough for them to write."""
    identity = programs.start(lab, "fog1", "twin", programs.FAMILY.replace("0.05", "0.0001"))
    wait_for(lambda: len(lab.lines("fog1", "twin")) > 1000, "many numbers")
    followed = lab.follow("fog1", "twin")
    lab.docker("fog1", "pause", "twin")
    written = lab.lines("fog1", "twin")
    facts = {"container": identity, "name": "twin", "source": "fog1", "destination": "fog2", "mode": "precopy"}
    journal = {"id": "twin-1", "state": "open", "role": "source", **facts}
    assert lab.task("fog1", "migration_journal", **journal)["changed"]
    assert not lab.task("fog1", "migration_journal", **journal)["changed"]
    refused = lab.task("fog1", "migration_journal", **{**journal, "id": "twin-2"})
    assert refused["failed"] and "is under way" in refused["msg"] and refused["other"]["id"] == "twin-1"
    assert lab.module("fog1", "migration_journal", check_mode=True, id="twin-1", state="finished")["changed"]
    refused = lab.module("fog1", "migration_journal", id="twin-1", state="finished")
    assert refused["failed"] and "does not let the migration twin-1 go from reservation" in refused["msg"]
    assert lab.module("fog1", "migration_info")["migrations"][0]["now"]["container"] == "paused"
    handover = {"id": "twin-1", "state": "noted", "stage": "handover", "owner": "in_doubt"}
    assert lab.module("fog1", "migration_journal", **handover)["changed"]
    assert lab.module("fog1", "migration_journal", id="twin-1", state="finished")["changed"]
    assert followed.lines() == written
    assert not lab.module("fog1", "migration_journal", id="twin-1", state="finished")["changed"]
    assert lab.docker("fog1", "ps", "-aq") == ""
