# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a container's inspect data is to be the same on two servers."""

from __future__ import annotations

import json
import re

# What must differ on another server, by its path in the inspect data, and why.
OF_THE_SERVER = [
    # When and as what it runs.
    ("Created",),
    ("State", "Pid"),
    ("State", "StartedAt"),
    ("State", "FinishedAt"),
    # What was checked, and how often; what it says in the end is compared.
    ("State", "Health", "Log"),
    ("State", "Health", "FailingStreak"),
    # What docker exec has started, which stays behind.
    ("ExecIDs",),
    # Folders of the layers, which each server numbers.
    ("GraphDriver", "Data"),
    # Where it is restored through our runtime, it stays with that.
    ("HostConfig", "Runtime"),
    # The network namespace.
    ("NetworkSettings", "SandboxID"),
    ("NetworkSettings", "SandboxKey"),
    # Each server numbers its networks and endpoints.
    ("NetworkSettings", "EndpointID"),
    ("NetworkSettings", "Networks", "*", "EndpointID"),
    ("NetworkSettings", "Networks", "*", "NetworkID"),
]


def normalised(inspect: dict) -> dict:
    """What is to be the same after a migration: all but what is the server's, and with the container's ID called ID.

    Its first digits are its hostname where it was given none, which it keeps, and among its names in networks.
    """
    found = json.loads(json.dumps(inspect).replace(inspect["Id"], "ID"))
    for path in OF_THE_SERVER:
        _drop(found, path)
    for mount in found["Mounts"]:
        # The destination makes a new one for a volume without a name.
        if re.fullmatch("[0-9a-f]{64}", mount.get("Name", "")):
            mount.update(Name="anonymous", Source="anonymous")
    # Docker tells them in any order.
    found["Mounts"] = sorted(found["Mounts"], key=lambda mount: mount["Destination"])
    for endpoint in found["NetworkSettings"]["Networks"].values():
        for key in ("Aliases", "DNSNames"):
            endpoint[key] = sorted(one for one in endpoint.get(key) or [] if not inspect["Id"].startswith(one))
    return found


def _drop(where, path: tuple[str, ...]) -> None:
    key, *rest = path
    for name in [*where] if key == "*" else [key] if key in where else []:
        if rest and isinstance(where[name], dict):
            _drop(where[name], tuple(rest))
        elif not rest:
            del where[name]
