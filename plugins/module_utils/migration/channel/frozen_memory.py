# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a container that stands still, at the source: the last round, and pages that the destination asks for.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.memory import (
    image_set,
    pagemap,
    process_memory,
    shared_restore,
)
from ansible_collections.fog.migration.plugins.module_utils.memory.kept_pages import KeptPages
from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import Run
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import precopy


class FrozenMemory:
    """The memory of one container, from the moment on at which it stands still.

    :param rounds: those that were made while it ran, or None; without them, it can only be read.
    :param images: where its dump is, or will be.
    """

    def __init__(self, rounds: precopy.Rounds | None, container: str, images: str) -> None:
        self._earlier = rounds
        self._images = images
        self._began = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._memories = {memory.name: memory for memory in precopy.memories_of(container, self._stack)}
        self._kept = self._stack.enter_context(KeptPages())
        # How many of the processes have memory.
        self._with_memory = self._keep_code()
        # The pagemaps of which the destination has all that was there when it began to stand still.
        self._current: set[str] = set()
        # What its processes share, by pagemap: a descriptor of each, and where one of them has it mapped.
        self._shared: dict[str, int] = {}
        self._places: dict[str, shared_restore.Place] = {}

    @property
    def processes(self) -> int:
        """How many processes it has."""
        return len(self._memories)

    @property
    def pagemaps(self) -> int:
        """How many pagemaps a dump has of these processes, before those of their namespaces. Not beside the dump."""
        pieces = {one for memory in self._memories.values() for one in process_memory.own_pieces(memory.pid)}
        return self._with_memory + len(pieces)

    def _keep_code(self) -> int:
        """Keeps the pages into which CRIU will put its first instruction; of how many processes, which have memory."""
        found = {name: memory.first_code() for name, memory in self._memories.items()}
        pages = {name: page for name, page in found.items() if page}
        for name, page in pages.items():
            self._kept.keep(name, *page)
        return len(pages)

    def _keep_rests(self) -> None:
        """Keeps the last pages of what is shared, where they are not whole."""
        for name, file in self._shared.items():
            rest = process_memory.rest_of(file)
            if rest:
                self._kept.keep(name, *rest)

    @property
    def can_be_read(self) -> bool:
        """Whether a dump may do without the bytes of all pages: they are read here, and compared in the last round."""
        return self._earlier is not None and not self._earlier.hides_shared

    @property
    def _rounds(self) -> precopy.Rounds:
        if not self._earlier:
            raise runc.FreezeError("no memory was copied in rounds")
        return self._earlier

    def compare(self, only_shared: bool = False) -> None:
        """Sends what is other than at the destination; the dump may be under way meanwhile.

        :param only_shared: only what its processes share, which no dump leaves with them.
        """
        found = precopy.runs_of(self._memories.values(), only_shared)
        touched = self._rounds.touched(self._memories.values(), found)
        self._rounds.begin(found)
        for name, runs in found.items():
            self._rounds.send(name, self._kept.with_kept(name, runs), touched.get(name))
        self._shared = {name: file for one in self._memories.values() for name, file in one.shared_memory.items()}
        self._places = {
            name: shared_restore.Place(one.image_id, start)
            for one in self._memories.values()
            for name, start in one.shared_at.items()
        }
        self._keep_rests()
        # The dump writes nothing else, but its first instruction may be in what is shared and can be executed.
        code = {name for memory in self._memories.values() for name in memory.executable_shared()}
        self._current = set(found) - code

    def places(self) -> dict[str, shared_restore.Place]:
        """Where processes have mapped what of their shared memory can be restored apart from CRIU, by pagemap."""
        paying = [name for name in self._places if shared_restore.pays(self._shared[name])]
        largest = sorted(paying, key=lambda name: os.fstat(self._shared[name]).st_size, reverse=True)
        return {name: self._places[name] for name in largest[: shared_restore.MOST_PIECES]}

    def finish(self, later: bool) -> dict:
        """Sends what only the dump knows, and ends the round. The destination can restore then.

        :param later: leave the pages that CRIU would fetch lazily to C(catch_up).
        """
        found = {}
        for name in image_set.ImageSet(self._images).names():
            with self._runs(name) as (others, lazies):
                kept = self._held(name, lazies) if later else lazies
                found[name] = sorted(others + kept)
                self._rounds.send(name, found[name], [] if name in self._current else others)
        self._require(found)
        return self._rounds.settle(found, self._began)

    def catch_up(self) -> dict:
        """Sends the pages that C(finish) has left, where the destination has other ones, while it goes on there."""
        began, found = time.monotonic(), {}
        for name in image_set.ImageSet(self._images).names():
            with self._runs(name) as (others, lazies):
                found[name] = sorted(others + lazies)
                self._rounds.send(name, found[name], self._touched(name, lazies), marks=True)
        self._require(found)
        return self._rounds.settle(found, began)

    def read(self, image_id: int, vaddr: int, pages: int) -> Iterator[tuple[int, bytes]]:
        """Yields the bytes of pages that the dump has left, as (address, bytes)."""
        name = pagemap.pagemap_name(image_id)
        for run in self._kept.with_kept(name, [Run(vaddr, pages, 0, self._memory(name), vaddr)]):
            for block in pagemap.blocks(run, pagemap.PAGE):
                data = os.pread(block.file, block.pages * pagemap.PAGE, block.offset)
                if len(data) < block.pages * pagemap.PAGE:
                    where = f"0x{block.vaddr + len(data):x} of process {image_id}"
                    raise pagemap.PagesError(f"the page at {where} cannot be read any more")
                yield block.vaddr, data

    @contextlib.contextmanager
    def _runs(self, name: str) -> Iterator[tuple[list[Run], list[Run]]]:
        """The runs of a pagemap of the dump: those whose bytes it has written, and those that it has left."""
        with image_set.dumped_runs(self._images, name, self._memory(name)) as dumped:
            runs = self._kept.with_kept(name, dumped)
            present = pagemap.PRESENT
            yield [run for run in runs if run.flags & present], [run for run in runs if not run.flags & present]

    def _memory(self, name: str) -> int:
        memory = self._memories.get(name)
        return memory.memory if memory else self._shared.get(name, -1)

    def _held(self, name: str, runs: list[Run]) -> list[Run]:
        """Those of the runs that the destination has, whatever is in them there."""
        with self._rounds.store.runs(name) as held:
            return [run for run, have in pagemap.side_by_side(runs, held, pagemap.PAGE) if run and have]

    def _touched(self, name: str, runs: list[Run]) -> list[Run]:
        """Those of the runs that may be other ones than at the destination."""
        memory = self._memories.get(name)
        touched = self._rounds.touched([memory], {name: runs}) if memory else {}
        return touched.get(name, runs)

    def _require(self, found: dict[str, list[Run]]) -> None:
        """Every page of the dump has to be in the copy: what stands still can be read."""
        for name, runs in found.items():
            pages = sum(run.pages for run in runs)
            if sum(run.pages for run in self._rounds.store.layout(name)) != pages:
                raise runc.FreezeError(f"not all of the {pages} pages of {name} can be read")

    def close(self) -> None:
        self._stack.close()
