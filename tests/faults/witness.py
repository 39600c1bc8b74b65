# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container that can be caught at every lie, and the witness that hears from it.

The container counts. Each number goes to a file in its root file system and is on the disk before the witness hears of
it, with a checksum over a piece of memory that depends on all numbers so far. The witness hears by UDP who says what,
and in which order, whatever becomes of logs and daemons.
"""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
from typing import NamedTuple

# witness address, witness port, name, MiB of memory. PATHS are files that every number is written to.
GENERATOR = """
import hashlib, os, socket, sys, time
address, port, name, size, *paths = sys.argv[1:]
witness = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
memory = bytearray(os.urandom(1 << 20) * int(size))
before = hashlib.sha256(memory).hexdigest()
files = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for path in paths]
digest, number = b"", 0
while True:
    digest = hashlib.sha256(digest + str(number).encode()).digest()
    for file in files:
        os.write(file, b"%d\\n" % number)
        os.fsync(file)
    same = number % 50 or hashlib.sha256(memory).hexdigest() == before
    word = f"{name} {number} {digest.hex()} {'same' if same else 'DAMAGED'}".encode()
    try:
        witness.sendto(word, (address, int(port)))
    except OSError:
        pass
    number += 1
    time.sleep(0.02)
"""


class Word(NamedTuple):
    """What the witness has heard: the address that it came from, and the number."""

    where: str
    number: int


class Witness:
    """Listens until it is closed."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self.address, self.port = self._socket.getsockname()
        self._heard: dict[str, list[Word]] = {}
        self.damaged: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                word, (where, _port) = self._socket.recvfrom(4096)
            except OSError:
                return
            name, number, digest, same = word.decode().split()
            if same != "same" or digest != expected(int(number)):
                self.damaged.append(word.decode())
            self._heard.setdefault(name, []).append(Word(where, int(number)))

    def heard(self, name: str) -> list[Word]:
        """Everything that a container has said so far."""
        return list(self._heard.get(name, ()))

    def close(self) -> None:
        """Hears nothing any more."""
        self._socket.close()


_DIGESTS = [b""]


def expected(number: int) -> str:
    """The checksum that belongs to a number."""
    while len(_DIGESTS) < number + 2:
        said = str(len(_DIGESTS) - 1).encode()
        _DIGESTS.append(hashlib.sha256(_DIGESTS[-1] + said).digest())
    return _DIGESTS[number + 1].hex()


def without_lost_server(
    words: list[Word], written: list[list[int]], address: str | None
) -> tuple[list[Word], list[list[int]], bool]:
    """What is left to be judged where a server was lost, and whether the container was lost with it.

    A container dies with the server that it runs on, migration or not: it is started anew there by its restart policy,
    or goes on from the state in which the other server still had it. What it said before is not held against it then.

    :param written: the content of each of its files.
    :param address: of the server that was lost, or None.
    """
    for place, (before, after) in enumerate(itertools.pairwise(words), 1):
        if before.where == address and after.number <= before.number:
            fresh = [numbers[_last_begin(numbers) :] for numbers in written]
            return words[place:], fresh if after.number == 0 else written, True
    return words, written, False


def _last_begin(numbers: list[int]) -> int:
    """Where in a file the last life begins."""
    return max((place for place, number in enumerate(numbers) if number == 0), default=0)


def complaints(words: list[Word], numbers_written: list[list[int]], unheard: int = 0) -> list[str]:
    """What is wrong with what a container has said and written; nothing, if it has lived one life without a gap.

    :param numbers_written: the content of each of its files.
    :param unheard: how many numbers in all may be lost on their way between two that came from the same place.
    """
    found = []
    for before, after in itertools.pairwise(words):
        missing = after.number - before.number - 1
        if missing < 0:
            found.append(f"said {after.number} at {after.where} after {before.number} at {before.where}")
        elif before.where == after.where and missing <= unheard:
            unheard -= missing
        elif missing:
            found.append(f"left out {before.number + 1} to {after.number - 1} between {before.where} and {after.where}")
    last = words[-1].number if words else -1
    for numbers in numbers_written:
        if numbers != list(range(len(numbers))):
            wrong = next(place for place, number in enumerate(numbers) if place != number)
            found.append(f"has written {numbers[wrong]} where {wrong} belongs")
        if len(numbers) <= last:
            found.append(f"has written {len(numbers)} numbers, and had said that it has written {last}")
    return found
