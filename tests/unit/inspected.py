# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inspect data of a container, as tests need them."""

from __future__ import annotations

import copy

from ansible_collections.fog.migration.plugins.module_utils.docker import judged, mounts
from ansible_collections.fog.migration.plugins.module_utils.policy import judge

INSPECT = {
    "Id": "4f9d1c" + "0" * 58,
    "Name": "/looper100",
    "Image": "sha256:aaa",
    "State": {"Running": True, "Status": "running"},
    "Config": {"Image": "busybox:lab", "Tty": False, "Env": ["A=1"], "Hostname": "4f9d1c000000", "Volumes": None},
    "HostConfig": {
        "AutoRemove": False,
        "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
        "NetworkMode": "default",
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/udp": [{"HostIp": "", "HostPort": ""}]},
        "Links": ["/db:/looper100/database"],
        "Memory": 67108864,
        "Devices": None,
    },
    "NetworkSettings": {"Networks": {"bridge": {"Aliases": None, "IPAMConfig": None}}},
    "Mounts": [
        {"Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data", "Destination": "/data"},
        {"Type": "tmpfs", "Destination": "/tmp"},
    ],
}


def digests_of(inspect, volumes):
    """What a controller makes of the facts about a container, as C(server_info) tells them."""
    asks = judge.asks(inspect, volumes, ())
    return judged.digests({**judged.facts_of(inspect), "asks": asks, "mounts": mounts.of_container(inspect)})


def changed(path, value):
    """INSPECT with one value changed; I(path) is a dotted path."""
    inspect = copy.deepcopy(INSPECT)
    *folders, last = path.split(".")
    place = inspect
    for folder in folders:
        place = place[folder]
    place[last] = value
    return inspect
