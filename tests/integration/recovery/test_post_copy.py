# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container that runs at the destination and still misses pages goes on there when the way to the source is lost."""

from __future__ import annotations

import os
import signal
import time

import pytest

from support import programs
from support.lab import wait_for

pytestmark = pytest.mark.lab

SENDER = "cut -d' ' -f1 /run/fog-migration/transfer-*-source-*/pid | xargs kill -KILL"
# The connection that all channels of a run share. The brackets keep pkill from meeting the shell that runs it.
CONNECTION = "pkill -KILL -f 'ssh -[M] -N -S /run/fog-migration/agent-'"
CUT = "iptables -I {chain} -p tcp --{side}port 22 -j DROP -m comment --comment fault"
HEAL = "iptables-save | grep -v 'comment fault' | iptables-restore"
# Longer than SSH waits for a sign of life.
SECONDS = 30


@pytest.fixture
def slow_link(lab):
    """The way from fog1 is so slow that the memory needs seconds."""
    lab.sh("fog1", "tc qdisc add dev eth0 root tbf rate 400mbit burst 256kb latency 400ms")
    yield
    lab.sh("fog1", "tc qdisc del dev eth0 root; " + HEAL, check=False)


def lose(lab, what):
    if what == "sender":
        lab.sh("fog1", SENDER)
    elif what == "connection":
        lab.sh("fog1", CONNECTION)
    else:
        lab.sh("fog1", CUT.format(chain="OUTPUT", side="d") + "; " + CUT.format(chain="INPUT", side="s"))
        time.sleep(SECONDS)
        lab.sh("fog1", HEAL)


LOST = [
    pytest.param("sender", 1, "postcopy", marks=pytest.mark.slow),
    ("sender", 2, "postcopy"),
    pytest.param("sender", 1, "hybrid", marks=pytest.mark.slow),
    pytest.param("connection", 1, "postcopy", marks=pytest.mark.slow),
    pytest.param("network", 1, "postcopy", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("what", "count", "mode"), LOST)
def test_it_goes_on_at_the_destination(lab, slow_link, what, count, mode):
    names = ["mover", "other"][:count]
    start_checkers(lab, names)
    followed = {name: lab.follow("fog1", name) for name in names}
    with lab.begin(containers=names, destination="fog2", migration_mode=mode) as playbook:
        wait_until_memory_is_on_its_way(lab, playbook, count)
        lose(lab, what)
        said = playbook.stdout.read()
    assert playbook.returncode == 0, said
    for name in names:
        assert f"{name} runs at fog2, nothing is left over" in said, said
        assert lab.running_on(name) == ["fog2"], said
        check_that_it_is_whole(lab, "fog2", name, followed[name].lines())
    lab.require_no_traces()


# What ends at the destination.
ENDS = {
    "told to end": "cut -d' ' -f1 /run/fog-migration/transfer-*-destination-*/pid | xargs kill -TERM",
    "receiver": "cut -d' ' -f1 /run/fog-migration/transfer-*-destination-*/pid | xargs kill -KILL",
    "criu": "pkill -KILL -x criu",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", ENDS)
def test_it_goes_on_at_the_source_when_the_destination_has_lost_its_memory(lab, slow_link, what):
    start_checkers(lab, ["mover"])
    with lab.begin(container="mover", destination="fog2", migration_mode="postcopy") as playbook:
        wait_until_memory_is_on_its_way(lab, playbook, 1)
        lab.sh("fog2", ENDS[what])
        said = playbook.stdout.read()
    assert "at fog1, nothing is left over" in said, said
    assert lab.running_on("mover") == ["fog1"]
    check_that_it_is_whole(lab, "fog1", "mover")
    lab.require_no_traces()


# What the container's process waits for there.
WAITS_FOR = "cat /proc/$(docker inspect -f '{{.State.Pid}}' mover)/wchan"


@pytest.mark.slow
def test_what_misses_pages_waits_for_them(lab, slow_link):
    """It would go on with zeros in their place, as long as nobody looks after it."""
    start_checkers(lab, ["mover"])
    with lab.begin(container="mover", destination="fog2", migration_mode="postcopy") as playbook:
        wait_until_memory_is_on_its_way(lab, playbook, 1)
        os.killpg(playbook.pid, signal.SIGKILL)
        lab.sh("fog2", ENDS["receiver"])
    # It had the time to die of zeros.
    time.sleep(2)
    assert lab.sh("fog2", WAITS_FOR) == "handle_userfault"
    assert "mover was resumed and runs at fog1" in lab.playbook("recover.yml").stdout
    assert lab.running_on("mover") == ["fog1"]
    check_that_it_is_whole(lab, "fog1", "mover")
    lab.require_no_traces()


def start_checkers(lab, names):
    for name in names:
        programs.start(lab, "fog1", name, programs.MEMORY_CHECKER)
        wait_for(lambda name=name: len(lab.lines("fog1", name)) > 3, "the first passes")


def check_that_it_is_whole(lab, node, name, earlier=()):
    """It goes on there, and each of its passes, those before among them, has found each page as it was left."""
    seen = len(lab.lines(node, name))
    wait_for(lambda: len(lab.lines(node, name)) > seen + 3, "whole passes", 60)
    passes = [*earlier, *filter(None, lab.lines(node, name))]
    assert passes == [f"{number} 0" for number in range(len(passes))]
    lab.docker(node, "rm", "-f", name)


def wait_until_memory_is_on_its_way(lab, playbook, count):
    """Returns when so many containers run at the destination and memory of them is still missing there."""

    def is_so():
        noted = lab.sh("fog2", "cat /var/lib/fog-migration/journal/*.json 2>/dev/null || true")
        return noted.count('"stage": "restored"') == noted.count('"memory": "arriving"') == count

    wait_for(lambda: is_so() or playbook.poll() is not None, "the memory to be on its way", 120)
    assert playbook.poll() is None, playbook.stdout.read()
