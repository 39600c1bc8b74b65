# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CRIU's images in a directory: the pages of a dump, and a dump without pages that gets them from a page store.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from ansible_collections.fog.migration.plugins.module_utils.memory.page_store import Store, copy_pages
from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import (
    LAZY,
    MOST_RUNS,
    NAME,
    PAGE,
    PRESENT,
    PagesError,
    Run,
    blocks,
    decode_pagemap,
    encode_pagemap,
    is_shared,
    layout_of,
    most_bytes,
    pages_name,
    side_by_side,
)

# Bytes of the longest entry that is made of several ones. CRIU's lazy pages daemon keeps the length of the longest one
# in an int (collect_iovs() in criu/uffd.c): it ends with 2 GiB, and has too small a buffer with 4.
LONGEST = 1 << 30
# So many of them are read, even if the pages that they name are not here.
_FEW_RUNS = 4096


class ImageSet:
    """A directory with CRIU's images."""

    def __init__(self, directory: str):
        self.directory = directory

    def names(self) -> list[str]:
        """The file names of its pagemaps."""
        try:
            return sorted(name for name in os.listdir(self.directory) if NAME.fullmatch(name))
        except FileNotFoundError:
            raise PagesError(f"there is no directory {self.directory}") from None

    def decode(self, name: str, page: int = PAGE, most: int = MOST_RUNS) -> tuple[int, list[Run]]:
        """As C(decode_pagemap), of one of them."""
        path = os.path.join(self.directory, name)
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > most_bytes(most):
                raise PagesError(f"{path} has {size} bytes, more than {most} runs of pages can have")
            return decode_pagemap(stream.read(), path, page, most)


@contextlib.contextmanager
def dumped_runs(directory: str, name: str, memory: int, page: int = PAGE) -> Iterator[list[Run]]:
    """The runs of one pagemap of a dump, in order, each with the file that has its bytes, and flags as in the pagemap.

    :param memory: the open memory of the process, or the open shared memory, which has stood still since the dump:
        there is what the dump left, or all of it where its pages were not kept. -1 when there is none.
    """
    pages_id, runs = ImageSet(directory).decode(name, page)
    with contextlib.ExitStack() as stack:
        pages = -1
        with contextlib.suppress(FileNotFoundError):
            stream = stack.enter_context(open(os.path.join(directory, pages_name(pages_id)), "rb"))
            pages = stream.fileno()
            _require_size(stream.name, os.fstat(pages).st_size, name, runs, page)
        found = []
        for run in runs:
            if pages >= 0 and run.flags & PRESENT:
                found.append(run._replace(file=pages))
            elif memory < 0:
                raise PagesError(f"the dump has left the page at 0x{run.vaddr:x} of {name} with a process that is gone")
            else:
                found.append(run._replace(file=memory, offset=run.vaddr))
        yield found


def _require_size(path: str, size: int, name: str, runs: list[Run], page: int) -> None:
    promised = sum(run.pages * page for run in runs if run.flags & PRESENT)
    if size != promised:
        raise PagesError(f"{path} has {size} bytes, but {name} promises {promised}")


def set_apart(directory: str, store: Store, names: Iterable[str], page: int = PAGE) -> list[str]:
    """Leaves pagemaps of shared memory without a page, since somebody else than CRIU restores what is in it.

    :returns: those of the names for which that was done: the store has all of their pages, and keeps them.
    """
    apart = []
    for name in names:
        pages_id, runs = ImageSet(directory).decode(name, page)
        if not is_shared(name) or not runs or store.layout(name) != layout_of(runs, page):
            continue
        os.unlink(os.path.join(directory, name))
        with _Writer(directory, name, pages_id, page) as writer:
            writer.fill(use_up=False)
        apart.append(name)
    return apart


def complete(directory: str, store: Store, lazily: bool, page: int = PAGE, apart: Iterable[str] = ()) -> dict[str, int]:
    """Gives a dump's images, which came without the bytes of any page, those that a store has.

    CRIU finds a process' pages by their addresses, and reads those of shared memory as they come
    (C(do_restore_shmem_content) in criu/shmem.c): these need not be brought into order.

    :param apart: see C(set_apart).
    :param lazily: leave those that the dump left with their process to C(criu lazy-pages), and to the store, which
        stays as it is. Otherwise it is used up: nothing is left in it, also when this fails.
    :returns: C(pages) that the restore finds in the images, their C(bytes_written), and C(left) to lazy pages.
    """
    figures = {"pages": 0, "bytes_written": 0, "left": 0}
    images = ImageSet(directory)
    for name in sorted(set(images.names()) - set(apart)):
        # Each run has a page at least, and all pages are here, or some of them with their process.
        most = MOST_RUNS if lazily else min(store.pages(name) + _FEW_RUNS, MOST_RUNS)
        pages_id, runs = images.decode(name, page, most)
        os.unlink(os.path.join(directory, name))
        with _Writer(directory, name, pages_id, page) as writer:
            given = None
            if not lazily or not any(run.flags & LAZY for run in runs):
                given = store.hand_over(name, layout_of(runs, page), writer.path, in_order=not is_shared(name))
            if given is not None:
                writer.adopt(given if is_shared(name) else runs)
            else:
                with store.runs(name) as held:
                    figures["left"] += _note_all(writer, runs, held, lazily)
                    writer.fill(use_up=not lazily)
        if not lazily:
            store.drop(name)
        figures["bytes_written"] += writer.size
    figures["pages"] = figures["bytes_written"] // page
    return figures


def _note_all(writer: _Writer, runs: list[Run], held: list[Run], lazily: bool) -> int:
    """Notes the runs of a dump, with the bytes of what is held; how many pages are left out."""
    left = 0
    for run, have in side_by_side(runs, held, writer.page):
        if not run:
            continue
        if lazily and run.flags == LAZY:
            writer.note(run, LAZY)
            left += run.pages
        elif have:
            writer.add(have._replace(flags=run.flags & LAZY))
        else:
            raise PagesError(f"the page at 0x{run.vaddr:x} of {writer.name} did not arrive")
    return left


class _Writer:
    """One pagemap and its pages file, new in a directory: first all its runs in order, then their bytes."""

    def __init__(self, directory: str, name: str, pages_id: int, page: int):
        self.directory, self.name, self.pages_id, self.page = directory, name, pages_id, page
        self.path = os.path.join(directory, pages_name(pages_id))
        self.entries: list[Run] = []
        self.size = 0
        self._places: list[tuple[Run, int]] = []  # where to take the bytes of a run, and where they come to be

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None:
            with open(_new_file(os.path.join(self.directory, self.name)), "wb") as stream:
                stream.write(encode_pagemap(self.pages_id, self.entries))

    def adopt(self, runs: Iterable[Run]) -> None:
        """Notes the runs whose bytes the pages file has already."""
        for run in runs:
            self.note(run, run.flags & LAZY | PRESENT)
            self.size += run.pages * self.page

    def note(self, run: Run, flags: int) -> None:
        """Adds a run without bytes."""
        if self.entries:
            last = self.entries[-1]
            pages = last.pages + run.pages
            follows = last.flags == flags and last.vaddr + last.pages * self.page == run.vaddr
            if follows and pages * self.page <= LONGEST:
                self.entries[-1] = last._replace(pages=pages)
                return
        self.entries.append(Run(run.vaddr, run.pages, flags, -1, -1))

    def add(self, run: Run) -> None:
        """Adds a run whose bytes are in a file."""
        self.note(run, run.flags | PRESENT)
        self._places.append((run, self.size))
        self.size += run.pages * self.page

    def fill(self, use_up: bool) -> None:
        """Writes the bytes.

        :param use_up: cut off from the file, which all of them are from, what was copied of it, so that there is never
            memory for all of it twice.
        """
        file = _new_file(self.path)
        try:
            for run, place in sorted(self._places, key=lambda each: each[0].offset, reverse=True):
                for block in reversed(list(blocks(run, self.page))):
                    position = place + block.offset - run.offset
                    copy_pages(block.file, block.offset, file, position, block.pages * self.page)
                    if use_up:
                        os.ftruncate(block.file, block.offset)
        finally:
            os.close(file)


def _new_file(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
