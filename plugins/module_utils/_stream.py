# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stream of data goes through: zstd, as a program beside us, and a limit to its pace.

Private to the collection fog.migration. Laid down on servers by C(_program).
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
import time

from ansible_collections.fog.migration.plugins.module_utils._frames import ALIVE_EVERY, CHUNK, Refused


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
