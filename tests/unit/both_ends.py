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
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.destination import Destination
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.frozen_memory import FrozenMemory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.precopy import Rounds
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import (
    DestinationSettings,
    SourceSettings,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source import Source
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames


class Ends:
    """Both ends for one container; what they have is in the folders C(here) and C(there)."""

    def __init__(self, folder, container):
        (there_in, here_out), (here_in, there_out) = os.pipe(), os.pipe()
        self.container = container
        self._writers = (here_out, there_out)
        there = DestinationSettings(f"{folder}/there", f"{folder}/nothing.sock", "there", container)
        self.destination = Destination(Frames(there_in, there_out, 60), there)
        here = SourceSettings(container, f"{folder}/here", f"{folder}/nothing.sock")
        self.source = Source(Frames(here_in, here_out, 60), here)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self.source.link.open()
        source = self.source
        self.rounds = Rounds(container, f"{folder}/here", source.frames, source.memory.pages, source._wait_for_round)

    def _listen(self):
        """As Destination.run() does it, up to the request to restore."""
        try:
            self.destination.greet()
            while self.destination.serve_one():
                pass
        except (ChannelError, pagemap.PagesError) as exc:
            self.destination.refuse(str(exc))

    def freeze(self, images):
        """The last round, of what stands still."""
        self.source.memory.frozen = FrozenMemory(self.rounds, self.container, str(images))
        return self.source.memory.frozen

    def follow(self):
        """From the request to restore on: the destination has a pager; returns where CRIU would ask it for pages."""
        self.source.frames.write_json(framing.DO, {"do": "give up"})
        self._thread.join()
        memory, restore = self.destination.memory, self.destination.restore
        memory.pager = lazy_pages.Pager(memory.store, 0, restore.request_pages)
        ours, theirs = socket.socketpair()
        memory.pager.serve(ours)
        threading.Thread(target=restore.listen, args=(True,), daemon=True).start()
        return theirs

    def close(self):
        """Each end hears that the other one has gone.

        What they still say, such as that they are alive, goes nowhere: a number that was only closed would soon be that
        of another file.
        """
        for descriptor in self._writers:
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, descriptor)
            os.close(writer)
        self._thread.join()
