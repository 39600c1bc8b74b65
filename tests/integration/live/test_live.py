# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ends of a live migration, as programs on the lab's servers with a real channel between them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.fog.migration.plugins.module_utils.migration.channel import source_requests
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import (
    DestinationSettings,
    SourceSettings,
    SshTarget,
)
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access
from support import lab as lab_module
from support.churn import CHURN, churn_line

pytestmark = pytest.mark.lab

PLACE = "/run/fog-migration/live-test"
COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"
# The programs of a test; the brackets keep pkill from meeting the shell that runs it.
KILL = "pkill -f 'live-test/channel[.]py'"

ASK = """
import socket, sys
agent = socket.socket(socket.AF_UNIX)
agent.connect(sys.argv[1])
stream = agent.makefile("rw")
stream.write(sys.argv[2] + "\\n")
stream.flush()
print(stream.readline())
"""


class Live:
    """A container on fog1, its empty twin on fog2, and what is to move the one into the other."""

    def __init__(self, lab: lab_module.Lab, folder: Path, script: str, *options: str):
        self.lab = lab
        self.folder = folder
        # The twin does not have these options.
        self.container = lab.start("fog1", "live", script, *options)
        lab.copy_image()
        words = ["create", "--runtime", "fog-runc", "--name", "live", lab_module.IMAGE, "sh", "-c", script]
        self.twin = lab.docker("fog2", *words)
        self.agent: subprocess.Popen | None = None

    def open(self, *options: str) -> None:
        """Deploys both programs, authorizes the source's key, and starts the source's."""
        staging, docker_socket = f"{PLACE}/staging", "/run/docker.sock"
        address = self.lab.hostvars["fog2"]["ansible_host"]
        source = SourceSettings(
            self.container,
            staging,
            docker_socket,
            restore_options=list(options),
            lazy_pages=True,
            patience=300,
            lifetime=600,
            ssh=SshTarget(f"{PLACE}/key", f"{PLACE}/known_hosts", "root", address, 22),
        )
        destination = DestinationSettings(staging, docker_socket, "fog2", self.twin, patience=300, restore_limit=60)
        self._lay_down("fog1", "migration.channel.source", source.to_json())
        self._lay_down("fog2", "migration.channel.destination", destination.to_json())
        self._authorize()
        command = [*self.lab.exec_command("fog1"), "python3", "-I", f"{PLACE}/channel.py"]
        self.agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        lab_module.wait_for(self._is_open, "the channel")

    def _is_open(self) -> bool:
        assert self.agent.poll() is None, self.agent.stderr.read()
        return bool(self.lab.sh("fog1", f"ls {PLACE}/{source_requests.SOCKET} 2>/dev/null || true"))

    def _lay_down(self, node: str, part: str, settings: dict) -> None:
        folder = self.folder / node
        folder.mkdir()
        deploy.install(str(folder), settings, part)
        self.lab.sh(node, f"mkdir -p {PLACE}")
        archive = subprocess.run(["tar", "-C", str(folder), "-c", "."], capture_output=True, check=True).stdout
        subprocess.run([*self.lab.exec_command(node), "tar", "-C", PLACE, "-x"], input=archive, check=True)

    def _authorize(self) -> None:
        self.lab.sh("fog1", f"ssh-keygen -q -t ed25519 -N '' -C '' -f {PLACE}/key")
        key, host_key = (
            self.lab.sh("fog1", f"cat {PLACE}/key.pub"),
            self.lab.sh("fog2", "cat /etc/ssh/ssh_host_ed*.pub"),
        )
        hosts = ssh_access.known_hosts([host_key])
        self.lab.sh("fog1", f"printf '%s' '{hosts}' >{PLACE}/known_hosts")
        line = ssh_access.authorized_line(key, f"python3 -I {PLACE}/channel.py", "live-test", 4102444800, (8, 0))
        self.lab.sh("fog2", f"mkdir -p /root/.ssh; cat >>/root/.ssh/authorized_keys <<'END'\n{line}END")

    def copy(self) -> None:
        """Rounds of pre-copy, until they do not pay."""
        assert self.ask(do="copy", memory=True) == {"result": {}}
        lab_module.wait_for(lambda: self.ask(do="progress")["result"]["ended"], "the end of the rounds")

    def ask(self, **request) -> dict:
        """One request to the source's program."""
        command = [
            *self.lab.exec_command("fog1"),
            "python3",
            "-",
            f"{PLACE}/{source_requests.SOCKET}",
            json.dumps(request),
        ]
        done = subprocess.run(command, input=ASK, capture_output=True, text=True, check=True, timeout=120)
        return json.loads(done.stdout)

    def states(self) -> tuple[str, str]:
        """What Docker says of the container and of its twin; empty when it has none."""
        query = ["ps", "-a", "--filter", "name=^live$", "--format", "{{.State}}"]
        return self.lab.docker("fog1", *query), self.lab.docker("fog2", *query)

    def lines(self) -> list[str]:
        """All that was written on both servers, in this order."""
        return [*self.lab.lines("fog1", "live"), *self.lab.lines("fog2", "live")]

    def close(self) -> None:
        """Nothing of the programs is left."""
        for node in ("fog1", "fog2"):
            self.lab.sh(node, KILL, check=False)
            self.lab.sh(node, "sed -i /live-test/d /root/.ssh/authorized_keys 2>/dev/null || true")
            self.lab.sh(node, f"docker unpause live 2>/dev/null; docker rm -f live; rm -rf {PLACE}", check=False)
        if self.agent:
            self.agent.wait(30)


@pytest.fixture
def live(lab, tmp_path) -> Iterator:
    """C(live(script)) starts a container that is to move."""
    made: list[Live] = []

    def make(script: str, *options: str) -> Live:
        made.append(Live(lab, tmp_path, script, *options))
        lab_module.wait_for(lambda: len(lab.lines("fog1", "live")) > 5, "the first lines")
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("mode", ["stop-and-copy", "precopy", "postcopy", "hybrid"])
def test_it_goes_on_there(live, mode):
    moving = live(CHURN)
    moving.open("--tcp-established", "--ext-unix-sk")
    if mode in ("precopy", "hybrid"):
        moving.copy()
    assert moving.ask(do="arm")["result"]["done"] == "armed"
    answer = moving.ask(do="freeze", mode=mode)
    assert moving.states() == ("paused", "running"), answer
    assert answer["result"]["seconds"]["downtime"] > 0
    # Nobody else can reach the pages of a container that is still at the source.
    assert ":27 " not in moving.lab.sh("fog1", "ss -Hltn")
    finished = moving.ask(do="finish", mode=mode)
    assert "result" in finished, finished

    here = len(moving.lab.lines("fog1", "live"))
    lab_module.wait_for(lambda: len(moving.lab.lines("fog2", "live")) > 5, "more lines")
    lines = moving.lines()[:-1]
    assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
    for number in (here, here + 1, len(lines) - 1):
        assert lines[number] == churn_line(number)
    assert moving.agent.wait(30) == 0

    # Docker owns it there.
    assert moving.lab.docker("fog2", "exec", "live", "echo", "here") == "here"
    moving.lab.docker("fog2", "restart", "-t", "0", "live")
    assert moving.states() == ("paused", "running")
    assert moving.lab.sh("fog2", f"ls {PLACE}/staging /run/fog-migration/runtime 2>/dev/null || true").split() == [
        "/run/fog-migration/runtime:"
    ]


def goes_on(moving: Live) -> None:
    """It runs at the source, and has lost nothing."""
    seen = len(moving.lab.lines("fog1", "live"))
    lab_module.wait_for(lambda: len(moving.lab.lines("fog1", "live")) > seen + 5, "more numbers")
    numbers = [int(line) for line in moving.lab.lines("fog1", "live")]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("mode", ["stop-and-copy", "postcopy"])
def test_a_restore_that_fails(live, mode):
    """The destination says so and has nothing left, and the container goes on where it was, at once."""
    moving = live(COUNTER, "--volume", "/srv:/srv")
    moving.open()
    moving.ask(do="arm")
    answer = moving.ask(do="freeze", mode=mode)
    assert answer["state"] == "runs"
    assert "restore" in answer["error"].lower(), answer
    assert moving.states() == ("running", "")
    goes_on(moving)


def test_what_the_source_may_not_ask_for(live):
    moving = live(COUNTER)
    moving.open("--bundle=/srv")
    moving.ask(do="arm")
    answer = moving.ask(do="freeze", mode="stop-and-copy")
    assert answer["state"] == "runs" and "of which only" in answer["error"]
    assert moving.states() == ("running", "")
    goes_on(moving)


def test_the_source_dies(live):
    """The destination cannot complete the memory and removes what it has; the source has all of it, frozen."""
    moving = live(CHURN)
    moving.open("--tcp-established", "--ext-unix-sk")
    moving.ask(do="arm")
    # It serves, but nothing more than what is under way.
    slow = "tc qdisc add dev eth0 root tbf rate 2mbit burst 32kb latency 400ms"
    moving.lab.sh("fog1", slow)
    try:
        assert "result" in moving.ask(do="freeze", mode="postcopy")
        moving.lab.sh("fog1", KILL.replace("pkill", "pkill -KILL"))
    finally:
        moving.lab.sh("fog1", "tc qdisc del dev eth0 root")
    lab_module.wait_for(lambda: moving.states() == ("paused", ""), "the end of the destination's half")
    moving.lab.docker("fog1", "unpause", "live")
    seen = len(moving.lab.lines("fog1", "live"))
    lab_module.wait_for(lambda: len(moving.lab.lines("fog1", "live")) > seen + 5, "more lines")
    lines = moving.lab.lines("fog1", "live")[:-1]
    assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
    assert lines[-1] == churn_line(len(lines) - 1)


def test_it_is_given_up_in_time(live):
    moving = live(COUNTER)
    moving.open()
    moving.ask(do="arm")
    assert moving.ask(do="give up") == {"result": {}}
    lab_module.wait_for(lambda: moving.states() == ("running", "created"), "the end of Docker's start")


def test_the_channel_breaks_before_the_freeze(live):
    moving = live(COUNTER)
    moving.open()
    moving.ask(do="arm")
    moving.lab.sh("fog2", KILL)
    answer = moving.ask(do="freeze", mode="stop-and-copy")
    # It says why before it closes it, which the source may have read or not.
    why = ("closed the channel", "it was told to end")
    assert answer["state"] == "runs" and any(one in answer["error"] for one in why), answer
    lab_module.wait_for(lambda: moving.states() == ("running", "created"), "the end of Docker's start")
