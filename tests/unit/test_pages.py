# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory pages: image sets made here byte by byte, and the memory of a real process."""

from __future__ import annotations

import ast
import itertools
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.fog.migration.plugins.module_utils import _pages
from ansible_collections.fog.migration.plugins.module_utils._pages import (
    LAZY,
    PARENT,
    PRESENT,
    ImageSet,
    MemoryOf,
    PagesError,
    Run,
    Store,
    delta,
    differences,
    merge,
)

PAGE = _pages.PAGE
MAGICS = bytes.fromhex("1943565425400856")  # as the first bytes of a pagemap that CRIU wrote
HEAP, STACK = 0x55D0_0000_0000, 0x7FFE_0000_0000


# Images, written here without the code under test.


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def message(**fields):
    """A framed message of numbers: message(_1=5)."""
    body = b"".join(varint(int(key[1:]) * 8) + varint(value) for key, value in fields.items())
    return struct.pack("<I", len(body)) + body


def old_entry(vaddr, pages, flags):
    """An entry as CRIU up to 4.1 writes it."""
    return message(_1=vaddr, _2=pages, _4=flags)


def new_entry(vaddr, pages, flags):
    """An entry as CRIU 4.2 writes it."""
    return message(_1=vaddr, _2=0, _4=flags, _5=pages)


def pagemap(*entries, pages_id=1):
    return MAGICS + message(_1=pages_id) + b"".join(entries)


def content(seed, pages=1):
    return random.Random(seed).randbytes(pages * PAGE)


def mapping(start, pages, flags=0x22, status=0x201):
    """A vma_entry in an mm_entry."""
    body = message(_1=start, _2=start + pages * PAGE, _3=0, _4=0, _5=3, _6=flags, _7=status, _8=1)[4:]
    return b"\x72" + varint(len(body)) + body


def mm_image(*mappings):
    body = message(_1=HEAP, _12=1)[4:] + b"".join(mappings)
    return bytes.fromhex("1943565420284957") + struct.pack("<I", len(body)) + body


# What can be lazy, and what cannot because it is locked into memory.
MAPPINGS = mm_image(mapping(HEAP, 1 << 20), mapping(STACK, 1 << 20, 0x2022))


def write_set(directory, memory, entry=new_entry):
    """A full dump. Memory is {pagemap: {address: (bytes of one page, flags)}}; entries are as short as can be."""
    directory.mkdir()
    for name in memory:
        if "shmem" not in name:
            (directory / name.replace("pagemap", "mm")).write_bytes(MAPPINGS)
    for number, name in enumerate(sorted(memory), 1):
        pages = sorted(memory[name].items())
        entries = [entry(vaddr, 1, flags | PRESENT) for vaddr, (_data, flags) in pages]
        (directory / name).write_bytes(pagemap(*entries, pages_id=number))
        (directory / f"pages-{number}.img").write_bytes(b"".join(data for _vaddr, (data, _flags) in pages))
    (directory / "inventory.img").write_bytes(b"inventory")
    (directory / "core-1.img").write_bytes(b"core")
    return str(directory)


def read_set(directory):
    """The memory in a plain image set, and its entries by pagemap, read without the code under test but for decode."""
    memory, entries = {}, {}
    for path in Path(directory).glob("pagemap-*.img"):
        pages_id, runs = _pages.decode_pagemap(path.read_bytes(), path.name)
        data = (path.parent / f"pages-{pages_id}.img").read_bytes()
        entries[path.name] = [(run.vaddr, run.pages, run.flags) for run in runs]
        memory[path.name], position = {}, 0
        for vaddr, pages, flags in entries[path.name]:
            for index in range(pages if flags & PRESENT else 0):
                memory[path.name][vaddr + index * PAGE] = (data[position : position + PAGE], flags & LAZY)
                position += PAGE
        assert position == len(data)
    return memory, entries


def invent(rng, pages=120):
    """Memory of two processes and a piece of shared memory, in runs of some pages with gaps between them."""
    memory = {}
    for name, start in (("pagemap-1.img", HEAP), ("pagemap-27.img", STACK), ("pagemap-shmem-4051.img", 0)):
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


# The format


@pytest.mark.parametrize("entry", [old_entry, new_entry])
def test_entries_of_old_and_new_criu(entry):
    data = pagemap(entry(HEAP, 3, PRESENT), entry(HEAP + 3 * PAGE, 70000, PARENT), entry(STACK, 2, PRESENT | LAZY))
    assert _pages.decode_pagemap(data, "pagemap-1.img") == (
        1,
        [
            Run(HEAP, 3, PRESENT, -1, 0),
            Run(HEAP + 3 * PAGE, 70000, PARENT, -1, -1),
            Run(STACK, 2, PRESENT | LAZY, -1, 3 * PAGE),
        ],
    )


def test_entries_of_very_old_criu():
    data = pagemap(message(_1=HEAP, _2=1), message(_1=STACK, _2=2, _3=1))
    runs = _pages.decode_pagemap(data, "pagemap-1.img")[1]
    assert [run.flags for run in runs] == [PRESENT, PARENT]


def test_what_is_written_any_criu_reads():
    runs = [Run(HEAP, 300, PRESENT, -1, 0), Run(STACK, 1 << 33, PARENT, -1, -1)]
    data = _pages.encode_pagemap(7, runs)
    assert _pages.decode_pagemap(data, "pagemap-1.img") == (7, runs)
    assert data == pagemap(
        message(_1=HEAP, _2=300, _4=PRESENT, _5=300), message(_1=STACK, _2=0, _4=PARENT, _5=1 << 33), pages_id=7
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
        (pagemap(message(_1=HEAP, _2=0, _4=PRESENT, _5=1, _6=1)), r"not known here \(number 6, type 0\)"),
        (pagemap(b"\4\0\0\0\x0a\2ab"), r"not known here \(number 1, type 2\)"),
        (pagemap(message(_2=1, _4=PRESENT)), "no run of pages"),
        (pagemap(new_entry(HEAP, 0, PRESENT)), "no run of pages"),
        (pagemap(new_entry(HEAP + 1, 1, PRESENT)), "no run of pages"),
        (pagemap(new_entry((1 << 64) - PAGE, 2, PRESENT)), "no run of pages"),
        (pagemap(new_entry(HEAP, 1, PRESENT | PARENT)), "flags 5, which are not known"),
        (pagemap(new_entry(HEAP, 1, PRESENT | 8)), "flags 12, which are not known"),
        (pagemap(new_entry(HEAP, 1, 0)), "flags 0, which are not known"),
        (pagemap(GOOD, new_entry(HEAP + PAGE, 1, PRESENT)), "not in order"),
        (pagemap(GOOD, new_entry(0, 1, PRESENT)), "not in order"),
    ],
)
def test_what_is_no_pagemap_is_refused(data, reason):
    with pytest.raises(PagesError, match=f"pagemap-1.img .*{reason}"):
        _pages.decode_pagemap(data, "pagemap-1.img")


def test_no_damage_goes_unnoticed_or_ends_in_a_traceback():
    """Every single bit of a pagemap turned: another pagemap, or one sentence."""
    data = pagemap(old_entry(HEAP, 3, PRESENT), message(_1=STACK, _4=PARENT, _5=200))
    for position, bit in itertools.product(range(len(data)), range(8)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        try:
            assert _pages.decode_pagemap(bytes(damaged), "p") != _pages.decode_pagemap(data, "p")
        except PagesError as error:
            assert "\n" not in str(error)


# Image sets


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("in_place", [False, True], ids=["copied", "in place"])
def test_delta_and_merge_give_the_full_set_again(tmp_path, seed, in_place):
    rng = random.Random(seed)
    before = invent(rng)
    after = changed(rng, before)
    # That the old set has nothing lazy happens to CRIU, and is no reason to send anything.
    without = {name: {vaddr: (data, 0) for vaddr, (data, _flags) in held.items()} for name, held in before.items()}
    old = write_set(tmp_path / "old", rng.choice([before, without]), old_entry)
    new = write_set(tmp_path / "new", after)
    out, merged = str(tmp_path / "delta"), str(tmp_path / "merged")
    figures = delta(old, new, out, "../old")
    common = [(name, vaddr) for name in after for vaddr in after[name] if vaddr in before.get(name, {})]
    same = sum(before[name][vaddr] == after[name][vaddr] for name, vaddr in common)
    total = sum(map(len, after.values()))
    assert figures == {
        "pages": total,
        "compared": len(common),
        "changed": total - same,
        "bytes_written": (total - same) * PAGE,
    }
    assert os.readlink(f"{out}/parent") == "../old"
    assert differences(out, new) == []
    written = merge(old, out, merged, in_place)
    assert written["pages"] == total
    assert read_set(merged)[0] == after
    assert differences(merged, new) == []
    assert sorted(os.listdir(merged)) == sorted(os.listdir(new))
    assert read_set(new)[0] == after
    if in_place:
        assert written["bytes_written"] <= total * PAGE
    else:
        assert differences(old, write_set(tmp_path / "again", before)) == []


def test_entries_are_as_criu_wants_them(tmp_path):
    """As few as possible, unchanged ones without LAZY, which lazy pages never ends with."""
    before = {HEAP + n * PAGE: (content(n), LAZY) for n in range(100)}
    after = {**before, HEAP + 40 * PAGE: (content(1040), LAZY), HEAP + 41 * PAGE: (content(1041), LAZY)}
    after[STACK] = before[STACK] = (content(100), 0)
    old = write_set(tmp_path / "old", {"pagemap-1.img": before})
    new = write_set(tmp_path / "new", {"pagemap-1.img": after})
    delta(old, new, str(tmp_path / "out"), "../old")
    memory, entries = read_set(tmp_path / "out")
    assert entries["pagemap-1.img"] == [
        (HEAP, 40, PARENT),
        (HEAP + 40 * PAGE, 2, PRESENT | LAZY),
        (HEAP + 42 * PAGE, 58, PARENT),
        (STACK, 1, PARENT),
    ]
    assert memory["pagemap-1.img"][HEAP + 40 * PAGE] == (content(1040), LAZY)
    merge(old, str(tmp_path / "out"), str(tmp_path / "merged"))
    entries = read_set(tmp_path / "merged")[1]
    assert entries["pagemap-1.img"] == [(HEAP, 100, PRESENT | LAZY), (STACK, 1, PRESENT)]


@pytest.mark.parametrize(("flags", "status"), [(0x40022, 0x201), (0x22, 0x2001), (0x22, 0x8000201)])
def test_pages_that_criu_takes_from_the_topmost_file_only(tmp_path, flags, status):
    memory = {"pagemap-1.img": {HEAP + n * PAGE: (content(n), 0) for n in range(9)}}
    old, new = write_set(tmp_path / "old", memory), write_set(tmp_path / "new", memory)
    image = mm_image(mapping(HEAP, 3), mapping(HEAP + 3 * PAGE, 4, flags, status))
    (tmp_path / "new" / "mm-1.img").write_bytes(image)
    delta(old, new, str(tmp_path / "out"), "../old")
    entries = read_set(tmp_path / "out")[1]["pagemap-1.img"]
    assert entries == [(HEAP, 3, PARENT), (HEAP + 3 * PAGE, 4, PRESENT), (HEAP + 7 * PAGE, 2, PARENT)]
    (tmp_path / "new" / "mm-1.img").write_bytes(image[:-1])
    with pytest.raises(PagesError, match=r"mm-1\.img is cut off"):
        delta(old, new, str(tmp_path / "again"), "../old")


def test_which_mappings_can_be_lazy():
    """As vma_entry_can_be_lazy() of CRIU: anonymous, private, not locked, without huge pages, not the kernel's own."""
    kinds = [(0x22, 0x201), (0x122, 0x203), (0x02, 0x41), (0x21, 0x101), (0x2022, 0x201), (0x40022, 0x201)]
    kinds += [(0x22, 0x209), (0x22, 0x1201), (0x22, 0x4)]
    image = mm_image(*(mapping(HEAP + number * PAGE, 1, *kind) for number, kind in enumerate(kinds)))
    barred, lazy = _pages.decode_mappings(image, "mm-1.img")
    assert [(run.vaddr - HEAP) // PAGE for run in lazy] == [0, 1]
    assert [(run.vaddr - HEAP) // PAGE for run in barred] == [5]
    for data in (image[:-1], image[:8] + b"\1\0\0\0\x72", image[:8] + b"\2\0\0\0\x72\x7f", image[:8] + b"\1\0\0\0\x0b"):
        with pytest.raises(PagesError, match=r"mm-1\.img (is cut off|has a malformed entry)"):
            _pages.decode_mappings(data, "mm-1.img")


@pytest.mark.parametrize("seed", range(3))
def test_a_chain_of_parents(tmp_path, seed):
    rng = random.Random(seed)
    states = [invent(rng, 60)]
    for _round in range(3):
        states.append(changed(rng, states[-1]))
    full = [write_set(tmp_path / f"full{n}", state) for n, state in enumerate(states)]
    sets = [full[0]]
    for number in (1, 2, 3):
        sets.append(str(tmp_path / f"delta{number}"))
        delta(sets[-2], full[number], sets[-1], os.path.relpath(sets[-2], sets[-1]))
    assert [differences(a, b) for a, b in zip(sets, full, strict=True)] == [[]] * 4
    merge(None, sets[3], str(tmp_path / "at once"))
    assert read_set(tmp_path / "at once")[0] == states[3]
    step = sets[0]
    for number in (1, 2, 3):
        merge(step, sets[number], str(tmp_path / f"step{number}"), in_place=number > 1)
        step = str(tmp_path / f"step{number}")
    assert read_set(step)[0] == states[3]


def test_everything_else_is_linked(tmp_path):
    memory = {"pagemap-1.img": {HEAP: (content(1), 0)}}
    old, new = write_set(tmp_path / "old", memory), write_set(tmp_path / "new", memory)
    (tmp_path / "new" / "criu.work").mkdir()
    (tmp_path / "new" / "criu.work" / "log").write_text("x")
    delta(old, new, str(tmp_path / "out"), "../old")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "core-1.img",
        "criu.work",
        "inventory.img",
        "mm-1.img",
        "pagemap-1.img",
        "pages-1.img",
        "parent",
    ]
    assert os.path.samefile(tmp_path / "out" / "core-1.img", tmp_path / "new" / "core-1.img")
    assert (tmp_path / "out" / "criu.work" / "log").read_text() == "x"
    assert (tmp_path / "out" / "pages-1.img").stat().st_size == 0
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    os.rename(old, tmp_path / "out" / "base")
    os.unlink(tmp_path / "out" / "parent")
    os.symlink("base", tmp_path / "out" / "parent")
    merge(None, str(tmp_path / "out"), str(tmp_path / "merged"))
    assert sorted(os.listdir(tmp_path / "merged")) == sorted(os.listdir(new))


def test_differences_are_named(tmp_path):
    before = {HEAP + n * PAGE: (content(n), 0) for n in range(5)}
    after = {**before, HEAP + PAGE: (content(9), 0), STACK: (content(3), 0)}
    del after[HEAP + 4 * PAGE]
    a = write_set(tmp_path / "a", {"pagemap-1.img": before})
    b = write_set(tmp_path / "b", {"pagemap-1.img": after, "pagemap-2.img": {HEAP: (content(1), 0)}})
    assert differences(a, b) == [
        ("pagemap-1.img", HEAP + PAGE, "other bytes"),
        ("pagemap-1.img", HEAP + 4 * PAGE, "missing in the second"),
        ("pagemap-1.img", STACK, "missing in the first"),
        ("pagemap-2.img", HEAP, "missing in the first"),
    ]


def shorten(new):
    with open(new / "pages-1.img", "r+b") as stream:
        stream.truncate(5 * PAGE)


def lengthen(new):
    with open(new / "pages-1.img", "ab") as stream:
        stream.write(b"x")


def rename_in_it(new):
    (new / "pagemap-2.img").write_bytes((new / "pagemap-1.img").read_bytes())


def no_parent(new):
    (new / "pagemap-1.img").write_bytes(pagemap(new_entry(HEAP, 1, PARENT), new_entry(STACK, 9, PRESENT)))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (shorten, f"pages-1.img has {5 * PAGE} bytes, but pagemap-1.img promises {9 * PAGE}"),
        (lengthen, f"pages-1.img has {9 * PAGE + 1} bytes, but pagemap-1.img promises {9 * PAGE}"),
        (lambda new: (new / "pages-1.img").unlink(), "names pages-1.img, which is missing"),
        (lambda new: (new / "pagemap-1.img").write_bytes(b"x"), "pagemap-1.img is not the image"),
        (rename_in_it, "pages-1.img in .* is named by two pagemaps"),
        (no_parent, f"has a page at 0x{HEAP:x} in a parent, where it is not"),
        (lambda new: (new / "parent").symlink_to("."), "has no end of parents"),
        (lambda new: (new / "parent").symlink_to("nowhere"), "which is no directory"),
        (lambda new: (new / "link").symlink_to("/etc/passwd"), "link is not a plain file"),
    ],
)
def test_a_set_that_lies_is_refused_and_nothing_is_left(tmp_path, damage, reason):
    memory = {"pagemap-1.img": {HEAP + n * PAGE: (content(n), 0) for n in range(9)}}
    old, new = write_set(tmp_path / "old", memory), write_set(tmp_path / "new", memory)
    damage(tmp_path / "new")
    for work in (
        lambda: delta(old, new, str(tmp_path / "out"), "../old"),
        lambda: merge(None, new, str(tmp_path / "out")),
    ):
        with pytest.raises(PagesError, match=reason) as refusal:
            work()
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / "out").exists()


def test_what_is_there_already_stays(tmp_path):
    full = write_set(tmp_path / "full", {"pagemap-1.img": {HEAP: (content(1), 0)}})
    with pytest.raises(PagesError, match="is there already"):
        delta(full, full, full, ".")
    with pytest.raises(PagesError, match="there is no directory"):
        delta(full, str(tmp_path / "nowhere"), str(tmp_path / "out"), ".")
    assert read_set(full)[0] == {"pagemap-1.img": {HEAP: (content(1), 0)}}


def test_pages_are_copied_without_the_system_call_for_it(tmp_path, monkeypatch):
    """Not every Python has it, and not every pair of file systems."""
    monkeypatch.delattr(os, "copy_file_range", raising=False)
    memory = invent(random.Random(5))
    full = write_set(tmp_path / "full", memory)
    merge(None, full, str(tmp_path / "out"))
    assert read_set(tmp_path / "out")[0] == memory


def test_larger_pages(tmp_path):
    """64 KiB, as some kernels for 64-bit ARM have."""
    big = 16 * PAGE
    for name, seed in (("old", 1), ("new", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pagemap-1.img").write_bytes(pagemap(new_entry(HEAP, 9, PRESENT)))
        data = content(1, 9 * 16)
        (tmp_path / name / "pages-1.img").write_bytes(data[: 5 * big + 1] + bytes([seed]) + data[5 * big + 2 :])
    figures = delta(str(tmp_path / "old"), str(tmp_path / "new"), str(tmp_path / "out"), "../old", page=big)
    assert figures == {"pages": 9, "compared": 9, "changed": 1, "bytes_written": big}
    merge(None, str(tmp_path / "out"), str(tmp_path / "merged"), page=big)
    assert differences(str(tmp_path / "merged"), str(tmp_path / "new"), page=big) == []


# Stores


def play_round(source, destination, images):
    """One round of all pagemaps, as it travels: changes, then the layout."""
    sent = 0
    for name in {*images.names(), *source.names()}:
        if name not in images.names():
            source.drop(name)
            destination.drop(name)
            continue
        with images.runs(name) as runs:
            for change in source.update(name, runs):
                destination.put(name, change.vaddr, bytes(change.data))
                sent += len(change.data)
        destination.settle(name, [list(pages) for pages in source.layout(name)])
    return sent


@pytest.mark.parametrize("seed", range(4))
def test_two_stores_hold_the_same_after_every_round(tmp_path, seed):
    rng = random.Random(seed)
    memory = invent(rng)
    with Store(str(tmp_path / "here")) as source, Store(str(tmp_path / "there")) as destination:
        for number in range(5):
            full = write_set(tmp_path / f"full{number}", memory)
            sent = play_round(source, destination, ImageSet(full))
            assert sent == PAGE * sum(map(len, memory.values())) if number == 0 else sent > 0
            assert play_round(source, destination, ImageSet(full)) == 0
            assert source.names() == destination.names() == sorted(memory)
            assert differences(source, full) == differences(destination, full) == []
            for name in memory:
                assert source.digest(name) == destination.digest(name)
                assert source.layout(name) == destination.layout(name)
            before, memory = memory, changed(rng, memory)
        new = write_set(tmp_path / "new", memory)
        from_store = delta(source, new, str(tmp_path / "out"), "../base")
        assert from_store["pages"] > from_store["changed"] > 0
        laid_out = destination.lay_out(str(tmp_path / "base"))
        assert laid_out["pages"] == sum(map(len, before.values()))
        assert destination.names() == []
    assert differences(str(tmp_path / "base"), write_set(tmp_path / "before", before)) == []
    assert differences(str(tmp_path / "out"), new) == []
    merge(str(tmp_path / "base"), str(tmp_path / "out"), str(tmp_path / "merged"), in_place=True)
    assert read_set(tmp_path / "merged")[0] == memory
    assert not (tmp_path / "here").exists()
    assert not (tmp_path / "there").exists()


def test_room_that_became_free_is_used_again(tmp_path):
    with Store(str(tmp_path / "store")) as store:
        for number in range(10):
            full = write_set(
                tmp_path / f"full{number}",
                {"pagemap-1.img": {n * 3 * PAGE: (content(n), 0) for n in range(number * 100, number * 100 + 100)}},
            )
            with ImageSet(full).runs("pagemap-1.img") as runs:
                assert sum(len(change.data) for change in store.update("pagemap-1.img", runs)) == 100 * PAGE
            assert differences(store, full) == []
        assert sum(path.stat().st_size for path in (tmp_path / "store").iterdir()) <= 200 * PAGE


def test_pages_in_order_are_not_copied_again(tmp_path):
    memory = {"pagemap-1.img": {HEAP + n * PAGE: (content(n), 0) for n in range(70)}}
    full = write_set(tmp_path / "full", memory)
    store = Store(str(tmp_path / "store"))
    play_round(store, Store(str(tmp_path / "other")), ImageSet(full))
    assert store.lay_out(str(tmp_path / "base")) == {"pages": 70, "bytes_written": 0}
    assert read_set(tmp_path / "base")[0] == memory


def test_a_round_that_was_not_finished(tmp_path):
    memory = {"pagemap-1.img": {HEAP + n * 2 * PAGE: (content(n), 0) for n in range(9)}}
    full = write_set(tmp_path / "full", memory)
    store = Store(str(tmp_path / "store"))
    with ImageSet(full).runs("pagemap-1.img") as runs:
        changes = store.update("pagemap-1.img", runs)
        next(changes)
        changes.close()
    for use in (store.layout, store.digest, lambda name: store.lay_out(str(tmp_path / "out"))):
        with pytest.raises(PagesError, match="was not finished"):
            use("pagemap-1.img")
    assert not (tmp_path / "out").exists()


def test_what_the_other_end_may_not_send(tmp_path):
    store = Store(str(tmp_path / "store"))
    one = content(1)
    for name in ("pagemap-1", "../pagemap-1.img", "pagemap-1.img/..", "mm-1.img", "pagemap--1.img", ""):
        with pytest.raises(PagesError, match="is not the name of a pagemap"):
            store.put(name, HEAP, one)
    for vaddr, data in ((HEAP + 1, one), (HEAP, one[:-1]), (HEAP, b""), (-PAGE, one), ((1 << 64) - PAGE, one + one)):
        with pytest.raises(PagesError, match="are no pages"):
            store.put("pagemap-1.img", vaddr, data)
    store.put("pagemap-1.img", HEAP, one)
    with pytest.raises(PagesError, match=f"the page at 0x{HEAP + PAGE:x} never came"):
        store.settle("pagemap-1.img", [(HEAP, 2)])
    for layout in ([(HEAP + PAGE, 1), (HEAP, 1)], [(HEAP, 0)], [(HEAP + 1, 1)]):
        with pytest.raises(PagesError, match="is not in order"):
            store.settle("pagemap-1.img", layout)
    # What comes twice is as it came last.
    store.put("pagemap-1.img", HEAP, content(2))
    store.settle("pagemap-1.img", [(HEAP, 1)])
    (run,) = store.pieces("pagemap-1.img", HEAP, 3)
    assert os.pread(run.file, PAGE, run.offset) == content(2)


# A running process


MAPS = """\
55d000000000-55d000002000 r--p 00000000 08:01 1310 /usr/bin/a b
55d000100000-55d000200000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000100000 rw-p 00000000 00:00 0 
7f0000200000-7f0000300000 rw-s 00000000 00:01 77 /dev/zero (deleted)
7f0000300000-7f0000310000 rw-p 00000000 00:00 0 [anon:glibc: malloc]
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
7ffc000a0000-7ffc000a4000 r--p 00000000 00:00 0 [vvar]
7ffc000a4000-7ffc000a6000 r--p 00000000 00:00 0 [vvar_vclock]
7ffc000a6000-7ffc000a8000 r-xp 00000000 00:00 0 [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
"""  # noqa: W291


def test_private_mappings():
    assert _pages.parse_maps(MAPS) == [
        (0x55D000000000, 0x55D000002000),
        (0x55D000100000, 0x55D000200000),
        (0x7F0000000000, 0x7F0000100000),
        (0x7F0000300000, 0x7F0000310000),
        (0x7FFC00000000, 0x7FFC00021000),
    ]


def test_entries_of_the_kernels_pagemap():
    present, swapped, file, guard = 1 << 63, 1 << 62, 1 << 61, 1 << 58
    entries = [0, present | 77, swapped, present | file, present | 78, present | guard, 0, 5, present]
    assert _pages.wanted_pages(struct.pack(f"={len(entries)}Q", *entries)) == [(1, 3), (4, 5), (8, 9)]


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


def memory_of(pid):
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
    held = memory_of(process.pid)
    expected = random.Random(1).randbytes(300 * PAGE)
    starts = [vaddr for vaddr, data in held.items() if data == expected[:PAGE]]
    assert len(starts) == 1
    assert b"".join(held.get(starts[0] + index * PAGE, b"") for index in range(300)) == expected
    assert b"s" * PAGE not in held.values()
    assert runs == sorted(runs)


def test_both_ways_to_look_agree(target, monkeypatch):
    """The way for kernels before 6.7 may name zero pages, which the other one leaves out."""
    process, _tell = target
    first = memory_of(process.pid)
    monkeypatch.setattr(_pages, "_PAGEMAP_SCAN", 0xC0606611)
    second = memory_of(process.pid)
    assert {vaddr: second.get(vaddr) for vaddr in first} == first
    assert not any(any(second[vaddr]) for vaddr in second.keys() - first.keys())


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
            assert source.digest(memory.name) == destination.digest(memory.name)
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
    destination.lay_out(str(tmp_path / "base"))
    laid_out = read_set(tmp_path / "base")[0][f"pagemap-{process.pid}.img"]
    assert {vaddr: data for vaddr, (data, _flags) in laid_out.items()} == memory_of(process.pid)


def test_pages_that_go_while_they_are_read(target, tmp_path):
    process, tell = target
    with MemoryOf(process.pid) as memory, Store(str(tmp_path / "store")) as store:
        runs = memory.runs()
        tell("pages.close()")
        held = sum(len(change.data) for change in store.update(memory.name, runs))
        assert 0 < held < sum(run.pages for run in runs) * PAGE
        assert sum(run.pages for run in store.layout(memory.name)) * PAGE == held


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
    with pytest.raises(PagesError, match=f"there is no process {process.pid}"):
        MemoryOf(process.pid)


def test_it_is_a_program_of_its_own():
    """Its text is laid down on servers, where there is no Ansible."""
    tree = ast.parse(Path(_pages.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules <= sys.stdlib_module_names
