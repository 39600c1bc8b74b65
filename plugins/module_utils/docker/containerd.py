# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The few words that have to be said to the containerd that Docker uses.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid

from ansible_collections.fog.migration.plugins.module_utils.system import procfs

_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/docker/containerd/docker-containerd.sock",
)


def ctr(*words: str) -> str:
    """What containerd's own client says in Docker's namespace; empty where there is none or it fails."""
    program = shutil.which("ctr") or shutil.which("docker-containerd-ctr")
    socket = next((place for place in _SOCKETS if os.path.exists(place)), None)
    if not program or not socket:
        return ""
    command = [program, "--address", socket, "--namespace", "moby", *words]
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
    for number in procfs.all_processes():
        if procfs.program(number) in ("containerd", "dockerd"):
            variables = dict(line.partition("=")[::2] for line in procfs.read(f"/proc/{number}/environ").split("\0"))
            place = variables.get("XDG_RUNTIME_DIR") or variables.get("TMPDIR") or "/tmp"
            found.add(f"/proc/{number}/root{place}")
    return found


def collect_garbage() -> None:
    """Lets containerd delete what an earlier checkpoint left in its content store.

    Docker removes its temporary image after a checkpoint, but the blobs stay until containerd's collector comes by. A
    second checkpoint of the same container before that fails with C(content sha256:... already exists), and the
    container is then dead without images. Deleting a lease synchronously runs the collector at once.
    """
    lease = f"fog-migration-{uuid.uuid4()}"
    ctr("leases", "create", "--id", lease)
    ctr("leases", "delete", "--sync", lease)
