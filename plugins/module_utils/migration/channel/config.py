# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a container that moves: what the destination makes it again from, all but files and memory.

The source reads it from Docker, and sends it as the first message of the container's channel.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import engine, mounts, storage_drivers
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused

# Its name in staging.
FILE = "config.json"


@dataclass(frozen=True)
class Config:
    """What the destination has to know of a container."""

    # Its inspect data while it runs at the source.
    inspect: dict[str, Any]
    # The inspect data of its named volumes.
    volumes: list[dict[str, Any]] = field(default_factory=list)
    # Mount points in the container whose content moves with it, and which of them are of a single file.
    moving: list[str] = field(default_factory=list)
    single_files: list[str] = field(default_factory=list)

    def moving_volumes(self) -> list[str]:
        """The names of the volumes that move, and that the source lets go of at the end."""
        found = mounts.of_container(self.inspect)
        return [one["name"] for one in found if one["type"] == "volume" and one["destination"] in self.moving]

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> Config:
        """The configuration that a source has sent.

        :raises Refused: when it is none.
        """
        if not isinstance(value, dict) or set(value) != {one.name for one in fields(cls)}:
            raise Refused("the source sent a configuration that lacks something, or has too much")
        lists = (value["volumes"], value["moving"], value["single_files"])
        if not isinstance(value["inspect"], dict) or not all(isinstance(one, list) for one in lists):
            raise Refused("the source sent a configuration with parts of the wrong type")
        places = [*value["moving"], *value["single_files"]]
        named = all(isinstance(one, dict) and isinstance(one.get("Name"), str) for one in value["volumes"])
        described = all(isinstance(value["inspect"].get(one), dict) for one in ("Config", "HostConfig"))
        if not (named and described and all(isinstance(one, str) for one in places)):
            raise Refused("the source sent a configuration that describes no container")
        return cls(**value)


@dataclass(frozen=True)
class Description:
    """A container at the source: its configuration, and where its files are."""

    config: Config
    # Docker's own folder.
    root: str
    # None where the storage driver's folder is not known and nothing was changed.
    storage: storage_drivers.Storage | None


def describe(docker_socket: str, container: str, moving: list[str]) -> Description:
    """Asks Docker for all of it.

    :param moving: mount points in the container whose content moves with it.
    :raises MigrationError: when Docker does not tell, or files were changed that cannot be read.
    """
    inspect = inspect_of(docker_socket, container)
    root = _ask(docker_socket, "/info").get("DockerRootDir", "/var/lib/docker")
    storage = storage_drivers.of_container(inspect, root)
    name = inspect["Name"].lstrip("/")
    if storage is None and changes(docker_socket, container):
        raise MigrationError(
            f"files in the root file system of {name} were changed, which cannot be read from "
            f"{inspect.get('Driver', 'this storage driver')}"
        )
    sources = mounts.sources(inspect)
    unknown = sorted(set(moving) - set(sources))
    if unknown:
        raise MigrationError(f"nothing is mounted at {', '.join(unknown)} in {name}")
    named = [one["name"] for one in mounts.of_container(inspect) if one["type"] == "volume" and not one["anonymous"]]
    config = Config(
        inspect=inspect,
        volumes=[_ask(docker_socket, f"/volumes/{one}") for one in named],
        moving=list(moving),
        single_files=[place for place in moving if mounts.is_file(sources[place])],
    )
    return Description(config, root, storage)


def inspect_of(docker_socket: str, container: str) -> dict[str, Any]:
    """What Docker tells of it.

    :raises MigrationError: when Docker does not tell.
    """
    return _ask(docker_socket, f"/containers/{container}/json")


def changes(docker_socket: str, container: str) -> list[dict[str, Any]]:
    """What Docker says to differ from the image, C(Path) and C(Kind) of each."""
    return _ask(docker_socket, f"/containers/{container}/changes") or []


def _ask(docker_socket: str, path: str) -> Any:
    answer, problem = engine.get(docker_socket, path)
    if problem:
        raise MigrationError(f"Docker does not tell of {path} ({problem})")
    return answer
