# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as the tests see it: nodes, containers, playbooks and modules. Nothing here is simulated."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar, NamedTuple

from . import node_modules

PLAYBOOKS = Path(__file__).resolve().parents[3] / "playbooks"


class Place(NamedTuple):
    """One lab: what its nodes in Docker are called, and the folder with its key and inventory."""

    name: str
    state: Path

    def beside(self, number: int) -> Place:
        """The lab of one of several processes that run tests side by side; the first has this one."""
        return Place(f"{self.name}-{number}", self.beside_it(f"-{number}")) if number else self

    def beside_it(self, what: str) -> Path:
        """Something beside its folder."""
        return self.state.with_name(self.state.name + what)

    @property
    def mark(self) -> Path:
        """Is there when it was brought up for tests, behind which it is to be taken down."""
        return self.beside_it(".for-tests")

    def is_up(self) -> bool:
        """Whether it was brought up and all its nodes run."""
        try:
            inventory = json.loads((self.state / "inventory.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        nodes = [f"{self.name}-{node}" for node in inventory["_meta"]["hostvars"]]
        query = ["docker", "inspect", "--format", "{{.State.Running}}", *nodes]
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        return done.returncode == 0 and set(done.stdout.split()) == {"true"}

    def playbook(self, *words: str) -> None:
        """C(lab.yml): brings it up, takes it down."""
        done = subprocess.run(
            ["ansible-playbook", "lab.yml", *words],
            cwd=PLAYBOOKS,
            env=environment(self),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(done.args)}\n{done.stdout}{done.stderr}"


WANTED = Place(
    os.environ.get("FOG_LAB_NAME", "fog-lab"),
    Path(os.environ.get("FOG_LAB_DIR") or "~/.local/state/fog-migration/lab").expanduser(),
)
# Of pytest-xdist: gw0, gw1, ...; without it, there is one process.
NAME, STATE = PLACE = WANTED.beside(int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))
CHECKPOINTS = "/var/lib/fog-migration/checkpoints"
IMAGE = "busybox:lab"
RUNTIME = "/usr/local/sbin/fog-runc"

# Every trace that a migration could leave on a node, one per line.
_TRACES = r"""
find /var/lib/fog-migration /run/fog-migration* -mindepth 1 -not -path '/var/lib/fog-migration/restored*' \
     -not -path /var/lib/fog-migration/checkpoints -not -path /var/lib/fog-migration/images \
     -not -path /var/lib/fog-migration/journal -not -path /var/lib/fog-migration/transfers \
     -not -path /var/lib/fog-migration/staging \
     -not -path /run/fog-migration/runtime 2>/dev/null
find /var/lib/docker/containers -path '*/checkpoints/*' 2>/dev/null
find /tmp -name 'ctrd-checkpoint*' 2>/dev/null
grep -l fog-migration /root/.ssh/authorized_keys 2>/dev/null
docker ps -a --filter status=created --format 'created: {{.Names}}'
pgrep -a criu
# Processes in control groups of containers that Docker does not have.
known=$(grep -o '[0-9a-f]\{64\}' /proc/1/cgroup; docker ps -aq --no-trunc; echo none)
grep -so '[0-9a-f]\{64\}' /proc/[0-9]*/cgroup | sort -u | grep -vF "$known"
true
"""


@contextlib.contextmanager
def alone():
    """What is done to the engine and to the images of nodes, no two processes do at the same time."""
    WANTED.state.parent.mkdir(parents=True, exist_ok=True)
    with open(WANTED.beside_it(".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_for(condition, what: str, seconds: float = 60.0):
    """The first true value of I(condition); fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {seconds} s")


class Followed:
    """Everything that a container writes, read from outside from its start to its end on this node."""

    def __init__(self, lab: Lab, node: str, name: str):
        command = [*lab.exec_command(node), "docker", "logs", "--follow", name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def lines(self, timeout: float = 30) -> list[str]:
        """All complete lines, once the container has ended or gone."""
        return self.process.communicate(timeout=timeout)[0].split("\n")[:-1]


class Lab:
    """Two fog servers and a client, up, and bare servers when a test asks for them."""

    # Nodes that have our modules of this session.
    _with_modules: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        self.read_inventory()

    def read_inventory(self) -> None:
        """Learns the lab's nodes from what C(lab.yml) wrote."""
        inventory = json.loads((STATE / "inventory.json").read_text(encoding="utf-8"))
        self.hostvars = inventory["_meta"]["hostvars"]

    def count(self, kind: str) -> int:
        """How many nodes of a kind there are: C(fog), C(client) or C(bare)."""
        return sum(node.startswith(kind) for node in self.hostvars)

    def bare(self, count: int, suite: str = "trixie") -> list[str]:
        """Makes the first bare servers anew, so many, of this Debian; their names. The other nodes stay as they are."""
        fresh = [f"bare{number}" for number in range(1, count + 1)]
        self._with_modules.difference_update(fresh)
        everything = [f"{NAME}-{node}" for node in fresh]
        subprocess.run(["docker", "rm", "-f", *everything], capture_output=True, check=False)
        subprocess.run(["docker", "volume", "rm", "-f", *everything], capture_output=True, check=False)
        with alone():
            self.playbook(
                "lab.yml",
                lab_name=NAME,
                lab_provision=False,
                lab_fog_servers=self.count("fog"),
                lab_clients=self.count("client"),
                lab_bare_servers=max(count, self.count("bare")),
                lab_suites={**self._made_of("lab_suite"), **dict.fromkeys(fresh, suite)},
                lab_docker_suites={**self._made_of("lab_docker_suite"), **dict.fromkeys(fresh, "")},
                lab_image_stores={**self._made_of("lab_image_store"), **dict.fromkeys(fresh, "")},
            )
        self.read_inventory()
        return fresh

    def _made_of(self, what: str) -> dict[str, str]:
        """What C(lab.yml) noted of each node: nodes that are to stay have to be wanted as they are."""
        return {name: variables[what] for name, variables in self.hostvars.items()}

    def exec_command(self, node: str) -> list[str]:
        """The words before a command that is to run on a node."""
        return ["docker", "exec", "-i", f"{NAME}-{node}"]

    def sh(self, node: str, script: str, check: bool = True) -> str:
        """Runs a shell script on a node as root; its standard output."""
        done = subprocess.run(
            [*self.exec_command(node), "sh", "-c", script], capture_output=True, text=True, check=False, timeout=300
        )
        if check and done.returncode:
            raise AssertionError(f"on {node}: {script}\n{done.stdout}{done.stderr}")
        return done.stdout

    def reads_limits(self, node: str) -> bool:
        """Whether root may read the limits of other users' processes, without which CRIU dumps none of them."""
        other = "setpriv --reuid 1000 --regid 1000 --clear-groups sh -c 'sleep 5 >/dev/null 2>&1 & echo $!'"
        return "yes" in self.sh(node, f"prlimit --nofile --pid $({other}) >/dev/null && echo yes", check=False)

    def docker(self, node: str, *words: str, check: bool = True) -> str:
        """One docker command on a node; its standard output without the last newline."""
        command = [*self.exec_command(node), "docker", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if check and done.returncode:
            raise AssertionError(f"on {node}: docker {' '.join(words)}\n{done.stdout}{done.stderr}")
        return done.stdout.rstrip("\n")

    def start(self, node: str, name: str, script: str, *options: str) -> str:
        """Starts a container that runs a shell script; its ID."""
        self.docker(node, "rm", "-f", name, check=False)
        return self.docker(node, "run", "-d", "--name", name, *options, IMAGE, "sh", "-c", script)

    def copy_image(self) -> None:
        """Brings the image to fog2, as a migration does."""
        if not self.docker("fog2", "images", "-q", IMAGE):
            save = [*self.exec_command("fog1"), "docker", "save", IMAGE]
            image = subprocess.run(save, capture_output=True, check=True).stdout
            subprocess.run([*self.exec_command("fog2"), "docker", "load"], input=image, capture_output=True, check=True)

    def follow(self, node: str, name: str) -> Followed:
        """Begins to read what a container writes."""
        return Followed(self, node, name)

    def inspect(self, node: str, name: str) -> dict:
        """A container's inspect data."""
        return json.loads(self.docker(node, "inspect", name))[0]

    def lines(self, node: str, name: str) -> list[str]:
        """What a container has written on this node so far, complete lines only."""
        return self.docker(node, "logs", name).split("\n")

    def numbers(self, node: str, name: str, path: str) -> list[int]:
        """The numbers, one on each line, of a file of a container, which need not run; none where there is no file."""
        archive = self.docker(node, "cp", f"{name}:{path}", "-", check=False)
        return [int(line) for line in re.findall(r"(?:^|\0)(\d+)$", archive, re.MULTILINE)]

    def running_on(self, name: str) -> list[str]:
        """The fog servers on which a container of this name runs."""
        query = ["ps", "--filter", f"name=^{re.escape(name)}$", "--format", "{{.Names}}"]
        return [node for node in self.servers() if self.docker(node, *query) == name]

    def servers(self) -> list[str]:
        """The fog servers of the lab."""
        return sorted(node for node in self.hostvars if node.startswith("fog"))

    def traces(self, node: str) -> list[str]:
        """What migrations have left on a node."""
        return self.sh(node, _TRACES).split("\n")[:-1]

    def require_no_traces(self, seconds: float = 75.0) -> None:
        """Migrations leave nothing on any server, at the latest after a minute, as an agent that nobody asks."""
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not any(self.traces(node) for node in self.servers()), "the end of all traces", seconds)
        left = {node: self.traces(node) for node in self.servers()}
        assert not any(left.values()), f"migrations left {left}"

    def playbook(self, name: str, *words: str, check: bool = True, **extra) -> subprocess.CompletedProcess:
        """C(ansible-playbook NAME -e KEY=VALUE ...) in the playbooks folder, as a user runs it."""
        command = ["ansible-playbook", name, *words, "-e", json.dumps(extra)]
        done = subprocess.run(
            command, cwd=PLAYBOOKS, env=environment(), capture_output=True, text=True, check=False, timeout=900
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done

    def play(self, text: str, *words: str, check: bool = True, **extra) -> subprocess.CompletedProcess:
        """As C(playbook), of a playbook's text."""
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            file.write(text)
            file.flush()
            return self.playbook(file.name, *words, check=check, **extra)

    def migrate(self, container: str, *words: str, check: bool = True, **extra) -> subprocess.CompletedProcess:
        """C(ansible-playbook migrate.yml -e container=...)."""
        return self.playbook("migrate.yml", *words, check=check, container=container, **extra)

    @staticmethod
    def begin(*words: str, **extra) -> subprocess.Popen:
        """C(migrate.yml) under way, in a process group of its own; what it says can be read line by line."""
        return subprocess.Popen(
            ["ansible-playbook", "migrate.yml", *words, "-e", json.dumps(extra)],
            cwd=PLAYBOOKS,
            env={**environment(), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def interrupt(self, task: str, **extra) -> None:
        """A migration whose controller is killed when it begins with a task."""
        with self.begin(**extra) as playbook:
            for line in playbook.stdout:
                if f": {task}]" in line:
                    break
            os.killpg(playbook.pid, signal.SIGKILL)

    def module(self, node: str, module: str, /, *, check_mode: bool = False, **arguments) -> dict:
        """The result of one of our modules on a node; C(failed) tells whether it failed. Ansible has no part in it."""
        if node not in self._with_modules:
            node_modules.lay_down(self.exec_command(node))
            self._with_modules.add(node)
        return node_modules.run(self.exec_command(node), module, arguments, check_mode)

    def task(self, node: str, module: str, /, *words: str, **arguments) -> dict:
        """The same as a task of Ansible's, whose action plugins some of our modules need."""
        command = ["ansible", node, "-m", f"fog.migration.{module}", *words]
        # An empty object would be taken for words.
        command += ["-a", json.dumps(arguments)] if arguments else []
        done = subprocess.run(
            command, cwd=PLAYBOOKS, env=environment(), capture_output=True, text=True, check=False, timeout=900
        )
        match = re.search(r"(SUCCESS|CHANGED|FAILED!|UNREACHABLE!) => (\{.*\})", done.stdout, re.DOTALL)
        if not match:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return {"failed": match.group(1).endswith("!"), **json.loads(match.group(2))}


def environment(place: Place | None = None) -> dict[str, str]:
    """The environment of a playbook run: plain, uncoloured, JSON results, and a lab, by default this process's own."""
    name, state = place or PLACE
    plain = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    return {**os.environ, **plain, "FOG_LAB_NAME": name, "FOG_LAB_DIR": str(state)}


def failure(done: subprocess.CompletedProcess) -> str:
    """The message with which a playbook failed last; fails when it did not, or with a traceback."""
    assert done.returncode != 0, f"it did not fail:\n{done.stdout}"
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    messages = re.findall(r'(?:FAILED!|UNREACHABLE!) => \{.*?"msg": ("(?:[^"\\]|\\.)*")', done.stdout, re.DOTALL)
    assert messages, done.stdout + done.stderr
    return json.loads(messages[-1])
