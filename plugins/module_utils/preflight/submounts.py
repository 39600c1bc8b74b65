# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is mounted on a server below a folder that a container has as a bind mount: nobody could mount it elsewhere.

Docker takes such mounts along into the container. The OCI configuration does not know them, so that CRIU takes them for
the container's own (C(has unreachable sharing), C(doesn't have a proper root mount) in criu/mount.c).

Pure functions all of them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import mounts
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore.surroundings import Mount

_SHOWN = 3


def of_container(inspect: dict[str, Any], mounted: Iterable[Mount]) -> list[str]:
    """The places of such mounts, of a container.

    :param inspect: its inspect data.
    :param mounted: all that is mounted in it.
    """
    own = {one["destination"] for one in mounts.of_container(inspect)}
    known = own | {*(inspect["HostConfig"].get("Tmpfs") or {})}
    return below(mounted, own, known)


def below(mounted: Iterable[Mount], binds: Collection[str], known: Collection[str]) -> list[str]:
    """The places below some folders on which something is mounted.

    :param binds: the folders.
    :param known: places on which something is to be mounted.
    """
    inside = tuple(f"{bind.rstrip('/')}/" for bind in binds)
    places = {one.place for one in mounted if inside and one.place.startswith(inside)}
    return sorted(places - {*known})


def problem(places: list[str]) -> str:
    """Why it cannot move, a clause; empty where there is none."""
    shown = ", ".join([*places[:_SHOWN], *([f"{len(places) - _SHOWN} more"] if len(places) > _SHOWN else [])])
    return f"other file systems of the server are mounted below its bind mounts ({shown})" if places else ""
