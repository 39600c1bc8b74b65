# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What restored processes have brought along besides: by the text of the kernel, and by real processes."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import open_files, resources
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: this needs root")
TEXT = """Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max open files            1024                 524288               files
Max nice priority         0                    0
Max realtime priority     0                    7
"""
UNLIMITED = 2**64 - 1


def config(*capabilities, rlimits=(), devices=(), score=0):
    process = {"capabilities": {"bounding": [f"CAP_{one}" for one in capabilities]}, "oomScoreAdj": score}
    process["rlimits"] = [{"type": name, "hard": hard, "soft": hard} for name, hard in rlimits]
    return {"process": process, "linux": {"resources": {"devices": list(devices)}}}


# Limits


def test_limits_are_read():
    assert resources.parse_limits(TEXT) == {
        "RLIMIT_CPU": (UNLIMITED, UNLIMITED),
        "RLIMIT_NOFILE": (1024, 524288),
        "RLIMIT_NICE": (0, 0),
        "RLIMIT_RTPRIO": (0, 7),
    }
    assert resources.parse_limits("") == {}


def test_all_limits_of_the_kernel_are_known():
    found = resources.parse_limits(procfs.read("/proc/self/limits"))
    assert len(found) == len(resources.LIMITS) == len(procfs.read("/proc/self/limits").splitlines()) - 1
    numbers = {name: number for number, name in resources.LIMITS.values()}
    for name in ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_RTPRIO", "RLIMIT_NPROC", "RLIMIT_MEMLOCK", "RLIMIT_AS"):
        assert numbers[name] == getattr(resource, name)


@pytest.mark.parametrize(
    ("limits", "given", "lowered"),
    [
        ({"RLIMIT_NOFILE": (1024, 4096)}, {"RLIMIT_NOFILE": 4096}, {}),
        # Those that it has lowered itself, or raised as far as it may.
        ({"RLIMIT_NOFILE": (10, 20)}, {"RLIMIT_NOFILE": 4096}, {}),
        ({"RLIMIT_NOFILE": (4096, 4096)}, {"RLIMIT_NOFILE": 4096}, {}),
        ({"RLIMIT_NOFILE": (1024, 8192)}, {"RLIMIT_NOFILE": 4096}, {7: (1024, 4096)}),
        ({"RLIMIT_NOFILE": (8192, 8192)}, {"RLIMIT_NOFILE": 4096}, {7: (4096, 4096)}),
        ({"RLIMIT_CPU": (UNLIMITED, UNLIMITED)}, {"RLIMIT_CPU": 60}, {0: (60, 60)}),
        ({"RLIMIT_CPU": (UNLIMITED, UNLIMITED)}, {"RLIMIT_CPU": UNLIMITED}, {}),
        # Of which nobody has said anything.
        ({"RLIMIT_NPROC": (7, 7)}, {}, {}),
    ],
)
def test_which_limits_are_lowered(limits, given, lowered):
    assert resources.above(limits, given) == lowered


def test_what_a_container_gets():
    process = config(rlimits=[("RLIMIT_NOFILE", 77)], score=300)["process"]
    given = resources.given_here(process, os.getpid())
    own = resources.parse_limits(procfs.read("/proc/self/limits"))
    assert given.limits == {**{name: hard for name, (_soft, hard) in own.items()}, "RLIMIT_NOFILE": 77}
    assert given.score == 300 and given.niceness <= 0
    # Without the program that starts containers, only the configuration is known.
    assert resources.given_here(process, None).limits == {"RLIMIT_NOFILE": 77}
    assert resources.given_here(config(rlimits=[("RLIMIT_NICE", 30)])["process"], None).niceness == -10
    assert resources.given_here({}, None) == resources.Given({}, 0, 0, "")


# Real processes


@contextlib.contextmanager
def stopped(program, *words):
    """A real process that has done this in Python, and was stopped; its PID."""
    with subprocess.Popen(
        [sys.executable, "-c", f"import os, signal, sys\n{program}\nos.kill(os.getpid(), signal.SIGSTOP)", *words],
        start_new_session=True,
    ) as child:
        try:
            deadline = time.monotonic() + 30
            while not procfs.is_stopped(child.pid):
                assert child.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            yield child.pid
        finally:
            child.kill()


@pytest.fixture
def required(monkeypatch):
    """What is required of these processes by this configuration, as if they were a container."""

    def require(wanted, *processes):
        monkeypatch.setattr(runc, "first_process", lambda _container: (processes[0], 0))
        resources.require(wanted, "c", processes)

    return require


@NEEDS_ROOT
def test_real_limits_are_lowered(required):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with stopped("pass") as process:
        required(config(rlimits=[("RLIMIT_NOFILE", hard)]), process)
        assert resource.prlimit(process, resource.RLIMIT_NOFILE)[1] == hard
        # Who has this capability may raise them.
        required(config("SYS_RESOURCE", rlimits=[("RLIMIT_NOFILE", 50)]), process)
        assert resource.prlimit(process, resource.RLIMIT_NOFILE)[1] == hard
        required(config(rlimits=[("RLIMIT_NOFILE", 50)]), process)
        assert resource.prlimit(process, resource.RLIMIT_NOFILE) == (50, 50)


def may(program):
    """Whether this machine lets a program do this."""
    return subprocess.run([sys.executable, "-c", f"import os\n{program}"], check=False, stderr=-3).returncode == 0


@NEEDS_ROOT
def test_real_niceness_is_raised(required):
    if not may("os.nice(-5)"):
        pytest.skip("NOT TESTED: niceness cannot be lowered here")
    # Of a thread besides the first one, too.
    threads = "import threading, time; t = threading.Thread(target=time.sleep, args=(60,), daemon=True); t.start()"
    with stopped(f"os.nice(-5)\n{threads}") as process, stopped("os.nice(3)") as kind:
        required(config(rlimits=[("RLIMIT_NICE", 25)]), process, kind)
        assert os.getpriority(os.PRIO_PROCESS, process) == -5
        required(config("SYS_NICE"), process, kind)
        assert os.getpriority(os.PRIO_PROCESS, process) == -5
        required(config(), process, kind)
        found = [os.getpriority(os.PRIO_PROCESS, int(one)) for one in os.listdir(f"/proc/{process}/task")]
        assert found == [0, 0] and os.getpriority(os.PRIO_PROCESS, kind) == 3


@NEEDS_ROOT
def test_real_time_is_taken_away(required):
    real_time = "os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(9))"
    if not may(real_time):
        pytest.skip("NOT TESTED: this machine has no real time for this program")
    with stopped(real_time) as process, stopped("os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))") as batch:
        required(config(rlimits=[("RLIMIT_RTPRIO", 9)]), process, batch)
        assert os.sched_getparam(process).sched_priority == 9
        required(config(rlimits=[("RLIMIT_RTPRIO", 4)]), process, batch)
        assert (os.sched_getscheduler(process), os.sched_getparam(process).sched_priority) == (os.SCHED_RR, 4)
        required(config(), process, batch)
        assert os.sched_getscheduler(process) == os.SCHED_OTHER
        assert os.sched_getscheduler(batch) == os.SCHED_BATCH


@NEEDS_ROOT
def test_who_is_spared_when_memory_runs_out(required):
    score = "open('/proc/self/oom_score_adj', 'w').write(sys.argv[1])"
    with stopped(score, "700") as process:
        for wanted, found in ((0, 700), (700, 700), (900, 900)):
            required(config(score=wanted), process)
            assert procfs.read(f"/proc/{process}/oom_score_adj").strip() == str(found)


# Descriptors

HONEST = """
import ctypes, mmap, select, socket, tempfile, threading
libc = ctypes.CDLL(None)
held = [os.pipe(), socket.socketpair(), socket.socket(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)]
held += [socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0)), select.epoll()]
held += [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0), os.memfd_create("x"), os.openpty()]
held += [libc.eventfd(0, 0), libc.timerfd_create(1, 0), libc.inotify_init(), libc.signalfd(-1, b"0" * 8, 0)]
held += [tempfile.TemporaryFile(), open("/etc/passwd"), open("/"  "dev/null"), open("/dev/urandom", "rb")]
held += [os.open("/proc/self/status", os.O_RDONLY), os.open("/", os.O_RDONLY), os.open("/etc", os.O_PATH)]
held += [os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/proc/{os.getpid()}", os.O_RDONLY)]
place = tempfile.mkdtemp(); os.mkfifo(f"{place}/fifo"); held += [os.open(f"{place}/fifo", os.O_RDWR)]
named = socket.socket(socket.AF_UNIX); named.bind(f"{place}/s"); held += [os.open(f"{place}/s", os.O_PATH)]
gone = os.open(f"{place}/gone", os.O_RDWR | os.O_CREAT); os.unlink(f"{place}/gone")
"""


@NEEDS_ROOT
def test_what_honest_programs_have_open(required):
    with stopped(HONEST) as process:
        assert len(os.listdir(f"/proc/{process}/fd")) > 30
        required(config(), process)
        required(config("SYS_ADMIN"), process)


@NEEDS_ROOT
@pytest.mark.parametrize("leads_out", [False, True])
def test_what_only_the_second_of_two_processes_has_open(required, leads_out):
    """What it has in common with the first one is passed over."""
    apart = "__import__('ctypes').CDLL(None).unshare(0x40000000)" if leads_out else "pass"
    program = f"import socket\nr, w = os.pipe()\nif os.fork() == 0:\n    {apart}\n    s = socket.socket()\n"
    with stopped(program) as process:
        deadline = time.monotonic() + 30
        while len(found := procfs.processes_below(process)) < 2 or not all(map(procfs.is_stopped, found)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        refused = pytest.raises(Refused, match="has a socket of another network namespace")
        with refused if leads_out else contextlib.nullcontext():
            required(config(), *sorted(found))
        for one in found - {process}:
            os.kill(one, 9)


@NEEDS_ROOT
def test_how_long_it_takes(required, capsys):
    """No test fails on a time; it is told."""
    many = "import socket\nheld = [open('/etc/passwd') for _ in range(15)] + [os.pipe() for _ in range(10)]\n"
    many += "held += [socket.socket() for _ in range(12)]\nfor _ in range(99):\n    if os.fork() == 0: break\n"
    with stopped(many) as process:
        time.sleep(0.5)
        processes = sorted(procfs.processes_below(process))
        try:
            begun = time.process_time()
            required(config(), *processes)
            taken = time.process_time() - begun
            with capsys.disabled():
                print(f" {len(processes)} processes: {1000 * taken:.1f} ms", end="")
        finally:
            for one in processes:
                os.kill(one, 9)
    assert len(processes) == 100


APART = ["unshare", "--mount", "--net", "--fork", "--pid", "--mount-proc", "--propagation", "private"]


@contextlib.contextmanager
def apart(program, *inherited):
    """A real process with mounts, network and PIDs of its own, that has these descriptors of the server."""
    words = [*APART, sys.executable, "-c", f"import os, sys\n{program}\nos.write(1, b'x')\nsys.stdin.read()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, pass_fds=inherited, **pipes) as child:
        try:
            assert child.stdout.read(1) == b"x"
            yield max(procfs.processes_below(child.pid))
        finally:
            child.kill()
            child.stdin.close()


def leading_out():
    """Descriptors of the server by what they are, and why a container has none such."""
    master, terminal = os.openpty()
    tcp, unix, bound = socket.socket(), socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))
    return {
        "file": (os.open("/etc/passwd", os.O_RDONLY), "has opened /etc/passwd, which is in none of the container's"),
        "folder": (os.open("/", os.O_RDONLY), "has opened /, which is in none of"),
        "path": (os.open("/etc/passwd", os.O_PATH), "has opened /etc/passwd, which"),
        "settings": (os.open("/proc/sys/kernel/hostname", os.O_RDONLY), "has opened /proc/sys/kernel/hostname, which"),
        "namespace": (os.open("/proc/self/ns/net", os.O_RDONLY), "has opened the namespace net:["),
        "socket": (tcp.detach(), "has a socket of another network namespace"),
        "unix": (unix.detach(), "has a socket of another network namespace"),
        "bound": (bound.detach(), "has a socket of another network namespace"),
        "terminal": (terminal, "has opened "),
        "its other end": (master, "has opened "),
    }


@NEEDS_ROOT
@pytest.mark.skipif(not shutil.which("unshare"), reason="NOT TESTED: there is no unshare")
@pytest.mark.parametrize(
    "what", ["file", "folder", "path", "settings", "namespace", "socket", "unix", "bound", "terminal", "its other end"]
)
def test_what_leads_out_of_a_container(what):
    every = leading_out()
    descriptor, why = every[what]
    try:
        with apart("", descriptor) as process, pytest.raises(Refused) as refused:
            open_files.require(config(), process, [process])
    finally:
        for one, _why in every.values():
            os.close(one)
    assert why in str(refused.value) and str(refused.value).endswith("as the images say that came from the source")


@NEEDS_ROOT
@pytest.mark.skipif(not shutil.which("unshare"), reason="NOT TESTED: there is no unshare")
def test_what_is_opened_within_is_its_own():
    with apart(HONEST) as process:
        open_files.require(config(), process, [process])


@pytest.mark.parametrize(
    ("rules", "device", "may_open"),
    [
        ([], ("c", 1, 1), False),
        ([{"allow": False, "access": "rwm"}], ("c", 1, 1), False),
        ([{"allow": True, "access": "rwm"}], ("b", 8, 0), True),
        ([{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}], ("c", 10, 229), True),
        ([{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}], ("b", 10, 229), False),
        # Making one is not opening it.
        ([{"allow": True, "type": "b", "access": "m"}], ("b", 8, 0), False),
        ([{"allow": True}, {"allow": False, "type": "b", "major": 8, "access": "rwm"}], ("b", 8, 0), False),
        ([{"allow": True, "type": "c", "major": -1, "minor": -1, "access": "r"}], ("c", 4, 0), True),
        # What runc gives to every container.
        ([{"allow": False, "access": "rwm"}], ("c", 136, 3), True),
    ],
)
def test_which_devices_may_be_opened(rules, device, may_open):
    assert open_files.may_open(open_files.device_rules(config(devices=rules)), *device) == may_open


def own(mounts=(7,), rules=()):
    unnamed = {"pipe": 13, "memory": 1, "socket": 8, "namespace": 4}
    may_open = open_files.functools.partial(open_files.may_open, open_files.device_rules(config(devices=rules)))
    return open_files.Own(mounts, may_open, unnamed, {"net:[5]"})


def seen(kind, mount=7, device=50, is_device=0):
    return open_files.Seen(kind | 0o600, 100, mount, device, is_device)


MEMORY = os.makedev(1, 1)


@pytest.mark.parametrize(
    ("what", "may_mount", "called", "problem"),
    [
        (seen(stat.S_IFREG), False, "", None),
        (seen(stat.S_IFREG, mount=8), False, "/x", "has opened /x, which is in none"),
        (seen(stat.S_IFREG, mount=8), True, "/x", None),
        (seen(stat.S_IFREG, mount=8, device=1), False, "/memfd:x (deleted)", None),
        (seen(0, mount=8), False, "anon_inode:[eventfd]", None),
        (seen(stat.S_IFIFO, mount=8, device=13), False, "pipe:[3]", None),
        (seen(stat.S_IFIFO, mount=8), False, "/run/fifo", "has opened /run/fifo, which is in none"),
        (seen(stat.S_IFREG, mount=8, device=4), True, "net:[5]", None),
        (seen(stat.S_IFREG, mount=8, device=4), True, "net:[6]", "has opened the namespace net:[6]"),
        (seen(stat.S_IFCHR, is_device=MEMORY), True, "/dev/mem", "has opened the device /dev/mem, which the"),
        (seen(stat.S_IFBLK, is_device=os.makedev(8, 0)), False, "/x", "has opened the device /x"),
        (seen(stat.S_IFCHR, mount=8, is_device=os.makedev(1, 3)), False, "/dev/null", None),
        (seen(stat.S_IFCHR, is_device=os.makedev(136, 3)), False, "/dev/pts/3", None),
        (seen(stat.S_IFCHR, mount=8, is_device=os.makedev(136, 3)), False, "/dev/pts/3", "has opened /dev/pts/3"),
    ],
)
def test_what_a_descriptor_leads_to(what, may_mount, called, problem):
    found = open_files.problem_of(what, own(None if may_mount else (7,)), lambda: called)
    assert problem in found if problem else found is None
