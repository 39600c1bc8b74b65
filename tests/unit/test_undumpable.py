# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU cannot dump: by what /proc tells, and of real processes that have it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import undumpable
from ansible_collections.fog.migration.plugins.module_utils.preflight import processes
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

MPTCP = getattr(socket, "IPPROTO_MPTCP", 262)


@pytest.mark.parametrize(
    ("link", "what"),
    [
        ("anon_inode:[eventpoll]", None),
        ("anon_inode:inotify", None),
        ("socket:[4711]", None),
        ("/dev/null", None),
        ("/a:[io_uring]b", None),
        ("anon_inode:[io_uring]", "holds an io_uring"),
        ("anon_inode:bpf-prog", "holds a program of BPF"),
        ("anon_inode:seccomp notify", "answers the system calls of others (seccomp's user notification)"),
        ("anon_inode:[strange]", "holds a file of the kernel's kind strange"),
        ("/secretmem (deleted)", "holds memory that only it can read (memfd_secret)"),
    ],
)
def test_files_without_a_name(link, what):
    found = undumpable.of_link(link)
    assert (found.what if found else None) == what


@pytest.mark.parametrize(
    ("numbers", "is_fine"),
    [
        ((1, 3), True),
        ((5, 0), True),
        ((5, 2), True),
        ((136, 7), True),
        ((4, 1), True),
        ((10, 200), True),
        ((4, 64), False),
        ((10, 229), False),
        ((226, 128), False),
        ((116, 1), False),
    ],
)
def test_character_devices(numbers, is_fine):
    assert (undumpable.of_character_device(*numbers, "/dev/x") is None) is is_fine


@pytest.mark.parametrize(
    ("text", "flags", "is_fine"),
    [
        ("pos:\t0\nflags:\t02000002\nPid:\t7\nNSpid:\t7\n", 0, True),
        ("Pid:\t-1\n", 0, True),
        ("Pid:\t9\n", 0, False),
        ("Pid:\t7\n", 0o200, False),
    ],
)
def test_descriptors_of_processes(text, flags, is_fine):
    assert (undumpable.of_pidfd(text, {7}, flags) is None) is is_fine
    assert undumpable.open_flags("pos:\t0\nflags:\t02000002\n") == 0o2000002
    assert undumpable.open_flags("") == 0


def test_namespaces():
    first = {"mnt": "mnt:[1]", "net": "net:[2]", "uts": "uts:[3]", "time": "time:[4]", "time_for_children": "time:[4]"}
    assert undumpable.of_namespaces(first, first) == undumpable.of_namespaces({}, first) == []
    assert undumpable.of_namespaces({**first, "mnt": "mnt:[9]"}, first) == []
    (found,) = undumpable.of_namespaces({**first, "net": "net:[9]"}, first)
    assert found.what == "has a net namespace of its own (network)"
    (found,) = undumpable.of_namespaces({**first, "uts": "uts:[9]"}, first)
    assert found.what == "has a uts namespace of its own (hostname)" and found.remedy
    (found,) = undumpable.of_namespaces({**first, "time_for_children": "time:[9]"}, first)
    assert "for its children" in found.what
    assert undumpable.of_namespace_file("net:[2]", first.values()) is None
    assert undumpable.of_namespace_file("socket:[2]", first.values()) is None
    assert undumpable.of_namespace_file("net:[9]", first.values()).what.startswith("holds a net namespace")


def test_processes_and_threads():
    assert undumpable.of_status({"State": "S (sleeping)", "Threads": "4"}, "") == []
    assert undumpable.of_status({"State": "Z (zombie)", "Threads": "1"}, "") == undumpable.of_status({}, "") == []
    assert [one.what for one in undumpable.of_status({"State": "Z (zombie)", "Threads": "2"}, "gdb")] == [
        "is traced by gdb (ptrace)",
        "has threads that run, while its first one has ended (pthread_exit)",
    ]
    assert undumpable.of_thread(True, True, {"net": "net:[1]"}, {"net": "net:[1]"}) == []
    assert [one.what for one in undumpable.of_thread(False, False, {"net": "net:[1]"}, {"net": "net:[2]"})] == [
        "has a thread with open files of its own (unshare)",
        "has a thread with a current folder of its own (unshare)",
        "has a thread in another net namespace than its own",
    ]


def test_memory():
    line = "7f0000000000-7f0000001000 rw-s 00000000 00:05 {} {}\n"
    fine = line.format(7, "/dev/zero (deleted)") + line.format(8, "/lib/x.so")
    assert undumpable.of_maps(fine) == undumpable.of_maps("") == []
    found = undumpable.of_maps(fine + line.format(9, "anon_inode:[io_uring]") + line.format(0, "[uprobes]"))
    assert [one.what for one in found] == ["holds an io_uring", "is watched by a probe of the server (uprobes)"]
    assert undumpable.mapped_devices(line.format(9, "/dev/dri/card0")) == {
        "/dev/dri/card0": "7f0000000000-7f0000001000"
    }
    assert undumpable.of_mapped_device(1, 5, "/dev/zero") is None
    assert undumpable.of_mapped_device(226, 0, "/dev/dri/card0").what == "has the device /dev/dri/card0 mapped"
    assert [undumpable.is_read_only_code(rights) for rights in ("r-xp", "rwxs", "r-xs", "--xs")] == [
        False,
        False,
        True,
        True,
    ]


# Of real processes


@contextlib.contextmanager
def running(program: str) -> Iterator[int]:
    """A Python that has done this, has said so, and waits; its PID."""
    words = [sys.executable, "-c", f"{program}\nprint('there', flush=True)\nimport time\ntime.sleep(1000)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            # Of several processes, two may say so at the same time.
            assert process.stdout.readline().startswith(b"there")
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def children(process: int) -> list[int]:
    """The children of its first thread."""
    return list(map(int, procfs.read(f"/proc/{process}/task/{process}/children").split()))


def whats(process: int, *others: int) -> list[str]:
    """What is told of a process that moves, alone or with others."""
    found = processes.Look({process, *others}, process).found()
    return [one["what"] for one in found if one["process"]]


def test_nothing_is_wrong_with_an_ordinary_process():
    program = "import select, socket, threading, time\nkept = select.epoll(), socket.socket(), open('/dev/null')\n"
    with running(program + "threading.Thread(target=time.sleep, args=[1000]).start()") as process:
        assert whats(process) == []


def test_a_process_that_is_traced_or_shares_its_memory():
    with running(
        "import ctypes, os\n"
        "told, tells = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n"
        "    os.write(tells, b'.')\n"
        "else:\n"
        "    os.read(told, 1)\n"
    ) as process:
        assert "is traced by" in "".join(whats(process, *children(process)))
    with running(
        "import ctypes, os, time\n"
        "call = ctypes.CDLL(None)\n"
        "stack = ctypes.create_string_buffer(1 << 20)\n"
        "what = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(lambda _one: time.sleep(1000) or 0)\n"
        "top = ctypes.c_void_p(ctypes.addressof(stack) + (1 << 20) - 64)\n"
        "call.clone(call.pause, top, 0x100 | 17, None)\n"
    ) as process:
        assert "shares its memory with its parent (vfork)" in whats(process, *children(process))


def test_a_thread_that_is_apart():
    program = (
        "import ctypes, threading, time\n"
        "apart = threading.Event()\n"
        "def run():\n"
        "    ctypes.CDLL(None).unshare(0x400 | 0x200)\n"
        "    apart.set()\n"
        "    time.sleep(1000)\n"
        "threading.Thread(target=run).start()\n"
        "apart.wait()\n"
    )
    with running(program) as process:
        assert whats(process) == [
            "has a thread with open files of its own (unshare)",
            "has a thread with a current folder of its own (unshare)",
        ]


def test_a_descriptor_of_a_process_that_stays():
    with running(f"import os\nkept = os.pidfd_open({os.getpid()}), os.pidfd_open(os.getpid())") as process:
        assert whats(process) == ["holds a descriptor of a process that does not move (pidfd_open)"]


def test_sockets_that_criu_does_not_know():
    """Of each protocol that this kernel has: those that CRIU makes again, and others."""
    known = [
        (socket.AF_INET, socket.SOCK_STREAM, 0),
        (socket.AF_INET6, socket.SOCK_DGRAM, 0),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0),
        (socket.AF_NETLINK, socket.SOCK_RAW, 0),
    ]
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(socket.socket(*words)) for words in known]
        for one in kept:
            assert processes.of_path(f"/proc/self/fd/{one.fileno()}", "socket:[1]") is None
        assert processes.of_path("/proc/self/fd/99999", "socket:[1]") is None
        try:
            other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP))
        except OSError:
            pytest.skip("NOT TESTED: this kernel has no MPTCP")
        found = processes.of_path(f"/proc/self/fd/{other.fileno()}", "socket:[1]")
        assert found.what == "holds a socket of the protocol MPTCP" and "GODEBUG" in found.remedy


def test_files_of_the_server():
    """A descriptor that was given from another mount namespace, as docker exec gives one."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("NOT TESTED: this needs root and the program unshare")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for words, found in (
        (["sleep", "60"], []),
        (["unshare", "--mount", "sh", "-c", "exec sleep 60 </dev/null"], []),
        (["unshare", "--mount", "sleep", "60"], ["has /dev/null of the server open"]),
    ):
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, **pipes) as process:
            try:
                deadline = time.monotonic() + 20
                while procfs.program(process.pid) != "sleep" and time.monotonic() < deadline:
                    time.sleep(0.01)
                told = processes.Look([process.pid], process.pid).found()
                assert [one["what"] for one in told] == found
            finally:
                process.kill()


def test_a_process_that_has_ended():
    assert processes.Look({2**22 + 1}, 2**22 + 1).found() == []
