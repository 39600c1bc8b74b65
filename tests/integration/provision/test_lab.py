# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab does on the machine that carries it, tried in a network namespace of the test's own."""

from __future__ import annotations

import subprocess

import pytest

from support import lab as lab_module

FILES = lab_module.PLAYBOOKS.parent / "roles/lab/files"
STALE = FILES / "engine/stale.sh"
ADDRESS = "10.213.0.1"

_TRY = """
mount -t sysfs none /sys
ip link add "$1" type bridge
ip address add "$2/24" dev "$1"
iptables -t nat -A POSTROUTING -s 10.213.0.0/24 ! -o "$1" -j MASQUERADE
eval "$4"
sh "$3" "$2"
code=$?
ip -brief link show type bridge
iptables-save
exit $code
"""


@pytest.fixture
def stale(lab):
    """C(stale(bridge, before="")) tries it with such a bridge; what it says, and what is left."""

    def stale(bridge: str, before: str = "") -> subprocess.CompletedProcess:
        words = ["unshare", "--net", "--mount", "sh", "-c", _TRY, "sh", bridge, ADDRESS, str(STALE), before]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    return stale


def test_a_bridge_that_a_killed_engine_left_goes_with_its_rules(stale):
    done = stale("br-0123456789ab")
    assert (done.returncode, done.stderr) == (0, "")
    # Said once, and named nowhere else.
    assert done.stdout.startswith("br-0123456789ab\n")
    assert done.stdout.count("br-0123456789ab") == 1


def test_a_bridge_that_is_in_use_stays(stale):
    done = stale(
        "br-0123456789ab", "ip link add port type veth peer name other; ip link set port master br-0123456789ab"
    )
    assert done.returncode == 1
    assert "Interface br-0123456789ab of this machine has the address 10.213.0.1" in done.stderr
    assert "MASQUERADE" in done.stdout


def test_the_bridge_of_a_network_stays(stale):
    query = ["docker", "network", "ls", "--quiet", "--filter", f"name={lab_module.NAME}"]
    network = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    done = stale(f"br-{network}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"br-{network}")
    assert "MASQUERADE" in done.stdout


def test_what_is_frozen_in_a_node_is_thawed_so_that_it_can_be_killed(lab, frozen):
    script = (FILES / "thaw.sh").read_text()
    assert lab.sh("fog2", script) == ""
    group = f"/sys/fs/cgroup/freezer/docker/{frozen}"
    assert lab.sh("fog1", script).strip() == group
    assert lab.sh("fog1", f"cat {group}/freezer.state").strip() == "THAWED"
    assert lab.sh("fog1", script) == ""


@pytest.fixture
def frozen(lab):
    """The ID of a container on fog1 that is frozen."""
    if not lab.sh("fog1", "ls -d /sys/fs/cgroup/freezer", check=False):
        pytest.skip("NOT TESTED: there are control groups of version 2, where what is frozen can be killed")
    container = lab.start("fog1", "frozen", "sleep 1000")
    lab.docker("fog1", "pause", "frozen")
    yield container
    lab.docker("fog1", "rm", "-f", "frozen")
