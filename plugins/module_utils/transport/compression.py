# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stream of data goes through: compression, where it pays, and a limit to its pace.

Files go through zstd, a program beside us. Pages of memory go through zlib, frame by frame, which needs no program.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK, Data
from ansible_collections.fog.migration.plugins.module_utils.system.pipes import piped
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    ALIVE_EVERY,
    Frames,
    memory_head,
)


class Sink(Protocol):
    """What takes bytes as they come."""

    def write(self, data: bytes | bytearray) -> None:
        """Takes the next bytes."""


def zstd_program() -> str | None:
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


def compressed(
    chunks: Iterator[bytes], program: str, level: int, on_wait: Callable[[], None]
) -> Generator[bytes, None, None]:
    """The chunks as a zstd stream. on_wait is called when zstd has had nothing to say for a while."""
    problems: list[Exception] = []
    process, stdin, stdout = piped([program, "-q", "-c", f"-{level}"])

    def feed() -> None:
        try:
            with stdin:
                for chunk in chunks:
                    stdin.write(chunk)
        except BrokenPipeError:
            problems.append(Refused("zstd ended before its input did"))
        except Exception as exc:
            problems.append(exc)
            process.kill()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        while True:
            if not select.select([stdout], [], [], ALIVE_EVERY)[0]:
                on_wait()
                continue
            data = os.read(stdout.fileno(), CHUNK)
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
        stdout.close()


class Decompressor:
    """Writes what zstd makes of the bytes into a sink, from a thread of its own."""

    def __init__(self, program: str, sink: Sink) -> None:
        self._sink = sink
        self._problem: Exception | None = None
        self._process, self._stdin, self._stdout = piped([program, "-q", "-d", "-c"], stderr=subprocess.DEVNULL)
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        try:
            while True:
                data = os.read(self._stdout.fileno(), CHUNK)
                if not data:
                    return
                self._sink.write(data)
        except Exception as exc:
            self._problem = exc
            self._process.kill()

    def write(self, data: bytes | bytearray) -> None:
        try:
            self._stdin.write(data)
            self._stdin.flush()
        except BrokenPipeError:
            self._thread.join()
            raise self._problem or Refused("the compressed stream was damaged") from None

    def close(self) -> None:
        """What has come in so far is on its way to the sink when this returns; raises what the sink raised."""
        try:
            self._stdin.close()
        except BrokenPipeError:
            pass
        self._thread.join()
        self._stdout.close()
        if self._process.wait() and not self._problem:
            self._problem = Refused("the compressed stream was damaged or incomplete")
        if self._problem:
            raise self._problem


class Pace:
    """Holds a stream below so many bytes per second (0: as fast as it goes)."""

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._start: float | None = None
        self._count = 0

    def wait(self, count: int) -> None:
        if not self._rate:
            return
        if self._start is None:
            self._start = time.monotonic()
        self._count += count
        ahead = self._count / float(self._rate) - (time.monotonic() - self._start)
        if ahead > 0:
            time.sleep(ahead)


def choose_compression(wanted: str, sender_has_zstd: bool, receiver: dict) -> str:
    """none or zstd, from what was asked for (none, zstd, auto) and what both ends have."""
    if wanted == "none":
        return "none"
    missing = "the source" if not sender_has_zstd else None if receiver.get("zstd") else str(receiver.get("host"))
    if not missing:
        return "zstd"
    if wanted == "zstd":
        raise Refused(f"there is no zstd on {missing}; install it, or use compression=auto or none")
    return "none"


def pays(link: float, speed: float, ratio: float) -> bool:
    """Whether compressed data is through sooner than plain data, when one thread compresses and then writes.

    :param link: bytes that the link takes per second.
    :param speed: bytes that are compressed per second.
    :param ratio: what is left of a byte.
    """
    return 1 / speed + ratio / link < 1 / link


class PageStream:
    """Pages on their way into a channel: compressed where that pays, and no faster than is allowed.

    What the link takes is measured with plain pages, at the begin and then now and again; what compression takes and
    leaves, with a sample of each window.

    :param compression: none, or auto.
    :param bytes_per_second: the pace, 0 for any.
    """

    WINDOW = 16 * 1024 * 1024
    # Every so many windows, one goes plain to measure the link again.
    PROBE = 8

    def __init__(self, frames: Frames, compression: str = "none", bytes_per_second: float = 0) -> None:
        self._frames = frames
        self._compression = compression
        self._pace = Pace(bytes_per_second)
        self._compress = False
        self._window = 0
        self._link = 0.0
        # Of this window: bytes, and seconds in which the channel did not take more.
        self._taken, self._waited = 0, 0.0
        self.saved = 0

    def send(self, kind: bytes, name: str, vaddr: int, data: Data, hurry: bool = False) -> None:
        """Writes one frame of pages.

        :param hurry: whether the container stands still: then nothing holds it up.
        """
        packed = zlib.compress(data, 1) if self._compress else data
        compressed = len(packed) < len(data)
        payload = packed if compressed else data
        began = time.monotonic()
        self._frames.write(kind, memory_head(name, vaddr, compressed), payload)
        if not hurry:
            self._pace.wait(len(payload))
        self.saved += len(data) - len(payload)
        self._note(data, time.monotonic() - began)

    def _note(self, data: Data, seconds: float) -> None:
        if self._compression == "none":
            return
        self._taken += len(data)
        self._waited += seconds
        if self._taken >= self.WINDOW:
            self._decide(data)

    def _decide(self, sample: Data) -> None:
        """Whether the next window is to be compressed."""
        self._window += 1
        if not self._compress:
            self._link = self._taken / max(self._waited, 1e-6)
        began = time.monotonic()
        ratio = len(zlib.compress(sample, 1)) / len(sample)
        speed = len(sample) / max(time.monotonic() - began, 1e-6)
        self._compress = self._window % self.PROBE != 0 and pays(self._link, speed, ratio)
        self._taken, self._waited = 0, 0.0
