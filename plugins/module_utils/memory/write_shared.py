# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Program: writes the content of what processes share, once they are restored and before they run.

It waits for one line of JSON on standard input: C(group), the folder of the control group to which the memory is to be
charged, or nothing, and C(pieces), each with a C(process), an address C(start) at which that has the piece mapped, the
C(file) with the pages, and C(runs) as [offset in that file, offset in the piece, bytes]. It moves into the control
group, since the kernel charges memory to who writes it first. Its answer is one line: nothing when all is written, else
why it is not.

Private to the collection fog.migration. Installed on servers by C(deploy), imports nothing of the collection.
"""

from __future__ import annotations

import json
import mmap
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

# Bytes that a thread writes at a time, and how many threads there are at the most.
PART, MOST_THREADS = 4 << 20, 4
_MEMFD = "/memfd:"


class Copy(NamedTuple):
    """Bytes of a file, and where they go."""

    content: memoryview
    piece: int  # a descriptor
    position: int


class NotWritten(Exception):
    """Why the memory cannot be written. The text is a clause."""


def mapping_at(maps: str, address: int) -> str | None:
    """The name in C(/proc/PID/map_files) of the mapping that has an address, from C(/proc/PID/maps).

    None where there is none, or where it is neither shared nor of a file of memfd_create().
    """
    for line in maps.split("\n"):
        # Range, rights, offset, device, inode, and what it is of, where that has a name.
        name, rights, *more = [*line.split(None, 5), "", ""]
        begin, _dash, end = name.partition("-")
        if end and int(begin, 16) <= address < int(end, 16):
            return name if rights.endswith("s") or more[3].startswith(_MEMFD) else None
    return None


def is_kernels(file: int) -> bool:
    """Whether a file is of the file system in which the kernel keeps what processes share, and is no other file.

    A source says where it is mapped: without this look, that could be any file which a process has mapped.
    """
    own = os.memfd_create("", os.MFD_CLOEXEC)
    try:
        return os.fstat(own).st_dev == os.fstat(file).st_dev
    finally:
        os.close(own)


def opened(process: int, start: int) -> int:
    """A descriptor of what a process has mapped at an address.

    :raises NotWritten: when there is nothing, or something that is no shared memory, or may be others' as well.
    """
    # What System V's memory of the server a process has would be the source's word.
    if os.path.samefile(f"/proc/{process}/ns/ipc", "/proc/self/ns/ipc"):
        raise NotWritten(f"process {process} is in the server's own ipc namespace")
    # The names in it are anybody's, of which the kernel changes nothing but the ends of lines.
    with open(f"/proc/{process}/maps", encoding="utf-8", errors="replace", newline="\n") as stream:
        name = mapping_at(stream.read(), start)
    if not name:
        raise NotWritten(f"process {process} has nothing at address 0x{start:x} that is shared")
    file = os.open(f"/proc/{process}/map_files/{name}", os.O_RDWR | os.O_CLOEXEC)
    if not is_kernels(file):
        raise NotWritten(f"process {process} shares no memory at address 0x{start:x}")
    return file


def copies(piece: dict[str, Any]) -> Iterator[Copy]:
    """What is to be written of one piece. What it opens is closed when this program ends.

    :raises NotWritten: when it does not fit.
    """
    target = opened(piece["process"], piece["start"])
    size = os.fstat(target).st_size
    with open(piece["file"], "rb") as stream:
        content = memoryview(mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ))
    for offset, position, count in piece["runs"]:
        if position + count > size or offset + count > len(content):
            raise NotWritten(f"there are {count} bytes at {position} of a piece that has {size}")
        for begin in range(0, count, PART):
            yield Copy(content[offset + begin : offset + min(begin + PART, count)], target, position + begin)


def write(copy: Copy) -> None:
    """Writes the bytes."""
    done = 0
    while done < len(copy.content):
        done += os.pwrite(copy.piece, copy.content[done:], copy.position + done)


class Writers:
    """Threads that write what they are given. They are there before, for a control group may have no more of them."""

    def __init__(self) -> None:
        self._problem: OSError | None = None
        self._given: queue.Queue[Copy | None] = queue.Queue()
        count = min(os.cpu_count() or 1, MOST_THREADS)
        self._threads = [threading.Thread(target=self._run, daemon=True) for _one in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        for copy in iter(self._given.get, None):
            try:
                write(copy)
            except OSError as exc:
                self._problem = exc

    def take(self, given: Iterable[Copy]) -> None:
        """Returns when all of this is written.

        :raises OSError: when it could not be.
        """
        for copy in given:
            self._given.put(copy)
        for _thread in self._threads:
            self._given.put(None)
        for thread in self._threads:
            thread.join()
        if self._problem:
            raise self._problem


def serve(request: dict[str, Any], writers: Writers) -> None:
    """Does what was requested."""
    if request["group"]:
        with open(os.path.join(request["group"], "cgroup.procs"), "w", encoding="ascii") as stream:
            stream.write(str(os.getpid()))
    writers.take(copy for piece in request["pieces"] for copy in copies(piece))


def main() -> None:
    """Waits for the request; without one, it ends."""
    writers = Writers()
    line = sys.stdin.readline()
    problem = ""
    try:
        if line:
            serve(json.loads(line), writers)
    except NotWritten as exc:
        problem = str(exc)
    except OSError as exc:
        problem = f"{exc.strerror}: {exc.filename}" if exc.filename else str(exc.strerror or exc)
    sys.stdout.write(problem + "\n")


if __name__ == "__main__":
    main()
