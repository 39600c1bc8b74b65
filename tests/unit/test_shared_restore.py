# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared memory that is written apart from CRIU's restore: into a real process, by the real program."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from image_sets import memory_of, read_pagemap, write_set

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import (
    image_set,
    pagemap,
    shared_restore,
    write_shared,
)
from ansible_collections.fog.migration.plugins.module_utils.memory.page_store import Store
from ansible_collections.fog.migration.plugins.module_utils.memory.process_memory import MemoryOf
from ansible_collections.fog.migration.plugins.module_utils.memory.shared_restore import (
    MOST_PIECES,
    Place,
    SharedRestore,
    parse_places,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.restore import places_apart

PAGE = pagemap.PAGE
PAGES = 4096
NAME = "pagemap-shmem-7.img"

# Maps shared memory, private memory and a file, says where, and then hashes what it is told to.
TARGET = """
import ctypes, hashlib, mmap, os, sys
size = int(sys.argv[1])
file = open(sys.argv[2], "r+b")
maps = {"shared": mmap.mmap(-1, size), "private": mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)}
maps["file"] = mmap.mmap(file.fileno(), 0)
memory = os.memfd_create("of it")
os.ftruncate(memory, size)
maps["memfd"] = mmap.mmap(memory, size, flags=mmap.MAP_PRIVATE)
print(*(ctypes.addressof(ctypes.c_char.from_buffer(one)) for one in maps.values()), flush=True)
for line in sys.stdin:
    print(hashlib.sha256(memoryview(maps[line.strip()])).hexdigest(), flush=True)
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root may open what processes share")


class Target:
    """A process, and the addresses of its mappings."""

    def __init__(self, file, own_ipc=True):
        # As a container, it has a namespace of its own for what is shared.
        apart = ["unshare", "--ipc"] if own_ipc else []
        command = [*apart, sys.executable, "-c", TARGET, str(PAGES * PAGE), str(file)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.at = dict(
            zip(("shared", "private", "file", "memfd"), map(int, self.process.stdout.readline().split()), strict=True)
        )

    def digest(self, mapping):
        self.process.stdin.write(mapping + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def target(tmp_path):
    # On the file system of what users share, which is not the kernel's own.
    file = Path(f"/dev/shm/fog-shared-{os.getpid()}")
    file.write_bytes(bytes(PAGES * PAGE))
    one = Target(file)
    yield one
    one.process.kill()
    one.process.communicate()
    file.unlink()


@pytest.fixture
def store(tmp_path):
    """Pages that came in any order, and not all that the piece has room for."""
    store = Store(str(tmp_path / "store"))
    rng = random.Random(3)
    runs = [(begin, 64) for begin in range(0, PAGES, 128)]
    for begin, pages in rng.sample(runs, len(runs)):
        store.put(NAME, begin * PAGE, rng.randbytes(pages * PAGE))
    store.settle(NAME, [(begin * PAGE, pages) for begin, pages in runs])
    return store


@pytest.fixture
def restore(tmp_path):
    one = SharedRestore(str(tmp_path))
    yield one
    one.close()


def whole(store):
    """All of the piece, with zeros where there is no page."""
    content = bytearray(PAGES * PAGE)
    for vaddr, (data, _flags) in memory_of(store)[NAME].items():
        content[vaddr : vaddr + PAGE] = data
    return content


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


def write(restore, store, target, where="shared", group=""):
    restore.places = {NAME: Place(target.process.pid, target.at[where] + 5 * PAGE)}
    restore.write(store, [os.getpid(), target.process.pid], lambda _process: group)


def test_a_piece_gets_its_content(target, store, restore):
    expected = digest_of(whole(store))
    write(restore, store, target)
    assert target.digest("shared") == expected
    assert store.names() == []
    # In hybrid mode, the source ends one more round afterwards, in which nothing of it has changed.
    store.settle(NAME, [(0, 64)])


def test_the_memory_is_charged_to_the_group(target, store, restore):
    root = Path("/sys/fs/cgroup/memory") if Path("/sys/fs/cgroup/memory").is_dir() else Path("/sys/fs/cgroup")
    own = next(
        line.split(":")
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if "memory" in line or line.startswith("0::")
    )[2].strip("/")
    group = root / own / f"fog-shared-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as exc:
        pytest.skip(f"NOT TESTED: no control group can be made here ({exc})")
    try:
        used = next((one for one in (group / "memory.usage_in_bytes", group / "memory.current") if one.exists()), None)
        if not used:
            pytest.skip("NOT TESTED: the kernel does not count memory by control groups here")
        before = int(used.read_text())
        write(restore, store, target, group=str(group))
        assert int(used.read_text()) - before >= PAGES // 2 * PAGE
    finally:
        target.process.kill()
        target.process.wait()
        group.rmdir()


def test_a_memfd_gets_its_content_by_a_private_mapping(target, store, restore):
    expected = digest_of(whole(store))
    write(restore, store, target, "memfd")
    assert target.digest("memfd") == expected


def test_nothing_is_written_where_the_server_shares_its_own(store, restore):
    file = Path(f"/dev/shm/fog-ipc-{os.getpid()}")
    file.write_bytes(bytes(PAGES * PAGE))
    one = Target(file, own_ipc=False)
    try:
        before = one.digest("shared")
        with pytest.raises(Refused, match=f"process {one.process.pid} is in the server's own ipc namespace"):
            write(restore, store, one)
        assert one.digest("shared") == before
    finally:
        one.process.kill()
        one.process.communicate()
        file.unlink()


@pytest.mark.parametrize(
    ("line", "is_taken"),
    [
        ("1000-3000 rw-s 00000000 00:01 77    /dev/zero (deleted)", True),
        ("1000-3000 rw-p 00000000 00:01 77    /memfd:x (deleted)", True),
        ("1000-3000 rw-p 00000000 00:01 77    /dev/zero (deleted)", False),
        ("1000-3000 rw-p 00000000 00:01 77    /x /memfd:x", False),
        ("1000-3000 rw-p 00000000 00:00 0", False),
        ("3000-4000 rw-s 00000000 00:01 77    /dev/zero (deleted)", False),
    ],
)
def test_only_what_is_shared_is_taken(line, is_taken):
    maps = f"0-1000 r--p 00000000 00:00 0 \n{line}\n"
    assert write_shared.mapping_at(maps, 0x2000) == ("1000-3000" if is_taken else None)


@pytest.mark.parametrize("where", ["private", "file"])
def test_nothing_else_that_a_process_has_mapped_is_written(target, store, restore, where):
    before = target.digest(where)
    with pytest.raises(
        Refused, match=rf"process {target.process.pid} (shares no memory at|has nothing at)|No such file"
    ):
        write(restore, store, target, where)
    assert target.digest(where) == before


def test_an_address_with_nothing_at_it(target, store, restore):
    target.at["nowhere"] = PAGE
    with pytest.raises(Refused, match=r"cannot be restored: process .* has nothing at address"):
        write(restore, store, target, "nowhere")


def test_without_a_namespace_of_its_own_it_is_left_to_criu():
    places, server = {NAME: [1, 4096]}, f"/proc/{os.getpid()}/ns/ipc"
    assert places_apart({"linux": {"namespaces": [{"type": "ipc"}]}}, places) == places
    assert places_apart({"linux": {"namespaces": [{"type": "ipc", "path": server}]}}, places) == {}
    assert places_apart({"linux": {"namespaces": [{"type": "pid"}]}}, places) == {}


def test_a_piece_that_is_too_small(target, store, restore):
    store.put(NAME, PAGES * PAGE, bytes(PAGE))
    store.settle(NAME, [(0, 64), (PAGES * PAGE, 1)])
    with pytest.raises(Refused, match=rf"there are {PAGE} bytes at {PAGES * PAGE} of a piece that has {PAGES * PAGE}"):
        write(restore, store, target)


def test_a_process_that_is_not_of_the_container(target, store, restore):
    restore.places = {NAME: Place(target.process.pid, target.at["shared"])}
    with pytest.raises(Refused, match=f"process {target.process.pid} of the container is not there"):
        restore.write(store, [os.getpid()], lambda _process: "")


def test_a_program_that_was_killed(target, store, restore):
    restore._program.process.kill()
    restore._program.process.wait()
    with pytest.raises(Refused, match=r"the program that writes it was killed|Broken pipe"):
        write(restore, store, target)


def test_it_ends_without_a_request(tmp_path):
    one = SharedRestore(str(tmp_path))
    one._program.stdin.close()
    assert one._program.process.wait(10) == 0
    one.close()


def test_places_that_are_taken():
    held = ["pagemap-1.img", NAME]
    assert parse_places({}, held) == {}
    assert parse_places({NAME: [1, 4096]}, held) == {NAME: Place(1, 4096)}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {NAME: None},
        {NAME: [1]},
        {NAME: [1, -1]},
        {NAME: [1, 1 << 63]},
        {NAME: ["1", 1]},
        {"pagemap-1.img": [1, 1]},
        {"pagemap-shmem-8.img": [1, 1]},
        {str(number): [1, 1] for number in range(MOST_PIECES + 1)},
    ],
)
def test_places_that_are_refused(value):
    with pytest.raises(Refused, match="the source sent"):
        parse_places(value, ["pagemap-1.img", NAME])


def test_what_is_set_apart_has_no_pages_for_criu(tmp_path):
    pages = {number * PAGE: (random.Random(number).randbytes(PAGE), 0) for number in range(8)}
    memory = {NAME: pages, "pagemap-shmem-8.img": pages, "pagemap-1.img": pages}
    images = write_set(tmp_path / "images", memory, contents=False)
    store = Store(str(tmp_path / "store"))
    for name, held in memory.items():
        for vaddr, (data, _flags) in held.items():
            store.put(name, vaddr, data)
        store.settle(name, [(0, 8)])
    # One piece has more pages here than the dump knows of, and private memory is none.
    store.put("pagemap-shmem-8.img", 8 * PAGE, bytes(PAGE))
    store.settle("pagemap-shmem-8.img", [(0, 9)])
    apart = image_set.set_apart(images, store, list(memory))
    assert apart == [NAME]
    store.settle("pagemap-shmem-8.img", [(0, 8)])
    image_set.complete(images, store, False, apart=apart)
    assert store.names() == [NAME]
    assert memory_of(store)[NAME] == pages
    number, runs = image_set.ImageSet(images).decode(NAME)
    assert runs == []
    assert (tmp_path / "images" / pagemap.pages_name(number)).stat().st_size == 0
    found = {name: read_pagemap((tmp_path / "images" / name).read_bytes()) for name in memory if name != NAME}
    assert all(found.values())


def test_what_pays(target):
    with MemoryOf(target.process.pid) as memory:
        memory.shared()
        assert set(memory.shared_at.values()) == {target.at["shared"], target.at["memfd"]}
        assert [shared_restore.pays(file) for file in memory.shared_memory.values()] == [True, True]


@pytest.mark.parametrize("size", [PAGE, shared_restore.LEAST + 1])
def test_what_does_not_pay(size):
    file = os.memfd_create("one")
    os.ftruncate(file, size)
    assert not shared_restore.pays(file)
    os.close(file)


@pytest.mark.parametrize("seal", [0, shared_restore.F_SEAL_WRITE, shared_restore.F_SEAL_FUTURE_WRITE])
def test_what_is_sealed_is_left_to_criu(seal):
    file = os.memfd_create("one", os.MFD_ALLOW_SEALING)
    os.ftruncate(file, shared_restore.LEAST)
    fcntl.fcntl(file, 1033, seal)  # F_ADD_SEALS
    assert shared_restore.pays(file) == (not seal)
    os.close(file)


def test_a_file_of_users_does_not_pay(tmp_path):
    with open(f"/dev/shm/fog-pays-{os.getpid()}", "w+b") as stream:
        os.unlink(stream.name)
        os.ftruncate(stream.fileno(), shared_restore.LEAST)
        assert not shared_restore.pays(stream.fileno())
