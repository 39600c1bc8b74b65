# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source's end of a live migration: it holds the warm channel between the tasks, and freezes when it is told to.

One process for one migration, started by C(checkpoint_transfer). The modules speak to it through a socket in the
transfer's private folder: one line of JSON asks, one line answers.

    make      has the destination make the container, with all but its memory and its volumes' content
    copy      begins with the volumes, then rounds of pre-copy, as long as they pay; answers at once
    progress  how far that is
    arm       has the destination's Docker wait inside our OCI runtime
    ready     has the destination up to date, for the shortest freeze; of containers that move together
    pause     has it stand still; of those that move together, so that none writes any more what others have as well
    freeze    freezes, sends, has the destination restore; answers when the container runs there, or, of those that
              move together, when it is restored there and waits
    go        has what waits there run, since all the others can; answers when it runs
    finish    answers when Docker owns the container there and no page is missing any more; the agent ends
    give up   lets the container go on here, if the destination does not have it; the agent ends
    end       finishes or gives up, whichever it is time for; for a migration that nobody waits for any more

While it is frozen, Docker shows the container as paused, and it stays so until the destination has said how things
are there. An agent that dies leaves it paused, with all its memory.

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
import signal
import socket
import sys
import threading
import time

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import engine, mounts, runc
from ansible_collections.fog.migration.plugins.module_utils.errors import (
    ChannelError,
    Interrupted,
    MigrationError,
    Refused,
)
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap, soft_dirty
from ansible_collections.fog.migration.plugins.module_utils.migration import config, dump, file_sync, precopy
from ansible_collections.fog.migration.plugins.module_utils.network import network_lock
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, procfs
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK
from ansible_collections.fog.migration.plugins.module_utils.transport import (
    compression,
    listing,
    ssh_access,
    ssh_connection,
    staging,
)
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    ALIVE_EVERY,
    DATA,
    DO,
    DONE,
    END,
    FILE,
    HELLO,
    NEED,
    PAGES,
    REFUSED,
    Frames,
    check_greeting,
    greeting,
    parse_object,
)
from ansible_collections.fog.migration.plugins.module_utils.validate import is_whole

SOCKET = "source.sock"
# Bytes of memory. To copy so many twice takes less time than what a dump and a restore without them need besides.
SMALL = 32 << 20
# What the destination may have said before anybody asks for it.
MOST_WORDS = 1000
# How things are when a request failed, and what to do.
_ASK_THERE = (
    "look there: keep what runs and remove the other, or remove it there and resume this one with docker unpause"
)
STATES = {
    "runs": ("it runs on as before", "mend the cause and try again"),
    "paused": ("it stays paused here", "resume it with docker unpause"),
    "handed over": (
        "it stays paused here, since nobody can say whether it runs at the destination",
        _ASK_THERE,
    ),
    "moved": (
        "it was restored at the destination and stays paused here",
        _ASK_THERE,
    ),
}


def is_lazy(mode, possible, memory):
    """Whether pages are left with the processes, and the container is restored before they are in place.

    Post-copy and hybrid are so by nature; pre-copy is faster that way with much memory, and slower with little.

    :param possible: whether both servers can do it.
    :param memory: bytes of it in the last round of pre-copy.
    """
    return possible and (mode in ("postcopy", "hybrid") or (mode == "precopy" and memory > SMALL))


class Source:
    """The container here, the channel to the destination, and how far they are."""

    def __init__(self, frames, order):
        self.frames = frames
        self.order = order
        self.container = order["container"]
        self.network_lock = network_lock.NetworkLock(self.container)
        self.staging = order["staging"]
        self.images = os.path.join(self.staging, "images")
        self.work = os.path.join(self.staging, "work")
        self.dump = None
        # Whether pages are left with the processes, and the container is restored before they are in place.
        self._lazily = False
        self._outgoing = compression.PageStream(frames, order.get("compression", "none"), order.get("rate_limit", 0))
        self.limits = precopy.Limits()
        self.rounds = None
        self.frozen = None
        self.files = file_sync.Following(order, frames, self._done)
        self._copying = None
        self._armed = False
        # What is more waits in the channel.
        self._heard = queue.Queue(MOST_WORDS)
        # runs, paused, handed over (only the destination knows who has it), moved
        self.state = "runs"
        self._mode = None
        # When its pause began and ended, and the bytes that were sent until then.
        self._paused = (0.0, 0.0, 0)
        # Whether the journal says that only the destination knows.
        self._announced = False
        # What the destination has said and nobody has asked for yet; and what it said when the container ran there.
        self._answers = {}
        self._running = {}

    def greet(self):
        check_greeting(self.frames.expect_object(HELLO), "destination")
        self.frames.write_json(HELLO, greeting("source"))
        for work in (self._listen, self._keep_alive):
            threading.Thread(target=work, daemon=True).start()

    def _listen(self):
        """What the destination says: it gets the pages that it needs, the rest is for whoever waits for it."""
        try:
            while True:
                kind, payload = self.frames.expect(DONE, NEED, REFUSED)
                if kind == NEED:
                    self._give(parse_object(payload))
                elif kind == REFUSED:
                    self._heard.put(Refused(str(parse_object(payload).get("reason", "no reason given"))))
                else:
                    self._heard.put(parse_object(payload))
        except (ChannelError, pagemap.PagesError, OSError) as exc:
            # Only the destination's own word is a refusal; a conversation that broke says nothing of the container.
            self._heard.put(Interrupted(str(exc)))

    def _keep_alive(self):
        try:
            while True:
                time.sleep(ALIVE_EVERY)
                self.frames.alive()
        except (ChannelError, OSError):
            return

    def _done(self, what):
        """The destination's word that this is done. What it says meanwhile is kept."""
        while what not in self._answers:
            answer = self._heard.get()
            if isinstance(answer, Refused) and self.state in ("handed over", "moved"):
                # The destination has said, itself, that it does not have it.
                self.state = "paused"
            if isinstance(answer, ChannelError):
                raise answer
            if len(self._answers) >= MOST_WORDS:
                raise Interrupted("the destination says more than anybody asked for")
            self._answers[str(answer.get("done"))] = answer
        return self._answers.pop(what)

    def make(self, _wish):
        """Has the destination make the container again, with what it has changed in its root file system; its ID there.

        It is armed right before the freeze. While the start of a container waits, Docker there answers no question
        about it, and what Docker counts of its log would not be right.
        """
        known = config.describe(self.order["docker_socket"], self.container, self.order["mounts"])
        journal.note(self.order.get("migration"), moving={"volumes": known.config.moving_volumes()})
        self._send_config(known.config)
        made = self._done("made")
        self.files = self._following_of(known)
        return {"container": str(made.get("container"))}

    def _send_config(self, known):
        path = os.path.join(self.staging, config.FILE)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            json.dump(known.to_json(), stream)
        send_file(self.frames, path, config.FILE)
        os.unlink(path)
        self.frames.write_json(DO, {"do": "make"})

    def _following_of(self, known):
        """Sends what the container has changed in its root file system; what keeps its files equal from then on."""
        trees, sources = [], mounts.sources(known.config.inspect)
        if known.storage:
            self.frames.write_json(DO, {"do": "layer"})
            there = file_sync.send_layer(
                self.frames,
                known.storage,
                runc.processes(self.container),
                self.order.get("rate_limit", 0),
                lambda: config.changes(self.order["docker_socket"], self.container),
            )
            self._done("layer")
            trees.append({"place": "", "root": known.storage.folder, "there": there})
        trees += [{"place": place, "root": sources[place]} for place in known.config.moving]
        log = container_log.path_of(known.config.inspect) if self.order.get("with_log") else None
        return file_sync.Following(dict(self.order, trees=trees, log=log), self.frames, self._done)

    def arm(self, _wish):
        """Where the container was made over this channel, it is armed already."""
        if not self._armed:
            self.network_lock.prepare()
            self.frames.write_json(DO, {"do": "arm"})
            self._done("armed")
            self._armed = True
        return {"done": "armed"}

    def _give(self, need):
        """Sends pages that the dump has left with the processes."""
        if not all(is_whole(need.get(key)) and need[key] < 1 << 62 for key in ("image", "address", "pages")):
            raise Refused("the destination needs what are no pages")
        if not self.frozen:
            raise Refused("the destination needs pages before the container was frozen")
        name = pagemap.pagemap_name(need["image"])
        for vaddr, data in self.frozen.read(need["image"], need["address"], need["pages"]):
            self._outgoing.send(PAGES, name, vaddr, data)

    # Pre-copy

    def copy(self, wish):
        if wish.get("memory"):
            self.limits = precopy.Limits(**wish.get("limits", {}))
            store = os.path.join(self.staging, "store")
            standstill = self._standstill if soft_dirty.works() else None
            self.rounds = precopy.Rounds(self.container, store, self.frames, self._outgoing, self._settled, standstill)
        self._copying = Task(self._copy)
        self._copying.start()
        return {}

    def _copy(self):
        """Why it has ended."""
        self.files.begin()
        return self.rounds.until_enough(self.limits) if self.rounds else "the volumes were copied"

    @contextlib.contextmanager
    def _standstill(self):
        """By Docker's own means, so that everybody can see and end it, should this program die meanwhile."""
        self._docker("pause")
        try:
            yield
        finally:
            self._docker("unpause")

    def _settled(self, number):
        self._done(f"round {number}")

    def progress(self, _wish):
        """How far the rounds are; C(ended) tells why there are no more, where they have ended."""
        if not self._copying:
            raise Refused("nothing was copied beforehand")
        told = {"rounds": [], "tracked": False, "round": 0, "bytes": 0, "done": 0, "ended": None}
        if self.rounds:
            told.update(rounds=self.rounds.figures, tracked=self.rounds.tracked, **self.rounds.progress)
        told.update(sent=self.frames.sent, saved=self._outgoing.saved, clock=round(time.monotonic(), 3))
        if not self._copying.is_alive():
            told["ended"] = self._copying.result()
        return told

    # Freeze

    def ready(self, _wish):
        """What was written since the last round would only make the downtime longer."""
        if self._copying:
            self._copying.result()
        self.files.catch_up()
        if self.rounds:
            self.rounds.until_enough(self.limits)
        return {}

    def pause(self, _wish):
        """It stands still from now on, and its network with it."""
        self.network_lock.drain_pending()
        began, sent = time.monotonic(), self.frames.sent
        self._docker("pause")
        self.state = "paused"
        self._require_none_stopped()
        self._hurry(True)
        self.network_lock.lock()
        self._paused = began, time.monotonic(), sent
        return {}

    def freeze(self, wish):
        """From running here to running there. Whatever fails before the handover, it runs on here."""
        for folder in (self.images, self.work):
            os.makedirs(folder, 0o700, exist_ok=True)
        mode = self._mode = wish["mode"]
        if self.state == "runs":
            self.ready(wish)
            self.pause(wish)
        began, paused, sent = self._paused
        memory = self.rounds.figures[-1]["bytes_memory"] if self.rounds else 0
        self._lazily = is_lazy(mode, self.order["lazily"], memory)
        looking = Task(self.files.look)
        looking.start()
        self._dump(mode)
        looking.result()
        closed = self.network_lock.detach_sockets(self.images)
        dumped = time.monotonic()
        # On the disk before the handover, beside the sending.
        announcing = Task(self._announce)
        announcing.start()
        self.files.send()
        filed = time.monotonic()
        self._send(mode)
        announcing.result()
        arrived, handed_over = time.monotonic(), self.frames.sent
        self.state = "handed over"
        self.frames.write_json(DO, {"do": "restore", "options": self.order["options"], **self._pages_wish(mode)})
        there = self._stands() if self.order.get("together") else self._runs()
        return {
            "bytes_sent": handed_over - sent,
            "files_sent": self.files.figures,
            "connections_closed": closed,
            "seconds": {
                "pause": round(paused - began, 3),
                "dump": round(dumped - paused, 3),
                "files": round(filed - dumped, 3),
                "send": round(arrived - filed, 3),
                **there,
            },
        }

    def _require_none_stopped(self):
        """CRIU would wait for them until the container is thawed. What is only frozen is not told to be stopped."""
        stopped = [procfs.program(one) for one in runc.moving(self.container) if procfs.is_stopped(one)]
        if stopped:
            raise runc.FreezeError(f"{', '.join(stopped)} in it was stopped by a signal")

    def _stands(self):
        """It is restored there, and waits for the others that move with it."""
        self._done("restored")
        return {"together": round(time.monotonic() - self._paused[0], 3)}

    def go(self, _wish):
        """From waiting there to running there."""
        self.frames.write_json(DO, {"do": "go"})
        return self._runs()

    def _runs(self):
        """It runs there; how long that took."""
        self._running = self._done("running")
        end = time.monotonic()
        self.state = "moved"
        self._hurry(False)
        self.network_lock.reset_orphans()
        return {"restore": _seconds(self._running), "downtime": round(end - self._paused[0], 3)}

    def _take_back(self):
        """What waits there goes on here, unless another one of its group runs there already: then it does so too."""
        if self.state != "handed over" or not self.order.get("together"):
            return
        self.frames.write_json(DO, {"do": "take back"})
        with contextlib.suppress(Refused):
            self._runs()

    def _announce(self):
        self._announced = True
        journal.note(self.order.get("migration"), stage="handover", owner="in_doubt")

    def _take_announcement_back(self):
        if self._announced:
            journal.note_what_happened(self.order.get("migration"), owner="source")

    def _hurry(self, hurry):
        if self.rounds:
            self.rounds.hurry = hurry

    def _docker(self, verb):
        problem = engine.call(self.order["docker_socket"], "POST", f"/containers/{self.container}/{verb}")
        if problem:
            raise runc.FreezeError(problem)

    def _dump(self, mode):
        """Dumps. What has changed since the last round is sent beside it, where the dump leaves the memory in place."""
        self.frozen = precopy.Frozen(self.rounds, self.container, self.images)
        self.dump = dump.Dump(self.container, self.images, self.work, self._lazily)
        self.dump.start()
        if self._lazily and mode == "precopy":
            self.frozen.compare()
        self.dump.wait()

    def _send(self, mode):
        """The images, and the pages in them: as they are, or as what is new to the destination."""
        if self.rounds:
            self.frozen.finish(later=mode == "hybrid")
        for entry in listing.files_of(listing.scan(self.images)):
            if not (self.rounds and pagemap.holds_pages(entry["path"])):
                send_file(self.frames, os.path.join(self.images, entry["path"]), "images/" + entry["path"])

    def _pages_wish(self, mode):
        """Where the destination takes the pages from."""
        return {"store": bool(self.rounds), "lazily": self._lazily, "source": self._lazily and mode != "precopy"}

    # The end

    def finish(self, _wish):
        if self.state != "moved":
            raise Refused("nothing was moved")
        began = time.monotonic()
        if self._mode == "hybrid" and self.rounds:
            self.frozen.catch_up()
        self._done("started")
        self._done("complete")
        seconds = round(time.monotonic() - began, 3)
        # CRIU writes its statistics at its very end.
        self.dump.join()
        statistics = tool.read_stats(os.path.join(self.work, "stats-dump"))
        theirs = self._running.get("statistics")
        statistics.update(theirs if isinstance(theirs, dict) else {})
        return {"seconds": seconds, "statistics": statistics, "rounds": self.rounds.figures if self.rounds else []}

    def give_up(self, _wish):
        """Lets the container go on, unless only the destination can say who has it."""
        self._take_back()
        if self.state in ("handed over", "moved"):
            raise Interrupted("the destination may have the container already")
        self.close()
        return {}

    def end(self, wish):
        """The end of a migration that nobody waits for any more."""
        self._take_back()
        return self.finish(wish) if self.state == "moved" else self.give_up(wish)

    def close(self):
        """Lets go of everything; a container that is only frozen runs on."""
        if self.dump:
            # It leaves the container as it was before: frozen.
            self.dump.join()
        if self.frozen:
            self.frozen.close()
        if self.state in ("runs", "paused"):
            self.network_lock.unlock()
        self.network_lock.end()
        if self.state == "paused":
            self._take_announcement_back()
            # A CRIU that was killed may have left it thawed, and Docker resumes only what is frozen.
            with contextlib.suppress(OSError, TypeError):
                runc.keep_frozen(self.container)
            self._docker("unpause")
            self.state = "runs"
        staging.remove(self.staging)


def _seconds(answer):
    """How long the destination says that it took; 0 when it says something else."""
    seconds = answer.get("seconds")
    return seconds if isinstance(seconds, (int, float)) else 0


def send_file(frames, path, name):
    """Sends one file under a name of the destination's staging; its size."""
    checksum = hashlib.sha256()
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        frames.write_json(FILE, {"path": name, "size": size})
        left = size
        while left:
            data = stream.read(min(CHUNK, left))
            if not data:
                raise Refused(f"{path} became shorter while it was sent")
            frames.write(DATA, data)
            checksum.update(data)
            left -= len(data)
    frames.write_json(END, {"sha256": checksum.hexdigest()})
    return size


class Task(threading.Thread):
    """Something that goes on while other wishes are heard."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self._work = work
        self._result = self._problem = None

    def run(self):
        try:
            self._result = self._work()
        except Exception as exc:
            self._problem = exc

    def result(self):
        """Its result, when it is there; raises what it raised."""
        self.join()
        if self._problem:
            raise self._problem
        return self._result


VERBS = {
    "make": Source.make,
    "copy": Source.copy,
    "progress": Source.progress,
    "arm": Source.arm,
    "ready": Source.ready,
    "pause": Source.pause,
    "freeze": Source.freeze,
    "go": Source.go,
    "finish": Source.finish,
    "give up": Source.give_up,
    "end": Source.end,
}
LAST = ("finish", "give up", "end")
MODES = ("stop-and-copy", "precopy", "postcopy", "hybrid")
# Bytes of a request.
LONGEST_WISH = 1 << 20


def ask(path, wish, seconds=None):
    """What the program whose socket this is answers to one request.

    :param seconds: how long it may take; None: as long as it likes.
    :raises OSError: when there is none, or no answer in time.
    :raises ValueError: when it ended before it answered.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        with connection.makefile("rw", encoding="utf-8") as stream:
            stream.write(json.dumps(wish) + "\n")
            stream.flush()
            return json.loads(stream.readline())


def serve(source, listener, patience):
    """Answers one request after the other; ends with the last one, with a failure, or when nobody asks any more."""
    while select.select([listener], [], [], patience)[0]:
        if not answer_one(source, listener):
            return
    obey(source, {"do": "end"})


def answer_one(source, listener):
    """Answers whoever comes next, who may have been killed meanwhile: that ends nothing. Whether others may follow."""
    connection, _peer = listener.accept()
    wish, answer = None, {}
    with connection, contextlib.suppress(OSError), connection.makefile("rwb") as stream:
        wish = read_wish(stream.readline(LONGEST_WISH))
        answer = obey(source, wish) if wish else {"error": "that is no request", "state": source.state}
        stream.write(json.dumps(answer).encode("ascii") + b"\n")
        stream.flush()
    return not (wish and (wish["do"] in LAST or "error" in answer))


def read_wish(line):
    """The request in a line of JSON, or None when it is none that can be obeyed."""
    try:
        wish = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(wish, dict) or not isinstance(wish.get("do"), str) or wish["do"] not in VERBS:
        return None
    limits = wish.get("limits", {})
    numbers = isinstance(limits, dict) and all(isinstance(value, (int, float)) for value in limits.values())
    known = numbers and set(limits) <= set(precopy.Limits._fields)
    return wish if known and wish.get("mode", MODES[0]) in MODES else None


def obey(source, wish):
    """The answer to one request: C(result), or C(error) with the C(state) that the container is in now."""
    try:
        return {"result": VERBS[wish["do"]](source, wish)}
    except MigrationError as exc:
        error = exc.what
    except (ChannelError, runc.FreezeError, pagemap.PagesError, OSError) as exc:
        error = str(exc)
    try:
        source.close()
    except runc.FreezeError as exc:
        error += f"; and it could not be resumed ({exc})"
    return {"error": error, "state": source.state}


def _end(_number, _frame):
    raise SystemExit(1)


def main():
    """Opens the channel, says so by its socket, serves, and leaves nothing behind."""
    directory = deploy.program_directory()
    with open(os.path.join(directory, deploy.CONFIG), encoding="utf-8") as stream:
        order = json.load(stream)
    words = [order["ssh"][name] for name in ("key", "hosts_file", "user", "address", "port")]
    return run(directory, order, ssh_access.ssh_command(*words))


def run(directory, order, command):
    """The source's end of one channel, from its begin to its end.

    :param directory: the private folder of this migration, which is removed at the end.
    :param command: the words of the command whose standard input and output are the channel.
    """
    deploy.register(directory)
    # As any other end: what is only frozen goes on.
    signal.signal(signal.SIGTERM, _end)
    connection = ssh_connection.SshConnection(command, time.monotonic() + order["lifetime"])
    source = Source(Frames(connection.process.stdout.fileno(), connection.process.stdin.fileno(), None), order)
    try:
        source.greet()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = os.path.join(directory, SOCKET)
        # Under its name only once it listens: whoever waits for it connects at once.
        listener.bind(path + ".new")
        listener.listen()
        os.rename(path + ".new", path)
        serve(source, listener, order["patience"])
    except ChannelError as exc:
        sys.stderr.write((ssh_access.ssh_complaint(connection.lines) or str(exc)) + "\n")
        return 1
    finally:
        source.close()
        connection.close()
        shutil.rmtree(directory, ignore_errors=True)
    return 0
