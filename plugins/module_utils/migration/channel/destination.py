# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The destination's end of a live migration: it keeps what arrives in staging, arms Docker, and restores on request.

    source                                  destination
                                    <-      hello
    hello                           ->
    file config.json, do: make      ->              the container is made again, where the source has not had it made
                                    <-      done: made
    do: layer, data, end            ->              what it has changed in its root file system
                                    <-      done: layer
    memory (any number), then       ->              pages into the store; a round of pre-copy
      do: layout, layout            ->              which pages each pagemap has now
      do: settle                    ->
                                    <-      done: round N
    do: arm                         ->              "docker start", which waits inside our OCI runtime
                                    <-      done: armed
    do: files, data, end            ->              into its root file system; any number, see C(file_sync)
                                    <-      done: files N
    memory ... do: settle           ->              the last round, of a container that stands still
    file, data, end (any number)    ->              images into staging, and the files of its /etc that Docker makes
    do: restore                     ->
                                            Docker owns it, and none of it has run
                                    <-      done: restored, if it moves together with others
    do: go, or take back            ->              then, when all of them are
                                    <-      done: running, or refused with the reason
    need                            <-              pages that CRIU asks for and that only the source has
    pages                           ->
    memory, current, ... settle     ->              the rest of what has changed (hybrid)
                                    <-      done: complete (no page is missing any more)

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import etc_files
from ansible_collections.fog.migration.plugins.module_utils.errors import (
    ChannelError,
    CollectionError,
    MigrationError,
    Refused,
)
from ansible_collections.fog.migration.plugins.module_utils.filesystem import roots
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import config, file_sync
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.file_frames import receive_file
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.received_memory import ReceivedMemory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.reopening import Reopening
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.restore import Restore, send_if_there
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.policy import rules
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore.armed_start import ArmedStart
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, files, limits
from ansible_collections.fog.migration.plugins.module_utils.transport import expiry
from ansible_collections.fog.migration.plugins.module_utils.transport import staging as _staging
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    DO,
    DONE,
    FILE,
    HELLO,
    MEMORY,
    REFUSED,
    Frames,
    check_greeting,
    greeting,
    parse_object,
)
from ansible_collections.fog.migration.plugins.module_utils.validate import one_sentence, shown

# Letters of the name of an image, which has the number of a process or of an inode in it.
_LONGEST_NAME = 100


class Destination:
    """One container that is to be restored here. Call run() once.

    :param make: makes the container from the file with its configuration; returns its ID, raises MigrationError.
    :param reopening: takes a channel that the source opens anew; None where it cannot.
    """

    def __init__(
        self,
        frames: Frames,
        settings: DestinationSettings,
        make: Callable[[str], str] | None = None,
        reopening: Reopening | None = None,
    ) -> None:
        self.frames = frames
        self.settings = settings
        self.room = _staging.Room(settings.staging, settings.room)
        self.memory = ReceivedMemory(os.path.join(settings.staging, "store"), self.room)
        # Both of them once the container is here.
        self.start: ArmedStart | None = None
        self.restore: Restore | None = None
        # Whoever does not come to the restore, or does not read what it is told, is not waited for without end.
        frames.write_limit = frames.idle_limit
        frames.quiet_limit = settings.quiet_limit or None
        self._make_container = make
        self._reopening = reopening
        # Where the content of its mounts and its log are on this server.
        self._mounts: file_sync.Mounts | None = None
        self._log: str | None = None

    def run(self) -> None:
        """Serves the source until it has no more requests.

        :raises Refused: with the reason that the source has heard.
        :raises Interrupted: when the source has gone, or nobody can say who has the container.
        """
        try:
            self.greet()
            while self.serve_one():
                pass
        except (Refused, pagemap.PagesError) as exc:
            reason = one_sentence(str(exc))
            self.refuse(reason)
            raise Refused(reason) from exc
        except OSError as exc:
            place = exc.filename or self.settings.staging
            reason = one_sentence(f"{exc.strerror or exc} on {self.settings.host}: {place}")
            self.refuse(reason)
            raise Refused(reason) from exc
        except limits.NO_MEMORY as exc:
            reason = f"{limits.out_of_memory(exc)} ({self.settings.host})"
            self.refuse(reason)
            raise Refused(reason) from exc
        finally:
            self._close()

    def greet(self) -> None:
        """Greets the source, and looks at the container if it is here already."""
        self.frames.write_json(HELLO, greeting("destination", host=self.settings.host))
        check_greeting(self.frames.expect_object(HELLO), "source")
        for name in ("images", "work"):
            os.makedirs(os.path.join(self.settings.staging, name), 0o700, exist_ok=True)
        if self.settings.container:
            self._adopt(self.settings.container)

    def refuse(self, reason: str) -> None:
        """Tells the source why this end does not go on, if the source is still there."""
        with contextlib.suppress(OSError):
            send_if_there(self.frames, REFUSED, {"reason": reason})

    def told_to_end(self, _number: int, _frame: object) -> None:
        """Handles SIGTERM. A container that misses pages is removed before its pager ends; one that is whole stays.

        :raises Refused: as for any other reason not to go on.
        :raises SystemExit: where the container does not need this end any more. Where it never had a pager, this end
            has nothing to wait for, and ends by itself.
        """
        if not self.restore or not self.restore.is_whole:
            raise Refused("it was told to end")
        if self.memory.pager:
            raise SystemExit(1)

    def _adopt(self, container: str) -> None:
        """The container with this ID is the one that is restored into."""
        self.start = ArmedStart(self.settings.docker_socket, container, self._keep_alive)
        self.restore = Restore(self.frames, self.settings, self.start, self.memory, self._handle, self._reopening)
        # While the container's start is under way, Docker tells nothing of it.
        docker_socket, host = self.settings.docker_socket, self.settings.host
        if self.settings.mounts:
            made = journal.made_volumes(self.settings.migration)
            self._mounts = file_sync.Mounts(docker_socket, container, self.settings.mounts, made, _policy, host)
            self.restore.mounts = self._mounts
        if self.settings.log:
            self._log = os.path.join(file_sync.folder_of(docker_socket, container), f"{container}-json.log")

    def _keep_alive(self) -> None:
        """A source that has gone meanwhile does not end what it has requested."""
        with contextlib.suppress(ChannelError):
            self.frames.alive()

    # Requests

    def serve_one(self) -> bool:
        """Serves one message of the source; False when it was the last one."""
        kind, payload = self.frames.expect(FILE, MEMORY, DO)
        if kind == FILE:
            facts = parse_object(payload)
            _require_place(facts.get("path"))
            receive_file(self.frames, self.settings.staging, facts, self.room)
        elif kind == MEMORY:
            self.memory.put(payload)
        else:
            return self._serve_request(parse_object(payload))
        return True

    def _serve_request(self, request: dict[str, Any]) -> bool:
        operation = request.get("do")
        if operation == "restore":
            if not self.restore:
                raise Refused("the source asked for a restore before it had this end armed")
            # What runs here may have nothing to say to the source for long.
            self.frames.quiet_limit = None
            self.restore.run(request)
        if operation in ("restore", "give up"):
            return False
        if operation == "files":
            self._take_files(request)
        else:
            self._handle(request)
        return True

    def _handle(self, request: dict[str, Any]) -> None:
        """One request that may come at any time: while the restore is under way, too."""
        operations = {
            "make": self._make,
            "layer": self._take_layer,
            "arm": self._arm,
            "layout": self._take_layout,
            "settle": self._settle,
            "go": self._decide,
            "take back": self._decide,
        }
        name = str(request.get("do"))
        if name not in operations:
            raise Refused(f"the source asked for {shown(request.get('do'))}, which is nothing that can be done here")
        operations[name](request)

    def _make(self, _request: dict[str, Any]) -> None:
        """The container is made again."""
        if self.start or not self._make_container:
            raise Refused("the source asked for a container to be made that is there already")
        try:
            container = self._make_container(os.path.join(self.settings.staging, config.FILE))
        except MigrationError as exc:
            raise Refused(exc.what) from exc
        self._adopt(container)
        self.frames.write_json(DONE, {"done": "made", "container": container})

    def _take_layer(self, _request: dict[str, Any]) -> None:
        """What the container had changed in its root file system, put where the storage driver keeps it."""
        if not self.start or self.start.began:
            raise Refused("the source sent a layer for a container that is not there, or was started already")
        storage = file_sync.storage_of(self.settings.docker_socket, self.start.container, self.settings.host)
        names = file_sync.receive_layer(self.frames, storage)
        self.frames.write_json(DONE, {"done": "layer", "names": names})

    def _arm(self, _request: dict[str, Any]) -> None:
        """Docker's start waits in our runtime."""
        if not self.start or not self.restore or self.start.began:
            raise Refused("the source asked for an armed container that is not there, or is armed already")
        began = time.monotonic()
        self.restore.docker_folder = file_sync.folder_of(self.settings.docker_socket, self.start.container)
        self.start.arm(self.settings.patience)
        self.memory.reserve()
        self.frames.write_json(DONE, {"done": "armed", "seconds": round(time.monotonic() - began, 3)})

    def _take_files(self, request: dict[str, Any]) -> None:
        tree = str(request.get("tree") or "")
        if tree == file_sync.LOG and self._log:
            count = file_sync.append(self.frames, self._log)
        elif tree:
            count = self._take_content(tree, bool(request.get("fresh")))
        else:
            with roots.of_docker(self._root()) as root:
                count = file_sync.receive(self.frames, root)
        self.frames.write_json(DONE, {"done": f"files {request.get('round')}", "names": count})

    def _take_content(self, place: str, fresh: bool) -> int:
        if not self._mounts or place not in self._mounts:
            raise Refused(f"the source sent files for {shown(place)}, which is no mount that moves")
        return self._mounts.receive(self.frames, place, fresh)

    def _root(self) -> str:
        """The container's root file system."""
        if not self.start or not self.start.is_under_way:
            raise Refused("the source sent files while nothing waited for a restore")
        return file_sync.root_of(self.settings.docker_socket, self.start.folder, self.settings.host)

    def _take_layout(self, request: dict[str, Any]) -> None:
        self.memory.take_layout(str(request.get("name")), self.frames)

    def _settle(self, request: dict[str, Any]) -> None:
        """The end of a round."""
        self.memory.settle(request.get("sha256"))
        self.frames.write_json(DONE, {"done": f"round {request.get('round')}"})
        if self.memory.pager:
            self.memory.caught_up.set()

    def _decide(self, request: dict[str, Any]) -> None:
        """What is to become of a container that waits for others of its group."""
        if self.restore:
            self.restore.decisions.put(request["do"])

    def _close(self) -> None:
        """Leaves nothing behind."""
        self.memory.kill_programs()
        if self.start:
            self.start.close()
        if self._mounts:
            self._mounts.close()
        # Removing staging takes descriptors.
        self.memory.close()
        _staging.remove(self.settings.staging)


def _policy() -> rules.Policy:
    """The policy of this server.

    :raises Refused: when it cannot be used.
    """
    try:
        return rules.read()
    except rules.PolicyError as exc:
        raise Refused(str(exc)) from exc


def _require_place(path: object) -> None:
    """Staging has other folders, which are this end's own.

    :raises Refused: when this is not the place of a file that the source brings.
    """
    folder, _slash, name = path.rpartition("/") if isinstance(path, str) else ("", "", "")
    if path not in (config.FILE, etc_files.FILE) and (folder != "images" or len(name) > _LONGEST_NAME):
        raise Refused(f"the source sends {shown(path)}, which is neither the configuration nor an image")


def main() -> int:
    """Serves the source, which is on the other side of standard input and output."""
    limits.keep_out_of_core_files()
    limits.bound()
    directory = deploy.program_directory() or "."
    reader, writer = sys.stdin.fileno(), sys.stdout.fileno()
    # Until this process ends: whoever has the key can start this program more than once.
    mine = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(os.path.join(directory, deploy.CONFIG), encoding="utf-8") as stream:
            settings = DestinationSettings.from_json(json.load(stream))
        _require_turn(mine, directory, Frames(reader, writer))
        run(directory, settings, reader, writer)
    except (CollectionError, *limits.NO_MEMORY) as exc:
        sys.stderr.write(f"{limits.out_of_memory(exc) if isinstance(exc, limits.NO_MEMORY) else exc}\n")
        return 1
    return 0


def _require_turn(mine: int, directory: str, frames: Frames) -> None:
    """Only the first one that the source starts does anything, and only in time.

    :param mine: the open folder of this migration.
    :raises Refused: otherwise; the source has been told.
    """
    try:
        if not files.lock(mine):
            raise MigrationError("this migration has its channel already, which goes on; this one was refused")
        expiry.require_in_time(directory)
    except MigrationError as exc:
        with contextlib.suppress(OSError):
            send_if_there(frames, REFUSED, {"reason": exc.what})
        raise Refused(exc.what) from exc


def run(
    directory: str,
    settings: DestinationSettings,
    reader: int,
    writer: int,
    make: Callable[[str], str] | None = None,
) -> None:
    """The destination's end of one channel, from its begin to its end.

    :param directory: the private folder of this migration, which is removed at the end.
    :param reader: the descriptor that brings what the source sends; I(writer) takes what it gets.
    :param make: makes the container from the file with its configuration, where it is not here yet; returns its ID,
        raises MigrationError. Who makes it here also accepts a channel that the source opens anew.
    :raises ChannelError: when the container does not run here, with the reason.
    """
    deploy.register(directory)
    limits.raise_open_files()
    destination = Destination(Frames(reader, writer), settings, make, Reopening(directory) if make else None)
    signal.signal(signal.SIGTERM, destination.told_to_end)
    try:
        destination.run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
