# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container's memory at the source: rounds of pre-copy, the last round, and pages that the destination asks for.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap, soft_dirty, swapped
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import precopy
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.file_frames import send_file
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.frozen_memory import FrozenMemory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import SourceSettings
from ansible_collections.fog.migration.plugins.module_utils.runtime import dump
from ansible_collections.fog.migration.plugins.module_utils.transport import compression, listing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import PAGES, Frames
from ansible_collections.fog.migration.plugins.module_utils.validate import is_whole

# Bytes of memory. To copy so many twice takes less time than what a dump and a restore without them need besides.
SMALL = 32 << 20


def is_lazy(mode: str, possible: bool, memory: int) -> bool:
    """Whether pages are left with the processes, and the container is restored before they are in place.

    Post-copy and hybrid are so by nature; pre-copy is faster that way with much memory, and slower with little.

    :param possible: whether both servers can do it.
    :param memory: bytes of it in the last round of pre-copy.
    """
    return possible and (mode in ("postcopy", "hybrid") or (mode == "precopy" and memory > SMALL))


class SourceMemory:
    """What of the memory is sent when.

    :param settled: is called with the number of a round, and returns when the destination has all of it.
    """

    def __init__(self, frames: Frames, settings: SourceSettings, settled: Callable[[int], object]) -> None:
        self.pages = compression.PageStream(frames, settings.compression, settings.rate_limit)
        self.rounds: precopy.Rounds | None = None
        self.frozen: FrozenMemory | None = None
        self._frames = frames
        self._settings = settings
        self._settled = settled
        self._limits = precopy.Limits()
        self._mode = ""
        self._lazy = False

    # While the container runs

    def prepare_rounds(
        self, limits: precopy.Limits, standstill: Callable[[], AbstractContextManager], only_shared: bool
    ) -> None:
        """Memory is copied in rounds.

        :param standstill: a context in which the container stands still.
        :param only_shared: only what its processes share.
        """
        self._limits = limits
        self.rounds = precopy.Rounds(
            self._settings.container,
            os.path.join(self._settings.staging, "store"),
            self._frames,
            self.pages,
            self._settled,
            standstill if soft_dirty.works() else None,
            only_shared,
        )

    def copy(self) -> str | None:
        """Rounds until the next one would not pay; why it would not. None where memory is not copied in rounds.

        :raises FreezeError: when it cannot be read.
        """
        if not self.rounds:
            return None
        self._require_room()
        return self.rounds.until_enough(self._limits)

    def hurry(self, hurry: bool) -> None:
        """Whether the container stands still, so that the limit to the rate does not count."""
        if self.rounds:
            self.rounds.hurry = hurry

    @property
    def figures(self) -> list[dict[str, Any]]:
        """Bytes and seconds of each round."""
        return self.rounds.figures if self.rounds else []

    # While it is frozen

    def freeze(self, mode: str, images: str) -> bool:
        """The container stands still from now on; whether its dump is to leave pages with the processes.

        :param images: the folder of the dump.
        :raises FreezeError: when they have no room in memory.
        """
        self._mode = mode
        memory = self.figures[-1]["bytes_memory"] if self.rounds else 0
        self.frozen = FrozenMemory(self.rounds, self._settings.container, images)
        # The preflight has refused the modes that have no choice.
        possible = self._settings.lazy_pages and (mode != "precopy" or dump.can_leave(memory, self.frozen.processes))
        self._lazy = is_lazy(mode, possible, memory)
        if self._lazy:
            self._require_room()
        return self._lazy

    @property
    def unwanted_pages(self) -> int:
        """How many files of pages a dump needs not write, because their bytes are read here."""
        if not (self._lazy and self.frozen and self.frozen.can_be_read):
            return 0
        # CRIU writes those of processes first, and then those of their namespaces, of which some nobody can read here.
        return self.frozen.pagemaps

    def _require_room(self) -> None:
        """What is swapped out has to be in memory at once, or nearly so, for whoever reads it or leaves it.

        :raises FreezeError: when there is no room for it: the kernel would kill the container.
        """
        container = self._settings.container
        found = swapped.of(runc.moving(container), runc.control_groups(container))
        if not found.fits:
            raise runc.FreezeError(found.problem)

    def compare_beside_dump(self) -> None:
        """Sends what has changed since the last round, where the dump leaves the memory in place.

        What follows only later, in the other modes, is left out; what a dump cannot leave is not.
        """
        if self.frozen and self.rounds and self._lazy:
            self.frozen.compare(only_shared=self._mode != "precopy")

    def send_images(self, images: str) -> None:
        """The images, and the pages in them: as they are, or as what is new to the destination."""
        if self.frozen and self.rounds:
            self.frozen.finish(later=self._mode in ("hybrid", "postcopy"))
        for entry in listing.files_of(listing.scan(images)):
            if not (self.rounds and pagemap.holds_pages(entry["path"])):
                send_file(self._frames, os.path.join(images, entry["path"]), "images/" + entry["path"])

    def where_pages_are(self) -> dict[str, Any]:
        """Where the destination takes the pages from, for the request to restore.

        C(rest) is whether those that only the source has come there without being asked for, too; C(shared) is where
        processes have mapped what they share, by pagemap, as far as the destination may restore it by itself.
        """
        source = self._lazy and self._mode != "precopy"
        rest = source and self._mode == "hybrid"
        shared = self.frozen.places() if self.frozen and self.rounds else {}
        return {"store": bool(self.rounds), "lazily": self._lazy, "source": source, "rest": rest, "shared": shared}

    # While it runs at the destination

    def send_requested(self, request: dict[str, Any]) -> None:
        """Sends pages that the dump has left with the processes.

        :raises Refused: when this is no request for pages, or comes too early.
        """
        if not all(is_whole(request.get(key)) and request[key] < 1 << 62 for key in ("image", "address", "pages")):
            raise Refused("the destination sent an invalid request for pages")
        if not self.frozen:
            raise Refused("the destination needs pages before the container was frozen")
        name = pagemap.pagemap_name(request["image"])
        for vaddr, data in self.frozen.read(request["image"], request["address"], request["pages"]):
            self.pages.send(PAGES, name, vaddr, data)

    def send_rest(self) -> None:
        """Sends the pages that C(send_images) has left, where the destination has other ones."""
        if self.frozen and self._mode == "hybrid" and self.rounds:
            self.frozen.catch_up()

    def close(self) -> None:
        """The processes' memory is closed."""
        if self.frozen:
            self.frozen.close()
