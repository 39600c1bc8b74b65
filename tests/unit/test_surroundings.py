# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where restored processes are: by the text of the kernel, and by real processes with mounts of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import surroundings
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# As Docker 26 writes it.
CONFIG = {
    "root": {"path": "/var/lib/docker/overlay2/a/merged"},
    "process": {"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_CHROOT"]}},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
        {"destination": "/etc/hosts", "type": "bind", "source": "/var/lib/docker/containers/c/hosts"},
        {"destination": "/dev/shm", "type": "bind", "source": "/var/lib/docker/containers/c/mounts/shm"},
        {"destination": "/var/run/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro"]},
    ],
    "linux": {
        "namespaces": [{"type": "mount"}, {"type": "pid"}],
        "maskedPaths": ["/proc/asound", *surroundings.HIDDEN],
        "readonlyPaths": ["/proc/asound", *surroundings.READ_ONLY],
    },
}
SERVER = """\
1 0 254:0 / / rw - ext4 /dev/vda rw
2 1 0:5 / /dev rw - devtmpfs dev rw
3 1 0:21 / /proc rw - proc proc rw
4 1 0:25 / /run rw - tmpfs tmpfs rw
5 1 254:16 /@/srv /srv rw - btrfs /dev/vdb rw
6 5 254:32 / /srv/data/in\\040it rw - xfs /dev/vdc rw
7 1 0:60 / /var/lib/docker/containers/c/mounts/shm rw - tmpfs shm rw
"""
RESTORED = """\
100 90 0:70 / / rw,relatime - overlay overlay rw,lowerdir=/x
101 100 0:71 / /proc rw,nosuid - proc proc rw
102 100 0:72 / /dev rw - tmpfs tmpfs rw
103 102 0:73 / /dev/pts rw - devpts devpts rw
104 100 0:74 / /sys ro,nosuid - sysfs sysfs ro
105 104 0:26 /../../x /sys/fs/cgroup ro - cgroup2 cgroup rw
106 100 254:0 /var/lib/docker/containers/c/hosts /etc/hosts rw - ext4 /dev/vda rw
107 102 0:60 / /dev/shm rw - tmpfs shm rw
108 100 254:16 /@/srv/data /run/data ro - btrfs /dev/vdb rw
109 108 254:32 / /run/data/in\\040it rw - xfs /dev/vdc rw
110 101 0:71 /bus /proc/bus ro - proc proc rw
111 101 0:71 /fs /proc/fs ro - proc proc rw
112 101 0:71 /irq /proc/irq ro - proc proc rw
113 101 0:71 /sys /proc/sys ro - proc proc rw
114 101 0:71 /sysrq-trigger /proc/sysrq-trigger ro - proc proc rw
115 101 0:5 /null /proc/kcore rw - devtmpfs dev rw
116 101 0:72 /null /proc/timer_list rw - tmpfs tmpfs rw
117 104 0:75 / /sys/firmware ro - tmpfs tmpfs ro
"""
OF_GROUPS = """\
105 104 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
118 105 0:32 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"""


def problems(restored, config=None, server=SERVER, null=True):
    config = config or CONFIG
    mounts, there = surroundings.parse_mounts(restored), surroundings.parse_mounts(server)
    return list(surroundings.mount_problems(config, there, mounts, lambda _path: True, lambda _place: null))


def test_the_mounts_of_a_container_as_docker_makes_it():
    assert problems(RESTORED) == []
    assert problems(RESTORED, server="") == []
    assert surroundings.parse_mounts(RESTORED)[9].place == "/run/data/in it"


def without(number):
    return "".join(line for line in RESTORED.splitlines(True) if not line.startswith(f"{number} "))


@pytest.mark.parametrize(
    ("restored", "problem"),
    [
        (without(113), "may change /proc/sys, which its configuration makes read-only"),
        (RESTORED.replace("/proc/sys ro", "/proc/sys rw"), "may write to /proc/sys, which"),
        (without(115), "sees /proc/kcore, which its configuration hides"),
        # Hidden in a file system that is hidden itself.
        (RESTORED.replace("115 101", "115 102"), "sees /proc/kcore, which"),
        (without(117), "sees /sys/firmware, which"),
        (RESTORED.replace("/sys ro,nosuid - sysfs sysfs ro", "/sys rw - sysfs sysfs rw"), "may write to /sys, which"),
        (RESTORED.replace("/sys/fs/cgroup ro", "/sys/fs/cgroup rw"), "may write to /sys/fs/cgroup, which"),
        (
            RESTORED + "120 105 0:40 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "may write to /sys/fs/cgroup/memory, which",
        ),
        (RESTORED + "120 101 0:71 / /proc rw - proc proc rw\n", "has the kernel's settings mounted twice"),
        (RESTORED + "120 100 0:71 / /x rw - proc proc rw\n", "has a proc mounted at /x, which its configuration does"),
        (RESTORED + "120 101 0:71 /kcore /proc/kcore rw - proc proc rw\n", "has a proc mounted at /proc/kcore"),
        (RESTORED + "120 100 0:80 / /x rw - debugfs none rw\n", "has a debugfs mounted at /x"),
        (RESTORED + "120 100 0:80 / /x rw - cgroup none rw\n", "has a cgroup mounted at /x"),
        (RESTORED + "120 100 0:81 / /x rw - overlay overlay rw,lowerdir=/etc\n", "has a overlay mounted at /x"),
        (RESTORED + "120 100 254:0 / /x rw - ext4 /dev/vda rw\n", "has a ext4 mounted at /x"),
        (RESTORED + "120 100 254:0 /etc /run/data rw - ext4 /dev/vda rw\n", "has a ext4 mounted at /run/data"),
        # The server's own, and no new one.
        (RESTORED + "120 100 0:25 / /x rw - tmpfs tmpfs rw\n", "has a tmpfs mounted at /x"),
        (RESTORED + "120 100 0:5 / /x rw - devtmpfs dev rw\n", "has a devtmpfs mounted at /x"),
        (RESTORED + "120 100 254:0 /null /x rw - ext4 /dev/vda rw\n", "has a ext4 mounted at /x"),
        # The server's processes, and not its own.
        (RESTORED.replace("0:71 / /proc", "0:21 / /proc"), "has a proc mounted at /proc, which"),
        (RESTORED.replace("0:71 /sys /proc/sys", "0:21 /sys /proc/sys"), "has a proc mounted at /proc/sys, which"),
        (RESTORED.replace("/run/data ro", "/run/data rw"), "may write to /run/data, which its configuration mounts"),
        (RESTORED + "120 100 254:16 /@/srv/data /x rw - btrfs /dev/vdb rw\n", "may write to /x, which its config"),
    ],
)
def test_what_is_mounted_otherwise_is_named(restored, problem):
    found = problems(restored)
    assert any(one.startswith(problem) for one in found), found


@pytest.mark.parametrize(
    "restored",
    [
        # What Docker hides where there is such a thing.
        RESTORED + "120 101 0:90 / /proc/asound ro - tmpfs tmpfs ro\n",
        RESTORED + "120 100 0:91 / /tmp rw - tmpfs tmpfs rw\n",
        RESTORED + "120 100 0:70 /usr /x rw - overlay overlay rw\n",
        RESTORED + "120 102 0:73 /0 /dev/console rw - devpts devpts rw\n",
        RESTORED + "120 105 0:40 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
        # Control groups of version 1 are in a file system that can be written to, with nothing else in it.
        RESTORED.replace("105 104 0:26 /../../x /sys/fs/cgroup ro - cgroup2 cgroup rw", OF_GROUPS),
        RESTORED.replace("/hosts /etc", "/hosts//deleted /etc"),
    ],
)
def test_what_may_be_there_besides(restored):
    assert problems(restored) == []


def test_a_number_that_another_file_system_of_the_server_had():
    """The kernel gives it to the next one as soon as that is gone."""
    mounts = surroundings.parse_mounts(RESTORED + "120 100 0:25 / /x rw - tmpfs tmpfs rw\n")
    server = surroundings.parse_mounts(SERVER)
    for present, found in ((None, 1), ({"0:25"}, 1), ({"0:5"}, 0)):
        told = list(surroundings.mount_problems(CONFIG, server, mounts, lambda _path: True, present=present))
        assert len(told) == found, told


def test_what_the_kernel_does_not_have_need_not_be_hidden():
    mounts, server = surroundings.parse_mounts(without(115)), surroundings.parse_mounts(SERVER)
    found = surroundings.mount_problems(CONFIG, server, mounts, lambda path: path != "/proc/kcore")
    assert list(found) == []


def binds(*more):
    return {**CONFIG, "mounts": [*CONFIG["mounts"], *({"type": "bind", **one} for one in more)]}


def test_what_is_mounted_once_more():
    """Read-only in one place, and in another one as somebody wants it."""
    twice = RESTORED + "120 100 254:16 /@/srv/data /x rw - btrfs /dev/vdb rw\n"
    other = {"destination": "/x", "source": "/srv/data", "options": ["rbind", "rw"]}
    assert problems(twice, binds(other)) == []
    # By another path than that of the configuration, nobody can tell which of them it is.
    assert problems(twice.replace("/run/data ro", "/run/data rw"), binds(other)) == []
    exact = {**other, "destination": "/run/data", "options": ["ro"]}
    found = problems(twice.replace("/run/data ro", "/run/data rw"), binds(other, exact))
    assert found == ["may write to /run/data, which its configuration mounts read-only"]


def test_what_is_below_a_read_only_mount_stays_as_it_is():
    """Docker before 25 makes nothing read-only that is mounted below, though it may be mounted by itself as well."""
    inner = {"destination": "/in", "source": "/srv/data/in it", "options": ["rbind", "ro"]}
    assert problems(RESTORED + "120 100 254:32 / /in ro - xfs /dev/vdc rw\n", binds(inner)) == []
    found = problems(RESTORED + "120 100 254:32 / /in rw - xfs /dev/vdc rw\n", binds(inner))
    assert found == ["may write to /in, which its configuration mounts read-only"]


def test_the_processes_of_a_server_that_are_shared():
    linux = {**CONFIG["linux"], "namespaces": [{"type": "mount"}]}
    assert problems(RESTORED.replace("0:71", "0:21"), {**CONFIG, "linux": linux}) == []


def test_a_null_device_of_a_server_that_is_a_container():
    server = SERVER.replace("0:5 / /dev rw - devtmpfs dev", "0:5 / /dev rw - tmpfs tmpfs")
    restored = RESTORED.replace("0:5 /null /proc/kcore rw - devtmpfs dev", "0:5 /null /proc/kcore rw - tmpfs tmpfs")
    assert problems(restored, server=server) == []
    found = problems(restored, server=server, null=False)
    assert found == ["has a tmpfs mounted at /proc/kcore, which its configuration does not know"]


def test_a_real_null_device():
    assert surroundings._is_null(os.getpid(), "/dev/null")
    assert not any(surroundings._is_null(os.getpid(), one) for one in ("/dev/zero", "/etc/passwd", "/nonexistent"))


def test_a_real_read_only_mount(tmp_path):
    for name in ("source", "there"):
        (tmp_path / name).mkdir()
    server = surroundings.look(f"/proc/{os.getpid()}/root", "/")
    bind = {"type": "bind", "source": f"{tmp_path}/source", "destination": f"{tmp_path}/there", "options": ["ro"]}
    config = {"mounts": [{"destination": "/", "type": "bind", "source": "/"}, bind]}
    mount = f"mount --bind {tmp_path}/source {tmp_path}/there\n"
    with program(f"{mount}mount -o remount,bind,ro {tmp_path}/there") as process:
        assert list(surroundings.mount_problems(config, server.mounts, mounts_of(process))) == []
    with program(mount) as process:
        found = list(surroundings.mount_problems(config, server.mounts, mounts_of(process)))
    assert found == [f"may write to {tmp_path}/there, which its configuration mounts read-only"]


def test_a_read_only_root_is_one():
    config = {**CONFIG, "root": {"path": "/x", "readonly": True}}
    assert problems(RESTORED, config) == ["may write to /, which its configuration makes read-only"]
    assert problems(RESTORED.replace("/ / rw,relatime", "/ / ro,relatime"), config) == []


# Real processes


@contextlib.contextmanager
def program(script, *options):
    """A process in a mount namespace of its own, in which a shell has done something before."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("NOT TESTED: this needs root and the program unshare")
    words = ["unshare", "--mount", *options, "sh", "-c", f"set -e\n{script}\nexec sleep 60"]
    with subprocess.Popen(words) as process:
        try:
            yield asleep(process)
        finally:
            for one in procfs.processes_below(process.pid) - {process.pid}:
                os.kill(one, 9)
            process.kill()


def asleep(process):
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        for one in procfs.processes_below(process.pid):
            if procfs.program(one) == "sleep":
                return one
        time.sleep(0.01)
    pytest.fail(f"it did not begin ({process.poll()})")
    return 0


def mounts_of(process):
    return surroundings.parse_mounts(procfs.read(f"/proc/{process}/mountinfo"))


HIDE = "for one in /proc/kcore /proc/timer_list; do [ ! -e $one ] || mount --bind /dev/null $one; done\n"
HIDE += "[ ! -e /sys/firmware ] || mount -t tmpfs none /sys/firmware\n"
HIDE += "for one in bus fs irq sys sysrq-trigger; do one=/proc/$one; [ ! -e $one ] && continue;"
HIDE += " mount --bind $one $one; mount -o remount,bind,ro $one; done\n"


def test_real_mounts(tmp_path):
    (tmp_path / "other").mkdir()
    server = surroundings.look(f"/proc/{os.getpid()}/root", "/")
    assert server.root and len(server.mounts) > 2
    # The server's own mounts and processes are there as well.
    config = {
        "linux": {**CONFIG["linux"], "namespaces": []},
        "mounts": [{"destination": "/", "type": "bind", "source": "/"}],
    }

    def found(process):
        return list(surroundings.mount_problems(config, server.mounts, mounts_of(process)))

    with program(HIDE) as process:
        assert found(process) == []
    with program(f"{HIDE}mount -t tmpfs none {tmp_path}/other") as process:
        assert found(process) == []
    with program(f"{HIDE}mount -t proc none {tmp_path}/other") as process:
        assert found(process) == [f"has a proc mounted at {tmp_path}/other, which its configuration does not know"]
    with program("") as process:
        assert "may change /proc/sys, which its configuration makes read-only" in found(process)
    with program(f"{HIDE}mount -o remount,bind,rw /proc/sys") as process:
        assert found(process) == ["may write to /proc/sys, which its configuration makes read-only"]


STRAY = """
import ctypes, os, sys
here = os.open("/", os.O_RDONLY)
space = os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY)
if ctypes.CDLL(None, use_errno=True).setns(space, 0):
    sys.exit(1)
os.fchdir(here)
if sys.argv[2] == "root":
    os.chroot(".")
    os.fchdir(os.open(f"/proc/{sys.argv[1]}/cwd", os.O_RDONLY))
os.execvp("sleep", ["sleep", "60"])
"""


@pytest.mark.parametrize(("place", "words"), [("cwd", "a working folder outside"), ("root", "a root outside")])
def test_a_real_process_that_is_outside(tmp_path, place, words):
    with program(f"cd {tmp_path}") as first, program("mkdir -p /tmp && exec chroot / sleep 60") as other:
        numbers = {one.number for one in mounts_of(first)}
        assert surroundings.place_problem(first, first, numbers) is None
        assert "has mounts of its own" in surroundings.place_problem(other, first, numbers)
        with subprocess.Popen([sys.executable, "-c", STRAY, str(first), place]) as stray:
            try:
                asleep(stray)
                assert words in surroundings.place_problem(stray.pid, first, numbers)
            finally:
                stray.kill()
    # They have ended.
    assert surroundings.place_problem(stray.pid, first, numbers) is None


def test_a_real_process_in_a_root_of_its_own(tmp_path):
    """It may have taken a folder of the container for its root; but the first one has the container's."""
    root = tmp_path / "root"
    bind = f"mkdir -p {root}/bin {root}/lib {root}/lib64 {root}/usr {root}/proc\n"
    bind += f"for one in bin lib lib64 usr; do [ ! -d /$one ] || mount --bind /$one {root}/$one; done\n"
    with program(f"{bind}exec chroot {root} sleep 60") as process:
        status = os.stat(f"/proc/{process}/root")
        identity = status.st_dev, status.st_ino
        assert "another root" in surroundings.root_problem((1, 1), process, mounts_of(process))
        assert "another root" in surroundings.root_problem(identity, process, mounts_of(process))
        seen = surroundings.parse_mounts(SERVER)
        assert surroundings.root_problem(identity, process, seen) is None
        assert surroundings.root_problem(None, process, seen) is None


def test_a_real_process_outside_of_the_control_groups(monkeypatch):
    with program("true", "--pid", "--fork") as first:
        assert surroundings.outside_groups(first, [{first}, {first, 7}]) == []
        assert surroundings.outside_groups(first, [{first}, set()]) == [first]
        assert surroundings.outside_groups(first, []) == [first]
        groups = iter([[set()], [{first}]])
        monkeypatch.setattr(surroundings.runc, "first_process", lambda _container: (first, 0))
        # As a health check, which joins the namespace before the control group.
        monkeypatch.setattr(surroundings.runc, "grouped", lambda _container: next(groups))
        surroundings.require({**CONFIG, **ABLE}, surroundings.Server(), "c", [first])
        monkeypatch.setattr(surroundings.runc, "grouped", lambda _container: [set()])
        monkeypatch.setattr(surroundings, "JOIN_LIMIT", 0.1)
        with pytest.raises(Refused, match="sleep in it is in none of the container's control groups"):
            surroundings.require({**CONFIG, **ABLE}, surroundings.Server(), "c", [first])
        # Where others are in its namespace, nobody can tell.
        shared = {"linux": {"namespaces": [{"type": "pid", "path": "/proc/7/ns/pid"}]}}
        surroundings.require({**shared, **ABLE}, surroundings.Server(), "c", [first])


ABLE = {"process": {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}}


def test_it_takes_milliseconds(monkeypatch):
    with program(HIDE) as first:
        monkeypatch.setattr(surroundings.runc, "first_process", lambda _container: (first, 0))
        monkeypatch.setattr(surroundings.runc, "grouped", lambda _container: [set(procfs.all_processes())])
        server = surroundings.look(f"/proc/{os.getpid()}/root", "/")
        linux = {**CONFIG["linux"], "namespaces": []}
        config = {"linux": linux, "mounts": [{"destination": "/", "type": "bind", "source": "/"}]}
        began = time.process_time()
        surroundings.require(config, server, "c", [first] * 20)
        print(f"{1000 * (time.process_time() - began):.1f} ms")
