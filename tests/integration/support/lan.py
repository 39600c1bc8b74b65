# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker network over the nodes' common one, on both fog servers, with the client in it: addresses move on it."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator

from .lab import Lab

NAME = "lan"
SUBNET6 = "fd00:f09:1::/64"


def is_possible(lab: Lab, driver: str = "macvlan") -> bool:
    """Whether the kernel of this machine has such a network."""
    trial = f"ip link add trial link eth0 type {driver} && ip link del trial && echo works"
    return "works" in lab.sh("fog1", trial, check=False)


@contextlib.contextmanager
def network(lab: Lab, driver: str = "macvlan") -> Iterator[str]:
    """It is there meanwhile; its IPv4 subnet. No container is left behind."""
    subnet = str(ipaddress.ip_interface(lab.hostvars["fog1"]["ansible_host"] + "/24").network)
    prefix = subnet.rpartition(".")[0]
    options = ["--subnet", subnet, "--gateway", f"{prefix}.1", "--ip-range", f"{prefix}.192/26"]
    for node in lab.servers():
        lab.docker(node, "network", "rm", NAME, check=False)
        words = ["network", "create", "-d", driver, *options, "--ipv6", "--subnet", SUBNET6, "-o", "parent=eth0", NAME]
        lab.docker(node, *words)
    lab.sh("client", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0")
    lab.sh("client", f"ip -6 address replace {SUBNET6.replace('::', '::101')} dev eth0 nodad")
    try:
        yield subnet
    finally:
        for node in lab.servers():
            lab.sh(node, f"docker ps -aq | xargs -r docker rm -f; docker network rm {NAME}")
        lab.sh("client", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")
