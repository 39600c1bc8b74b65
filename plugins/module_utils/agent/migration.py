# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent is told of one migration of a run.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker.mounts import Ordered
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import IDENTITY
from ansible_collections.fog.migration.plugins.module_utils.transport import transfer
from ansible_collections.fog.migration.plugins.module_utils.validate import is_whole


@dataclasses.dataclass(frozen=True)
class Migration:
    """One migration of a run, which is the same for both servers and for each request."""

    # The name of the migration. It is part of the names of files.
    id: str
    # Name and ID of the container at the source, and its name at the destination.
    container: str
    container_id: str
    name: str
    # Inventory names.
    source: str
    destination: str
    # precopy, postcopy or hybrid.
    mode: str
    # Whether pages may be left with the processes until the container runs at the destination.
    lazily: bool
    # The mounts of the container whose content moves, see C(mounts.ordered), and whether its log moves.
    mounts: list[dict[str, str]]
    log: bool
    # What the preflight has judged of it, see C(judged.digests).
    judged: dict[str, str]
    # The networks that the destination lacks, as Docker at the source describes them, by name.
    networks: dict[str, dict[str, Any]]
    # Bytes of its memory.
    memory: int
    # Those of them that processes share.
    shared: int
    # The IDs of all migrations that move together, this one's among them; empty where it moves by itself.
    together: list[str]

    @property
    def is_post_copy(self) -> bool:
        """Whether pages stay at the source until the container runs at the destination."""
        return self.lazily and self.mode in ("postcopy", "hybrid")

    @property
    def ordered(self) -> list[Ordered]:
        """The mounts whose content moves."""
        return [Ordered(**one) for one in self.mounts]

    def to_json(self) -> dict[str, Any]:
        """As an object for JSON."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, value: object) -> Migration:
        """The migration that an object of JSON is.

        :raises MigrationError: when it is none. The text names the migration, and what is wrong with it.
        """
        if not isinstance(value, dict):
            raise MigrationError("a migration is no object")
        identity = value.get("id")
        which = f"the migration {identity}" if _is_identity(identity) else "a migration"
        for name, is_right in _KINDS.items():
            if name not in value:
                raise MigrationError(f"{which} has no {name}")
            if not is_right(value[name]):
                raise MigrationError(f"{which} has {value[name]!r} as its {name}")
        unknown = sorted(map(repr, set(value) - set(_KINDS)))
        if unknown:
            raise MigrationError(f"{which} has the unknown {', '.join(unknown)}")
        return cls(**value)


def of_request(arguments: dict[str, Any]) -> list[Migration]:
    """The migrations that a request is about.

    :param arguments: those of the request.
    :raises MigrationError: when it names none, or one cannot be used.
    """
    migrations = arguments.get("migrations")
    if not isinstance(migrations, list):
        raise MigrationError("the request has no list of migrations")
    return [Migration.from_json(one) for one in migrations]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_identity(value: object) -> bool:
    return isinstance(value, str) and bool(IDENTITY.fullmatch(value))


def _is_mode(value: object) -> bool:
    return isinstance(value, str) and value in (*transfer.PRECOPY_MODES, "postcopy")


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_named_texts(value: object) -> bool:
    return isinstance(value, dict) and _are_texts([*value, *value.values()])


def _are_networks(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, dict) for one in value.values())


_KINDS: dict[str, Callable[[object], bool]] = {
    "id": _is_identity,
    "container": _is_text,
    "container_id": _is_text,
    "name": _is_text,
    "source": _is_text,
    "destination": _is_text,
    "mode": _is_mode,
    "lazily": _is_flag,
    "mounts": Ordered.are,
    "log": _is_flag,
    "judged": _are_named_texts,
    "networks": _are_networks,
    "memory": is_whole,
    "shared": is_whole,
    "together": _are_texts,
}
