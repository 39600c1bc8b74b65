# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source's part in a run of live migrations.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from typing import Any, Dict

from ansible_collections.fog.migration.plugins.module_utils import recovery
from ansible_collections.fog.migration.plugins.module_utils.agent import processes, reservation, supervisor
from ansible_collections.fog.migration.plugins.module_utils.agent.each import each
from ansible_collections.fog.migration.plugins.module_utils.agent.migration import Migration, of_request
from ansible_collections.fog.migration.plugins.module_utils.agent.steps import Steps
from ansible_collections.fog.migration.plugins.module_utils.docker import api, options, restart_policy
from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError, MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration import group_migration, switchover
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import settings, source, source_requests
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.precopy import Limits
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, limits, procfs, program_socket
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access, transfer

# Seconds until the connection to the destination is there, and until a channel is.
CONNECT_LIMIT = 30
# Seconds that a request for progress waits for something new.
PROGRESS_LIMIT = 1.0

Results = Dict[str, Dict[str, Any]]


# ---------------------------------------------------------------------------------------------------------------------
# Stage 1: reservation


def reserve(folder: str, arguments: dict[str, Any], steps: Steps) -> dict[str, Any]:
    """Opens the journal of each migration, and makes room for its memory; C(public_key) of the run, C(migrations)."""
    migrations = of_request(arguments)

    def one(migration: Migration) -> dict[str, Any]:
        room = transfer.room_here(migration.mode, migration.lazily, migration.memory, migration.shared)
        directory, made = reservation.reserve(folder, migration, arguments, "source", room)
        own = settings.for_source(
            directory,
            migration.id,
            arguments["compression"],
            arguments["rate_limit"],
            arguments["timeout"],
            container=migration.container_id,
            docker_socket=reservation.docker_socket(),
            together=migration.together,
            lazy_pages=migration.lazily,
            mounts=[one.place for one in migration.ordered],
            with_log=migration.log,
        )
        reserved = reservation.ReservedSource(
            directory,
            transfer.copies_memory(migration.mode, migration.shared),
            transfer.copies_only_shared(migration.mode),
            Limits.from_options(**arguments["limits"]),
            own,
        )
        reservation.store(folder, migration.id, reserved)
        return {"staging": made}

    key = os.path.join(folder, "key")
    public_key = ssh_access.make_key(folder) if not os.path.exists(key) else None
    return {"public_key": public_key, "migrations": each(migrations, one, steps, "reserve", at_once=2)}


# ---------------------------------------------------------------------------------------------------------------------
# The connection


def connect(folder: str, there: dict[str, Any], channels: int, keep_key: bool) -> list[str]:
    """Opens the SSH connection to the destination, unless it is open; the control socket of each channel.

    A server lets one connection have a number of sessions. Only where that is not enough there are more connections.

    :param there: the destination: C(name), C(address), C(port), C(user), C(host_keys), C(sessions) for one connection.
    :param keep_key: whether a channel may have to be opened anew.
    :raises MigrationError: when it cannot be opened.
    """
    hosts_file, key = os.path.join(folder, "known_hosts"), os.path.join(folder, "key")
    with open(hosts_file, "w", encoding="ascii") as stream:
        stream.write(ssh_access.known_hosts(there["host_keys"]))
    wanted = -(-channels // there["sessions"])
    controls = [os.path.join(folder, f"{ssh_access.CONNECTION}{number}") for number in range(wanted)]
    for control in controls:
        if not os.path.exists(control):
            _open_connection(control, key, hosts_file, there)
    # They have done what they were for.
    for path in () if keep_key else (key, key + ".pub"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return [controls[number // there["sessions"]] for number in range(channels)]


def _open_connection(control: str, key: str, hosts_file: str, there: dict[str, Any]) -> None:
    words = ssh_access.ssh_command(key, hosts_file, there["user"], there["address"], there["port"])
    command = [words[0], "-M", "-N", "-S", control, *words[1:-1]]
    log = control + ".log"
    process = deploy.spawn(command, log, ssh_access.ssh_environment(os.environ))
    try:
        program_socket.wait_for(control, log, CONNECT_LIMIT, lambda: process.poll() is None, ssh_access.ssh_complaint)
    except program_socket.NotListening as exc:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise MigrationError(f"the SSH connection to {there['name']} could not be opened ({exc})") from exc


def _channel(control: str, identity: str) -> list[str]:
    return ["ssh", "-F", "/dev/null", "-T", "-o", "BatchMode=yes", "-S", control, "destination", identity]


def _command_again(folder: str, there: dict[str, Any], identity: str) -> list[str]:
    """The words of the command that opens a channel anew, over a connection of its own: the shared one may be lost."""
    hosts_file, key = os.path.join(folder, "known_hosts"), os.path.join(folder, "key")
    words = ssh_access.ssh_command(key, hosts_file, there["user"], there["address"], there["port"])
    return [*words[:-1], identity]


def arm(folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Opens the channel of each migration; the container is made at the destination, ready to be armed."""
    migrations = of_request(arguments)
    with steps.step("", "connect"):
        keep_key = any(one.is_post_copy for one in migrations)
        controls = connect(folder, arguments["destination"], len(migrations), keep_key)
    logs, children = {}, {}
    for migration, control in zip(migrations, controls):
        logs[migration.id] = os.path.join(folder, f"{migration.id}.log")
        again = _command_again(folder, arguments["destination"], migration.id) if migration.is_post_copy else None
        channel = _channel(control, migration.id)
        work = functools.partial(_serve, folder, migration, channel, again, logs[migration.id])
        children[migration.id] = processes.spawn(work)

    def one(migration: Migration) -> dict[str, Any]:
        channel, child = reservation.channel_of(folder, migration.id), children[migration.id]
        try:
            program_socket.wait_for(
                channel, logs[migration.id], CONNECT_LIMIT, lambda: procfs.started(child) is not None
            )
        except program_socket.NotListening as exc:
            raise MigrationError(f"the channel could not be opened ({exc})") from exc
        return source_requests.ask(channel, {"do": "make"})

    return each(migrations, one, steps, "arm")


def _serve(folder: str, migration: Migration, command: list[str], again: list[str] | None, log: str) -> None:
    """The source's end of a channel, in a process of its own. Why it failed is the last line of the log.

    :param again: opens the channel anew when it was lost; None where that would be of no use.
    """
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    try:
        reserved = reservation.load_source(folder, migration.id)
    except CollectionError as exc:
        sys.stderr.write(f"{exc}\n")
        return
    work = functools.partial(_run_end, reserved, command, again is not None)
    if again:
        supervisor.supervise(reserved.directory, reserved.settings, work, again)
    else:
        work()


def _run_end(reserved: reservation.ReservedSource, command: list[str], supervised: bool) -> None:
    try:
        source.run(reserved.directory, reserved.settings, command, supervised)
    except (CollectionError, *limits.NO_MEMORY) as exc:
        sys.stderr.write(f"{limits.out_of_memory(exc) if isinstance(exc, limits.NO_MEMORY) else exc}\n")


# ---------------------------------------------------------------------------------------------------------------------
# Stage 2: iterative pre-copy


def copy(folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Begins to copy what can be copied while the containers run."""

    def one(migration: Migration) -> dict[str, Any]:
        reserved = reservation.load_source(folder, migration.id)
        request = {"do": "copy", "memory": reserved.copies_memory, "only_shared": reserved.only_shared}
        channel = reservation.channel_of(folder, migration.id)
        return source_requests.ask(channel, {**request, "limits": reserved.limits._asdict()})

    return each(of_request(arguments), one, steps, "copy")


def progress(folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """How far the copying of each is; as soon as all have ended, or after a moment."""
    deadline = time.monotonic() + PROGRESS_LIMIT

    def one(migration: Migration) -> dict[str, Any]:
        channel = reservation.channel_of(folder, migration.id)
        while True:
            now = source_requests.ask(channel, {"do": "progress"})
            if now["ended"]:
                steps.note(migration.container, f"copied: {now['ended']}, {now['sent']} bytes sent")
            if now["ended"] or time.monotonic() > deadline:
                return now
            time.sleep(0.02)

    return each(of_request(arguments), one, _Silent(folder), "progress")


class _Silent(Steps):
    """Requests that are made over and over again are no steps."""

    def note(self, container: str, text: str) -> None:
        """Nothing is noted."""


# ---------------------------------------------------------------------------------------------------------------------
# Stage 3: stop-and-copy


def switch_over(folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Freezes the containers and has them go on at the destination: all of them together, or each by itself."""
    migrations = of_request(arguments)
    if not arguments["together"]:
        at_once = int(arguments["at_once"])
        return each(migrations, lambda one: _switch_over(folder, [one])[0], steps, "switch over", at_once)
    with steps.step(", ".join(one.container for one in migrations), "switch over"):
        results = _switch_over(folder, migrations)
    return {migration.id: {"result": result} for migration, result in zip(migrations, results)}


def _switch_over(folder: str, migrations: list[Migration]) -> list[dict[str, Any]]:
    """Moves these containers together.

    :raises MigrationError: of the first one that could not; C(restart_policy) of those that stayed is back then.
    """
    client = api.connect(options.DEFAULTS)
    try:
        members = [_held(client, one, reservation.channel_of(folder, one.id)) for one in migrations]
        return switchover.move(client, members)
    finally:
        client.close()


def _held(client: api.CheckpointClient, migration: Migration, channel: str) -> group_migration.Move:
    """Sets the restart policy to C(no): a daemon that starts anew must not revive what is frozen here."""
    inspect = client.inspect_container(migration.container_id)
    held = restart_policy.to_hold(inspect, leave_running=False)
    if held:
        journal.note(migration.id, restart_policy=held)
        client.update_container(inspect["Id"], restart_policy={"Name": "no"})
    return group_migration.Move(migration.container, channel, migration.mode, inspect["Id"], held)


# ---------------------------------------------------------------------------------------------------------------------
# Stages 4 and 5


def commit(_folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Notes that the source must not run the containers any more."""

    def one(migration: Migration) -> dict[str, Any]:
        journal.note(migration.id, stage="commitment", owner="destination")
        return {}

    return each(of_request(arguments), one, steps, "commit", at_once=1)


def finish(_folder: str, arguments: dict[str, Any], steps: Steps) -> Results:
    """Ends the migrations on this server, as source or as destination; C(said) is how the container is here now."""

    def one(migration: Migration) -> dict[str, Any]:
        entry = journal.load(migration.id)
        if not entry:
            return {"said": ""}
        client = api.connect(options.DEFAULTS)
        try:
            return {"said": recovery.complete(entry, client, keep=False)}
        finally:
            client.close()

    return each(of_request(arguments), one, steps, "finish", at_once=4)
