# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the source's end hears from the destination: answers, which are kept until somebody waits for them, and
requests for pages, which are answered at once.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError, Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    ALIVE_EVERY,
    DONE,
    HELLO,
    NEED,
    REFUSED,
    Frames,
    check_greeting,
    greeting,
    parse_object,
)

# Answers that are kept before anybody waits for them.
MAX_ANSWERS = 1000


class SourceLink:
    """The source's side of the conversation with the destination.

    :param send_pages: is called with each request for pages, an object for JSON, and sends them.
    """

    def __init__(self, frames: Frames, send_pages: Callable[[dict[str, Any]], None]) -> None:
        self.frames = frames
        self._send_pages = send_pages
        # What is more waits in the channel.
        self._heard: queue.Queue[dict[str, Any] | ChannelError] = queue.Queue(MAX_ANSWERS)
        # By what was done. Nobody has waited for them yet.
        self._answers: dict[str, dict[str, Any]] = {}

    def open(self) -> None:
        """Greets the destination, and listens from then on.

        :raises ChannelError: when it is no destination, or has gone.
        """
        check_greeting(self.frames.expect_object(HELLO), "destination")
        self.frames.write_json(HELLO, greeting("source"))
        for work in (self._listen, self._keep_alive):
            threading.Thread(target=work, daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                kind, payload = self.frames.expect(DONE, NEED, REFUSED)
                if kind == NEED:
                    self._send_pages(parse_object(payload))
                elif kind == REFUSED:
                    self._heard.put(Refused(str(parse_object(payload).get("reason", "no reason given"))))
                else:
                    self._heard.put(parse_object(payload))
        except (ChannelError, pagemap.PagesError, OSError) as exc:
            # Only the destination's own refusal is one; a conversation that broke says nothing of the container.
            self._heard.put(Interrupted(str(exc)))

    def _keep_alive(self) -> None:
        try:
            while True:
                time.sleep(ALIVE_EVERY)
                self.frames.alive()
        except (ChannelError, OSError):
            return

    def wait_for(self, what: str) -> dict[str, Any]:
        """The destination's answer that this is done. Other answers that come meanwhile are kept.

        :raises Refused: only when the destination itself has refused.
        :raises Interrupted: when the conversation broke.
        """
        while what not in self._answers:
            answer = self._heard.get()
            if isinstance(answer, ChannelError):
                raise answer
            if len(self._answers) >= MAX_ANSWERS:
                raise Interrupted("the destination says more than anybody asked for")
            self._answers[str(answer.get("done"))] = answer
        return self._answers.pop(what)
