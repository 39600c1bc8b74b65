# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two fog servers with containers none of which can be migrated as it is, each for another reason.

What server_info tells of them is recorded in C(tests/unit/recorded/), where unit tests read it. The table of what is
refused, and how, is C(tests/unit/refusal_cases.py).
"""

from __future__ import annotations

from .lab import IMAGE, Lab, wait_for

COUNT = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.2; done"
# Those on fog1 that are to be migrated: the options of docker run, and the script.
CONTAINERS: dict[str, tuple[str, str]] = {
    "looper": ("", COUNT),
    "stopped": ("", COUNT),
    "paused": ("", COUNT),
    "web": ("--publish 18081:80", COUNT),
    "voluminous": ("--volume data:/data", COUNT),
    "volume-there": ("--volume there:/data", COUNT),
    "volume-shared": ("--volume shared:/data", COUNT),
    "host": ("", COUNT),
    "guest": ("--network container:host", COUNT),
    "linked": ("--link looper:other", COUNT),
    "halted": ("", f"sleep 600 & sleep 1; kill -STOP $!; {COUNT}"),
    "ghost": ("", f"exec 3<>/file; ln /file /other; rm /file; {COUNT}"),
    "large-ghost": ("", f"exec 3<>/file; dd if=/dev/zero bs=1M count=33 of=/file; rm /file; {COUNT}"),
    "keeper": ("--ipc shareable --init", f"head -c 100000 /dev/zero >/dev/shm/known; {COUNT}"),
    "elsewhere": ("--log-driver local", COUNT),
    "networked": ("--network front", COUNT),
}
# Beside them, what is in their way.
BEFORE = {
    "fog1": """
docker network create --subnet 198.51.100.0/24 front
docker network create --subnet 203.0.113.0/24 --internal back
docker network create -d macvlan -o parent=eth0 --subnet 192.0.2.0/24 side
ip link add fogapart type veth peer fogpeer
docker network create -d macvlan -o parent=fogapart apart
""",
    "fog2": f"""
docker network create --subnet 198.51.100.0/25 near
docker network create back
docker volume create there
docker run -d --name other --publish 18081:80 {IMAGE} sleep 1000
docker run -d --name taken {IMAGE} sleep 1000
""",
}
AFTER = f"""
for network in back side apart; do docker network connect $network networked; done
docker create --name other --volume shared:/data {IMAGE}
docker stop -t 0 stopped
docker pause paused
"""
CLEAR = """
docker ps -aq | xargs -r docker rm -fv; docker volume ls -q | xargs -r docker volume rm
docker network ls -q --filter type=custom | xargs -r docker network rm; ip link del fogapart 2>/dev/null || true
"""


def set_up(lab: Lab) -> None:
    """Makes all of it."""
    lab.copy_image()
    for node, script in BEFORE.items():
        lab.sh(node, f"set -e\n{script}")
    for name, (options, script) in CONTAINERS.items():
        lab.start("fog1", name, script, *options.split())
    # What they do first is done when they count.
    waiting = [name for name in CONTAINERS if name != "linked"]
    wait_for(lambda: all(len(lab.lines("fog1", name)) > 1 for name in waiting), "the first numbers of all of them")
    lab.sh("fog1", f"set -e\n{AFTER}")


def take_down(lab: Lab) -> None:
    """Leaves nothing of it."""
    for node in lab.servers():
        lab.sh(node, CLEAR)


def record(lab: Lab) -> dict[str, dict]:
    """What server_info tells on both servers, as migrate.yml asks for it."""
    peer = {"peer_address": lab.hostvars["fog2"]["ansible_host"], "peer_port": 22}
    servers = {
        "fog1": lab.module("fog1", "server_info", containers=list(CONTAINERS), **peer),
        "fog2": lab.module("fog2", "server_info"),
    }
    for facts in servers.values():
        assert not facts.pop("failed"), facts
    return servers
