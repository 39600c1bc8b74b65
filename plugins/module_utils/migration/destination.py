# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The destination's end of a live migration: it keeps what arrives in staging, arms Docker, and restores when told.

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
    do: files, data, end            ->              into its root file system; any number, see _following
                                    <-      done: files N
    memory ... do: settle           ->              the last round, of a container that stands still
    file, data, end (any number)    ->              images into staging
    do: restore                     ->
                                    <-      done: restored, if it moves together with others: none of it has run
    do: go, or take back            ->              then, when all of them are
                                    <-      done: running, or refused with the reason
    need                            <-              pages that CRIU asks for and that only the source has
    pages                           ->
    memory, current, ... settle     ->              the rest of what has changed (hybrid)
                                    <-      done: started (Docker owns it), done: complete (no page is missing any more)

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import select
import shutil
import sys
import threading
import time

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import engine, runc
from ansible_collections.fog.migration.plugins.module_utils.errors import (
    ChannelError,
    Interrupted,
    MigrationError,
    Refused,
)
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.memory import image_set, lazy_pages, page_store, pagemap
from ansible_collections.fog.migration.plugins.module_utils.migration import config, file_sync, group
from ansible_collections.fog.migration.plugins.module_utils.network import restore_network
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import staging as _staging
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    CURRENT,
    DATA,
    DO,
    DONE,
    END,
    FILE,
    HELLO,
    LAYOUT,
    MEMORY,
    NEED,
    PAGES,
    REFUSED,
    Frames,
    check_greeting,
    greeting,
    parse_memory,
    parse_object,
)
from ansible_collections.fog.migration.plugins.module_utils.validate import check_path, is_whole

RUNTIME = "/run/fog-migration/runtime"
# What the source may ask of "runc restore".
OPTIONS = frozenset(("--tcp-established", "--ext-unix-sk", "--file-locks", "--shell-job"))
# Seconds that our OCI runtime waits for the order.
PATIENCE = 900
# Runs of pages in the layouts of one round.
MOST_RUNS = 2000000
# Seconds for Docker to remove a container.
TAKE_BACK_LIMIT = 60


class Fifo:
    """A FIFO that stays open here: nobody waits who opens its other side, and this process's death is its end."""

    def __init__(self, path):
        os.mkfifo(path, 0o600)
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._rest = b""

    def say(self, line):
        os.write(self.fd, line.encode("ascii") + b"\n")

    def line(self, seconds):
        """The next line, or None when none came in time."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            if not select.select([self.fd], [], [], max(0, deadline - time.monotonic()))[0]:
                return None
            self._rest += os.read(self.fd, 4096)
        line, _newline, self._rest = self._rest.partition(b"\n")
        return line.decode("ascii", "replace")

    def close(self):
        os.close(self.fd)


class Start(threading.Thread):
    """Docker's start, under way."""

    def __init__(self, docker_socket, container):
        super().__init__(daemon=True)
        self._docker_socket = docker_socket
        self._path = f"/containers/{container}/start"
        self.problem = None

    def run(self):
        self.problem = engine.call(self._docker_socket, "POST", self._path)


class Destination:
    """One container that is to be restored here. Call run() once."""

    def __init__(self, frames, order, make=None):
        self.frames = frames
        self._make_container = make
        self.order = order
        self.container = order.get("container")
        self.staging = order["staging"]
        self.images = os.path.join(self.staging, "images")
        self.work = os.path.join(self.staging, "work")
        self.prepared = self.network = None
        self.start = None
        self.fifos = {}
        self.store = None
        self.pager = None
        self._checksum = hashlib.sha256()
        self._layouts = {}
        self.mounts = {}
        self.log = None
        # Whether the source has nothing more to send of its own accord, or will not.
        self._caught_up = threading.Event()
        # What is to become of it, once it is restored: "go", "take back", or "" when the source has gone.
        self._words = queue.Queue()

    def run(self):
        """Serves the source until it has no more wishes. Raises Refused (the source has been told) or Interrupted."""
        try:
            self._greet()
            while self._serve():
                pass
        except Refused as exc:
            self._tell(str(exc))
            raise
        except pagemap.PagesError as exc:
            self._tell(str(exc))
            raise Refused(str(exc)) from exc
        except OSError as exc:
            reason = f"{exc.strerror or exc} on {self.order['host']}: {exc.filename or self.staging}"
            self._tell(reason)
            raise Refused(reason) from exc
        finally:
            self._give_up()

    def _greet(self):
        self.frames.write_json(HELLO, greeting("destination", host=self.order["host"]))
        check_greeting(self.frames.expect_object(HELLO), "source")
        for folder in (self.images, self.work):
            os.makedirs(folder, 0o700, exist_ok=True)
        if self.container:
            self._adopt(self.container)

    def _adopt(self, container):
        """The container with this ID is the one that is restored into."""
        self.container = container
        self.prepared = os.path.join(RUNTIME, container)
        self.network = restore_network.RestoreNetwork(self.prepared)
        # While the container's start is under way, Docker tells nothing of it.
        self.mounts = {place: self._mount(place) for place in self.order.get("mounts", [])}
        if self.order.get("log"):
            self.log = file_sync.log_of(self.order["docker_socket"], container)

    def _mount(self, place):
        return file_sync.mount_of(self.order["docker_socket"], self.container, place, self.order["host"])

    # The container is made again

    def _make(self, _wish):
        if self.container or not self._make_container:
            raise Refused("the source asked for a container to be made that is there already")
        try:
            container = self._make_container(os.path.join(self.staging, config.FILE))
        except MigrationError as exc:
            raise Refused(exc.what) from exc
        self._adopt(container)
        self.frames.write_json(DONE, {"done": "made", "container": container})

    def _take_layer(self, _wish):
        """What the container had changed in its root file system, put where the storage driver keeps it."""
        if not self.container or self.start:
            raise Refused("the source sent a layer for a container that is not there, or was started already")
        storage = file_sync.storage_of(self.order["docker_socket"], self.container, self.order["host"])
        names = file_sync.receive_layer(self.frames, storage)
        self.frames.write_json(DONE, {"done": "layer", "names": names})

    def _serve(self):
        """One wish of the source; False when it was the last one."""
        kind, payload = self.frames.expect(FILE, MEMORY, DO)
        if kind == FILE:
            receive_file(self.frames, self.staging, parse_object(payload))
            return True
        if kind == MEMORY:
            self._keep(payload)
            return True
        wish = parse_object(payload)
        if wish.get("do") == "restore":
            self._restore(wish)
        if wish.get("do") in ("restore", "give up"):
            return False
        if wish.get("do") == "files":
            self._take_files(wish)
        else:
            self._obey(wish)
        return True

    def _obey(self, wish):
        verbs = {"arm": self._arm, "layout": self._note_layout, "settle": self._settle}
        verbs.update({"make": self._make, "layer": self._take_layer})
        verbs.update(dict.fromkeys(("go", "take back"), self._hear_word))
        if str(wish.get("do")) not in verbs:
            raise Refused(f"the source asked for {wish.get('do')!r}, which is nothing that can be done here")
        verbs[wish["do"]](wish)

    def _hear_word(self, wish):
        self._words.put(wish["do"])

    # Rounds

    def _keep(self, payload):
        name, vaddr, data = parse_memory(payload)
        self._checksum.update(data)
        if self.pager:
            self.pager.put(name, vaddr, data)
        else:
            self._open_store().put(name, vaddr, data)

    def _open_store(self):
        self.store = self.store or page_store.Store(os.path.join(self.staging, "store"))
        return self.store

    def _note_layout(self, wish):
        layout = self.frames.expect_list(LAYOUT)
        if not all(isinstance(run, list) and len(run) == 2 and all(map(is_whole, run)) for run in layout):
            raise Refused("the source sent a layout that is none")
        # Each name counts, also that of a pagemap without pages.
        if sum(len(known) + 1 for known in self._layouts.values()) + len(layout) > MOST_RUNS:
            raise Refused(f"the source sent layouts of more than {MOST_RUNS} runs of pages")
        self._layouts[str(wish.get("name"))] = layout

    def _settle(self, wish):
        """The end of a round: what is here is what the source has a copy of, and nothing else."""
        if wish.get("sha256") != self._checksum.hexdigest():
            raise Refused("pages were damaged on the way")
        store = self._open_store()
        for name in store.names():
            if name not in self._layouts:
                store.drop(name)
        for name, layout in self._layouts.items():
            store.settle(name, layout)
        self._layouts = {}
        self.frames.write_json(DONE, {"done": f"round {wish.get('round')}"})
        if self.pager:
            self._caught_up.set()

    # Docker's start waits in our runtime

    def _arm(self, _wish):
        if not self.container or self.start:
            raise Refused("the source asked for an armed container that is not there, or is armed already")
        began = time.monotonic()
        os.makedirs(RUNTIME, 0o700, exist_ok=True)
        os.mkdir(self.prepared, 0o700)
        self.fifos = {name: Fifo(os.path.join(self.prepared, name)) for name in ("order", "answer")}
        self._write("patience", str(int(self.order["patience"])))
        self.start = Start(self.order["docker_socket"], self.container)
        self.start.start()
        answer = self._answer(60)
        if answer != "armed":
            raise Refused(self._docker_said("Docker did not come to the restore"))
        self.network.prepare(self._annotations())
        self.frames.write_json(DONE, {"done": "armed", "seconds": round(time.monotonic() - began, 3)})

    def _annotations(self):
        if not self.order.get("together"):
            return {}
        return group.configuration(os.path.join(self.prepared, "criu.conf"))

    def _write(self, name, text):
        with open(os.path.join(self.prepared, name), "w", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def _answer(self, seconds):
        """What the runtime says; None when Docker's start ended without a word of it, or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            line = self.fifos["answer"].line(0.2 if self.start.is_alive() else 0)
            if line is not None or not self.start.is_alive():
                return line
            # A source that has gone meanwhile does not end what it ordered.
            self._alive()
        return None

    def _take_files(self, wish):
        tree = str(wish.get("tree") or "")
        if tree == file_sync.LOG and self.log:
            count = file_sync.append(self.frames, self.log)
        else:
            count = file_sync.receive(self.frames, self._tree(tree), bool(wish.get("fresh")))
        self.frames.write_json(DONE, {"done": f"files {wish.get('round')}", "names": count})

    def _tree(self, place):
        """The folder into which files of this tree go."""
        if place and place not in self.mounts:
            raise Refused(f"the source sent files for {place}, which is no mount that moves")
        if place:
            return self.mounts[place]
        if not self.start or not self.start.is_alive():
            raise Refused("the source sent files while nothing waited for a restore")
        return file_sync.root_of(self.order["docker_socket"], self.prepared, self.order["host"])

    # Restore

    def _restore(self, wish):
        """The handover: the container runs here then, or this says that it neither does nor will, or nothing at all."""
        began = time.monotonic()
        if not self.start:
            raise Refused("the source asked for a restore before it had this end armed")
        try:
            self._order(wish)
            answer = self._outcome()
            if answer != "running":
                raise Refused(self._why_not(answer))
            seconds = round(time.monotonic() - began, 3)
            if self.order.get("together"):
                self._go_together()
            self.network.announce()
            statistics = tool.read_stats(os.path.join(self.work, "stats-restore"))
            self._say(DONE, {"done": "running", "seconds": seconds, "statistics": statistics})
            self._note(stage="restored", owner="destination")
            self._follow()
        except (Refused, pagemap.PagesError, journal.JournalError, OSError) as exc:
            self._take_back(str(exc))
            raise Refused(str(exc)) from exc

    def _go_together(self):
        """Returns when it goes on here together with the others; until then, none of it has run.

        :raises Refused: when it does not: then none of them does.
        """
        identity, together = self.order["migration"], self.order["together"]
        group.require_stopped(self.container)
        self._say(DONE, {"done": "restored"})
        if not journal.decide(identity, together, self._words.get() == "go"):
            raise Refused("not all that moves together could go on")
        # It has it from now on, whatever happens.
        with contextlib.suppress(OSError, runc.FreezeError):
            group.resume(self.container)

    def _outcome(self):
        """What the runtime says in the end. Before that, our hook in it says whose network is to be guarded."""
        answer = self._answer(self.order["restore_limit"])
        if answer and answer.startswith("{"):
            self.network.install_filter(answer)
            self.fifos["order"].say("guarded")
            answer = self._answer(self.order["restore_limit"])
        return answer

    def _order(self, wish):
        options = wish.get("options", [])
        if not isinstance(options, list) or not set(map(str, options)) <= OPTIONS:
            raise Refused(f"the source wants a restore with {options}, of which only {sorted(OPTIONS)} are allowed")
        places = ["--image-path", self.images, "--work-path", self.work]
        if wish.get("store"):
            image_set.complete(self.images, self._open_store(), bool(wish.get("lazily")))
        if wish.get("lazily"):
            # If it is lost from now on before all of its memory is here, the source's is the only one.
            journal.note(self.order.get("migration"), memory="arriving")
            # From the source come all pages that are not known to be here, or none is missing here.
            current = 0 if wish.get("source") else lazy_pages.EVERYTHING
            self.pager = lazy_pages.Pager(self._open_store(), current, self._need)
            self.pager.start(self.images, self.work)
            if not (wish.get("store") and wish.get("source")):
                self._caught_up.set()
            places.append("--lazy-pages")
        needs = bool(wish.get("lazily") and wish.get("source"))
        if needs or self.order.get("together"):
            threading.Thread(target=self._hear, args=(needs,), daemon=True).start()
        self._write("options", "\n".join([*places, *options]))
        self.fifos["order"].say("restore")

    def _need(self, request):
        need = {"image": request.image_id, "address": request.vaddr, "pages": request.pages}
        self.frames.write_json(NEED, need)

    def _hear(self, needs):
        """What the source sends after the order to restore.

        :param needs: whether there are pages among it without which the container cannot run.
        """
        try:
            while True:
                kind, payload = self.frames.expect(PAGES, MEMORY, CURRENT, DO)
                if kind == DO:
                    self._obey(parse_object(payload))
                elif kind == MEMORY:
                    self._keep(payload)
                elif kind == CURRENT:
                    self.pager.now_current(*parse_memory(payload)[:2])
                else:
                    self.pager.answer(*parse_memory(payload)[1:])
        except (ChannelError, pagemap.PagesError, OSError) as exc:
            if needs:
                self.pager.fail(exc)
        finally:
            self._words.put("")
            self._caught_up.set()

    def _why_not(self, answer):
        if answer is None and self.start.is_alive():
            return f"the restore did not end within {self.order['restore_limit']} seconds"
        return self._docker_said("the restore failed") + tool.reason_in(os.path.join(self.work, "restore.log"))

    def _docker_said(self, otherwise):
        self.start.join(5)
        return self.start.problem or otherwise

    def _take_back(self, reason):
        """Returns when the container neither runs here nor will.

        :raises Interrupted: when that is not certain: the source must not hear a refusal then.
        """
        for fifo in self.fifos.values():
            fifo.close()
        self.fifos = {}
        runc.kill_restore(self.container)
        self.start.join(30)
        path = f"/containers/{self.container}?force=1&v=1"
        problem = engine.call(self.order["docker_socket"], "DELETE", path, TAKE_BACK_LIMIT)
        if self.start.is_alive() or (problem and "No such container" not in problem):
            raise Interrupted(f"{reason}, and Docker does not let go of the container ({problem or 'no answer'})")

    def _follow(self):
        """What comes after the downtime: Docker has to own the container, and its memory has to be complete."""
        self.start.join(60)
        if self.start.is_alive() or self.start.problem:
            raise Refused(f"the container ran, but Docker did not own it ({self.start.problem or 'no answer'})")
        self._say(DONE, {"done": "started"})
        if self.pager:
            self.pager.wait(self._alive)
            # It is heard to the end, though no page of it is needed any more.
            self._caught_up.wait()
            self._note(memory="complete")
            self.pager.kill()
        self._say(DONE, {"done": "complete"})

    def _note(self, **facts):
        journal.note_what_happened(self.order.get("migration"), **facts)

    def _alive(self):
        with contextlib.suppress(ChannelError):
            self.frames.alive()

    def _say(self, kind, what):
        """Tells the source, if it is still there: once the container runs here, it goes on without it if it can."""
        with contextlib.suppress(ChannelError):
            self.frames.write_json(kind, what)

    # The end

    def _tell(self, reason):
        with contextlib.suppress(OSError):
            self._say(REFUSED, {"reason": reason})

    def _give_up(self):
        """Leaves nothing behind that waits: closing the FIFOs ends the runtime where it still waits for the order."""
        if self.pager:
            self.pager.kill()
        for fifo in self.fifos.values():
            fifo.close()
        if self.start:
            self.start.join(30)
        if self.network:
            self.network.end()
            shutil.rmtree(self.prepared, ignore_errors=True)
        _staging.remove(self.staging)


def receive_file(frames, staging, facts):
    """Writes one file of the source's into staging, and verifies it."""
    problem = check_path(facts.get("path"))
    size = facts.get("size")
    if problem or not is_whole(size):
        raise Refused(f"the source sends {problem or 'a file without a size'}")
    path = os.path.join(staging, facts["path"])
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    checksum, left = hashlib.sha256(), size
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    # As a stream, which writes all of it or fails: on a full disk, a single write may stop half way without an error.
    with os.fdopen(handle, "wb") as stream:
        while left:
            data = frames.expect(DATA)[1]
            if len(data) > left:
                raise Refused(f"more bytes of {facts['path']} came than were announced")
            stream.write(data)
            checksum.update(data)
            left -= len(data)
    if frames.expect_object(END).get("sha256") != checksum.hexdigest():
        raise Refused(f"{facts['path']} was damaged on the way")


def main():
    """Does what config.json says, with the source on the other side of standard input and output."""
    directory = deploy.program_directory()
    with open(os.path.join(directory, deploy.CONFIG), encoding="utf-8") as stream:
        order = json.load(stream)
    return run(directory, order, sys.stdin.fileno(), sys.stdout.fileno())


def run(directory, order, reader, writer, make=None):
    """The destination's end of one channel, from its begin to its end.

    :param directory: the private folder of this migration, which is removed at the end.
    :param order: has the C(container) where it is there already.
    :param make: makes it from the file with its configuration, where it is not; returns its ID, raises MigrationError.
    """
    deploy.register(directory)
    try:
        Destination(Frames(reader, writer), order, make).run()
    except ChannelError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0
