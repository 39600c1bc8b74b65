# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Post-copy that goes on when the source's end or its channel is lost: real pipes, sockets, stores and processes."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import threading
import types

import pytest

from ansible_collections.fog.migration.plugins.module_utils.agent import supervisor
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.memory import lazy_pages, pagemap
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import (
    reopening,
    restore,
    resumed_source,
    source_requests,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.received_memory import ReceivedMemory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import (
    DestinationSettings,
    SourceSettings,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_requests import Request
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames, memory_head

PAGE = pagemap.PAGE
HEAP = 0x55D0_0000_0000
PID = 27
NAME = f"pagemap-{PID}.img"
LIMIT = 20
LIMITS = resource.getrlimit(resource.RLIMIT_NOFILE)


# Frames


def test_frames_go_on_over_another_channel():
    (old_in, old_out), (new_in, new_out) = os.pipe(), os.pipe()
    (back_in, back_out), (nothing, sink) = os.pipe(), os.pipe()
    frames = Frames(old_in, sink, LIMIT)
    threading.Timer(0.1, frames.interrupt).start()
    with pytest.raises(Interrupted, match=r"^the other end has opened the channel anew$"):
        frames.read()
    frames.reopen(new_in, back_out, framing.greeting("destination"))
    other = Frames(back_in, new_out, LIMIT)
    framing.check_greeting(other.expect_object(framing.HELLO), "destination")
    other.write_json(framing.DO, {})
    with pytest.raises(Refused, match="does not speak this protocol"):
        frames.read()
    for descriptor in (old_out, new_in, new_out, back_in, back_out, nothing):
        os.close(descriptor)


def test_frames_whose_number_is_large():
    """Each pagemap of the store is an open file, and limits were raised for that."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(2048, LIMITS[0]), LIMITS[1]))
    (reader, out), (back, answers) = os.pipe(), os.pipe()
    large = fcntl.fcntl(reader, fcntl.F_DUPFD, 1500)
    frames, other = Frames(large, answers, 0.3), Frames(back, out, LIMIT)
    assert not frames.readable()
    with pytest.raises(Interrupted, match=r"^the other end has sent nothing for 0\.3 seconds$"):
        frames.read()
    other.write_json(framing.HELLO, framing.greeting("source"))
    assert frames.readable()
    framing.check_greeting(frames.expect_object(framing.HELLO), "source")
    for descriptor in (reader, out, back, answers, large):
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, LIMITS)


# The destination


class Scene:
    """A restore that waits for pages, CRIU's daemon as far as the pager sees it, and channels to it."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.frames = self.channel(lambda reader, writer: setattr(self, "ours", Frames(reader, writer, LIMIT)))
        self.ours.write_json(framing.HELLO, framing.greeting("destination"))
        self.greet(self.frames)
        framing.check_greeting(self.ours.expect_object(framing.HELLO), "source")
        settings = DestinationSettings(str(folder / "staging"), "/none.sock", "fog2")
        self.memory = ReceivedMemory(str(folder / "store"))
        self.memory.store.settle(NAME, [])
        opened = reopening.Reopening(self.folder)
        opened.listen(self.ours.interrupt)
        self.restore = restore.Restore(self.ours, settings, None, self.memory, None, opened)
        self.memory.pager = lazy_pages.Pager(self.memory.store, 0, self.restore.request_pages)
        theirs, self.criu = socket.socketpair()
        self.criu.settimeout(LIMIT)
        self.memory.pager.serve(theirs)
        self.listening = threading.Thread(target=self.restore.listen, args=(True,), daemon=True)

    @staticmethod
    def channel(take):
        """I(take) gets the descriptors of the destination's side; the frames of the source's side."""
        (there, out), (back, answers) = os.pipe(), os.pipe()
        take(there, answers)
        return Frames(back, out, LIMIT)

    def reopen(self):
        """As the agent at the destination does it, with a channel that the source has opened anew."""
        frames = self.given()
        self.greet(frames)
        return frames

    def given(self):
        """A channel that the destination's end was given; the frames of the source's side."""

        def give(*descriptors):
            threading.Thread(target=reopening.give, args=(self.folder, *descriptors), daemon=True).start()

        return self.channel(give)

    @staticmethod
    def greet(frames):
        """As the source does it."""
        framing.check_greeting(frames.expect_object(framing.HELLO), "destination")
        frames.write_json(framing.HELLO, framing.greeting("source"))

    def ask(self, page, count=1):
        self.criu.sendall(struct.pack("=I4xQQQ", 7, count, HEAP + page * PAGE, PID))

    def take(self, count=1):
        data = b""
        while len(data) < 32 + count * PAGE:
            data += self.criu.recv(32 + count * PAGE - len(data))
        return data[32:]


def lose(frames):
    for descriptor in (frames.fd_in, frames.fd_out):
        os.close(descriptor)


def answer(frames, page, *contents):
    payload = b"".join(bytes([number]) * PAGE for number in contents)
    frames.write(framing.PAGES, memory_head(NAME, HEAP + page * PAGE), payload)


def needs(frames):
    need = frames.expect_object(framing.NEED)
    return ((need["address"] - HEAP) // PAGE, need["pages"])


@pytest.fixture
def scene(tmp_path):
    scene = Scene(tmp_path)
    scene.listening.start()
    yield scene
    scene.criu.close()


def test_pages_come_over_the_next_channel(scene):
    scene.ask(0, 3)
    assert needs(scene.frames) == (0, 3)
    answer(scene.frames, 0, 1)
    scene.restore._send({"done": "running"})
    assert scene.frames.expect_object(framing.DONE) == {"done": "running"}
    lose(scene.frames)
    # It is asked for while nobody is there.
    scene.ask(9)
    frames = scene.reopen()
    assert [needs(frames), needs(frames)] == [(1, 2), (9, 1)]
    # It may have been lost with the channel.
    assert frames.expect_object(framing.DONE) == {"done": "running"}
    answer(frames, 1, 2, 3)
    answer(frames, 9, 4)
    assert scene.take(3) == b"".join(bytes([number]) * PAGE for number in (1, 2, 3))
    assert scene.take() == b"\4" * PAGE
    assert scene.restore.decisions.get(timeout=LIMIT) == "" and scene.memory.caught_up.is_set()


def test_a_channel_that_nobody_knows_to_be_lost_gives_way(scene):
    """The destination's sshd may not have noticed yet."""
    scene.ask(0)
    assert needs(scene.frames) == (0, 1)
    first = scene.reopen()
    assert needs(first) == (0, 1)
    second = scene.reopen()
    assert needs(second) == (0, 1)
    answer(second, 0, 7)
    assert scene.take() == b"\7" * PAGE


def test_the_source_does_not_come_back(scene, monkeypatch):
    monkeypatch.setattr(restore, "REOPEN_LIMIT", 0.2)
    scene.ask(0)
    lose(scene.frames)
    scene.listening.join(LIMIT)
    scene.memory.pager.process = types.SimpleNamespace(poll=lambda: None)
    with pytest.raises(Refused, match="closed the channel"):
        scene.memory.pager.wait(lambda: None)


def test_who_is_no_source_is_not_listened_to(scene):
    lose(scene.frames)
    frames = scene.given()
    assert frames.expect_object(framing.HELLO)["role"] == "destination"
    frames.write_json(framing.HELLO, framing.greeting("destination"))
    scene.listening.join(LIMIT)
    assert "not a source" in str(scene.memory.pager._problem)


def test_nobody_waits_for_the_channel(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        reopening.give(str(tmp_path), 0, 1)


# The source

PEER = """
import sys
sys.path[:0] = {path!r}
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
frames = framing.Frames(0, 1, 20)
frames.write_json(framing.HELLO, framing.greeting("destination"))
framing.check_greeting(frames.expect_object(framing.HELLO), "source")
frames.write_json(framing.NEED, {{"image": 27, "address": 65536, "pages": 1}})
name, vaddr, data = framing.parse_memory(frames.expect(framing.PAGES)[1])
right = (name, vaddr, bytes(data)) == ("pagemap-27.img", 65536, b"x" * 4096)
{first_time}
frames.write_json(framing.DONE, {{"done": "complete" if right else "something else"}})
"""
ONCE = """
import os
if not os.path.exists({mark!r}):
    open({mark!r}, "w").close()
    raise SystemExit(0)
"""


class Memory:
    """The memory of the processes that stand still."""

    def __init__(self, *_arguments):
        pass

    def read(self, _image, address, _pages):
        yield address, b"x" * PAGE

    def close(self):
        """Nothing is open."""


@pytest.fixture
def resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(resumed_source, "FrozenMemory", Memory)
    monkeypatch.setattr(resumed_source, "_PAUSE", 0.05)
    settings = SourceSettings("c1", str(tmp_path / "staging"), "/none.sock", patience=1, lifetime=60)
    return lambda *command: resumed_source.ResumedSource(settings, list(command))


@pytest.mark.parametrize("lost_again", [False, True])
def test_pages_are_sent_until_none_is_missing(resumed, tmp_path, lost_again):
    first_time = ONCE.format(mark=str(tmp_path / "mark")) if lost_again else ""
    source = resumed(sys.executable, "-c", PEER.format(path=sys.path, first_time=first_time))
    assert list(source.handle(Request("finish"))) == ["seconds", "statistics", "rounds"]
    assert os.path.exists(tmp_path / "mark") == lost_again


def test_a_destination_that_needs_nothing_any_more(resumed):
    source = resumed("sh", "-c", "echo the migration does not wait for its source >&2; exit 1")
    with pytest.raises(Refused, match=r"^the migration does not wait for its source$"):
        source.handle(Request("end"))


def test_a_destination_that_is_not_reached(resumed, monkeypatch):
    monkeypatch.setattr(resumed_source, "LIMIT", 0.2)
    source = resumed("sh", "-c", "echo No route to host >&2; exit 255")
    with pytest.raises(Interrupted, match=r"^No route to host$"):
        source.handle(Request("end"))


def test_what_it_cannot_do(resumed):
    source = resumed("true")
    with pytest.raises(Interrupted, match="the end that had this container was lost"):
        source.handle(Request("freeze"))
    assert source.state == "handed over"
    failure = source_requests.answer(source, Request("freeze"))
    assert failure["error"] == "the end that had this container was lost"
    assert failure["words"][0] == "it stays paused here, since nobody can say whether it runs at the destination"


# The supervisor


@pytest.fixture
def supervised(tmp_path, monkeypatch):
    """C(supervised(stage, owner, work)): the arguments with which pages went on, or None."""
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    told = []
    monkeypatch.setattr(resumed_source, "run", lambda *arguments: told.append(arguments))

    def supervise(stage, owner, work):
        facts = {"role": "source", "container": "c1", "name": "looper", "source": "fog1", "destination": "fog2"}
        journal.open_entry(
            {"id": "looper-1", "mode": "postcopy", "directory": "/none", "stage": "reservation", **facts}
        )
        if owner != "source":
            journal.note("looper-1", stage=stage, owner=owner)
        directory = tmp_path / "transfer"
        directory.mkdir()
        settings = SourceSettings("c1", str(directory / "staging"), "/none.sock", migration="looper-1")
        supervisor.supervise(str(directory), settings, lambda: work(directory), ["ssh"])
        assert not directory.exists()
        return told[0][2] if told else None

    return supervise


def die(_directory):
    os.kill(os.getpid(), signal.SIGKILL)


def test_it_takes_the_place_of_an_end_that_died_after_the_handover(supervised):
    assert supervised("handover", "in_doubt", die) == ["ssh"]


def test_it_takes_the_place_of_an_end_that_lost_its_channel(supervised):
    assert supervised("handover", "in_doubt", lambda _directory: None) == ["ssh"]


def test_an_end_that_dies_before_has_the_container_still(supervised):
    assert supervised("reservation", "source", die) is None


def test_an_end_that_has_done_its_work_needs_nobody(supervised):
    assert supervised("handover", "in_doubt", shutil.rmtree) is None
