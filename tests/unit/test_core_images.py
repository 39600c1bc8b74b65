# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is changed in CRIU's images of threads: interrupted calls, limits."""

from __future__ import annotations

import functools
import struct

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import core_images, protobuf
from ansible_collections.fog.migration.plugins.module_utils.criu.core_images import CoreImageError

EINTR = (1 << 64) - 4
# What a thread of x86_64 has in its registers when CRIU has ended its call, by the number of the field.
REGISTERS = {**dict.fromkeys(range(1, 28), 7), 11: EINTR, 16: 35, 17: 0x1002, 28: 1}


def entry(registers=None, signals=b"", own_signals=b"", machine=1):
    """A core_entry."""
    values = {**REGISTERS, **(registers or {})}
    general = b"".join(protobuf.number(*pair) for pair in values.items())
    thread = protobuf.number(1, 4711) + protobuf.message(2, general) + protobuf.message(3, b"")
    limits = b"".join(protobuf.message(1, protobuf.number(1, soft) + protobuf.number(2, 99)) for soft in range(16))
    task = protobuf.number(1, 1) + protobuf.message(8, limits) + protobuf.message(10, signals)
    own = protobuf.number(1, 5) + protobuf.message(9, own_signals)
    return (
        protobuf.number(1, machine) + protobuf.message(2, thread) + protobuf.message(3, task) + protobuf.message(5, own)
    )


def registers_of(data):
    """The registers in a core_entry."""
    thread = {number: value for number, value, _raw in protobuf.fields(data)}[2]
    general = {number: value for number, value, _raw in protobuf.fields(thread)}[2]
    return {number: value for number, value, _raw in protobuf.fields(general)}


@pytest.mark.parametrize("call", [7, 35, 202, 230])
def test_a_call_that_criu_has_ended_is_made_once_more(call):
    old = entry({16: call})
    new = core_images.with_calls_again(old)
    assert registers_of(new) == {**REGISTERS, 11: call, 16: call, 17: 0x1000}
    # Nothing else of it is changed.
    assert core_images.with_calls_again(new) == new
    assert len([1 for one in protobuf.fields(new)]) == len([1 for one in protobuf.fields(old)])


@pytest.mark.parametrize(
    "data",
    [
        entry({11: 0}),
        entry({16: 0}),
        entry({16: 219}),
        entry({28: 2}),
        entry(machine=3),
        entry(signals=protobuf.message(1, b"\x0a\x01x")),
        entry(own_signals=protobuf.message(1, b"\x0a\x01x")),
        protobuf.number(1, 1),
    ],
    ids=["done", "read", "restart_syscall", "32 bit", "ARM", "signal", "own signal", "no thread"],
)
def test_others_are_left_alone(data):
    assert core_images.with_calls_again(data) == data


def image(data):
    """The bytes of an image."""
    return core_images.HEAD + struct.pack("<I", len(data)) + data


def test_images_in_a_folder(tmp_path):
    sleeps, runs = image(entry()), image(entry({11: 0}))
    for name, content in (("core-1.img", sleeps), ("core-7.img", runs), ("mm-1.img", b"x")):
        (tmp_path / name).write_bytes(content)
    limit = functools.partial(core_images.with_limit, resource=7, soft=64, hard=128)
    core_images.change(str(tmp_path), {7: limit, 9: limit})
    assert registers_of((tmp_path / "core-1.img").read_bytes()[12:])[11] == 35
    changed = (tmp_path / "core-7.img").read_bytes()
    assert registers_of(changed[12:]) == registers_of(runs[12:])
    task = {number: value for number, value, _raw in protobuf.fields(changed[12:])}[3]
    limits = next(value for number, value, _raw in protobuf.fields(task) if number == 8)
    softs = [next(protobuf.fields(value))[1] for _number, value, _raw in protobuf.fields(limits)]
    assert softs == [*range(7), 64, *range(8, 16)]
    assert (tmp_path / "mm-1.img").read_bytes() == b"x"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 40,
        image(entry())[:-1],
        image(entry()) + b"x",
        image(b"\xff" * 9),
        image(protobuf.number(1, 1) + protobuf.message(2, protobuf.message(2, protobuf.number(11, EINTR)))),
        image(protobuf.number(1, 1) + protobuf.number(2, 3)),
    ],
)
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "core-1.img").write_bytes(content)
    with pytest.raises(CoreImageError):
        core_images.change(str(tmp_path), {})


def test_too_few_limits():
    data = protobuf.message(3, protobuf.message(8, b""))
    with pytest.raises(CoreImageError):
        core_images.with_limit(data, 7, 1, 2)
