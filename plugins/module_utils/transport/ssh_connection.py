# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The direct way: the source sends over its own ssh, with the key that the destination has authorized.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError, Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.system.pipes import piped
from ansible_collections.fog.migration.plugins.module_utils.transport import (
    directory_transfer,
    framing,
    listing,
    ssh_access,
)


class SendingFailed(CollectionError):
    """The directory did not arrive. The text is one sentence; `stats` is what it cost, and how far it came."""

    def __init__(self, message: str, stats: dict) -> None:
        super().__init__(message)
        self.stats = stats


class SshConnection:
    """An ssh to the destination, its two pipes, and what it says on the side."""

    def __init__(self, command: list[str], deadline: float) -> None:
        environment = ssh_access.ssh_environment(os.environ)
        self.lines: list[str] = []
        self.process, self.stdin, self.stdout = piped(command, stderr=subprocess.PIPE, bufsize=0, env=environment)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._watchdog = threading.Timer(max(0.1, deadline - time.monotonic()), self.process.terminate)
        self._watchdog.daemon = True
        self._watchdog.start()

    def _listen(self) -> None:
        for line in self.process.stderr or ():
            self.lines.append(line.decode("utf-8", "replace"))
            del self.lines[:-200]

    def close(self) -> None:
        self._watchdog.cancel()
        self.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._listener.join(5)
        self.stdout.close()


class DirectSending:
    """Sends a directory over ssh, as many times as it may, and keeps the stats.

    :param target: how to log in at the destination: C(key), C(hosts_file), C(user), C(address), C(port).
    """

    def __init__(self, params: dict, target: dict) -> None:
        self.path = params["path"]
        self.compression = params["compression"]
        self.level = params["compression_level"]
        self.rate_limit = int(params["rate_limit"] * 1024 * 1024)
        self.attempts_left = params["retries"] + 1
        self.timeout = params["timeout"]
        self.target = target
        self.stats = {
            "bytes_sent": 0,
            "bytes_received": 0,
            "seconds": 0.0,
            "attempts": 0,
            "resumed_bytes": 0,
            "compression": params["compression"],
            "reached": False,
        }

    def run(self) -> dict:
        entries = listing.listing(self.path)
        deadline = time.monotonic() + self.timeout
        while True:
            self.attempts_left -= 1
            try:
                self._attempt(entries, deadline)
                return self.stats
            except Interrupted as exc:
                hopeless = ssh_access.is_hopeless(str(exc))
                if hopeless or not self.attempts_left or time.monotonic() >= deadline:
                    late = f" (the timeout of {self.timeout} s is over)" if time.monotonic() >= deadline else ""
                    raise SendingFailed(f"{exc}{late}", dict(self.stats, interrupted=True)) from exc
                time.sleep(min(2.0 ** self.stats["attempts"], 15, max(0, deadline - time.monotonic())))
            except Refused as exc:
                raise SendingFailed(str(exc), dict(self.stats, interrupted=False)) from exc

    def _attempt(self, entries: list[dict], deadline: float) -> None:
        started = time.monotonic()
        self.stats["attempts"] += 1
        connection = SshConnection(
            ssh_access.ssh_command(
                self.target["key"],
                self.target["hosts_file"],
                self.target["user"],
                self.target["address"],
                self.target["port"],
            ),
            deadline,
        )
        frames = framing.Frames(connection.stdout.fileno(), connection.stdin.fileno(), self.timeout)
        sender = directory_transfer.Sender(frames, self.path, entries, self.compression, self.level, self.rate_limit)
        try:
            sender.run()
        except Interrupted as exc:
            connection.close()
            raise Interrupted(ssh_access.ssh_complaint(connection.lines) or str(exc)) from exc
        finally:
            connection.close()
            sent, received = ssh_access.ssh_traffic(connection.lines) or (frames.sent, frames.received)
            self.stats["bytes_sent"] += sent
            self.stats["bytes_received"] += received
            self.stats["seconds"] = round(self.stats["seconds"] + time.monotonic() - started, 3)
            self.stats["resumed_bytes"] = sender.resumed_bytes
            self.stats["compression"] = sender.compression
            self.stats["reached"] = self.stats["reached"] or sender.reached
