# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container at the source: who has it, while it moves.

While it is frozen, Docker shows it as paused, and it stays so until the destination has answered how things are there.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import SourceSettings
from ansible_collections.fog.migration.plugins.module_utils.runtime.frozen_container import FrozenContainer

# How things are when a request failed, and what to do. That it runs on as before, only C(MovingContainer.words) says.
_LOOK_THERE = (
    "look there: keep what runs and remove the other, or remove it there and resume this one with docker unpause"
)
STATES = {
    "runs": ("it runs on", "mend the cause and try again"),
    "paused": ("it stays paused here", "resume it with docker unpause"),
    "handed over": (
        "it stays paused here, since nobody can say whether it runs at the destination",
        _LOOK_THERE,
    ),
    "moved": (
        "it was restored at the destination and stays paused here",
        _LOOK_THERE,
    ),
}


class MovingContainer(FrozenContainer):
    """The container at the source."""

    def __init__(self, settings: SourceSettings) -> None:
        images, work = (os.path.join(settings.staging, name) for name in ("images", "work"))
        super().__init__(settings.container, settings.docker_socket, images, work)
        self._migration = settings.migration
        # C(handed over): only the destination knows who has it. Or C(moved), or empty: it is still this server's.
        self._gone = ""
        # Whether the journal says that only the destination knows; None once it must not say so any more.
        self._in_doubt: bool | None = False
        # What is noted beside the sending of the images must not be noted after it was taken back.
        self._noting = threading.Lock()

    @property
    def state(self) -> str:
        """How it is, a key of STATES."""
        return self._gone or ("paused" if self.is_paused else "runs")

    @contextlib.contextmanager
    def standstill(self) -> Iterator[None]:
        """A short pause by Docker's own means: everybody can see and end it, should this program die meanwhile."""
        self._order("pause")
        try:
            yield
        finally:
            self._order("unpause")

    # Who has it

    def note_in_doubt(self) -> None:
        """Notes in the journal, on the disk, that only the destination will know who has it; not once it goes on."""
        with self._noting:
            if self._in_doubt is not None:
                self._in_doubt = True
                journal.note(self._migration, stage="handover", owner="in_doubt")

    def note_handover(self) -> None:
        """From now on, only the destination knows who has it."""
        self._gone = "handed over"

    def note_refusal(self) -> None:
        """The destination itself has answered that it does not have it."""
        self._gone = ""

    def note_moved(self) -> None:
        """It runs at the destination."""
        self._gone = "moved"

    @property
    def words(self) -> tuple[str, str]:
        """How it is, and what to do, as clauses."""
        state, remedy = STATES[self.state]
        if self.state != "runs" or not self.outcome:
            return state, remedy
        return f"it {self.outcome.told()}", "run recover.yml, then try again" if self.outcome.left else remedy

    def close(self) -> None:
        """Ends what was begun with it; if it is only frozen, it runs on.

        :raises FreezeError: when Docker does not resume it.
        """
        if self._gone:
            self.leave()
        else:
            self.resume()

    def _thaw(self) -> None:
        with self._noting:
            if self._in_doubt:
                journal.note_what_happened(self._migration, owner="source")
            self._in_doubt = None
        super()._thaw()
