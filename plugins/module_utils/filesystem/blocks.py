# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a large file has changed: its blocks, by their checksums.

A file of which the destination has an older state is patched: only the blocks that are other than they were travel. A
hole costs nothing, however large it is: it has no checksum, and is not walked through.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import array
import base64
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.filesystem.snapshot import data, text
from ansible_collections.fog.migration.plugins.module_utils.system import host

BLOCK = 64 * 1024
# Bytes. A smaller file travels whole.
LARGE = 1024 * 1024
_DIGEST = 16
# Checksums of blocks that are remembered of one file, and of all files of one tree: those of 1 TiB and of 4 TiB of
# data, in 384 MiB and 1.5 GiB of memory. What has more of them travels whole each time.
MOST_OF_FILE, MOST = 1 << 24, 1 << 26
# Checksums that are compared at once.
_COMPARED = 512
# Behind the last block of any file.
_END = 1 << 64


class State:
    """The checksums of those blocks of one file that have data, by their number, in order. The others are holes."""

    def __init__(self) -> None:
        self._numbers = array.array("Q")
        self._digests = bytearray()

    def __len__(self) -> int:
        return len(self._numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and (self._numbers, self._digests) == (other._numbers, other._digests)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        digests = memoryview(self._digests)
        for place, number in enumerate(self._numbers):
            yield number, bytes(digests[place * _DIGEST : (place + 1) * _DIGEST])

    def has_same_blocks(self, other: State) -> bool:
        """Whether both have data in the same blocks."""
        return self._numbers == other._numbers

    def differing(self, other: State) -> Iterator[tuple[int, bytes]]:
        """The blocks whose checksums are other ones in a state with the same blocks."""
        if self._digests == other._digests:
            return
        step = _COMPARED * _DIGEST
        for begin in range(0, len(self._digests), step):
            mine, theirs = self._digests[begin : begin + step], other._digests[begin : begin + step]
            if mine == theirs:
                continue
            for place in range(0, len(mine), _DIGEST):
                checksum = mine[place : place + _DIGEST]
                if checksum != theirs[place : place + _DIGEST]:
                    yield self._numbers[(begin + place) // _DIGEST], bytes(checksum)

    def add(self, number: int, checksum: bytes) -> None:
        """One more block, which is behind those that are known."""
        self._numbers.append(number)
        self._digests += checksum

    def to_json(self) -> list[str]:
        """As a list for JSON, which this server alone reads."""
        return [base64.b64encode(part).decode("ascii") for part in (self._numbers.tobytes(), self._digests)]

    @classmethod
    def from_json(cls, kept: list[str]) -> State:
        """The state that C(to_json) has made a list of."""
        state = cls()
        numbers, digests = (base64.b64decode(part) for part in kept)
        state._numbers.frombytes(numbers)
        state._digests += digests
        return state


class Blocks:
    """The checksums of the blocks of large files, as the destination has them; by name and inode."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, State]] = {}
        self._count = 0

    def forget(self, name: bytes) -> None:
        """The destination has not got this file any more, or something else."""
        known = self._known.pop(name, None)
        if known:
            self._count -= len(known[1])

    def state(self, name: bytes, inode: int) -> State | None:
        """The checksums of a file's blocks, if the destination has this very file."""
        known = self._known.get(name)
        return known[1] if known and known[0] == inode else None

    def note(self, name: bytes, inode: int, state: State | None) -> None:
        """The destination has it like this now; where that is None, or too much to remember, it is forgotten."""
        self.forget(name)
        if state is not None and len(state) <= MOST_OF_FILE and self._count + len(state) <= MOST:
            self._known[name] = (inode, state)
            self._count += len(state)

    def store(self, path: str) -> None:
        """Keeps them in a file for root only."""
        known = {text(name): [inode, *state.to_json()] for name, (inode, state) in self._known.items()}
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
            json.dump(known, stream, separators=(",", ":"))

    @classmethod
    def load(cls, path: str) -> Blocks:
        """Those that were kept. A file of which they were kept in another way travels whole."""
        blocks = cls()
        with open(path, encoding="ascii") as stream:
            for name, (inode, *kept) in json.load(stream).items():
                blocks.note(data(name), inode, State.from_json(kept) if len(kept) == 2 else None)
        return blocks


def digest(block: bytes | bytearray) -> bytes:
    """The checksum of one block, which is compared on this server alone."""
    if _computes_sha256():
        return hashlib.sha256(block).digest()[:_DIGEST]
    return hashlib.blake2b(block, digest_size=_DIGEST).digest()


@functools.lru_cache(maxsize=None)
def _computes_sha256() -> bool:
    """Whether the processor has instructions for SHA-256: then it is twice as fast as BLAKE2, and half as fast else."""
    return bool({"sha_ni", "sha2"} & set(host.cpu_features()))


class Block(NamedTuple):
    """One block of a file.

    :param digest: its checksum; None of a hole.
    :param parts: what of it has to travel, as offsets in the file and bytes.
    """

    number: int
    digest: bytes | None
    parts: list[tuple[int, bytes]]


class _Cursor:
    """Looks for blocks in a state, each of them behind the one before."""

    def __init__(self, state: State | None) -> None:
        self._rest = iter(state or ())
        self.number, self._digest = next(self._rest, (_END, b""))

    def take(self) -> tuple[int, bytes]:
        """The block that is next, and its checksum."""
        found = self.number, self._digest
        self.number, self._digest = next(self._rest, (_END, b""))
        return found

    def find(self, number: int) -> bytes | None:
        """The checksum of this block, or None where there is none."""
        while self.number < number:
            self.take()
        return self.take()[1] if self.number == number else None


def read(
    descriptor: int,
    extents: Iterable[tuple[int, int]],
    size: int,
    before: State | None = None,
    state: State | None = None,
) -> Iterator[Block]:
    """The blocks of a file that have data, or had some, in order.

    :param extents: where it has data, as offsets and lengths, in order.
    :param before: the checksums as they were.
    :param state: the checksums as they are, where they are known: then only what has changed is read, and where data
        was in the same blocks, only that is among the blocks.
    """
    if before is not None and state is not None and state.has_same_blocks(before):
        for number, checksum in state.differing(before):
            place = (number * BLOCK, min(BLOCK, size - number * BLOCK))
            yield Block(number, checksum, [(place[0], _content(descriptor, *place, [place]))])
        return
    old, now = _Cursor(before), _Cursor(state)
    for number, places in _with_data(extents):
        while old.number < number:
            yield _hole(*old.take(), size)
        known, found = old.find(number), now.find(number)
        parts: list[tuple[int, bytes]] = []
        if found is None or found != known:
            begin = number * BLOCK
            block = _content(descriptor, begin, min(BLOCK, size - begin), places)
            found = found or digest(block)
            if found != known:
                # Where the destination has a hole, it keeps what of it is one here as well.
                whole = places if known is None else [(begin, len(block))]
                parts = [(place, block[place - begin : place - begin + length]) for place, length in whole]
        yield Block(number, found, parts)
    while old.number * BLOCK < size:
        yield _hole(*old.take(), size)


def checksums(descriptor: int, extents: Iterable[tuple[int, int]], size: int) -> State | None:
    """The checksums of the blocks of a file that nobody writes; None of one that has more than are remembered.

    :param extents: as in C(read).
    """
    state = State()
    for number, places in _with_data(extents):
        if len(state) >= MOST_OF_FILE:
            return None
        begin = number * BLOCK
        state.add(number, digest(_content(descriptor, begin, min(BLOCK, size - begin), places)))
    return state


def _with_data(extents: Iterable[tuple[int, int]]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """The numbers of the blocks that have data, in order, each with the offsets and lengths of what is in it."""
    number = -1
    places: list[tuple[int, int]] = []
    for offset, length in extents:
        while length:
            if offset // BLOCK != number:
                if places:
                    yield number, places
                number, places = offset // BLOCK, []
            part = min(length, (number + 1) * BLOCK - offset)
            places.append((offset, part))
            offset, length = offset + part, length - part
    if places:
        yield number, places


def _content(descriptor: int, begin: int, length: int, places: list[tuple[int, int]]) -> bytes:
    """The content of one block, of which these places have data: what has come in others meanwhile is none of it.

    It became shorter just now, perhaps. Then it has another time as well, and is sent again.
    """
    if places == [(begin, length)]:
        return os.pread(descriptor, length, begin).ljust(length, b"\0")
    block = bytearray(length)
    for offset, count in places:
        part = os.pread(descriptor, count, offset)
        block[offset - begin : offset - begin + len(part)] = part
    return bytes(block)


def _hole(number: int, known: bytes, size: int) -> Block:
    """A block that has no data any more."""
    offset = number * BLOCK
    zeros = bytes(min(BLOCK, size - offset))
    return Block(number, None, [] if known == digest(zeros) else [(offset, zeros)])
