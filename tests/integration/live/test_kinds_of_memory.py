# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(migrate.yml) with memory of any kind and size: it moves whole, or is refused before anything has changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from support import daemons, policy, programs
from support.lab import failure, wait_for

pytestmark = pytest.mark.lab

MODES = ("precopy", "postcopy", "hybrid")
# What processes share, and whether CRIU keeps it as memory, which can be copied beforehand, or as files.
SHARED = {"anonymous": True, "memfd": True, "sealed": True, "system_v": True, "posix": False}
# One of each is tried with every change.
QUICK = {("precopy", "anonymous"), ("postcopy", "memfd"), ("hybrid", "system_v"), ("precopy", "posix")}


def slowly(*values: object) -> list:
    """Those that are tried with every change are enough for "make test"."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def marked(mode: str, kind: str):
    return pytest.param(mode, kind, marks=[] if (mode, kind) in QUICK else pytest.mark.slow)


def goes_on(lab) -> list[list[str]]:
    """The lines at the destination, once there are more of them; the words of each."""
    wait_for(lambda: lab.running_on("mover") == ["fog2"], "its start at the destination")
    begun = len(lab.lines("fog2", "mover"))
    wait_for(lambda: len(lab.lines("fog2", "mover")) > begun + 4, "more lines at the destination", 180)
    return [line.split() for line in lab.lines("fog2", "mover")]


def require_whole(lab) -> None:
    """No page was found as it should not be, before or after; nothing is left of the migration."""
    lines = goes_on(lab)
    assert {errors for _number, errors in lines} == {"0"}, lines[-5:]
    numbers = [int(number) for number, _errors in lines]
    assert numbers == sorted(numbers) and numbers[0] > 0, "it began anew"
    lab.docker("fog2", "rm", "-f", "mover")
    lab.require_no_traces()


def start(lab, program: str, *options: str, lines: int = 3, seconds: float = 60) -> None:
    programs.start(lab, "fog1", "mover", program, *options)
    wait_for(lambda: len(lab.lines("fog1", "mover")) > lines, "the first lines", seconds)


def rounds(said: str) -> list[float]:
    """MiB of each round of pre-copy, as the report tells them."""
    told = re.search(r"pre-copy .*? rounds? by [a-z ]+: ([^;]*);", said)
    units = {"B": 2**-20, "KiB": 2**-10, "MiB": 1, "GiB": 2**10}
    found = re.findall(r"([0-9.]+) (B|KiB|MiB|GiB)", told.group(1)) if told else []
    return [float(number) * units[unit] for number, unit in found]


@pytest.mark.parametrize(("mode", "kind"), [marked(mode, kind) for mode in MODES for kind in SHARED])
def test_what_processes_share(lab, mode, kind):
    """64 MiB that one process writes and another one reads: each page is found as it was left."""
    start(lab, programs.checker(kind, 64), "--shm-size", "256m")
    facts = lab.module("fog1", "server_info", container="mover")["container"]
    assert facts["memory"] > 64 << 20
    assert (facts["memory_shared"] >> 20 == 64) == SHARED[kind]
    assert (facts["memory_files"] >> 20 == 64) == (not SHARED[kind])
    done = lab.migrate("mover", migration_mode=mode)
    if SHARED[kind]:
        # It travels in rounds before post-copy, too.
        assert 64 <= rounds(done.stdout)[0] < (80 if mode == "postcopy" else 300), done.stdout
    else:
        assert "64 MiB in its /dev/shm and other file systems in memory are packed while it stands still" in done.stdout
    require_whole(lab)


def test_what_processes_share_there_and_back(lab):
    """What CRIU restores is a memfd, whatever it was before; it is copied in rounds again."""
    start(lab, programs.checker("anonymous", 64))
    assert rounds(lab.migrate("mover").stdout)[0] >= 64
    goes_on(lab)
    assert rounds(lab.migrate("mover").stdout)[0] >= 64
    begun = len(lab.lines("fog1", "mover"))
    wait_for(lambda: len(lab.lines("fog1", "mover")) > begun + 4, "more lines at the source")
    assert {line.split()[1] for line in lab.lines("fog1", "mover")} == {"0"}
    lab.docker("fog1", "rm", "-f", "mover")
    lab.require_no_traces()


# 48 MiB of its own, so that a dump leaves them in place; a segment that nobody has attached, but when it is
# looked at; and a memfd that ends within a page, behind which there is something. A number and errors on each line.
HARD_TO_READ = (
    programs.KINDS
    + """
import random, time
own = private(48 << 20)
own[:] = random.Random(1).randbytes(48 << 20)
content = random.Random(2).randbytes(3 << 20)
number = libc.shmget(0, 3 << 20, 0o1600)
def segment():
    place = libc.shmat(number, None, 0)
    return place, (ctypes.c_char * (3 << 20)).from_address(place)
place, view = segment()
view[:] = content
libc.shmdt(ctypes.c_void_p(place))
file = os.memfd_create("odd")
os.ftruncate(file, 2 * 4096)
odd = mmap.mmap(file, 2 * 4096)
odd[:] = content[:8192]
os.ftruncate(file, 4096 + 56)
odd[4096 + 56 :] = content[4096 + 56 : 8192]
count = errors = 0
while True:
    place, view = segment()
    errors += view.raw != content
    libc.shmdt(ctypes.c_void_p(place))
    errors += odd[:] != content[:8192]
    errors += os.fstat(file).st_size != 4096 + 56
    print(count, errors)
    count += 1
    time.sleep(0.1)
"""
)


@pytest.mark.parametrize("mode", ["precopy", *slowly(*MODES[1:])])
def test_memory_that_only_a_dump_finds(lab, mode):
    start(lab, HARD_TO_READ)
    lab.migrate("mover", migration_mode=mode)
    require_whole(lab)


@pytest.mark.parametrize("kind", ["anonymous", "posix", *slowly("memfd", "sealed", "system_v", "private")])
def test_in_cold_mode(lab, kind):
    start(lab, programs.checker(kind, 16, shared=kind in SHARED), "--shm-size", "256m")
    lab.migrate("mover", migration_mode="cold")
    require_whole(lab)


@pytest.mark.parametrize("mode", ["precopy", *slowly(*MODES[1:])])
def test_locked_memory(lab, mode):
    start(lab, programs.checker("locked", 48, shared=False), "--cap-add", "IPC_LOCK")
    with policy.allowed(lab, "fog2", capabilities=["IPC_LOCK"]):
        lab.migrate("mover", migration_mode=mode)
    pid = lab.inspect("fog2", "mover")["State"]["Pid"]
    status = lab.sh("fog2", f"cat /proc/{pid}/status")
    assert int(re.search(r"VmLck:\s+(\d+) kB", status).group(1)) >= 48 * 1024
    require_whole(lab)


@pytest.fixture
def huge_pages(lab) -> Iterator[None]:
    """128 MiB of huge pages of 2 MiB; there is one kernel for all nodes."""
    place = "/proc/sys/vm/nr_hugepages"
    before = lab.sh("fog1", f"cat {place}").strip()
    lab.sh("fog1", f"echo 64 >{place} 2>/dev/null || true")
    if int(lab.sh("fog1", f"cat {place}")) < 64:
        lab.sh("fog1", f"echo {before} >{place} 2>/dev/null || true")
        pytest.skip("NOT TESTED: this machine gives no huge pages")
    yield
    lab.sh("fog1", f"echo {before} >{place}")


@pytest.mark.parametrize("mode", ["precopy", *slowly(*MODES[1:])])
@pytest.mark.parametrize("kind", ["huge_shared", *slowly("huge")])
def test_huge_pages(lab, huge_pages, mode, kind):
    start(lab, programs.checker(kind, 32, shared=kind == "huge_shared"))
    facts = lab.module("fog1", "server_info", container="mover")["container"]
    assert facts["huge_pages"] == {"2097152": 32 << 20}
    assert facts["memory"] > 32 << 20
    lab.migrate("mover", migration_mode=mode)
    require_whole(lab)


def test_huge_pages_that_the_destination_lacks(lab, huge_pages):
    """One kernel has both servers here: more than half of its huge pages cannot move."""
    start(lab, programs.checker("huge", 96, shared=False))
    message = failure(lab.migrate("mover", check=False, migration_mode="precopy"))
    assert "it needs 96 MiB of huge pages of 2 MiB and 32 MiB are free there" in message
    assert "set vm.nr_hugepages there" in message
    assert lab.running_on("mover") == ["fog1"]


SWAP = "/var/lib/docker/fog-test-swap"


@pytest.fixture
def swap(lab) -> Iterator[None]:
    """Somewhere to swap to; there is one kernel for all nodes."""
    made = f"fallocate -l 512M {SWAP} && chmod 600 {SWAP} && mkswap {SWAP} >/dev/null && swapon {SWAP} && echo made"
    if "made" not in lab.sh("fog1", f"({made}) 2>/dev/null || true"):
        lab.sh("fog1", f"rm -f {SWAP}")
        pytest.skip("NOT TESTED: this machine swaps to nowhere")
    yield
    # While a container has a limit of memory, what it has there may have nowhere to go.
    for node in lab.servers():
        lab.docker(node, "rm", "-f", "mover", check=False)
    lab.sh("fog1", f"swapoff {SWAP} && rm -f {SWAP}")


@pytest.mark.parametrize("mode", ["precopy", "postcopy", *slowly("hybrid")])
def test_memory_that_is_swapped_out(lab, swap, mode):
    start(lab, programs.IDLE, "--memory", "128m", "--memory-swap", "512m", lines=0, seconds=180)
    status = f"/proc/{lab.inspect('fog1', 'mover')['State']['Pid']}/status"
    swapped = re.compile(r"VmSwap:\s+(\d+) kB")
    wait_for(lambda: int(swapped.search(lab.sh("fog1", f"cat {status}")).group(1)) > 64 * 1024, "64 MiB in swap")

    def facts():
        return lab.module("fog1", "server_info", container="mover")["container"]

    wait_for(lambda: facts()["memory"] > 256 << 20, "all of its memory, wherever it is", 120)
    assert facts()["memory_swapped"] > 64 << 20
    message = failure(lab.migrate("mover", check=False, migration_mode=mode))
    assert "mover cannot be migrated to fog2" in message
    assert "MiB of its memory are swapped out, and there is room for " in message
    assert lab.running_on("mover") == ["fog1"]
    lab.docker("fog1", "update", "--memory", "512m", "--memory-swap", "1g", "mover")
    lab.migrate("mover", migration_mode=mode)
    lab.docker("fog2", "exec", "mover", "/usr/bin/python3", "-c", "open('/whole', 'w')")
    wait_for(lambda: int(goes_on(lab)[-2][0]) > 1000000, "a look at all of it", 120)
    require_whole(lab)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gibibytes", [2, 4, 8])
def test_much_memory(lab, gibibytes, mode):
    """Each page is found as it was left; where it cannot be in memory on its way, it is on the disk."""
    # Both servers are on this machine: the container is there twice, and once on its way.
    free = int(re.search(r"MemAvailable: +(\d+) kB", lab.sh("fog1", "cat /proc/meminfo")).group(1)) >> 20
    if free < 3 * gibibytes + 2:
        pytest.skip(f"NOT TESTED: {gibibytes} GiB want {3 * gibibytes + 2} GiB of memory, and this machine has {free}")
    start(lab, programs.large(gibibytes), seconds=300)
    facts = lab.module("fog1", "server_info", container="mover", gather_subset=["host", "container"])
    assert facts["container"]["memory"] > gibibytes << 30
    assert facts["container"]["dump_descriptors"] <= facts["host"]["open_files"]
    lab.migrate("mover", migration_mode=mode)
    begun = int(goes_on(lab)[-2][0])
    wait_for(lambda: int(lab.lines("fog2", "mover")[-2].split()[0]) > begun + 2, "two whole passes", 300)
    assert {line.split()[1] for line in lab.lines("fog2", "mover")} == {"0"}
    lab.docker("fog2", "rm", "-f", "mover")
    lab.require_no_traces()


# Address space without memory


@pytest.mark.parametrize("mode", ["precopy", "cold"])
def test_a_reservation_of_terabytes_moves(lab, mode):
    start(lab, programs.RESERVED, lines=12)
    lab.migrate("mover", migration_mode=mode)
    require_whole(lab)


@pytest.mark.parametrize("mode", ["postcopy", "hybrid"])
def test_a_reservation_that_cannot_be_left_in_place_is_refused(lab, mode):
    start(lab, programs.RESERVED)
    message = failure(lab.migrate("mover", check=False, migration_mode=mode))
    assert re.search(r"it reserves 8192 GiB of address space, for which CRIU needs 3276\d MiB of lists", message)
    assert "say -e migration_mode=precopy, or have it reserve less address space" in message
    assert lab.running_on("mover") == ["fog1"]


# What cannot be read or taken along

SECRET = """
import ctypes, mmap, os, time
file = ctypes.CDLL(None).syscall(447, 0)
os.write(1, b"none\\n" if file < 0 else b"secret\\n")
if file >= 0:
    os.ftruncate(file, 4096)
    memory = mmap.mmap(file, 4096)
    memory[:6] = b"secret"
    {close}
while True:
    time.sleep(1)
"""


@pytest.mark.parametrize("close", ["pass", "os.close(file)"], ids=["open and mapped", "only mapped"])
def test_memory_that_nobody_else_can_read_is_refused(lab, close):
    start(lab, SECRET.format(close=close), "--security-opt", "seccomp=unconfined", lines=0)
    wait_for(lambda: lab.docker("fog1", "logs", "mover"), "its first line")
    if "none" in lab.docker("fog1", "logs", "mover"):
        pytest.skip("NOT TESTED: this kernel has no memfd_secret")
    message = failure(lab.migrate("mover", check=False))
    assert "holds memory that only it can read (memfd_secret)" in message
    assert lab.running_on("mover") == ["fog1"]


UNLINKED = """
import mmap, os, time
file = os.open("/dev/shm/gone", os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 48 << 20)
memory = mmap.mmap(file, 48 << 20)
os.close(file)
os.unlink("/dev/shm/gone")
memory[: {size}] = bytes([1]) * {size}
number = 0
while True:
    print(number, {size} - memory[: {size}].count(1))
    number += 1
    time.sleep(0.05)
"""


def test_large_shared_memory_without_a_name_is_refused(lab):
    start(lab, UNLINKED.format(size=40 << 20))
    message = failure(lab.migrate("mover", check=False))
    assert "/dev/shm/gone is in use and deleted, and larger than what CRIU takes along" in message
    assert lab.running_on("mover") == ["fog1"]


def test_small_shared_memory_without_a_name_moves(lab):
    """Holes are no bytes."""
    start(lab, UNLINKED.format(size=64 << 10))
    lab.migrate("mover")
    require_whole(lab)


# Locks


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_locks_on_files(lab, mode):
    start(lab, programs.LOCKS)
    assert lab.module("fog1", "server_info", container="mover")["container"]["file_locks"]
    lab.migrate("mover", migration_mode=mode)
    lines = goes_on(lab)
    assert {tuple(words[1:]) for words in lines} == {("1", "1")}
    lab.docker("fog2", "rm", "-f", "mover")
    lab.require_no_traces()


@pytest.fixture
def untold(lab) -> Iterator[Callable[[str], None]]:
    """C(untold(node)): CRIU on that node is not told of locks; afterwards as before."""
    changed: list[str] = []

    def untold(node: str) -> None:
        lab.sh(node, "cp -p /etc/criu/runc.conf /root/runc.conf; sed -i '/^file-locks/d' /etc/criu/runc.conf")
        changed.append(node)

    yield untold
    for node in changed:
        lab.sh(node, "mv /root/runc.conf /etc/criu/runc.conf")


def test_locks_that_a_server_would_not_take_along_are_refused(lab, untold):
    untold("fog2")
    start(lab, programs.LOCKS)
    with daemons.without_runtime(lab, "fog2"):
        message = failure(lab.migrate("mover", check=False, migration_mode="cold"))
    assert "holds locks on files, which CRIU at the destination would not take along" in message
    assert "run provision.yml" in message
    assert lab.running_on("mover") == ["fog1"]
