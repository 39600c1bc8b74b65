# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames: what travels between two fog servers, whatever carries its bytes; nothing of what it means.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import struct
import threading
import time
import zlib
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK, Data, is_readable
from ansible_collections.fog.migration.plugins.module_utils.validate import load_json, one_sentence

PROTOCOL = "fog.migration"
VERSION = 1

# Of every conversation.
HELLO, DATA, END, REFUSED, ALIVE = b"H", b"D", b"E", b"R", b"K"
# The transfer of a directory.
LISTING, WANTS, PLAN, VERDICT = b"L", b"W", b"P", b"V"
# Live migration.
FILE, DO, DONE = b"F", b"O", b"A"
# Memory: pages for the store, which pages there are, up to where they are current; pages asked for, and given.
MEMORY, LAYOUT, CURRENT, NEED, PAGES = b"M", b"Y", b"C", b"N", b"G"
HEADER = struct.Struct(">cI")
# In front of pages: whether they are compressed, the length of the pagemap's name, the address; then the name.
_MEMORY_HEAD = struct.Struct(">?BQ")
_LONGEST_NAME = 64
LIMITS = {
    HELLO: 64 * 1024,
    LISTING: 4 * 1024 * 1024,
    WANTS: 4 * 1024 * 1024,
    PLAN: 4 * 1024 * 1024,
    DATA: CHUNK,
    END: 64 * 1024,
    VERDICT: 64 * 1024,
    REFUSED: 64 * 1024,
    ALIVE: 0,
    FILE: 64 * 1024,
    DO: 64 * 1024,
    DONE: 64 * 1024,
    MEMORY: _MEMORY_HEAD.size + _LONGEST_NAME + CHUNK,
    LAYOUT: 64 * 1024,
    CURRENT: _MEMORY_HEAD.size + _LONGEST_NAME,
    NEED: 64,
    PAGES: _MEMORY_HEAD.size + _LONGEST_NAME + CHUNK,
}
ENTRIES_PER_FRAME = 1000
MAX_ENTRIES = 500000
# Bytes of a list in all its frames, and values in it: so many entries do not need more. The least value takes two bytes
# on the way, and thirty times as many in memory.
MAX_LIST = 128 * 1024 * 1024
MAX_VALUES = 12 * MAX_ENTRIES
_BEFORE_VALUES = b",:[{"
ALIVE_EVERY = 5.0
IDLE_LIMIT = 120.0
# How many times the limit a whole frame may take from its first byte on: the slowest link that is of any use.
_FRAME_LIMITS = 5
# Seconds between two looks whether a channel was opened anew, while nothing comes over the old one.
_LOOK_EVERY = 0.2


class Frames:
    """Frames over a pair of file descriptors. Counts its bytes; knows nothing of what they mean.

    :param idle_limit: seconds without a byte after which the other end has gone; None for no limit.
    """

    def __init__(self, fd_in: int, fd_out: int, idle_limit: float | None = IDLE_LIMIT) -> None:
        self.fd_in = fd_in
        self.fd_out = fd_out
        self.idle_limit = idle_limit
        # Seconds after which an end that does not read what it is told has gone; None for no limit, and for one that is
        # told much: it is written in small pieces then.
        self.write_limit: float | None = None
        # Seconds after which an end that gives nothing but signs of life has gone; None for no limit.
        self.quiet_limit: float | None = None
        self.sent = 0
        self.received = 0
        self.last_sent = time.monotonic()
        self._lock = threading.Lock()
        self._heard = False
        self._replaced = False
        for descriptor in (fd_in, fd_out):
            _widen(descriptor)

    def write(self, kind: bytes, *payload: Data) -> None:
        """One frame; its payload may be in several parts."""
        with self._lock:
            self._write(kind, *payload)

    def _write(self, kind: bytes, *payload: Data) -> None:
        """The same for who has the lock."""
        parts: list[Data] = [HEADER.pack(kind, sum(len(part) for part in payload)), *payload]
        while parts:
            try:
                count = os.writev(self.fd_out, self._writable(parts))
            except OSError as exc:
                if exc.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                    raise Interrupted("the other end closed the channel") from exc
                raise
            self.sent += count
            while parts and count >= len(parts[0]):
                count -= len(parts.pop(0))
            if parts and count:
                parts[0] = memoryview(parts[0])[count:]
        self.last_sent = time.monotonic()

    def _writable(self, parts: list[Data]) -> list[Data]:
        """So much of it as can be written without waiting for the other end for too long."""
        if not self.write_limit:
            return parts
        poll = select.poll()
        poll.register(self.fd_out, select.POLLOUT)
        if not poll.poll(self.write_limit * 1000):
            raise Interrupted(f"the other end has read nothing for {self.write_limit} seconds")
        # So much fits in where anything does.
        first = next((part for part in parts if part), b"")
        return [memoryview(first)[: select.PIPE_BUF]]

    def write_json(self, kind: bytes, value: object) -> None:
        self.write(kind, _packed(value))

    def write_list(self, kind: bytes, values: list) -> None:
        """A list of any length, as several frames; an empty one ends it."""
        with self._lock:
            self._write_list(kind, values)

    def write_json_with_list(self, kind: bytes, value: object, list_kind: bytes, values: list) -> None:
        """An object and the list that belongs to it: nothing that another thread sends comes in between."""
        with self._lock:
            self._write(kind, _packed(value))
            self._write_list(list_kind, values)

    def _write_list(self, kind: bytes, values: list) -> None:
        for start in range(0, len(values), ENTRIES_PER_FRAME):
            self._write(kind, _packed(values[start : start + ENTRIES_PER_FRAME]))
        self._write(kind, _packed([]))

    def alive(self) -> None:
        """Tell the other end that work goes on here, when nothing else has told it for a while."""
        if time.monotonic() - self.last_sent >= ALIVE_EVERY:
            self.write(ALIVE)

    def interrupt(self) -> None:
        """Whoever waits for a frame is told that there is another channel, and can C(reopen) then."""
        self._replaced = True

    def reopen(self, fd_in: int, fd_out: int, hello: dict) -> None:
        """Goes on over another channel, with a greeting. To be called by who reads, since it knows where a frame ends.

        :raises Interrupted: when that one is closed already.
        """
        with self._lock:
            for old in sorted({self.fd_in, self.fd_out}):
                os.close(old)
            self.fd_in, self.fd_out = fd_in, fd_out
            self._heard = self._replaced = False
            for descriptor in (fd_in, fd_out):
                _widen(descriptor)
            self._write(HELLO, _packed(hello))

    def readable(self) -> bool:
        return is_readable(self.fd_in, 0)

    def _exactly(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        began = time.monotonic()
        while view:
            self._await()
            # Not while nothing has come: that limit is another one.
            if len(view) < count and self.idle_limit and time.monotonic() - began > _FRAME_LIMITS * self.idle_limit:
                raise Interrupted(
                    f"the other end has not sent a whole frame in {_FRAME_LIMITS * self.idle_limit} seconds"
                )
            try:
                got = os.readv(self.fd_in, [view])
            except OSError as exc:
                raise Interrupted(f"the channel broke: {exc.strerror}") from exc
            if not got:
                raise Interrupted("the other end closed the channel")
            self.received += got
            view = view[got:]
        return data

    def _await(self) -> None:
        """Returns when there is something to read."""
        if not self.idle_limit:
            return
        deadline = time.monotonic() + self.idle_limit
        while not is_readable(self.fd_in, min(_LOOK_EVERY, self.idle_limit)):
            if self._replaced:
                raise Interrupted("the other end has opened the channel anew")
            if time.monotonic() >= deadline:
                raise Interrupted(f"the other end has sent nothing for {self.idle_limit} seconds")

    def read(self) -> tuple[bytes, bytearray]:
        """The next frame, (kind, payload); a sign of life is skipped."""
        began = time.monotonic()
        while True:
            header = self._exactly(HEADER.size)
            kind, length = HEADER.unpack(header)
            if kind not in LIMITS or (not self._heard and kind not in (HELLO, REFUSED)):
                raise Refused(f"the other end does not speak this protocol: it sent {bytes(header)!r}")
            if length > LIMITS[kind]:
                raise Refused(
                    f"the other end sent a frame of type {kind.decode('ascii')} with {length} bytes, "
                    f"more than the {LIMITS[kind]} that are allowed"
                )
            self._heard = True
            payload = self._exactly(length)
            if kind != ALIVE:
                return kind, payload
            if self.quiet_limit and time.monotonic() - began > self.quiet_limit:
                raise Interrupted(f"the other end has given nothing but signs of life for {self.quiet_limit} seconds")

    def expect(self, *kinds: bytes) -> tuple[bytes, bytearray]:
        """The next frame, which must be of one of these kinds; the other end's refusal becomes ours."""
        kind, payload = self.read()
        if kind == REFUSED and REFUSED not in kinds:
            raise Refused(one_sentence(parse_object(payload).get("reason")) or "no reason given")
        if kind not in kinds:
            due = " or ".join(each.decode("ascii") for each in kinds)
            raise Refused(f"the other end sent a frame of type {kind.decode('ascii')} where {due} was due")
        return kind, payload

    def expect_object(self, kind: bytes) -> dict:
        return parse_object(self.expect(kind)[1])

    def expect_list(self, kind: bytes) -> list:
        values: list = []
        size = count = 0
        while True:
            payload = self.expect(kind)[1]
            size += len(payload)
            if size > MAX_LIST:
                raise Refused(f"the other end sent a list of more than {MAX_LIST} bytes")
            count += sum(map(payload.count, _BEFORE_VALUES))
            if count > MAX_VALUES:
                raise Refused(f"the other end sent a list of more than {MAX_VALUES} values")
            part = parse_json(payload)
            if not isinstance(part, list):
                raise Refused("the other end sent a list frame that is not a list")
            if not part:
                return values
            values.extend(part)
            if len(values) > MAX_ENTRIES:
                raise Refused(f"the other end listed more than {MAX_ENTRIES} entries")


def _widen(descriptor: int) -> None:
    """Makes room for whole frames in a pipe, so that both of its sides work at the same time."""
    with contextlib.suppress(OSError):
        # Linux' F_SETPIPE_SZ, which Python has a name for from 3.10 on; what is no pipe refuses it.
        fcntl.fcntl(descriptor, 1031, 1 << 20)


def _packed(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def parse_json(payload: bytes | bytearray) -> Any:
    try:
        return load_json(payload.decode("ascii"))
    except (ValueError, RecursionError) as exc:
        raise Refused("the other end sent a control frame that is not JSON") from exc


def parse_object(payload: bytes | bytearray) -> dict:
    value = parse_json(payload)
    if not isinstance(value, dict):
        raise Refused("the other end sent a control frame that is not an object")
    return value


def greeting(role: str, **more: object) -> dict:
    return dict(more, protocol=PROTOCOL, version=VERSION, role=role)


def check_greeting(hello: dict, role: str) -> None:
    if hello.get("protocol") != PROTOCOL or hello.get("role") != role:
        raise Refused(f"the other end is not a {role} of {PROTOCOL}")
    if hello.get("version") != VERSION:
        theirs = one_sentence(str(hello.get("version")))[:40]
        raise Refused(f"the other end speaks version {theirs} of the protocol, this end version {VERSION}")


def memory_head(name: str, vaddr: int, compressed: bool = False) -> bytes:
    """What goes before pages of the pagemap of this name."""
    return _MEMORY_HEAD.pack(compressed, len(name), vaddr) + name.encode("ascii")


def parse_memory(payload: bytes | bytearray) -> tuple[str, int, memoryview]:
    """The name of the pagemap, the address, and the pages, of a frame of memory."""
    try:
        compressed, length, vaddr = _MEMORY_HEAD.unpack_from(payload)
        name = bytes(payload[_MEMORY_HEAD.size : _MEMORY_HEAD.size + length]).decode("ascii")
    except (struct.error, UnicodeDecodeError) as exc:
        raise Refused("the other end sent a MEMORY frame with a malformed header") from exc
    data = memoryview(payload)[_MEMORY_HEAD.size + length :]
    return name, vaddr, _decompressed(data) if compressed else data


def _decompressed(data: memoryview) -> memoryview:
    """What was compressed of at most one chunk."""
    inflater = zlib.decompressobj()
    try:
        pages = inflater.decompress(data, CHUNK)
    except zlib.error as exc:
        raise Refused("compressed pages were damaged on the way") from exc
    if not inflater.eof or inflater.unused_data:
        raise Refused("the other end sent more compressed pages than are allowed in one frame")
    return memoryview(pages)
