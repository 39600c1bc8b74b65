# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source's end of a channel after the one that has frozen the container was lost.

The container runs at the destination, or is about to, and pages of it are still in the processes that stand still here.
They can be read by any process: this one opens the channel anew and sends those that the destination asks for, until
none is missing. It changes nothing of the container here.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import (
    moving_container,
    source_requests,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.frozen_memory import FrozenMemory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import SourceSettings
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_link import SourceLink
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_memory import SourceMemory
from ansible_collections.fog.migration.plugins.module_utils.system import background, deploy, limits
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access, ssh_connection
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames

# Seconds for which it is tried to open the channel, and between two tries.
LIMIT = 90
_PAUSE = 1.0
# The exit code of ssh itself; any other one is that of the program at the destination.
_SSH_FAILED = 255


class ResumedSource:
    """The source's end that goes on with pages.

    :param command: the words of the command whose standard input and output are the channel.
    """

    # As the end before has left it; a key of C(moving_container.STATES), and what that means.
    state = "handed over"
    words = moving_container.STATES[state]

    def __init__(self, settings: SourceSettings, command: list[str]) -> None:
        self._settings = settings
        self._command = command
        self._deadline = time.monotonic() + LIMIT
        self._sending = background.start(self._send_pages)

    def handle(self, request: source_requests.Request) -> dict[str, Any]:
        """Answers a request to finish, or to end, when no page is missing any more.

        :raises Interrupted: when pages are missing and the destination cannot be reached.
        :raises Refused: when the destination does not need them any more.
        """
        if request.operation not in source_requests.LAST:
            raise Interrupted("the end that had this container was lost")
        began = time.monotonic()
        self._sending.result()
        return {"seconds": round(time.monotonic() - began, 3), "statistics": {}, "rounds": []}

    def close(self) -> None:
        """Nothing was begun here that has to be ended."""

    def _send_pages(self) -> None:
        while True:
            try:
                return self._send_until_complete()
            except Interrupted:
                if time.monotonic() > self._deadline:
                    raise
            time.sleep(_PAUSE)

    def _send_until_complete(self) -> None:
        """Returns when no page is missing at the destination."""
        connection = ssh_connection.SshConnection(self._command, time.monotonic() + self._settings.lifetime)
        frames = Frames(connection.stdout.fileno(), connection.stdin.fileno())
        memory = SourceMemory(frames, self._settings, lambda _number: None)
        link = SourceLink(frames, memory.send_requested)
        memory.frozen = FrozenMemory(None, self._settings.container, "")
        try:
            link.open()
            self._deadline = time.monotonic() + LIMIT
            link.wait_for("complete")
        except Interrupted as exc:
            connection.close()
            complaint = ssh_access.ssh_complaint(connection.lines) or str(exc)
            if connection.process.returncode not in (0, _SSH_FAILED):
                raise Refused(complaint) from exc
            raise Interrupted(complaint) from exc
        finally:
            memory.close()
            connection.close()


def run(directory: str, settings: SourceSettings, command: list[str]) -> None:
    """Takes the place of a source's end that was lost: answers at its socket, and sends the pages.

    :param directory: the private folder of the migration.
    :param command: opens the channel anew.
    """
    deploy.register(directory)
    # The memory of each process is a file that is open here.
    limits.raise_open_files()
    listener = source_requests.listen(directory)
    source_requests.serve(ResumedSource(settings, command), listener, settings.patience)
