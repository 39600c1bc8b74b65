# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Source and destination of a live migration in one process, over pipes, without Docker and without a restore.

The integration tests run this file on the lab's nodes as it is.
"""

from __future__ import annotations

import os
import socket
import threading

from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError
from ansible_collections.fog.migration.plugins.module_utils.memory import lazy_pages, pagemap
from ansible_collections.fog.migration.plugins.module_utils.migration import destination
from ansible_collections.fog.migration.plugins.module_utils.migration.precopy import Frozen, Rounds
from ansible_collections.fog.migration.plugins.module_utils.migration.source import Source
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames


class Ends:
    """Both ends for one container; what they have is in the folders C(here) and C(there)."""

    def __init__(self, folder, container):
        (there_in, here_out), (here_in, there_out) = os.pipe(), os.pipe()
        self.container = container
        self._writers = (here_out, there_out)
        order = {"container": container, "host": "there", "staging": f"{folder}/there", "options": []}
        self.destination = destination.Destination(Frames(there_in, there_out, 60), order)
        self.source = Source(Frames(here_in, here_out, 60), {**order, "staging": f"{folder}/here"})
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self.source.greet()
        source = self.source
        self.rounds = Rounds(container, f"{folder}/here", source.frames, source._outgoing, source._settled)

    def _listen(self):
        """As Destination.run() does it, up to the order to restore."""
        try:
            self.destination._greet()
            while self.destination._serve():
                pass
        except (ChannelError, pagemap.PagesError) as exc:
            self.destination._tell(str(exc))

    def freeze(self, images):
        """The last round, of what stands still."""
        self.source.frozen = Frozen(self.rounds, self.container, str(images))
        return self.source.frozen

    def follow(self):
        """From the order to restore on: the destination has a pager, and this is where CRIU would ask it for pages."""
        self.source.frames.write_json(framing.DO, {"do": "give up"})
        self._thread.join()
        self.destination.pager = lazy_pages.Pager(self.destination.store, 0, self.destination._need)
        ours, theirs = socket.socketpair()
        self.destination.pager.serve(ours)
        threading.Thread(target=self.destination._hear, args=(True,), daemon=True).start()
        return theirs

    def close(self):
        for descriptor in self._writers:
            os.close(descriptor)
        self._thread.join()
