# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our OCI runtime and what prepares a restore for it: the real script, its FIFOs, and a Docker and a runc made up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import engine, runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import (
    armed_start,
    bundle,
    resources,
    restore_network,
    stopped_restore,
    surroundings,
)
from ansible_collections.fog.migration.plugins.module_utils.system import procfs
from ansible_collections.fog.migration.plugins.module_utils.system.files import is_readable

SCRIPT = Path(__file__).resolve().parents[2] / "roles/runtime/files/fog-runc.sh"
ID = "c0ffee"
SET_KEY = {"path": "/proc/1/exe", "args": ["libnetwork-setkey", "-exec-root=/var/run/docker", ID, "0123456789ab"]}
NETWORK = {"namespaces": [{"type": "network"}, {"type": "mount"}]}
# As runc does it, as far as it matters: it runs the first hook with the process that it has made, and, as CRIU does,
# the action script before that process would run, if there is no FOLDER/old. FOLDER/early and FOLDER/late have the code
# with which it fails before the hook and after it. What it was called with, and which of its descriptors lead to where,
# is noted.
RUNC = f"""#!{sys.executable}
import json, os, subprocess, sys
folder = "FOLDER"
words = sys.argv[1:]
with open(folder + "/calls", "a") as calls:
    calls.write(" ".join(words) + "\\n")
def code(name):
    path = os.path.join(folder, name)
    return int(open(path).read()) if os.path.exists(path) else 0
if "restore" in words:
    descriptors = sorted(os.listdir("/proc/self/fd"), key=int)[:-1]
    open(folder + "/descriptors", "w").write(" ".join(descriptors))
    open(folder + "/stdin", "w").write(os.readlink("/proc/self/fd/0"))
    if code("early"):
        sys.exit(code("early"))
    bundle = words[words.index("--bundle") + 1]
    hooks = json.load(open(bundle + "/config.json")).get("hooks", {{}}).get("prestart", [])
    process = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    open(folder + "/process", "w").write(str(process.pid))
    for hook in hooks[:1]:
        state = json.dumps({{"pid": process.pid, "id": words[-1]}}).encode()
        done = subprocess.run(hook["args"], executable=hook["path"], input=state)
        if done.returncode:
            process.kill()
            sys.exit(70)
    connected = os.path.exists(folder + "/connected")
    open(folder + "/restored-with", "w").write("network" if connected else "nothing")
    if not code("late") and not os.path.exists(folder + "/old"):
        options = open(json.load(open(bundle + "/config.json"))["annotations"]["org.criu.config"]).read().splitlines()
        (script,) = [line.split()[1] for line in options if line.startswith("action-script ")]
        for action in ("setup-namespaces", "post-restore", "pre-resume", "pre-resume", "post-resume"):
            # CRIU is another process than runc.
            criu = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1]).returncode)"
            told = {{"CRTOOLS_SCRIPT_ACTION": action, "CRTOOLS_INIT_PID": str(process.pid)}}
            if subprocess.run([sys.executable, "-c", criu, script], env={{**os.environ, **told}}).returncode:
                process.kill()
                sys.exit(70)
    open(folder + "/went", "w").close()
    if code("late"):
        process.kill()
    sys.exit(code("late"))
"""


class Docker(threading.Thread):
    """Docker's start of the container: the runtime's create, the network where that is later, the runtime's start."""

    connects = True

    def __init__(self, scene):
        super().__init__(daemon=True)
        self.scene, self.problem, self.codes = scene, None, []

    def runtime(self, verb, *more):
        log = ["--root", "/r", "--log", str(self.scene.folder / "log.json")]
        words = [*log, verb, *more, ID]
        command = [str(self.scene.script), *words]
        given = {"stdin": self.scene.stdin, "env": self.scene.environment}
        done = subprocess.run(command, **given, timeout=30, check=False)
        self.codes.append(done.returncode)
        return done.returncode == 0

    def run(self):
        pid_file = self.scene.folder / "init.pid"
        if not self.runtime("create", "--bundle", str(self.scene.bundle), "--pid-file", str(pid_file)):
            self.problem = "OCI runtime create failed"
            return
        if self.scene.later:
            # It was told of the process that waits.
            assert pid_file.read_text() == (self.scene.folder / "process").read_text()
            if not self.connects:
                self.problem = "address already in use"
                return
            (self.scene.folder / "connected").touch()
        if not self.runtime("start"):
            self.problem = "OCI runtime start failed"


class Scene:
    """A container that is about to be restored.

    :param later: whether Docker connects its network between the runtime's create and its start.
    """

    def __init__(self, folder, monkeypatch, later, config):
        self.folder, self.later = folder, later
        self.script, self.bundle = folder / "fog-runc", folder / "bundle"
        monkeypatch.setattr(armed_start, "RUNTIME", str(folder / "runtime"))
        text = SCRIPT.read_text(encoding="utf-8").replace("/run/fog-migration/runtime", armed_start.RUNTIME)
        self.program("fog-runc", text)
        (folder / "bin").mkdir()
        self.program("bin/runc", RUNC.replace("FOLDER", str(folder)))
        self.environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        self.bundle.mkdir()
        (self.bundle / "config.json").write_text(json.dumps(config))
        (folder / "given").touch()
        self.stdin = open(folder / "given")  # noqa: SIM115 - the container has it
        self.docker = Docker(self)
        monkeypatch.setattr(armed_start, "DockerStart", lambda *_arguments: self.docker)
        monkeypatch.setattr(engine, "call", lambda *_arguments: None)
        monkeypatch.setattr(stopped_restore, "require_stopped", lambda _container: [])
        monkeypatch.setattr(runc, "moving", lambda _container: [])
        monkeypatch.setattr(surroundings, "require", lambda *_arguments: None)
        monkeypatch.setattr(resources, "require", lambda *_arguments: None)
        monkeypatch.setattr(
            restore_network.RestoreNetwork, "install_filter", lambda _self, state: json.loads(state)["pid"]
        )
        self.start = armed_start.ArmedStart("/none.sock", ID, lambda: None)
        self.prepared = Path(self.start.folder)

    def program(self, name, text):
        (self.folder / name).write_text(text, encoding="utf-8")
        (self.folder / name).chmod(0o755)

    def restore(self):
        """Arms it and has it restored; the last answer."""
        self.start.arm(30)
        self.start.restore(["--image-path", "/images"])
        return self.start.outcome(20)

    def note(self, name, text=""):
        (self.folder / name).write_text(str(text))

    def noted(self, name):
        return (self.folder / name).read_text()

    def end(self):
        process = self.folder / "process"
        if process.exists():
            subprocess.run(["kill", "-KILL", process.read_text()], capture_output=True, check=False)
        self.start.close()
        self.stdin.close()


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """C(scene(config, later)): a container with this OCI configuration."""
    made = []

    def scene(config, later):
        made.append(Scene(tmp_path, monkeypatch, later, config))
        return made[-1]

    yield scene
    for one in made:
        one.end()


LATER = {"linux": NETWORK, "process": {"terminal": False}}
WITHOUT = {"linux": {"namespaces": [{"type": "mount"}]}}


@pytest.mark.parametrize(("config", "later"), [(LATER, True), (WITHOUT, False)])
def test_a_restore(scene, config, later):
    here = scene(config, later)
    assert here.restore() == "running"
    here.start.require_owned()
    assert here.docker.codes == [0, 0] and here.docker.problem is None
    assert here.noted("restored-with") == ("network" if later else "nothing")
    # What was there while the runtime waited; its configuration names no root of its own here.
    server, status = here.start.network.bundle.server, here.bundle.stat()
    assert server.root == (status.st_dev, status.st_ino)
    assert "/" in [mount.place for mount in server.mounts]
    restore, *others = here.noted("calls").splitlines()
    assert restore.startswith("--root /r --log ") and others == []
    assert f" restore --detach --image-path /images --bundle {here.bundle} --pid-file " in restore
    # Standard input is the container's, and it gets nothing else.
    assert here.noted("stdin") == str(here.folder / "given")
    assert here.noted("descriptors") == "0 1 2"
    assert not here.prepared.exists()


def test_what_docker_connects_by_a_hook_is_not_waited_for(scene, monkeypatch):
    monkeypatch.setattr(bundle.ExternalKey, "set", lambda _self, _process: None)
    here = scene({**LATER, "hooks": {"prestart": [SET_KEY]}}, later=False)
    assert here.restore() == "running"
    here.start.require_owned()
    assert not here.start.network.bundle.connected_later and here.docker.codes == [0, 0]


def test_an_older_runtime_is_refused(scene):
    here = scene(WITHOUT, later=False)
    here.program("fog-runc", here.script.read_text().replace('>"$prepared/holds"', ">/dev/null"))
    with pytest.raises(OSError, match=r"fog-runc is of another version than this collection, run provision\.yml"):
        here.restore()
    here.start.close()
    here.docker.join(20)
    assert here.docker.codes == [1] and "given up" in here.noted("log.json")


# The looks


@pytest.mark.parametrize(("config", "later"), [(LATER, True), (WITHOUT, False)])
def test_it_is_looked_at_before_it_runs(scene, monkeypatch, config, later):
    here = scene(config, later)
    went = []
    monkeypatch.setattr(surroundings, "require", lambda *_arguments: went.append((here.folder / "went").exists()))
    assert here.restore() == "running"
    here.start.require_owned()
    assert went == [False] and (here.folder / "went").exists()


def test_a_criu_that_does_not_ask(scene, monkeypatch):
    """It is looked at when all is stopped."""
    here = scene(WITHOUT, later=False)
    went = []
    monkeypatch.setattr(surroundings, "require", lambda *_arguments: went.append((here.folder / "went").exists()))
    here.note("old")
    assert here.restore() == "running"
    here.start.require_owned()
    assert went == [True]


@pytest.mark.parametrize(
    ("config", "later", "codes"), [(LATER, True, [0, 70]), (WITHOUT, False, [70])], ids=["later", "by a hook"]
)
@pytest.mark.parametrize("dies", [False, True])
def test_what_is_not_what_it_may_be_does_not_run(scene, monkeypatch, config, later, codes, dies):
    """Nor does what nobody has looked at, since who would have has died."""
    here = scene(config, later)
    monkeypatch.setattr(runc, "kill_restore", lambda _container: None)

    def look(*_arguments):
        if dies:
            here.start._close_fifos()
        raise Refused("no")

    monkeypatch.setattr(surroundings, "require", look)
    with pytest.raises(Refused, match=r"^no$"):
        here.restore()
    if not dies:
        here.start.stop("no")
    here.docker.join(20)
    assert here.docker.codes == codes and not (here.folder / "went").exists()


@pytest.mark.parametrize(
    ("when", "codes", "problem"),
    [("early", [70], "OCI runtime create failed"), ("late", [0, 70], "OCI runtime start failed")],
)
def test_a_restore_that_fails(scene, when, codes, problem):
    """Before there is a process that Docker could be told of, and after it has connected the network."""
    here = scene(LATER, later=True)
    here.note(when, 70)
    assert here.restore() == "failed 70"
    assert here.start.why_not("failed 70", 20) == problem
    assert here.docker.codes == codes


def test_docker_that_does_not_connect_the_network(scene, monkeypatch):
    monkeypatch.setattr(runc, "kill_restore", lambda _container: None)
    here = scene(LATER, later=True)
    here.docker.connects = False
    assert here.restore() is None
    assert here.start.why_not(None, 20) == "address already in use"
    # The end of the FIFO is what the hook hears.
    here.start.stop("it failed")
    code, deadline = here.prepared / "code", time.monotonic() + 20
    while not code.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert code.read_text() == "70\n"


def test_who_prepared_it_dies_after_docker_was_told(scene, monkeypatch):
    """Docker is not left waiting: its start fails."""
    here = scene(LATER, later=True)
    sent = armed_start.Fifo.send_line

    def die(fifo, line):
        if line == "guarded":
            here.start._close_fifos()
            raise Interrupted("dead")
        sent(fifo, line)

    monkeypatch.setattr(armed_start.Fifo, "send_line", die)
    with pytest.raises(Interrupted, match=r"^dead$"):
        here.restore()
    here.docker.join(20)
    assert here.docker.codes == [0, 70] and here.docker.problem == "OCI runtime start failed"


def test_it_is_given_up_before_the_order(scene):
    here = scene(LATER, later=True)
    here.start.arm(30)
    here.start.close()
    here.docker.join(20)
    assert here.docker.codes == [1] and "given up" in here.noted("log.json")


def test_other_containers_have_nothing_to_do_with_it(tmp_path, scene):
    here = scene(LATER, later=True)
    shutil.rmtree(armed_start.RUNTIME, ignore_errors=True)
    subprocess.run([str(here.script), "create", "--bundle", "/b", "other"], env=here.environment, check=True)
    subprocess.run([str(here.script), "start", "other"], env=here.environment, check=True)
    assert here.noted("calls") == "create --bundle /b other\nstart other\n"


# Holds a process while the script runs, as CRIU does (PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH).
CRIU = """
import ctypes, os, subprocess, sys, time
script, ran = sys.argv[1:]
child = os.fork()
if not child:
    while True:
        open(ran, "a").write("x")
        time.sleep(0.001)
trace = ctypes.CDLL(None).ptrace
for request in (0x4206, 0x4207):
    assert not trace(request, child, None, None)
os.waitpid(child, 0)
told = {"CRTOOLS_SCRIPT_ACTION": "pre-resume", "CRTOOLS_INIT_PID": str(child)}
print(child, os.path.exists(ran) and os.path.getsize(ran), flush=True)
subprocess.run(["sh", script], env={**os.environ, **told})
trace(17, child, None, None)
os.waitpid(child, 0)
"""


@pytest.mark.parametrize("word", ["keep", "end", ""])
def test_what_is_traced_is_killed_unless_it_may_run(tmp_path, word):
    """C(word): what the script is told; nothing by who has died."""
    for name in ("order", "answer"):
        os.mkfifo(tmp_path / name)
    order, answer = (os.open(tmp_path / name, os.O_RDWR) for name in ("order", "answer"))
    given = {**os.environ, "FOG_MIGRATION_PREPARED": str(tmp_path)}
    words = [sys.executable, "-c", CRIU, str(SCRIPT), str(tmp_path / "ran")]
    with subprocess.Popen(words, env=given, stdout=subprocess.PIPE, text=True) as criu:
        child, before = (int(one) for one in criu.stdout.readline().replace("False", "0").split())
        assert is_readable(answer, 20)
        assert os.read(answer, 100) == b"held\n" and (tmp_path / "held").exists()
        if word:
            os.write(order, word.encode() + b"\n")
        os.close(order)
        if word == "keep":
            deadline = time.monotonic() + 20
            while not (tmp_path / "ran").exists() or (tmp_path / "ran").stat().st_size <= before:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.kill(child, signal.SIGKILL)
            assert criu.wait(20) == 0
        else:
            assert criu.wait(20) == -signal.SIGKILL
            deadline = time.monotonic() + 20
            while procfs.started(child) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert procfs.started(child) is None
            assert ((tmp_path / "ran").stat().st_size if before else 0) == before
    os.close(answer)


# When Docker connects the network


@pytest.mark.parametrize(
    ("config", "later"),
    [
        ({}, True),
        ({"hooks": {"prestart": [SET_KEY]}}, False),
        ({"hooks": {"prestart": [{"path": "/usr/bin/other"}, {"path": "/x", "args": []}]}}, True),
        ({"process": {"terminal": True}}, False),
        ({"process": {"terminal": False}}, True),
    ],
)
def test_when_docker_connects_it(config, later):
    assert bundle.is_connected_later(config) == later
