# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The restore at the destination, from the handover until the container runs and all of its memory is here.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.criu import kept_logs, tool
from ansible_collections.fog.migration.plugins.module_utils.docker import etc_files
from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError, Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.memory import lazy_pages, pagemap
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.file_sync import Mounts
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.received_memory import ReceivedMemory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.reopening import Reopening
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.runtime import dump
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import privileges
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore.armed_start import ArmedStart
from ansible_collections.fog.migration.plugins.module_utils.system import background, limits
from ansible_collections.fog.migration.plugins.module_utils.transport import work_dir
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    CURRENT,
    DO,
    DONE,
    HELLO,
    MEMORY,
    NEED,
    PAGES,
    Frames,
    check_greeting,
    greeting,
    parse_memory,
    parse_object,
)
from ansible_collections.fog.migration.plugins.module_utils.validate import load_json_file

# What the source may ask of "runc restore".
OPTIONS = frozenset(dump.OPTIONS)
# Seconds that a container whose pages are missing waits for a source that has gone. Recovery waits longer.
REOPEN_LIMIT = 60


def send_if_there(frames: Frames, kind: bytes, value: object) -> None:
    """Sends this to the source, if it is still there: a container that runs here goes on without it if it can."""
    with contextlib.suppress(ChannelError):
        frames.write_json(kind, value)


def places_apart(config: dict, places: Any) -> Any:
    """Of the places of shared memory that the source has sent, those that are restored apart from CRIU.

    In the server's own IPC namespace, what is shared may be the server's: all of it is left to CRIU.

    :param config: the container's OCI configuration.
    """
    return {} if "ipc" in privileges.host_namespaces(config) else places


class Restore:
    """One restore.

    :param start: waits for it.
    :param handle: is called with each control message that comes during the restore.
    :param reopening: takes a channel that the source opens anew; None where it cannot.
    """

    def __init__(
        self,
        frames: Frames,
        settings: DestinationSettings,
        start: ArmedStart,
        memory: ReceivedMemory,
        handle: Callable[[dict[str, Any]], None],
        reopening: Reopening | None = None,
    ) -> None:
        self._frames = frames
        self._settings = settings
        self._start = start
        self._memory = memory
        self._handle = handle
        self._reopening = reopening
        # What was filled for it, where something was.
        self.mounts: Mounts | None = None
        # Docker's own folder for the container.
        self.docker_folder = ""
        # What the source was told, for one that has opened the channel anew.
        self._said: list[dict[str, Any]] = []
        # Whether the container runs here with all of its memory, or is about to: it needs neither the source nor
        # this program.
        self.is_whole = False
        self.images = os.path.join(settings.staging, "images")
        self.work = os.path.join(settings.staging, "work")
        # What is to become of it, once it is restored: "go", "take back", or "" when the source has gone.
        self.decisions: queue.Queue[str] = queue.Queue()

    def run(self, request: dict[str, Any]) -> None:
        """The handover: the container runs here then, or this says that it neither does nor will, or nothing at all.

        :raises Refused: when it does not run here, and will not.
        :raises Interrupted: when that is not certain.
        """
        began = time.monotonic()
        if not self._start.began:
            raise Refused("the source asked for a restore before it had this end armed")
        try:
            self._begin(request)
            answer = self._start.outcome(self._settings.restore_limit)
            if answer != "running":
                raise Refused(self._why_not(answer))
            writing = background.start(lambda: self._memory.write_shared(self._start.container))
            self._start.require_owned()
            writing.result()
            seconds = round(time.monotonic() - began, 3)
            self._let_run()
            statistics = tool.read_stats(os.path.join(self.work, "stats-restore"))
            self._send({"done": "running", "seconds": seconds, "statistics": statistics})
            self._note(stage="restored", owner="destination")
            self._hold_pages()
            self._complete()
        except (Refused, pagemap.PagesError, journal.JournalError, OSError, *limits.NO_MEMORY) as exc:
            reason = limits.out_of_memory(exc) if isinstance(exc, limits.NO_MEMORY) else str(exc)
            self._start.take_back(reason)
            raise Refused(reason) from exc

    # Before it runs

    def _begin(self, request: dict[str, Any]) -> None:
        options = request.get("options", [])
        if not isinstance(options, list) or not set(map(str, options)) <= OPTIONS:
            raise Refused(f"the source wants a restore with {options}, of which only {sorted(OPTIONS)} are allowed")
        if self.mounts:
            self.mounts.require_in_place()
            self._start.binds = self.mounts.binds
        self._start.etc = self._etc_files()
        places = ["--image-path", self.images, "--work-path", self.work]
        lazily = ["--lazy-pages"] if request.get("lazily") else []
        # Where CRIU waits in our hook before it reads pages, these are made ready beside the runtime's start. To what
        # serves lazy pages it connects before it comes to the hook.
        beside = self._start.network.bundle.has_hook and not lazily
        if not beside:
            self._provide_pages(request)
        self._start.restore([*places, *lazily, *options])
        if beside:
            self._provide_pages(request)

    def _etc_files(self) -> etc_files.Placing | None:
        """The files in its /etc that Docker makes, as the source has sent them with the images."""
        path = os.path.join(self._settings.staging, etc_files.FILE)
        if not os.path.exists(path):
            return None
        try:
            known = etc_files.EtcFiles.from_json(load_json_file(path))
        except ValueError as exc:
            raise Refused(f"the source sent files of its /etc that cannot be read ({exc})") from exc
        return etc_files.Placing(self.docker_folder, known)

    def _provide_pages(self, request: dict[str, Any]) -> None:
        self._memory.give_back_reserved()
        lazily, store, source = (bool(request.get(key)) for key in ("lazily", "store", "source"))
        if store:
            places = places_apart(self._start.network.bundle.config, request.get("shared"))
            self._memory.complete(self.images, lazily, places)
        if lazily:
            self._start_pager(from_source=source, rest_follows=bool(request.get("rest")))
        needs_source = lazily and source
        if needs_source and self._reopening:
            self._reopening.listen(self._frames.interrupt)
        if needs_source or self._settings.together:
            threading.Thread(target=self.listen, args=(needs_source,), daemon=True).start()

    def _start_pager(self, from_source: bool, rest_follows: bool) -> None:
        # If it is lost from now on before all of its memory is here, the source's is the only one.
        limits.spare()
        journal.note(self._settings.migration, memory="arriving")
        # From the source come all pages that are not known to be here, or none is missing here.
        current = 0 if from_source else lazy_pages.EVERYTHING
        self._memory.pager = pager = lazy_pages.Pager(self._memory.store, current, self.request_pages)
        pager.start(self.images, self.work)
        if not rest_follows:
            self._memory.caught_up.set()

    def request_pages(self, request: lazy_pages.Request) -> None:
        """Asks the source for pages; one that has gone is asked again when it is back."""
        need = {"image": request.image_id, "address": request.vaddr, "pages": request.pages}
        try:
            self._frames.write_json(NEED, need)
        except Interrupted:
            if not self._reopening:
                raise

    def listen(self, needs_source: bool) -> None:
        """What the source sends after the request to restore, until it has gone.

        :param needs_source: whether there are pages among it without which the container cannot run.
        """
        try:
            self._hear(needs_source)
        except (ChannelError, pagemap.PagesError, OSError, *limits.NO_MEMORY) as exc:
            if needs_source and self._memory.pager:
                problem = Refused(limits.out_of_memory(exc)) if isinstance(exc, limits.NO_MEMORY) else exc
                self._memory.pager.fail(problem)
        finally:
            self.decisions.put("")
            self._memory.caught_up.set()

    def _hear(self, needs_source: bool) -> None:
        """Takes what the source sends; where it is needed and was lost, over each channel that it opens anew."""
        channel = None
        while True:
            try:
                if channel:
                    self._go_on(channel)
                self._take_frames()
            except Interrupted:
                channel = self._next_channel() if needs_source else None
                if not channel:
                    raise

    def _go_on(self, channel: tuple[int, int]) -> None:
        """The source has opened this channel: it is asked again for pages, and told again how far this end is."""
        self._frames.reopen(*channel, greeting("destination", host=self._settings.host))
        check_greeting(self._frames.expect_object(HELLO), "source")
        if self._memory.pager:
            self._memory.pager.ask_again()
        for value in list(self._said):
            send_if_there(self._frames, DONE, value)

    def _next_channel(self) -> tuple[int, int] | None:
        """The descriptors of the channel that the source has opened anew, or None when it has not within the limit."""
        # Whoever waits for its word does not wait any more: it knows of pages only from now on.
        self.decisions.put("")
        self._memory.caught_up.set()
        return self._reopening.next_channel(REOPEN_LIMIT) if self._reopening else None

    def _take_frames(self) -> None:
        """What the source sends, until it has gone."""
        while True:
            kind, payload = self._frames.expect(PAGES, MEMORY, CURRENT, DO)
            if kind == DO:
                self._handle(parse_object(payload))
            elif kind == MEMORY:
                self._memory.put(payload)
            else:
                self._give_to_pager(kind, payload)

    def _give_to_pager(self, kind: bytes, payload: bytearray) -> None:
        name, vaddr, data = parse_memory(payload)
        if not self._memory.pager:
            raise Refused("the source sent pages that nobody has requested")
        if kind == CURRENT:
            self._memory.pager.now_current(name, vaddr)
        else:
            self._memory.pager.answer(vaddr, data)

    def _why_not(self, answer: str | None) -> str:
        why = self._start.why_not(answer, self._settings.restore_limit)
        why += kept_logs.reason(os.path.join(self.work, "restore.log"))
        daemon = self._memory.pager.why_ended if self._memory.pager else ""
        return f"{why}; {daemon}" if daemon else why

    def _let_run(self) -> None:
        """Has it go on here; until then, none of it has run.

        :raises Refused: when it does not.
        """
        if self._settings.together:
            self._wait_for_others()
            # This server has it from now on, whatever happens.
            with contextlib.suppress(Refused):
                self._go_on_here()
        else:
            self._go_on_here()

    def _go_on_here(self) -> None:
        # What a part of it has done cannot be taken back any more.
        self.is_whole = not self._memory.pager
        try:
            self._start.go_on()
        except Refused:
            self.is_whole = False
            raise

    def _wait_for_others(self) -> None:
        """Returns when it may go on here together with the others.

        :raises Refused: when it may not: then none of them does.
        """
        self._send({"done": "restored"})
        goes = self.decisions.get() == "go"
        if not journal.decide(str(self._settings.migration), self._settings.together, goes):
            raise Refused("not all that moves together could go on")

    # While it runs

    def _hold_pages(self) -> None:
        """A process that misses pages waits for them when this program dies, until the container is removed."""
        if self._memory.pager:
            # It is not the container's fault when that cannot be.
            with contextlib.suppress(OSError):
                self._memory.pager.hold(work_dir.holder(os.path.dirname(self._settings.staging)))

    def _complete(self) -> None:
        """What comes after the downtime: its memory has to be complete."""
        if self._memory.pager:
            self._memory.pager.wait(self._start.on_wait)
            self.is_whole = True
            # It is heard to the end, though no page of it is needed any more.
            self._memory.caught_up.wait()
            self._note(memory="complete")
            self._memory.pager.kill()
        self._send({"done": "complete"})

    def _note(self, **facts: object) -> None:
        journal.note_what_happened(self._settings.migration, **facts)

    def _send(self, value: dict[str, Any]) -> None:
        self._said.append(value)
        send_if_there(self._frames, DONE, value)
