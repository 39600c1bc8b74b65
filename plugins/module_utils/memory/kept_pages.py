# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pages of a container that stands still whose bytes are kept, because a dump changes them or no file shows them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os

from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap
from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import Run
from ansible_collections.fog.migration.plugins.module_utils.system.files import memory_file


class KeptPages:
    """Such pages, at most one of each pagemap. A context manager."""

    def __init__(self) -> None:
        self._file = memory_file()
        self._end = 0
        self._runs: dict[str, Run] = {}

    def __enter__(self) -> KeptPages:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def keep(self, name: str, address: int, content: bytes) -> None:
        """Keeps the bytes of a page."""
        os.pwrite(self._file, content, self._end)
        self._runs[name] = Run(address, 1, 0, self._file, self._end)
        self._end += pagemap.PAGE

    def with_kept(self, name: str, runs: list[Run]) -> list[Run]:
        """The same runs of a pagemap, with what is kept in its place."""
        kept = self._runs.get(name)
        if not kept:
            return runs
        both = pagemap.side_by_side(runs, [kept], pagemap.PAGE)
        return [run._replace(file=have.file, offset=have.offset) if have else run for run, have in both if run]
