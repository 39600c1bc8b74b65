# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Memory of this server that is set aside for a restore.

A server has hardly any free memory as a rule: what no program has is full of files that were read. While a container
stands still, the kernel should not have to look for memory, nor a hypervisor for that of its guest.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import threading

from ansible_collections.fog.migration.plugins.module_utils.system import host
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK, memory_file

# Bytes. To get more would take seconds, in which other containers may want them.
MOST = 1 << 30


class Reserved:
    """So many bytes, or the most of them, if they are to be had; for nothing else until they are given back."""

    def __init__(self, size: int) -> None:
        self._file = memory_file()
        # It is an aid: the restore asks for its memory itself. The kernel would kill somebody for what there is not.
        if size < (host.available_memory() or 0):
            with contextlib.suppress(OSError):
                self._fill(min(size, MOST))

    def _fill(self, size: int) -> None:
        """Writes it: the kernel takes its time over pages that were only promised when somebody wants them."""
        zeros = memoryview(bytes(CHUNK))
        while size > 0:
            size -= os.write(self._file, zeros[:size])

    @property
    def size(self) -> int:
        """Bytes that are set aside; 0 once they were given back."""
        return os.fstat(self._file).st_blocks * 512 if self._file >= 0 else 0

    def give_back(self) -> None:
        """Returns at once. The kernel takes a moment for each page, and hands out first what it got last."""
        file, self._file = self._file, -1
        if file >= 0:
            threading.Thread(target=os.close, args=(file,), daemon=True).start()
