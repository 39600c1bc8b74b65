# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of pre-copy between both ends, over pipes. The memory is that of real processes; CRIU's dump is made here."""

from __future__ import annotations

import os
import queue
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from both_ends import Ends
from image_sets import differences, entries_in, layout_of, memory_in, memory_of, write_set

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import image_set, pagemap, process_memory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import precopy
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.frozen_memory import FrozenMemory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.precopy import Limits, why_enough
from ansible_collections.fog.migration.plugins.module_utils.system import files

PAGE = pagemap.PAGE
LAZY = pagemap.LAZY


# When rounds end


@pytest.mark.parametrize(
    ("sent", "limits", "why"),
    [
        ([], Limits(), None),
        ([], Limits(rounds=0), None),
        ([1 << 20], Limits(), "the last round sent no more than 1 MiB"),
        ([(1 << 20) + 1], Limits(), None),
        ([0], Limits(threshold=0), "the last round sent no more than 0 MiB"),
        ([1 << 30], Limits(rounds=1), "1 rounds were made"),
        ([9 << 20, 8 << 20], Limits(rounds=2), "2 rounds were made"),
        ([9 << 30, 8 << 20], Limits(rounds=3), None),
        # The first round sends all, so what the second sends says nothing yet.
        ([9 << 20, 9 << 20], Limits(), None),
        ([9 << 20, 9 << 20, 9 << 20], Limits(), "the rounds do not become smaller any more"),
        ([90 << 20, 10 << 20, 9 << 20], Limits(), None),
        ([90 << 20, 10 << 20, (9 << 20) + 1], Limits(), "the rounds do not become smaller any more"),
        ([90 << 20, 10 << 20, 6 << 20], Limits(shrink=0.5), "the rounds do not become smaller any more"),
        ([90 << 20, 2 << 20, 1 << 20], Limits(shrink=0.1), "the last round sent no more than 1 MiB"),
    ],
)
def test_when_rounds_end(sent, limits, why):
    assert why_enough(sent, limits) == why


def test_rounds_always_end():
    """Whatever each of them sends."""
    for seed in range(50):
        rng, sent = random.Random(seed), []
        limits = Limits(rng.randint(1, 20), rng.choice([0, 1 << 20]), rng.random())
        while not why_enough(sent, limits):
            sent.append(rng.randrange(1 << 24))
        assert 1 <= len(sent) <= limits.rounds


# Both ends

TARGET = """
import mmap, random, sys
pages = mmap.mmap(-1, 600 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
pages[: 500 * 4096] = random.Random(1).randbytes(500 * 4096)
every = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=every)
code[:9] = b"made here"
for line in sys.stdin:
    exec(line)
    print(flush=True)
"""


class Process:
    """A process that does what it is told, and then waits."""

    def __init__(self):
        # In a session of its own: the kernel ends stopped processes of a process group that others are ending in.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.child = subprocess.Popen([sys.executable, "-c", TARGET], start_new_session=True, **pipes)
        self.pid = self.child.pid
        self.name = f"pagemap-{self.pid}.img"
        self.tell()

    def tell(self, line="pass"):
        self.child.stdin.write(f"{line}\n".encode())
        self.child.stdin.flush()
        self.child.stdout.readline()

    def stop(self):
        self.child.send_signal(signal.SIGSTOP)
        while Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            assert self.child.poll() is None
            time.sleep(0.01)

    def end(self):
        self.child.kill()
        self.child.communicate()


class Container(Ends):
    """A container of such processes between both ends."""

    def __init__(self, folder: Path, processes):
        super().__init__(folder, "c")
        self.folder, self.processes = folder, processes
        self.images = folder / "images"

    def there(self):
        """What the destination has."""
        return memory_of(self.destination.memory.store)

    def stop(self):
        for process in self.processes:
            process.stop()

    def dump(self, lazily=True):
        """What CRIU would write now; returns all pages of it, also those that it leaves."""
        memory = {process.name: pages_of(process) for process in self.processes}
        write_set(self.images, left_of(memory) if lazily else memory)
        return memory


def pages_of(process):
    """All pages that CRIU dumps, each with its flags: the vDSO is there, too, and anonymous memory is LAZY."""
    lazies, vdso = [], None
    for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
        words = line.split()
        span = tuple(int(number, 16) for number in words[0].split("-"))
        if words[1].endswith("p") and (len(words) == 5 or words[5] == "[heap]"):
            lazies.append(span)
        elif words[-1] == "[vdso]":
            vdso = span
    with process_memory.MemoryOf(process.pid) as memory:
        spans = [(run.vaddr, run.vaddr + run.pages * PAGE) for run in memory.runs()] + [vdso]
        return {
            vaddr: (
                os.pread(memory.memory, PAGE, vaddr),
                LAZY if any(start <= vaddr < end for start, end in lazies) else 0,
            )
            for start, end in sorted(spans)
            for vaddr in range(start, end, PAGE)
        }


def left_of(memory):
    """The same without what a lazy dump leaves with its process."""
    return {
        name: {vaddr: (None if flags else data, flags) for vaddr, (data, flags) in held.items()}
        for name, held in memory.items()
    }


@pytest.fixture
def ends(tmp_path, monkeypatch):
    """C(ends(count)): so many processes, and both ends of their migration."""
    made, processes = [], []

    def make(count=1):
        processes.extend(Process() for _number in range(count))
        made.append(Container(tmp_path, processes))
        monkeypatch.setattr(runc, "moving", lambda _container: [process.pid for process in processes])
        return made[-1]

    yield make
    for one in made:
        one.close()
    for process in processes:
        process.end()


def catch_up(both, frozen):
    """As in hybrid mode, when the container runs at the destination."""
    asker = both.follow()
    frozen.catch_up()
    assert both.destination.memory.caught_up.wait(20)
    asker.close()


def same(both):
    return differences(memory_of(both.rounds.store), both.there()) == []


def test_rounds_until_enough(ends):
    both = ends(2)
    assert both.rounds.until_enough(Limits()) == "the last round sent no more than 1 MiB"
    first, second = both.rounds.figures
    assert first["bytes_sent"] == first["bytes_memory"] > 2 * 500 * PAGE
    assert second["bytes_sent"] <= 1 << 20
    assert both.rounds.progress == {"round": 2, "bytes": second["bytes_memory"], "done": second["bytes_memory"]}
    assert same(both)
    assert sorted(both.there()) == sorted(process.name for process in both.processes)


def test_a_round_sends_what_has_changed(ends):
    both = ends(2)
    both.rounds.once()
    both.processes[1].tell("pages[7 * 4096] ^= 1; pages[100 * 4096 : 140 * 4096] = b'x' * (40 * 4096)")
    second = both.rounds.once()
    assert 41 * PAGE <= second["bytes_sent"] < 300 * PAGE
    assert b"x" * PAGE in [data for data, _flags in both.there()[both.processes[1].name].values()]
    assert same(both)


def test_processes_come_and_go(ends):
    both = ends(2)
    both.rounds.once()
    gone = both.processes.pop(0)
    gone.end()
    both.processes.append(Process())
    both.rounds.once()
    assert sorted(both.there()) == sorted(process.name for process in both.processes)
    assert same(both)


def test_a_process_ends_in_the_midst_of_a_round(ends, monkeypatch):
    both = ends(2)
    both.rounds.once()
    send = both.rounds.send

    def end_and_send(name, runs, *more):
        both.processes[1].end()
        send(name, runs, *more)

    monkeypatch.setattr(both.rounds, "send", end_and_send)
    both.rounds.once()
    # Nothing of it could be read, and nothing is kept.
    assert both.there()[both.processes[1].name] == {}
    assert same(both)


def test_damage_on_the_way(ends, monkeypatch):
    both = ends()
    send = both.source.memory.pages.send

    def damage(kind, name, vaddr, data, hurry=False):
        data = bytearray(data)
        data[-1] ^= 1
        send(kind, name, vaddr, bytes(data), hurry)

    monkeypatch.setattr(both.source.memory.pages, "send", damage)
    with pytest.raises(Refused, match="pages were damaged on the way"):
        both.rounds.once()


def test_a_page_that_never_comes(ends, monkeypatch):
    both = ends()
    layout = both.rounds.store.layout
    monkeypatch.setattr(both.rounds.store, "layout", lambda name: [*layout(name), pagemap.Pages(1 << 50, 1)])
    with pytest.raises(Refused, match=f"the page at 0x{1 << 50:x} did not arrive"):
        both.rounds.once()


@pytest.mark.parametrize("layout", [[[1]], [[-PAGE, 1]], [[0, True]], ["ab"]])
def test_what_is_no_layout(ends, monkeypatch, layout):
    both = ends()
    monkeypatch.setattr(both.rounds.store, "layout", lambda _name: layout)
    with pytest.raises(Refused, match="a malformed layout"):
        both.rounds.once()


SHARE = "shared = mmap.mmap(-1, 80 * 4096); shared[: 64 * 4096] = random.Random(2).randbytes(64 * 4096)"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root may look at what processes share")


# The last round


def test_the_last_round_beside_a_dump(ends):
    both = ends(2)
    both.rounds.once()
    both.processes[0].tell("pages[: 60 * 4096] = b'y' * (60 * 4096)")
    both.processes[1].tell("pages[550 * 4096] = 1")
    both.stop()
    frozen = both.freeze(both.images)
    frozen.compare()
    memory = both.dump()
    figures = frozen.finish(later=False)
    # Some pages of the stack and the like change whenever a process is told something.
    assert 61 * PAGE <= figures["bytes_sent"] < 400 * PAGE
    assert differences(both.there(), memory) == []
    with_nothing = both.folder / "completed"
    write_set(with_nothing, left_of(memory), contents=False)
    figures = image_set.complete(str(with_nothing), both.destination.memory.store, False)
    assert memory_in(with_nothing) == memory
    assert figures["left"] == 0


def test_a_dump_leaves_nothing_with_the_processes(ends):
    """Where lazy dumps are not possible: everything is in the images then, and is compared with what is there."""
    both = ends(2)
    both.rounds.once()
    both.processes[0].tell("pages[: 60 * 4096] = b'y' * (60 * 4096)")
    both.stop()
    frozen = both.freeze(both.images)
    memory = both.dump(lazily=False)
    figures = frozen.finish(later=False)
    assert 60 * PAGE <= figures["bytes_sent"] < 400 * PAGE
    assert differences(both.there(), memory) == []


@pytest.mark.parametrize("again", [False, True], ids=["for the first time", "as in a dump before"])
@pytest.mark.parametrize("later", [False, True])
def test_criu_works_in_the_processes_meanwhile(ends, again, later):
    """Its first instruction is in a page of code when that is compared, when it is sent, and when it is asked for."""
    both = ends()
    process = both.processes[0]
    with process_memory.MemoryOf(process.pid) as running:
        place, content = running.first_code()
    with open(f"/proc/{process.pid}/mem", "r+b", buffering=0) as writable:
        if again:
            # A page of a file's code, of which the process has its own by that.
            os.pwrite(writable.fileno(), content[:2], place)
        both.rounds.once()
        both.stop()
        frozen = both.freeze(both.images)
        os.pwrite(writable.fileno(), b"\x0f\x05", place)
        frozen.compare(only_shared=later)
        memory = both.dump()
        dumped, flags = memory[process.name][place]
        assert dumped[:2] == b"\x0f\x05"
        frozen.finish(later)
        asked = b"".join(data for _vaddr, data in frozen.read(process.pid, place, 1))
        is_as_before = asked == content
        assert is_as_before
        memory[process.name][place] = (content, flags)
        if later:
            catch_up(both, frozen)
    assert differences(both.there(), memory) == []


@AS_ROOT
@pytest.mark.parametrize("later", [False, True])
def test_a_dump_whose_pages_were_not_kept(ends, later):
    """What has changed since the last round is read from the processes, and from what they share."""
    both = ends(2)
    both.processes[0].tell(SHARE)
    both.rounds.once()
    both.processes[0].tell("shared[7 * 4096 : 9 * 4096] = b'y' * 8192; pages[: 60 * 4096] = b'y' * (60 * 4096)")
    both.stop()
    frozen = both.freeze(both.images)
    assert frozen.can_be_read
    frozen.compare(only_shared=later)
    name, held = shared_pages(both.processes[0])
    memory = {**{process.name: pages_of(process) for process in both.processes}, name: held}
    write_set(both.images, left_of(memory), contents=False)
    frozen.finish(later)
    if later:
        catch_up(both, frozen)
    assert differences(both.there(), memory) == []
    assert held[7 * PAGE][0] == b"y" * PAGE


def test_pages_are_kept_where_nobody_may_look_at_what_is_shared(ends):
    both = ends()
    both.rounds.once()
    both.rounds.hides_shared = True
    both.stop()
    assert not both.freeze(both.images).can_be_read


def test_a_frozen_page_that_cannot_be_read(ends):
    both = ends()
    both.rounds.once()
    both.stop()
    frozen = both.freeze(both.images)
    frozen.compare()
    memory = both.dump()
    held = {**memory[both.processes[0].name], 1 << 20: (None, LAZY)}
    (both.folder / "images").rename(both.folder / "before")
    both.images = both.folder / "images"
    write_set(both.images, left_of({both.processes[0].name: held}))
    with pytest.raises(runc.FreezeError, match=f"not all of the {len(held)} pages of {both.processes[0].name}"):
        frozen.finish(later=False)


def test_a_process_whose_memory_is_gone(ends):
    both = ends(2)
    both.rounds.once()
    both.stop()
    memory = both.dump()
    gone = both.processes.pop()
    frozen = both.freeze(both.images)
    both.processes.append(gone)
    with pytest.raises(pagemap.PagesError, match=f"of {gone.name} with a process that is gone"):
        frozen.finish(later=False)
    assert gone.name in memory


def test_pages_that_are_asked_for(ends):
    both = ends()
    both.stop()
    memory = both.dump()[both.processes[0].name]
    frozen = both.freeze(both.images)
    for vaddr, pages in layout_of(memory):
        parts = list(frozen.read(both.processes[0].pid, vaddr, pages))
        assert b"".join(data for _vaddr, data in parts) == b"".join(
            memory[vaddr + index * PAGE][0] for index in range(pages)
        )
        assert parts[0][0] == vaddr
        assert all(len(data) <= files.CHUNK for _vaddr, data in parts)
    with pytest.raises(OSError, match="error"):
        list(frozen.read(both.processes[0].pid, 1 << 20, 1))
    with pytest.raises(OSError, match="Bad file descriptor"):
        list(frozen.read(1, vaddr, 1))


# What processes share


def shared_pages(process):
    """The pagemap of the only piece of shared memory that a process has, and its pages."""
    with process_memory.MemoryOf(process.pid) as memory:
        shared = memory.shared()
        assert len(shared) == 1
        name, runs = shared.popitem()
        places = [(run.vaddr + index * PAGE, run.offset + index * PAGE) for run in runs for index in range(run.pages)]
        return name, {vaddr: (os.pread(runs[0].file, PAGE, offset), 0) for vaddr, offset in places}


def other_pages(held):
    """The same pages with nothing in them that was there."""
    return {vaddr: (bytes(PAGE), flags) for vaddr, (_data, flags) in held.items()}


# Private memory of other kinds: pages that may not be read, and a memfd's, of which some are the process's own.
PRIVATE = (
    "import ctypes, os; "
    "hidden = mmap.mmap(-1, 9 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); "
    "hidden[:] = random.Random(3).randbytes(9 * 4096); "
    "address = ctypes.addressof(ctypes.c_char.from_buffer(hidden)); "
    "ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), 9 * 4096, 0); "
    "file = os.memfd_create('file'); os.ftruncate(file, 8 * 4096); "
    "own = mmap.mmap(file, 8 * 4096, flags=mmap.MAP_PRIVATE); own[: 4 * 4096] = random.Random(4).randbytes(4 * 4096)"
)


def test_pages_can_be_read_after_the_rounds_were_lost(ends):
    """As a source's end does it that has taken the place of another one, whatever the processes share besides."""
    both = ends(2)
    for process in both.processes:
        process.tell(PRIVATE)
        process.tell(SHARE)
    both.stop()
    memory = both.dump()
    resumed = FrozenMemory(None, both.container, "")
    for process in both.processes:
        left = {vaddr: page for vaddr, page in memory[process.name].items() if page[1] == LAZY}
        assert random.Random(3).randbytes(PAGE) in {data for data, _flags in left.values()}
        for vaddr, pages in layout_of(left):
            data = b"".join(part for _vaddr, part in resumed.read(process.pid, vaddr, pages))
            assert data == b"".join(left[vaddr + index * PAGE][0] for index in range(pages))
    resumed.close()


@AS_ROOT
def test_what_was_compared_beside_the_dump_is_not_read_from_it_again(ends):
    """But for pages that only the dump has seen."""
    both = ends(2)
    both.processes[0].tell(SHARE)
    both.rounds.once()
    both.processes[0].tell("shared[7 * 4096 : 9 * 4096] = b'y' * 8192")
    both.stop()
    frozen = both.freeze(both.images)
    frozen.compare()
    name, held = shared_pages(both.processes[0])
    memory = {process.name: pages_of(process) for process in both.processes}
    last = {70 * PAGE: (b"z" * PAGE, 0)}
    write_set(both.images, left_of({**memory, name: {**other_pages(held), **last}}))
    frozen.finish(later=False)
    assert both.there()[name] == {**held, **last}
    assert held[7 * PAGE][0] == b"y" * PAGE


@AS_ROOT
@pytest.mark.parametrize("later", [False, True])
def test_what_was_not_compared_beside_the_dump_is_read_from_it(ends, later):
    both = ends(2)
    both.processes[0].tell(SHARE)
    both.rounds.once()
    both.stop()
    frozen = both.freeze(both.images)
    name, held = shared_pages(both.processes[0])
    memory = {process.name: pages_of(process) for process in both.processes}
    write_set(both.images, left_of({**memory, name: other_pages(held)}))
    frozen.finish(later)
    assert both.there()[name] == other_pages(held)


@AS_ROOT
def test_shared_code_is_read_from_the_dump(ends):
    """CRIU's first instruction may have been in it when it was compared."""
    both = ends()
    both.processes[0].tell(
        f"{SHARE}; import os; code = os.open(f'/proc/self/map_files/' + [line.split()[0] for line in "
        "open('/proc/self/maps') if '/dev/zero' in line][0], os.O_RDWR)"
    )
    both.processes[0].tell("run = mmap.mmap(code, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)")
    both.rounds.once()
    both.stop()
    frozen = both.freeze(both.images)
    frozen.compare()
    name, held = shared_pages(both.processes[0])
    memory = {process.name: pages_of(process) for process in both.processes}
    write_set(both.images, left_of({**memory, name: other_pages(held)}))
    frozen.finish(later=False)
    assert both.there()[name] == other_pages(held)


@AS_ROOT
def test_only_what_is_shared_is_copied_before_post_copy(ends):
    """The rest is there when it is asked for."""
    both = ends(2)
    both.rounds.only_shared = True
    both.processes[0].tell(SHARE)
    first = both.rounds.once()
    name, held = shared_pages(both.processes[0])
    assert first["bytes_sent"] == first["bytes_memory"] == 64 * PAGE
    assert both.there() == {name: held}
    both.processes[0].tell("shared[7 * 4096 : 9 * 4096] = b'y' * 8192; pages[:4096] = b'x' * 4096")
    assert both.rounds.once()["bytes_sent"] == 2 * PAGE
    both.processes[0].tell("shared[11 * 4096 : 12 * 4096] = b'z' * 4096")
    both.stop()
    frozen = both.freeze(both.images)
    frozen.compare(only_shared=True)
    name, held = shared_pages(both.processes[0])
    memory = {**{process.name: pages_of(process) for process in both.processes}, name: held}
    write_set(both.images, left_of(memory))
    last = frozen.finish(later=True)
    there = both.there()
    assert there[name] == held
    # What a dump holds of the processes themselves, and nothing of what it has left.
    dumped = {key: {vaddr: page for vaddr, page in pages.items() if not page[1]} for key, pages in memory.items()}
    assert differences(there, dumped) == []
    assert last["bytes_sent"] == PAGE * (1 + sum(len(dumped[process.name]) for process in both.processes))
    asker = Asker(both.follow())
    lazies = [
        (process.pid, vaddr, page[0])
        for process in both.processes
        for vaddr, page in memory[process.name].items()
        if page[1]
    ]
    for pid, vaddr, data in lazies[::7]:
        assert asker.page(pid, vaddr) == data


# Hybrid


class Asker:
    """Asks for pages one by one, as CRIU does, and keeps what it gets."""

    def __init__(self, connection):
        self.connection = connection
        self.connection.settimeout(20)

    def page(self, image_id, vaddr):
        self.connection.sendall(struct.pack("=I4xQQQ", 7, 1, vaddr, image_id))
        data = b""
        while len(data) < 32 + PAGE:
            part = self.connection.recv(32 + PAGE - len(data))
            assert part
            data += part
        assert struct.unpack_from("=I4xQQQ", data)[1:] == (1, vaddr, image_id)
        return data[32:]


@pytest.mark.parametrize("seed", range(3))
def test_the_rest_follows_while_pages_are_asked_for(ends, seed, monkeypatch):
    """The restore begins with what is there; whatever it asks for, and whenever, is the page of the freeze."""
    # It is told often how far it is, and the rest comes slowly.
    monkeypatch.setattr(precopy, "STRIDE", 16)
    rng, both = random.Random(seed), ends(2)
    both.rounds.once()
    for process in both.processes:
        changes = "; ".join(f"pages[{rng.randrange(600) * PAGE}] ^= {rng.randrange(1, 256)}" for _page in range(100))
        process.tell(changes)
    both.stop()
    frozen = both.freeze(both.images)
    memory = both.dump()
    first = frozen.finish(later=True)
    lazies = [
        (process.pid, vaddr, memory[process.name][vaddr][0])
        for process in both.processes
        for vaddr in memory[process.name]
        if memory[process.name][vaddr][1]
    ]
    # What is not lazy is there; of the rest, some pages are older ones and some are missing.
    assert {(reason, memory[name][vaddr][1]) for name, vaddr, reason in differences(both.there(), memory)} == {
        ("other bytes", LAZY),
        ("missing in the first", LAZY),
    }
    write_set(both.folder / "completed", left_of(memory), contents=False)
    image_set.complete(str(both.folder / "completed"), both.destination.memory.store, True)
    assert memory_in(both.folder / "completed") == left_of(memory)
    assert {flags for name in memory for _vaddr, _pages, flags in entries_in(both.folder / "completed")[name]} == {2, 4}

    asker, results = Asker(both.follow()), queue.Queue()
    catching_up = threading.Thread(target=lambda: results.put(frozen.catch_up()))
    rng.shuffle(lazies)
    half = len(lazies) // 2
    for pid, vaddr, data in lazies[:50]:
        assert asker.page(pid, vaddr) == data
    send = both.source.memory.pages.send
    monkeypatch.setattr(both.source.memory.pages, "send", lambda *words: (time.sleep(0.002), send(*words)))
    catching_up.start()
    for pid, vaddr, data in lazies[50:half]:
        assert asker.page(pid, vaddr) == data
    second = results.get(timeout=60)
    assert both.destination.memory.caught_up.wait(20)
    for pid, vaddr, data in lazies[half:]:
        assert asker.page(pid, vaddr) == data
    assert differences(both.there(), memory) == []
    assert first["bytes_sent"] > 0 and second["bytes_sent"] >= 50 * PAGE
    assert both.destination.memory.pager._problem is None
