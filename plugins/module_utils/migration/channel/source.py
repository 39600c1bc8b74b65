# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source's end of a live migration: it holds the warm channel between the tasks, and freezes on request.

One process for one migration, started by C(checkpoint_transfer) or by an agent. Requests come through a socket in the
private folder of the transfer, see C(source_requests).

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
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import etc_files, mounts, runc
from ansible_collections.fog.migration.plugins.module_utils.errors import (
    ChannelError,
    CollectionError,
    Interrupted,
    MigrationError,
    Refused,
)
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import config, file_sync, source_requests
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.file_frames import send_file
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.moving_container import MovingContainer
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import SourceSettings
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_link import SourceLink
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_memory import SourceMemory
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_requests import Request
from ansible_collections.fog.migration.plugins.module_utils.system import background, deploy, limits
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access, ssh_connection, staging
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import DO, Frames


class Source:
    """The container here, the channel to the destination, and how far they are."""

    def __init__(self, frames: Frames, settings: SourceSettings) -> None:
        self.frames = frames
        self.settings = settings
        self.container = MovingContainer(settings)
        self.memory = SourceMemory(frames, settings, self._wait_for_round)
        self.link = SourceLink(frames, self.memory.send_requested)
        self.files = self._file_sync()
        for tree in settings.trees:
            process = runc.first_process(settings.container)[0] if tree.is_bind else 0
            self.files.add_tree(tree.place, tree.root, tree.snapshot, process=process)
        self.files.add_log(settings.log)
        self._copying: background.Background[str] | None = None
        self._armed = False
        # What Docker tells of it, right before its freeze.
        self._inspect: dict[str, Any] = {}
        # Bytes that had been sent when its pause began.
        self._sent_before = 0
        # The destination's answer that the container runs there, and whether it needs nothing from here any more.
        self._running: dict[str, Any] = {}
        self._complete = False

    @property
    def state(self) -> str:
        """How the container is now, a key of C(moving_container.STATES)."""
        return self.container.state

    @property
    def words(self) -> tuple[str, str]:
        """The same, and what to do, as clauses."""
        return self.container.words

    @property
    def may_be_missed(self) -> bool:
        """Whether the container may run at the destination, and wait there for pages that are still here."""
        return self.state in ("handed over", "moved") and not self._complete

    def _file_sync(self) -> file_sync.FileSync:
        return file_sync.FileSync(self.frames, self.settings.container, self.settings.rate_limit, self.wait_for)

    def wait_for(self, what: str) -> dict[str, Any]:
        """The destination's answer that this is done.

        :raises Refused: when the destination itself has refused: it does not have the container then.
        :raises Interrupted: when the conversation broke.
        """
        try:
            return self.link.wait_for(what)
        except Refused:
            self.container.note_refusal()
            raise

    def _wait_for_round(self, number: int) -> None:
        self.wait_for(f"round {number}")

    def handle(self, request: Request) -> dict[str, Any]:
        """Does what is requested; its result."""
        operations = {
            "make": self._make,
            "progress": self._progress,
            "arm": self._arm,
            "ready": self._ready,
            "pause": self._pause,
            "go": self._go,
            "finish": self._finish,
            "give up": self._give_up,
            "end": self._end,
        }
        if request.operation == "copy":
            return self._copy(request)
        if request.operation == "freeze":
            return self._freeze(request.mode)
        return operations[request.operation]()

    # The container is made at the destination

    def _make(self) -> dict[str, Any]:
        """Has the destination make the container again, with what it has changed in its root file system; its ID there.

        It is armed right before the freeze. While the start of a container waits, Docker there answers no question
        about it, and what Docker counts of its log would not be right.
        """
        known = config.describe(self.settings.docker_socket, self.container.id, self.settings.mounts)
        journal.note(self.settings.migration, moving={"volumes": known.config.moving_volumes()})
        self._send_config(known.config)
        made = self.wait_for("made")
        self.files = self._file_sync()
        self._sync_layer(known)
        process = known.config.inspect.get("State", {}).get("Pid") or 0
        there = {one["destination"]: one for one in mounts.of_container(known.config.inspect)}
        for place in known.config.moving:
            compared = process if there[place]["type"] == "bind" else 0
            self.files.add_tree(place, there[place]["source"], process=compared)
        self.files.add_log(container_log.path_of(known.config.inspect) if self.settings.with_log else None)
        return {"container": str(made.get("container"))}

    def _send_config(self, known: config.Config) -> None:
        self._send_json(known.to_json(), config.FILE)
        self.frames.write_json(DO, {"do": "make"})

    def _send_json(self, value: object, name: str) -> None:
        """Sends this as a file of the destination's staging."""
        path = os.path.join(self.settings.staging, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            json.dump(value, stream)
        send_file(self.frames, path, name)
        os.unlink(path)

    def _sync_layer(self, known: config.Description) -> None:
        """Sends what the container has changed in its root file system, which is kept equal from then on."""
        if not known.storage:
            return
        self.frames.write_json(DO, {"do": "layer"})
        there = file_sync.send_layer(
            self.frames,
            known.storage,
            runc.processes(self.container.id),
            self.settings.rate_limit,
            lambda: config.changes(self.settings.docker_socket, self.container.id),
        )
        self.wait_for("layer")
        self.files.add_tree("", known.storage.folder, there=there)

    def _arm(self) -> dict[str, Any]:
        """Docker at the destination begins the start of the container, which waits in our OCI runtime."""
        if not self._armed:
            self.container.network.prepare()
            self.frames.write_json(DO, {"do": "arm"})
            self.wait_for("armed")
            self._armed = True
        return {"done": "armed"}

    # Pre-copy

    def _copy(self, request: Request) -> dict[str, Any]:
        if request.memory:
            self.memory.prepare_rounds(request.limits, self.container.standstill, request.only_shared)
        self._copying = background.start(self._copy_all)
        return {}

    def _copy_all(self) -> str:
        """Copies files and memory; why it has ended."""
        self.files.begin()
        return self.memory.copy() or "the volumes were copied"

    def _progress(self) -> dict[str, Any]:
        """How far the rounds are; C(ended) is why there are no more, where they have ended."""
        if not self._copying:
            raise Refused("nothing was copied beforehand")
        result: dict[str, Any] = {"rounds": [], "tracked": False, "round": 0, "bytes": 0, "done": 0, "ended": None}
        rounds = self.memory.rounds
        if rounds:
            result.update(rounds=rounds.figures, tracked=rounds.tracked, **rounds.progress)
        result.update(sent=self.frames.sent, saved=self.memory.pages.saved, clock=round(time.monotonic(), 3))
        if not self._copying.is_alive():
            result["ended"] = self._copying.result()
        return result

    # Freeze

    def _ready(self) -> dict[str, Any]:
        """What was written since the last round would only make the downtime longer."""
        if self._copying:
            self._copying.result()
        self.files.catch_up()
        self.memory.copy()
        self._inspect = config.inspect_of(self.settings.docker_socket, self.container.id)
        # What cannot be read is told while it runs.
        etc_files.read(self._inspect)
        return {}

    def _pause(self) -> dict[str, Any]:
        """It stands still from now on, and its network with it."""
        self.container.prepare_dump()
        self.container.network.drain_pending()
        self._sent_before = self.frames.sent
        self.container.pause()
        self.memory.hurry(True)
        self.container.lock_network()
        return {}

    def _freeze(self, mode: str) -> dict[str, Any]:
        """From running here to running there. Whatever fails before the handover, it runs on here."""
        if self.state == "runs":
            self._ready()
            self._pause()
        closed, filed = self._dump(mode)
        dumped = time.monotonic()
        # On the disk before the handover, beside the sending.
        noting = background.start(self.container.note_in_doubt)
        self.memory.send_images(self.container.images)
        noting.result()
        arrived, sent = time.monotonic(), self.frames.sent
        there = self._hand_over()
        seconds = {
            "pause": round(self.container.locked_at - self.container.paused_at, 3),
            "dump": round(dumped - self.container.locked_at, 3),
            "files": filed,
            "send": round(arrived - dumped, 3),
            **there,
        }
        return {
            "bytes_sent": sent - self._sent_before,
            "files_sent": self.files.figures,
            "connections_closed": closed,
            "seconds": seconds,
        }

    def _dump(self, mode: str) -> tuple[list[str], float]:
        """Dumps it, and sends meanwhile what was written to its files and, where that is possible, to its memory.

        :returns: the connections that cannot go on, and for how many seconds files were sent.
        """
        looking = background.start(self.files.look)
        lazy = self.memory.freeze(mode, self.container.images)
        dump = self.container.start_dump(lazy, self.memory.unwanted_pages)
        self.memory.compare_beside_dump()
        looking.result()
        began = time.monotonic()
        self.files.send()
        self._send_json(etc_files.read(self._inspect).to_json(), etc_files.FILE)
        filed = round(time.monotonic() - began, 3)
        dump.wait()
        return self.container.network.detach_sockets(self.container.images), filed

    def _hand_over(self) -> dict[str, float]:
        """From now on, only the destination knows who has it; seconds of the phases there."""
        self.container.note_handover()
        request = {"do": "restore", "options": self.settings.restore_options, **self.memory.where_pages_are()}
        self.frames.write_json(DO, request)
        return self._wait_restored() if self.settings.together else self._wait_running()

    def _wait_restored(self) -> dict[str, float]:
        """It is restored there, and waits for the others that move with it."""
        self.wait_for("restored")
        return {"together": round(time.monotonic() - self.container.paused_at, 3)}

    def _go(self) -> dict[str, Any]:
        """From waiting there to running there."""
        self.frames.write_json(DO, {"do": "go"})
        return self._wait_running()

    def _wait_running(self) -> dict[str, float]:
        """It runs there; how long that took."""
        self._running = self.wait_for("running")
        end = time.monotonic()
        self.container.note_moved()
        self.memory.hurry(False)
        self.container.network.reset_orphans()
        return {"restore": _seconds(self._running), "downtime": round(end - self.container.paused_at, 3)}

    # The end

    def _finish(self) -> dict[str, Any]:
        if self.state != "moved":
            raise Refused("nothing was moved")
        began = time.monotonic()
        self.memory.send_rest()
        self.wait_for("complete")
        self._complete = True
        seconds = round(time.monotonic() - began, 3)
        statistics = self.container.dump_statistics()
        theirs = self._running.get("statistics")
        statistics.update(theirs if isinstance(theirs, dict) else {})
        return {"seconds": seconds, "statistics": statistics, "rounds": self.memory.figures}

    def _take_back(self) -> None:
        """What waits there goes on here, unless another one of its group runs there already: then it does so too."""
        if self.state != "handed over" or not self.settings.together:
            return
        self.frames.write_json(DO, {"do": "take back"})
        with contextlib.suppress(Refused):
            self._wait_running()

    def _give_up(self) -> dict[str, Any]:
        """Lets the container go on, unless only the destination can say who has it."""
        self._take_back()
        if self.state in ("handed over", "moved"):
            raise Interrupted("the destination may have the container already")
        self.close()
        return {}

    def _end(self) -> dict[str, Any]:
        """The end of a migration that nobody waits for any more."""
        self._take_back()
        return self._finish() if self.state == "moved" else self._give_up()

    def close(self) -> None:
        """Ends everything here; a container that is only frozen runs on."""
        # A dump may read the memory still.
        self.container.wait_for_dump()
        self.memory.close()
        self.container.close()
        self.files.close()
        staging.remove(self.settings.staging)


def _seconds(answer: dict[str, Any]) -> float:
    """How long the destination says that it took; 0 when it says something else."""
    seconds = answer.get("seconds")
    return seconds if isinstance(seconds, (int, float)) else 0


def _terminate(_number: int, _frame: object) -> None:
    raise SystemExit(1)


def main() -> int:
    """Opens the channel, makes its socket once that is open, serves, and leaves nothing behind."""
    limits.keep_out_of_core_files()
    limits.bound()
    directory = deploy.program_directory() or "."
    try:
        with open(os.path.join(directory, deploy.CONFIG), encoding="utf-8") as stream:
            settings = SourceSettings.from_json(json.load(stream))
        ssh = settings.ssh
        if not ssh:
            raise MigrationError("the settings of the source's end have no connection")
        run(directory, settings, ssh_access.ssh_command(ssh.key, ssh.hosts_file, ssh.user, ssh.address, ssh.port))
    except (CollectionError, *limits.NO_MEMORY) as exc:
        sys.stderr.write(f"{limits.out_of_memory(exc) if isinstance(exc, limits.NO_MEMORY) else exc}\n")
        return 1
    return 0


def run(directory: str, settings: SourceSettings, command: list[str], supervised: bool = False) -> None:
    """The source's end of one channel, from its begin to its end.

    :param directory: the private folder of this migration, which is removed at the end.
    :param command: the words of the command whose standard input and output are the channel.
    :param supervised: whether there is somebody who goes on when the channel is lost: then the folder stays for that.
    :raises ChannelError: when the channel could not be opened, or broke.
    """
    deploy.register(directory)
    limits.raise_open_files()
    # As any other end: what is only frozen goes on.
    signal.signal(signal.SIGTERM, _terminate)
    connection = ssh_connection.SshConnection(command, time.monotonic() + settings.lifetime)
    source = Source(Frames(connection.stdout.fileno(), connection.stdin.fileno(), None), settings)
    try:
        source.link.open()
        source_requests.serve(source, source_requests.listen(directory), settings.patience)
    except ChannelError as exc:
        raise Interrupted(ssh_access.ssh_complaint(connection.lines) or str(exc)) from exc
    finally:
        source.close()
        connection.close()
        if not (supervised and source.may_be_missed):
            shutil.rmtree(directory, ignore_errors=True)
