# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a container cannot be checkpointed.

Pure functions all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.fog.migration.plugins.module_utils.docker import ways
from ansible_collections.fog.migration.plugins.module_utils.docker.version import version_tuple


def checkpoint_refusal(
    inspect: dict,
    daemon: dict,
    criu_version: str | None,
    foreign_user: bool,
    goes_on: bool,
    way: str,
    stopped: Sequence[str] = (),
) -> tuple[str, str] | None:
    """Why a checkpoint of this container cannot work, and what to do about it; None where it can.

    :param inspect: the container's inspect data.
    :param daemon: see C(api.daemon_facts).
    :param foreign_user: see C(procfs.unreadable_limits).
    :param goes_on: whether the checkpoint does not end the container.
    :param way: one of C(ways.WAYS).
    :param stopped: see C(procfs.stopped_below).
    :returns: a pair of clauses, or None.
    """
    return (
        _not_running(inspect)
        or (ways.checkpoint_refusal(daemon) if way == ways.THROUGH_DOCKER else None)
        or _criu_refusal(inspect, criu_version, foreign_user, stopped)
        or (_docker_refusal(inspect, daemon, goes_on) if way == ways.THROUGH_DOCKER else None)
        or (None if goes_on else _end_refusal(inspect))
    )


def _not_running(inspect: dict) -> tuple[str, str] | None:
    name, state = inspect["Name"].lstrip("/"), inspect["State"]
    if not state.get("Running"):
        status = state.get("Status", "not running")
        return f"the container {name} is not running ({status})", f"start it first: docker start {name}"
    if state.get("Paused"):
        return f"the container {name} is paused", f"resume it first: docker unpause {name}"
    if state.get("Restarting"):
        return f"the container {name} is restarting all the time", "look at its log and mend it first"
    return None


def _criu_refusal(
    inspect: dict, criu_version: str | None, foreign_user: bool, stopped: Sequence[str]
) -> tuple[str, str] | None:
    """What CRIU cannot do, by whomever it is called."""
    name = inspect["Name"].lstrip("/")
    if not criu_version:
        return "criu is not installed, which makes the images of a checkpoint", "install criu on this host"
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
    return None


def _docker_refusal(inspect: dict, daemon: dict, goes_on: bool) -> tuple[str, str] | None:
    """What Docker's own checkpoints cannot do."""
    name, version = inspect["Name"].lstrip("/"), daemon["version"]
    if inspect["Config"].get("Tty") and version_tuple(version) < (19, 3):
        return (
            f"the container {name} has a terminal (TTY), which Docker {version} cannot checkpoint and restore",
            "run it without --tty, or with Docker 19.03 or newer",
        )
    if goes_on:
        return None
    if (17, 12) <= version_tuple(version) < (18, 9):
        return (
            (
                f"Docker {version} leaves a container running after a checkpoint that should end it, "
                "so what it does after the checkpoint would be lost"
            ),
            "use another version of Docker, or leave_running",
        )
    # It has ended before anybody knows whether the checkpoint is complete, and nothing would bring it back.
    return ways.restore_refusal(daemon)


def _end_refusal(inspect: dict) -> tuple[str, str] | None:
    name = inspect["Name"].lstrip("/")
    if inspect["HostConfig"].get("AutoRemove"):
        return (
            (
                f"the container {name} was started with --rm, so Docker deletes it the instant that the checkpoint "
                "ends it and nothing could be undone"
            ),
            "run it without --rm, or use leave_running",
        )
    return None
