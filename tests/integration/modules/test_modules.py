# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules by themselves: idempotence, check mode, what they return, and what they undo."""

from __future__ import annotations

import re

from support import checkpoints, daemons, programs
from support.lab import CHECKPOINTS, wait_for
from support.sequences import NATURALS, counted, end, naturals


def status(lab, node: str, name: str) -> str:
    """The state of a container."""
    return lab.inspect(node, name)["State"]["Status"]


def test_checkpoint_that_leaves_it_running(lab, way):
    lab.start("fog1", "looper100", NATURALS, "--restart", "always")
    first = {"container": "looper100", "name": "nightly", "leave_running": True}
    assert lab.task("fog1", "container_checkpoint", "--check", **first)["changed"]
    assert lab.sh("fog1", f"ls {CHECKPOINTS} 2>/dev/null || true") == ""
    result = lab.task("fog1", "container_checkpoint", **first)
    assert result["changed"]
    assert result["restart_policy_held"] is None
    assert 0 < result["statistics"]["frozen_time"] < 60_000_000
    assert result["statistics"]["pages_scanned"] >= result["statistics"]["pages_written"] > 0
    assert result["bytes_checkpoint"] > 4096 * result["statistics"]["pages_written"]
    assert result["manifest"]["container"]["name"] == "looper100"
    assert result["manifest"]["way"] == way
    assert status(lab, "fog1", "looper100") == "running"
    assert not lab.task("fog1", "container_checkpoint", **first)["changed"]
    assert lab.module("fog1", "container_checkpoint", force=True, **first)["changed"]
    numbers = [int(line) for line in end(lab, "fog1", "looper100")]
    assert numbers == naturals(len(numbers))
    absent = {"name": "nightly", "state": "absent"}
    assert lab.module("fog1", "container_checkpoint", **absent)["changed"]
    assert not lab.module("fog1", "container_checkpoint", **absent)["changed"]


def test_restart_policy_is_held_while_it_is_frozen(lab, way):
    lab.start("fog1", "phoenix", NATURALS, "--restart", "always")
    result = lab.module("fog1", "container_checkpoint", container="phoenix", name="c1")
    assert result["restart_policy_held"]["Name"] == "always"
    assert status(lab, "fog1", "phoenix") == "exited"
    lab.sh("fog1", "systemctl restart docker")
    assert status(lab, "fog1", "phoenix") == "exited"
    restore = {"path": result["path"]}
    assert lab.task("fog1", "container_restore", "--check", **restore)["changed"]
    assert status(lab, "fog1", "phoenix") == "exited"
    assert lab.task("fog1", "container_restore", **restore)["container"]["in_place"] == (way == "docker")
    assert lab.inspect("fog1", "phoenix")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert not lab.module("fog1", "container_restore", **restore)["changed"]
    older = lab.module("fog1", "container_checkpoint", container="phoenix", name="c1")
    assert older["failed"]
    # Through the runtime, another one has taken its place.
    assert ("was started again since" if way == "docker" else "is a checkpoint of another container") in older["msg"]
    assert status(lab, "fog1", "phoenix") == "running"


def test_many_checkpoints_of_one_container(lab, way):
    """Docker by itself fails one of the next after the container is dead: content sha256:... already exists."""
    lab.start("fog1", "often", NATURALS)
    for number in range(6):
        result = lab.module("fog1", "container_checkpoint", container="often", name=f"c{number}")
        assert not result["failed"], result["msg"]
        result = lab.module("fog1", "container_restore", path=result["path"])
        assert not result["failed"], result["msg"]
        # The first one was not made for our runtime.
        assert result["container"]["in_place"] == (way == "docker" or number > 0)
    numbers = [int(line) for line in end(lab, "fog1", "often")]
    assert numbers == naturals(len(numbers))


def test_clone_beside_the_original_and_back(lab, way):
    lab.start("fog1", "looper100", NATURALS)
    path = lab.module("fog1", "container_checkpoint", container="looper100", name="c1", leave_running=True)["path"]
    clone = {"path": path, "name": "looper100-clone"}
    result = lab.module("fog1", "container_restore", **clone)
    assert result["statistics"]["restore_time"] > 0
    assert status(lab, "fog1", "looper100-clone") == status(lab, "fog1", "looper100") == "running"
    counted(lab, "fog1", "looper100-clone", 5)
    assert lab.module("fog1", "container_restore", state="absent", **clone)["changed"]
    assert not lab.module("fog1", "container_restore", state="absent", **clone)["changed"]
    assert not lab.module("fog1", "container_restore", state="absent", path=path)["changed"]
    assert lab.running_on("looper100") == ["fog1"]
    assert lab.module("fog1", "container_restore", **clone)["changed"]


def test_files_are_of_the_same_instant_as_the_memory(lab, way):
    """With files that are newer, a clone would write numbers once more that are there already."""
    script = "n=0; while :; do echo $n >>/log; n=$((n + 1)); usleep 1000; done"
    lab.start("fog1", "looper100", script, "--volume", "/data")
    wait_for(lambda: int(lab.docker("fog1", "exec", "looper100", "wc", "-l", "/log").split()[0]) > 100, "some numbers")
    made = lab.module("fog1", "container_checkpoint", container="looper100", name="c1", leave_running=True)
    assert lab.module("fog1", "container_restore", path=made["path"], name="looper100-clone")["changed"]
    for name in ("looper100", "looper100-clone"):
        before = int(lab.docker("fog1", "exec", name, "wc", "-l", "/log").split()[0])
        again = ["exec", name, "wc", "-l", "/log"]
        wait_for(lambda again=again, before=before: int(lab.docker("fog1", *again).split()[0]) > before, "more numbers")
        numbers = [int(line) for line in lab.docker("fog1", "exec", name, "cat", "/log").split()]
        assert numbers == naturals(len(numbers))


def test_what_criu_cannot_dump_runs_on(lab, way):
    """An open file on a tmpfs that was deleted and is larger than CRIU carries is one of these things."""
    script = f"dd if=/dev/zero of=/tmp/big bs=1M count=40; exec 3</tmp/big; rm /tmp/big; {NATURALS}"
    lab.start("fog1", "ghost", script, "--restart", "always")
    counted(lab, "fog1", "ghost", 3)
    result = lab.module("fog1", "container_checkpoint", container="ghost", name="c1")
    assert result["failed"]
    assert "Checkpoint on fog1" in result["msg"]
    assert result["msg"].count("CRIU said") == 1
    assert "runs on as before" in result["msg"]
    assert "\n" not in result["msg"]
    assert result["criu_log"]
    assert status(lab, "fog1", "ghost") == "running"
    assert lab.inspect("fog1", "ghost")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    assert lab.traces("fog1") == []


def test_what_takes_the_place_of_a_stopped_container(lab):
    """Docker would start it with the runtime that it was made for: another one has all that it had."""
    script = f"echo here >/kept; {NATURALS} | tee /data/numbers /srv/numbers"
    options = ("--volume", "/data", "--volume", "named:/srv", "--restart", "on-failure")
    identity = lab.start("fog1", "keeper", script, *options)
    counted(lab, "fog1", "keeper", 10)
    before = lab.inspect("fog1", "keeper")
    made = lab.module("fog1", "container_checkpoint", container="keeper", name="c1")
    assert status(lab, "fog1", "keeper") == "exited"
    restored = lab.module("fog1", "container_restore", path=made["path"])
    assert restored["changed"] and not restored["container"]["in_place"], restored
    after = lab.inspect("fog1", "keeper")
    assert after["Id"] == restored["container"]["id"] != identity
    assert after["HostConfig"]["Runtime"] == "fog-runc"
    assert after["HostConfig"]["RestartPolicy"]["Name"] == "on-failure"
    volumes = [sorted(mount["Name"] for mount in one["Mounts"]) for one in (before, after)]
    assert volumes[0] == volumes[1]
    assert lab.docker("fog1", "ps", "-a", "--format", "{{.Names}}") == "keeper"
    assert lab.docker("fog1", "exec", "keeper", "cat", "/kept") == "here"
    counted(lab, "fog1", "keeper", len(lab.lines("fog1", "keeper")) + 10)
    numbers = [int(line) for line in end(lab, "fog1", "keeper")]
    assert numbers == naturals(len(numbers))
    for path in ("/data/numbers", "/srv/numbers"):
        written = lab.numbers("fog1", "keeper", path)
        assert written == naturals(len(written)) and len(written) > 10
    # From now on it is resumed itself.
    lab.docker("fog1", "start", "keeper")
    made = lab.module("fog1", "container_checkpoint", container="keeper", name="c2")
    assert lab.module("fog1", "container_restore", path=made["path"])["container"]["in_place"]
    lab.sh("fog1", "docker rm -fv keeper && docker volume rm named")


LOCKED = """
import fcntl, time
held = open("/lock", "w")
fcntl.flock(held, fcntl.LOCK_EX)
number = 0
while True:
    print(number)
    number += 1
    time.sleep(0.05)
"""
TRY_LOCK = """
import fcntl
try:
    fcntl.flock(open("/lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("free")
except BlockingIOError:
    print("held")
"""


def goes_on_locked(lab, path: str, name: str) -> None:
    """A clone is restored that counts on and holds its lock."""
    restored = lab.module("fog1", "container_restore", path=path, name=name)
    assert restored["changed"], restored
    counted(lab, "fog1", name, 5)
    assert lab.docker("fog1", "exec", name, *programs.COMMAND, TRY_LOCK) == "held"
    lab.docker("fog1", "rm", "-f", name)


def test_what_one_way_made_is_restored_by_the_other(lab):
    """A lock on a file is lost by Docker's own restore, unless CRIU's configuration tells of locks."""
    checkpoints.require_starts(lab, "fog1")
    programs.start(lab, "fog1", "locked", LOCKED)
    counted(lab, "fog1", "locked", 5)
    wanted = {"container": "locked", "leave_running": True}
    first = lab.module("fog1", "container_checkpoint", name="c1", **wanted)
    assert first["manifest"]["way"] == "runtime", first
    lab.sh("fog1", "cp /etc/criu/runc.conf /root/runc.conf; sed -i /file-locks/d /etc/criu/runc.conf")
    try:
        with daemons.without_runtime(lab, "fog1"):
            refused = lab.module("fog1", "container_restore", path=first["path"], name="clone")
            assert "locked holds locks on files, which would be lost here; nothing was changed" in refused["msg"]
            lab.sh("fog1", "echo file-locks >>/etc/criu/runc.conf")
            goes_on_locked(lab, first["path"], "clone")
            second = lab.module("fog1", "container_checkpoint", name="c2", **wanted)
            assert second["manifest"]["way"] == "docker", second
    finally:
        lab.sh("fog1", "mv /root/runc.conf /etc/criu/runc.conf")
    goes_on_locked(lab, second["path"], "clone")


def test_a_dump_that_takes_longer_than_allowed_is_left_at_it(lab):
    """Nothing is undone while the runtime still dumps: the container is paused, and runs on when somebody says so."""
    lab.start("fog1", "heavy", "x=$(head -c 96000000 /dev/urandom | base64); " + NATURALS)
    counted(lab, "fog1", "heavy", 3)
    result = lab.module("fog1", "container_checkpoint", container="heavy", name="c1", checkpoint_timeout=0)
    assert result["failed"]
    assert "has not finished the dump of heavy within 0 seconds" in result["msg"]
    assert "wait for its end and say docker unpause heavy" in result["msg"]
    assert status(lab, "fog1", "heavy") == "paused"
    wait_for(lambda: not lab.sh("fog1", "pgrep -f 'runc .*[c]heckpoint' || true"), "the end of the dump")
    lab.docker("fog1", "unpause", "heavy")
    numbers = [int(line) for line in end(lab, "fog1", "heavy")]
    assert numbers == naturals(len(numbers))


def test_docker_that_takes_longer_than_allowed_is_left_at_it(lab):
    """Undoing anything while Docker still dumps would lose the container: what Docker writes is kept."""
    checkpoints.require_starts(lab, "fog1")
    with daemons.without_runtime(lab, "fog1"):
        too_long_for_docker(lab)


def too_long_for_docker(lab) -> None:
    lab.start("fog1", "heavy", "x=$(head -c 96000000 /dev/urandom | base64); " + NATURALS)
    counted(lab, "fog1", "heavy", 3)
    result = lab.module("fog1", "container_checkpoint", container="heavy", name="c1", checkpoint_timeout=1)
    assert result["failed"]
    assert "has not finished the checkpoint of heavy within 1 seconds" in result["msg"]
    assert "\n" not in result["msg"]
    wait_for(lambda: status(lab, "fog1", "heavy") == "exited", "the end of the checkpoint")
    folder = re.findall(r"writes to ([^ ,]+)", result["msg"])[0]
    still = (
        f'before=$(du -s {folder}); sleep 2; [ "$before" = "$(du -s {folder})" ] && find {folder} -name inventory.img'
    )
    wait_for(lambda: lab.sh("fog1", still, check=False), "the end of Docker's writing")
    # What the message says can be done with it.
    container_folder = f"/var/lib/docker/containers/{lab.inspect('fog1', 'heavy')['Id']}/checkpoints"
    lab.sh("fog1", f"mkdir -p {container_folder} && mv {folder}/c1 {container_folder}/c1")
    lab.docker("fog1", "start", "--checkpoint", "c1", "heavy")
    numbers = [int(line) for line in end(lab, "fog1", "heavy")]
    assert numbers == naturals(len(numbers))
