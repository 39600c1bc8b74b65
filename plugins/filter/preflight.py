# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can be known to go wrong before a container is frozen."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight
short_description: Check beforehand whether a migration can work
version_added: 0.1.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Compares what M(fog.migration.server_info) said of the source, with the container, and of the destination. Returns
    one check for each thing that could fail later.
options:
  _input:
    description: Result of M(fog.migration.server_info) on the source, with the container.
    type: dict
    required: true
  destination:
    description: Result of M(fog.migration.server_info) on the destination.
    type: dict
    required: true
  name:
    description: Name of the container at the destination.
    type: str
    required: true
  mounts:
    description: What the filter P(fog.migration.mount_plans#filter) says of its volumes and bind mounts.
    type: list
    elements: dict
    required: true
  networks:
    description:
      - V(make) finds nothing wrong with a user-defined network that the destination lacks, if it can be made there.
      - V(existing) fails when one is missing.
    type: str
    choices: [make, existing]
    default: make
  mode:
    description: How the container is to be migrated.
    type: str
    choices: [cold, precopy, postcopy, hybrid]
    default: cold
  log:
    description: Whether its log so far is to move.
    type: bool
    default: false
  alone:
    description: Whether it moves without others.
    type: bool
    default: true
  ignore:
    description: Names of checks whose failure is only a warning.
    type: list
    elements: str
    default: []
  sender:
    description: Name of the source in the inventory, as the destination's policy has it.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Check
  ansible.builtin.set_fact:
    checks: "{{ source_info | fog.migration.preflight(destination_info, name='looper100', mounts=mounts) }}"
"""

RETURN = r"""
_value:
  description:
    - The checks in order, each with C(check) (its name), C(status) (V(ok), V(warning) or V(failed)), C(detail) (what
      was found), C(remedy) (what to do when it is not V(ok)) and C(line) (all of it as a line of text).
  type: list
  elements: dict
  sample:
    - {check: architecture, status: ok, detail: both are x86_64, remedy: "", line: ok architecture both are x86_64}
"""

import ipaddress
import re

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import ways
from ansible_collections.fog.migration.plugins.module_utils.docker.networks import (
    PREDEFINED,
    Server,
    are_settings,
    difference,
    hindrance,
)
from ansible_collections.fog.migration.plugins.module_utils.docker.storage_drivers import DRIVERS, by_containerd
from ansible_collections.fog.migration.plugins.module_utils.docker.version import dangers
from ansible_collections.fog.migration.plugins.module_utils.filesystem.container_log import DRIVER
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry
from ansible_collections.fog.migration.plugins.module_utils.journal.store import rival, under_way
from ansible_collections.fog.migration.plugins.module_utils.memory.swapped import Swapped
from ansible_collections.fog.migration.plugins.module_utils.policy import judge, judge_networks, rules
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import PolicyError
from ansible_collections.fog.migration.plugins.module_utils.preflight import (
    dump_room,
    isolation,
    own_network,
    processes,
    processors,
    submounts,
)
from ansible_collections.fog.migration.plugins.module_utils.preflight.platform import live_problems
from ansible_collections.fog.migration.plugins.plugin_utils._controller import is_alive

# Features that programs choose their instructions by at their start. What else is in /proc/cpuinfo does not concern
# them.
_INSTRUCTIONS = re.compile(
    r"^(mmx|s?sse\d?.*|s?s?e?3|avx.*|amx.*|aes|vaes|pclmulqdq|vpclmulqdq|bmi\d|fma4?|f16c|adx|sha_ni|sha\d+|gfni|popcnt|"
    r"abm|lzcnt|movbe|movdiri|movdir64b|rdrand|rdseed|xsave.*|xgetbv1|cx16|erms|fsrm|rtm|hle|mpx|pku|ospke|rdpid|tbm|"
    r"xop)$"
)
MIB = 1024 * 1024
# Docker 17.12 and newer keep a checkpoint a second time in containerd's content store while they write and read it.
_COPIES_OF_DOCKER = 3
_RESERVE = 64 * MIB


def _check(name: str, problem: str, fine: str, remedy: str = "", warning: bool = False) -> dict:
    status = ("warning" if warning else "failed") if problem else "ok"
    return {"check": name, "status": status, "detail": problem or fine, "remedy": remedy if problem else ""}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def missing_instructions(source: list[str], destination: list[str]) -> list[str]:
    """Instruction sets that a process may use at the source and that the destination's processor does not have."""
    missing = set(source) - set(destination)
    return sorted(feature for feature in missing if _INSTRUCTIONS.match(feature))


def _container(source: dict, mode: str) -> dict:
    container = source["container"]
    refusal, remedy = (container[key if mode == "cold" else f"live_{key}"] for key in ("refusal", "remedy"))
    return _check("container", refusal or "", f"{container['name']} can be checkpointed", remedy)


def _group(mode: str) -> dict:
    """Only our own OCI runtime can have a container wait for others once it is restored."""
    problem = "containers move together in live mode only" if mode == "cold" else ""
    return _check("group", problem, "it moves together with others", "run provision.yml, or move one after the other")


def _open_migration(source: dict, destination: dict, name: str) -> dict:
    """Another migration of this container, or to this name, that has not ended."""
    container = source["container"]["id"]
    here, there = ([Entry.from_json(one) for one in facts["migrations"]] for facts in (source, destination))
    other = rival("source", container, name, here) or rival("destination", container, name, there)
    what, remedy = under_way(other, is_alive(other.controller)) if other else ("", "")
    return _check("journal", what, "no other migration of it is open", remedy)


def _through_runtime(*servers: dict) -> bool:
    """Whether in cold mode all of these servers freeze and restore through our OCI runtime, not through Docker."""
    return all(ways.way(server["docker"]) == ways.THROUGH_RUNTIME for server in servers)


def _cold(source: dict, destination: dict) -> list[dict]:
    """What cold mode needs besides. What it needs at the source is known of the container."""
    here, there = source["docker"]["version"], destination["docker"]["version"]
    mismatch = _numbers(here) < (17, 12) <= _numbers(there)
    ours = _through_runtime(destination)
    problem, remedy = (None if ours else ways.restore_refusal(destination["docker"])) or ("", "")
    return [
        _check(
            "restore",
            f"at the destination, {problem}" if problem else "",
            f"it is restored through {f'the OCI runtime {ways.RUNTIME}' if ours else 'Docker'} at the destination",
            f"{remedy} (run provision.yml)",
        ),
        _check(
            "docker_version",
            f"a checkpoint of Docker {here} has other mounts than Docker {there} restores" if mismatch else "",
            f"Docker {here} to {there}",
            "migrate between two Dockers that are both older or both newer than 17.12",
        ),
    ]


def _holes(source: dict, destination: dict) -> dict:
    """No migration fails of a Docker with known holes, but nobody should have one without knowing."""
    sides = {"source": source, "destination": destination}
    return _check(
        "docker_holes",
        dangers({side: server["docker"]["version"] for side, server in sides.items()}),
        "neither server has a Docker that is out of support with known holes",
        "run provision.yml with docker_channel: distro there",
        warning=True,
    )


def _criu(side: str, server: dict) -> dict:
    criu = server["criu"]
    problem = "" if criu["works"] else f"CRIU does not work at the {side} ({criu['why_not']})"
    return _check(
        f"criu_{side}",
        problem,
        f"CRIU {criu['version']} works at the {side}",
        "install a CRIU that fits the running kernel",
    )


def _cgroups(destination: dict) -> dict:
    """CRIU puts the processes back into the control groups of the old container, by its ID, unless it is told not to.

    The runc of Docker before 19.03 does not hand CRIU this configuration.
    """
    told = destination["criu"]["options"].get("manage-cgroups") == "ignore"
    deaf = _numbers(destination["docker"]["version"]) < (19, 3)
    return _check(
        "cgroups",
        "" if told or deaf else "CRIU would restore it into the control groups of the old container's ID",
        "it gets control groups of its own at the destination",
        "write manage-cgroups=ignore into /etc/criu/runc.conf at the destination",
    )


def _platform(source: dict, destination: dict) -> list[dict]:
    here, there = source["host"], destination["host"]
    other = here["architecture"] != there["architecture"]
    missing = missing_instructions(here["cpu_features"], there["cpu_features"])
    old, new = _numbers(here["kernel"]), _numbers(there["kernel"])
    return [
        _check(
            "architecture",
            f"the source is {here['architecture']}, the destination {there['architecture']}" if other else "",
            f"both are {here['architecture']}",
            "choose a destination of the same architecture",
        ),
        _check(
            "cpu_features",
            f"the destination's processor lacks {', '.join(missing)}" if missing and not other else "",
            "the destination's processor has all instruction sets of the source's",
            "choose a destination with a processor at least as new",
        ),
        _check(
            "kernel",
            f"kernel {here['kernel']} to {there['kernel']}" if old != new else "",
            f"both run kernel {here['kernel']}",
            "choose a destination whose kernel is not of an older generation" if old[:1] > new[:1] else "",
            warning=old[:1] <= new[:1],
        ),
    ]


def _places(source: dict, destination: dict, mounts: list[dict]) -> list[str]:
    """What the destination does not allow of where the paths lead that it mounts there."""
    binds = [one for one in mounts if one["type"] == "bind"]
    moves = {one["source"] for one in binds if one["way"] == "moves"}
    stays = {one["source"] for one in binds if one["way"] != "moves"}
    found = []
    for path in source["container"]["mounted_paths"]:
        known = destination["paths"].get(path, {})
        key = "not_allowed" if path in moves - stays else "not_allowed_to_stay"
        found += known.get(key, [])
    return list(dict.fromkeys(found))


def _policy(source: dict, destination: dict, sender: str, networks: str, mounts: list[dict]) -> dict:
    """Whether the destination lets it come, and its networks be made."""
    asks = source["container"]["asks"]
    try:
        policy = rules.from_facts(destination["policy"])
        made = _made_networks(source, destination, networks)
        found = [
            judge.refuses_source(policy, sender),
            *judge.refusals(policy, **asks),
            *judge_networks.refusals(policy, made),
            *_places(source, destination, mounts),
        ]
        problem = "; ".join(str(one) for one in found if one)
        problem = f"the destination's policy does not let it come: {problem}" if problem else ""
    except PolicyError as error:
        problem = f"at the destination, {error}"
    return _check(
        "policy",
        problem,
        "the destination's policy lets it come",
        f"change {rules.FILE} there, by the role fog.migration.policy, if it is to come",
    )


def _isolation(source: dict, destination: dict) -> dict:
    """Whether it is set apart at the destination as it is."""
    return _check(
        "isolation",
        isolation.problem(source, destination),
        "both servers set containers apart by the same means",
        "give both servers the same, or say --security-opt ...=unconfined when the container is made",
    )


def _names(source: dict, destination: dict, name: str) -> list[dict]:
    container = source["container"]
    taken = sorted(set(container["ports"]) & set(destination["listening"]))
    return [
        _check(
            "name",
            f"the destination has a container {name} already" if name in destination["containers"] else "",
            f"the name {name} is free at the destination",
            "remove that one, or give another name with -e new_name=",
        ),
        _check(
            "ports",
            f"the ports {', '.join(taken)} are in use at the destination" if taken else "",
            "its published ports are free at the destination",
            "stop what listens on them there",
        ),
    ]


def _as_server(facts: dict) -> Server:
    """What a network has to get on with, of what a server has told."""
    return Server(facts["network_settings"], facts["docker"]["network_drivers"], facts["interfaces"], facts["routes"])


def _made_networks(source: dict, destination: dict, wanted: str) -> dict[str, dict]:
    """The settings of those of its networks that would be made. Of what is no network, another check tells."""
    here = source["network_settings"] if wanted == "make" else {}
    lacking = [name for name in source["container"]["networks"] if name not in destination["networks"]]
    return {name: here[name] for name in lacking if name in here and are_settings(here[name])}


def _networks(source: dict, destination: dict, wanted: str) -> dict:
    """Its networks: there, or such as can be made."""
    container, here, there = source["container"], source["network_settings"], destination["network_settings"]
    problems, found, made = [], [], []
    for name in container["networks"]:
        if name in destination["networks"]:
            # Docker's own may differ; of addresses that move with it, another check tells.
            fixed = [] if name in source["segments"] else container["fixed_addresses"].get(name, [])
            known = name not in PREDEFINED and name in here and name in there
            problems.append(difference(name, here[name], there[name], fixed) if known else "")
            found.append(name)
        elif wanted == "existing" or name not in here:
            problems.append(f"the destination has no network {name}")
        else:
            problems.append(hindrance(name, here[name], _as_server(destination)))
            made.append(name)
    parts = [
        f"the destination has {', '.join(found)}" if found else "",
        f"{', '.join(made)} will be made" if made else "",
    ]
    return _check(
        "networks",
        "; ".join(filter(None, problems)),
        " and ".join(filter(None, parts)) or "it has no network",
        "make a network of that name there that suits it, for example with community.docker.docker_network",
    )


def _segment_problem(name: str, addresses: list[str], here: dict, there: dict | None) -> str:
    """Why a container cannot have its addresses of this network at the destination as well; empty where it can."""
    if there is None:
        return ""
    if here["driver"] != there["driver"]:
        return f"the network {name} is a {here['driver']} at the source and a {there['driver']} at the destination"
    subnets = [ipaddress.ip_network(subnet) for subnet in there["subnets"]]
    for address in addresses:
        if not any(ipaddress.ip_address(address) in subnet for subnet in subnets):
            return f"its address {address} is not of the destination's network {name} ({', '.join(there['subnets'])})"
        if address in there["used"]:
            return f"another container at the destination has its address {address} in the network {name}"
    return ""


def _addresses(source: dict, destination: dict) -> dict:
    """Where a network has addresses of the network outside, the container takes its own along."""
    problems, own = [], []
    for name, addresses in source["container"]["addresses"].items():
        here, there = (server["segments"].get(name) for server in (source, destination))
        if here:
            own += addresses
            # That there is no network of this name is told by another check.
            other = {"driver": "network of another kind"} if name in destination["networks"] else None
            problems.append(_segment_problem(name, addresses, here, there or other))
    return _check(
        "addresses",
        "; ".join(filter(None, problems)),
        f"it keeps the address {' and '.join(own)}" if own else "no address of its own moves with it",
        "make the network there as it is at the source, on the same network outside",
    )


_SHOWN = 5


def _some(connections: list[dict]) -> str:
    shown = [f"{one['local']} - {one['remote']}" for one in connections[:_SHOWN]]
    more = [f"{len(connections) - _SHOWN} more"] if len(connections) > _SHOWN else []
    return ", ".join(shown + more)


def _connections(source: dict, destination: dict, mode: str) -> list[dict]:
    """What becomes of the container's TCP connections."""
    every, bound = source["container"]["connections"], source["container"]["bound"]
    by_docker = mode == "cold" and not _through_runtime(source, destination)
    closed = every if by_docker else [one for one in every if not one["survives"]]
    plural = "" if len(closed) == 1 else "s"
    problem = f"{len(closed)} connection{plural} will be closed, since its address does not move: {_some(closed)}"
    remedy = "connect it by a macvlan or ipvlan network that both servers have"
    if by_docker:
        problem = f"Docker's own checkpoints cannot take {len(closed)} connection{plural} along: {_some(closed)}"
        remedy = f"install the OCI runtime {ways.RUNTIME} on both servers (run provision.yml), or close them first"
    return [
        _check(
            "connections",
            problem if closed else "",
            f"its connections go on: {_some(every)}" if every else "it has no connections to the outside",
            remedy,
            # The dump or the restore would fail.
            warning=not by_docker,
        ),
        _check(
            "bound",
            f"it listens on {', '.join(bound)}, which is no address of its own at the destination" if bound else "",
            "it listens on no address that it will not have at the destination",
            "have it listen on all addresses (0.0.0.0), or give it a fixed one",
        ),
    ]


def _namespaces(source: dict) -> dict:
    """What two containers share does not move with one of them."""
    shares = source["container"]["shares"]
    return _check(
        "namespaces",
        f"it shares {' and '.join(shares)}, which cannot be restored elsewhere" if shares else "",
        "it shares no namespace with another container",
        "give each of them its own, and a network that both are in",
    )


def _links(source: dict, destination: dict) -> dict:
    """Docker starts a container with links of this old kind only where the others run already.

    They are known by their names alone: one that has another image than at the source is another container.
    """
    linked, here, there = source["container"]["links"], source["containers"], destination["containers"]
    missing = [name for name in linked if there.get(name, {}).get("state") != "running"]
    images = {name: (here.get(name, {}).get("image"), there.get(name, {}).get("image")) for name in linked}
    others = [name for name, (one, other) in images.items() if one and other and one != other]
    problem = f"it is linked to {', '.join(missing)} (--link), which does not run at the destination" if missing else ""
    if others and not missing:
        problem = f"it is linked to {', '.join(others)} (--link), which has another image at the destination"
    return _check(
        "links",
        problem,
        "it has no link on Docker's default network that leads to nowhere",
        "put them into a network of their own, in which they know each other by name",
    )


def _deleted(source: dict, mode: str) -> dict:
    limit = tool.ghost_limit(source["criu"]["options"])
    if mode != "cold" or _through_runtime(source):
        limit = max(limit, tool.GHOST_LIMIT)
    large = sorted(name for name, size in source["container"]["deleted"].items() if size > limit)
    return _check(
        "deleted_files",
        f"{', '.join(large)} is in use and deleted, and larger than what CRIU takes along" if large else "",
        "it uses no deleted file that is too large for CRIU",
        "write ghost-limit=SIZE, such as 100M, into /etc/criu/runc.conf at the source",
    )


def _outside(source: dict, mode: str) -> list[dict]:
    """What no checkpoint can hold, since one end of it stays behind, or since nobody could make it again."""
    container = source["container"]
    unix, unknown, sessions = (container[key] for key in ("unix_outside", "unknown", "sessions"))
    stays = f"it is connected to Unix sockets of others ({', '.join(unix)}), which cannot move with it"
    return [
        _check(
            "unix_sockets",
            stays if unix else "",
            "it is connected to no Unix socket of others",
            "have it close that connection first, or reach that service by TCP",
        ),
        _check(
            "descriptors",
            f"it holds {' and '.join(unknown)}, which CRIU cannot take along" if unknown else "",
            "it holds nothing that CRIU is known not to take along",
            "run what it does without that",
        ),
        _check(
            "processes",
            processes.problem(container["undumpable"]),
            "nothing is known of its processes that CRIU cannot dump",
            processes.remedy(container["undumpable"]),
        ),
        _deleted(source, mode),
        _check(
            "sessions",
            f"what was started in it by docker exec does not move, and ends: {', '.join(sessions)}" if sessions else "",
            "nothing that was started by docker exec runs in it",
            "start that again at the destination",
            warning=True,
        ),
    ]


def _file_locks(source: dict, destination: dict) -> dict:
    """CRIU takes locks on files along only where it is told to. Our OCI runtime tells it, and Docker does not."""
    holders = source["container"]["file_locks"]
    untold = [
        side
        for side, server in (("source", source), ("destination", destination))
        if not _through_runtime(server) and not ways.keeps_locks(server["docker"]["version"], server["criu"]["options"])
    ]
    where = " and the ".join(untold)
    problem = f"{', '.join(holders)} in it holds locks on files, which CRIU at the {where} would not take along"
    return _check(
        "file_locks",
        problem if holders and untold else "",
        "its locks on files move with it" if holders else "it holds no locks on files",
        f"install the OCI runtime {ways.RUNTIME} there, or from Docker 19.03 on write file-locks into "
        "/etc/criu/runc.conf (run provision.yml for both)",
    )


def _data(source: dict, destination: dict, mounts: list[dict], mode: str) -> list[dict]:
    container = source["container"]
    shm = container["shm_outside"]
    # Our runtime is told what the links lead to.
    linked = container["linked_mounts"] if mode == "cold" and not _through_runtime(destination) else []
    drivers = source["docker"]["storage_driver"], destination["docker"]["storage_driver"]
    lost = ""
    if not container["rootfs_readable"]:
        lost = f"its changed files cannot be read from the storage driver {drivers[0]}"
    elif container["rootfs_size"] and drivers[1] not in DRIVERS:
        lost = f"its changed files cannot be put into the storage driver {drivers[1]}"
    return [
        *_mounts(mounts),
        _check(
            "shared_memory",
            f"it keeps {shm} bytes in a /dev/shm that others may share, which do not move with it" if shm else "",
            "it keeps nothing in a /dev/shm of others",
            "run it with --ipc private",
        ),
        _check(
            "mounts",
            f"{', '.join(linked)} is mounted from a symbolic link, which CRIU cannot do by itself" if linked else "",
            "its mounts can be made again",
            f"install the OCI runtime {ways.RUNTIME} at the destination (run provision.yml), "
            "or run it without --init or with a mount of what the link leads to",
        ),
        _check(
            "submounts",
            submounts.problem(container["submounts"]),
            "nothing else is mounted below its bind mounts",
            "mount the folders that it needs one by one, or with bind-recursive=disabled (Docker 25 and newer)",
        ),
        _check(
            "storage_driver",
            lost,
            f"storage drivers {drivers[0]} and {drivers[1]}",
            f"use one of {', '.join(DRIVERS)} there",
        ),
        _image(source, destination),
    ]


def _image(source: dict, destination: dict) -> dict:
    """An image is known by its ID: the digest of its manifest in containerd's store, else that of its configuration."""
    here, there = (by_containerd(server["docker"]["storage_driver"]) for server in (source, destination))
    which = "source" if here else "destination"
    problem = f"its image has another ID at the destination, since only the {which} keeps images in containerd's store"
    return _check(
        "image",
        problem if here != there else "",
        "its image is the same in the destination's store",
        'have both keep them there, or none: "features": {"containerd-snapshotter": true or false} in daemon.json',
    )


_WAYS = {
    "moves": "moves with it",
    "shared": "is at the destination already",
    "stays": "is what the destination has there",
}


def _mounts(mounts: list[dict]) -> list[dict]:
    """What becomes of its volumes and bind mounts, one by one where something speaks against it."""
    wrong = [_check("volumes", one["problem"], "", one["remedy"]) for one in mounts if one["problem"]]
    fine = [f"{one['destination']} {_WAYS[one['way']]}" for one in mounts if not one["problem"]]
    told = [_check("volumes", "", ", ".join(fine) or "it has no volumes or bind mounts")] if fine or not wrong else []
    return wrong + told


def _processors(source: dict, destination: dict, mode: str) -> dict:
    is_carried = mode != "cold" or _through_runtime(source, destination)
    return _check(
        "processors",
        processors.problem(source, destination, is_carried),
        "its threads are bound to what the destination has" if source["container"]["processors"] else "it is not bound",
        "bind them there anew (taskset), or choose a destination that has them",
        warning=True,
    )


# Bytes that tar and gzip, which CRIU has do that, pack and unpack in about a second.
_SLOW = 32 * MIB


def _address_space(source: dict, mode: str) -> dict:
    """Address space counts for CRIU, also that in which there is no memory."""
    against, slows = dump_room.against_any(source), dump_room.NONE
    if mode in ("postcopy", "hybrid"):
        against = against if against.problem else dump_room.against_lazy(source)
        slows = dump_room.slows_lazy(source)
    found = against if against.problem else slows
    return _check(
        "address_space", found.problem, "CRIU has room for a dump of it", found.remedy, warning=not against.problem
    )


def _swapped(container: dict) -> dict:
    """In a live mode, what is swapped out is read, or left with the processes: it has to be in memory for that."""
    found = Swapped(container["memory_swapped"], container["memory_room"])
    return _check(
        "swapped_memory",
        "" if found.fits else found.problem,
        "what is swapped out of it has room in memory" if found.out else "none of its memory is swapped out",
        "raise its limit (docker update --memory), make room on the server, or say -e migration_mode=cold",
    )


def _memory(source: dict, destination: dict, mode: str) -> list[dict]:
    """What its kinds of memory need of the two servers."""
    container = source["container"]
    files = container["memory_files"]
    slow = f"{files // MIB} MiB in its /dev/shm and other file systems in memory are packed while it stands still"
    return [
        _address_space(source, mode),
        *([] if mode == "cold" else [_swapped(container)]),
        _check(
            "huge_pages",
            dump_room.missing_huge_pages(container, destination),
            "the destination has the huge pages that it uses" if container["huge_pages"] else "it uses no huge pages",
            "set vm.nr_hugepages there, or run it without huge pages",
        ),
        _check(
            "memory_files",
            slow if files > _SLOW else "",
            "it has little in file systems in memory",
            "keep large files in a volume, which travels while it runs",
            warning=True,
        ),
    ]


def _log(source: dict, log: bool) -> list[dict]:
    """Whether its log so far can move, where that is wanted."""
    driver = source["container"]["log_driver"]
    other = f"its log is kept by the log driver {driver}, and only that of {DRIVER} moves" if driver != DRIVER else ""
    return [_check("log", other, "its log so far moves", "say -e migration_log=false")] if log else []


def _space(source: dict, destination: dict, mode: str, mounts: list[dict]) -> list[dict]:
    """Room on disk. A live migration keeps memory in memory, or on the disk once where that is short."""
    container = source["container"]
    moving = sum(one["bytes"] for one in mounts if one["way"] == "moves")
    # In cold mode, they are in the checkpoint before they are in their place.
    around = _RESERVE + (moving if mode == "cold" else 0)
    # Its archive and its layers at the destination; at the source Docker's archive, and the one without some layers.
    around += 0 if container["image"] in destination["images"] else 2 * container["image_size"]
    found = []
    for side, server, more in (("source", source, 0), ("destination", destination, moving)):
        copies = 1 if mode != "cold" or _through_runtime(server) else _COPIES_OF_DOCKER
        wanted = copies * (container["memory"] + container["rootfs_size"]) + around + more
        free = min(server["free"].values())
        too_little = f"about {wanted // MIB} MiB are needed at the {side} and {free // MIB} MiB are free"
        found.append(
            _check(
                f"space_{side}",
                too_little if free < wanted else "",
                f"{free // MIB} MiB free at the {side}",
                "make room there, or set another directory",
            )
        )
    return found


def _sdk(source: dict, destination: dict) -> dict:
    """C(server_info) does without the SDK; what acts on containers does not."""
    lacking = [
        side for side, server in (("source", source), ("destination", destination)) if not server["docker"]["sdk"]
    ]
    return _check(
        "docker_sdk",
        f"the Python of the {' and of the '.join(lacking)} has no Docker SDK" if lacking else "",
        "both have the Docker SDK for Python",
        "run provision.yml, or install it there (Debian: python3-docker)",
    )


def _live(source: dict, destination: dict, mode: str) -> list[dict]:
    """What a live migration needs besides."""
    remedy = "run provision.yml on both servers, or say -e migration_mode=cold"
    return [
        _check(one["check"], one["problem"], one["fine"], remedy) for one in live_problems(source, destination, mode)
    ]


def preflight(
    source: dict,
    destination: dict,
    name: str,
    mounts: list[dict],
    networks: str = "make",
    mode: str = "cold",
    log: bool = False,
    alone: bool = True,
    ignore=(),
    sender: str = "",
) -> list[dict]:
    """See DOCUMENTATION."""
    checks = [
        *([] if alone else [_group(mode)]),
        _container(source, mode),
        _policy(source, destination, sender, networks, mounts),
        _isolation(source, destination),
        _open_migration(source, destination, name),
        *(_cold(source, destination) if mode == "cold" else _live(source, destination, mode)),
        _sdk(source, destination),
        _holes(source, destination),
        _criu("source", source),
        _criu("destination", destination),
        _cgroups(destination),
        *_platform(source, destination),
        *_names(source, destination, name),
        _networks(source, destination, networks),
        _addresses(source, destination),
        *(_check(*one) for one in own_network.checks(source["container"]["own_network"])),
        *_connections(source, destination, mode),
        *_outside(source, mode),
        _namespaces(source),
        _links(source, destination),
        *([_file_locks(source, destination)] if mode == "cold" else []),
        *_data(source, destination, mounts, mode),
        _processors(source, destination, mode),
        *_memory(source, destination, mode),
        *_log(source, log),
        *_space(source, destination, mode, mounts),
    ]
    for check in checks:
        if check["status"] == "failed" and check["check"] in ignore:
            check["status"] = "warning"
    for check in checks:
        remedy = f" ({check['remedy']})" if check["remedy"] else ""
        check["line"] = f"{check['status']:<8} {check['check']:<18} {check['detail']}{remedy}"
    return checks


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"preflight": preflight}
