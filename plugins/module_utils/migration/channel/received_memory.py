# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory that has come to the destination: pages in a store, and which of them the last round has left in place.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import (
    image_set,
    lazy_pages,
    page_store,
    pagemap,
    shared_restore,
)
from ansible_collections.fog.migration.plugins.module_utils.memory.reserved import Reserved
from ansible_collections.fog.migration.plugins.module_utils.transport import staging
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import LAYOUT, Frames, parse_memory
from ansible_collections.fog.migration.plugins.module_utils.validate import is_whole, shown

# Runs of pages in the layouts of one round.
MAX_RUNS = pagemap.MOST_RUNS


class ReceivedMemory:
    """Pages that arrive.

    :param directory: the folder of the store, which is made with the first page.
    :param room: what of staging there is for it; None for no limit.
    """

    def __init__(self, directory: str, room: staging.Room | None = None) -> None:
        # What answers CRIU's requests for pages, from a lazy restore on.
        self.pager: lazy_pages.Pager | None = None
        # Whether the source has nothing more to send of its own accord, or will not.
        self.caught_up = threading.Event()
        self._directory = directory
        self._room = room
        self._store: page_store.Store | None = None
        self._checksum = hashlib.sha256()
        self._layouts: dict[str, list] = {}
        self._runs = 0
        self._reserved: Reserved | None = None
        self._shared: shared_restore.SharedRestore | None = None

    @property
    def store(self) -> page_store.Store:
        """The pages."""
        self._store = self._store or page_store.Store(self._directory, grow=self._grow)
        return self._store

    def _grow(self, count: int) -> None:
        """A container that runs here already needs its pages more than the server needs room."""
        if self._room:
            self._room.take(count, keep_free=not self.pager)

    def put(self, payload: bytes | bytearray) -> None:
        """Takes the pages of one frame."""
        name, vaddr, data = parse_memory(payload)
        self._checksum.update(data)
        (self.pager or self.store).put(name, vaddr, data)

    def take_layout(self, name: str, frames: Frames) -> None:
        """Takes the list that says which pages a pagemap has now, as [address, pages].

        :raises Refused: when it is malformed, or longer than all layouts of one round may be.
        """
        layout = frames.expect_list(LAYOUT)
        if not pagemap.NAME.fullmatch(name):
            raise Refused(f"{shown(name)} is not the name of a pagemap")
        if not all(isinstance(run, list) and len(run) == 2 and all(map(is_whole, run)) for run in layout):
            raise Refused("the source sent a malformed layout")
        # Each name counts, also that of a pagemap without pages.
        self._runs += len(layout) + 1
        if self._runs > MAX_RUNS:
            raise Refused(f"the source sent layouts of more than {MAX_RUNS} runs of pages")
        if len(self._layouts) >= pagemap.MOST_PAGEMAPS:
            raise Refused(f"the source sent layouts of more than {pagemap.MOST_PAGEMAPS} pagemaps")
        self._layouts[name] = layout

    def settle(self, checksum: Any) -> None:
        """The end of a round: what is here is what the source has a copy of, and nothing else.

        :param checksum: SHA-256 of all pages that were sent so far, in hexadecimal digits.
        :raises Refused: when that of the pages that have come is another one.
        """
        if checksum != self._checksum.hexdigest():
            raise Refused("pages were damaged on the way")
        for name in self.store.names():
            if name not in self._layouts:
                self.store.drop(name)
        for name, layout in self._layouts.items():
            self.store.settle(name, layout)
        self._layouts, self._runs = {}, 0

    def reserve(self) -> None:
        """Sets memory aside for what is restored before the container runs, and that is what processes share."""
        names = filter(pagemap.is_shared, self._store.names() if self._store else [])
        size = pagemap.PAGE * sum(run.pages for name in names for run in self.store.layout(name))
        self._reserved = Reserved(size)
        if size >= shared_restore.LEAST:
            self._shared = shared_restore.SharedRestore(os.path.dirname(self._directory))

    def give_back_reserved(self) -> None:
        """The restore takes memory from now on."""
        if self._reserved:
            self._reserved.give_back()

    def complete(self, images: str, lazily: bool, places: Any) -> None:
        """Gives a dump's images their pages, but those of shared memory that is restored apart.

        :param lazily: see C(image_set.complete).
        :param places: where the source's processes have their shared memory mapped.
        :raises Refused: when the places are malformed.
        """
        found = shared_restore.parse_places(places, self.store.names()) if self._shared else {}
        apart = image_set.set_apart(images, self.store, found)
        image_set.complete(images, self.store, lazily, apart=apart)
        if self._shared:
            self._shared.places = {name: found[name] for name in apart}

    def write_shared(self, container: str) -> None:
        """Writes what is restored apart, once the container is restored, and before it runs.

        :raises Refused: when that fails.
        """
        if not self._shared or not self._shared.places:
            return
        try:
            self._shared.write(self.store, runc.moving(container), lambda one: runc.memory_group(container, one))
        except runc.FreezeError as exc:
            raise Refused(f"the container was restored, and has ended since ({exc})") from exc

    def close(self) -> None:
        """Ends the store, with all that is in it."""
        if self._store:
            self._store.close()

    def kill_programs(self) -> None:
        """Ends the lazy pages daemon and what writes shared memory, if there are such."""
        if self.pager:
            self.pager.kill()
        if self._shared:
            self._shared.close()
