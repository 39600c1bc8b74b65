# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes are OCI runtimes at work, and which are containerd, whatever they say of themselves."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest
from runtimes import NEEDS_ROOT, environment, runc_of

from ansible_collections.fog.migration.plugins.module_utils.docker import containerd, runc
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

pytestmark = NEEDS_ROOT

CONTAINER = "4f9d1c" + "0" * 58
WAIT = "import sys; print(1, flush=True); sys.stdin.read()"
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000


@pytest.fixture
def start():
    """C(start(words, ...)) starts a process that waits; its PID once it has said something. It ends with the test."""
    started = []

    def start(words, **options):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(words, env=environment(), **pipes, **options))
        assert started[-1].stdout.readline()
        return started[-1].pid

    yield start
    for process in started:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@pytest.fixture
def container(monkeypatch):
    """No container is held by CRIU, so that what is at work is told by processes alone."""
    monkeypatch.setattr(runc, "held_by_criu", lambda _container: [])


def words_of(program, verb="checkpoint"):
    return [program, "-c", WAIT, "--root", "/run/docker/runtime-runc/moby", verb, CONTAINER]


def unshared(kind):
    """What gives a process a namespace of its own, before it goes on."""
    return f"import ctypes, os, sys; ctypes.CDLL(None).unshare({kind}) and sys.exit('unshare'); "


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
@pytest.mark.parametrize("name", ["runc", "docker-runc", "crun", "runc.1"])
def test_a_runtime_is_found(tmp_path, container, start, name, verb):
    assert not runc.at_work(CONTAINER)
    found = start(words_of(runc_of(tmp_path, name), verb))
    assert runc.at_work(CONTAINER) and not runc.at_work("0" * 64)
    assert runc.restoring(CONTAINER) == ({found} if verb == "restore" else set())


def test_a_runtime_that_was_replaced_is_found(tmp_path, container, start):
    program = runc_of(tmp_path)
    found = start(words_of(program))
    os.unlink(program)
    assert os.readlink(f"/proc/{found}/exe").endswith("/runc (deleted)")
    assert runc.at_work(CONTAINER)


def test_a_runtime_in_memory_is_found(container, start):
    """As runc runs where nobody is to write to its file."""
    memory = os.memfd_create("runc_cloned:/proc/self/exe", 0)
    with open(os.path.realpath(sys.executable), "rb") as stream, open(memory, "wb", closefd=False) as copy:
        shutil.copyfileobj(stream, copy)
    # A file that somebody has open for writing cannot be run.
    program = os.open(f"/proc/self/fd/{memory}", os.O_RDONLY)
    os.close(memory)
    found = start(words_of("runc"), executable=f"/proc/self/fd/{program}", pass_fds=[program])
    os.close(program)
    assert os.readlink(f"/proc/{found}/exe") == "/memfd:runc_cloned:/proc/self/exe (deleted)"
    assert runc.at_work(CONTAINER)


def test_a_runtime_that_is_a_script_is_found(tmp_path, container, start):
    """As fog-runc is, until it becomes runc."""
    script = tmp_path / "fog-runc"
    script.write_text("#!/bin/sh\necho 1\nread -r _line\n")
    script.chmod(0o755)
    start([str(script), "--root", "/run/docker/runtime-fog-runc/moby", "checkpoint", CONTAINER])
    assert runc.at_work(CONTAINER)


def test_a_runtime_of_any_name_is_found(tmp_path, container, start, monkeypatch):
    """The one that Docker's name leads to."""
    program = runc_of(tmp_path, "a program")
    os.symlink(program, tmp_path / "runc")
    start(words_of(program))
    assert not runc.at_work(CONTAINER)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(runc, "runc_program", lambda: str(tmp_path / "runc"))
    assert runc.at_work(CONTAINER)


def test_a_runtime_with_mounts_of_its_own_is_found(tmp_path, container, start):
    """dockerd may have a mount namespace of its own, and what it starts is in it."""
    program = runc_of(tmp_path)
    child = f"os.execve({program!r}, {words_of(program)!r}, os.environ)"
    found = start([program, "-c", unshared(CLONE_NEWNS) + child])
    assert os.readlink(f"/proc/{found}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    assert runc.at_work(CONTAINER)


def become(*users):
    """What a program says that goes on as these users (real, effective, saved), and waits."""
    return f"import os; os.setresuid{users}; {WAIT}"


def test_another_user_is_not_believed(tmp_path, container, start):
    """Who may run anything may call it as he likes, and give it any words."""
    liar = start([runc_of(tmp_path), "-c", become(65534, 65534, 65534), "restore", CONTAINER])
    assert CONTAINER in procfs.command_line(liar)
    assert not runc.at_work(CONTAINER) and runc.restoring(CONTAINER) == set()
    runc.kill_restore(CONTAINER)
    assert procfs.started(liar)


def test_who_borrows_roots_rights_is_not_believed(tmp_path, container, start):
    """A program such as ping has its user's words, and root's rights."""
    start([runc_of(tmp_path), "-c", become(65534, 0, 0), "checkpoint", CONTAINER])
    assert not runc.at_work(CONTAINER)


def test_another_program_is_not_believed(container, start):
    """sudo waits for a password as root, with the words that its user has given it."""
    start(words_of(sys.executable))
    assert not runc.at_work(CONTAINER)


def test_a_container_is_not_believed(tmp_path, container, start):
    """Its processes are in a PID namespace of their own, root or not."""
    program = runc_of(tmp_path)
    child = f"os.fork() == 0 and os.execve({program!r}, {words_of(program)!r}, os.environ); os.wait()"
    start([program, "-c", unshared(CLONE_NEWPID) + child])
    assert not runc.at_work(CONTAINER)


# ---------------------------------------------------------------------------------------------------------------------
# A container that has no PID namespace of its own


@pytest.mark.parametrize(
    ("groups", "mounts", "expected"),
    [
        ("0::/system.slice/docker.service\n", "mnt:[2]", True),
        (f"0::/system.slice/docker-{CONTAINER}.scope\n", "mnt:[2]", False),
        (f"4:memory:/docker/{CONTAINER}\n0::/\n", "mnt:[2]", False),
        # CRIU is moved into the container's groups for a restore.
        (f"0::/system.slice/docker-{CONTAINER}.scope\n", "mnt:[1]", True),
        # This server is a container itself.
        (f"0::/docker/{'a' * 64}/system.slice/docker.service\n", "mnt:[2]", True),
        (f"0::/docker/{'a' * 64}/docker/{CONTAINER}\n", "mnt:[2]", False),
    ],
)
def test_a_container_in_the_servers_pid_namespace(monkeypatch, groups, mounts, expected):
    texts = {
        "/proc/7/status": "Name:\trunc\nUid:\t0\t0\t0\t0\n",
        "/proc/7/cgroup": groups,
        f"/proc/{os.getpid()}/cgroup": f"0::/docker/{'a' * 64}/user.slice\n",
    }
    links = {
        "/proc/7/ns/pid": "pid:[1]",
        "/proc/self/ns/pid": "pid:[1]",
        "/proc/7/ns/mnt": mounts,
        "/proc/self/ns/mnt": "mnt:[1]",
    }
    monkeypatch.setattr(procfs, "read", lambda path: texts.get(path, ""))
    monkeypatch.setattr(procfs, "_link", links.get)
    assert procfs.is_of_server(7) is expected


# ---------------------------------------------------------------------------------------------------------------------
# CRIU


TRACED = """
import ctypes, os, signal, sys
library = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    signal.pause()
{change}
open("/proc/self/comm", "w").write("criu")
# PTRACE_SEIZE
if library.ptrace(0x4206, child, 0, 0):
    sys.exit("ptrace")
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
"""


@pytest.mark.parametrize(("change", "is_held"), [("", True), ("os.setresuid(65534, 0, 0)", False)])
def test_what_traces_a_process_of_a_container_is_criu_only_if_it_is_the_servers(monkeypatch, change, is_held):
    """A container can trace its own processes by a program that is called criu."""
    words = [sys.executable, "-c", TRACED.format(change=change)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tracer:
        child = int(tracer.stdout.readline())
        monkeypatch.setattr(runc, "processes", lambda _container: [child])
        assert procfs.program(procfs.tracer(child)) == runc.CRIU
        assert runc.held_by_criu(CONTAINER) == ([child] if is_held else [])
        assert runc.at_work(CONTAINER) is is_held
        tracer.stdin.close()


# ---------------------------------------------------------------------------------------------------------------------
# containerd


LISTEN = """
import os, socket, sys
{change}
open("/proc/self/comm", "w").write("containerd")
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
print(1, flush=True)
sys.stdin.read()
"""


def listener(folder, start, change=""):
    """A process called containerd that listens at a socket; its PID, and the socket."""
    path = os.path.join(folder, f"socket{len(os.listdir(folder))}")
    return start([sys.executable, "-c", LISTEN.format(change=change), path]), path


def test_containerd_is_who_listens_at_its_socket(tmp_path, start):
    pid, path = listener(tmp_path, start)
    assert containerd.daemons([path]) - containerd.daemons([]) == {pid}
    assert containerd.daemons([str(tmp_path / "none")]) == containerd.daemons([])


def test_a_name_is_not_enough(tmp_path, start):
    """Its folder for temporary files would be anybody's."""
    pid, _path = listener(tmp_path, start)
    assert procfs.program(pid) == "containerd"
    assert pid not in containerd.daemons([])


def test_another_users_socket_is_not_containerds(tmp_path, start):
    pid, path = listener(tmp_path, start, "os.setresuid(65534, 0, 0)")
    assert pid not in containerd.daemons([path])


@pytest.mark.parametrize("name", ["containerd", "docker-containerd", "dockerd"])
def test_containerd_is_found_by_its_program(tmp_path, start, name):
    """Its socket may be anywhere."""
    pid = start([runc_of(tmp_path, name), "-c", WAIT])
    assert pid in containerd.daemons([])
    place = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp"
    assert f"/proc/{pid}/root{place}" in containerd.temporary_folders()


def test_anybodys_containerd_is_not_believed(tmp_path, start):
    pid = start([runc_of(tmp_path, "containerd"), "-c", become(65534, 0, 0)])
    assert pid not in containerd.daemons([])


def test_a_socket_that_is_no_longer_listened_at(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
    assert containerd.daemons([path]) == containerd.daemons([])
