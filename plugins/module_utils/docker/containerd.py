# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few words that have to be said to the containerd that Docker uses.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.system import procfs

_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/docker/containerd/docker-containerd.sock",
)
# What containerd's program is called, and Docker's, which once had it start containerd.
_PROGRAMS = ("containerd", "docker-containerd", "dockerd")


def ctr(*words: str) -> str:
    """What containerd's own client says in Docker's namespace; empty where there is none or it fails."""
    program = shutil.which("ctr") or shutil.which("docker-containerd-ctr")
    address = next((place for place in _SOCKETS if os.path.exists(place)), None)
    if not program or not address:
        return ""
    command = [program, "--address", address, "--namespace", "moby", *words]
    try:
        done = subprocess.run(
            command, timeout=30, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def temporary_folders() -> set[str]:
    """Where containerd unpacks a checkpoint for its restore: its folder for temporary files, as it sees it."""
    found = set()
    for number in daemons():
        variables = dict(line.partition("=")[::2] for line in procfs.read(f"/proc/{number}/environ").split("\0"))
        place = variables.get("XDG_RUNTIME_DIR") or variables.get("TMPDIR") or "/tmp"
        found.add(f"/proc/{number}/root{place}")
    return found


def daemons(places: Iterable[str] = _SOCKETS) -> set[int]:
    """The processes of this server that are containerd: those that listen at its sockets, and those of its program.

    A process can have any name and any environment. What is root's and in no container has those that root gave it, but
    for a program such as sudo, which has its user's until it has asked for a password; so the program counts.
    """
    running = {one for one in procfs.all_processes() if os.path.basename(procfs.executable(one) or "") in _PROGRAMS}
    return {one for one in running.union(map(_listener, places)) if one and procfs.is_of_server(one)}


def _listener(path: str) -> int:
    """The process that has begun to listen at a socket; 0 where there is none in this PID namespace."""
    credentials = struct.Struct("3i")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        try:
            connection.connect(path)
        except OSError:
            return 0
        read = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
        process: int = credentials.unpack(read)[0]
    # systemd listens in place of a program that it starts when it is wanted.
    return process if process != 1 else 0


def collect_garbage() -> None:
    """Lets containerd delete what an earlier checkpoint left in its content store.

    Docker removes its temporary image after a checkpoint, but the blobs stay until containerd's collector comes by. A
    second checkpoint of the same container before that fails with C(content sha256:... already exists), and the
    container is then dead without images. Deleting a lease synchronously runs the collector at once.
    """
    lease = f"fog-migration-{uuid.uuid4()}"
    ctr("leases", "create", "--id", lease)
    ctr("leases", "delete", "--sync", lease)
