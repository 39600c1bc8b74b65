# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of the two ends of a channel, which a program reads from its configuration before it starts.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from ansible_collections.fog.migration.plugins.module_utils.docker.mounts import Ordered
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.runtime import dump
from ansible_collections.fog.migration.plugins.module_utils.transport import work_dir

T = TypeVar("T")
MIB = 1 << 20
# Seconds that our OCI runtime waits for the request to restore.
RUNTIME_WAIT = 900


def parse(cls: type[T], value: object, what: str) -> T:
    """An object of this dataclass from an object for JSON with the same names.

    :param what: what it is, for the sentence.
    :raises MigrationError: when a field is missing, or one is there that the dataclass does not have.
    """
    if not isinstance(value, dict):
        raise MigrationError(f"{what} are no object")
    names = {one.name for one in fields(cls)}  # type: ignore[arg-type]
    missing, unknown = sorted(names - set(value)), sorted(map(str, set(value) - names))
    if missing:
        raise MigrationError(f"{what} lack {', '.join(missing)}")
    if unknown:
        raise MigrationError(f"{what} have the unknown {', '.join(unknown)}")
    return cls(**value)


@dataclass(frozen=True)
class SshTarget:
    """How the source's program logs in at the destination.

    :param key: path of the private key.
    :param hosts_file: path of a file in the format of known_hosts.
    """

    key: str
    hosts_file: str
    user: str
    address: str
    port: int


@dataclass(frozen=True)
class TreeSettings:
    """One tree of files that is kept equal at the destination.

    :param place: its mount point in the container; empty for the root file system.
    :param root: its folder on this server, or the file that is mounted alone; empty where I(snapshot) says it.
    :param snapshot: path of the file that tells what of it was sent already; None where nothing was.
    :param is_bind: whether it is a folder or a file of the host, which is compared with what the container has.
    """

    place: str
    root: str = ""
    snapshot: str | None = None
    is_bind: bool = False


@dataclass(frozen=True)
class SourceSettings:
    """The settings of the source's end.

    :param container: ID of the container on this server.
    :param staging: path of the folder for memory and images on their way.
    :param docker_socket: path of the Docker daemon's socket.
    :param migration: ID of the entry in the journal; None without one.
    :param together: IDs of all migrations of the group that this one is of; empty outside of a group.
    :param restore_options: options of "runc restore" at the destination.
    :param lazy_pages: whether both servers can restore before all pages are in place.
    :param compression: of memory pages: C(none) or C(auto).
    :param rate_limit: bytes per second while the container runs; 0 for no limit.
    :param patience: seconds without a request after which this end finishes, or gives up.
    :param lifetime: seconds after which the connection to the destination is ended.
    :param mounts: mount points in the container whose content moves; for the request C(make).
    :param with_log: whether the container's log moves; for the request C(make).
    :param trees: trees of files that the destination was prepared for; without the request C(make).
    :param log: path of the container's log, where it moves; without the request C(make).
    :param ssh: how to log in at the destination; None where the channel is opened by somebody else.
    """

    container: str
    staging: str
    docker_socket: str
    migration: str | None = None
    together: list[str] = field(default_factory=list)
    restore_options: list[str] = field(default_factory=list)
    lazy_pages: bool = False
    compression: str = "none"
    rate_limit: int = 0
    patience: int = 0
    lifetime: int = 0
    mounts: list[str] = field(default_factory=list)
    with_log: bool = False
    trees: list[TreeSettings] = field(default_factory=list)
    log: str | None = None
    ssh: SshTarget | None = None

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> SourceSettings:
        """The settings from what C(to_json) has made.

        :raises MigrationError: when a field is missing or unknown.
        """
        if isinstance(value, dict):
            value = dict(value)
            if isinstance(value.get("trees"), list):
                value["trees"] = [parse(TreeSettings, one, "the settings of a tree of files") for one in value["trees"]]
            if value.get("ssh") is not None:
                value["ssh"] = parse(SshTarget, value["ssh"], "the settings of the connection")
        return parse(cls, value, "the settings of the source's end")


@dataclass(frozen=True)
class DestinationSettings:
    """The settings of the destination's end.

    :param staging: path of the folder for memory and images on their way.
    :param docker_socket: path of the Docker daemon's socket.
    :param host: name of this server, for sentences.
    :param container: ID of the container to restore into; None where the source requests that it is made.
    :param migration: ID of the entry in the journal; None without one.
    :param together: IDs of all migrations of the group that this one is of; empty outside of a group.
    :param patience: seconds that our OCI runtime waits for the request to restore.
    :param restore_limit: seconds that the OCI runtime may take for the restore.
    :param mounts: the mounts of the container whose content comes over the channel.
    :param log: whether the container's log comes over the channel.
    :param room: bytes that memory and images may take in staging; 0 for no limit.
    :param quiet_limit: seconds after which a source that gives nothing but signs of life is not waited for any more,
        before it has the container restored; 0 for no limit.
    """

    staging: str
    docker_socket: str
    host: str
    container: str | None = None
    migration: str | None = None
    together: list[str] = field(default_factory=list)
    patience: int = RUNTIME_WAIT
    restore_limit: int = 600
    mounts: list[Ordered] = field(default_factory=list)
    log: bool = False
    room: int = 0
    quiet_limit: int = 0

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> DestinationSettings:
        """The settings from what C(to_json) has made.

        :raises MigrationError: when a field is missing or unknown.
        """
        if isinstance(value, dict) and isinstance(value.get("mounts"), list):
            value = {**value, "mounts": [parse(Ordered, one, "the settings of a mount") for one in value["mounts"]]}
        return parse(cls, value, "the settings of the destination's end")


def for_source(
    directory: str, migration: str | None, compression: str, rate_limit: float, timeout: int, **more: Any
) -> SourceSettings:
    """The settings of the source's end, from the options of a task or of a run.

    :param directory: the private folder of this transfer.
    :param compression: C(none), or what else the option allows.
    :param rate_limit: MiB per second; 0 for no limit.
    :param timeout: seconds.
    :param more: the other fields.
    """
    return SourceSettings(
        staging=os.path.join(directory, work_dir.STAGING),
        migration=migration,
        restore_options=list(dump.OPTIONS),
        compression="none" if compression == "none" else "auto",
        rate_limit=int(rate_limit * MIB),
        patience=timeout,
        lifetime=timeout * 2,
        **more,
    )


def for_destination(
    directory: str, migration: str | None, restore_timeout: int, timeout: int, **more: Any
) -> DestinationSettings:
    """The settings of the destination's end, from the options of a task or of a run.

    :param directory: the private folder of this transfer.
    :param restore_timeout: seconds.
    :param timeout: seconds after which the source's end gives up by itself, when nobody asks it for anything.
    :param more: the other fields.
    """
    return DestinationSettings(
        staging=os.path.join(directory, work_dir.STAGING),
        migration=migration,
        restore_limit=restore_timeout,
        quiet_limit=timeout * 2,
        **more,
    )
