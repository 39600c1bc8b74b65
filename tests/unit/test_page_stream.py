# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages on their way into a channel: compressed or not, and whole at the other end."""

from __future__ import annotations

import os
import random
import threading
import zlib

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK
from ansible_collections.fog.migration.plugins.module_utils.transport import compression, framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import MEMORY

NAME = "pagemap-1.img"
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("link", "speed", "ratio", "worth"),
    [
        # 100 Mbit/s and half of it left: as soon as the processor does more than 24 MiB/s.
        (12 * MIB, 25 * MIB, 0.5, True),
        (12 * MIB, 23 * MIB, 0.5, False),
        # Nothing is gained with what cannot be compressed, and little with a fast link.
        (12 * MIB, 1000 * MIB, 1.0, False),
        (1000 * MIB, 100 * MIB, 0.1, False),
        (1000 * MIB, 1200 * MIB, 0.1, True),
    ],
)
def test_when_it_pays(link, speed, ratio, worth):
    assert compression.pays(link, speed, ratio) is worth


def ends():
    (there_in, here_out), (here_in, there_out) = os.pipe(), os.pipe()
    here, there = framing.Frames(here_in, here_out), framing.Frames(there_in, there_out)
    here.write_json(framing.HELLO, framing.greeting("source"))
    there.expect_object(framing.HELLO)
    return here, there


def sent_through(chunks, monkeypatch, decision):
    """What arrives of these chunks, and the stream that took them."""
    monkeypatch.setattr(compression, "pays", lambda *_measured: decision)
    monkeypatch.setattr(compression.PageStream, "WINDOW", CHUNK)
    here, there = ends()
    stream = compression.PageStream(here, "auto")

    def write():
        for index, chunk in enumerate(chunks):
            stream.send(MEMORY, NAME, index * CHUNK, chunk)

    writer = threading.Thread(target=write)
    writer.start()
    got = [framing.parse_memory(there.expect(MEMORY)[1]) for _chunk in chunks]
    writer.join()
    assert [(name, vaddr) for name, vaddr, _data in got] == [(NAME, index * CHUNK) for index in range(len(chunks))]
    return [bytes(data) for _name, _vaddr, data in got], stream


@pytest.mark.parametrize("decision", [True, False])
def test_it_arrives_whole(monkeypatch, decision):
    rng = random.Random(4)
    chunks = [rng.randbytes(4096) + bytes(CHUNK - 4096) if index % 3 else rng.randbytes(CHUNK) for index in range(20)]
    got, stream = sent_through(chunks, monkeypatch, decision)
    assert got == chunks
    assert (stream.saved > 0) is decision


def test_what_grows_goes_plain(monkeypatch):
    chunks = [random.Random(index).randbytes(CHUNK) for index in range(5)]
    got, stream = sent_through(chunks, monkeypatch, True)
    assert got == chunks and stream.saved == 0


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(bytes(CHUNK + 1)),
        zlib.compress(bytes(100 * MIB)),
        zlib.compress(bytes(CHUNK))[:-5],
        zlib.compress(bytes(10)) + b"more",
        b"nothing of zlib's",
        b"",
    ],
)
def test_what_is_no_chunk_is_refused(data):
    with pytest.raises(Refused):
        framing.parse_memory(framing.memory_head(NAME, 0, True) + data)


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\5\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff"])
def test_a_malformed_header_is_refused(payload):
    with pytest.raises(Refused, match="a MEMORY frame with a malformed header"):
        framing.parse_memory(payload)
