# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role runtime on a fog server, and what its fog-runc does with a restore that is prepared."""

from __future__ import annotations

import pytest

from support import lab as lab_module
from support.role_on_server import RoleOnServer

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.1; done"

# What a migration does to prepare a restore, by hand: $1 is the clone's ID, $2 the order. Says what fog-runc answered.
PREPARE = r"""
prepared=/run/fog-migration/runtime/$1
mkdir -p $prepared /tmp/work; mkfifo $prepared/order $prepared/answer
exec 3<>$prepared/order 4<>$prepared/answer
echo 60 >$prepared/patience
docker start $1 >/dev/null 2>/tmp/start & read -r answer <&4; echo $answer
printf '%s\n' --image-path /tmp/images --work-path /tmp/work --tcp-established >$prepared/options
echo $2 >&3
[ $2 != restore ] || { read -r answer <&4; echo $answer; }
wait; cat /tmp/start; ls $prepared 2>/dev/null || true
"""

CHECKPOINT = r"""
rm -rf /tmp/images; root=$(dirname $(ls -d /run/docker/runtime-*/moby/$1 /run/runc/$1 2>/dev/null | head -n 1))
runc --root $root checkpoint --image-path /tmp/images --work-path /tmp/images $1
"""


class RuntimeOnServer(RoleOnServer):
    """The role runtime on one fog server."""

    PLAY = """
- name: Runtime
  hosts: {node}
  gather_facts: false
  roles:
    - role: fog.migration.runtime
"""
    VARIABLES = "runtime_"
    STATE = "cat /etc/docker/daemon.json; docker info --format '{{json .Runtimes}}'; ls /usr/local/sbin; docker ps -q"


@pytest.fixture
def server(lab) -> RuntimeOnServer:
    """A fog server that has the runtime, and has it again afterwards."""
    server = RuntimeOnServer(lab, lab.servers()[0])
    yield server
    server.sh("docker ps -aq | xargs -r docker rm -f")
    server.run()


def test_it_comes_and_goes_under_containers_that_run(server):
    container = server.lab.start(server.node, "looper", COUNTER, "--runtime", "fog-runc")
    assert server.change() == 0
    assert "because containers use it (looper)" in server.refusal(state="absent")
    server.lab.docker(server.node, "restart", "-t", "0", "looper")
    assert server.lab.inspect(server.node, container)["State"]["Running"]

    server.lab.start(server.node, "looper", COUNTER)
    started = server.lab.inspect(server.node, "looper")["State"]["StartedAt"]
    assert server.change("--check", state="absent") > 0
    assert server.change(state="absent") > 0
    assert "fog-runc" not in server.state()
    assert server.change(state="absent") == 0
    assert server.change("--check") > 0
    assert "fog-runc" not in server.state()
    assert server.change() > 0
    assert server.state().count("fog-runc") >= 3
    assert server.lab.inspect(server.node, "looper")["State"]["StartedAt"] == started


def test_settings_that_cannot_be_used(server):
    good = server.sh("cat /etc/docker/daemon.json")
    try:
        server.sh("echo 'no JSON' >/etc/docker/daemon.json")
        assert "cannot be used, because it is no JSON" in server.refusal()
        # Docker refuses to read these settings at all, and the runtime is new to it.
        server.sh("echo '{\"nonsense\": 1}' >/etc/docker/daemon.json")
        assert "settings were put back" in server.refusal(name="fog-other", timeout=3)
    finally:
        server.sh(f"cat >/etc/docker/daemon.json <<'END'\n{good}\nEND\nsystemctl reload docker")


@pytest.fixture
def clone(server) -> str:
    """The ID of a container that was never started, and images of another one of its kind that was frozen."""
    lab, node = server.lab, server.node
    original = lab.start(node, "looper", COUNTER)
    lab_module.wait_for(lambda: len(lab.lines(node, "looper")) > 10, "ten numbers")
    server.sh(f"set -- {original}; {CHECKPOINT}")
    return lab.docker(node, "create", "--runtime", "fog-runc", "--name", "clone", lab_module.IMAGE, "sh", "-c", COUNTER)


def test_a_prepared_restore(server, clone):
    lab, node = server.lab, server.node
    assert server.sh(f"set -- {clone} restore; {PREPARE}").split() == ["armed", "running"]
    stopped = int(lab.lines(node, "looper")[-1])
    lab_module.wait_for(lambda: len(lab.lines(node, "clone")) > 10, "ten more numbers")
    numbers = [int(line) for line in lab.lines(node, "clone")]
    assert numbers[0] == stopped + 1
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    # Docker owns it: it obeys, and starts anew as any other.
    assert lab.docker(node, "exec", "clone", "echo", "here") == "here"
    lab.docker(node, "restart", "-t", "0", "clone")
    assert lab.inspect(node, "clone")["State"]["Running"]
    lab.docker(node, "rm", "-f", "clone")


def test_a_prepared_restore_that_is_given_up(server, clone):
    said = server.sh(f"set -- {clone} no; {PREPARE}")
    assert said.startswith("armed") and "the restore of this container was given up" in said
    assert not server.lab.inspect(server.node, "clone")["State"]["Running"]
