# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(migrate.yml) in live mode: real containers that hardly notice."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from support import programs
from support.churn import CHURN, churn_line
from support.lab import RUNTIME, failure, wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"
WRITER = "n=0; while :; do echo $n; echo $n >/file; n=$((n+1)); sleep 0.05; done"


@pytest.fixture
def slow_link(lab):
    """C(slow_link(rate)) makes the way from fog1 slow."""
    yield lambda rate: lab.sh("fog1", f"tc qdisc add dev eth0 root tbf rate {rate} burst 256kb latency 400ms")
    lab.sh("fog1", "tc qdisc del dev eth0 root", check=False)


def goes_on(lab, node: str) -> list[int]:
    """The numbers at the beginnings of the lines of a container that goes on."""
    seen = len(lab.lines(node, "mover"))
    wait_for(lambda: len(lab.lines(node, "mover")) > seen + 5, f"more lines on {node}")
    return [int(line.split()[0]) for line in lab.lines(node, "mover")]


def without_traces(lab) -> None:
    """Both ends remove themselves, a moment after they have answered."""
    lab.docker(lab.running_on("mover")[0], "rm", "-f", "mover")
    lab.require_no_traces()


# Every mode is tried with the generators of test_migrate.py and with every page below.
SLOW = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("precopy", "postcopy")]


@pytest.mark.parametrize("mode", [*SLOW, "hybrid"])
def test_there_and_back(lab, start, mode):
    start(CHURN, "--restart", "unless-stopped", "--memory", "256m", "--label", "a=b", "--env", "SECRET=x")
    followed = lab.follow("fog1", "mover")
    before = lab.inspect("fog1", "mover")
    there = lab.migrate("mover", migration_mode=mode)
    assert f"mover moved from fog1 to fog2 ({mode})" in there.stdout
    assert lab.running_on("mover") == ["fog2"]
    here = followed.lines()
    numbers = [*(int(line.split()[0]) for line in here), *goes_on(lab, "fog2")]
    assert numbers == list(range(len(numbers)))
    lines = lab.lines("fog2", "mover")
    for line in (lines[0], lines[1], lines[-1]):
        assert line == churn_line(int(line.split()[0]))

    # As it was, in control groups and with a policy of its own.
    after = lab.inspect("fog2", "mover")
    for key in ("Memory", "RestartPolicy", "NetworkMode", "Binds"):
        assert after["HostConfig"][key] == before["HostConfig"][key], key
    assert after["HostConfig"]["Runtime"] == "fog-runc"
    assert (after["Config"]["Env"], after["Config"]["Labels"]) == (before["Config"]["Env"], before["Config"]["Labels"])

    # Without a wish, by pre-copy.
    back = lab.migrate("mover")
    assert "mover moved from fog2 to fog1 (precopy)" in back.stdout
    assert "both servers are prepared for live migration" in back.stdout
    assert lab.running_on("mover") == ["fog1"]
    goes_on(lab, "fog1")
    line = lab.lines("fog1", "mover")[-2]
    assert line == churn_line(int(line.split()[0]))
    without_traces(lab)


@pytest.mark.parametrize("mode", ["precopy", "postcopy"])
def test_every_page(lab, mode):
    """256 MiB of which a tenth is always being written: each page is found as it was left, in several passes."""
    check_every_page(lab, migration_mode=mode)


def test_every_page_by_the_disk_and_a_slow_link(lab, slow_link):
    """The same in hybrid mode where memory is short, and compressed."""
    slow_link("400mbit")
    told = check_every_page(lab, migration_mode="hybrid", migration_staging_limit=1)
    for where in ("source", "destination"):
        assert re.search(rf"on disk at the {where}: [0-9]+ MiB are more than the limit of 1 MiB", told), told
    assert "MiB/s, zlib)" in told


def check_every_page(lab, **extra) -> str:
    """Moves the memory checker; what the playbook says."""
    programs.start(lab, "fog1", "mover", programs.MEMORY_CHECKER)
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 3, "the first passes")
    done = lab.migrate("mover", **extra)
    if extra["migration_mode"] != "postcopy":
        assert re.search(r"pre-copy .* rounds? by [a-z ]+: 2[5-9][0-9]\.[0-9] MiB", done.stdout), done.stdout
    begun = len(lab.lines("fog2", "mover"))
    wait_for(lambda: len(lab.lines("fog2", "mover")) > begun + 3, "whole passes at the destination")
    lines = [*lab.lines("fog2", "mover")]
    assert {line.split()[1] for line in lines} == {"0"}
    without_traces(lab)
    return done.stdout


@pytest.mark.parametrize("mode", [*SLOW, "hybrid"])
def test_processes_threads_and_what_they_share(lab, mode):
    programs.start(lab, "fog1", "mover", programs.FAMILY)
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 50, "the first numbers")
    followed = lab.follow("fog1", "mover")
    lab.migrate("mover", migration_mode=mode)
    begun = len(lab.lines("fog2", "mover"))
    wait_for(lambda: len(lab.lines("fog2", "mover")) > begun + 50, "more numbers")
    counts: dict[str, list[int]] = {}
    for line in [*followed.lines(), *lab.lines("fog2", "mover")]:
        process, thread, number, shared = line.split()
        assert number == shared
        counts.setdefault(f"{process} {thread}", []).append(int(number))
    assert len(counts) == 9
    for numbers in counts.values():
        assert numbers == list(range(len(numbers)))
    without_traces(lab)


def test_faster_than_the_link(lab, slow_link):
    """Rounds that do not become smaller are given up, and what is left is sent while the container stands still."""
    programs.start(lab, "fog1", "mover", programs.RESTLESS)
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 3, "the first numbers")
    followed = lab.follow("fog1", "mover")
    slow_link("160mbit")
    done = lab.migrate("mover", migration_mode="precopy")
    assert "the rounds do not become smaller any more" in done.stdout
    # It is told while it goes on.
    assert re.search(r"fog1 -> fog2: round [0-9]+, [0-9]+ % of [0-9.]+ MiB", done.stdout), done.stdout
    begun = len(lab.lines("fog2", "mover"))
    wait_for(lambda: len(lab.lines("fog2", "mover")) > begun + 3, "more numbers")
    numbers = [int(line) for line in [*followed.lines(), *lab.lines("fog2", "mover")]]
    assert numbers == list(range(len(numbers)))
    without_traces(lab)


def memory_limit(lab) -> int:
    """What the control group of the moved container's process allows on fog2."""
    pid = lab.inspect("fog2", "mover")["State"]["Pid"]
    groups = lab.sh("fog2", f"cat /proc/{pid}/cgroup").splitlines()
    path = next((one for one in groups if ":memory:" in one), groups[-1]).rpartition(":")[2]
    files = f"/sys/fs/cgroup{path}/memory.max /sys/fs/cgroup/memory{path}/memory.limit_in_bytes"
    return int(lab.sh("fog2", f"cat {files} 2>/dev/null || true"))


def test_docker_owns_it(lab, start):
    """What can be done with a container can be done with one that was moved."""
    # When a daemon ends while it starts a check, or anything else in any container, containerd 1.7.24 does not tell of
    # that container's end any more. So the daemon starts anew right after a check.
    healthy = ["--health-cmd", "test -e /proc/1", "--health-interval", "15s"]
    start(COUNTER, *healthy, "--memory", "64m", "--memory-swap", "128m", "--stop-timeout", "1")
    lab.migrate("mover")
    followed = lab.follow("fog2", "mover")
    assert lab.docker("fog2", "exec", "mover", "echo", "here") == "here"
    assert memory_limit(lab) == 64 << 20
    lab.docker("fog2", "update", "--memory", "80m", "--memory-swap", "160m", "mover")
    assert memory_limit(lab) == 80 << 20
    assert json.loads(lab.docker("fog2", "stats", "--no-stream", "--format", "json", "mover"))["PIDs"] != "0"

    wait_for(lambda: lab.inspect("fog2", "mover")["State"]["Health"]["Status"] == "healthy", "the health check")
    # It runs on while the daemon starts anew, as any other with live-restore.
    started = lab.inspect("fog2", "mover")["State"]["StartedAt"]
    lab.sh("fog2", "systemctl restart docker")
    state = lab.inspect("fog2", "mover")["State"]
    assert (state["Running"], state["StartedAt"]) == (True, started)
    # A daemon that ends may keep a line that it has read for itself.
    numbers = goes_on(lab, "fog2")
    assert numbers == sorted(set(numbers))
    # Who follows the log is not thrown out by anything but the daemon.
    followed_numbers = [int(line) for line in followed.lines()]
    assert followed_numbers and followed_numbers == numbers[: len(followed_numbers)]

    lab.docker("fog2", "restart", "mover")
    wait_for(lambda: lab.lines("fog2", "mover").count("0") == 1, "its new beginning")
    lab.docker("fog2", "stop", "mover")
    assert lab.inspect("fog2", "mover")["State"]["Status"] == "exited"
    lab.docker("fog2", "start", "mover")
    without_traces(lab)


def test_what_docker_exec_starts_stays_behind(lab, start):
    """And is in nobody's way, neither while it is being started: it is not this container's own then."""
    start(COUNTER)
    lab.docker("fog1", "exec", "-d", "mover", "sleep", "4711")
    words = [*lab.exec_command("fog1"), "sh", "-c", "while docker exec mover true; do :; done"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as checks:
        done = lab.migrate("mover")
        checks.wait(60)
    assert re.search("warning  sessions .* does not move, and ends: .*sleep", done.stdout)
    assert lab.running_on("mover") == ["fog2"]
    goes_on(lab, "fog2")
    assert [lab.sh(node, "pgrep -f 'sleep 471[1]' || true") for node in ("fog1", "fog2")] == ["", ""]
    without_traces(lab)


def test_what_it_writes_is_not_lost(lab, start):
    start(WRITER, "--restart", "always")
    lab.migrate("mover", migration_mode="postcopy")
    assert lab.running_on("mover") == ["fog2"]
    seen = goes_on(lab, "fog2")[-1]
    assert int(lab.docker("fog2", "exec", "mover", "cat", "/file")) >= seen
    assert lab.inspect("fog2", "mover")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    lab.docker("fog2", "rm", "-f", "mover")
    # Both ends remove themselves, a moment after they have answered.
    lab.require_no_traces()


def test_a_runtime_that_fails(lab, start):
    start(COUNTER)
    lab.sh("fog2", f"cp {RUNTIME} /root/; sed -i 's/restore --detach/restore --nonsense/' {RUNTIME}")
    try:
        message = failure(lab.migrate("mover", check=False, migration_mode="postcopy"))
    finally:
        lab.sh("fog2", f"mv /root/fog-runc {RUNTIME}")
    assert "nonsense" in message
    assert "it runs on as before" in message
    assert message.endswith("mover runs on as before at fog1, nothing is left over.")
    assert lab.running_on("mover") == ["fog1"]
    numbers = goes_on(lab, "fog1")
    assert numbers == list(range(len(numbers)))
    without_traces(lab)


@pytest.mark.slow
def test_twenty_in_a_row(lab, start):
    """Nothing is left on either side: no process, mount, key, file or control group more than before."""
    start(CHURN, "--restart", "unless-stopped")
    numbers: list[int] = []
    before = None
    for turn in range(20):
        source, destination = ("fog1", "fog2") if turn % 2 == 0 else ("fog2", "fog1")
        followed = lab.follow(source, "mover")
        lab.migrate("mover", migration_mode=("precopy", "postcopy", "hybrid")[turn % 3])
        assert lab.running_on("mover") == [destination]
        numbers += [int(line.split()[0]) for line in followed.lines()]
        if turn == 1:
            lab.require_no_traces()
            before = inventory(lab)
    line = lab.lines("fog1", "mover")[-2]
    assert line == churn_line(int(line.split()[0]))
    assert numbers == list(range(len(numbers)))
    lab.require_no_traces()
    assert inventory(lab) == before
    without_traces(lab)


COUNT = """
for process in /proc/[0-9]*; do
    # What runs in the container is its own affair.
    [ "$(readlink $process/ns/pid)" != "$(readlink /proc/self/ns/pid)" ] || cat $process/comm
done 2>/dev/null | grep -E "criu|runc|python|ssh|shim|sleep|tail" | sort | uniq -c
grep -c . /proc/mounts
grep -c . /root/.ssh/authorized_keys
find /run/fog-migration* /var/lib/fog-migration -not -path '*/restored*' -not -name fog-migration-criu.json | sort
find /sys/fs/cgroup -type d -not -path '*/docker/*' | grep -c .
ls /var/lib/docker/overlay2 | grep -c .
"""


def inventory(lab) -> list[str]:
    """What there is on both servers of what a migration makes."""
    return [lab.sh(node, COUNT) for node in ("fog1", "fog2")]
