# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is said to either end of a live migration, and whatever is said to be CRIU's images."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import struct
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_sets import MAGICS, PAGE, new_entry, old_entry, pagemap

from ansible_collections.fog.migration.plugins.module_utils import errors, validate
from ansible_collections.fog.migration.plugins.module_utils.criu import core_images, protobuf, tool
from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError, Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import image_set, page_store
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap as _pagemap
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import (
    file_frames,
    received_memory,
    source_link,
    source_requests,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.destination import Destination
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import (
    DestinationSettings,
    SourceSettings,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source import Source
from ansible_collections.fog.migration.plugins.module_utils.network import image_sockets
from ansible_collections.fog.migration.plugins.module_utils.runtime import carried
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import armed_start
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames
from fuzz.made_up import any_stream, as_json, frame, hearing, like, like_talk, little_memory, odd_json, payloads, values

NAME = _pagemap.pagemap_name(1)
PAGES = bytes(range(256)) * (PAGE // 256)
CONTENT = b"the content of an image"
NOBODY = "fuzzed-container"


def memory(data: bytes = PAGES, vaddr: int = PAGE) -> bytes:
    """The payload of a frame of memory."""
    return framing.memory_head(NAME, vaddr) + data


TOLD = [
    (framing.HELLO, framing.greeting("source")),
    (framing.MEMORY, memory()),
    (framing.DO, {"do": "layout", "name": NAME}),
    (framing.LAYOUT, [[PAGE, 1]]),
    (framing.LAYOUT, []),
    (framing.DO, {"do": "settle", "round": 1, "sha256": hashlib.sha256(PAGES).hexdigest()}),
    (framing.FILE, {"path": "images/core-1.img", "size": len(CONTENT)}),
    (framing.DATA, CONTENT),
    (framing.END, {"sha256": hashlib.sha256(CONTENT).hexdigest()}),
    (framing.DO, {"do": "arm"}),
    (framing.DO, {"do": "restore", "options": ["--tcp-established"], "store": True, "lazily": False, "rest": True}),
]
ANSWERED = [
    (framing.HELLO, framing.greeting("destination", host="fog2")),
    (framing.DONE, {"done": "round 1"}),
    (framing.DONE, {"done": "armed", "seconds": 0.1}),
    (framing.DONE, {"done": "running", "seconds": 0.1, "statistics": {"restore_time": 1}}),
    (framing.NEED, {"image": 1, "address": PAGE, "pages": 1}),
    (framing.REFUSED, {"reason": "no"}),
]


def source_on(channel: Frames, folder: str) -> Source:
    """The source's end, with a Docker that is not there."""
    return Source(channel, SourceSettings(NOBODY, f"{folder}/staging", f"{folder}/nothing.sock"))


def destination_on(channel: Frames, folder: str) -> Destination:
    """The destination's end, with a Docker that is not there."""
    settings = DestinationSettings(
        f"{folder}/staging", f"{folder}/nothing.sock", "fog2", NOBODY, patience=1, restore_limit=1
    )
    return Destination(channel, settings)


# ---------------------------------------------------------------------------------------------------------------------
# The destination


@pytest.fixture
def _elsewhere(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(armed_start, "RUNTIME", str(tmp_path))


@pytest.mark.usefixtures("_elsewhere")
@given(st.one_of(like_talk(TOLD), like_talk(TOLD[:6]), any_stream))
def test_the_destination(stream):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "canary").write_text("sings")
        with hearing(stream) as channel:
            try:
                destination_on(channel, folder).run()
            except ChannelError as refusal:
                assert "\n" not in str(refusal)
        # Whatever it was, nothing is left of it, and nothing else was touched.
        assert os.listdir(folder) == ["canary"]
        assert Path(folder, "canary").read_text() == "sings"


@given(st.one_of(like({"path": "images/x", "size": 23}), values), st.lists(payloads, max_size=3))
def test_a_file(facts, parts):
    stream = b"".join(frame(framing.DATA, part) for part in parts) + frame(framing.END, b"{}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "canary").write_text("sings")
        with hearing(frame(framing.HELLO, b"{}") + stream) as channel:
            channel.read()
            with contextlib.suppress(ChannelError, OSError):
                file_frames.receive_file(channel, f"{folder}/staging", framing.parse_object(as_json(facts)))
        assert set(os.listdir(folder)) <= {"canary", "staging"}
        assert Path(folder, "canary").read_text() == "sings"


def test_a_file_of_any_size_takes_no_memory(tmp_path):
    with hearing(frame(framing.HELLO, b"{}") + frame(framing.DATA, CONTENT)) as channel, little_memory(4 << 20):
        channel.read()
        with pytest.raises(errors.Interrupted):
            file_frames.receive_file(channel, str(tmp_path), {"path": "x", "size": 2**70})


@pytest.mark.usefixtures("_elsewhere")
def test_more_than_there_is_room_for_is_refused(tmp_path):
    """Of memory, and of files, which are refused before they have come."""
    hello = frame(framing.HELLO, as_json(framing.greeting("source")))
    pages = b"".join(frame(framing.MEMORY, memory(vaddr=number * PAGE)) for number in range(1, 9))
    large = frame(framing.FILE, as_json({"path": "images/x", "size": 8 * PAGE}))
    same = frame(framing.MEMORY, memory()) * 100
    for stream, refused in ((pages, True), (large, True), (same, False)):
        settings = DestinationSettings(f"{tmp_path}/staging", f"{tmp_path}/nothing.sock", "fog2", NOBODY, room=7 * PAGE)
        with hearing(hello + stream) as channel, pytest.raises(ChannelError) as problem:
            Destination(channel, settings).run()
        assert ("more memory and images" in str(problem.value)) == refused


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("runs", [[], [[PAGE, 1]] * 30])
def test_layouts_without_end_are_refused(tmp_path, monkeypatch, runs):
    monkeypatch.setattr(received_memory, "MAX_RUNS", 50)
    stream = frame(framing.HELLO, as_json(framing.greeting("source")))
    for number in range(60):
        stream += frame(framing.DO, as_json({"do": "layout", "name": _pagemap.pagemap_name(number)}))
        stream += b"".join(frame(framing.LAYOUT, as_json(part)) for part in (runs, []) if part or part is not runs)
    with hearing(stream) as channel, pytest.raises(Refused, match="more than 50 runs"):
        destination_on(channel, str(tmp_path)).run()


@given(st.lists(st.tuples(values, values), max_size=5), st.integers(0, 2**64), st.binary(max_size=3 * PAGE))
def test_the_store(layout, vaddr, data):
    with tempfile.TemporaryDirectory() as folder, page_store.Store(f"{folder}/store") as store:
        with contextlib.suppress(_pagemap.PagesError):
            store.put(NAME, vaddr, data)
        whole = [run for run in layout if all(map(validate.is_whole, run))]
        with contextlib.suppress(_pagemap.PagesError):
            store.settle(NAME, whole)


# ---------------------------------------------------------------------------------------------------------------------
# The source


@given(st.one_of(like_talk(ANSWERED), any_stream))
def test_the_source_hears(stream):
    """Whatever the destination says, whoever waits for its word gets it, or is told that the conversation broke."""
    with tempfile.TemporaryDirectory() as folder, hearing(stream) as channel:
        source = source_on(channel, folder)
        source.container.note_handover()
        try:
            source.link.open()
            for word in ("round 1", "armed", "running", "what nobody says"):
                assert source.wait_for(word)["done"] == word
        except ChannelError as problem:
            assert "\n" not in str(problem)


def test_words_without_end_are_not_kept(tmp_path):
    hello = frame(framing.HELLO, as_json(framing.greeting("destination")))
    words = b"".join(
        frame(framing.DONE, as_json({"done": f"{number:9}"})) for number in range(3 * source_link.MAX_ANSWERS)
    )
    with hearing(hello + words) as channel:
        source = source_on(channel, str(tmp_path))
        source.link.open()
        with pytest.raises(errors.Interrupted, match="more than anybody asked for"):
            source.wait_for("running")


OPERATIONS = ["copy", "progress", "arm", "freeze", "finish", "give up"]


modes = st.one_of(st.sampled_from(source_requests.MODES), values)
limits = st.one_of(st.just({}), st.builds(dict, rounds=values), values)


@given(st.one_of(values, st.builds(dict, do=st.sampled_from(OPERATIONS), mode=modes, limits=limits)))
def test_requests(value):
    hello = frame(framing.HELLO, as_json(framing.greeting("destination")))
    with tempfile.TemporaryDirectory() as folder, hearing(hello) as channel:
        source = source_on(channel, folder)
        source.link.open()
        request = source_requests.parse(as_json(value))
        assert not request or set(source_requests.answer(source, request)) in ({"result"}, {"error", "state", "words"})


@given(st.lists(st.one_of(odd_json, payloads, st.just(b'{"do":"nothing"}')), max_size=4))
def test_the_socket(lines):
    """What is no request is answered, and does not keep the next one from being heard."""
    lines = [line.replace(b"\n", b" ") for line in lines if b'"do":"' not in line or b"nothing" in line]
    with tempfile.TemporaryDirectory() as folder, hearing(b"") as channel:
        source = source_on(channel, folder)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"{folder}/agent.sock")
        listener.listen()
        serving = threading.Thread(target=source_requests.serve, args=(source, listener, 10))
        serving.start()
        for line in lines:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(f"{folder}/agent.sock")
                connection.sendall(line + b"\n")
                with connection.makefile("rb") as stream:
                    assert json.loads(stream.readline())["state"] == "runs"
        assert source_requests.ask(f"{folder}/agent.sock", {"do": "give up"}) == {}
        serving.join()
        listener.close()


# ---------------------------------------------------------------------------------------------------------------------
# Images


@st.composite
def images(draw: st.DrawFn, like_these: list[bytes]) -> bytes:
    """Bytes of an image, some of them other ones, missing or too many."""
    data = bytearray(draw(st.sampled_from([*like_these, draw(st.binary(max_size=100))])))
    for _change in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data + draw(st.binary(max_size=9)))


PAGEMAP = pagemap(new_entry(PAGE, 2, 4), old_entry(8 * PAGE, 1, 6), new_entry(2**40, 1, 2))


@given(images([PAGEMAP, MAGICS]))
def test_a_pagemap(data):
    try:
        _number, runs = _pagemap.decode_pagemap(data, "it")
    except _pagemap.PagesError as error:
        assert "\n" not in str(error)
    else:
        assert all(run.pages > 0 and run.vaddr + run.pages * PAGE <= 2**64 for run in runs)


def test_a_pagemap_of_a_million_runs(tmp_path):
    """Where hardly a page has come, it costs nothing: it is not even read."""
    (tmp_path / "images").mkdir()
    entry = new_entry(PAGE, 1, 4)
    (tmp_path / "images" / NAME).write_bytes(pagemap() + entry * 1_000_000)
    with page_store.Store(str(tmp_path / "store")) as store, little_memory(4 << 20):
        store.put(NAME, PAGE, PAGES)
        store.settle(NAME, [(PAGE, 1)])
        with pytest.raises(_pagemap.PagesError, match="runs of pages can have"):
            image_set.complete(str(tmp_path / "images"), store, lazily=False)


@given(images([PAGEMAP]), st.booleans())
def test_a_dump_and_a_store(data, lazily):
    with tempfile.TemporaryDirectory() as folder, page_store.Store(f"{folder}/store") as store:
        Path(folder, "images").mkdir()
        Path(folder, "images", NAME).write_bytes(data)
        store.put(NAME, PAGE, PAGES * 2)
        store.settle(NAME, [(PAGE, 2)])
        with contextlib.suppress(_pagemap.PagesError):
            image_set.complete(f"{folder}/images", store, lazily)


FIELDS = protobuf.number(1, 5) + protobuf.message(2, b"\x08\x01") + b"\x0d1234" + b"\x0912345678"


@given(images([FIELDS]))
def test_protobuf(data):
    with contextlib.suppress(protobuf.ProtobufError):
        for _field, _value, raw in protobuf.fields(data):
            assert raw in data


STATISTICS = protobuf.message(1, protobuf.number(1, 120) + protobuf.number(7, 53))
HEAD = struct.pack("<III", tool.SERVICE_MAGIC, tool.STATS_MAGIC, len(STATISTICS))


@given(images([HEAD + STATISTICS]))
def test_statistics(data):
    with contextlib.suppress(ValueError):
        assert all(isinstance(value, int) for value in tool.decode_stats(data).values())


SOCKET = b"".join(protobuf.number(field, value) for field, value in ((3, 2), (5, 6), (6, 1), (7, 80), (8, 5000)))
SOCKET += protobuf.number(11, 0x0100007F) + protobuf.number(12, 0x0100007F)
ENTRY = protobuf.message(4, SOCKET)
FILES = struct.pack("<IIIIII", 0x54564319, 1, 0, 2, 0x103, len(ENTRY))[:8] + struct.pack("<I", len(ENTRY)) + ENTRY


@given(images([FILES]))
def test_sockets(data):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, image_sockets.FILES).write_bytes(data)
        with contextlib.suppress(image_sockets.SocketsError):
            image_sockets.detach(folder, lambda _one, _all: True)


CORE = protobuf.number(1, 1) + protobuf.message(2, protobuf.message(2, protobuf.number(11, 1) + protobuf.number(16, 7)))
CORE_IMAGE = core_images.HEAD + struct.pack("<I", len(CORE)) + CORE


@given(images([CORE_IMAGE]))
def test_threads(data):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "core-1.img").write_bytes(data)
        with contextlib.suppress(core_images.CoreImageError):
            core_images.change(folder, {})


@given(st.one_of(like({"1": [0, 1], "7": [3]}).map(as_json), payloads))
def test_processors_of_threads(data):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, carried.NAME).write_bytes(data)
        with contextlib.suppress(Refused):
            for thread, processors in carried.read(folder).items():
                assert thread >= 0 and all(0 <= one < 1 << 16 for one in processors)


def test_the_image_that_the_others_are_like_is_one(tmp_path):
    (tmp_path / image_sockets.FILES).write_bytes(FILES)
    assert len(image_sockets.detach(str(tmp_path), lambda _one, _all: True)) == 1
    assert tool.decode_stats(HEAD + STATISTICS) == {"freezing_time": 120, "pages_written": 53}


def test_the_conversation_that_the_others_are_like_comes_to_its_end(tmp_path, _elsewhere):
    stream = b"".join(frame(kind, data if isinstance(data, bytes) else as_json(data)) for kind, data in TOLD[:-2])
    (there, here) = os.pipe()
    with hearing(stream) as channel:
        channel.fd_out = here
        with pytest.raises(errors.Interrupted):
            destination_on(channel, str(tmp_path)).run()
    os.close(here)
    answers = Frames(there, there, 10)
    assert answers.expect_object(framing.HELLO)["role"] == "destination"
    assert answers.expect_object(framing.DONE) == {"done": "round 1"}
    os.close(there)
