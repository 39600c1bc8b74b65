# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory pages: image sets made here byte by byte, and the memory of a real process."""

from __future__ import annotations

import itertools
import os
import random
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from image_sets import (
    MAGICS,
    differences,
    digest,
    entries_in,
    layout_of,
    memory_in,
    memory_of,
    message,
    new_entry,
    old_entry,
    pagemap,
    read_pagemap,
    write_set,
)

from ansible_collections.fog.migration.plugins.module_utils.memory import image_set, page_store, process_memory
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap as _pagemap
from ansible_collections.fog.migration.plugins.module_utils.memory.image_set import ImageSet, complete, dumped_runs
from ansible_collections.fog.migration.plugins.module_utils.memory.page_store import Store
from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import LAZY, PARENT, PRESENT, PagesError, Run
from ansible_collections.fog.migration.plugins.module_utils.memory.process_memory import MemoryOf
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

PAGE = _pagemap.PAGE
HEAP, STACK = 0x55D0_0000_0000, 0x7FFE_0000_0000
ONE = "pagemap-1.img"


def content(seed, pages=1):
    return random.Random(seed).randbytes(pages * PAGE)


def invent(rng, pages=120):
    """Memory of two processes and a piece of shared memory, in runs of some pages with gaps between them."""
    memory = {}
    for name, start in ((ONE, HEAP), ("pagemap-27.img", STACK), ("pagemap-shmem-4051.img", 0)):
        vaddr, held = start, {}
        while len(held) < pages:
            for _index in range(rng.randint(1, 20)):
                held[vaddr] = (rng.randbytes(PAGE), LAZY if start == HEAP else 0)
                vaddr += PAGE
            vaddr += PAGE * rng.choice([0, 0, 1, 2, 1000])
        memory[name] = held
    return memory


def changed(rng, memory):
    """The same memory a while later: some pages are other ones, some are gone, some came."""
    later = {}
    for name, held in memory.items():
        later[name] = {}
        for vaddr, (data, flags) in held.items():
            luck = rng.random()
            if luck < 0.1:
                continue
            if luck < 0.2:
                data = data[:-1] + bytes([data[-1] ^ 1])
            later[name][vaddr] = (data, flags)
            if luck > 0.9:
                later[name].setdefault(vaddr + 7 * PAGE, (rng.randbytes(PAGE), flags))
    if rng.random() < 0.5:
        later["pagemap-99.img"] = {HEAP: (rng.randbytes(PAGE), LAZY)}
        later.pop("pagemap-27.img", None)
    return later


def bytes_of(runs):
    """What is in these runs, one after the other."""
    return b"".join(os.pread(run.file, run.pages * PAGE, run.offset) for run in runs)


# The format


@pytest.mark.parametrize("entry", [old_entry, new_entry])
def test_entries_of_old_and_new_criu(entry):
    data = pagemap(entry(HEAP, 3, PRESENT), entry(HEAP + 3 * PAGE, 70000, LAZY), entry(STACK, 2, PRESENT | LAZY))
    assert _pagemap.decode_pagemap(data, ONE) == (
        1,
        [
            Run(HEAP, 3, PRESENT, -1, 0),
            Run(HEAP + 3 * PAGE, 70000, LAZY, -1, -1),
            Run(STACK, 2, PRESENT | LAZY, -1, 3 * PAGE),
        ],
    )


def test_entries_of_very_old_criu():
    data = pagemap(message(_1=HEAP, _2=1), message(_1=STACK, _2=2, _3=0))
    assert [run.flags for run in _pagemap.decode_pagemap(data, ONE)[1]] == [PRESENT, PRESENT]


def test_what_is_written_any_criu_reads():
    runs = [Run(HEAP, 300, PRESENT, -1, 0), Run(STACK, 1 << 33, LAZY, -1, -1)]
    data = _pagemap.encode_pagemap(7, runs)
    assert _pagemap.decode_pagemap(data, ONE) == (7, runs)
    assert read_pagemap(data) == (7, [(HEAP, 300, PRESENT), (STACK, 1 << 33, LAZY)])
    assert data == pagemap(
        message(_1=HEAP, _2=300, _4=PRESENT, _5=300), message(_1=STACK, _2=0, _4=LAZY, _5=1 << 33), pages_id=7
    )


GOOD = new_entry(HEAP, 2, PRESENT)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not the image that its name says"),
        (b"\x19CVT", "not the image that its name says"),
        (MAGICS[4:] + MAGICS[:4] + message(_1=1), "not the image that its name says"),
        (MAGICS, "names no pages file"),
        (MAGICS + b"\0\0\0\0", "names no pages file"),
        (pagemap(GOOD)[:-1], "is cut off"),
        (pagemap(GOOD) + b"\1", "is cut off"),
        (pagemap(GOOD) + b"\xff\xff\xff\xff", "is cut off"),
        (pagemap(b"\2\0\0\0\x08\x80"), "has a malformed entry"),
        (pagemap(b"\x0c\0\0\0\x08" + b"\xff" * 11), "has a malformed entry"),
        (pagemap(message(_1=HEAP, _2=0, _4=PRESENT, _5=1, _6=1)), r"an unknown field \(number 6, type 0\)"),
        (pagemap(b"\4\0\0\0\x0a\2ab"), r"an unknown field \(number 1, type 2\)"),
        (pagemap(message(_2=1, _4=PRESENT)), "not a run of pages"),
        (pagemap(new_entry(HEAP, 0, PRESENT)), "not a run of pages"),
        (pagemap(new_entry(HEAP + 1, 1, PRESENT)), "not a run of pages"),
        (pagemap(new_entry((1 << 64) - PAGE, 2, PRESENT)), "not a run of pages"),
        (pagemap(new_entry(HEAP, 1, PRESENT | 8)), "flags 12, which are unknown"),
        (pagemap(new_entry(HEAP, 1, 0)), "flags 0, which are unknown"),
        (pagemap(GOOD, new_entry(HEAP + PAGE, 1, PRESENT)), "not in order"),
        (pagemap(GOOD, new_entry(0, 1, PRESENT)), "not in order"),
        # As an incremental dump has them.
        (pagemap(GOOD, new_entry(STACK, 1, PARENT)), f"0x{STACK:x} to an earlier dump; only a full dump"),
        (pagemap(GOOD, old_entry(STACK, 1, PARENT | LAZY)), f"0x{STACK:x} to an earlier dump; only a full dump"),
        (pagemap(GOOD, new_entry(STACK, 1, PARENT | PRESENT)), f"0x{STACK:x} to an earlier dump; only a full dump"),
        (pagemap(GOOD, message(_1=STACK, _2=2, _3=1)), f"0x{STACK:x} to an earlier dump; only a full dump"),
    ],
)
def test_what_is_no_pagemap_is_refused(data, reason):
    with pytest.raises(PagesError, match=f"pagemap-1.img .*{reason}"):
        _pagemap.decode_pagemap(data, ONE)


def test_no_damage_goes_unnoticed_or_ends_in_a_traceback():
    """Every single bit of a pagemap turned: another pagemap, or one sentence."""
    data = pagemap(old_entry(HEAP, 3, PRESENT), message(_1=STACK, _4=LAZY, _5=200))
    for position, bit in itertools.product(range(len(data)), range(8)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        try:
            assert _pagemap.decode_pagemap(bytes(damaged), "p") != _pagemap.decode_pagemap(data, "p")
        except PagesError as error:
            assert "\n" not in str(error)


# Dumps


def lazily(memory):
    """The same memory after a lazy dump: what is LAZY has stayed with its process."""
    return {
        name: {vaddr: (None if flags else data, flags) for vaddr, (data, flags) in held.items()}
        for name, held in memory.items()
    }


def test_the_pages_of_a_dump(tmp_path):
    memory = invent(random.Random(1))
    directory = write_set(tmp_path / "full", memory)
    assert ImageSet(directory).names() == sorted(memory)
    for name, held in memory.items():
        with dumped_runs(directory, name, -1) as runs:
            assert bytes_of(runs) == b"".join(data for _vaddr, (data, _flags) in sorted(held.items()))
            assert layout_of(held) == _pages_of(runs)
            assert {run.flags for run in runs} == {PRESENT | LAZY if name == ONE else PRESENT}
    with pytest.raises(PagesError, match="there is no directory"):
        ImageSet(str(tmp_path / "nowhere")).names()


def _pages_of(runs):
    return layout_of({run.vaddr + index * PAGE for run in runs for index in range(run.pages)})


def test_the_pages_that_a_lazy_dump_has_left(tmp_path):
    """They are taken from the memory of their process, at their own addresses."""
    low = 1 << 30
    held = {low + n * PAGE: (content(n), LAZY if n % 3 else 0) for n in range(50)}
    (tmp_path / "mem").write_bytes(b"")
    with open(tmp_path / "mem", "r+b") as mem:
        for vaddr, (data, flags) in held.items():
            os.pwrite(mem.fileno(), data if flags else b"x" * PAGE, vaddr)
        directory = write_set(tmp_path / "lazy", lazily({ONE: held}))
        with dumped_runs(directory, ONE, mem.fileno()) as runs:
            assert bytes_of(runs) == b"".join(data for data, _flags in held.values())
            assert {(run.flags, run.file == mem.fileno()) for run in runs} == {(PRESENT, False), (LAZY, True)}
    with (
        pytest.raises(PagesError, match=f"has left the page at 0x{low + PAGE:x} of {ONE} with a process that is gone"),
        dumped_runs(directory, ONE, -1),
    ):
        pass


def test_a_dump_whose_pages_were_not_kept(tmp_path):
    """They are all in the memory of their process."""
    held = {n * PAGE: (content(n), LAZY if n % 3 else 0) for n in range(50)}
    directory = write_set(tmp_path / "lazy", lazily({ONE: held}), contents=False)
    (tmp_path / "mem").write_bytes(b"".join(data for data, _flags in held.values()))
    with open(tmp_path / "mem", "rb") as mem, dumped_runs(directory, ONE, mem.fileno()) as runs:
        assert bytes_of(runs) == (tmp_path / "mem").read_bytes()
        assert {run.flags for run in runs} == {PRESENT, LAZY}
    with pytest.raises(PagesError, match="with a process that is gone"), dumped_runs(directory, ONE, -1):
        pass


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: os.truncate(path / "pages-1.img", 5 * PAGE), f"has {5 * PAGE} bytes, but .* {9 * PAGE}"),
        (lambda path: os.truncate(path / "pages-1.img", 9 * PAGE + 1), f"has {9 * PAGE + 1} bytes, but .* {9 * PAGE}"),
        (lambda path: (path / ONE).write_bytes(b"x"), f"{ONE} is not the image"),
        (lambda path: (path / ONE).write_bytes(pagemap(new_entry(HEAP, 9, PARENT))), "to an earlier dump"),
    ],
)
def test_a_dump_that_lies(tmp_path, damage, reason):
    directory = write_set(tmp_path / "full", {ONE: {HEAP + n * PAGE: (content(n), 0) for n in range(9)}})
    damage(tmp_path / "full")
    with pytest.raises(PagesError, match=reason) as refusal, dumped_runs(directory, ONE, -1):
        pass
    assert "\n" not in str(refusal.value)


def without_flags(memory):
    """As a store has it."""
    return {name: {vaddr: (data, 0) for vaddr, (data, _flags) in held.items()} for name, held in memory.items()}


def store_of(directory, memory, rng=None):
    """A store with these pages; they came in any order when there is a source of chance."""
    store = Store(str(directory))
    for name, held in memory.items():
        pages = sorted(held)
        if rng:
            rng.shuffle(pages)
        for vaddr in pages:
            store.put(name, vaddr, held[vaddr][0])
        store.settle(name, layout_of(held))
    return store


def test_what_a_whole_dump_has_for_lazy_pages_stays_in_the_store(tmp_path):
    """CRIU asks for it from there, whatever the images hold; other pages are given away as they lie."""
    memory = invent(random.Random(1))
    images = write_set(tmp_path / "images", memory, contents=False)
    with store_of(tmp_path / "store", memory) as store:
        figures = complete(images, store, lazily=True)
        assert memory_of(store) == without_flags({ONE: memory[ONE]})
    assert memory_in(images) == memory
    assert figures["left"] == 0 and figures["pages"] == sum(map(len, memory.values()))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("how", ["at once", "lazily"])
@pytest.mark.parametrize("entry", [old_entry, new_entry])
def test_a_dump_without_its_pages_is_completed(tmp_path, seed, how, entry):
    rng = random.Random(seed)
    memory = invent(rng)
    images = write_set(tmp_path / "images", lazily(memory), entry, contents=False)
    with store_of(tmp_path / "store", memory, rng) as store:
        figures = complete(images, store, how == "lazily")
        # Pages of processes are still to be taken from the store, or nothing is left in it.
        left = {name: held for name, held in memory.items() if how == "lazily" and not _pagemap.is_shared(name)}
        assert memory_of(store) == without_flags(left)
    assert memory_in(images) == (lazily(memory) if how == "lazily" else memory)
    left = len(memory[ONE]) if how == "lazily" else 0
    written = sum(map(len, memory.values())) - left
    assert figures == {"pages": written, "bytes_written": written * PAGE, "left": left}
    # As few entries as possible.
    assert [(vaddr, pages) for vaddr, pages, _flags in entries_in(images)[ONE]] == layout_of(memory[ONE])
    assert sorted(os.listdir(images)) == sorted(
        [*memory, *(f"pages-{number + 1}.img" for number in range(len(memory))), "inventory.img"]
    )


def test_there_is_never_memory_for_all_of_it_twice(tmp_path, monkeypatch):
    """At the destination, it would be the third time: the container itself is about to get it."""
    size = 40 * _pagemap.BLOCK
    memory = {ONE: {HEAP + n * PAGE: (content(n), 0) for n in range(size // PAGE)}}
    images = write_set(tmp_path / "images", memory, contents=False)
    rooms, copy = [], image_set.copy_pages

    def copy_and_look(*arguments):
        copy(*arguments)
        rooms.append(sum(os.stat(path).st_blocks * 512 for path in (tmp_path / "images" / "pages-1.img", place)))

    monkeypatch.setattr(image_set, "copy_pages", copy_and_look)
    store = store_of(tmp_path / "store", memory, random.Random(7))
    place = f"{store.directory}/{ONE}.pages"
    complete(images, store, False)
    assert memory_in(images) == memory
    assert max(rooms) <= size + 2 * _pagemap.BLOCK
    assert not os.path.exists(place)


@pytest.mark.parametrize("how", ["at once", "lazily"])
def test_pages_that_lie_in_order_are_not_copied(tmp_path, how, monkeypatch):
    """As they do where nothing but their bytes has changed: the file of the store is that of the images then."""
    monkeypatch.setattr(image_set, "copy_pages", lambda *_arguments: pytest.fail("a page was copied"))
    shared = "pagemap-shmem-77.img"
    memory = {
        shared: {n * PAGE: (content(n), 0) for n in range(600) if n not in (7, 400)},
        ONE: {HEAP + n * PAGE: (content(n), LAZY) for n in range(9)},
    }
    store = store_of(tmp_path / "store", memory)
    memory[shared][5 * PAGE] = (content(5000), 0)
    store.put(shared, 5 * PAGE, content(5000))
    # Two that were the last ones.
    del memory[shared][598 * PAGE], memory[shared][599 * PAGE]
    store.settle(shared, layout_of(memory[shared]))
    file = os.stat(f"{store.directory}/{shared}.pages").st_ino
    images = write_set(tmp_path / "images", lazily(memory), contents=False)
    figures = complete(images, store, how == "lazily")
    assert memory_in(images) == (lazily(memory) if how == "lazily" else memory)
    written = 596 if how == "lazily" else 605
    assert figures == {"pages": written, "bytes_written": written * PAGE, "left": 605 - written}
    assert file in [os.stat(path).st_ino for path in (tmp_path / "images").iterdir()]
    # What is left is still kept up to date; what was given away is not looked at any more.
    assert store.names() == ([ONE] if how == "lazily" else [])
    store.settle(shared, layout_of(memory[shared]))
    with pytest.raises(PagesError, match=f"the pages of {shared} were given to the restore already"):
        store.put(shared, 0, content(1))


@pytest.mark.parametrize("seed", range(20))
def test_shared_pages_are_not_copied_in_whatever_order_they_lie(tmp_path, seed, monkeypatch):
    """CRIU reads them as they come. Only room that has become free is filled with the last ones."""
    monkeypatch.setattr(image_set, "copy_pages", lambda *_arguments: pytest.fail("a page was copied"))
    moved, copy = [], page_store.copy_pages
    monkeypatch.setattr(page_store, "copy_pages", lambda *words: (moved.append(words[-1] // PAGE), copy(*words)))
    rng = random.Random(seed)
    shared = "pagemap-shmem-77.img"
    held = {n * PAGE: (content(n), 0) for n in rng.sample(range(300), 150)}
    store = store_of(tmp_path / "store", {shared: held}, rng)
    gone = rng.sample(sorted(held), rng.choice([0, 1, 20, 149]))
    kept = {vaddr: page for vaddr, page in held.items() if vaddr not in gone}
    store.settle(shared, layout_of(kept))
    images = write_set(tmp_path / "images", {shared: kept}, contents=False)
    complete(images, store, rng.random() < 0.5)
    assert memory_in(images) == {shared: kept}
    assert sum(moved) <= min(len(gone), len(kept))
    assert store.names() == []


@pytest.mark.parametrize("change", ["a page more", "another page", "not in order", "a name that is there"])
def test_pages_that_are_not_as_the_images_want_them_are_copied(tmp_path, change):
    shared = "pagemap-shmem-77.img"
    held = {n * PAGE: (content(n), 0) for n in range(9)}
    store = store_of(tmp_path / "store", {shared: held})
    wanted = dict(held)
    if change == "a page more":
        store.put(shared, 20 * PAGE, content(20))
        store.settle(shared, layout_of({**held, 20 * PAGE: None}))
    elif change == "another page":
        del wanted[8 * PAGE]
        wanted[9 * PAGE] = (content(9), 0)
        store.put(shared, 9 * PAGE, content(9))
        store.settle(shared, layout_of(wanted))
    elif change == "not in order":
        del wanted[3 * PAGE]
        store.settle(shared, layout_of(wanted))
        wanted[10 * PAGE] = (content(10), 0)
        store.put(shared, 10 * PAGE, content(10))
        store.settle(shared, layout_of(wanted))
    images = write_set(tmp_path / "images", {shared: wanted}, contents=False)
    if change == "a name that is there":
        (tmp_path / "images" / "pages-1.img").write_bytes(b"")
        with pytest.raises(FileExistsError):
            complete(images, store, False)
        return
    complete(images, store, False)
    assert memory_in(images) == {shared: wanted}


def test_pages_that_the_dump_holds_are_never_left(tmp_path):
    """A process can have pages that are LAZY and yet PRESENT: nobody would ask for those in the restore."""
    held = {HEAP + n * PAGE: (content(n), LAZY) for n in range(6)}
    dumped = {vaddr: (data if vaddr < HEAP + 3 * PAGE else None, LAZY) for vaddr, (data, _flags) in held.items()}
    images = write_set(tmp_path / "images", {ONE: dumped}, contents=False)
    figures = complete(images, store_of(tmp_path / "store", {ONE: held}), True)
    assert figures == {"pages": 3, "bytes_written": 3 * PAGE, "left": 3}
    assert entries_in(images)[ONE] == [(HEAP, 3, PRESENT | LAZY), (HEAP + 3 * PAGE, 3, LAZY)]
    assert memory_in(images) == {ONE: dumped}


def test_no_entry_is_longer_than_criu_can_serve(tmp_path):
    """CRIU's own entries have some MiB each, however much memory lies in one piece."""
    images, part = tmp_path / "images", (4 << 20) // PAGE
    images.mkdir()
    parts = [new_entry(HEAP + number * part * PAGE, part, LAZY) for number in range(5 * 256)]
    (images / ONE).write_bytes(pagemap(*parts))
    figures = complete(str(images), Store(str(tmp_path / "store")), True)
    giga = (1 << 30) // PAGE
    assert entries_in(images)[ONE] == [(HEAP + number * giga * PAGE, giga, LAZY) for number in range(5)]
    assert figures["left"] == 5 * giga


@pytest.mark.parametrize("left", [{ONE: {}}, {}], ids=["of a process", "of all of it"])
def test_a_page_that_never_came(tmp_path, left):
    memory = {ONE: {HEAP + n * PAGE: (content(n), 0) for n in range(9)}}
    images = write_set(tmp_path / "images", memory, contents=False)
    store = store_of(tmp_path / "store", left and {ONE: {v: p for v, p in memory[ONE].items() if v != HEAP + 4 * PAGE}})
    missing = HEAP + 4 * PAGE if left else HEAP
    with pytest.raises(PagesError, match=f"the page at 0x{missing:x} of {ONE} did not arrive"):
        complete(images, store, False)
    # Nothing that could be restored by mistake.
    assert not (tmp_path / "images" / ONE).exists()


def test_a_round_that_was_not_finished_completes_nothing(tmp_path):
    memory = {ONE: {HEAP: (content(1), 0)}}
    images = write_set(tmp_path / "images", memory, contents=False)
    store = store_of(tmp_path / "store", memory)
    store.put(ONE, HEAP, content(2))
    with pytest.raises(PagesError, match="was not finished"):
        complete(images, store, False)


def test_pages_are_copied_without_the_system_call_for_it(tmp_path, monkeypatch):
    """Not every Python has it, and not every pair of file systems."""
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    memory = invent(random.Random(5))
    images = write_set(tmp_path / "images", memory, contents=False)
    complete(images, store_of(tmp_path / "store", memory), False)
    assert memory_in(images) == memory


def test_larger_pages(tmp_path):
    """64 KiB, as some kernels for 64-bit ARM have."""
    big, data = 16 * PAGE, bytearray(content(1, 9 * 16))
    (tmp_path / "data").write_bytes(data)
    source, destination = Store(str(tmp_path / "here"), big), Store(str(tmp_path / "there"), big)
    with open(tmp_path / "data", "r+b") as stream:

        def one_round():
            found = [(one.vaddr, bytes(one.data)) for one in source.update(ONE, [Run(HEAP, 9, 0, stream.fileno(), 0)])]
            for vaddr, part in found:
                destination.put(ONE, vaddr, part)
            destination.settle(ONE, source.layout(ONE))
            return found

        assert b"".join(part for _vaddr, part in one_round()) == data
        data[5 * big + 1] ^= 1
        os.pwrite(stream.fileno(), data, 0)
        assert one_round() == [(HEAP + 5 * big, data[5 * big : 6 * big])]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / ONE).write_bytes(pagemap(new_entry(HEAP, 9, PRESENT)))
    complete(str(tmp_path / "images"), destination, False, page=big)
    assert (tmp_path / "images" / "pages-1.img").read_bytes() == data


# Stores


def play_round(source, destination, directory):
    """One round of all pagemaps of a dump, as it travels: changes, then the layout."""
    names, sent = ImageSet(directory).names(), 0
    for name in {*names, *source.names()}:
        if name not in names:
            source.drop(name)
            destination.drop(name)
            continue
        with dumped_runs(directory, name, -1) as runs:
            for change in source.update(name, runs):
                destination.put(name, change.vaddr, bytes(change.data))
                sent += len(change.data)
        destination.settle(name, [list(pages) for pages in source.layout(name)])
    return sent


def test_differences_are_named():
    """The proof itself."""
    before = {HEAP + n * PAGE: (content(n), 0) for n in range(5)}
    after = {**before, HEAP + PAGE: (content(9), 0), STACK: (content(3), 0)}
    del after[HEAP + 4 * PAGE]
    assert differences({ONE: before}, {ONE: after, "pagemap-2.img": {HEAP: (content(1), 0)}}) == [
        (ONE, HEAP + PAGE, "other bytes"),
        (ONE, HEAP + 4 * PAGE, "missing in the second"),
        (ONE, STACK, "missing in the first"),
        ("pagemap-2.img", HEAP, "missing in the first"),
    ]
    assert digest({ONE: before}) != digest({ONE: after})


@pytest.mark.parametrize("seed", range(4))
def test_two_stores_hold_the_same_after_every_round(tmp_path, seed):
    rng = random.Random(seed)
    memory = invent(rng)
    with Store(str(tmp_path / "here")) as source, Store(str(tmp_path / "there")) as destination:
        for number in range(5):
            full = write_set(tmp_path / f"full{number}", memory)
            sent = play_round(source, destination, full)
            assert sent == PAGE * sum(map(len, memory.values())) if number == 0 else sent > 0
            assert play_round(source, destination, full) == 0
            assert source.names() == destination.names() == sorted(memory)
            assert differences(memory_of(source), memory) == differences(memory_of(destination), memory) == []
            before, memory = memory, changed(rng, memory)
        images = write_set(tmp_path / "images", before, contents=False)
        complete(images, destination, False)
        assert memory_in(images) == before
    assert not (tmp_path / "here").exists()
    assert not (tmp_path / "there").exists()


def test_no_more_is_sent_than_what_has_changed(tmp_path):
    memory = {ONE: {HEAP + n * PAGE: (content(n), 0) for n in range(300)}}
    source, destination = Store(str(tmp_path / "here")), Store(str(tmp_path / "there"))
    play_round(source, destination, write_set(tmp_path / "before", memory))
    for number in (0, 5, 6, 7, 63, 64, 200, 299):
        memory[ONE][HEAP + number * PAGE] = (content(1000 + number), 0)
    with dumped_runs(write_set(tmp_path / "after", memory), ONE, -1) as runs:
        found = [(change.vaddr, bytes(change.data)) for change in source.update(ONE, runs)]
    assert b"".join(data for _vaddr, data in found) == b"".join(
        content(1000 + n) for n in (0, 5, 6, 7, 63, 64, 200, 299)
    )
    sent = {vaddr + offset: None for vaddr, data in found for offset in range(0, len(data), PAGE)}
    assert layout_of(sent) == [(HEAP + n * PAGE, count) for n, count in ((0, 1), (5, 3), (63, 2), (200, 1), (299, 1))]


@pytest.mark.parametrize("seed", range(6))
def test_only_what_may_have_been_touched_is_read_again(tmp_path, seed):
    rng = random.Random(seed)
    before = {HEAP + n * PAGE: (content(n), 0) for n in range(200) if n % 50 != 17}
    source, destination = Store(str(tmp_path / "here")), Store(str(tmp_path / "there"))
    play_round(source, destination, write_set(tmp_path / "before", {ONE: before}))
    # All pages are other ones, some are gone and some are new.
    after = {vaddr: (content(vaddr + 1), 0) for vaddr in before if rng.random() < 0.9}
    after.update({HEAP + n * PAGE: (content(n), 0) for n in (17, 67, 300, 301)})
    touched = sorted([*rng.sample(sorted(after), 40), HEAP + 250 * PAGE])
    with dumped_runs(write_set(tmp_path / "after", {ONE: after}), ONE, -1) as runs:
        said = [Run(vaddr, 1, 0, -1, -1) for vaddr in touched]
        for change in source.update(ONE, runs, said):
            destination.put(ONE, change.vaddr, change.data)
    destination.settle(ONE, source.layout(ONE))
    expected = {
        vaddr: page if vaddr in touched or vaddr not in before else before[vaddr] for vaddr, page in after.items()
    }
    assert memory_of(source) == memory_of(destination) == {ONE: expected}


def test_what_was_not_touched_is_not_even_read(tmp_path):
    """Its file cannot be read at all."""
    memory = {ONE: {HEAP + n * PAGE: (content(n), 0) for n in range(9)}}
    store = store_of(tmp_path / "store", memory)
    assert list(store.update(ONE, [Run(HEAP, 9, LAZY, -1, -1)], touched=[])) == []
    assert memory_of(store) == memory
    with pytest.raises(OSError, match="Bad file descriptor"):
        list(store.update(ONE, [Run(HEAP, 9, LAZY, -1, -1)]))


def test_room_that_became_free_is_used_again(tmp_path):
    with Store(str(tmp_path / "store")) as store, Store(str(tmp_path / "other")) as other:
        for number in range(10):
            memory = {ONE: {n * 3 * PAGE: (content(n), 0) for n in range(number * 100, number * 100 + 100)}}
            assert play_round(store, other, write_set(tmp_path / f"full{number}", memory)) == 100 * PAGE
            assert memory_of(store) == memory_of(other) == memory
        for directory in ("store", "other"):
            assert sum(path.stat().st_size for path in (tmp_path / directory).iterdir()) <= 200 * PAGE


def test_a_store_tells_how_it_grows(tmp_path):
    """What became free is used again, and what is dropped is given back."""
    changes = []
    with Store(str(tmp_path / "store"), grow=changes.append) as store:
        store.put(ONE, 0, bytes(4 * PAGE))
        store.settle(ONE, [(2 * PAGE, 2)])
        store.put(ONE, 8 * PAGE, bytes(3 * PAGE))
        assert changes == [4 * PAGE, PAGE]
        assert store.pages(ONE) == 5
        assert store.pages("pagemap-77.img") == 0
    assert sum(changes) == 0


def test_a_store_that_may_not_grow(tmp_path):
    def refuse(count):
        if count > 0:
            raise PagesError("no room")

    with Store(str(tmp_path / "store"), grow=refuse) as store, pytest.raises(PagesError, match="no room"):
        store.put(ONE, 0, bytes(PAGE))


def test_more_runs_than_there_are_pages(tmp_path):
    """A pagemap is not even read that has more of them than what is here, or than any process."""
    images = tmp_path / "images"
    images.mkdir()
    runs = [Run(number * 2 * PAGE, 1, 4, -1, 0) for number in range(200_000)]
    (images / ONE).write_bytes(_pagemap.encode_pagemap(1, runs))
    with Store(str(tmp_path / "store")) as store:
        store.put(ONE, 0, bytes(PAGE))
        store.settle(ONE, [(0, 1)])
        with pytest.raises(PagesError, match="more than 4097 runs of pages can have"):
            complete(str(images), store, lazily=False)
    data = _pagemap.encode_pagemap(1, runs[:5])
    assert len(_pagemap.decode_pagemap(data, "it", most=5)[1]) == 5
    with pytest.raises(PagesError, match="it has more than 4 runs of pages"):
        _pagemap.decode_pagemap(data, "it", most=4)


def test_no_run_is_longer_than_that():
    longest = Run((1 << 64) - PAGE, 1, 7, -1, 0)
    assert len(_pagemap.encode_pagemap((1 << 32) - 1, [longest] * 50)) <= _pagemap.most_bytes(50)
    assert _pagemap.LONGEST_RUN >= 4 + 5 * 1 + 10 + 5 + 1 + 5 + 10


def test_a_round_that_was_not_finished(tmp_path):
    full = write_set(tmp_path / "full", {ONE: {HEAP + n * 2 * PAGE: (content(n), 0) for n in range(9)}})
    store = Store(str(tmp_path / "store"))
    with dumped_runs(full, ONE, -1) as runs:
        changes = store.update(ONE, runs)
        next(changes)
        changes.close()
    with pytest.raises(PagesError, match="was not finished"):
        store.layout(ONE)
    with pytest.raises(PagesError, match="was not finished"), store.runs(ONE):
        pass


def test_what_the_other_end_may_not_send(tmp_path):
    store = Store(str(tmp_path / "store"))
    one = content(1)
    for name in ("pagemap-1", "../pagemap-1.img", "pagemap-1.img/..", "mm-1.img", "pagemap--1.img", ""):
        with pytest.raises(PagesError, match="is not the name of a pagemap"):
            store.put(name, HEAP, one)
    for vaddr, data in ((HEAP + 1, one), (HEAP, one[:-1]), (HEAP, b""), (-PAGE, one), ((1 << 64) - PAGE, one + one)):
        with pytest.raises(PagesError, match="are not whole pages"):
            store.put(ONE, vaddr, data)
    store.put(ONE, HEAP, one)
    with pytest.raises(PagesError, match=f"the page at 0x{HEAP + PAGE:x} did not arrive"):
        store.settle(ONE, [(HEAP, 2)])
    for layout in ([(HEAP + PAGE, 1), (HEAP, 1)], [(HEAP, 0)], [(HEAP + 1, 1)]):
        with pytest.raises(PagesError, match="is not in order"):
            store.settle(ONE, layout)
    # What comes twice is as it came last.
    store.put(ONE, HEAP, content(2))
    store.settle(ONE, [(HEAP, 1)])
    assert bytes_of(store.pieces(ONE, HEAP, 3)) == content(2)


# Pages of a store, one by one


@pytest.mark.parametrize("seed", range(4))
def test_pieces_are_those_of_the_moment(tmp_path, seed):
    """Against a dictionary: pages come, in rounds, in any order and size, and any of them are asked for meanwhile."""
    rng = random.Random(seed)
    held, pages = {}, 150
    with Store(str(tmp_path / "store")) as store:
        for number in range(400):
            first, count = rng.randrange(pages), rng.randint(1, 20)
            data = rng.randbytes(count * PAGE)
            store.put(ONE, HEAP + first * PAGE, data)
            held.update({first + index: data[index * PAGE :][:PAGE] for index in range(count)})
            if number % 25 == 24:
                held = {index: data for index, data in held.items() if rng.random() < 0.8}
                store.settle(ONE, layout_of({HEAP + index * PAGE: None for index in held}))
            first, count = rng.randrange(pages), rng.randint(1, 40)
            here = [index for index in range(first, first + count) if index in held]
            runs = store.pieces(ONE, HEAP + first * PAGE, count)
            assert bytes_of(runs) == b"".join(held[index] for index in here)
            assert _pages_of(runs) == layout_of({HEAP + index * PAGE: None for index in here})


def test_pieces_of_what_is_not_here(tmp_path):
    store = store_of(tmp_path / "store", {ONE: {HEAP: (content(1), 0)}})
    assert store.pieces(ONE, HEAP + PAGE, 9) == store.pieces(ONE, 0, 1) == store.pieces("pagemap-2.img", HEAP, 1) == []
    assert store.names() == [ONE]


def test_pieces_while_another_thread_ends_the_round(tmp_path, monkeypatch):
    """What came in this round is never missing between the two places where it is looked for."""
    store = store_of(tmp_path / "store", {ONE: {HEAP: (content(1), 0)}})
    store.put(ONE, HEAP + PAGE, content(2))
    settling = threading.Thread(target=store.settle, args=(ONE, [(HEAP, 2)]))
    look = page_store._reaching

    def look_slowly(*arguments):
        found = look(*arguments)
        if settling.ident is None:
            settling.start()
            settling.join(0.2)
        return found

    monkeypatch.setattr(page_store, "_reaching", look_slowly)
    assert bytes_of(store.pieces(ONE, HEAP, 2)) == content(1) + content(2)
    settling.join()
    assert bytes_of(store.pieces(ONE, HEAP, 2)) == content(1) + content(2)


# A running process


MAPS = """\
55d000000000-55d000002000 r--p 00000000 08:01 1310 /usr/bin/a b
55d000100000-55d000200000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000100000 rw-p 00000000 00:00 0 
7f0000200000-7f0000300000 rw-s 00000000 00:01 77 /dev/zero (deleted)
7f0000300000-7f0000310000 rw-p 00000000 00:00 0 [anon:glibc: malloc]
7f0000310000-7f0000320000 r--s 00000000 00:01 5 /SYSV0000002a (deleted)
7f0000320000-7f0000328000 rw-s 00000000 00:01 6 /memfd:x (deleted)
7f0000328000-7f0000330000 r-xp 00000000 00:01 8 /memfd:of a blank (deleted) (deleted)
7f0000330000-7f0000340000 rw-s 00000000 08:01 7 /dev/zero.txt
7f0000340000-7f0000350000 r-xs 00000000 00:01 6 /memfd:x (deleted)
7f0000400000-7f0000600000 rw-s 00000000 00:0f 9 /anon_hugepage (deleted)
7f0000600000-7f0000800000 rw-p 00000000 00:0f 10 /anon_hugepage (deleted)
7f0000800000-7f0000801000 rw-s 00000000 00:0e 11 /secretmem (deleted)
7f0000801000-7f0000802000 rw-s 00000000 00:31 12 /dev/shm/x (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
7ffc000a0000-7ffc000a4000 r--p 00000000 00:00 0 [vvar]
7ffc000a4000-7ffc000a6000 r--p 00000000 00:00 0 [vvar_vclock]
7ffc000a6000-7ffc000a8000 r-xp 00000000 00:00 0 [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
"""  # noqa: W291


def test_private_mappings():
    assert process_memory.parse_maps(MAPS) == [
        (0x55D000000000, 0x55D000002000),
        (0x55D000100000, 0x55D000200000),
        (0x7F0000000000, 0x7F0000100000),
        (0x7F0000300000, 0x7F0000310000),
        (0x7F0000328000, 0x7F0000330000),
        (0x7F0000600000, 0x7F0000800000),
        (0x7FFC00000000, 0x7FFC00021000),
    ]


def test_shared_mappings_without_a_file():
    """By inode, each by one of its mappings; a memfd also where it is mapped for one process alone."""
    assert process_memory.parse_shared(MAPS) == {
        77: ("7f0000200000-7f0000300000", False, False),
        5: ("7f0000310000-7f0000320000", False, True),
        6: ("7f0000340000-7f0000350000", True, False),
        8: ("7f0000328000-7f0000330000", True, False),
        9: ("7f0000400000-7f0000600000", False, False),
    }


def test_entries_of_the_kernels_pagemap():
    present, swapped, file, guard = 1 << 63, 1 << 62, 1 << 61, 1 << 58
    entries = [0, present | 77, swapped, present | file, present | 78, present | guard, 0, 5, present]
    assert process_memory.wanted_pages(struct.pack(f"={len(entries)}Q", *entries)) == [(1, 3), (4, 5), (8, 9)]


TARGET = """
import mmap, random, sys
pages = mmap.mmap(-1, 512 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
shared = mmap.mmap(-1, 16 * 4096)
shared[:] = b"s" * len(shared)
pages[: 300 * 4096] = random.Random(1).randbytes(300 * 4096)
for line in sys.stdin:
    exec(line)
    print(flush=True)
"""


@pytest.fixture
def target():
    """A process that does what it is told, and then waits."""
    process = subprocess.Popen([sys.executable, "-c", TARGET], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(line=""):
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        process.stdout.readline()
        stat = Path(f"/proc/{process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "S":  # it still prepares to wait for the next line
            time.sleep(0.01)

    tell()
    yield process, tell
    process.kill()
    process.communicate()


def pages_of(pid):
    with MemoryOf(pid) as memory:
        return {
            run.vaddr + index * PAGE: os.pread(run.file, PAGE, run.offset + index * PAGE)
            for run in memory.runs()
            for index in range(run.pages)
        }


def test_memory_of_a_process(target):
    process, _tell = target
    with MemoryOf(process.pid) as memory:
        assert memory.image_id == process.pid
        assert memory.name == f"pagemap-{process.pid}.img"
        runs = memory.runs()
    held = pages_of(process.pid)
    expected = random.Random(1).randbytes(300 * PAGE)
    starts = [vaddr for vaddr, data in held.items() if data == expected[:PAGE]]
    assert len(starts) == 1
    assert b"".join(held.get(starts[0] + index * PAGE, b"") for index in range(300)) == expected
    assert b"s" * PAGE not in held.values()
    assert runs == sorted(runs)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root may look at what processes share")
def test_shared_memory_of_a_process(target):
    process, tell = target
    tell("sparse = mmap.mmap(-1, 16 * 4096); sparse[5 * 4096] = sparse[6 * 4096] = sparse[9 * 4096] = 7")
    tell("import os; file = os.memfd_create('one'); os.ftruncate(file, 9 * 4096); os.pwrite(file, b'f' * 4096, 8192)")
    with MemoryOf(process.pid) as memory:
        found = memory.shared()
        (full, file), (sparse,) = (
            sorted((name for name, runs in found.items() if len(runs) == count), key=lambda name: -found[name][0].pages)
            for count in (1, 2)
        )
        assert memory.shared([full]).keys() == {sparse, file}
        assert memory.executable_shared() == set()
        # It is open, and not mapped by anybody.
        assert [(run.vaddr // PAGE, run.pages) for run in found[file]] == [(2, 1)]
        assert os.pread(found[file][0].file, PAGE, found[file][0].offset) == b"f" * PAGE
        assert [(run.vaddr // PAGE, run.pages) for run in found[full]] == [(0, 16)]
        assert [(run.vaddr // PAGE, run.pages) for run in found[sparse]] == [(5, 2), (9, 1)]
        assert os.pread(found[full][0].file, 20 * PAGE, found[full][0].offset) == b"s" * 16 * PAGE
        assert os.pread(found[sparse][1].file, PAGE, found[sparse][1].offset) == b"\7" + bytes(PAGE - 1)
        # It can still be looked at like any other.
        assert memory.runs()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root may look at what processes share")
def test_shared_memory_that_ends_within_a_page(target):
    """What is written behind its end is there for whoever has it mapped, and for CRIU."""
    process, tell = target
    tell("import os; file = os.memfd_create('odd'); os.ftruncate(file, 2 * 4096); odd = mmap.mmap(file, 2 * 4096)")
    tell("odd[:] = b'o' * 8192; os.ftruncate(file, 4096 + 56); odd[4096 + 56 :] = b'b' * (4096 - 56)")
    with MemoryOf(process.pid) as memory:
        found = memory.shared()
        (odd,) = (name for name, runs in found.items() if [run.pages for run in runs] == [1])
        assert process_memory.rest_of(memory.shared_memory[odd]) == (PAGE, b"o" * 56 + b"b" * (PAGE - 56))
        whole = memory.shared_memory.keys() - {odd}
        assert [process_memory.rest_of(memory.shared_memory[name]) for name in whole] == [None] * len(whole)
        pieces = {_pagemap.shared_name(one) for one in process_memory.own_pieces(process.pid)}
        assert pieces == memory.shared_memory.keys() == found.keys()


def test_first_code_of_a_process(target):
    """Where CRIU's first instruction is."""
    process, _tell = target
    with MemoryOf(process.pid) as memory:
        address, page = memory.first_code()
    maps = [line.split() for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines()]
    first = next(words for words in maps if "x" in words[1])
    assert address == int(first[0].split("-")[0], 16)
    assert page == Path(first[5]).read_bytes()[int(first[2], 16) :][:PAGE]


def test_a_process_without_code():
    assert procfs.first_code("7f00-7f01 rw-p 00000000 00:00 0 \n") is None
    maps = "1000-2000 r--p 00000000 00:00 0\n3000-4000 --xp 00000000 00:00 0 [x]\n"
    assert procfs.first_code(maps) == (0x3000, "--xp")


def test_both_ways_to_look_agree(target, monkeypatch):
    """The way for kernels before 6.7 may name zero pages, which the other one leaves out."""
    process, _tell = target
    first = pages_of(process.pid)
    monkeypatch.setattr(process_memory, "_PAGEMAP_SCAN", 0xC0606611)
    second = pages_of(process.pid)
    assert {vaddr: second.get(vaddr) for vaddr in first} == first
    assert not any(any(second[vaddr]) for vaddr in second.keys() - first.keys())


SMAPS = """\
10000-20000 ---p 00000000 00:00 0
Size:                 64 kB
Rss:                   0 kB
Swap:                  0 kB
20000-30000 rw-p 00000000 00:00 0    [heap]
Rss:                   4 kB
Swap:                  0 kB
30000-40000 rw-p 00000000 00:00 0
Rss:                   0 kB
Swap:                 64 kB
40000-50000 rw-p 00000000 00:0e 5    /anon_hugepage (deleted)
Rss:                   0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:    2048 kB
Swap:                  0 kB
VmFlags: rd wr mr mw me de ht sd
50000-60000 rw-p 00000000 00:00 0
Rss:                   0 kB
"""


def test_mappings_without_memory():
    assert process_memory.parse_empty(SMAPS) == {0x10000, 0x50000}


def test_terabytes_of_addresses_are_not_walked_through(target, monkeypatch):
    """Where the kernel does not look for pages itself."""
    process, tell = target
    monkeypatch.setattr(process_memory, "_PAGEMAP_SCAN", 0xC0606611)
    tell("import mmap; reserved = mmap.mmap(-1, 1 << 44, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, 0)")
    read, sizes = os.pread, []
    monkeypatch.setattr(os, "pread", lambda *words: (sizes.append(words[1]), read(*words))[1])
    with MemoryOf(process.pid) as memory:
        assert memory.runs()
    assert sum(sizes) < 64 << 20


def test_rounds_of_a_process(target, tmp_path):
    process, tell = target
    source, destination = Store(str(tmp_path / "here")), Store(str(tmp_path / "there"))

    def one_round():
        with MemoryOf(process.pid) as memory:
            sent = {}
            for change in source.update(memory.name, memory.runs()):
                sent[change.vaddr] = bytes(change.data)
                destination.put(memory.name, change.vaddr, change.data)
            destination.settle(memory.name, source.layout(memory.name))
            assert digest(memory_of(source)) == digest(memory_of(destination))
            return sent

    first = sum(map(len, one_round().values()))
    assert first > 300 * PAGE
    assert one_round() == {}
    tell("pages[5 * 4096] ^= 1; pages[7 * 4096 : 9 * 4096] = b'x' * 8192")
    second = one_round()
    assert b"x" * 2 * PAGE in second.values()
    assert 3 * PAGE <= sum(map(len, second.values())) < first / 2
    tell("pages.close()")
    one_round()
    last = destination.layout(f"pagemap-{process.pid}.img")
    assert sum(run.pages for run in last) * PAGE <= first - 300 * PAGE + sum(map(len, second.values()))
    held = memory_of(destination)[f"pagemap-{process.pid}.img"]
    assert {vaddr: data for vaddr, (data, _flags) in held.items()} == pages_of(process.pid)


def test_pages_that_go_while_they_are_read(target, tmp_path):
    process, tell = target
    with MemoryOf(process.pid) as memory, Store(str(tmp_path / "store")) as store:
        runs = memory.runs()
        tell("pages.close()")
        held = sum(len(change.data) for change in store.update(memory.name, runs))
        assert 0 < held < sum(run.pages for run in runs) * PAGE
        assert sum(run.pages for run in store.layout(memory.name)) * PAGE == held


def test_a_process_that_ends_while_it_is_looked_at(target, monkeypatch):
    """Between what it has mapped and which pages of that there are."""
    process, _tell = target
    parse = process_memory.parse_maps

    def ends(text):
        process.kill()
        process.wait()
        return parse(text)

    monkeypatch.setattr(process_memory, "parse_maps", ends)
    with MemoryOf(process.pid) as memory, pytest.raises(PagesError, match="no process"):
        memory.runs()


def test_a_process_that_is_gone(target, tmp_path):
    process, _tell = target
    with MemoryOf(process.pid) as memory, Store(str(tmp_path / "store")) as store:
        runs = memory.runs()
        process.kill()
        process.wait()
        assert list(store.update(memory.name, runs)) == []
        assert store.layout(memory.name) == []
        with pytest.raises(PagesError, match="no process"):
            memory.runs()
        # A process that was frozen may have been killed.
        assert memory.first_code() is None
        assert memory.executable_shared() == set()
        assert memory.shared() == {}
    with pytest.raises(PagesError, match=f"there is no process {process.pid}"):
        MemoryOf(process.pid)
