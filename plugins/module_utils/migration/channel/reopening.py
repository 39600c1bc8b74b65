# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A channel that the source opens anew, because the one before was lost while the container at the destination still
missed pages: the source's program has died, or the connection has.

Who accepts the channel on this server gives it to the destination's end by a Unix socket in the private folder of the
migration.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable

from ansible_collections.fog.migration.plugins.module_utils.system import descriptors

SOCKET = "reopening.sock"


class Reopening:
    """The destination's side: it takes such channels from C(listen) on.

    :param directory: the private folder of the migration.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, SOCKET)
        self._channels: queue.Queue[tuple[int, int]] = queue.Queue()
        # They stay open as long as this process lives: who has given a channel waits for that.
        self._givers: list[socket.socket] = []

    def listen(self, on_arrival: Callable[[], object]) -> None:
        """Channels can be given from now on.

        :param on_arrival: is called with each; C(next_channel) has it right after that.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(self._path)
        listener.listen()
        threading.Thread(target=self._accept, args=(listener, on_arrival), daemon=True).start()

    def _accept(self, listener: socket.socket, on_arrival: Callable[[], object]) -> None:
        while True:
            giver, _address = listener.accept()
            with contextlib.suppress(OSError):
                _data, given = descriptors.receive(giver, 2)
                if len(given) == 2:
                    self._givers.append(giver)
                    on_arrival()
                    self._channels.put((given[0], given[1]))

    def next_channel(self, seconds: float) -> tuple[int, int] | None:
        """The descriptors to read from and to write to, or None when no channel was opened in time."""
        try:
            return self._channels.get(timeout=seconds)
        except queue.Empty:
            return None


def give(directory: str, reader: int, writer: int) -> None:
    """Gives a channel to the destination's end with this folder; returns when that has ended.

    :raises OSError: when it takes none.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.path.join(directory, SOCKET))
        descriptors.send(connection, b"channel", [reader, writer])
        for descriptor in sorted({reader, writer}):
            os.close(descriptor)
        connection.recv(1)
