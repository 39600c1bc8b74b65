# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU's image sets of memory, written, read and compared without the code under test.

Memory is C({pagemap: {address: (bytes of one page, flags)}}); bytes are None where a lazy dump left the page with its
process. The integration tests run this file on the lab's nodes as it is.
"""

from __future__ import annotations

import hashlib
import os
import struct

PAGE = os.sysconf("SC_PAGE_SIZE")
MAGICS = bytes.fromhex("1943565425400856")  # as the first bytes of a pagemap that CRIU wrote
LAZY, PRESENT = 2, 4


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


def write_set(directory, memory, entry=new_entry, contents=True):
    """A dump, lazy where bytes are None; entries are as short as can be. Without contents, what travels of it."""
    directory.mkdir()
    for number, name in enumerate(sorted(memory), 1):
        pages = sorted(memory[name].items())
        entries = [entry(vaddr, 1, flags | (PRESENT if data else 0)) for vaddr, (data, flags) in pages]
        (directory / name).write_bytes(pagemap(*entries, pages_id=number))
        if contents:
            data = b"".join(data for _vaddr, (data, _flags) in pages if data)
            (directory / f"pages-{number}.img").write_bytes(data)
    (directory / "inventory.img").write_bytes(b"inventory")
    return str(directory)


def numbers(body):
    """The fields of a message of numbers, by their own numbers."""
    fields, position = {}, 0
    while position < len(body):
        pair = []
        for _index in range(2):
            value = shift = 0
            while True:
                value |= (body[position] & 127) << shift
                shift, position = shift + 7, position + 1
                if body[position - 1] < 128:
                    break
            pair.append(value)
        fields[pair[0] >> 3] = pair[1]
    return fields


def read_pagemap(data):
    """The number of the pages file, and (address, pages, flags) of each entry."""
    assert data[:8] == MAGICS
    messages, position = [], 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "little")
        messages.append(numbers(data[position + 4 : position + 4 + length]))
        position += 4 + length
    assert position == len(data)
    return messages[0][1], [(one[1], one.get(5) or one[2], one[4]) for one in messages[1:]]


def _names(directory):
    return sorted(name for name in os.listdir(directory) if name.startswith("pagemap-"))


def _content(*path):
    with open(os.path.join(*path), "rb") as stream:
        return stream.read()


def entries_in(directory):
    """The entries of each pagemap."""
    return {name: read_pagemap(_content(directory, name))[1] for name in _names(directory)}


def memory_in(directory):
    """All pages of a directory's pagemaps. What is in a pages file has to be in the pagemap, too.

    Bytes are None where a dump has left the page with its process, and where it was not to keep its pages.
    """
    memory = {}
    for name in _names(directory):
        pages_id, entries = read_pagemap(_content(directory, name))
        kept = os.path.exists(os.path.join(directory, f"pages-{pages_id}.img"))
        data, position, held = _content(directory, f"pages-{pages_id}.img") if kept else b"", 0, {}
        for vaddr, pages, flags in entries:
            for index in range(pages):
                here = kept and bool(flags & PRESENT)
                held[vaddr + index * PAGE] = (data[position : position + PAGE] if here else None, flags & LAZY)
                position += PAGE * here
        assert position == len(data), (name, position, len(data))
        memory[name] = held
    return memory


def memory_of(store):
    """All pages of a store; nothing is lazy in one."""
    memory = {}
    for name in store.names():
        with store.runs(name) as runs:
            memory[name] = {
                run.vaddr + index * PAGE: (os.pread(run.file, PAGE, run.offset + index * PAGE), 0)
                for run in runs
                for index in range(run.pages)
            }
        assert list(store.layout(name)) == layout_of(memory[name])
    return memory


def layout_of(held):
    """Address and number of the pages in as few runs as possible."""
    runs = []
    for vaddr in sorted(held):
        if runs and runs[-1][0] + runs[-1][1] * PAGE == vaddr:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((vaddr, 1))
    return runs


def differences(first, second):
    """(pagemap, address, reason) of each page that is not the same in both memories; flags are not compared."""
    found = []
    for name in sorted({*first, *second}):
        lefts, rights = first.get(name, {}), second.get(name, {})
        for vaddr in sorted({*lefts, *rights}):
            if vaddr not in lefts or vaddr not in rights:
                found.append((name, vaddr, f"missing in the {'first' if vaddr not in lefts else 'second'}"))
            elif lefts[vaddr][0] != rights[vaddr][0]:
                found.append((name, vaddr, "other bytes"))
    return found


def digest(memory):
    """SHA-256 of addresses and bytes: equal memories have the same."""
    checksum = hashlib.sha256()
    for name in sorted(memory):
        for vaddr, (data, _flags) in sorted(memory[name].items()):
            checksum.update(f"{name} {vaddr} ".encode() + data)
    return checksum.hexdigest()
