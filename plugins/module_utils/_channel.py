# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The channel between two fog servers, and the transfer of one directory over it.

This file is a module_util and a program: its own text is laid down on a server and run there, so it imports
nothing but the standard library, and it does not know whether SSH or the controller carries its bytes.

    Frames            what travels: type, length, payload; nothing about transfers (live migration uses it too)
    scan .. digest    what a directory is: a listing of paths, sizes, modes and checksums
    Sender, Receiver  one transfer: listing, wants, plan, one stream of data, verdict

    sender                       receiver
                        <-       hello (what it can)
    hello, listing      ->
                        <-       wants (file, offset, checksum of what is already here)
    plan, data, end     ->
                        <-       verdict (verified and in place), or refused (with the reason)

Private to the collection fog.migration.
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
import stat
import struct
import subprocess
import sys
import threading
import time

PROTOCOL = "fog.migration"
VERSION = 1

HELLO, LISTING, WANTS, PLAN, DATA, END, VERDICT, REFUSED, ALIVE = b"H", b"L", b"W", b"P", b"D", b"E", b"V", b"R", b"K"
HEADER = struct.Struct(">cI")
CHUNK = 256 * 1024
LIMITS = {
    HELLO: 64 * 1024,
    LISTING: 4 * 1024 * 1024,
    WANTS: 4 * 1024 * 1024,
    PLAN: 4 * 1024 * 1024,
    DATA: CHUNK,
    END: 64 * 1024,
    VERDICT: 64 * 1024,
    REFUSED: 64 * 1024,
    ALIVE: 0,
}
ENTRIES_PER_FRAME = 1000
MAX_ENTRIES = 500000
ALIVE_EVERY = 5.0
IDLE_LIMIT = 120.0
LAST_WORDS_LIMIT = 5.0
MANIFEST = "manifest.json"


class ChannelError(Exception):
    """Base of what can go wrong here. The text is one sentence for people."""


class Interrupted(ChannelError):
    """The other end went away: trying again makes sense, and resumes."""


class Refused(ChannelError):
    """One end said no and told why: trying again the same way makes no sense."""


# ---------------------------------------------------------------------------------------------------------------------
# Frames


class Frames:
    """Frames over a pair of file descriptors. Counts its bytes; knows nothing of what they mean."""

    def __init__(self, fd_in, fd_out, idle_limit=IDLE_LIMIT):
        self.fd_in = fd_in
        self.fd_out = fd_out
        self.idle_limit = idle_limit
        self.sent = 0
        self.received = 0
        self.last_sent = time.monotonic()
        self._lock = threading.Lock()
        self._heard = False

    def write(self, kind, payload=b""):
        with self._lock:
            for part in (HEADER.pack(kind, len(payload)), payload):
                view = memoryview(part)
                while view:
                    try:
                        count = os.write(self.fd_out, view)
                    except OSError as exc:
                        if exc.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                            raise Interrupted("the other end closed the channel") from exc
                        raise
                    self.sent += count
                    view = view[count:]
            self.last_sent = time.monotonic()

    def write_json(self, kind, value):
        self.write(kind, json.dumps(value, separators=(",", ":")).encode("ascii"))

    def write_list(self, kind, values):
        """A list of any length, as several frames; an empty one ends it."""
        for start in range(0, len(values), ENTRIES_PER_FRAME):
            self.write_json(kind, values[start : start + ENTRIES_PER_FRAME])
        self.write_json(kind, [])

    def alive(self):
        """Tell the other end that work goes on here, when nothing else has told it for a while."""
        if time.monotonic() - self.last_sent >= ALIVE_EVERY:
            self.write(ALIVE)

    def readable(self):
        return bool(select.select([self.fd_in], [], [], 0)[0])

    def _exactly(self, count):
        data = bytearray(count)
        view = memoryview(data)
        while view:
            if self.idle_limit and not select.select([self.fd_in], [], [], self.idle_limit)[0]:
                raise Interrupted(f"the other end has said nothing for {self.idle_limit} seconds")
            try:
                got = os.readv(self.fd_in, [view])
            except OSError as exc:
                raise Interrupted(f"the channel broke: {exc.strerror}") from exc
            if not got:
                raise Interrupted("the other end closed the channel")
            self.received += got
            view = view[got:]
        return data

    def read(self):
        """The next frame, (kind, payload); a sign of life is skipped."""
        while True:
            header = self._exactly(HEADER.size)
            kind, length = HEADER.unpack(header)
            if kind not in LIMITS or (not self._heard and kind not in (HELLO, REFUSED)):
                raise Refused(f"the other end does not speak this protocol: it said {bytes(header)!r}")
            if length > LIMITS[kind]:
                raise Refused(
                    f"the other end sent a frame of type {kind.decode('ascii')} with {length} bytes, "
                    f"more than the {LIMITS[kind]} that are allowed"
                )
            self._heard = True
            payload = self._exactly(length)
            if kind != ALIVE:
                return kind, payload

    def expect(self, *kinds):
        """The next frame, which must be of one of these kinds; the other end's refusal becomes ours."""
        kind, payload = self.read()
        if kind == REFUSED and REFUSED not in kinds:
            raise Refused(str(parse_object(payload).get("reason", "no reason given")))
        if kind not in kinds:
            due = " or ".join(each.decode("ascii") for each in kinds)
            raise Refused(f"the other end sent a frame of type {kind.decode('ascii')} where {due} was due")
        return kind, payload

    def expect_object(self, kind):
        return parse_object(self.expect(kind)[1])

    def expect_list(self, kind):
        values = []
        while True:
            part = parse_json(self.expect(kind)[1])
            if not isinstance(part, list):
                raise Refused("the other end sent a list that is none")
            if not part:
                return values
            values.extend(part)
            if len(values) > MAX_ENTRIES:
                raise Refused(f"the other end listed more than {MAX_ENTRIES} entries")


def parse_json(payload):
    try:
        return json.loads(payload.decode("ascii"))
    except ValueError as exc:
        raise Refused("the other end sent a control frame that is not JSON") from exc


def parse_object(payload):
    value = parse_json(payload)
    if not isinstance(value, dict):
        raise Refused("the other end sent a control frame that is not an object")
    return value


def greeting(role, **more):
    return dict(more, protocol=PROTOCOL, version=VERSION, role=role)


def check_greeting(hello, role):
    if hello.get("protocol") != PROTOCOL or hello.get("role") != role:
        raise Refused(f"the other end is not a {role} of {PROTOCOL}")
    if hello.get("version") != VERSION:
        theirs = hello.get("version")
        raise Refused(f"the other end speaks version {theirs} of the protocol, this end version {VERSION}")


# ---------------------------------------------------------------------------------------------------------------------
# Listings: what a directory is


def is_whole(value):
    """Whether this is a number to count with: JSON's true is none, and nothing here is negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_path(path):
    """Why this path must not be in a listing, or None."""
    if not isinstance(path, str) or not path:
        return "an empty path"
    if "\0" in path:
        return "a path with a NUL in it"
    if path.startswith("/"):
        return f"the absolute path {path!r}"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return f"the path {path!r}, which leaves the directory or is not in its plain form"
    return None


def check_entry(entry):
    """Why this is not an entry of a listing, or None."""
    if not isinstance(entry, dict):
        return "an entry that is not an object"
    problem = None if entry.get("path") == "." and entry.get("dir") is True else check_path(entry.get("path"))
    if problem:
        return problem
    mode = entry.get("mode")
    if not is_whole(mode) or mode > 0o777:
        return "{} with the mode {!r}".format(entry["path"], mode)
    if entry.get("dir") is True:
        return None
    size, checksum = entry.get("size"), entry.get("sha256")
    if not is_whole(size) or size >= 2**63:
        return "{} with the size {!r}".format(entry["path"], size)
    if not isinstance(checksum, str) or len(checksum) != 64 or checksum.strip("0123456789abcdef"):
        return "{} with the checksum {!r}".format(entry["path"], checksum)
    return None


def check_listing(entries):
    """Raises Refused when a listing is not one that may be written to disk."""
    seen = {}
    for entry in entries:
        problem = check_entry(entry)
        if problem:
            raise Refused(f"the listing names {problem}")
        if entry["path"] in seen:
            raise Refused("the listing names {} twice".format(entry["path"]))
        seen[entry["path"]] = entry
    if not seen.get(".", {}).get("dir"):
        raise Refused("the listing does not name the directory itself")
    for path in seen:
        parent = path.rpartition("/")[0]
        if path != "." and not seen.get(parent or ".", {}).get("dir"):
            raise Refused(f"the listing names {path}, but not the directory that it is in")


def scan(root):
    """Everything under root, parents first, without checksums."""
    entries = [{"path": ".", "dir": True, "mode": stat.S_IMODE(os.lstat(root).st_mode) & 0o777}]

    def visit(directory, prefix):
        for item in sorted(os.scandir(directory), key=lambda found: found.name):
            path = prefix + item.name
            info = item.stat(follow_symlinks=False)
            mode = stat.S_IMODE(info.st_mode) & 0o777
            if stat.S_ISDIR(info.st_mode):
                entries.append({"path": path, "dir": True, "mode": mode})
                visit(item.path, path + "/")
            elif stat.S_ISREG(info.st_mode):
                entries.append({"path": path, "size": info.st_size, "mode": mode})
            else:
                raise Refused(f"{item.path} is neither a plain file nor a directory; nothing else is carried")

    visit(root, "")
    return entries


def files_of(entries):
    return [entry for entry in entries if not entry.get("dir")]


def total_size(entries):
    return sum(entry["size"] for entry in files_of(entries))


def hash_file(path, length=None, on_progress=None):
    """The running sha256 of the first `length` bytes (all, if None), and how many bytes it has seen."""
    checksum, seen = hashlib.sha256(), 0
    with open(path, "rb") as stream:
        while length is None or seen < length:
            data = stream.read(CHUNK if length is None else min(CHUNK, length - seen))
            if not data:
                break
            checksum.update(data)
            seen += len(data)
            if on_progress:
                on_progress()
    return checksum, seen


def sums_of_manifest(value):
    """{path: (size, sha256)} when this is the manifest of a checkpoint, or None when it is some other file."""
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, dict) or not files:
        return None
    sums = {}
    for path, facts in files.items():
        size, checksum = (facts.get("size"), facts.get("sha256")) if isinstance(facts, dict) else (None, None)
        if not is_whole(size) or not isinstance(checksum, str):
            return None
        sums[path] = (size, checksum)
    return sums


def read_manifest(root):
    try:
        with open(os.path.join(root, MANIFEST), "rb") as stream:
            return sums_of_manifest(json.loads(stream.read().decode("utf-8")))
    except (OSError, ValueError):
        return None


def compare_with_manifest(entries, sums):
    """Why a directory is not what its manifest says, or None."""
    on_disk = {entry["path"]: entry["size"] for entry in files_of(entries) if entry["path"] != MANIFEST}
    for path in sorted(sums):
        if path not in on_disk:
            return f"{path} is in the manifest but not there"
        if on_disk[path] != sums[path][0]:
            return f"{path} has {on_disk[path]} bytes, the manifest says {sums[path][0]}"
    for path in sorted(on_disk):
        if path not in sums:
            return f"{path} is there but not in the manifest"
    return None


def listing(root, trust_manifest=True, on_progress=None):
    """Everything under root with its checksums: from the manifest where there is one, else computed."""
    entries = scan(root)
    sums = read_manifest(root) if trust_manifest else None
    if sums is not None:
        problem = compare_with_manifest(entries, sums)
        if problem:
            raise Refused(f"{root} is damaged and was not sent: {problem}")
    for entry in files_of(entries):
        if sums is not None and entry["path"] in sums:
            entry["sha256"] = sums[entry["path"]][1]
        else:
            checksum, entry["size"] = hash_file(os.path.join(root, entry["path"]), None, on_progress)
            entry["sha256"] = checksum.hexdigest()
    return entries


def digest(entries):
    """One checksum for a whole listing: the same directory gives the same one on every host."""
    plain = sorted([e["path"], e.get("size", -1), e.get("sha256", ""), e["mode"]] for e in entries)
    return hashlib.sha256(json.dumps(plain).encode("ascii")).hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# zstd, as a program beside us


def zstd_program():
    """The path of a zstd that speaks today's format (1.0 of 2016 and later), or None."""
    program = shutil.which("zstd") or shutil.which("zstd", path="/usr/local/bin:/usr/bin:/bin")
    if not program:
        return None
    try:
        answer = subprocess.run(
            [program, "-V"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=10,
            check=False,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return None if b" v0." in answer or b" 0." in answer else program


def compressed(chunks, program, level, on_wait):
    """The chunks as a zstd stream. on_wait is called when zstd has had nothing to say for a while."""
    problems = []
    process = subprocess.Popen([program, "-q", "-c", f"-{level}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def feed():
        try:
            with process.stdin:
                for chunk in chunks:
                    process.stdin.write(chunk)
        except BrokenPipeError:
            problems.append(Refused("zstd ended before its input did"))
        except Exception as exc:
            problems.append(exc)
            process.kill()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        while True:
            if not select.select([process.stdout], [], [], ALIVE_EVERY)[0]:
                on_wait()
                continue
            data = os.read(process.stdout.fileno(), CHUNK)
            if not data:
                break
            yield data
        feeder.join()
        if problems:
            raise problems[0]
        if process.wait():
            raise Refused(f"zstd failed with exit code {process.returncode}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Decompressor:
    """Writes what zstd makes of the bytes into a sink, from a thread of its own."""

    def __init__(self, program, sink):
        self._sink = sink
        self._problem = None
        self._process = subprocess.Popen(
            [program, "-q", "-d", "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self):
        try:
            while True:
                data = os.read(self._process.stdout.fileno(), CHUNK)
                if not data:
                    return
                self._sink.write(data)
        except Exception as exc:
            self._problem = exc
            self._process.kill()

    def write(self, data):
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._thread.join()
            raise self._problem or Refused("the compressed stream was damaged") from None

    def close(self):
        """What has come in so far is on its way to the sink when this returns; raises what the sink raised."""
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._thread.join()
        self._process.stdout.close()
        if self._process.wait() and not self._problem:
            self._problem = Refused("the compressed stream was damaged or incomplete")
        if self._problem:
            raise self._problem


# ---------------------------------------------------------------------------------------------------------------------
# Sender


class Pace:
    """Holds a stream below so many bytes per second (0: as fast as it goes)."""

    def __init__(self, bytes_per_second):
        self._rate = bytes_per_second
        self._start = None
        self._count = 0

    def wait(self, count):
        if not self._rate:
            return
        if self._start is None:
            self._start = time.monotonic()
        self._count += count
        ahead = self._count / float(self._rate) - (time.monotonic() - self._start)
        if ahead > 0:
            time.sleep(ahead)


def choose_compression(wanted, sender_has_zstd, receiver):
    """none or zstd, from what was asked for (none, zstd, auto) and what both ends have."""
    if wanted == "none":
        return "none"
    missing = "the source" if not sender_has_zstd else None if receiver.get("zstd") else str(receiver.get("host"))
    if not missing:
        return "zstd"
    if wanted == "zstd":
        raise Refused(f"there is no zstd on {missing}; install it, or use compression=auto or none")
    return "none"


class Sender:
    """Sends one directory. Call run() once; the attributes tell how far it came."""

    def __init__(self, frames, root, entries, compression="auto", level=3, rate_limit=0):
        self.frames = frames
        self.root = root
        self.entries = entries
        self.compression = compression
        self.level = level
        self.pace = Pace(rate_limit)
        self.resumed_bytes = 0
        self.reached = False

    def run(self):
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
            if wants:
                wants += frames.expect_list(WANTS)
            plan = self._plan(wants)
            frames.write_list(PLAN, plan)
            self._send(plan)
            return self._verdict(frames.expect_object(VERDICT))
        except Interrupted:
            self._last_words()
            raise

    def _last_words(self):
        """The receiver may have said why before it closed the channel."""
        self.frames.idle_limit = LAST_WORDS_LIMIT
        try:
            while True:
                self.frames.expect(VERDICT)
        except Interrupted:
            return
        except OSError:
            return

    def _verdict(self, verdict):
        self.resumed_bytes = int(verdict.get("resumed_bytes", 0))
        return verdict

    def _plan(self, wants):
        """Where to start in each wanted file: at the receiver's offset only if it has the same bytes up to there."""
        files = files_of(self.entries)
        plan = []
        for want in wants:
            index, offset = want.get("index"), want.get("offset")
            if not is_whole(index) or index >= len(files) or not is_whole(offset):
                raise Refused("the receiver wants a file that was not listed")
            if offset:
                path = os.path.join(self.root, files[index]["path"])
                checksum, seen = hash_file(path, offset, self.frames.alive)
                if seen != offset or checksum.hexdigest() != want.get("sha256"):
                    offset = 0
            plan.append({"index": index, "offset": offset})
        return plan

    def _chunks(self, plan):
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

    def _send(self, plan):
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

    def _tell(self, reason):
        try:
            self.frames.write_json(REFUSED, {"reason": str(reason)})
        except (Interrupted, OSError):
            pass


# ---------------------------------------------------------------------------------------------------------------------
# Receiver


class Syncs:
    """Brings files to the disk while others still arrive: side by side, they share the file system's journal."""

    def __init__(self):
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=8)
        self._pending = collections.deque()

    def add(self, handle):
        """Takes an open file over, syncs it and closes it."""
        self._pending.append(self._pool.submit(self._sync, handle))
        if len(self._pending) > 200:
            self._pending.popleft().result()

    @staticmethod
    def _sync(handle):
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def wait(self):
        """Returns when all of them are on the disk; raises what kept one from it."""
        while self._pending:
            self._pending.popleft().result()

    def close(self):
        self._pool.shutdown()


class Arrivals:
    """Splits the one stream of data into the wanted files again, by their announced sizes."""

    def __init__(self, staging, parts):
        self._staging = staging
        self._syncs = Syncs()
        self._parts = list(parts)
        self._stream = None
        self._left = 0
        self._next()

    def _next(self):
        """Opens the next file that has bytes due; closes (and checks) the one before."""
        while not self._left and self._parts:
            entry, offset, checksum = self._parts.pop(0)
            path = os.path.join(self._staging, entry["path"])
            self._stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._stream, offset)
            os.lseek(self._stream, offset, os.SEEK_SET)
            self._entry, self._checksum = entry, checksum
            self._left = entry["size"] - offset
            if not self._left:
                self._finish()

    def _finish(self):
        stream, self._stream = self._stream, None
        self._syncs.add(stream)
        if self._checksum.hexdigest() != self._entry["sha256"]:
            os.unlink(os.path.join(self._staging, self._entry["path"]))
            raise Refused(
                "{} arrived with another checksum than the one listed for it: it was changed at the source "
                "after its checksum was taken, or damaged on the way".format(self._entry["path"])
            )

    def write(self, data):
        view = memoryview(data)
        while view:
            if not self._left:
                raise Refused("more bytes came than were announced")
            part = view[: self._left]
            count = os.write(self._stream, part)
            self._checksum.update(part[:count])
            self._left -= count
            view = view[count:]
            if not self._left:
                self._finish()
                self._next()

    def complete(self):
        if self._left or self._parts:
            raise Refused(f"fewer bytes came than were announced: {self._entry['path']} is incomplete")
        self._syncs.wait()

    def close(self):
        if self._stream is not None:
            os.close(self._stream)
            self._stream = None
        self._syncs.close()


class Receiver:
    """Receives one directory into staging, verifies it, and puts it under its final name in one step."""

    patience = 10.0

    def __init__(self, frames, final, host=None, replace=False):
        self.frames = frames
        self.final = final
        self.parent, self.name = os.path.split(final)
        self.staging = staging_of(final)
        self.host = host or socket.gethostname()
        self.replace = replace
        self.resumed_bytes = 0
        self.reached = False
        self._lock = None

    def run(self):
        """The verdict that was sent, a dict. Raises Refused (the other end has been told) or Interrupted."""
        try:
            return self._run()
        except Refused as exc:
            self._tell(str(exc))
            raise
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                # A full disk hurts everything on this server: give the room back, at the price of the resume.
                shutil.rmtree(self.staging, ignore_errors=True)
                reason = f"No space left on device at {self.host}:{self.parent}; what had arrived was removed"
            else:
                reason = f"{exc.strerror or exc} on {self.host}: {exc.filename or self.staging}"
            self._tell(reason)
            raise Refused(reason) from exc
        finally:
            self._unlock()

    def _tell(self, reason):
        try:
            self.frames.write_json(REFUSED, {"reason": reason})
            self._drain()
        except (ChannelError, OSError):
            pass

    def _drain(self):
        """Reads on until the sender has closed, so that the refusal is not lost behind data in flight."""
        limit = time.monotonic() + 10
        while time.monotonic() < limit and select.select([self.frames.fd_in], [], [], 1)[0]:
            if not os.read(self.frames.fd_in, CHUNK):
                return

    def _run(self):
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
        self._check_space(entries, parts)
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

    def _already(self, entries):
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

    def _open_staging(self):
        os.makedirs(self.parent, 0o700, exist_ok=True)
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

    def _take_lock(self, lock):
        """One receiver per directory. A predecessor in this very transfer, cut off from its sender, gives way."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                dismiss_receiver(order_directory())
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise Refused(f"another transfer to {self.final} is under way on {self.host}") from None
                time.sleep(0.2)
        register_receiver(order_directory())

    def _unlock(self):
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_stock(self, entries):
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
            parts.append(({"index": index, "offset": size, "sha256": checksum.hexdigest()}, entry, checksum))
        return parts

    def _sweep(self, wanted):
        def visit(directory, prefix):
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

    def _check_space(self, entries, parts):
        needed = sum(entry["size"] - want["offset"] for want, entry, _checksum in parts)
        disk = os.statvfs(self.staging)
        free = disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)
        if needed > free:
            if not any(want["offset"] for want, _entry, _checksum in parts) and not self.resumed_bytes:
                shutil.rmtree(self.staging, ignore_errors=True)
            raise Refused(
                f"No space left on device at {self.host}:{self.parent}: {needed} bytes are needed, "
                f"{free} are free; nothing was sent"
            )

    def _agree(self, parts, plan):
        """The wanted parts as the sender will send them: from our offset, or from the start."""
        if len(plan) != len(parts):
            raise Refused("the sender's plan is not what was wanted")
        agreed = []
        for (want, entry, checksum), planned in zip(parts, plan):
            index, offset = (planned.get("index"), planned.get("offset")) if isinstance(planned, dict) else (None, None)
            if index != want["index"] or not is_whole(offset) or offset not in (0, want["offset"]):
                raise Refused("the sender's plan is not what was wanted")
            self.resumed_bytes += offset
            agreed.append((entry, offset, checksum if offset else hashlib.sha256()))
        return agreed

    # Data

    def _receive(self, parts, zstd):
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

    def _read_data(self, sink):
        while True:
            kind, payload = self.frames.expect(DATA, END)
            if kind == END:
                return
            sink.write(payload)

    def _read_data_through(self, decompressor):
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

    def _put_in_place(self, entries):
        for entry in files_of(entries):
            os.chmod(os.path.join(self.staging, entry["path"]), entry["mode"])
        for entry in sorted((e for e in entries if e.get("dir")), key=lambda e: e["path"], reverse=True):
            if entry["path"] != ".":
                sync_directory(os.path.join(self.staging, entry["path"]))
                os.chmod(os.path.join(self.staging, entry["path"]), entry["mode"])
        os.fsync(self._lock)
        aside = None
        if os.path.lexists(self.final):
            if not self.replace:
                raise Refused(f"{self.final} appeared on {self.host} meanwhile; it was left alone")
            aside = os.path.join(self.parent, f".{self.name}.replaced")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(self.final, aside)
        os.fchmod(self._lock, next(entry["mode"] for entry in entries if entry["path"] == "."))
        try:
            os.rename(self.staging, self.final)
        except OSError:
            if aside:
                os.rename(aside, self.final)
            raise
        sync_directory(self.parent)
        if aside:
            shutil.rmtree(aside)


def staging_of(final):
    parent, name = os.path.split(final)
    return os.path.join(parent, f".{name}.incoming")


def sync_directory(path):
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---------------------------------------------------------------------------------------------------------------------
# As a program: channel.py, with its orders beside it


ORDER = "order.json"
PID_FILE = "receiver.pid"


def order_directory():
    """Where this program was laid down, or None when it runs as part of something else."""
    return os.path.dirname(os.path.abspath(sys.argv[0])) if os.path.basename(sys.argv[0]) == "channel.py" else None


def register_receiver(directory):
    if directory:
        with open(os.path.join(directory, PID_FILE), "w", encoding="ascii") as stream:
            stream.write(f"{os.getpid()}\n")


def dismiss_receiver(directory):
    """Ends the receiver that was started from this directory, if it still runs (never this process)."""
    if not directory:
        return
    try:
        with open(os.path.join(directory, PID_FILE), encoding="ascii") as stream:
            pid = int(stream.read())
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            arguments = stream.read().split(b"\0")
    except (OSError, ValueError):
        return
    if pid != os.getpid() and os.fsencode(os.path.join(directory, "channel.py")) in arguments:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass


def describe_error(exc):
    return {"error": str(exc), "kind": "Interrupted" if isinstance(exc, Interrupted) else "Refused"}


def send(frames, order):
    sender = Sender(
        frames,
        order["path"],
        listing(order["path"]),
        order["compression"],
        order["compression_level"],
        order["rate_limit"],
    )
    report = {}
    try:
        report["verdict"] = sender.run()
    except ChannelError as exc:
        report.update(describe_error(exc))
    return dict(report, compression=sender.compression, reached=sender.reached)


def receive(frames, order):
    receiver = Receiver(frames, order["final"], order["host"], order["replace"])
    report = {}
    try:
        report["verdict"] = receiver.run()
    except ChannelError as exc:
        report.update(describe_error(exc))
    return dict(report, reached=receiver.reached)


def main():
    """Does what order.json says; the last line on stderr is the report, for the one who started this program."""
    with open(os.path.join(order_directory(), ORDER), encoding="utf-8") as stream:
        order = json.load(stream)
    frames = Frames(sys.stdin.fileno(), sys.stdout.fileno(), order["idle_limit"])
    try:
        report = (send if order["role"] == "send" else receive)(frames, order)
    except (ChannelError, OSError) as exc:
        report = describe_error(exc)
    sys.stderr.write(json.dumps(report) + "\n")
    return 1 if "error" in report else 0


if __name__ == "__main__":
    raise SystemExit(main())
