# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of memory pages, kept up to date round by round, the same at both ends of a migration.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import bisect
import collections
import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import (
    BLOCK,
    MOST_PAGEMAPS,
    NAME,
    PAGE,
    WORD,
    Pages,
    PagesError,
    Run,
    blocks,
    joined,
    layout_of,
    side_by_side,
)
from ansible_collections.fog.migration.plugins.module_utils.system.files import Data
from ansible_collections.fog.migration.plugins.module_utils.validate import shown


class Change(NamedTuple):
    """Pages of a round that are new or other ones."""

    vaddr: int
    data: memoryview  # of whole pages; good until the next change is asked for


_UNTOUCHED = -1  # In place of a run's flags.


class Store:
    """Pages by pagemap, kept up to date round by round. Two of them, at both ends, hold the same after each round.

    The source's: C(for change in store.update(name, runs)), each of which is sent, and then C(store.layout(name)). The
    destination's: C(put) for each change, then C(settle) with that layout. A round that was not finished leaves a store
    that cannot be used any more, because nobody knows what the other end has.

    The pages of a pagemap are in one file, in any order; what became free is used again.

    :param directory: is made for it; on a file system in memory, or where there is room for all pages.
    :param grow: is called with how many bytes it is about to grow by, or has become smaller by, and may refuse.
    """

    def __init__(self, directory: str, page: int = PAGE, grow: Callable[[int], object] | None = None):
        self.directory = directory
        self.page = page
        self._grow = grow or (lambda _count: None)
        self._held: dict[str, _Held] = {}
        self._handed_over: set[str] = set()
        os.makedirs(directory, 0o700, exist_ok=True)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it and removes its files."""
        for name in list(self._held):
            self.drop(name)
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)

    def names(self) -> list[str]:
        """The pagemaps of which there are pages."""
        return sorted(self._held)

    def drop(self, name: str) -> None:
        """Forgets a pagemap, because its process is gone."""
        held = self._held.pop(name, None)
        if held:
            held.close()

    def update(self, name: str, runs: Iterable[Run], touched: Iterable[Run] | None = None) -> Iterator[Change]:
        """One round of one pagemap: reads these runs, keeps them, and yields what was new or other before.

        Pages that cannot be read are left out, and so are, without another try, those behind them in the same block.

        :param touched: which of these pages may be other ones than in the round before, when that is known. The others
            are read only when they are new.
        """
        held = self._open(name)
        held.settled = False
        layout: list[Run] = []
        left, right = _buffer(self.page), _buffer(self.page)
        for new, old in side_by_side(_marked(runs, touched, self.page), held.runs, self.page):
            if not new:
                continue
            if old and new.flags == _UNTOUCHED:
                layout.append(Run(new.vaddr, new.pages, 0, -1, new.vaddr))
                continue
            for block, kept in _beside(new, old, self.page):
                size = _read_what_is_there(block.file, memoryview(left)[: block.pages * self.page], block.offset)
                size -= size % self.page
                if size:
                    layout.append(Run(block.vaddr, size // self.page, 0, -1, block.vaddr))
                    yield from held.keep(block.vaddr, kept, left, right, size)
        held.settle(joined(layout, self.page))

    def put(self, name: str, vaddr: int, data: Data) -> None:
        """Keeps pages that the other end's C(update) has yielded."""
        view = memoryview(data).cast("B")
        if vaddr < 0 or vaddr % self.page or not view or len(view) % self.page or vaddr + len(view) > WORD:
            raise PagesError(f"{len(view)} bytes at 0x{vaddr:x} of {name} are not whole pages")
        held = self._open(name)
        held.settled = False
        held.put(vaddr, view)

    def pages(self, name: str) -> int:
        """For how many pages of a pagemap there is room at this moment: never fewer than it has."""
        return self._held[name].size // self.page if name in self._held else 0

    def layout(self, name: str) -> list[Pages]:
        """Which pages there are now, in as few runs as possible, whatever their order in the file is."""
        return layout_of(self._settled(name).runs, self.page)

    def settle(self, name: str, layout: Iterable[Pages | tuple[int, int] | list[int]]) -> None:
        """Ends a round of the other end: keeps the pages of this layout and no others.

        Of a pagemap that was handed over, nothing is kept any more.

        :raises PagesError: when a page of it did not arrive; then this store cannot be used any more.
        """
        if name in self._handed_over:
            return
        runs, last = [], 0
        for vaddr, pages in layout:
            if vaddr < last or vaddr % self.page or pages < 1:
                raise PagesError(f"the layout of {name} is not in order at 0x{vaddr:x}")
            last = vaddr + pages * self.page
            runs.append(Run(vaddr, pages, 0, -1, vaddr))
        self._open(name).settle(runs)

    def hand_over(self, name: str, layout: list[Pages], path: str, in_order: bool) -> list[Run] | None:
        """Gives away the file with the pages of one pagemap, where they are these and nothing else is in it.

        :param path: the name that it gets, where there must be none.
        :param in_order: only where they lie in the order of their addresses. A round in which pages change leaves them
            so, and one in which some come often does not.
        :returns: the runs as they lie in the file, or None where it stays.
        """
        if name not in self._held or self.layout(name) != layout:
            return None
        held = self._held[name]
        placed = held.runs if in_order else held.close_gaps()
        if not held.cut(placed):
            return None
        try:
            os.link(held.path, path)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP):
                raise
            return None
        self.give_up(name)
        return placed

    def give_up(self, name: str) -> None:
        """Forgets a pagemap because the restore has its pages: a round that comes to an end later does without it."""
        self.drop(name)
        self._handed_over.add(name)

    @contextlib.contextmanager
    def runs(self, name: str) -> Iterator[list[Run]]:
        """The runs of one pagemap, in order, each with the open file that has its bytes."""
        yield self._settled(name).runs if name in self._held else []

    def pieces(self, name: str, vaddr: int, pages: int) -> list[Run]:
        """Where these pages are at this moment, also in the midst of a round; fewer when not all of them are here."""
        asked = [Run(vaddr, pages, 0, -1, -1)]
        held = self._held[name].around(vaddr, vaddr + pages * self.page) if name in self._held else []
        return [have for wanted, have in side_by_side(asked, held, self.page) if wanted and have]

    def _open(self, name: str) -> _Held:
        if not NAME.fullmatch(name):
            raise PagesError(f"{shown(name)} is not the name of a pagemap")
        if name in self._handed_over:
            raise PagesError(f"the pages of {name} were given to the restore already")
        if name not in self._held:
            if len(self._held) >= MOST_PAGEMAPS:
                raise PagesError(f"there are more than {MOST_PAGEMAPS} pagemaps")
            self._held[name] = _Held(os.path.join(self.directory, f"{name}.pages"), self.page, self._grow)
        return self._held[name]

    def _settled(self, name: str) -> _Held:
        held = self._open(name)
        if not held.settled:
            raise PagesError(f"the last round of {name} was not finished, so the state of the other end is unknown")
        return held


def _marked(runs: Iterable[Run], touched: Iterable[Run] | None, page: int) -> Iterator[Run]:
    """The same runs, in order, those pages marked that are not in the second list."""
    if touched is None:
        yield from runs
        return
    for run, other in side_by_side(runs, touched, page):
        if run:
            yield run._replace(flags=0 if other else _UNTOUCHED)


def _beside(new: Run, old: Run | None, page: int) -> Iterator[tuple[Run, Run | None]]:
    """The blocks of a run, each with the block that is held for it, or None."""
    olds: Iterable[Run | None] = blocks(old, page) if old else [None] * (-(-new.pages // max(BLOCK // page, 1)))
    return zip(blocks(new, page), olds)


class _Held:
    """The pages of one pagemap, in a file without order."""

    def __init__(self, path: str, page: int, grow: Callable[[int], object]):
        self.path = path
        self.page = page
        self.size = 0  # bytes of the file
        self._grow = grow
        self.runs: list[Run] = []  # in order; what the last round left
        self.settled = True
        self._settling = threading.Lock()  # Pages are looked for while another thread ends a round.
        self._added: list[Run] = []  # in order; what came new in this round
        self._free: list[tuple[int, int]] = []  # offset and bytes of room that is not used any more
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        os.close(self.file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._grow(-self.size)

    def keep(self, vaddr: int, kept: Run | None, left: bytearray, right: bytearray, size: int) -> Iterator[Change]:
        """Takes over the first I(size) bytes of I(left), and yields those that differ from what is kept."""
        view = memoryview(left)
        if not kept:
            self._add(vaddr, view[:size])
            yield Change(vaddr, view[:size])
            return
        other = memoryview(right)
        _read_exactly(self.file, other[:size], kept.offset)
        for begin, end in _differing(left, other, size, self.page):
            _write_at(self.file, view[begin:end], kept.offset + begin)
            yield Change(vaddr + begin, view[begin:end])

    def put(self, vaddr: int, view: memoryview) -> None:
        """Takes over pages of the other end, over what is kept of them, or as new ones."""
        asked = [Run(vaddr, len(view) // self.page, 0, -1, 0)]
        for part, kept in side_by_side(asked, self.around(vaddr, vaddr + len(view)), self.page):
            if part:
                data = view[part.offset : part.offset + part.pages * self.page]
                if kept:
                    _write_at(self.file, data, kept.offset)
                else:
                    self._add(part.vaddr, data)

    def around(self, start: int, end: int) -> list[Run]:
        """The runs that reach into this range of addresses, in order: those kept and those that came in this round."""
        with self._settling:
            found = _reaching(self.runs, start, end, self.page)
            return sorted(found + _reaching(self._added, start, end, self.page)) if self._added else found

    def cut(self, placed: list[Run]) -> bool:
        """Whether these runs lie one after the other in the file; then it has nothing behind them any more."""
        end = 0
        for run in placed:
            if run.offset != end:
                return False
            end += run.pages * self.page
        os.ftruncate(self.file, end)
        self._grow(end - self.size)
        self.size, self._free = end, []
        return True

    def close_gaps(self) -> list[Run]:
        """Moves pages from the end of the file into room that is not used any more; the runs as they lie then."""
        rest = collections.deque(sorted(self.runs, key=lambda run: run.offset))
        placed, end = [], 0
        while rest:
            gap = (rest[0].offset - end) // self.page
            if gap:
                last = _take_last(rest, gap, self.page)
                copy_pages(self.file, last.offset, self.file, end, last.pages * self.page)
            run = last._replace(offset=end) if gap else rest.popleft()
            placed.append(run)
            end += run.pages * self.page
        with self._settling:
            self.runs = joined(sorted(placed), self.page)
        return placed

    def _add(self, vaddr: int, view: memoryview) -> None:
        """New pages, where there is room."""
        while view:
            offset, room = self._room(len(view))
            _write_at(self.file, view[:room], offset)
            bisect.insort(self._added, Run(vaddr, room // self.page, 0, self.file, offset))
            vaddr, view = vaddr + room, view[room:]

    def _room(self, size: int) -> tuple[int, int]:
        """Offset and size of room for so many bytes or fewer: what became free, else the end of the file."""
        if not self._free:
            self._grow(size)
            self.size += size
            return self.size - size, size
        offset, free = self._free.pop()
        if free > size:
            self._free.append((offset + size, free - size))
        return offset, min(size, free)

    def settle(self, layout: list[Run]) -> None:
        """Ends a round: what is in the layout stays, the room of everything else becomes free."""
        everything = sorted(self.runs + self._added)
        runs, free = [], []
        for wanted, held in side_by_side(layout, everything, self.page):
            if wanted and held:
                runs.append(held)
            elif wanted:
                raise PagesError(f"the page at 0x{wanted.vaddr:x} did not arrive")
            elif held:
                free.append((held.offset, held.pages * self.page))
        with self._settling:
            self.runs, self._added = joined(runs, self.page), []
        self._free += free
        self.settled = True


def _take_last(runs: collections.deque[Run], pages: int, page: int) -> Run:
    """Takes the last pages of the last run, so many at most."""
    run = runs.pop()
    stays = max(run.pages - pages, 0)
    if stays:
        runs.append(run._replace(pages=stays))
    size = stays * page
    return run._replace(vaddr=run.vaddr + size, pages=run.pages - stays, offset=run.offset + size)


def _reaching(runs: list[Run], start: int, end: int, page: int) -> list[Run]:
    """Those of the runs, which are in order, that reach into a range: found by halving, for they may be many."""
    low, high = 0, len(runs)
    while low < high:
        middle = (low + high) // 2
        if runs[middle].vaddr + runs[middle].pages * page <= start:
            low = middle + 1
        else:
            high = middle
    behind = low
    while behind < len(runs) and runs[behind].vaddr < end:
        behind += 1
    return runs[low:behind]


# ---------------------------------------------------------------------------------------------------------------------
# Bytes


def _buffer(page: int) -> bytearray:
    return bytearray(max(BLOCK, page))


def _read_exactly(file: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.preadv(file, [view], offset)
        if not count:
            raise PagesError("a pages file became shorter while it was read")
        view, offset = view[count:], offset + count


def _read_what_is_there(file: int, view: memoryview, offset: int) -> int:
    """Reads a process' memory, of which it may have unmapped some meanwhile; how many bytes were there."""
    done = 0
    try:
        while done < len(view):
            count = os.preadv(file, [view[done:]], offset + done)
            if not count:
                break
            done += count
    except OSError as error:
        # Not mapped any more, poisoned, a device; or the process is gone.
        if error.errno not in (errno.EIO, errno.EFAULT, errno.ESRCH):
            raise
    return done


def _write_at(file: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(file, view, offset)
        view, offset = view[count:], offset + count


def copy_pages(source: int, offset: int, destination: int, position: int, size: int) -> None:
    """Copies bytes of one file to a place in another, or in the same one, inside the kernel where it can.

    :raises PagesError: when there are not so many.
    """
    while size:
        try:
            count = os.copy_file_range(source, destination, size, offset, position)
        except (AttributeError, OSError) as error:
            # Not in this Python, not between these file systems, not in this kernel.
            refused = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)
            if isinstance(error, OSError) and error.errno not in refused:
                raise
            os.lseek(destination, position, os.SEEK_SET)
            count = os.sendfile(destination, source, offset, size)
        if not count:
            raise PagesError("a pages file became shorter while it was read")
        offset, position, size = offset + count, position + count, size - count


def _differing(left: bytearray, right: memoryview, size: int, page: int) -> list[tuple[int, int]]:
    """Which of the first I(size) bytes differ, as begin and end, whole pages and as few ranges as possible.

    The bytearray has to be on the left: its C(==) is the C library's memcmp, that of a memoryview goes item by item.
    """
    if left[:size] == right[:size] if size < len(left) else left == right:
        return []
    found: list[tuple[int, int]] = []
    step = 16 * page
    for begin in range(0, size, step):
        if left[begin : min(begin + step, size)] == right[begin : min(begin + step, size)]:
            continue
        for start in range(begin, min(begin + step, size), page):
            end = start + page
            if left[start:end] == right[start:end]:
                continue
            if found and found[-1][1] == start:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
    return found
