# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both servers reserve for a migration: its entry in the journal, a private folder, and room for the memory.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.agent.migration import Migration
from ansible_collections.fog.migration.plugins.module_utils.agent.processes import RESERVED
from ansible_collections.fog.migration.plugins.module_utils.docker import options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration import memory_staging
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import settings, source_requests
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.precopy import Limits
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import (
    DestinationSettings,
    SourceSettings,
)
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access, work_dir

# Seconds for which a folder of a migration is left alone after its time.
EXPIRY_MARGIN = 300
_JOURNAL_FIELDS = ("id", "name", "source", "destination", "mode", "together")


@dataclass(frozen=True)
class ReservedSource:
    """What the source keeps of a migration, until its end of the channel is started.

    :param directory: the private folder of the migration.
    :param copies_memory: whether memory is copied in rounds before the freeze.
    :param only_shared: whether that is only the memory that processes share.
    :param limits: when these rounds end.
    """

    directory: str
    copies_memory: bool
    only_shared: bool
    limits: Limits
    settings: SourceSettings

    @classmethod
    def from_json(cls, value: object) -> ReservedSource:
        """What C(store) has kept.

        :raises MigrationError: when a field is missing or unknown.
        """
        kept = settings.parse(cls, value, "the facts of a reservation")
        limits = Limits(*kept.limits)
        own = SourceSettings.from_json(kept.settings)
        return cls(kept.directory, kept.copies_memory, kept.only_shared, limits, own)


@dataclass(frozen=True)
class ReservedDestination:
    """What the destination keeps of a migration, until its end of the channel is started.

    :param directory: the private folder of the migration.
    :param name: the name that the container gets here.
    :param judged: what the preflight has judged of the container, see C(judged.digests).
    :param keeps_key: whether the source may have to log in again.
    """

    directory: str
    name: str
    judged: dict[str, str]
    keeps_key: bool
    settings: DestinationSettings

    @classmethod
    def from_json(cls, value: object) -> ReservedDestination:
        """What C(store) has kept.

        :raises MigrationError: when a field is missing or unknown.
        """
        kept = settings.parse(cls, value, "the facts of a reservation")
        own = DestinationSettings.from_json(kept.settings)
        return cls(kept.directory, kept.name, kept.judged, kept.keeps_key, own)


def run_of(folder: str) -> str:
    """The name of the run, by which its key is known, from the agent's folder."""
    return os.path.basename(folder).rpartition("-")[2]


def reserve(
    folder: str, migration: Migration, arguments: dict[str, Any], role: str, room: tuple[int, int]
) -> tuple[str, dict[str, Any]]:
    """Opens the journal, makes a private folder and staging in it; the folder, and the facts of C(memory_staging.make).

    :param room: how many bytes of memory staging can hold, and how many it will.
    :raises MigrationError: when another migration of the container is open.
    """
    entry: dict[str, Any] = {key: getattr(migration, key) for key in _JOURNAL_FIELDS}
    entry.update(role=role, container=migration.container_id, stage="reservation")
    entry.update({key: arguments[key] for key in ("directory", "controller")})
    other = journal.open_entry(entry)
    if other:
        what, remedy = journal.under_way(other, None)
        raise MigrationError(what, "nothing was changed", remedy)
    user = ssh_access.login_user(arguments.get("user"))
    expires = int(time.time()) + int(arguments["timeout"]) + EXPIRY_MARGIN
    # Sockets have no long names.
    directory = work_dir.path_of(secrets.token_hex(8), role, expires)
    # So that what ends the migration removes this folder, and takes the key of the run out again.
    journal.note(migration.id, transfers=[{"id": run_of(folder), "directory": directory, "user": user}])
    work_dir.make(directory)
    with open(os.path.join(folder, RESERVED), "a", encoding="utf-8") as stream:
        stream.write(directory + "\n")
    limit = int(arguments["staging_limit"])
    made = memory_staging.make(directory, migration.id, arguments["staging_directory"], room, limit)
    return directory, made


def docker_socket() -> str:
    """The path of the socket of this server's Docker daemon."""
    return str(options.DEFAULTS["docker_host"])[len("unix://") :]


def settings_path(folder: str, identity: str) -> str:
    """The file in the agent's folder that has what C(store) keeps of a migration."""
    return os.path.join(folder, f"{identity}.settings")


def _link_of(folder: str, identity: str) -> str:
    """The link in the agent's folder that leads to the private folder of a migration."""
    return os.path.join(folder, f"{identity}.directory")


def channel_of(folder: str, identity: str) -> str:
    """The socket of the source's end of the channel of a migration.

    :raises MigrationError: when nothing was reserved for this migration in this run.
    """
    return os.path.join(directory_of(folder, identity), source_requests.SOCKET)


def directory_of(folder: str, identity: str) -> str:
    """The private folder of a migration.

    :raises MigrationError: when nothing was reserved for this migration in this run.
    """
    journal.path_of(identity)
    try:
        return os.readlink(_link_of(folder, identity))
    except FileNotFoundError as exc:
        raise _not_reserved(identity) from exc


def store(folder: str, identity: str, reserved: ReservedSource | ReservedDestination) -> None:
    """Keeps what an end of the channel has to know until it is started, and where its folder is."""
    link = _link_of(folder, identity)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(link)
    os.symlink(reserved.directory, link)
    path = settings_path(folder, identity)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(asdict(reserved), stream)


def load_source(folder: str, identity: str) -> ReservedSource:
    """What C(store) has kept at the source.

    :raises MigrationError: when nothing was reserved for this migration in this run.
    """
    return ReservedSource.from_json(_load(folder, identity))


def load_destination(folder: str, identity: str) -> ReservedDestination:
    """What C(store) has kept at the destination.

    :raises MigrationError: when nothing was reserved for this migration in this run.
    """
    return ReservedDestination.from_json(_load(folder, identity))


def _load(folder: str, identity: str) -> Any:
    journal.path_of(identity)
    try:
        with open(settings_path(folder, identity), encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError as exc:
        raise _not_reserved(identity) from exc


def _not_reserved(identity: str) -> MigrationError:
    return MigrationError(f"nothing was reserved here for the migration {identity}")
