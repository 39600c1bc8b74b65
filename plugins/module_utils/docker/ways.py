# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two ways to freeze a container into a checkpoint and to restore it: through its OCI runtime, or through Docker.

A checkpoint is the same, whichever way it was made: Docker has the same OCI runtime write it.

Pure functions all of them.
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.docker.version import (
    OLDEST_LIVE,
    starts_from_checkpoints,
    version_tuple,
)

# The OCI runtime that the role runtime installs. Into containers that are made for it, it restores.
RUNTIME = "fog-runc"
THROUGH_RUNTIME, THROUGH_DOCKER = WAYS = ("runtime", "docker")


def way(daemon: dict, at_socket: bool = True) -> str:
    """The way that the server of this daemon goes.

    :param daemon: see C(daemon.facts).
    :param at_socket: whether the daemon is asked at a Unix socket, as what freezes and restores without its SDK does.
    """
    ours = RUNTIME in daemon["runtimes"] and version_tuple(daemon["version"]) >= OLDEST_LIVE
    return THROUGH_RUNTIME if ours and at_socket else THROUGH_DOCKER


def keeps_locks(docker_version: str, options: dict[str, str]) -> bool:
    """Whether this Docker by itself takes locks on files along, into a checkpoint and out of it.

    CRIU does so only where it is told to, which Docker cannot do, but CRIU's configuration can.

    :param options: those that CRIU's configuration for the OCI runtime has, which no runc of Docker before 19.03 reads.
    """
    return "file-locks" in options and version_tuple(docker_version) >= OLDEST_LIVE


def checkpoint_refusal(daemon: dict) -> tuple[str, str] | None:
    """Why this Docker makes no checkpoints by itself, and what to do about it; None where it does."""
    if daemon["experimental"]:
        return None
    problem = "the Docker daemon does not run in experimental mode, which its own checkpoints need"
    if version_tuple(daemon["version"]) < OLDEST_LIVE:
        return problem, 'set "experimental": true in /etc/docker/daemon.json and restart Docker'
    return problem, f"install the OCI runtime {RUNTIME} with the role fog.migration.runtime, which does without it"


def restore_refusal(daemon: dict) -> tuple[str, str] | None:
    """Why this Docker starts no container from a checkpoint by itself, and what to do about it; None where it does."""
    if not starts_from_checkpoints(daemon["version"]):
        return (
            f"Docker {daemon['version']} cannot start a container from a checkpoint by itself (containerd issue 12141)",
            f"install the OCI runtime {RUNTIME} with the role fog.migration.runtime",
        )
    return checkpoint_refusal(daemon)
