# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source's part in a run of live migrations.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import subprocess
import time
from typing import Any, Dict

from ansible_collections.fog.migration.plugins.module_utils import recovery
from ansible_collections.fog.migration.plugins.module_utils.agent import processes, reservation
from ansible_collections.fog.migration.plugins.module_utils.agent.each import Move, each
from ansible_collections.fog.migration.plugins.module_utils.agent.steps import Steps
from ansible_collections.fog.migration.plugins.module_utils.docker import api, options, restart_policy
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration import group_migration, source, switchover
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, procfs
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access, transfer

# Seconds until the connection to the destination is there, and until a channel is.
CONNECT_LIMIT = 30
# Seconds that a request for progress waits for something new.
PROGRESS_LIMIT = 1.0
RESTORE_OPTIONS = ["--tcp-established", "--ext-unix-sk", "--file-locks"]

Results = Dict[str, Dict[str, Any]]


# ---------------------------------------------------------------------------------------------------------------------
# Stage 1: reservation


def reserve(folder: str, arguments: dict[str, Any], steps: Steps) -> dict[str, Any]:
    """Opens the journal of each migration, and makes room for its memory; C(public_key) of the run, C(migrations)."""

    def one(move: Move) -> dict[str, Any]:
        copies = transfer.copies_here(move["mode"], move["lazily"])
        made = reservation.reserve(folder, move, arguments, "source", copies)
        rate_limit, limits = int(arguments["rate_limit"] * reservation.MIB), arguments["limits"]
        order = {
            "container": move["container_id"],
            "options": RESTORE_OPTIONS,
            "compression": "none" if arguments["compression"] == "none" else "auto",
            "rate_limit": rate_limit,
            "lazily": move["lazily"],
            "mode": move["mode"],
            "with_log": move["log"],
            "limits": dict(limits, threshold=int(limits["threshold"] * reservation.MIB)),
            "patience": arguments["timeout"],
            "lifetime": arguments["timeout"] * 2,
        }
        reservation.write_order(folder, move, made, order)
        return {"staging": made["staging"]}

    key = os.path.join(folder, "key")
    public_key = ssh_access.make_key(folder) if not os.path.exists(key) else None
    return {"public_key": public_key, "migrations": each(arguments["migrations"], one, steps, "reserve", at_once=2)}


# ---------------------------------------------------------------------------------------------------------------------
# The connection


def connect(folder: str, there: dict[str, Any], channels: int) -> list[str]:
    """Opens the SSH connection to the destination, unless it is open; the control socket of each channel.

    A server lets one connection have a number of sessions. Only where that is not enough there are more connections.

    :param there: the destination: C(address), C(port), C(user), C(host_keys), and C(sessions) for one connection.
    :raises MigrationError: when it cannot be opened.
    """
    hosts_file, key = os.path.join(folder, "known_hosts"), os.path.join(folder, "key")
    with open(hosts_file, "w", encoding="ascii") as stream:
        stream.write(ssh_access.known_hosts(there["host_keys"]))
    wanted = -(-channels // there["sessions"])
    controls = [os.path.join(folder, f"ssh-{number}") for number in range(wanted)]
    for control in controls:
        if not os.path.exists(control):
            _open_connection(control, key, hosts_file, there)
    # They have done what they were for.
    for path in (key, key + ".pub"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return [controls[number // there["sessions"]] for number in range(channels)]


def _open_connection(control: str, key: str, hosts_file: str, there: dict[str, Any]) -> None:
    words = ssh_access.ssh_command(key, hosts_file, there["user"], there["address"], there["port"])
    command = [words[0], "-M", "-N", "-S", control, *words[1:-1]]
    log = control + ".log"
    process = deploy.spawn(command, log)
    deadline = time.monotonic() + CONNECT_LIMIT
    while not os.path.exists(control):
        if process.poll() is not None or time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            with open(log, encoding="utf-8", errors="replace") as stream:
                why = ssh_access.ssh_complaint(stream.read().splitlines())
            raise MigrationError(f"the SSH connection to the destination could not be opened ({why or 'no answer'})")
        time.sleep(0.005)


def disconnect(folder: str) -> None:
    """Closes what C(connect) has opened."""
    for control in glob.glob(os.path.join(glob.escape(folder), "ssh-*")):
        if not control.endswith(".log"):
            command = ["ssh", "-F", "/dev/null", "-S", control, "-O", "exit", "destination"]
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=10)


def _channel(control: str, identity: str) -> list[str]:
    return ["ssh", "-F", "/dev/null", "-T", "-o", "BatchMode=yes", "-S", control, "destination", identity]


def arm(folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Opens the channel of each migration; the container is made at the destination, ready to be armed."""
    moves: list[Move] = arguments["migrations"]
    with steps.step("", "connect"):
        controls = connect(folder, arguments["destination"], len(moves))
    logs, children = {}, {}
    for move, control in zip(moves, controls):
        logs[move["id"]] = os.path.join(folder, f"{move['id']}.log")
        work = functools.partial(_serve, folder, move, _channel(control, move["id"]), logs[move["id"]])
        children[move["id"]] = processes.spawn(work)

    def one(move: Move) -> dict[str, Any]:
        channel = channel_of(folder, move)
        _wait_for(channel, children[move["id"]], logs[move["id"]])
        return ask(channel, {"do": "make"})

    return each(moves, one, steps, "arm")


def _serve(folder: str, move: Move, command: list[str], log: str) -> int:
    """The source's end of a channel, in a process of its own."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    order = reservation.read_order(folder, move["id"])
    return source.run(order["directory"], order, command)


def _wait_for(channel: str, child: int, log: str) -> None:
    deadline = time.monotonic() + CONNECT_LIMIT
    while not os.path.exists(channel):
        if procfs.started(child) is None or time.monotonic() > deadline:
            with open(log, encoding="utf-8", errors="replace") as stream:
                said = stream.read().strip().splitlines()
            raise MigrationError(f"the channel could not be opened ({said[-1] if said else 'no answer'})")
        time.sleep(0.002)


def channel_of(folder: str, move: Move) -> str:
    """The socket of the source's end of the channel."""
    return os.path.join(reservation.read_order(folder, move["id"])["directory"], source.SOCKET)


def ask(channel: str, request: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """What the source's end of a channel answers.

    :raises MigrationError: when it says that something went wrong, or says nothing.
    """
    try:
        answer = source.ask(channel, request, seconds)
    except (OSError, ValueError) as exc:
        raise MigrationError(f"the source's end of the channel does not answer ({exc})") from exc
    if "error" in answer:
        state, remedy = source.STATES[answer["state"]]
        raise MigrationError(answer["error"], state, remedy, container_state=answer["state"])
    return answer["result"]


# ---------------------------------------------------------------------------------------------------------------------
# Stage 2: iterative pre-copy


def copy(folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Begins to copy what can be copied while the containers run."""

    def one(move: Move) -> dict[str, Any]:
        order = reservation.read_order(folder, move["id"])
        memory = order["mode"] in transfer.PRECOPY_MODES
        return ask(channel_of(folder, move), {"do": "copy", "memory": memory, "limits": order["limits"]})

    return each(arguments["migrations"], one, steps, "copy")


def progress(folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """How far the copying of each is; as soon as all have ended, or after a moment."""
    deadline = time.monotonic() + PROGRESS_LIMIT

    def one(move: Move) -> dict[str, Any]:
        channel = channel_of(folder, move)
        while True:
            told = ask(channel, {"do": "progress"})
            if told["ended"]:
                steps.note(move["container"], f"copied: {told['ended']}, {told['sent']} bytes sent")
            if told["ended"] or time.monotonic() > deadline:
                return told
            time.sleep(0.02)

    return each(arguments["migrations"], one, _Silent(folder), "progress")


class _Silent(Steps):
    """Requests that are made over and over again are no steps."""

    def note(self, container: str, text: str) -> None:
        """Nothing is noted."""


# ---------------------------------------------------------------------------------------------------------------------
# Stage 3: stop-and-copy


def switch_over(folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Freezes the containers and has them go on at the destination: all of them together, or each by itself."""
    moves: list[Move] = arguments["migrations"]
    if not arguments["together"]:
        return each(
            moves, lambda move: _move(folder, [move])[0], steps, "switch over", at_once=int(arguments["at_once"])
        )
    with steps.step(", ".join(move["container"] for move in moves), "switch over"):
        told = _move(folder, moves)
    return {move["id"]: {"result": one} for move, one in zip(moves, told)}


def _move(folder: str, moves: list[Move]) -> list[dict[str, Any]]:
    """Moves these containers together.

    :raises MigrationError: of the first one that could not; C(restart_policy) of those that stayed is back then.
    """
    client = api.connect(options.DEFAULTS)
    try:
        return switchover.move(client, [_held(client, move, channel_of(folder, move)) for move in moves])
    finally:
        client.close()


def _held(client: api.CheckpointClient, move: Move, channel: str) -> group_migration.Move:
    """Sets the restart policy to C(no): a daemon that starts anew must not revive what is frozen here."""
    inspect = client.inspect_container(move["container_id"])
    held = restart_policy.to_hold(inspect, leave_running=False)
    if held:
        journal.note(move["id"], restart_policy=held)
        client.update_container(inspect["Id"], restart_policy={"Name": "no"})
    return group_migration.Move(move["container"], channel, move["mode"], inspect["Id"], held)


# ---------------------------------------------------------------------------------------------------------------------
# Stages 4 and 5


def commit(_folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Notes that the source must not run the containers any more."""

    def one(move: Move) -> dict[str, Any]:
        journal.note(move["id"], stage="commitment", owner="destination")
        return {}

    return each(arguments["migrations"], one, steps, "commit", at_once=1)


def finish(_folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Ends the migrations on this server, as source or as destination; C(said) is how the container is here now."""

    def one(move: Move) -> dict[str, Any]:
        entry = journal.load(move["id"])
        if not entry:
            return {"said": ""}
        client = api.connect(options.DEFAULTS)
        try:
            return {"said": recovery.complete(entry, client, keep=False)}
        finally:
            client.close()

    return each(arguments["migrations"], one, steps, "finish", at_once=4)
