# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed at every message between the coordinator and the agents; recover.yml settles the rest."""

from __future__ import annotations

import os
import signal

import pytest

from support.lab import wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"
# The requests of a live migration in their order, and which server is asked.
REQUESTS = (
    ("fog1", "reserve_source"),
    ("fog2", "reserve_destination"),
    ("fog1", "arm"),
    ("fog1", "copy"),
    ("fog1", "progress"),
    ("fog1", "switch_over"),
    ("fog2", "verify"),
    ("fog1", "commit"),
    ("fog1", "finish"),
    ("fog2", "finish"),
    ("fog1", "stop"),
)
MOMENTS = [(host, operation, when) for host, operation in REQUESTS for when in ("asked", "answered")]
# At these, a group has something to decide. They are tried in each run of the tests, the others in the long one.
DECISIVE = (("fog1", "arm", "answered"), ("fog1", "switch_over", "asked"), ("fog2", "verify", "answered"))


def kill_at(lab, host: str, operation: str, when: str, **extra) -> bool:
    """Kills the controller of a migration when this request is made, or was answered; whether it came to that."""
    asked, answered = f"{host}: asked for {operation}", f" -: {operation}: "
    with lab.begin("-v", **extra) as playbook:
        for line in playbook.stdout:
            if asked in line if when == "asked" else (line.startswith(f"{host}: ") and answered in line):
                os.killpg(playbook.pid, signal.SIGKILL)
                return True
    return False


def settled(lab, names: list[str]) -> None:
    """Each container runs in one place, the same for all, goes on there, and nothing is left."""
    done = lab.playbook("recover.yml")
    assert "could not" not in done.stdout
    places = {tuple(lab.running_on(name)) for name in names}
    assert places in ({("fog1",)}, {("fog2",)})
    node = next(iter(places))[0]
    for name in names:
        seen = len(lab.lines(node, name))
        wait_for(lambda name=name, seen=seen: len(lab.lines(node, name)) > seen + 5, f"more lines of {name}")
        assert lab.inspect(node, name)["HostConfig"]["RestartPolicy"]["Name"] == "always"
    lab.require_no_traces(120)
    assert "No migration is open" in lab.playbook("recover.yml").stdout


def moment(values: tuple[str, str, str]):
    return pytest.param(*values, id="-".join(values), marks=[] if values in DECISIVE else [pytest.mark.slow])


@pytest.mark.parametrize(("host", "operation", "when"), [moment(one) for one in MOMENTS])
def test_the_controller_dies_at_a_message(lab, start, host, operation, when):
    start(COUNTER, "--restart", "always")
    assert kill_at(lab, host, operation, when, container="mover")
    settled(lab, ["mover"])


@pytest.mark.slow
@pytest.mark.parametrize(("host", "operation", "when"), [pytest.param(*one, id="-".join(one)) for one in MOMENTS])
def test_the_controller_of_a_group_dies_at_a_message(lab, host, operation, when):
    for name in ("one", "two"):
        lab.start("fog1", name, COUNTER, "--restart", "always")
        wait_for(lambda name=name: len(lab.lines("fog1", name)) > 5, "the first lines")
    assert kill_at(lab, host, operation, when, containers=["one", "two"])
    settled(lab, ["one", "two"])
