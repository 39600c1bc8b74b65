# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The destination's part in a run of live migrations.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import functools
import os
import sys
import time
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.agent import processes, reservation
from ansible_collections.fog.migration.plugins.module_utils.agent.each import each
from ansible_collections.fog.migration.plugins.module_utils.agent.migration import Migration, of_request
from ansible_collections.fog.migration.plugins.module_utils.agent.steps import Steps
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import recreate
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.recreate import Recreation
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    judged,
    mounts,
    options,
    restart_policy,
)
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import destination, reopening, settings
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.config import Config
from ansible_collections.fog.migration.plugins.module_utils.network import docker_networks
from ansible_collections.fog.migration.plugins.module_utils.transport import (
    expiry,
    ssh_access,
    staging,
    transfer,
)
from ansible_collections.fog.migration.plugins.module_utils.validate import load_json_file

# What can go wrong while a container is made.
_MAKE_FAILURES: tuple[type[Exception], ...] = (
    MigrationError,
    *api.FAILURES,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
)
# Seconds that a container has to run here before that counts: what cannot go on here mostly ends at once.
PROOF = 0.5
# Sessions that sshd allows in one connection unless it is told otherwise (MaxSessions in sshd_config(5)).
SESSIONS = 10

# ---------------------------------------------------------------------------------------------------------------------
# Stage 1: reservation


def reserve(folder: str, arguments: dict[str, Any], steps: Steps) -> dict[str, Any]:
    """Opens the journal of each migration, makes its networks and room for its memory, and admits the source's key.

    :returns: C(user), C(host_keys) and C(sessions) of a connection, and C(migrations).
    :raises MigrationError: when the source could not log in.
    """
    migrations = of_request(arguments)
    access = _access(arguments)
    keeps_key = any(one.is_post_copy for one in migrations)

    def one(migration: Migration) -> dict[str, Any]:
        room = transfer.room_there(migration.mode, migration.memory, migration.shared)
        directory, made = reservation.reserve(folder, migration, arguments, "destination", room)
        _make_networks(migration)
        own = settings.for_destination(
            directory,
            migration.id,
            arguments["restore_timeout"],
            int(arguments["timeout"]),
            docker_socket=reservation.docker_socket(),
            host=migration.destination,
            together=migration.together,
            mounts=migration.ordered,
            log=migration.log,
            room=staging.size_for(room[0]),
        )
        reserved = reservation.ReservedDestination(directory, migration.name, migration.judged, keeps_key, own)
        reservation.store(folder, migration.id, reserved)
        return {"staging": made}

    # One after the other: of those that have a network in common, the first one makes it.
    results = each(migrations, one, steps, "reserve", at_once=1)
    if arguments.get("public_key") and any("result" in one for one in results.values()):
        _admit(folder, arguments["public_key"], access["user"], int(arguments["timeout"]))
    return dict(access, migrations=results)


def _access(arguments: dict[str, Any]) -> dict[str, Any]:
    login, current = ssh_access.login_user(arguments.get("user")), ssh_access.current_user()
    settings = ssh_access.read_sshd_settings(login)
    keys = ssh_access.read_host_keys(settings)
    problem = ssh_access.access_problem(settings, ssh_access.home_of(login)) or ssh_access.sudo_problem(login, current)
    if not keys:
        problem = problem or "no SSH host keys can be read in /etc/ssh"
    if problem:
        raise MigrationError(
            problem, "nothing was sent", "mend that, or move it in cold mode (migration_transfer=relay)"
        )
    allowed = int((settings.get("maxsessions") or [str(SESSIONS)])[0])
    return {"user": login, "host_keys": keys, "sessions": max(1, allowed)}


def _admit(folder: str, public_key: str, user: str, timeout: int) -> None:
    """Lets the source's key attach channels to this agent, and do nothing else."""
    program = [sys.executable, "-I", "-S", os.path.join(folder, "connect.py"), "attach"]
    command = ssh_access.forced_command(user, ssh_access.current_user(), program) + ' "$SSH_ORIGINAL_COMMAND"'
    now = time.time()
    expires = int(now) + timeout + reservation.EXPIRY_MARGIN
    version = ssh_access.installed_ssh_version()
    line = ssh_access.authorized_line(public_key, command, reservation.run_of(folder), expires, version).encode("ascii")
    ssh_access.edit_authorized_keys(
        user, lambda old: ssh_access.with_line(ssh_access.without_transfer(old, None, now), line)
    )
    with open(os.path.join(folder, processes.ADMITTED), "w", encoding="utf-8") as stream:
        stream.write(user)


def revoke(folder: str) -> None:
    """The connection is open: the key has done what it was for."""
    path = os.path.join(folder, processes.ADMITTED)
    try:
        with open(path, encoding="utf-8") as stream:
            user = stream.read()
        os.unlink(path)
    except FileNotFoundError:
        return
    ssh_access.edit_authorized_keys(
        user, lambda old: ssh_access.without_transfer(old, reservation.run_of(folder), time.time())
    )


def _make_networks(migration: Migration) -> None:
    """Makes the networks that are not there. They are removed when the migration is undone."""
    wanted = migration.networks
    if not wanted:
        return
    client = api.connect(options.DEFAULTS)

    def note(name: str) -> None:
        journal.note(migration.id, made={"networks": [name]})

    try:
        docker_networks.make(client, wanted, migration.judged, note)
    finally:
        client.close()


# ---------------------------------------------------------------------------------------------------------------------
# The channel


def serve(folder: str, identity: str, reader: int, writer: int) -> None:
    """Serves the channel of a migration to its end; one that is opened anew goes to who serves it already.

    Only the first one has to come in time: without a later one, a container that runs here may miss pages.

    :raises MigrationError: when nothing was reserved for it, its channel is not waited for any more, or its time was
        over before it came.
    :raises ChannelError: when the container does not run here, with the reason.
    """
    reserved = _claimed(folder, identity, reservation.directory_of(folder, identity))
    if not reserved:
        _serve_again(folder, identity, reader, writer)
        return
    if not reserved.keeps_key:
        revoke(folder)
    make = functools.partial(_make_container, identity, reserved)
    destination.run(reserved.directory, reserved.settings, reader, writer, make)


def _claimed(folder: str, identity: str, directory: str) -> reservation.ReservedDestination | None:
    """What was reserved, for the first one that asks; None for all others, also at the same moment.

    :param directory: the private folder of the migration.
    :raises MigrationError: when the first one asks too late.
    """
    path = reservation.settings_path(folder, identity)
    if not os.path.exists(path):
        return None
    expiry.require_in_time(directory)
    reserved = reservation.load_destination(folder, identity)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return None
    return reserved


def _serve_again(folder: str, identity: str, reader: int, writer: int) -> None:
    try:
        reopening.give(reservation.directory_of(folder, identity), reader, writer)
    except OSError as exc:
        raise MigrationError(f"the migration {identity} had its channel, and waits for no other one") from exc


def _make_container(identity: str, reserved: reservation.ReservedDestination, path: str) -> str:
    """Makes the container again from the file with its configuration; its ID.

    :raises MigrationError: when it cannot be made, or is not what was ordered; nothing of it is left then.
    :raises Refused: when the file has no configuration.
    """
    try:
        value = load_json_file(path)
    except ValueError as exc:
        raise Refused(f"the source sent a configuration that cannot be read ({exc})") from exc
    config = Config.from_json(value)
    if journal.load(identity) is None:
        raise MigrationError(f"the migration {identity} has ended here")
    judged.require(reserved.judged, config.inspect, config.volumes)
    mounts.require_ordered(reserved.settings.mounts, config.moving)
    client = api.connect(options.DEFAULTS)
    recreation = Recreation(
        client,
        reserved.name,
        config.inspect,
        config.volumes,
        config.moving,
        config.single_files,
        functools.partial(journal.note, identity),
        recreate.policy_here(),
    )
    try:
        held = restart_policy.to_hold(config.inspect, leave_running=False)
        if held:
            journal.note(identity, restart_policy=held)
        return recreation.create(armed=True, same_addresses=True)
    except _MAKE_FAILURES as exc:
        recreation.remove()
        raise MigrationError(exc.what if isinstance(exc, MigrationError) else api.api_message(exc)) from exc
    finally:
        client.close()


# ---------------------------------------------------------------------------------------------------------------------
# Stage 4: commitment


def verify(_folder: str, arguments: dict[str, Any], steps: Steps) -> dict[str, dict[str, Any]]:
    """Whether each container C(runs) here, for at least PROOF seconds by now; its C(id), C(state) and C(health)."""

    def one(migration: Migration) -> dict[str, Any]:
        entry = journal.load(migration.id)
        container = entry.made.get("container", "") if entry else ""
        if entry and container:
            time.sleep(_missing_proof(entry, time.time()))
        client = api.connect(options.DEFAULTS)
        try:
            inspect = client.find_container(container) if container else None
        finally:
            client.close()
        state = inspect["State"] if inspect else {}
        health = (state.get("Health") or {}).get("Status")
        status = state.get("Status", "absent")
        runs = status == "running" and health != "unhealthy"
        if runs:
            # Mostly it was noted when it began to run. Without it, nobody could tell that it ever ran, once it ends.
            journal.note(migration.id, stage="restored", owner="destination")
        return {"id": container, "state": status, "health": health, "runs": runs}

    return each(of_request(arguments), one, steps, "verify")


def _missing_proof(entry: Entry, now: float) -> float:
    """Seconds until a container has run here for PROOF seconds. That it runs, or something later, was noted last."""
    runs = entry.went
    return min(PROOF, max(0.0, entry.noted + PROOF - now)) if runs else PROOF
