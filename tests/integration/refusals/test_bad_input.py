# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot work is said in one sentence, the container goes on where it was, and nothing is left over.

Most of what the preflight refuses is in C(test_recorded.py).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading

import pytest

from support.checkpoints import forge_manifest, why_not_started
from support.daemons import not_experimental, without_runtime
from support.lab import CHECKPOINTS, PLAYBOOKS, environment, failure, wait_for
from support.sequences import NATURALS, counted, end, naturals


@pytest.fixture
def looper(lab):
    """A counter on fog1 that has to be unharmed after the test.

    It is the same container then, no number is missing, and there is no trace anywhere.
    """
    identity = lab.start("fog1", "looper100", NATURALS)
    counted(lab, "fog1", "looper100", 5)
    yield identity
    assert lab.running_on("looper100") == ["fog1"]
    assert lab.inspect("fog1", "looper100")["Id"] == identity
    seen = len(lab.lines("fog1", "looper100"))
    counted(lab, "fog1", "looper100", seen + 5)
    numbers = [int(line) for line in end(lab, "fog1", "looper100")]
    assert numbers == naturals(len(numbers))
    assert [lab.traces(node) for node in lab.servers()] == [[], []]


def one_sentence(message: str, *parts: str) -> None:
    """The message is one paragraph that names all of I(parts)."""
    assert "\n" not in message.strip()
    for part in parts:
        assert part in message, message


def test_no_container_named(lab, looper):
    one_sentence(failure(lab.playbook("migrate.yml", check=False)), "say -e container=NAME")
    one_sentence(failure(lab.migrate("a/b", check=False)), "say -e container=NAME")
    several = {"containers": "looper100,other", "new_name": "another"}
    one_sentence(
        failure(lab.playbook("migrate.yml", check=False, **several)), "those that move together keep their names"
    )


def test_paused_container(lab):
    lab.start("fog1", "paused", NATURALS)
    lab.docker("fog1", "pause", "paused")
    one_sentence(failure(lab.migrate("paused", check=False)), "docker unpause paused")
    assert lab.inspect("fog1", "paused")["State"]["Status"] == "paused"


def test_unreachable_destination(lab, looper, tmp_path):
    network = lab.hostvars["fog1"]["ansible_host"].rsplit(".", 1)[0]
    inventory = tmp_path / "more.yml"
    inventory.write_text(json.dumps({"fog_servers": {"hosts": {"fog9": {"ansible_host": f"{network}.99"}}}}))
    words = ["-i", str(PLAYBOOKS / "../inventories/lab"), "-i", str(inventory)]
    message = failure(lab.migrate("looper100", *words, destination="fog9", check=False))
    one_sentence(message, "the destination fog9 cannot be reached")


def test_source_not_experimental(lab):
    with not_experimental(lab, "fog1"), without_runtime(lab, "fog1"):
        lab.start("fog1", "looper100", NATURALS)
        message = failure(lab.migrate("looper100", check=False, migration_mode="cold"))
        assert lab.running_on("looper100") == ["fog1"]
        result = lab.module("fog1", "container_checkpoint", container="looper100", name="c1")
        one_sentence(result["msg"], "Checkpoint on fog1", "experimental mode", "nothing was changed")
    one_sentence(message, "experimental")


@pytest.mark.parametrize("node", ["fog1", "fog2"])
def test_a_docker_that_starts_from_no_checkpoint(lab, looper, node):
    """Nothing would bring a container back there that has ended with its checkpoint: that is known beforehand."""
    why = why_not_started(lab, node)
    if not why:
        pytest.skip("NOT TESTED: this Docker starts containers from checkpoints")
    with without_runtime(lab, node):
        message = failure(lab.migrate("looper100", check=False, migration_mode="cold"))
        if node == "fog1":
            made = lab.module("fog1", "container_checkpoint", container="looper100", name="c1")
            one_sentence(made["msg"], why, "nothing was changed")
    one_sentence(message, why)
    assert lab.running_on("looper100") == ["fog1"]


@pytest.mark.parametrize("node", [pytest.param("fog1", marks=pytest.mark.slow), "fog2"])
def test_criu_missing(lab, looper, node):
    path = lab.sh(node, "command -v criu").strip()
    lab.sh(node, f"mv {path} {path}.away")
    try:
        message = failure(lab.migrate("looper100", check=False))
    finally:
        lab.sh(node, f"mv {path}.away {path}")
    one_sentence(message, "criu is not installed")


@contextlib.contextmanager
def without_limits(lab, node: str):
    """A node without the library by which the lab's nodes read the limits of other users' processes."""
    lab.sh(node, "[ ! -e /etc/ld.so.preload ] || mv /etc/ld.so.preload /root/")
    try:
        yield
    finally:
        lab.sh(node, "[ ! -e /root/ld.so.preload ] || mv /root/ld.so.preload /etc/")


def test_process_of_another_user_where_criu_may_not_dump_it(lab):
    if int(lab.sh("fog1", "grep CapEff /proc/1/status").split()[1], 16) >> 24 & 1:
        pytest.skip("NOT TESTED: root has CAP_SYS_RESOURCE on this machine, so nothing is in the way")
    lab.start("fog1", "other-user", NATURALS, "--user", "1000:1000")
    with without_limits(lab, "fog1"):
        message = failure(lab.migrate("other-user", check=False))
    one_sentence(message, "CAP_SYS_RESOURCE", "the container runs on as before")
    assert lab.running_on("other-user") == ["fog1"]


@pytest.mark.parametrize("name", ["c", "a/b", "../up", ""])
def test_names_of_checkpoints_that_docker_refuses(lab, looper, name):
    result = lab.module("fog1", "container_checkpoint", container="looper100", name=name)
    assert result["failed"]
    one_sentence(result["msg"], "Checkpoint on fog1", "refused by Docker", "nothing was changed")


@contextlib.contextmanager
def small_disk(lab, node: str, size: str):
    """A destination whose folder for checkpoints is this small."""
    lab.sh(node, f"mkdir -p {CHECKPOINTS} && mount -t tmpfs -o size={size},mode=700 tmpfs {CHECKPOINTS}")
    try:
        yield
    finally:
        lab.sh(node, f"umount {CHECKPOINTS}")


def test_full_disk_at_the_destination(lab, looper):
    with small_disk(lab, "fog2", "64k"):
        message = failure(lab.migrate("looper100", check=False, migration_mode="cold"))
        one_sentence(message, "needed at the destination", "nothing was changed")
        ignore = {"migration_ignore": ["space_destination"]}
        message = failure(lab.migrate("looper100", check=False, migration_mode="cold", **ignore))
        one_sentence(message, "fog2", "looper100 was resumed and runs at fog1")
        assert lab.sh("fog2", f"ls -A {CHECKPOINTS}") == ""


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_connection_cut_in_mid_transfer(lab, mode):
    ballast = "x=$(head -c 24000000 /dev/urandom | base64); "
    identity = lab.start("fog1", "heavy", ballast + NATURALS)
    counted(lab, "fog1", "heavy", 5)
    over = threading.Event()

    def cut() -> None:
        """Kills every connection of the transfer from when it is under way, but none that only tries the way."""
        ours = "-f 'ss[h] .*fog-migration'"
        lab.sh("fog1", f'timeout 120 sh -c "until pgrep --older 2 {ours}; do sleep 0.1; done"', check=False)
        while not over.is_set():
            lab.sh("fog1", f"pkill -KILL {ours}; sleep 0.5", check=False)

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        slowly = {"migration_rate_limit": 4, "migration_compression": "none"}
        message = failure(lab.migrate("heavy", check=False, migration_mode=mode, **slowly))
    finally:
        over.set()
        cutter.join()
    how = "heavy was resumed and runs at fog1" if mode == "cold" else "heavy runs on as before at fog1"
    one_sentence(message, "fog2", how)
    assert lab.running_on("heavy") == ["fog1"]
    assert lab.inspect("fog1", "heavy")["Id"] == identity
    numbers = [int(line) for line in end(lab, "fog1", "heavy")]
    assert numbers == naturals(len(numbers))
    assert [lab.traces(node) for node in lab.servers()] == [[], []]


@pytest.fixture
def checkpoint(lab):
    """The path of a checkpoint of a counter that was frozen by its user's wish."""
    lab.start("fog1", "frozen", NATURALS)
    counted(lab, "fog1", "frozen", 5)
    return lab.module("fog1", "container_checkpoint", container="frozen", name="c1")["path"]


def unharmed(lab, checkpoint: str) -> None:
    """The checkpoint is intact, its container is stopped, nothing else is there, and it can still be resumed."""
    (found,) = lab.module("fog1", "checkpoint_info", name="c1")["checkpoints"]
    assert found["intact"]
    assert lab.docker("fog1", "ps", "-a", "--format", "{{.Names}} {{.State}}") == "frozen exited"
    assert not [trace for trace in lab.traces("fog1") if not trace.startswith("/var/lib/fog-migration/checkpoints/c")]
    assert lab.module("fog1", "container_restore", path=checkpoint)["changed"]
    numbers = [int(line) for line in end(lab, "fog1", "frozen")]
    assert numbers == naturals(len(numbers))


DAMAGE = {
    "truncated": "truncate -s 4096 {copy}/criu/pages-1.img",
    "bit-flipped": "printf '\\377' | dd of={copy}/criu/pages-1.img bs=1 seek=5000 conv=notrunc",
    "file missing": "rm {copy}/container.json",
    "manifest missing": "rm {copy}/manifest.json",
    "not a manifest": "echo hello > {copy}/manifest.json",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoint_is_refused(lab, checkpoint, damage):
    copy = f"{CHECKPOINTS}/copy"
    lab.sh("fog1", f"cp -a {checkpoint} {copy} && {DAMAGE[damage].format(copy=copy)}")
    result = lab.module("fog1", "container_restore", path=copy, name="clone")
    assert result["failed"]
    one_sentence(result["msg"], "Restore on fog1", copy)
    unharmed(lab, checkpoint)


def test_restore_that_hangs_is_killed_and_leaves_nothing(lab, checkpoint):
    """A truncated image under a manifest that fits it: CRIU itself reads beyond the end, for ever."""
    copy = f"{CHECKPOINTS}/copy"
    lab.sh("fog1", f"cp -a {checkpoint} {copy} && {DAMAGE['truncated'].format(copy=copy)}")
    forge_manifest(lab, "fog1", copy)
    result = lab.module("fog1", "container_restore", path=copy, name="clone", restore_timeout=10)
    assert result["failed"]
    one_sentence(result["msg"], "Restore on fog1", "clone could not be restored", "nothing of it is left on this host")
    wait_for(lambda: not lab.sh("fog1", "pgrep criu || true"), "the end of criu", 20)
    unharmed(lab, checkpoint)


def test_the_daemon_cannot_be_reached(lab):
    result = lab.module("fog1", "server_info", docker_host="unix:///nowhere.sock")
    assert result["failed"]
    one_sentence(result["msg"], "Info on fog1", "unix:///nowhere.sock cannot be reached", "nothing was changed")


def test_ansible_playbook_itself_is_quiet_about_tracebacks(lab):
    done = subprocess.run(
        ["ansible", "fog1", "-m", "fog.migration.container_restore", "-a", "path=/nowhere", "-vvv"],
        cwd=PLAYBOOKS,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode
    assert "there is no checkpoint at /nowhere" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
