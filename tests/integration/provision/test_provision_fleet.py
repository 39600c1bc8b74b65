# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""provision.yml over a fleet of which not every server is well."""

from __future__ import annotations

import json
import re

import pytest

from support import lab as lab_module

pytestmark = pytest.mark.lab

# Not one of the lab's servers, and nobody has this address of the lab's network.
GONE = """
fog_servers:
  hosts:
    gone:
      ansible_host: {address}
      ansible_ssh_common_args: -o ConnectTimeout=3
    {bare}:
"""

FEDORA = """
printf 'ID=fedora\\nNAME=Fedora\\nVERSION_ID=42\\n' >/etc/os-release
echo 'Fedora release 42 (Adams)' >/etc/redhat-release
rm /etc/debian_version
"""


# What was written since then.
WRITTEN = "find / -xdev -newer /etc/redhat-release -type f -not -path '/proc/*' -not -path '/var/log/*' | sort"


@pytest.fixture(scope="module")
def fleet(bare, tmp_path_factory):
    """Fog servers, a bare server, and one that nobody can reach: the words for the inventories, and the bare server.

    The tests have it one after the other, and it is bare until the last one.
    """
    node = bare()
    lab = lab_module.Lab()
    network = lab.hostvars[node]["ansible_host"].rpartition(".")[0]
    more = tmp_path_factory.mktemp("fleet") / "more.yml"
    more.write_text(GONE.format(address=f"{network}.127", bare=node))
    return ["-i", "../inventories/lab", "-i", str(more)], node


STRING = r'"(?:[^"\\]|\\.)*"'
MESSAGE = re.compile(rf'"msg": ({STRING}|\[\s*(?:{STRING}\s*,?\s*)*\])')


def messages(done):
    """What the tasks of a run said, the table and the problems at its end among them: strings, or lists of strings."""
    return [json.loads(message) for message in MESSAGE.findall(done.stdout)]


def changed(done) -> dict[str, int]:
    """How much a run changed on each host, by its recap."""
    return {
        host: int(count) for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", done.stdout, re.MULTILINE)
    }


def test_check_mode_of_a_bare_server_changes_nothing(lab, fleet):
    inventories, node = fleet
    done = lab.playbook(
        "provision.yml", *inventories, "--limit", f"{node},localhost", "--check", docker_channel="distro"
    )
    assert lab.sh(node, "command -v docker criu || true") == ""
    assert lab.sh(node, "find /etc/docker /etc/criu /opt -type f 2>/dev/null || true") == ""
    assert changed(done)[node] > 0, "it did not say that it would change anything"


def test_what_cannot_work_is_said_before_anything_is_installed(lab, fleet):
    inventories, node = fleet
    words = (*inventories, "--limit", f"{node},localhost")

    no_space = lab.playbook("provision.yml", *words, check=False, fog_server_free_wanted=2**60)
    assert no_space.returncode != 0
    assert f"{node} has" in messages(no_space)[-1][0]
    assert "so nothing was installed there; make room" in messages(no_space)[-1][0]

    lab.sh(node, "useradd --create-home somebody")
    become = {"ansible_become": True, "ansible_become_method": "su", "ansible_become_user": "somebody"}
    not_root = lab.playbook("provision.yml", *words, check=False, **become)
    assert not_root.returncode != 0
    assert f"Ansible is somebody on {node}, not root" in messages(not_root)[-1][0]
    assert lab.sh(node, "command -v docker criu || true") == ""


def test_some_servers_fail_and_the_others_do_not(lab, fleet):
    inventories, node = fleet
    lab.sh(node, FEDORA)
    before = lab.sh(node, WRITTEN)

    done = lab.playbook("provision.yml", *inventories, "-e", "provision_serial=2", check=False)

    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    table, problems = messages(done)[-2:]
    assert [line.split()[0] for line in table[1:3]] == ["fog1", "fog2"]
    assert all("cold" in line for line in table[1:3])
    assert len(problems) == 2
    assert problems[0].startswith("gone cannot be reached, so nothing was changed there")
    assert problems[1].startswith(f"{node} runs Fedora 42, which these roles do not know")
    assert {host: changed(done)[host] for host in ("fog1", "fog2", node)} == {"fog1": 0, "fog2": 0, node: 0}
    after = lab.sh(node, WRITTEN)
    assert after == before
