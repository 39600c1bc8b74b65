# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pre-copy at the source: the destination gets a copy of the memory, and round by round what has changed since.

The container runs on meanwhile: its memory is read through C(/proc/PID/mem) and compared with a copy of what the
destination has. What is torn or outdated by that is other than the copy in the next round, or in the last one, when the
container stands still. So no round stops it, not even for a moment. Where the kernel tracks dirty pages, only those are
read, and the container is paused for the moment in which they are asked for.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.memory import (
    page_store,
    pagemap,
    process_memory,
    soft_dirty,
)
from ansible_collections.fog.migration.plugins.module_utils.memory.page_store import Change
from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import Run
from ansible_collections.fog.migration.plugins.module_utils.memory.process_memory import MemoryOf
from ansible_collections.fog.migration.plugins.module_utils.system import procfs
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK
from ansible_collections.fog.migration.plugins.module_utils.transport.compression import PageStream
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    CURRENT,
    DO,
    LAYOUT,
    MEMORY,
    Frames,
    memory_head,
)

# So many pages are compared before the destination hears that it has them.
STRIDE = 1024


class Limits(NamedTuple):
    """When rounds end.

    :param rounds: after so many.
    :param threshold: bytes: after a round that sent no more.
    :param shrink: after a round that sent more than this part of the one before.
    """

    rounds: int = 10
    threshold: int = 1 << 20
    shrink: float = 0.9

    @classmethod
    def from_options(cls, rounds: int, threshold: float, shrink: float) -> Limits:
        """The limits from the options of a task or of a run, where I(threshold) is in MiB."""
        return cls(rounds, int(threshold * (1 << 20)), shrink)


def why_enough(sent: list[int], limits: Limits) -> str | None:
    """Why no further round would pay, or None.

    :param sent: bytes that each round has sent.
    """
    if not sent:
        return None
    if sent[-1] <= limits.threshold:
        return f"the last round sent no more than {limits.threshold / (1 << 20):g} MiB"
    if len(sent) >= limits.rounds:
        return f"{limits.rounds} rounds were made"
    # The first sends all of it.
    if len(sent) > 2 and sent[-1] > limits.shrink * sent[-2]:
        return "the rounds do not become smaller any more"
    return None


class Rounds:
    """The copy of what the destination has, and what brings both up to date.

    :param frames: the channel to the destination.
    :param pages: what takes pages into it.
    :param standstill: a context in which the container stands still, where the kernel tracks dirty pages; else None.
    :param settled: is called with the number of a round, and returns when the destination has all of it.
    :param only_shared: leave out what processes have for themselves, which CRIU can fetch when it is needed.
    """

    def __init__(
        self,
        container: str,
        directory: str,
        frames: Frames,
        pages: PageStream,
        settled: Callable[[int], object],
        standstill: Callable[[], AbstractContextManager] | None = None,
        only_shared: bool = False,
    ) -> None:
        self.container = container
        self.only_shared = only_shared
        self.store = page_store.Store(directory)
        self.figures: list[dict] = []
        self._frames = frames
        self._pages = pages
        self._standstill = standstill
        # The processes, with their starts, whose dirty pages have been tracked since the last round.
        self._tracked: set[tuple[int, int | None]] = set()
        self._settled = settled
        self._checksum = hashlib.sha256()
        self._sent = 0
        self._count = 0
        # Whether the container stands still.
        self.hurry = False
        # Whether its processes share something at which nobody may look.
        self.hides_shared = False
        # For whoever wants to see how far it is: the bytes of this round, and how many of them were looked at.
        self.progress = {"round": 0, "bytes": 0, "done": 0}

    @property
    def tracked(self) -> bool:
        """Whether the kernel tells which pages are dirty; otherwise all are compared."""
        return self._standstill is not None and not self.only_shared

    def until_enough(self, limits: Limits) -> str:
        """Rounds until the next would not pay; why it would not."""
        sent: list[int] = []
        while True:
            why = why_enough(sent, limits)
            if why:
                return why
            figures = self.once()
            sent.append(figures["bytes_sent"])

    def once(self) -> dict:
        """One round over all processes, while they run; its figures."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            memories = memories_of(self.container, stack)
            found, touched = self._look(memories)
            self.hides_shared = any(memory.hides_shared for memory in memories)
            self.begin(found)
            for name, runs in found.items():
                self.send(name, runs, touched.get(name))
            return self.settle(found, began)

    def _look(self, memories: list[MemoryOf]) -> tuple[dict[str, list[Run]], dict[str, list[Run]]]:
        """The pages by pagemap, and which of them may have changed since the last round, where that is known."""
        if not self._standstill or self.only_shared:
            return runs_of(memories, self.only_shared), {}
        with self._standstill():
            found = runs_of(memories)
            touched = self.touched(memories, found)
            self._tracked = set()
            for memory in memories:
                with contextlib.suppress(OSError):
                    soft_dirty.clear(memory.pid)
                    self._tracked.add((memory.pid, procfs.started(memory.pid)))
        return found, touched

    def touched(self, memories: Iterable[MemoryOf], found: dict[str, list[Run]]) -> dict[str, list[Run]]:
        """Which of these pages may have changed since the last round: by pagemap, of the processes that are tracked."""
        touched: dict[str, list[Run]] = {}
        for memory in memories:
            if memory.name in found and (memory.pid, procfs.started(memory.pid)) in self._tracked:
                with contextlib.suppress(OSError):
                    touched[memory.name] = soft_dirty.dirty(memory.pid, found[memory.name])
        return touched

    def begin(self, found: dict[str, list[Run]]) -> None:
        """A round over these runs by pagemap begins."""
        self.progress = {"round": self._count + 1, "bytes": _bytes(found), "done": 0}

    def send(self, name: str, runs: Iterable[Run], touched: Iterable[Run] | None = None, marks: bool = False) -> None:
        """Brings one pagemap up to date here, and sends what that needs there.

        :param marks: tell the destination meanwhile how far it is current.
        """
        for change in self.store.update(name, self._stepwise(name, runs, marks), touched):
            self._send_pages(name, change)

    def _stepwise(self, name: str, runs: Iterable[Run], marks: bool) -> Iterator[Run]:
        """The same runs in parts; that the next one is asked for means that those before are done."""
        for run in runs:
            rest: Run | None = run
            while rest:
                part, rest = pagemap.split(rest, min(rest.pages, STRIDE))
                yield part
                self.progress["done"] += part.pages * pagemap.PAGE
                if marks:
                    self._frames.write(CURRENT, memory_head(name, part.vaddr + part.pages * pagemap.PAGE))

    def _send_pages(self, name: str, change: Change) -> None:
        for begin in range(0, len(change.data), CHUNK):
            data = change.data[begin : begin + CHUNK]
            self._pages.send(MEMORY, name, change.vaddr + begin, data, self.hurry)
            self._checksum.update(data)
            self._sent += len(data)

    def settle(self, found: dict[str, list[Run]], began: float) -> dict:
        """Ends a round over these runs by pagemap: both ends hold the same then, or the destination refuses."""
        self._count += 1
        for name in self.store.names():
            if name not in found:
                self.store.drop(name)
        for name in found:
            # In hybrid mode, pages that the destination has asked for are sent meanwhile.
            self._frames.write_json_with_list(DO, {"do": "layout", "name": name}, LAYOUT, self.store.layout(name))
        end = {"do": "settle", "round": self._count, "sha256": self._checksum.hexdigest()}
        self._frames.write_json(DO, end)
        self._settled(self._count)
        seconds = time.monotonic() - began
        figures = {"bytes_memory": _bytes(found), "bytes_sent": self._sent, "seconds": round(seconds, 3)}
        self.figures.append(figures)
        self._sent = 0
        return figures

    def close(self) -> None:
        self.store.close()


def _bytes(found: dict[str, list[Run]]) -> int:
    return sum(run.pages for runs in found.values() for run in runs) * pagemap.PAGE


def memories_of(container: str, stack: contextlib.ExitStack) -> list[MemoryOf]:
    """The memory of every process of a container that moves; of those that end just now, none."""
    found = []
    for pid in runc.moving(container):
        with contextlib.suppress(pagemap.PagesError):
            found.append(stack.enter_context(process_memory.MemoryOf(pid)))
    return found


def runs_of(memories: Iterable[MemoryOf], only_shared: bool = False) -> dict[str, list[Run]]:
    """The runs of each of these memories, and of what they share, by pagemap; a process that has ended has none.

    :param only_shared: only what they share.
    """
    found: dict[str, list[Run]] = {}
    for memory in memories:
        with contextlib.suppress(pagemap.PagesError):
            found.update({} if only_shared else {memory.name: memory.runs()})
        found.update(memory.shared(found))
    return {name: runs for name, runs in found.items() if runs}
