# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small situations in which CRIU by itself fails, or loses something: they move, or are refused by name."""

from __future__ import annotations

import re

import pytest

from support import programs
from support.lab import failure, wait_for
from support.policy import allowed

pytestmark = pytest.mark.lab

# Its program is another file than the one that it runs, it watches a folder, it has all the files open that it may, and
# as many threads as its container may have, of which one is bound to a processor, and one sleeps. A number on each
# line, whether the watch has told of a new file, its limit of open files, and to how many processors the thread is
# bound.
EVERYTHING = """
import ctypes, os, resource, shutil, threading, time
libc = ctypes.CDLL(None)
program = os.path.realpath("/proc/self/exe")
shutil.copy2(program, "/new")
os.replace("/new", program)
os.mkdir("/watched")
notify = libc.inotify_init1(os.O_NONBLOCK)
libc.inotify_add_watch(notify, b"/watched", 0x100)
bound = []
def bind():
    bound.append(threading.get_native_id())
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    threading.Event().wait()
class Time(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("rest", ctypes.c_long)]
def sleep():
    began, wanted = time.time(), Time(40, 0)
    answer = libc.nanosleep(ctypes.byref(wanted), ctypes.byref(wanted))
    print("slept", answer, int(time.time() - began))
for one in (bind, sleep):
    threading.Thread(target=one).start()
while not bound:
    time.sleep(0.01)
number = 0
kept = []
try:
    while True:
        kept.append(os.dup(0))
except OSError:
    pass
while True:
    os.close(kept.pop())
    open(f"/watched/{number}", "w").close()
    kept.append(os.dup(0))
    try:
        told = os.read(notify, 4096).count(b"%d\\0" % number)
    except BlockingIOError:
        told = 0
    limits = "%d-%d" % resource.getrlimit(resource.RLIMIT_NOFILE)
    print(number, told, limits, len(os.sched_getaffinity(bound[0])))
    number += 1
    time.sleep(0.2)
"""
PIDS = "cat $(find /sys/fs/cgroup -path '*{}*' -name pids.max | head -n 1)"


def test_it_moves_as_it_is(lab):
    programs.start(lab, "fog1", "mover", EVERYTHING, "--ulimit", "nofile=64:128", "--pids-limit", "3")
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 3, "the first lines")
    lab.migrate("mover")
    assert lab.running_on("mover") == ["fog2"]
    before = int(lab.lines("fog2", "mover")[0].split()[0])
    wait_for(lambda: any("slept" in line for line in lab.lines("fog2", "mover")), "the end of a sleep")
    lines = [line.split() for line in lab.lines("fog2", "mover")]
    slept = next(line for line in lines if line[0] == "slept")
    # Not before its time; later than that by the pause alone.
    assert slept[1] == "0" and int(slept[2]) >= 39
    numbers = [line for line in lines if line[0] != "slept"]
    assert {tuple(line[1:]) for line in numbers} == {("1", "64-128", "1")}
    assert [int(line[0]) for line in numbers] == list(range(before, before + len(numbers)))
    identity = lab.inspect("fog2", "mover")["Id"]
    assert lab.sh("fog2", PIDS.format(identity)).strip() == "3"
    # The runtime knows it as well, which sets all limits anew.
    lab.docker("fog2", "update", "--memory", "512m", "--memory-swap", "512m", "mover")
    assert lab.sh("fog2", PIDS.format(identity)).strip() == "3"


# What each of its children has, by its words.
REFUSED = """
import ctypes, os, resource, time
libc = ctypes.CDLL(None)
def child(what):
    told, tells = os.pipe()
    if not os.fork():
        what()
        os.write(tells, b".")
        time.sleep(1000)
    os.read(told, 1)
kept = []
def opens_all():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            kept.append(os.dup(0))
    except OSError:
        os.close(kept.pop())
child(lambda: libc.unshare(0x04000000))
child(lambda: libc.ptrace(0, 0, 0, 0))
child(lambda: kept.append(libc.syscall(425, 4, ctypes.create_string_buffer(120))))
child(opens_all)
print("there")
time.sleep(1000)
"""


def test_it_is_refused_with_the_process(lab):
    options = ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined")
    programs.start(lab, "fog1", "mover", REFUSED, *options, "-v", "/:/host:ro")
    wait_for(lambda: lab.docker("fog1", "logs", "mover"), "its first line")
    rules = {"bind_folders": ["/"], "capabilities": ["SYS_ADMIN"], "security_options": ["seccomp=unconfined"]}
    with allowed(lab, "fog2", **rules):
        said = failure(lab.migrate("mover", check=False))
    for told in (
        "python3 (PID 7 in it) has a uts namespace of its own (hostname)",
        "python3 (PID 8 in it) is traced by python3 (ptrace)",
        "python3 (PID 9 in it) holds an io_uring",
        "python3 (PID 10 in it) has as many files open as it may (64)",
        "other file systems of the server are mounted below its bind mounts (/host/",
        "nothing was changed",
    ):
        assert told in said
    assert lab.running_on("mover") == ["fog1"]
    lab.require_no_traces()


# What nobody has looked for, since the look is told not to count.
UNFORESEEN = """
import ctypes, time
print("has", ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120)))
time.sleep(1000)
"""


def test_of_what_fails_at_the_freeze_the_log_is_kept(lab):
    programs.start(lab, "fog1", "mover", UNFORESEEN, "--security-opt", "seccomp=unconfined")
    wait_for(lambda: lab.docker("fog1", "logs", "mover"), "its first line")
    with allowed(lab, "fog2", security_options=["seccomp=unconfined"]):
        said = failure(lab.migrate("mover", check=False, migration_ignore=["processes"]))
    told = re.search(r"CRIU said: (.*?) \(its log is (/var/log/fog-migration/criu/\S+-dump\.log)\)", said)
    # Linux from 6.7 on does not let such a file be sent, which CRIU does before it looks what it is.
    assert told and re.search("send_fds failed|Can't dump file", told.group(1)), said
    assert "log file: " not in said and "runs on as before" in said
    assert told.group(1) in lab.sh("fog1", f"cat {told.group(2)}")
    assert lab.running_on("mover") == ["fog1"]
