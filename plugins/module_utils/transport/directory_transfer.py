# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transfer of one directory from one fog server to another, over frames, whatever carries them.

    sender                       receiver
                        <-       hello (what it can)
    hello, listing      ->
                        <-       wants (file, offset, checksum of what is already here)
    plan, data, end     ->
                        <-       verdict (verified and in place), or refused (with the reason)

Private to the collection fog.migration. Installed on servers by C(deploy), which runs C(main).
"""

from __future__ import annotations

import collections
import concurrent.futures
import errno
import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import (
    ChannelError,
    Interrupted,
    MigrationError,
    Refused,
)
from ansible_collections.fog.migration.plugins.module_utils.system import files, limits, private_folders
from ansible_collections.fog.migration.plugins.module_utils.system.deploy import (
    CONFIG,
    program_directory,
    register,
    stop,
)
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK
from ansible_collections.fog.migration.plugins.module_utils.transport.compression import (
    Decompressor,
    Pace,
    Sink,
    choose_compression,
    compressed,
    zstd_program,
)
from ansible_collections.fog.migration.plugins.module_utils.transport.expiry import require_in_time
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    DATA,
    END,
    HELLO,
    LISTING,
    PLAN,
    REFUSED,
    VERDICT,
    WANTS,
    Frames,
    check_greeting,
    greeting,
    parse_json,
    parse_object,
)
from ansible_collections.fog.migration.plugins.module_utils.transport.listing import (
    check_listing,
    digest,
    files_of,
    hash_file,
    listing,
    total_size,
)
from ansible_collections.fog.migration.plugins.module_utils.validate import is_whole, one_sentence

if TYPE_CHECKING:
    from _hashlib import HASH as Hash

LAST_WORDS_LIMIT = 5.0


class Wanted(NamedTuple):
    """A file that the receiver wants: what it says of it, its entry in the listing, the checksum of what is there."""

    want: dict
    entry: dict
    checksum: Hash


class Part(NamedTuple):
    """A file as the sender will send it."""

    entry: dict
    offset: int
    checksum: Hash  # of what is before the offset


class Sender:
    """Sends one directory. Call run() once; the attributes tell how far it came."""

    def __init__(
        self,
        frames: Frames,
        root: str,
        entries: list[dict],
        compression: str = "auto",
        level: int = 3,
        rate_limit: int = 0,
    ) -> None:
        self.frames = frames
        self.root = root
        self.entries = entries
        self.compression = compression
        self.level = level
        self.pace = Pace(rate_limit)
        self.resumed_bytes = 0
        self.reached = False

    def run(self) -> dict:
        """The receiver's verdict, a dict. Raises Refused or Interrupted."""
        frames = self.frames
        try:
            hello = frames.expect_object(HELLO)
            check_greeting(hello, "receiver")
            self.compression = choose_compression(self.compression, bool(zstd_program()), hello)
            frames.write_json(HELLO, greeting("sender", compression=self.compression))
            frames.write_list(LISTING, self.entries)
            kind, payload = frames.expect(WANTS, VERDICT)
            if kind == VERDICT:
                return self._verdict(parse_object(payload))
            self.reached = True
            wants = parse_json(payload)
            if not isinstance(wants, list):
                raise Refused("the receiver sent a WANTS frame that is not a list")
            if wants:
                wants += frames.expect_list(WANTS)
            plan = self._plan(wants)
            frames.write_list(PLAN, plan)
            self._send(plan)
            return self._verdict(frames.expect_object(VERDICT))
        except Interrupted:
            self._last_words()
            raise

    def _last_words(self) -> None:
        """The receiver may have said why before it closed the channel."""
        self.frames.idle_limit = LAST_WORDS_LIMIT
        try:
            while True:
                self.frames.expect(VERDICT)
        except Interrupted:
            return
        except OSError:
            return

    def _verdict(self, verdict: dict) -> dict:
        resumed = verdict.get("resumed_bytes", 0)
        self.resumed_bytes = resumed if is_whole(resumed) else 0
        return verdict

    def _plan(self, wants: list) -> list[dict]:
        """Where to start in each wanted file: at the receiver's offset only if it has the same bytes up to there."""
        files = files_of(self.entries)
        plan = []
        for want in wants:
            index, offset = (want.get("index"), want.get("offset")) if isinstance(want, dict) else (None, None)
            if not is_whole(index) or index >= len(files) or not is_whole(offset):
                raise Refused("the receiver wants a file that was not listed")
            if offset:
                path = os.path.join(self.root, files[index]["path"])
                checksum, seen = hash_file(path, offset, self.frames.alive)
                if seen != offset or checksum.hexdigest() != want.get("sha256"):
                    offset = 0
            plan.append({"index": index, "offset": offset})
        return plan

    def _chunks(self, plan: list[dict]) -> Generator[bytes, None, None]:
        files = files_of(self.entries)
        for part in plan:
            entry = files[part["index"]]
            left = entry["size"] - part["offset"]
            with open(os.path.join(self.root, entry["path"]), "rb") as stream:
                stream.seek(part["offset"])
                while left:
                    data = stream.read(min(CHUNK, left))
                    if not data:
                        raise Refused("{} became shorter while it was being sent".format(entry["path"]))
                    left -= len(data)
                    yield data

    def _send(self, plan: list[dict]) -> None:
        frames = self.frames
        chunks = self._chunks(plan)
        if self.compression == "zstd" and plan:
            program = zstd_program()
            if not program:
                raise Refused("there is no zstd here to compress with")
            chunks = compressed(chunks, program, self.level, frames.alive)
        try:
            for chunk in chunks:
                if frames.readable():
                    # Nothing is due from the receiver before the end: it refuses, or it is gone.
                    frames.expect(VERDICT)
                    raise Refused("the receiver closed the transfer before its end")
                self.pace.wait(len(chunk))
                frames.write(DATA, chunk)
        except Refused as exc:
            self._tell(exc)
            raise
        finally:
            chunks.close()
        frames.write_json(END, {"files": len(plan)})

    def _tell(self, reason: Refused) -> None:
        try:
            self.frames.write_json(REFUSED, {"reason": str(reason)})
        except (Interrupted, OSError):
            pass


class Syncs:
    """Brings files to the disk while others still arrive: side by side, they share the file system's journal."""

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=8)
        self._pending: collections.deque[concurrent.futures.Future] = collections.deque()

    def add(self, handle: int) -> None:
        """Takes an open file over, syncs it and closes it."""
        self._pending.append(self._pool.submit(self._sync, handle))
        if len(self._pending) > 200:
            self._pending.popleft().result()

    @staticmethod
    def _sync(handle: int) -> None:
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def wait(self) -> None:
        """Returns when all of them are on the disk; raises what kept one from it."""
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        self._pool.shutdown()


class Arrivals:
    """Splits the one stream of data into the wanted files again, by their announced sizes."""

    def __init__(self, staging: str, parts: list[Part]) -> None:
        self._staging = staging
        self._syncs = Syncs()
        self._parts = list(parts)
        self._stream: int | None = None
        self._left = 0
        self._next()

    def _next(self) -> None:
        """Opens the next file that has bytes due; closes (and checks) the one before."""
        while not self._left and self._parts:
            entry, offset, checksum = self._parts.pop(0)
            path = os.path.join(self._staging, entry["path"])
            self._stream = stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.ftruncate(stream, offset)
            os.lseek(stream, offset, os.SEEK_SET)
            self._entry, self._checksum = entry, checksum
            self._left = entry["size"] - offset
            if not self._left:
                self._finish(stream)

    def _finish(self, stream: int) -> None:
        self._stream = None
        self._syncs.add(stream)
        if self._checksum.hexdigest() != self._entry["sha256"]:
            os.unlink(os.path.join(self._staging, self._entry["path"]))
            raise Refused(
                "{} arrived with another checksum than the one listed for it: it was changed at the source "
                "after its checksum was taken, or damaged on the way".format(self._entry["path"])
            )

    def write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        while view:
            if not self._left or self._stream is None:
                raise Refused("more bytes came than were announced")
            part = view[: self._left]
            count = os.write(self._stream, part)
            self._checksum.update(part[:count])
            self._left -= count
            view = view[count:]
            if not self._left:
                self._finish(self._stream)
                self._next()

    def complete(self) -> None:
        if self._left or self._parts:
            raise Refused(f"fewer bytes came than were announced: {self._entry['path']} is incomplete")
        self._syncs.wait()

    def close(self) -> None:
        if self._stream is not None:
            os.close(self._stream)
            self._stream = None
        self._syncs.close()


class Receiver:
    """Receives one directory into staging, verifies it, and puts it under its final name in one step."""

    patience = 10.0

    def __init__(self, frames: Frames, final: str, host: str | None = None, replace: bool = False) -> None:
        self.frames = frames
        self.final = final
        self.parent, self.name = os.path.split(final)
        self.staging = staging_of(final)
        self.host = host or socket.gethostname()
        self.replace = replace
        self.resumed_bytes = 0
        self.reached = False
        self._lock: int | None = None

    def run(self) -> dict:
        """The verdict that was sent, a dict. Raises Refused (the other end has been told) or Interrupted."""
        try:
            return self._run()
        except Refused as exc:
            reason = one_sentence(str(exc))
            self._tell(reason)
            raise Refused(reason) from exc
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                # A full disk hurts everything on this server: give the room back, at the price of the resume.
                shutil.rmtree(self.staging, ignore_errors=True)
                reason = f"No space left on device at {self.host}:{self.parent}; what had arrived was removed"
            else:
                reason = one_sentence(f"{exc.strerror or exc} on {self.host}: {exc.filename or self.staging}")
            self._tell(reason)
            raise Refused(reason) from exc
        finally:
            self._unlock()

    def require_in_time(self, directory: str) -> None:
        """Refuses a sender whose key has expired.

        :param directory: of this transfer.
        :raises Refused: the other end has been told.
        """
        try:
            require_in_time(directory)
        except MigrationError as exc:
            reason = f"{exc.what}; nothing was received on {self.host}, start the transfer again"
            self._tell(reason)
            raise Refused(reason) from exc

    def _tell(self, reason: str) -> None:
        try:
            self.frames.write_json(REFUSED, {"reason": reason})
            self._drain()
        except (ChannelError, OSError):
            pass

    def _drain(self) -> None:
        """Reads on until the sender has closed, so that the refusal is not lost behind data in flight."""
        limit = time.monotonic() + 10
        while time.monotonic() < limit and select.select([self.frames.fd_in], [], [], 1)[0]:
            if not os.read(self.frames.fd_in, CHUNK):
                return

    def _run(self) -> dict:
        frames = self.frames
        frames.write_json(HELLO, greeting("receiver", host=self.host, zstd=bool(zstd_program())))
        hello = frames.expect_object(HELLO)
        check_greeting(hello, "sender")
        entries = frames.expect_list(LISTING)
        check_listing(entries)
        if os.path.lexists(self.final):
            verdict = self._already(entries)
            if verdict:
                frames.write_json(VERDICT, verdict)
                return verdict
        self._open_staging()
        parts = self._take_stock(entries)
        self._check_space(parts)
        self.reached = True
        frames.write_list(WANTS, [want for want, _entry, _checksum in parts])
        self._receive(self._agree(parts, frames.expect_list(PLAN)), hello.get("compression") == "zstd")
        self._put_in_place(entries)
        verdict = {
            "verified": True,
            "already": False,
            "files": len(files_of(entries)),
            "bytes": total_size(entries),
            "resumed_bytes": self.resumed_bytes,
            "staging": self.staging,
        }
        frames.write_json(VERDICT, verdict)
        return verdict

    def _already(self, entries: list[dict]) -> dict | None:
        """A verdict when the same directory is in place already (an answer may have been lost), else None."""
        if os.path.islink(self.final) or not os.path.isdir(self.final):
            raise Refused(f"{self.final} on {self.host} is not a directory; it was left alone")
        if digest(listing(self.final, trust_manifest=False, on_progress=self.frames.alive)) == digest(entries):
            return {
                "verified": True,
                "already": True,
                "files": len(files_of(entries)),
                "bytes": total_size(entries),
                "resumed_bytes": 0,
                "staging": self.staging,
            }
        if not self.replace:
            raise Refused(f"{self.final} on {self.host} holds something else already; it was left alone")
        return None

    # Staging

    def _open_staging(self) -> None:
        try:
            private_folders.make(self.parent)
        except MigrationError as exc:
            raise Refused(f"{exc.what}; nothing was received on {self.host}, {exc.remedy}") from exc
        while True:
            try:
                os.mkdir(self.staging, 0o700)
            except FileExistsError:
                pass
            lock = os.open(self.staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._take_lock(lock)
            info = os.fstat(lock)
            try:
                same = os.path.samestat(info, os.lstat(self.staging))
            except FileNotFoundError:
                same = False
            if same:
                break
            # Another transfer finished while this one waited: its staging has become the final directory.
            os.close(lock)
        self._lock = lock
        if info.st_uid != os.geteuid():
            raise Refused(f"{self.staging} on {self.host} belongs to another user; it was left alone")
        os.chmod(self.staging, 0o700)

    def _take_lock(self, lock: int) -> None:
        """One receiver per directory. A predecessor in this very transfer, cut off from its sender, gives way."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stop(program_directory())
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise Refused(f"another transfer to {self.final} is under way on {self.host}") from None
                time.sleep(0.2)
        register(program_directory())

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_stock(self, entries: list[dict]) -> list[Wanted]:
        """Compares staging with the listing; removes what does not belong; returns what is wanted."""
        self._sweep({entry["path"]: entry for entry in entries})
        parts = []
        for index, entry in enumerate(files_of(entries)):
            path = os.path.join(self.staging, entry["path"])
            size = os.lstat(path).st_size if os.path.lexists(path) else None
            if size is not None and 0 < size <= entry["size"]:
                checksum, size = hash_file(path, None, self.frames.alive)
            else:
                checksum, size = hashlib.sha256(), 0
            complete = size == entry["size"] and checksum.hexdigest() == entry["sha256"]
            if complete and size:
                self.resumed_bytes += size
                continue
            if size == entry["size"]:
                checksum, size = hashlib.sha256(), 0
            want = {"index": index, "offset": size, "sha256": checksum.hexdigest()}
            parts.append(Wanted(want, entry, checksum))
        return parts

    def _sweep(self, wanted: dict[str, dict]) -> None:
        def visit(directory: str, prefix: str) -> None:
            for item in list(os.scandir(directory)):
                entry = wanted.get(prefix + item.name)
                if item.is_dir(follow_symlinks=False):
                    os.chmod(item.path, 0o700)
                    if entry and entry.get("dir"):
                        visit(item.path, prefix + item.name + "/")
                    else:
                        shutil.rmtree(item.path)
                elif not item.is_file(follow_symlinks=False) or not entry or entry.get("dir"):
                    os.unlink(item.path)
                else:
                    os.chmod(item.path, 0o600)

        visit(self.staging, "")
        for path in sorted(wanted):
            if wanted[path].get("dir") and path != ".":
                os.makedirs(os.path.join(self.staging, path), 0o700, exist_ok=True)

    def _check_space(self, wanted: list[Wanted]) -> None:
        needed = sum(entry["size"] - want["offset"] for want, entry, _checksum in wanted)
        disk = os.statvfs(self.staging)
        free = disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)
        free = max(0, free - files.floor(disk.f_blocks * disk.f_frsize))
        if needed > free:
            if not any(want["offset"] for want, _entry, _checksum in wanted) and not self.resumed_bytes:
                shutil.rmtree(self.staging, ignore_errors=True)
            raise Refused(
                f"No space left on device at {self.host}:{self.parent}: {needed} bytes are needed, "
                f"{free} are free besides what stays free for the server itself; nothing was sent"
            )

    def _agree(self, parts: list[Wanted], plan: list) -> list[Part]:
        """The wanted parts as the sender will send them: from our offset, or from the start."""
        if len(plan) != len(parts):
            raise Refused("the sender's plan is not what was wanted")
        agreed = []
        for (want, entry, checksum), planned in zip(parts, plan):
            index, offset = (planned.get("index"), planned.get("offset")) if isinstance(planned, dict) else (None, None)
            if index != want["index"] or not is_whole(offset) or offset not in (0, want["offset"]):
                raise Refused("the sender's plan is not what was wanted")
            self.resumed_bytes += offset
            agreed.append(Part(entry, offset, checksum if offset else hashlib.sha256()))
        return agreed

    # Data

    def _receive(self, parts: list[Part], zstd: bool) -> None:
        arrivals = Arrivals(self.staging, parts)
        try:
            if zstd and parts:
                program = zstd_program()
                if not program:
                    raise Refused(f"there is no zstd on {self.host} to decompress with")
                self._read_data_through(Decompressor(program, arrivals))
            else:
                self._read_data(arrivals)
            arrivals.complete()
        finally:
            arrivals.close()

    def _read_data(self, sink: Sink) -> None:
        while True:
            kind, payload = self.frames.expect(DATA, END)
            if kind == END:
                return
            sink.write(payload)

    def _read_data_through(self, decompressor: Decompressor) -> None:
        try:
            self._read_data(decompressor)
        except BaseException:
            # What came before the interruption is good for the next attempt; its own problem is not the news.
            try:
                decompressor.close()
            except (ChannelError, OSError):
                pass
            raise
        decompressor.close()

    # Arrival

    def _put_in_place(self, entries: list[dict]) -> None:
        for entry in files_of(entries):
            os.chmod(os.path.join(self.staging, entry["path"]), entry["mode"])
        for entry in sorted((e for e in entries if e.get("dir")), key=lambda e: e["path"], reverse=True):
            if entry["path"] != ".":
                sync_directory(os.path.join(self.staging, entry["path"]))
                os.chmod(os.path.join(self.staging, entry["path"]), entry["mode"])
        lock = self._lock
        if lock is None:
            raise AssertionError("the folder is locked")
        os.fsync(lock)
        aside = None
        if os.path.lexists(self.final):
            if not self.replace:
                raise Refused(f"{self.final} appeared on {self.host} meanwhile; it was left alone")
            aside = os.path.join(self.parent, f".{self.name}.replaced")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(self.final, aside)
        os.fchmod(lock, next(entry["mode"] for entry in entries if entry["path"] == "."))
        try:
            os.rename(self.staging, self.final)
        except OSError:
            if aside:
                os.rename(aside, self.final)
            raise
        sync_directory(self.parent)
        if aside:
            shutil.rmtree(aside)


def staging_of(final: str) -> str:
    parent, name = os.path.split(final)
    return os.path.join(parent, f".{name}.incoming")


def sync_directory(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def describe_error(exc: Exception) -> dict[str, str]:
    return {"error": str(exc), "kind": "Interrupted" if isinstance(exc, Interrupted) else "Refused"}


def send(frames: Frames, order: dict) -> dict:
    sender = Sender(
        frames,
        order["path"],
        listing(order["path"]),
        order["compression"],
        order["compression_level"],
        order["rate_limit"],
    )
    report: dict = {}
    try:
        report["verdict"] = sender.run()
    except ChannelError as exc:
        report.update(describe_error(exc))
    return dict(report, compression=sender.compression, reached=sender.reached)


def receive(frames: Frames, order: dict) -> dict:
    receiver = Receiver(frames, order["final"], order["host"], order["replace"])
    report: dict = {}
    try:
        receiver.require_in_time(program_directory() or "")
        report["verdict"] = receiver.run()
    except ChannelError as exc:
        report.update(describe_error(exc))
    return dict(report, reached=receiver.reached)


def _end_after(seconds: int) -> None:
    """Has this program refuse in so many seconds, whatever the other end does until then; 0 for no limit."""

    def refuse(_number: int, _frame: object) -> None:
        raise Refused(f"the transfer was not over within {seconds} seconds")

    signal.signal(signal.SIGALRM, refuse)
    signal.alarm(seconds)


def main() -> int:
    """Does what config.json says; the last line on stderr is the report, for the one who started this program."""
    limits.keep_out_of_core_files()
    limits.bound()
    with open(os.path.join(program_directory() or "", CONFIG), encoding="utf-8") as stream:
        order = json.load(stream)
    frames = Frames(sys.stdin.fileno(), sys.stdout.fileno(), order["idle_limit"])
    if order["role"] == "receive":
        frames.write_limit = order["idle_limit"]
        _end_after(order.get("lifetime", 0))
    try:
        report = (send if order["role"] == "send" else receive)(frames, order)
    except (ChannelError, OSError) as exc:
        report = describe_error(exc)
    except limits.NO_MEMORY as exc:
        report = describe_error(Refused(limits.out_of_memory(exc)))
    sys.stderr.write(json.dumps(report) + "\n")
    return 1 if "error" in report else 0
