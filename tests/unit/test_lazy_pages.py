# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What answers CRIU's lazy pages: here a client speaks CRIU's protocol, over a real socket and with a real store."""

from __future__ import annotations

import os
import queue
import random
import socket
import struct
import subprocess
import threading

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import lazy_pages, page_store, pagemap
from ansible_collections.fog.migration.plugins.module_utils.memory.lazy_pages import (
    EVERYTHING,
    Pager,
    Request,
    layout_of,
)
from ansible_collections.fog.migration.plugins.module_utils.network import sockets
from ansible_collections.fog.migration.plugins.module_utils.system import deploy

PAGE = pagemap.PAGE
HEAP = 0x55D0_0000_0000
PID = 27
NAME = f"pagemap-{PID}.img"

# struct page_server_iov as compilers lay it out: u32, u32, u64, u64 up to CRIU 4.1, and u32, u64, u64, u64 from 4.2 on.
LAYOUTS = {"4.1": "=IIQQ", "4.2": "=IxxxxQQQ"}
GET, ADD_F, CLOSE, FORCE_CLOSE = 7, 6, 0x1023, 0x1024
LIMIT = 20  # seconds, for what would wait for ever if something is wrong


class Client:
    """CRIU's lazy pages daemon, as far as the page server sees it."""

    def __init__(self, connection, version):
        self.connection = connection
        self.layout = struct.Struct(LAYOUTS[version])

    def ask(self, vaddr, pages=1, image_id=PID):
        self.connection.sendall(self.layout.pack(GET, pages, vaddr, image_id))

    def take(self, vaddr, pages=1, image_id=PID):
        """The bytes of an answer, which has to be the one to this request."""
        command, count, address, dst_id = self.layout.unpack(self.receive(self.layout.size))
        assert (command & 0xFFFF, command >> 16) == (ADD_F, pagemap.PRESENT)
        assert (count, address, dst_id) == (pages, vaddr, image_id)
        return self.receive(count * PAGE)

    def receive(self, count):
        data = b""
        while len(data) < count:
            part = self.connection.recv(count - len(data))
            assert part, (len(data), count)
            data += part
        return data

    def is_answered(self, seconds=0.3):
        """Whether anything more comes."""
        self.connection.settimeout(seconds)
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except TimeoutError:
            return False
        finally:
            self.connection.settimeout(LIMIT)


def content(number):
    return random.Random(number).randbytes(PAGE)


@pytest.fixture(params=LAYOUTS)
def make(request, tmp_path):
    """C(make(current)) begins; the pager, its client, and the queue of what the source is asked for."""
    ends, processes = [], []

    def begin(current=EVERYTHING, pages=40):
        store = page_store.Store(str(tmp_path / "store"))
        for number in range(pages):
            store.put(NAME, HEAP + number * PAGE, content(number))
        store.settle(NAME, [(HEAP, pages)])
        asked = queue.Queue()
        pager = Pager(store, current, asked.put)
        ours, theirs = socket.socketpair()
        ends.extend((ours, theirs))
        theirs.settimeout(LIMIT)
        # What wait() watches.
        pager.process = subprocess.Popen(["sleep", "600"])
        processes.append(pager.process)
        pager.serve(ours)
        return pager, Client(theirs, request.param), asked

    yield begin
    for process in processes:
        process.kill()
        process.wait()
    for end in ends:
        end.close()


def problem_of(pager):
    with pytest.raises(Refused) as refusal:
        pager.wait(lambda: None)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("vaddr", "pages"), [(HEAP, 1), (1 << 16, 1), (0x7FFF_FFFF_F000, 1024), (0x10000, 65535), (1 << 56, 3)]
)
def test_both_formats_of_a_request(vaddr, pages):
    for version, size in (("4.1", 24), ("4.2", 32)):
        request = struct.pack(LAYOUTS[version], GET, pages, vaddr, PID)
        layout = layout_of(request[:24])
        assert layout.size == len(request) == size
        assert layout.unpack(request) == (GET, pages, vaddr, PID)


# Pages that are here


def test_pages_that_are_here(make):
    _nobody, client, asked = make()
    for first, count in ((0, 1), (39, 1), (3, 20), (0, 40)):
        client.ask(HEAP + first * PAGE, count)
        expected = b"".join(content(number) for number in range(first, first + count))
        assert client.take(HEAP + first * PAGE, count) == expected
    assert asked.empty()


def test_requests_in_a_row_are_answered_in_their_order(make):
    _nobody, client, _asked = make()
    numbers = [random.Random(1).randrange(40) for _number in range(300)]
    sender = threading.Thread(target=lambda: [client.ask(HEAP + number * PAGE) for number in numbers])
    sender.start()
    for number in numbers:
        assert client.take(HEAP + number * PAGE) == content(number)
    sender.join()


def test_a_request_in_pieces(make):
    """A stream has no borders."""
    _nobody, client, _asked = make()
    request = client.layout.pack(GET, 2, HEAP, PID) + client.layout.pack(GET, 1, HEAP + 5 * PAGE, PID)
    for byte in request:
        client.connection.sendall(bytes([byte]))
    assert client.take(HEAP, 2) == content(0) + content(1)
    assert client.take(HEAP + 5 * PAGE) == content(5)


def test_pages_in_pieces(make):
    """They came one by one, in another order, some of them after the round, and of different rounds."""
    pager, client, _asked = make()
    for number in range(20, 5, -2):
        pager.put(NAME, HEAP + number * PAGE, content(100 + number))
    pager.put(NAME, HEAP + 40 * PAGE, content(40))
    client.ask(HEAP, 41)
    expected = [content(100 + number) if number in range(20, 5, -2) else content(number) for number in range(41)]
    assert client.take(HEAP, 41) == b"".join(expected)


def test_a_large_request_is_answered_in_part(make):
    """So that a process does not wait long for its page behind pages that nobody waits for."""
    pager, client, _asked = make()
    most = lazy_pages.MOST_PAGES
    for number in range(40, most + 1):
        pager.put(NAME, HEAP + number * PAGE, content(number))
    client.ask(HEAP, 1024)
    client.ask(HEAP + most * PAGE)
    assert client.take(HEAP, most) == b"".join(content(number) for number in range(most))
    assert client.take(HEAP + most * PAGE) == content(most)


@pytest.mark.parametrize(("vaddr", "image_id"), [(HEAP + 39 * PAGE, PID), (HEAP, PID + 1), (1 << 20, PID)])
def test_a_page_that_never_came(make, vaddr, image_id):
    """CRIU must not get anything else in its place, nor an end: it goes on waiting until it is killed."""
    pager, client, _asked = make()
    client.ask(vaddr, 2, image_id)
    assert problem_of(pager) == f"the page at 0x{vaddr:x} of process {image_id} did not arrive"
    assert not client.is_answered()
    assert pager.process.poll() is None


def test_what_serves_pages_stays_open_when_the_program_dies(tmp_path):
    """CRIU would take the end of the connection for the end of its work."""
    pager = Pager(page_store.Store(str(tmp_path / "store")), EVERYTHING, lambda _request: None)
    pager._connection, theirs = socket.socketpair()
    pager.process = subprocess.Popen(["sleep", "600"])
    pager.hold(str(tmp_path / "holder"))
    holder = deploy.running(str(tmp_path / "holder"))
    assert holder
    # And nothing else of what this process has open: what CRIU closes, it must find closed.
    held = set(sockets.descriptors_of(holder).values())
    connection = f"socket:[{os.fstat(pager._connection.fileno()).st_ino}]"
    assert held & set(sockets.descriptors_of(os.getpid()).values()) - {os.devnull} == {connection}
    # This end goes, as it does when this process dies.
    pager._connection.close()
    theirs.settimeout(0.2)
    with pytest.raises(TimeoutError):
        theirs.recv(1)
    pager.kill()
    theirs.settimeout(LIMIT)
    assert theirs.recv(1) == b""
    assert deploy.running(str(tmp_path / "holder")) is None
    theirs.close()


# Pages that only the source has


def test_what_is_not_current_is_asked_for(make):
    pager, client, asked = make(current=0)
    client.ask(HEAP + 3 * PAGE, 4)
    assert asked.get(timeout=LIMIT) == Request(PID, HEAP + 3 * PAGE, 4)
    # As it comes, in two frames; what the store has is an older one.
    pager.answer(HEAP + 3 * PAGE, content(103))
    pager.answer(HEAP + 4 * PAGE, memoryview(content(104) + content(105) + content(106)))
    assert client.take(HEAP + 3 * PAGE, 4) == b"".join(content(100 + number) for number in (3, 4, 5, 6))


def test_a_source_that_was_lost_is_asked_again_for_what_has_not_come(make):
    pager, client, asked = make(current=0)
    client.ask(HEAP, 2)
    client.ask(HEAP + 3 * PAGE, 4)
    client.ask(HEAP + 9 * PAGE)
    assert [asked.get(timeout=LIMIT).pages for _number in range(3)] == [2, 4, 1]
    pager.answer(HEAP, content(100) + content(101))
    pager.answer(HEAP + 3 * PAGE, content(103))
    pager.ask_again()
    again = [asked.get(timeout=LIMIT) for _number in range(2)]
    assert again == [Request(PID, HEAP + 4 * PAGE, 3), Request(PID, HEAP + 9 * PAGE, 1)] and asked.empty()
    pager.answer(HEAP + 4 * PAGE, content(104) + content(105) + content(106))
    pager.answer(HEAP + 9 * PAGE, content(109))
    assert client.take(HEAP, 2) == content(100) + content(101)
    assert client.take(HEAP + 3 * PAGE, 4) == b"".join(content(100 + number) for number in (3, 4, 5, 6))
    assert client.take(HEAP + 9 * PAGE) == content(109)
    pager.ask_again()
    assert asked.empty()


def test_requests_in_a_row_to_the_source(make):
    """All of them are under way at once, and nothing of one answer gets into another."""
    pager, client, asked = make(current=0)
    requests = [(HEAP + number * 10 * PAGE, number % 3 + 1) for number in range(30)]
    for vaddr, pages in requests:
        client.ask(vaddr, pages)
    for vaddr, pages in requests:
        assert asked.get(timeout=LIMIT) == Request(PID, vaddr, pages)
    for vaddr, pages in requests:
        for index in range(pages):
            pager.answer(vaddr + index * PAGE, content(vaddr + index))
    for vaddr, pages in requests:
        assert client.take(vaddr, pages) == b"".join(content(vaddr + index) for index in range(pages))


def test_marks(make):
    """Below the mark, the store has the pages of the freeze; a request that reaches over it is for the source."""
    pager, client, asked = make(current=0)
    for number in range(10):
        pager.put(NAME, HEAP + number * PAGE, content(100 + number))
    pager.now_current(NAME, HEAP + 10 * PAGE)
    client.ask(HEAP, 10)
    assert client.take(HEAP, 10) == b"".join(content(100 + number) for number in range(10))
    client.ask(HEAP + 9 * PAGE, 2)
    assert asked.get(timeout=LIMIT) == Request(PID, HEAP + 9 * PAGE, 2)
    pager.answer(HEAP + 9 * PAGE, content(109) + content(110))
    assert client.take(HEAP + 9 * PAGE, 2) == content(109) + content(110)
    # The mark is of this pagemap only.
    client.ask(HEAP, 1, PID + 1)
    assert asked.get(timeout=LIMIT) == Request(PID + 1, HEAP, 1)
    pager.answer(HEAP, content(200))
    assert client.take(HEAP, 1, PID + 1) == content(200)
    assert asked.empty()


def test_a_mark_behind_a_request_changes_nothing_about_it(make):
    """Answers come in the order of the requests, from wherever each of them was to come."""
    pager, client, asked = make(current=0)
    client.ask(HEAP + PAGE)
    assert asked.get(timeout=LIMIT) == Request(PID, HEAP + PAGE, 1)
    pager.put(NAME, HEAP + PAGE, content(101))
    pager.now_current(NAME, HEAP + 40 * PAGE)
    client.ask(HEAP + PAGE)
    client.ask(HEAP + 2 * PAGE)
    pager.answer(HEAP + PAGE, content(101))
    assert [client.take(HEAP + PAGE), client.take(HEAP + PAGE)] == [content(101)] * 2
    assert client.take(HEAP + 2 * PAGE) == content(2)
    assert asked.empty()


def test_a_whole_restore_while_the_rest_comes(make):
    """Every page is asked for, in any order, while marks go up and pages come: each one is that of the freeze."""
    rng = random.Random(3)
    pager, client, asked = make(current=0)
    frozen = [content(number) if number % 3 else content(1000 + number) for number in range(40)]

    def give(request):
        first = (request.vaddr - HEAP) // PAGE
        pager.answer(request.vaddr, b"".join(frozen[first : first + request.pages]))

    def source():
        """Sends one page that has changed after each answer. It answers until the end: the client may ask for a page
        before it hears that this one is there, even the last one."""
        for number, request in enumerate(iter(asked.get, None)):
            give(request)
            if number % 3 == 0 and number < 40:
                pager.put(NAME, HEAP + number * PAGE, frozen[number])
            pager.now_current(NAME, HEAP + min(number + 1, 40) * PAGE)

    thread = threading.Thread(target=source, daemon=True)
    thread.start()
    # The last page of all is asked for until it is here, too.
    for number in [*(rng.randrange(40) for _number in range(300)), *[39] * 40]:
        pages = min(rng.randint(1, 4), 40 - number)
        client.ask(HEAP + number * PAGE, pages)
        assert client.take(HEAP + number * PAGE, pages) == b"".join(frozen[number : number + pages])
    asked.put(None)
    thread.join(LIMIT)
    assert not thread.is_alive() and asked.empty()
    assert pager._is_current(Request(PID, HEAP + 39 * PAGE, 1))


# The end


@pytest.mark.parametrize("command", [CLOSE, FORCE_CLOSE])
@pytest.mark.parametrize("used", [False, True], ids=["at once", "after a request"])
def test_the_end_is_understood(make, command, used):
    pager, client, _asked = make()
    if used:
        client.ask(HEAP)
        client.take(HEAP)
    client.connection.sendall(client.layout.pack(command, 0, 0, 0))
    assert struct.unpack("=i", client.receive(4)) == (0,)
    # CRIU ends then; here it is a process that does.
    pager.process.kill()
    pager.process.wait()
    assert pager._problem is None


def test_it_waits_for_the_end(make):
    """The other work goes on meanwhile."""
    pager, _client, _asked = make()
    pager.process.kill()
    pager.process.wait()
    pager.process, seen = subprocess.Popen(["sleep", "0.3"]), []
    pager.wait(lambda: seen.append(1))
    assert seen
    pager.kill()


def test_criu_fails(make):
    pager, client, _asked = make()
    client.connection.close()
    assert pager.why_ended == ""
    pager.process.kill()
    assert "CRIU's lazy pages daemon ended with -9" in problem_of(pager)
    assert pager.why_ended == "CRIU's lazy pages daemon ended with -9"


def test_a_command_that_is_not_known(make):
    pager, client, _asked = make()
    client.connection.sendall(client.layout.pack(3, 1, HEAP, PID))
    assert problem_of(pager) == "CRIU's lazy pages daemon sent the unknown command 3"
    assert not client.is_answered()


@pytest.mark.parametrize("size", [1, 23, 24])
def test_a_request_that_is_cut_off(make, size):
    """Such a CRIU is about to die, and wait() tells how."""
    pager, client, _asked = make()
    client.connection.sendall(client.layout.pack(GET, 1, HEAP, PID)[:size])
    client.connection.shutdown(socket.SHUT_WR)
    if size < client.layout.size:
        assert problem_of(pager)
    else:
        assert client.take(HEAP) == content(0)


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ([(HEAP + PAGE, 1)], f"0x{HEAP + PAGE:x} where those at 0x{HEAP:x} were due"),
        ([(HEAP, 1), (HEAP, 1)], f"0x{HEAP:x} where those at 0x{HEAP + PAGE:x} were due"),
        ([(HEAP, 3)], f"0x{HEAP:x} where those at 0x{HEAP:x} were due"),
        ([(HEAP, 1), (HEAP + PAGE, 2)], f"0x{HEAP + PAGE:x} where those at 0x{HEAP + PAGE:x} were due"),
        ([(HEAP, 0)], f"0x{HEAP:x} where those at 0x{HEAP:x} were due"),
    ],
    ids=["elsewhere", "twice", "too long", "too long in the end", "empty"],
)
def test_answers_that_lie(make, answers, seen):
    pager, client, asked = make(current=0)
    client.ask(HEAP, 2)
    asked.get(timeout=LIMIT)
    for vaddr, pages in answers:
        pager.answer(vaddr, content(1) * pages)
    assert problem_of(pager) == f"the source sent pages at {seen}"
    # It never gets all that it asked for, so nothing wrong is ever taken for the page.
    client.connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        while True:
            assert client.connection.recv(1 << 20)
    assert pager.process.poll() is None


def test_the_source_goes_away(make):
    """What is under way never ends, and whoever waits is told: a process with zeros for pages would be worse."""
    pager, client, asked = make(current=0)
    client.ask(HEAP)
    asked.get(timeout=LIMIT)
    pager.fail(Interrupted("the other end closed the channel"))
    pager.fail(Interrupted("something later"))
    assert problem_of(pager) == "the other end closed the channel"
    assert pager.process.poll() is None
    client.ask(HEAP)
    client.connection.settimeout(0.3)
    head = client.receive(client.layout.size)
    assert client.layout.unpack(head)[1:] == (1, HEAP, PID)
    with pytest.raises(TimeoutError):
        client.connection.recv(1)
    pager.kill()
    assert pager.process.returncode == -9


def test_the_source_cannot_even_be_asked(make):
    pager, client, _asked = make(current=0)

    def broken(_request):
        raise Interrupted("the other end closed the channel")

    pager._ask = broken
    client.ask(HEAP)
    assert problem_of(pager) == "the other end closed the channel"
    assert not client.is_answered()


def test_whatever_goes_wrong_is_told(make, monkeypatch):
    """A thread that ended without a word would leave the container waiting for ever."""
    pager, client, _asked = make()
    monkeypatch.setattr(pager._store, "pieces", lambda *_arguments: 1 / 0)
    client.ask(HEAP)
    assert problem_of(pager) == "division by zero"


def test_there_is_no_criu(make, monkeypatch, tmp_path):
    """One reason among others why a restore fails, and the container is taken back for it."""
    pager, _client, _asked = make()
    monkeypatch.setattr(lazy_pages.shutil, "which", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="criu"):
        pager.start(str(tmp_path), str(tmp_path))
