# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a container cannot be checkpointed.

Pure functions all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.fog.migration.plugins.module_utils.docker.version import version_tuple


def checkpoint_refusal(
    inspect: dict,
    daemon: dict,
    criu_version: str | None,
    foreign_user: bool,
    leave_running: bool,
    stopped: Sequence[str] = (),
) -> tuple[str, str] | None:
    """Why a checkpoint of this container cannot work, and what to do about it; None where it can.

    :param inspect: the container's inspect data.
    :param daemon: see C(api.daemon_facts).
    :param foreign_user: see C(procfs.unreadable_limits).
    :param stopped: see C(procfs.stopped_below).
    :returns: a pair of clauses, or None.
    """
    name = inspect["Name"].lstrip("/")
    state = inspect["State"]
    version = daemon["version"]
    if not state.get("Running"):
        status = state.get("Status", "not running")
        return f"the container {name} is not running ({status})", f"start it first: docker start {name}"
    if state.get("Paused"):
        return f"the container {name} is paused", f"resume it first: docker unpause {name}"
    if state.get("Restarting"):
        return f"the container {name} is restarting all the time", "look at its log and mend it first"
    if not daemon["experimental"]:
        return (
            "the Docker daemon does not run in experimental mode, without which it has no checkpoints",
            'set "experimental": true in /etc/docker/daemon.json and restart Docker',
        )
    if not criu_version:
        return "criu is not installed, and Docker makes checkpoints with it", "install criu on this host"
    if inspect["Config"].get("Tty") and version_tuple(version) < (19, 3):
        return (
            f"the container {name} has a terminal (TTY), which Docker {version} cannot checkpoint and restore",
            "run it without --tty, or with Docker 19.03 or newer",
        )
    if foreign_user:
        return (
            (
                f"the container {name} has processes of other users than root, whose limits CRIU cannot read here "
                "because root lacks the capability CAP_SYS_RESOURCE on this host"
            ),
            "give this host, probably a container itself, that capability",
        )
    if stopped:
        # The kernel has CRIU wait for them until they are thawed, which nobody does before CRIU has ended.
        return (
            (
                f"the container {name} has processes that were stopped by a signal ({', '.join(stopped)}), and CRIU "
                "waits for those for ever while the container is frozen"
            ),
            "continue them with SIGCONT, or end them",
        )
    if leave_running:
        return None
    if inspect["HostConfig"].get("AutoRemove"):
        return (
            (
                f"the container {name} was started with --rm, so Docker deletes it the instant that it is frozen "
                "and nothing could be undone"
            ),
            "run it without --rm, or use leave_running",
        )
    if (17, 12) <= version_tuple(version) < (18, 9):
        return (
            (
                f"Docker {version} leaves a container running after a checkpoint that should end it, "
                "so what it does after the checkpoint would be lost"
            ),
            "use another version of Docker, or leave_running",
        )
    return None
