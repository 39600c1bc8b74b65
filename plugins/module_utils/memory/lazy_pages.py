# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lazy pages at the destination: CRIU asks for the pages of a container that runs already, and is answered here.

C(criu lazy-pages) takes this for CRIU's page server. A page comes from the store where that is known to be the page of
the freeze, else from the source. The format is that of criu/page-xfer.c (struct page_server_iov, PS_IOV_GET and
PS_IOV_ADD_F; read at v4.2 and v4.1.1): a command of 32 bits, the number of pages (64 bits and aligned from 4.2 on, 32
before), the address, the PID in the innermost PID namespace; an answer is the same with the pages behind it. Answers
come in the order of the requests, and may have fewer pages than were asked for, but not none.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap
from ansible_collections.fog.migration.plugins.module_utils.memory.page_store import Store
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, limits
from ansible_collections.fog.migration.plugins.module_utils.system.files import Data

GET, ADD, CLOSE = 7, pagemap.PRESENT << 16 | 6, (0x1023, 0x1024)
OLD, NEW = struct.Struct("=IIQQ"), struct.Struct("=I4xQQQ")
# An address is never below that, and never are so many pages asked for at once (MAX_XFER_LEN in criu/uffd.c).
_LOWEST_ADDRESS = 1 << 16
# Pages in one answer. CRIU fetches what nobody waits for in ever larger pieces, up to 4 MiB, and a process that touches
# a missing page waits behind such a piece.
MOST_PAGES = 256
# Bytes between this end and CRIU, whatever the limit for sockets is (SO_SNDBUFFORCE, which Python has no name for).
# Where an answer does not fit, both wait for each other several times.
_SNDBUFFORCE, _ROOM = 32, 16 << 20
# What is current when nothing is missing.
EVERYTHING = 1 << 64


class Request(NamedTuple):
    """Pages that CRIU asks for."""

    image_id: int
    vaddr: int
    pages: int


def without(request: Request, pages: int) -> Request:
    """What is left of a request when so many of its pages have come."""
    pages = min(pages, request.pages)
    return Request(request.image_id, request.vaddr + pages * pagemap.PAGE, request.pages - pages)


def layout_of(request: bytes) -> struct.Struct:
    """Which of the two formats a request has, of which the first 24 bytes are here."""
    return OLD if struct.unpack_from("=Q", request, 8)[0] >= _LOWEST_ADDRESS else NEW


class Pager:
    """CRIU's lazy pages daemon and what answers it.

    :param store: the pages that are here.
    :param current: up to which address they are those of the freeze: EVERYTHING, or 0 until C(now_current) says more.
    :param ask: is called with a Request that only the source can answer; it does so by C(answer), in order. What it
        was asked for and has not answered, it is asked for again by C(ask_again).
    """

    def __init__(self, store: Store, current: int, ask: Callable[[Request], object]) -> None:
        self._store = store
        self._current = current
        self._marks: dict[str, int] = {}
        self._ask = ask
        # What the source has been asked for and has not answered yet; the lock keeps them in the order of asking.
        self._asked: collections.deque[Request] = collections.deque()
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        self._requests: queue.Queue[tuple[struct.Struct, Request, bool]] = queue.Queue()
        self._answers: queue.Queue[tuple[int, Data] | Exception] = queue.Queue()
        self._problem: Exception | None = None
        self._failed = threading.Event()
        self.process: subprocess.Popen | None = None
        self._log = ""
        self._holder: subprocess.Popen | None = None
        self._connection: socket.socket | None = None

    # CRIU's daemon

    def start(self, images: str, work: str) -> None:
        """Returns when the restore can begin."""
        ours, theirs = socket.socketpair()
        with contextlib.suppress(OSError):
            ours.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _ROOM)
        command = [shutil.which("criu") or "criu", "lazy-pages", "--page-server", "--ps-socket", str(theirs.fileno())]
        self._log = os.path.join(work, "lazy-pages.log")
        places = ["--images-dir", images, "--work-dir", work, "--log-file", self._log, "-v2"]
        with limits.lifted():
            self.process = subprocess.Popen(
                [*command, *places], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        theirs.close()
        self.serve(ours)
        self._wait_for_socket(self.process, os.path.join(work, "lazy-pages.socket"))

    def serve(self, connection: socket.socket) -> None:
        """Answers, from now on, what CRIU requests through this socket."""
        # Kept, so that it stays open: a CRIU that ends would leave zeros where pages are missing.
        self._connection = connection
        for work in (self._read_requests, self._send_answers):
            threading.Thread(target=self._until_it_fails, args=(work, connection), daemon=True).start()

    def _wait_for_socket(self, process: subprocess.Popen, path: str) -> None:
        """CRIU's restore connects to the daemon through a socket that the daemon makes."""
        limit = time.monotonic() + 10
        while not os.path.exists(path):
            if process.poll() is not None or time.monotonic() > limit:
                raise Refused("CRIU's lazy pages daemon did not start" + tool.reason_in(self._log))
            time.sleep(0.002)

    @property
    def why_ended(self) -> str:
        """Why CRIU's daemon has failed, as a clause; nothing as long as it is there, or where it has done its work."""
        code = self.process.poll() if self.process else None
        return f"CRIU's lazy pages daemon ended with {code}{tool.reason_in(self._log)}" if code else ""

    def wait(self, on_wait: Callable[[], object]) -> None:
        """Returns when no page is missing any more. I(on_wait) is called again and again until then.

        :raises Refused: when pages will not come. CRIU still waits for them then, and the container with it.
        """
        if not self.process:
            raise AssertionError("start() comes first")
        while self.process.poll() is None:
            if self._problem:
                raise Refused(str(self._problem))
            on_wait()
            self._failed.wait(0.02)
        if self.why_ended:
            raise Refused(self.why_ended)

    def hold(self, folder: str) -> None:
        """Has a process that does nothing keep open what CRIU is served through, in case that this one dies.

        A process that misses a page waits for it then. CRIU would end otherwise, and the process would go on with zeros
        in its place. CRIU's userfaultfds cannot be held as well: as long as one is open, epoll tells CRIU of it, which
        has freed what it knows of a process that misses no page any more.

        :param folder: is made, and names the holder for who has to end it.
        """
        if not self._connection:
            raise AssertionError("start() comes first")
        with limits.lifted():
            self._holder = subprocess.Popen(
                ["sleep", "infinity"],
                pass_fds=[self._connection.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        os.makedirs(folder, 0o700, exist_ok=True)
        deploy.register(folder, self._holder.pid)

    def kill(self) -> None:
        """Ends it at once. A process that misses pages would find zeros in their place: it has to be gone before."""
        for process in (self.process, self._holder):
            if process:
                process.kill()
                process.wait()

    # What the source sends

    def put(self, name: str, vaddr: int, data: Data) -> None:
        """Pages of the freeze, for the store."""
        with self._lock:
            self._store.put(name, vaddr, data)

    def now_current(self, name: str, end: int) -> None:
        """In this pagemap, what the store has below this address are the pages of the freeze."""
        with self._lock:
            self._marks[name] = end

    def answer(self, vaddr: int, data: Data) -> None:
        """Pages that I(ask) was called for, or the first of them."""
        with self._asking:
            if self._asked:
                self._asked[0] = rest = without(self._asked[0], len(data) // pagemap.PAGE)
                if not rest.pages:
                    self._asked.popleft()
        self._answers.put((vaddr, data))

    def ask_again(self) -> None:
        """The source has lost what it was asked for, and is there again."""
        with self._asking:
            for request in self._asked:
                self._ask(request)

    def fail(self, problem: Exception) -> None:
        """The source will not send anything any more."""
        self._problem = self._problem or problem
        self._failed.set()
        self._answers.put(problem)

    # Requests and answers

    def _until_it_fails(self, work: Callable[[socket.socket], None], connection: socket.socket) -> None:
        try:
            work(connection)
        except MemoryError as exc:
            self.fail(Refused(limits.out_of_memory(exc)))
        except Exception as exc:
            # Whatever it is, nobody answers CRIU's requests any more.
            self.fail(exc)

    def _read_requests(self, connection: socket.socket) -> None:
        while True:
            data = _receive(connection, OLD.size)
            command = struct.unpack_from("=I", data)[0] if data else None
            if command in CLOSE:
                # CRIU waits for this confirmation.
                connection.sendall(struct.pack("=i", 0))
            if not data or command in CLOSE:
                # wait() sees how the daemon ends.
                return
            if command != GET:
                raise Refused(f"CRIU's lazy pages daemon sent the unknown command {command}")
            layout = layout_of(data)
            self._queue_request(layout, data + _receive(connection, layout.size - len(data)))

    def _queue_request(self, layout: struct.Struct, data: bytes) -> None:
        _command, pages, vaddr, image_id = layout.unpack(data)
        request = Request(image_id, vaddr, min(pages, MOST_PAGES))
        here = self._is_current(request)
        if not here:
            with self._asking:
                self._asked.append(request)
                self._ask(request)
        self._requests.put((layout, request, here))

    def _is_current(self, request: Request) -> bool:
        name = pagemap.pagemap_name(request.image_id)
        with self._lock:
            return request.vaddr + request.pages * pagemap.PAGE <= self._marks.get(name, self._current)

    def _send_answers(self, connection: socket.socket) -> None:
        while True:
            layout, request, here = self._requests.get()
            send = self._send_from_store if here else self._send_from_source
            send(connection, layout, request)

    def _send_from_store(self, connection: socket.socket, layout: struct.Struct, request: Request) -> None:
        with self._lock:
            runs = self._store.pieces(pagemap.pagemap_name(request.image_id), request.vaddr, request.pages)
            pages = sum(run.pages for run in runs)
            if pages < request.pages:
                raise Refused(f"the page at 0x{request.vaddr:x} of process {request.image_id} did not arrive")
            connection.sendall(_head(layout, request))
            for run in runs:
                _send_file(connection, run.file, run.offset, run.pages * pagemap.PAGE)

    def _send_from_source(self, connection: socket.socket, layout: struct.Struct, request: Request) -> None:
        connection.sendall(_head(layout, request))
        vaddr, end = request.vaddr, request.vaddr + request.pages * pagemap.PAGE
        while vaddr < end:
            answer = self._answers.get()
            if isinstance(answer, Exception):
                raise Refused(str(answer))
            begin, data = answer
            if begin != vaddr or not data or begin + len(data) > end:
                raise Refused(f"the source sent pages at 0x{begin:x} where those at 0x{vaddr:x} were due")
            connection.sendall(data)
            vaddr += len(data)


def _receive(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or none at the end."""
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part and data:
            raise Refused("CRIU's lazy pages daemon ended within a request")
        if not part:
            break
        data += part
    return data


def _head(layout: struct.Struct, request: Request) -> bytes:
    """What goes before the pages of an answer."""
    return layout.pack(ADD, request.pages, request.vaddr, request.image_id)


def _send_file(connection: socket.socket, file: int, offset: int, size: int) -> None:
    while size:
        count = os.sendfile(connection.fileno(), file, offset, size)
        if not count:
            raise Refused("the store became shorter while pages of it were sent")
        offset, size = offset + count, size - count
