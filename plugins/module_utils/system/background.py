# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in a thread, whose result or exception is there at its end.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Background(threading.Thread, Generic[T]):
    """Something that goes on meanwhile, from C(start) on."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._result: T | None = None
        self._problem: Exception | None = None

    def run(self) -> None:
        try:
            self._result = self._work()
        except Exception as exc:
            self._problem = exc

    def result(self) -> T:
        """Its result, when it is there; raises what the work raised."""
        self.join()
        if self._problem:
            raise self._problem
        return cast(T, self._result)


def start(work: Callable[[], T]) -> Background[T]:
    """Begins with the work in a thread of its own."""
    thread = Background(work)
    thread.start()
    return thread
