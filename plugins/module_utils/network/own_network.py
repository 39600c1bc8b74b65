# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has been changed in a container's network namespace beside what Docker has made there.

Docker makes a new network namespace at the destination, and CRIU leaves it alone. So whatever programs of the
container, or somebody at the server, have changed is not there: interfaces, addresses, routes, policy rules, packet
filters and the multicast groups of sockets.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.network import leftover_filters, namespace, netlink
from ansible_collections.fog.migration.plugins.module_utils.network.namespace import Interface, Namespace

# What is asked of the kernel: links have their own place in C(namespace).
_GET_ADDRESS, _GET_ROUTE, _GET_RULE = 22, 26, 34
_ROUTE, _RULE, _ADDRESS = struct.Struct("=BBBBBBBBI"), struct.Struct("=BBBBBBBBI"), struct.Struct("=BBBBI")
# What the kernel makes itself, or learns from a router (RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_RA).
_OF_KERNEL = (1, 2, 9)
_TABLE_LOCAL, _TABLE_MAIN, _CLONED = 255, 254, 0x200
_KINDS = {6: "blackhole ", 7: "unreachable ", 8: "prohibit "}
# The rules that every network namespace has, by their priorities.
_USUAL_RULES = (0, 32766, 32767)
# Interfaces that a kernel makes in each network namespace, by the modules that it has.
_FALLBACKS = re.compile(r"(sit|tunl|gre|gretap|erspan|ip6tnl|ip6gre|ip_vti|ip6_vti)0")
# Groups that every host is in, and those that the kernel joins for a bridge, and for an address of IPv6.
_USUAL_GROUPS = re.compile(r"224\.0\.0\.(1|106)|ff0[125]::[12]|ff02::(6a|1:ff.*)")
_NF_TABLES, _GET_CHAIN, _GET_RULES = 10, 4, 7
# By these, Docker leads the requests for names to its own resolver.
_DOCKERS = re.compile(rb"DOCKER_(OUTPUT|POSTROUTING)")
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_PLACES = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
_PATIENCE = 20


@dataclass
class OwnNetwork:
    """What is there beside what Docker has made, each in words."""

    # What keeps packets away: rules, routes to nowhere, and addresses and routes of Docker's that were removed.
    filters: list[str] = field(default_factory=list)
    # Interfaces, addresses, routes and rules of routing that were added.
    settings: list[str] = field(default_factory=list)
    # Multicast groups that are listened to.
    groups: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, list[str]]:
        """As an object for JSON."""
        return asdict(self)


def look(network: Namespace, endpoints: Mapping[str, Mapping[str, Any]]) -> OwnNetwork:
    """What there is in this network namespace.

    :param endpoints: what Docker tells of the container in each of its networks.
    :raises OSError: when it has gone.
    """
    return namespace.inside(network, _look, list(endpoints.values()))


def _look(endpoints: list[Mapping[str, Any]]) -> OwnNetwork:
    interfaces = namespace.interfaces()
    settings = [
        *own_interfaces(interfaces, endpoints),
        *own_addresses(netlink.dump(netlink.NETLINK_ROUTE, _GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0)), endpoints),
        *own_routes(netlink.dump(netlink.NETLINK_ROUTE, _GET_ROUTE, bytes(_ROUTE.size)), endpoints),
        *own_rules(netlink.dump(netlink.NETLINK_ROUTE, _GET_RULE, bytes(_RULE.size))),
    ]
    away = [one for one in settings if _keeps_away(one)]
    added = [one for one in settings if one not in away]
    return OwnNetwork([*_nft_filters(), *_legacy_filters(), *away], added, groups(_proc("igmp"), _proc("igmp6")))


def _keeps_away(setting: str) -> bool:
    return setting.startswith(("no ", *(f"the route {kind}" for kind in _KINDS.values())))


def _proc(name: str) -> str:
    """A file of the network namespace that this thread is in."""
    with contextlib.suppress(OSError), open(f"/proc/thread-self/net/{name}", encoding="ascii") as stream:
        return stream.read()
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# Interfaces, addresses, routes and rules


def own_interfaces(interfaces: Iterable[Interface], endpoints: Collection[Mapping[str, Any]]) -> list[str]:
    """The interfaces that are none of Docker's."""
    known = {str(one.get("MacAddress") or "").lower() for one in endpoints}
    found = []
    for one in interfaces:
        mac = ":".join(f"{byte:02x}" for byte in one.mac)
        # The server's, on an ipvlan.
        is_dockers = mac in known or (one.kind == "ipvlan" and bool(endpoints))
        if not is_dockers and not _FALLBACKS.fullmatch(one.name):
            found.append(f"the interface {one.name}")
    return found


def own_addresses(answers: Iterable[bytes], endpoints: Iterable[Mapping[str, Any]]) -> list[str]:
    """The addresses that are none of Docker's, and those of Docker's that are not there any more.

    :param answers: the bodies of the kernel's answers.
    """
    keys = (("IPAddress", "IPPrefixLen"), ("GlobalIPv6Address", "GlobalIPv6PrefixLen"))
    dockers = {f"{one[ip]}/{one.get(size)}" for one in endpoints for ip, size in keys if one.get(ip)}
    there = set()
    for body in answers:
        _family, size, flags, _scope, _index = _ADDRESS.unpack_from(body)
        values = netlink.attributes_of(body[_ADDRESS.size :])
        packed = values.get(2, values.get(1, b""))
        if packed and flags & namespace.IFA_F_PERMANENT and not ipaddress.ip_address(packed).is_link_local:
            there.add(f"{ipaddress.ip_address(packed)}/{size}")
    if not any(":" in one for one in there):
        # It is without IPv6, by a setting that moves with it.
        dockers = {one for one in dockers if ":" not in one}
    added, removed = there - dockers - {"127.0.0.1/8", "::1/128"}, dockers - there
    return [f"the address {one}" for one in sorted(added)] + [f"no address {one}" for one in sorted(removed)]


def own_routes(answers: Iterable[bytes], endpoints: Collection[Mapping[str, Any]]) -> list[str]:
    """The routes that are none of Docker's, and Docker's default routes that are not there any more.

    :param answers: the bodies of the kernel's answers.
    """
    gateways = {one[key] for one in endpoints for key in ("Gateway", "IPv6Gateway") if one.get(key)}
    found, left, families = [], set(), set()
    for body in answers:
        family, size, _source, _tos, table, protocol, _scope, kind, flags = _ROUTE.unpack_from(body)
        values = netlink.attributes_of(body[_ROUTE.size :])
        table = struct.unpack("=I", values[15])[0] if 15 in values else table
        families.add(family)
        if family not in (socket.AF_INET, socket.AF_INET6) or protocol in _OF_KERNEL or flags & _CLONED:
            continue
        target = f"{ipaddress.ip_address(values[1])}/{size}" if 1 in values else "default"
        via = str(ipaddress.ip_address(values[5])) if 5 in values else ""
        if table == _TABLE_MAIN and _is_dockers(target, via, gateways, bool(endpoints)):
            left.add(via)
        elif table != _TABLE_LOCAL:
            words = [_KINDS.get(kind, "") + target, f"via {via}" if via else ""]
            words.append(f"in the table {table}" if table != _TABLE_MAIN else "")
            found.append(f"the route {' '.join(filter(None, words))}")
    return [*sorted(found), *_missing(gateways, left, families)]


def _missing(gateways: set[str], left: set[str], families: set[int]) -> list[str]:
    """The default routes that are not there, though a network has a gateway. Of several ones, Docker takes that of one.

    :param left: the gateways of those that are there.
    :param families: those of which there is any route. Without IPv6 there is none, by a setting that moves with it.
    """
    found = []
    for family, words in ((socket.AF_INET, "no default route"), (socket.AF_INET6, "no default route of IPv6")):
        wanted = {one for one in gateways if (":" in one) == (family == socket.AF_INET6)}
        if wanted and not wanted & left and (family == socket.AF_INET or family in families):
            found.append(words)
    return found


def _is_dockers(target: str, via: str, gateways: set[str], in_networks: bool) -> bool:
    """Whether Docker makes such a route: to the outside, or to a gateway that is not in its network."""
    if target == "default":
        return via in gateways or (not via and in_networks)
    return not via and target.partition("/")[0] in gateways


def own_rules(answers: Iterable[bytes]) -> list[str]:
    """The rules of routing that not every network namespace has.

    :param answers: the bodies of the kernel's answers.
    """
    found = []
    for body in answers:
        family = body[0]
        values = netlink.attributes_of(body[_RULE.size :])
        priority = struct.unpack("=I", values[6])[0] if 6 in values else 0
        if family in (socket.AF_INET, socket.AF_INET6) and priority not in _USUAL_RULES:
            found.append(f"the routing rule {priority}")
    return sorted(set(found))


# ---------------------------------------------------------------------------------------------------------------------
# Packet filters


def _nft_filters() -> list[str]:
    try:
        kinds = [_NF_TABLES << 8 | kind for kind in (_GET_CHAIN, _GET_RULES)]
        chains, rules = (netlink.dump(netlink.NETLINK_NETFILTER, kind, bytes(4)) for kind in kinds)
    except OSError:
        # A kernel without nf_tables.
        return []
    return nft_filters(chains, rules)


def nft_filters(chains: Iterable[bytes], rules: Iterable[bytes]) -> list[str]:
    """The tables in which there is something that Docker has not made: rules, or a chain that drops what has none.

    :param chains: the bodies of the kernel's answers about chains.
    :param rules: and about rules.
    """
    counts: dict[tuple[int, str], int] = {}
    drops = set()
    for body in rules:
        values = netlink.attributes_of(body[4:])
        table, chain = (_name(values, kind) for kind in (1, 2))
        dockers = _DOCKERS.fullmatch(chain.encode()) or _DOCKERS.search(values.get(4, b""))
        if not dockers and not table.startswith("docker") and not leftover_filters.is_leftover(table):
            counts[(body[0], table)] = counts.get((body[0], table), 0) + 1
    for body in chains:
        values = netlink.attributes_of(body[4:])
        # Of a chain that packets come to by themselves: 0 is to drop what no rule speaks of.
        if 5 in values and struct.unpack(">I", values[5])[0] == 0:
            drops.add((body[0], _name(values, 1)))
    return [
        f"{counts.get(one, 0)} rules{' and a policy of drop' if one in drops else ''} in the table "
        f"{_FAMILIES.get(one[0], one[0])} {one[1]}"
        for one in sorted({*counts, *drops})
    ]


def _name(values: Mapping[int, bytes], kind: int) -> str:
    text = values.get(kind, b"").rstrip(b"\0").decode("ascii", "replace")
    return "".join(one if one.isprintable() else "?" for one in text)


def _legacy_filters() -> list[str]:
    """Rules of the older iptables, which have a place of their own in the kernel."""
    found = []
    for program, tables in (("iptables", "ip_tables_names"), ("ip6tables", "ip6_tables_names")):
        if _proc(tables).strip():
            found += legacy_filters(_saved(program), program)
    return found


def _saved(program: str) -> str:
    """All rules, as the server's own program tells them.

    :raises OSError: when none does: nobody knows then what is lost.
    """
    place = os.pathsep.join([os.environ.get("PATH", ""), _PLACES])
    path = shutil.which(f"{program}-legacy-save", path=place) or shutil.which(f"{program}-save", path=place)
    try:
        words = [path or f"{program}-save"]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except subprocess.SubprocessError as exc:
        raise OSError(f"{program} does not tell its rules ({exc})") from exc
    return done.stdout


def legacy_filters(saved: str, program: str) -> list[str]:
    """The same as C(nft_filters), of what C(iptables-save) has written."""
    found, table, count, drops = [], "", 0, False
    for line in [*saved.splitlines(), "*"]:
        words = line.split()
        if line.startswith("*"):
            if count or drops:
                found.append(f"{count} rules{' and a policy of drop' if drops else ''} in the table {program} {table}")
            table, count, drops = line[1:].strip(), 0, False
        elif words[:1] == ["-A"] and not _DOCKERS.search(line.encode("utf-8", "replace")):
            count += 1
        elif line.startswith(":") and words[1:2] == ["DROP"]:
            drops = True
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Multicast


def groups(igmp: str, igmp6: str) -> list[str]:
    """The multicast groups that are listened to, but those of every host, from these files of C(/proc/net)."""
    found, device = set(), ""
    for words in (line.split() for line in igmp.splitlines()[1:]):
        if len(words) > 1 and words[0].isdigit():
            device = words[1]
        elif words and re.fullmatch("[0-9A-F]{8}", words[0]):
            # As the processor keeps it.
            packed = struct.pack("=I", int(words[0], 16))
            found.add((str(ipaddress.ip_address(packed)), device))
    for words in (line.split() for line in igmp6.splitlines()):
        if len(words) > 2 and re.fullmatch("[0-9a-f]{32}", words[2]):
            found.add((str(ipaddress.ip_address(bytes.fromhex(words[2]))), words[1]))
    return [f"{group} on {where}" for group, where in sorted(found) if not _USUAL_GROUPS.fullmatch(group)]
