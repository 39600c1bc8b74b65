# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a migration of a container has to carry, and why the container cannot move if it cannot.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Iterable
from typing import Any, Protocol

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest, refusals
from ansible_collections.fog.migration.plugins.module_utils.criu import dump_costs
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    checkpoint_layout,
    container_facts,
    judged,
    mounts,
    runc,
    storage_drivers,
    ways,
)
from ansible_collections.fog.migration.plugins.module_utils.docker.version import version_tuple
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import roots, snapshot
from ansible_collections.fog.migration.plugins.module_utils.memory import footprint, swapped
from ansible_collections.fog.migration.plugins.module_utils.memory.pagemap import PAGE
from ansible_collections.fog.migration.plugins.module_utils.network import namespace, own_network, probe_connections
from ansible_collections.fog.migration.plugins.module_utils.policy import judge
from ansible_collections.fog.migration.plugins.module_utils.preflight import processes, processors, submounts
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import surroundings
from ansible_collections.fog.migration.plugins.module_utils.system import files, limits, procfs

# Of a larger file no checksum is made.
LARGEST = 64 * 1024 * 1024


class Client(Protocol):
    """What is asked of Docker beside a container's inspect data."""

    def diff(self, container: str) -> list[dict[str, Any]] | None:
        """The changes in the container's root file system."""

    def find_image(self, reference: str) -> dict[str, Any] | None:
        """The inspect data of an image."""

    def volumes(self) -> dict[str, Any]:
        """All volumes, as Docker lists them."""


class Describer:
    """Describes containers of one server. What several of them have in common is looked at once.

    :param client: what asks Docker.
    :param daemon: see C(daemon.facts).
    :param criu_version: CRIU's version here, or None where there is none.
    :param everyone: the inspect data of all containers of the server.
    """

    def __init__(
        self, client: Client, daemon: dict[str, Any], criu_version: str | None, everyone: list[dict[str, Any]]
    ) -> None:
        self.client = client
        self.daemon = daemon
        self.criu_version = criu_version
        self.everyone = everyone
        self._described: dict[str, dict[str, Any]] = {}
        self._volumes = functools.lru_cache(maxsize=None)(lambda: client.volumes().get("Volumes") or [])
        self._image = functools.lru_cache(maxsize=None)(client.find_image)
        self._path = functools.lru_cache(maxsize=None)(path_of_mount)
        self._bytes = functools.lru_cache(maxsize=None)(files.folder_bytes)
        self._scans = dump_costs.scans(version_tuple(os.uname().release), version_tuple(criu_version or "0.0"))

    def describe(self, inspect: dict[str, Any]) -> dict[str, Any]:
        """What a migration of this container has to know. One that is meant by several names is looked at once.

        :param inspect: its inspect data.
        """
        identity = inspect["Id"]
        if identity not in self._described:
            self._described[identity] = self._look_at(inspect)
        return self._described[identity]

    def _look_at(self, inspect: dict[str, Any]) -> dict[str, Any]:
        process = inspect["State"].get("Pid") or 0
        below = procfs.processes_below(process) if process else set()
        others = [one for one in self.everyone if one["Id"] != inspect["Id"]]
        shm = f"/proc/{process}/root/dev/shm"
        memory = footprint.of(below, process)
        facts = facts_of(inspect)
        return {
            **facts,
            **self._image_facts(inspect["Image"]),
            **self._refusals(inspect, below),
            **memory_facts(memory),
            **swapped_facts(inspect["Id"], below),
            **dump_facts(memory, limits.largest_pipe(), self._scans),
            **describe_rootfs(self.client, inspect, self.daemon["root"]),
            **self._asks(inspect),
            "mounts": self._mounts(inspect, others),
            "submounts": submounts.of_container(
                inspect, surroundings.parse_mounts(procfs.read(f"/proc/{process}/mountinfo") if process else "")
            ),
            "shares": container_facts.shared_namespaces(inspect, others),
            "shm_outside": files.folder_bytes(shm)
            if process and not container_facts.keeps_shared_memory(inspect)
            else 0,
            "own_network": own_network_of(process, inspect),
            "file_locks": sorted({*map(procfs.program, below & procfs.lock_holders(procfs.read("/proc/locks")))}),
            **_process_facts(inspect["Id"], below, process, ways.way(self.daemon) == ways.THROUGH_RUNTIME),
            "linked_mounts": checkpoint_layout.linked_mounts(checkpoint_layout.bundle(inspect["Id"])),
            **probe_connections.probe(
                inspect["Id"],
                process,
                {*itertools.chain(*facts["fixed_addresses"].values())},
                container_facts.health_command(inspect),
                ways.way(self.daemon) == ways.THROUGH_RUNTIME,
            ),
        }

    def _asks(self, inspect: dict[str, Any]) -> dict[str, Any]:
        """What the policy of a destination has to allow, and the paths of which it has to look where they lead."""
        its = {mount["name"] for mount in mounts.of_container(inspect) if mount["type"] == "volume"}
        volumes = [one for one in self._volumes() if one["Name"] in its]
        sockets = filter(files.is_socket, judge.bind_sources(inspect))
        return {
            "asks": judge.asks(inspect, volumes, sockets),
            "mounted_paths": judge.mounted_paths(inspect, volumes),
        }

    def _image_facts(self, identity: str) -> dict[str, Any]:
        image = self._image(identity) or {}
        return {
            "image_tags": image.get("RepoTags") or [],
            "image_digests": image.get("RepoDigests") or [],
            "image_size": image.get("Size", 0),
        }

    def _refusals(self, inspect: dict[str, Any], below: set[int]) -> dict[str, str | None]:
        """Why it cannot be frozen in cold mode, or in a live one, and what to do about it."""
        unreadable, stopped = procfs.limits_unreadable(below), procfs.stopped(below)

        def told(way: str) -> tuple[str | None, str | None]:
            # Through its OCI runtime it stays at the source, paused, until it has moved.
            goes_on = way == ways.THROUGH_RUNTIME
            facts = self.daemon, self.criu_version, unreadable, goes_on, way, stopped
            return refusals.checkpoint_refusal(inspect, *facts) or (None, None)

        cold, live = told(ways.way(self.daemon)), told(ways.THROUGH_RUNTIME)
        return {"refusal": cold[0], "remedy": cold[1], "live_refusal": live[0], "live_remedy": live[1]}

    def _mounts(self, inspect: dict[str, Any], others: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The container's volumes and bind mounts, as a migration has to know them.

        :param others: the inspect data of all other containers.
        """
        found = mounts.of_container(inspect)
        users = {one["Name"].lstrip("/"): {*mounts.sources(one).values()} for one in others} if found else {}
        return [
            {
                **mount,
                **self._path(mount["source"]),
                **standing(inspect, mount),
                "bytes": self._bytes(mount["source"]) if mount["type"] == "volume" else 0,
                "users": sorted(name for name, sources in users.items() if mount["source"] in sources),
            }
            for mount in found
        ]


def _process_facts(container: str, below: set[int], first: int, through_runtime: bool) -> dict[str, Any]:
    """What of its processes cannot be dumped, and what has to be carried beside the images."""
    if not first:
        return {"undumpable": [], "processors": []}
    those = moving(container, below)
    return {
        "undumpable": processes.Look(those, first, through_runtime).found(),
        "processors": processors.bound(container, those),
    }


def moving(container: str, below: set[int]) -> set[int]:
    """The processes of a container that CRIU takes along.

    :param below: its first one and all that descend from it, on this server.
    """
    try:
        return {*runc.moving(container)}
    except (runc.FreezeError, OSError):
        return below


def own_network_of(process: int, inspect: dict[str, Any]) -> dict[str, list[str]]:
    """What is in its network beside what Docker has made there, see C(own_network.OwnNetwork).

    :param process: its first one; 0 where it does not run.
    """
    # What is in the network of another container is that one's.
    joined = (inspect["HostConfig"].get("NetworkMode") or "").startswith("container:")
    # One that ends meanwhile has no network any more.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if process and namespace.is_own(process) and not joined:
            network = namespace.network_of(process)
            return own_network.look(network, container_facts.endpoints(inspect)).to_json()
    return own_network.OwnNetwork().to_json()


def memory_facts(memory: footprint.Footprint) -> dict[str, Any]:
    """How much memory a checkpoint has to hold, and of which kinds, in bytes."""
    return {
        "memory": memory.private + memory.shared + memory.files,
        "memory_shared": memory.shared,
        "memory_files": memory.files,
        "huge_pages": {str(page): size for page, size in memory.huge.items()},
    }


def swapped_facts(container: str, processes: Iterable[int]) -> dict[str, int]:
    """How much of its memory is swapped out, and how much may be in memory besides what is there, in bytes."""
    try:
        groups = runc.control_groups(container)
    except runc.FreezeError:
        groups = {}
    found = swapped.of(processes, groups)
    return {"memory_swapped": found.out, "memory_room": found.room}


def dump_facts(memory: footprint.Footprint, largest_pipe: int | None, scans: bool) -> dict[str, Any]:
    """What CRIU needs for a dump besides, see C(dump_costs).

    :param largest_pipe: bytes of the largest pipe that it gets here; None for no limit.
    :param scans: whether it asks the kernel only for the pages that are there.
    """
    pipe = dump_costs.pipe_bytes(PAGE, largest_pipe)
    return {
        "address_space": memory.space.total,
        "dump_descriptors": dump_costs.descriptors(memory.private, memory.processes, pipe),
        "dump_lists": dump_costs.lists(memory.space, PAGE),
        "dump_entries": dump_costs.entries(memory.space, PAGE, scans),
    }


def facts_of(inspect: dict[str, Any]) -> dict[str, Any]:
    """What the inspect data of a container tell without a look at anything else."""
    state, host_config = inspect["State"], inspect["HostConfig"]
    return {
        "id": inspect["Id"],
        "name": inspect["Name"].lstrip("/"),
        "state": state.get("Status", "unknown"),
        "health": (state.get("Health") or {}).get("Status", "none"),
        **judged.facts_of(inspect),
        "addresses": container_facts.addresses(inspect),
        "links": [link.split(":", 1)[0].lstrip("/") for link in host_config.get("Links") or []],
        "log_driver": host_config.get("LogConfig", {}).get("Type", "unknown"),
    }


def path_of_mount(path: str) -> dict[str, Any]:
    """What there is at a path of this host, as far as a container's mount is concerned."""
    return {
        "is_folder": os.path.isdir(path),
        "is_file": mounts.is_file(path),
        "checksum": checksum(path),
        "file_system": files.path_facts(path)["file_system"],
    }


def checksum(path: str) -> str | None:
    """The SHA-256 of a file, if it is one, and not so large that it would take long."""
    small = mounts.is_file(path) and os.path.getsize(path) <= LARGEST
    return manifest.sha256_file(path) if small else None


def standing(inspect: dict[str, Any], mount: dict[str, Any]) -> dict[str, Any]:
    """Whether a folder or a file of the host is what the container has mounted.

    :returns: C(replaced), whether something else has its path by now: a mount is of the folder or the file itself; and
        C(refused), see C(roots.refusal).
    """
    path, process = mount["source"], inspect["State"].get("Pid")
    if mount["type"] != "bind" or not (os.path.isdir(path) or mounts.is_file(path)):
        return {"replaced": False, "refused": ""}
    try:
        root = roots.hold(path)
    except Refused as error:
        return {"replaced": False, "refused": str(error)}
    with root:
        return {"replaced": bool(process) and _is_replaced(root, process, mount["destination"]), "refused": ""}


def _is_replaced(root: roots.Root, process: int, place: str) -> bool:
    try:
        roots.require_mounted(root, process, place)
    except Refused:
        return True
    return False


def describe_rootfs(client: Client, inspect: dict[str, Any], root: str) -> dict[str, Any]:
    """How much the container has changed in its root file system, and whether that can be read.

    :param root: Docker's own folder.
    """
    storage = storage_drivers.of_container(inspect, root)
    if storage is None:
        return {"rootfs_size": 0, "rootfs_readable": not client.diff(inspect["Id"])}
    if storage.is_layer:
        return {"rootfs_size": files.folder_bytes(storage.folder), "rootfs_readable": True}
    there = snapshot.snapshot(storage.folder)
    names = storage_drivers.changes(there, client.diff(inspect["Id"]) or []).names
    return {"rootfs_size": sum(there[name].size for name in names), "rootfs_readable": True}
