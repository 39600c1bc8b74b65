# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a large file has changed: its blocks, by their checksums.

A file of which the destination has an older state is patched: only the blocks that are other than they were travel.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator

from ansible_collections.fog.migration.plugins.module_utils.filesystem.snapshot import data, text
from ansible_collections.fog.migration.plugins.module_utils.system import host

BLOCK = 64 * 1024
# Bytes. A smaller file travels whole.
LARGE = 1024 * 1024
_DIGEST = 16


class Blocks:
    """The checksums of the blocks of large files, as the destination has them; by name and inode."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, bytes]] = {}

    def forget(self, name: bytes) -> None:
        """The destination has not got this file any more, or something else."""
        self._known.pop(name, None)

    def state(self, name: bytes, inode: int) -> bytes | None:
        """The checksums of a file's blocks one after the other, if the destination has this very file."""
        known = self._known.get(name)
        return known[1] if known and known[0] == inode else None

    def note(self, name: bytes, inode: int, state: bytes | bytearray) -> None:
        """The destination has it like this now."""
        self._known[name] = (inode, bytes(state))

    def store(self, path: str) -> None:
        """Keeps them in a file for root only."""
        known = {
            text(name): [inode, base64.b64encode(state).decode("ascii")] for name, (inode, state) in self._known.items()
        }
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
            json.dump(known, stream, separators=(",", ":"))

    @classmethod
    def load(cls, path: str) -> Blocks:
        """Those that were kept."""
        blocks = cls()
        with open(path, encoding="ascii") as stream:
            for name, (inode, state) in json.load(stream).items():
                blocks.note(data(name), inode, base64.b64decode(state))
        return blocks


def digest(block: bytes) -> bytes:
    """The checksum of one block, which is compared on this server alone."""
    if _computes_sha256():
        return hashlib.sha256(block).digest()[:_DIGEST]
    return hashlib.blake2b(block, digest_size=_DIGEST).digest()


@functools.lru_cache(maxsize=None)
def _computes_sha256() -> bool:
    """Whether the processor has instructions for SHA-256: then it is twice as fast as BLAKE2, and half as fast else."""
    return bool({"sha_ni", "sha2"} & set(host.cpu_features()))


def at(state: bytes | None, offset: int) -> bytes | None:
    """The checksum of the block that begins at this offset, or None where there is none."""
    number = offset // BLOCK
    return (state[number * _DIGEST : (number + 1) * _DIGEST] or None) if state else None


def read(
    descriptor: int,
    extents: Iterable[list[int]],
    size: int,
    before: bytes | None = None,
    state: bytes | None = None,
) -> Iterator[tuple[int, bytes | None, bytes]]:
    """The blocks of a file one after the other: offset, content, and checksum.

    The content is None of a block that need not travel: it is as it was, or a hole of what is new.

    :param extents: where it has data, as offsets and lengths, in order.
    :param before: the checksums as they were.
    :param state: the checksums as they are, where they are known: then only what has changed is read.
    """
    empty = digest(bytes(BLOCK))
    extents = list(extents)
    for offset in range(0, size, BLOCK):
        length = min(BLOCK, size - offset)
        while extents and sum(extents[0]) <= offset:
            del extents[0]
        known, now = at(before, offset), at(state, offset)
        block = None
        if not extents or extents[0][0] >= offset + length:
            block = None if known is None else bytes(length)
            now = empty if length == BLOCK else digest(bytes(length))
        elif now is None or now != known:
            # It became shorter just now, perhaps. Then it has another time as well, and is sent again.
            block = os.pread(descriptor, length, offset).ljust(length, b"\0")
            now = now or digest(block)
        yield offset, None if now == known else block, now
