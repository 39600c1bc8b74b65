# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a version of Docker can do."""

from __future__ import annotations

import re

# The runc of older ones does not hand CRIU its configuration, and knows no lazy pages.
OLDEST_LIVE = (19, 3)
# What is older is out of support, with CVE-2019-5736, CVE-2020-15257, CVE-2021-41091 or others of their kind.
OLDEST_SAFE = (20, 10, 9)


def version_tuple(version: str) -> tuple[int, ...]:
    """V(17.09.1-ce) -> (17, 9, 1); an unknown version is taken for a new one."""
    numbers = re.match(r"^(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(number or 0) for number in numbers.groups()) if numbers else (999,)


def has_known_holes(version: str) -> bool:
    """Whether there are published ways to become root of a server that has this Docker."""
    return version_tuple(version) < OLDEST_SAFE


def dangers(servers: dict[str, str]) -> str:
    """What speaks against the Dockers of these servers, as a clause; empty where nothing does.

    :param servers: the version of Docker that each has; one that has none is left out, or empty.
    """
    concerned: dict[str, list[str]] = {}
    for server, version in servers.items():
        if version and has_known_holes(version):
            concerned.setdefault(version, []).append(server)
    if not concerned:
        return ""
    which = " and ".join(f"{version} ({', '.join(names)})" for version, names in concerned.items())
    return (
        f"Docker {which} may let a container become root of its server, by published holes that are not mended in "
        f"versions before {'.'.join(map(str, OLDEST_SAFE))}"
    )


def makes_in_several_networks(api_version: str) -> bool:
    """Whether a container can be made in several networks, by the version of Docker's API (1.44: Docker 25)."""
    return version_tuple(api_version) >= (1, 44)


def checkpoints_paused(version: str) -> bool:
    """Whether this Docker was seen making a checkpoint of a container that is paused."""
    return version_tuple(version) >= (18, 9)


def starts_from_checkpoints(version: str) -> bool:
    """Whether this Docker can start a container from a checkpoint by itself.

    From 28.0 on, and in 26.0.0, it connects a container to its network as soon as the OCI runtime has made it, by the
    PID of its first process (initializeCreatedTask in moby's daemon/start_linux.go). One that is still to be restored
    has none, so that it asks for C(/proc/0/ns/net). The others do it by a hook of the runtime's.
    """
    return version_tuple(version) < (28,) and version_tuple(version) != (26, 0, 0)
