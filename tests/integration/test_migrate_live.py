# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(migrate.yml -e migration_mode=postcopy): real containers that hardly notice."""

from __future__ import annotations

import pytest
from churn import CHURN, churn_line
from lab import failure, wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"
WRITER = "n=0; while :; do echo $n; echo $n >/file; n=$((n+1)); sleep 0.05; done"
RUNTIME = "/usr/local/sbin/fog-runc"


@pytest.fixture
def start(lab):
    """C(start(script, *options)) starts the container that is to move, on fog1."""

    def start(script: str, *options: str) -> None:
        lab.start("fog1", "mover", script, *options)
        wait_for(lambda: len(lab.lines("fog1", "mover")) > 5, "the first lines")

    return start


def goes_on(lab, node: str) -> list[int]:
    """The numbers at the beginnings of the lines of a container that goes on."""
    seen = len(lab.lines(node, "mover"))
    wait_for(lambda: len(lab.lines(node, "mover")) > seen + 5, f"more lines on {node}")
    return [int(line.split()[0]) for line in lab.lines(node, "mover")]


def test_there_and_back(lab, start):
    start(CHURN, "--restart", "unless-stopped", "--memory", "256m", "--label", "a=b", "--env", "SECRET=x")
    followed = lab.follow("fog1", "mover")
    before = lab.inspect("fog1", "mover")
    there = lab.migrate("mover", migration_mode="postcopy")
    assert "mover moved from fog1 to fog2 (postcopy)" in there.stdout
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
    lab.docker("fog2", "update", "--memory", "300m", "--memory-swap", "600m", "mover")
    assert lab.docker("fog2", "exec", "mover", "echo", "here") == "here"

    lab.migrate("mover", migration_mode="postcopy")
    assert lab.running_on("mover") == ["fog1"]
    goes_on(lab, "fog1")
    line = lab.lines("fog1", "mover")[-2]
    assert line == churn_line(int(line.split()[0]))
    lab.docker("fog1", "rm", "-f", "mover")
    # Both ends remove themselves, a moment after they have answered.
    wait_for(lambda: (lab.traces("fog1"), lab.traces("fog2")) == ([], []), "the end of all traces")


def test_what_it_writes_is_not_lost(lab, start):
    start(WRITER, "--restart", "always")
    message = failure(lab.migrate("mover", check=False, migration_mode="postcopy"))
    assert "has written files in its root file system" in message
    assert "it runs on as before" in message and message.endswith("Nothing was moved.")
    assert lab.running_on("mover") == ["fog1"]
    numbers = goes_on(lab, "fog1")
    assert numbers == list(range(len(numbers)))
    assert lab.inspect("fog1", "mover")["HostConfig"]["RestartPolicy"]["Name"] == "always"
    lab.docker("fog1", "rm", "-f", "mover")
    # Both ends remove themselves, a moment after they have answered.
    wait_for(lambda: (lab.traces("fog1"), lab.traces("fog2")) == ([], []), "the end of all traces")


def test_a_runtime_that_fails(lab, start):
    start(COUNTER)
    lab.sh("fog2", f"cp {RUNTIME} /root/; sed -i 's/restore --detach/restore --nonsense/' {RUNTIME}")
    try:
        message = failure(lab.migrate("mover", check=False, migration_mode="postcopy"))
    finally:
        lab.sh("fog2", f"mv /root/fog-runc {RUNTIME}")
    assert "nonsense" in message
    assert "it runs on as before" in message and message.endswith("Nothing was moved.")
    assert lab.running_on("mover") == ["fog1"]
    numbers = goes_on(lab, "fog1")
    assert numbers == list(range(len(numbers)))
    lab.docker("fog1", "rm", "-f", "mover")
    # Both ends remove themselves, a moment after they have answered.
    wait_for(lambda: (lab.traces("fog1"), lab.traces("fog2")) == ([], []), "the end of all traces")
