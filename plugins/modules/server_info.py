#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: server_info
short_description: Tell what a fog server can do and what runs on it
version_added: 0.1.0
description:
  - Reads everything that has to be known of a server before a container is migrated from it or to it. That is its
    Docker, CRIU, kernel and processor, free space and listening ports, its containers, images, networks and volumes.
  - With O(container), also what a migration of that container has to carry. The environment of the container is not
    returned, because it often holds secrets.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.info
  - fog.migration.docker
  - fog.migration.docker.actiongroup
options:
  container:
    description:
      - Name or ID of a container to describe in RV(container).
    type: str
  directory:
    description:
      - Folder whose free space counts, where checkpoints are kept.
    type: path
    default: /var/lib/fog-migration/checkpoints
  peer_address:
    description:
      - Address of another host, of which RV(peer) tells whether its SSH port can be reached from here.
    type: str
  peer_port:
    description:
      - Its SSH port.
    type: int
    default: 22
  paths:
    description:
      - Paths on this host that RV(paths) is to tell of.
    type: list
    elements: str
    default: []
seealso:
  - module: fog.migration.checkpoint_info
  - module: fog.migration.criu_info
  - module: community.docker.docker_container_info
"""

EXAMPLES = r"""
- name: Look at all fog servers
  fog.migration.server_info:
    container: looper100
  register: server

- name: Say where the container runs
  ansible.builtin.debug:
    msg: "{{ server.container.name }} runs here"
  when: server.container is not none
"""

RETURN = r"""
host:
  description: The host itself.
  returned: success
  type: dict
  sample: {hostname: fog1, kernel: 6.12.0, architecture: x86_64, cpu_features: [avx, sse4_2]}
peer:
  description: Why the other host cannot be reached from here (C(problem)), or null where it can.
  returned: success
  type: dict
  sample: {problem: null}
docker:
  description: The Docker daemon.
  returned: success
  type: dict
  sample:
    version: 26.1.5
    api_version: "1.45"
    experimental: true
    storage_driver: overlay2
    root: /var/lib/docker
    runtimes: [io.containerd.runc.v2, runc]
    network_drivers: [bridge, host, ipvlan, macvlan, "null", overlay]
criu:
  description:
    - CRIU on this host, whether C(criu check) finds that it works on the running kernel, and if not, why.
    - C(options) is what C(/etc/criu/runc.conf) says. C(features) are those that matter for a migration, each with
      C(works) and C(why_not); C(modes) are the modes of migration that are possible with them, each with C(possible)
      and C(why_not).
  returned: success
  type: dict
  sample:
    path: /usr/sbin/criu
    version: 4.2.1
    options: {manage-cgroups: ignore}
    works: true
    why_not: null
    features: {uffd: {works: true, why_not: null}}
    modes: {cold: {possible: true, why_not: null}}
migrations:
  description: The entries of the journal, see M(fog.migration.migration_info).
  returned: success
  type: list
  elements: dict
  sample: []
paths:
  description:
    - Whether each of O(paths) C(exists), whether it is C(empty), its C(file_system) (C(type) and C(device)), and the
      C(checksum) (SHA-256) of a file of up to 64 MiB.
  returned: success
  type: dict
  sample: {/srv/data: {exists: true, empty: false, file_system: {type: ext4, device: /dev/sda1}}}
free:
  description: Bytes free for checkpoints (C(checkpoints)) and for Docker (C(docker)).
  returned: success
  type: dict
  sample: {checkpoints: 85899345920, docker: 85899345920}
listening:
  description: Ports that something listens on.
  returned: success
  type: list
  elements: str
  sample: [22/tcp]
containers:
  description: All containers by name, with their ID, state and labels.
  returned: success
  type: dict
  sample: {looper100: {id: 4f9d..., state: running, labels: {}}}
images:
  description: IDs of all images.
  returned: success
  type: list
  elements: str
  sample: ["sha256:1c35..."]
layers:
  description:
    - Chain IDs of all layers of these images, which need not be sent here with another image that has them. Empty where
      Docker keeps its images in containerd's store, which wants all of them.
  returned: success
  type: list
  elements: str
  sample: ["sha256:6f9a..."]
networks:
  description: Names of all networks.
  returned: success
  type: list
  elements: str
  sample: [bridge, host, none]
network_settings:
  description:
    - How each network was made, by name, with options as M(community.docker.docker_network) takes them, its C(scope),
      and the addresses of the running containers in it (C(used)).
  returned: success
  type: dict
  sample:
    front:
      driver: bridge
      driver_options: {}
      ipam_driver: default
      ipam_driver_options: {}
      ipam_config: [{subnet: 198.51.100.0/24, gateway: 198.51.100.1}]
      enable_ipv6: false
      internal: false
      attachable: false
      labels: {}
      scope: local
      used: [198.51.100.2]
interfaces:
  description: Names of the network interfaces.
  returned: success
  type: list
  elements: str
  sample: [eth0, lo]
segments:
  description:
    - Networks on which containers have addresses of their own on the network outside (macvlan and ipvlan), by name,
      each with its C(driver), its C(subnets) and the addresses that containers here have in it (C(used)).
  returned: success
  type: dict
  sample: {lan: {driver: macvlan, subnets: [192.0.2.0/24], used: [192.0.2.129]}}
volumes:
  description: Names of all volumes.
  returned: success
  type: list
  elements: str
  sample: [data]
container:
  description: The container, or null where it is not on this host or O(container) was not given.
  returned: success
  type: dict
  contains:
    id:
      description: Its ID.
      type: str
      sample: 4f9d...
    name:
      description: Its name.
      type: str
      sample: looper100
    state:
      description: Its state.
      type: str
      sample: running
    health:
      description: What its health check says, or V(none) where it has none.
      type: str
      sample: none
    image:
      description: ID of its image.
      type: str
      sample: sha256:1c35...
    image_tags:
      description: Tags of its image.
      type: list
      elements: str
      sample: ["busybox:lab"]
    image_digests:
      description: Names with digest under which registries have its image.
      type: list
      elements: str
      sample: ["registry.example.org/looper@sha256:77af..."]
    image_size:
      description: Bytes of its image.
      type: int
      sample: 2011136
    refusal:
      description: Why a checkpoint that ends it cannot be taken, or null.
      type: str
      sample: the container looper100 is paused
    remedy:
      description: What to do about RV(container.refusal), or null.
      type: str
      sample: "resume it first: docker unpause looper100"
    live_refusal:
      description: Why it cannot be frozen through its OCI runtime, as a live migration does, or null.
      type: str
      sample: null
    live_remedy:
      description: What to do about RV(container.live_refusal), or null.
      type: str
      sample: null
    memory:
      description: Bytes of anonymous memory of its processes, which is about what a checkpoint has to hold.
      type: int
      sample: 131072
    rootfs_size:
      description: Bytes of its root file system diff.
      type: int
      sample: 0
    rootfs_readable:
      description: Whether the storage driver is one of those whose files can be read, or none of its files differ.
      type: bool
      sample: true
    ports:
      description: Host ports that it publishes by number.
      type: list
      elements: str
      sample: [8080/tcp]
    networks:
      description: Names of its networks.
      type: list
      elements: str
      sample: [bridge]
    addresses:
      description: Its addresses, by network.
      type: dict
      sample: {lan: [192.0.2.129]}
    fixed_addresses:
      description: Those of its addresses that it was given by its creator, by network.
      type: dict
      sample: {lan: []}
    connections:
      description:
        - Its TCP connections to the outside, each with C(local) and C(remote) end and whether it C(survives) a live
          migration, because its address moves with it.
      type: list
      elements: dict
      sample: [{local: "172.17.0.2:80", remote: "192.0.2.7:51234", survives: false}]
    bound:
      description: Addresses that it listens on by name and that do not move with it.
      type: list
      elements: str
      sample: []
    unix_outside:
      description: Unix sockets of others that it is connected to.
      type: list
      elements: str
      sample: [/run/docker.sock]
    unknown:
      description: What it holds that CRIU is known not to take along.
      type: list
      elements: str
      sample: [an io_uring]
    deleted:
      description: Sizes of files that it has open and that were deleted, by the name that they had.
      type: dict
      sample: {/tmp/scratch: 4096}
    sessions:
      description: Names of the programs that C(docker exec) has started in it and that run, health checks apart.
      type: list
      elements: str
      sample: [sh]
    shares:
      description: The namespaces that it shares with other containers, as clauses.
      type: list
      elements: str
      sample: [the network namespace of web]
    links:
      description: Names of the containers that it is linked to (C(--link)) on Docker's default network.
      type: list
      elements: str
      sample: [db]
    log_driver:
      description: The log driver that keeps what it says.
      type: str
      sample: json-file
    mounts:
      description:
        - Volumes and bind mounts, with C(type), C(name), C(driver), C(source) and C(destination), whether it is
          C(anonymous) and whether it C(is_folder) or C(is_file), its C(file_system) (C(type) and C(device)), the
          C(bytes) of a volume, the C(checksum) (SHA-256) of a file of up to 64 MiB, whether the container has another
          file than the one that has this path by now (C(replaced)), and the other containers that have it (C(users)).
      type: list
      elements: dict
      sample: []
    shm_outside:
      description: Bytes of files in its C(/dev/shm) where that is shared with others, so that they do not move with it.
      type: int
      sample: 0
    linked_mounts:
      description: Where it has mounts whose source on the server is a symbolic link.
      type: list
      elements: str
      sample: [/sbin/docker-init]
"""

import itertools
import os

from ansible_collections.fog.migration.plugins.module_utils import journal
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest, refusals
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    checkpoint_layout,
    connection_options,
    container_facts,
    networks,
    storage_drivers,
)
from ansible_collections.fog.migration.plugins.module_utils.docker import mounts as _mounts
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot
from ansible_collections.fog.migration.plugins.module_utils.network import probe_connections
from ansible_collections.fog.migration.plugins.module_utils.system import files, host, procfs

# Of a larger file no checksum is made.
LARGEST = 64 * 1024 * 1024


def network_settings(client) -> dict:
    """How each network was made that has addresses, by name."""
    found = [one for one in client.networks() if one["Name"] not in ("host", "none")]
    return {one["Name"]: networks.settings(client.inspect_network(one["Id"])) for one in found}


def segments(configured: dict) -> dict:
    """The networks on which containers have addresses of their own, by name."""
    return {
        name: {"driver": one["driver"], "subnets": networks.subnets(one), "used": one["used"]}
        for name, one in configured.items()
        if one["driver"] in networks.MOVABLE_DRIVERS
    }


def neighbours(client, inspect: dict) -> list[dict]:
    """The inspect data of all other containers."""
    found = (client.find_container(one["Id"]) for one in client.containers(all=True) if one["Id"] != inspect["Id"])
    return [one for one in found if one]


def checksum(path: str) -> str | None:
    """The SHA-256 of a file, if it is one, and not so large that it would take long."""
    small = _mounts.is_file(path) and os.path.getsize(path) <= LARGEST
    return manifest.sha256_file(path) if small else None


def _is_replaced(inspect: dict, mount: dict) -> bool:
    """Whether the container has a file that has lost its path to another one since; a mount is of the file itself."""
    process = inspect["State"].get("Pid")
    inside = f"/proc/{process}/root{mount['destination']}"
    if not process or not _mounts.is_file(mount["source"]) or not os.path.exists(inside):
        return False
    return not os.path.samefile(inside, mount["source"])


def describe_mounts(inspect: dict, others: list[dict]) -> list[dict]:
    """The container's volumes and bind mounts, as a migration has to know them.

    :param others: the inspect data of all other containers.
    """
    mounts = _mounts.of_container(inspect)
    for mount in mounts:
        path = mount["source"]
        mount.update(
            is_folder=os.path.isdir(path),
            is_file=_mounts.is_file(path),
            checksum=checksum(path),
            replaced=_is_replaced(inspect, mount),
            bytes=files.folder_bytes(path) if mount["type"] == "volume" else 0,
            file_system=files.path_facts(path)["file_system"],
            users=sorted(one["Name"].lstrip("/") for one in others if path in _mounts.sources(one).values()),
        )
    return mounts


def describe_rootfs(client, inspect: dict, daemon: dict) -> dict:
    """How much the container has changed in its root file system, and whether that can be read."""
    storage = storage_drivers.of_container(inspect, daemon["root"])
    if storage is None:
        return {"rootfs_size": 0, "rootfs_readable": not client.diff(inspect["Id"])}
    if storage.is_layer:
        return {"rootfs_size": files.folder_bytes(storage.folder), "rootfs_readable": True}
    there = snapshot.snapshot(storage.folder)
    names = storage_drivers.changes(there, client.diff(inspect["Id"]) or []).names
    return {"rootfs_size": sum(there[name].size for name in names), "rootfs_readable": True}


def describe_container(client, inspect: dict, daemon: dict, criu_version: str | None) -> dict:
    """What a migration of this container has to carry, and why it cannot if it cannot."""
    process = inspect["State"].get("Pid") or 0
    unreadable, stopped = procfs.unreadable_limits(process), procfs.stopped_below(process)
    facts = (criu_version, unreadable)
    refusal = refusals.checkpoint_refusal(inspect, daemon, *facts, False, stopped) or (None, None)
    # Our own runtime needs no experimental mode, and the container stays at the source, paused, until it has moved.
    without_docker = dict(daemon, experimental=True)
    live = refusals.checkpoint_refusal(inspect, without_docker, *facts, True, stopped) or (None, None)
    image = client.find_image(inspect["Image"]) or {}
    shm = f"/proc/{process}/root/dev/shm"
    others = neighbours(client, inspect)
    fixed = container_facts.fixed_addresses(inspect)
    return {
        "id": inspect["Id"],
        "name": inspect["Name"].lstrip("/"),
        "state": inspect["State"].get("Status", "unknown"),
        "health": (inspect["State"].get("Health") or {}).get("Status", "none"),
        "image": inspect["Image"],
        "image_tags": image.get("RepoTags") or [],
        "image_digests": image.get("RepoDigests") or [],
        "image_size": image.get("Size", 0),
        "refusal": refusal[0],
        "remedy": refusal[1],
        "live_refusal": live[0],
        "live_remedy": live[1],
        "memory": procfs.anonymous_memory(process) if process else 0,
        **describe_rootfs(client, inspect, daemon),
        "ports": container_facts.published_ports(inspect),
        "networks": sorted((inspect.get("NetworkSettings") or {}).get("Networks") or {}),
        "addresses": container_facts.addresses(inspect),
        "fixed_addresses": fixed,
        "mounts": describe_mounts(inspect, others),
        "shares": container_facts.shared_namespaces(inspect, others),
        "links": [link.split(":", 1)[0].lstrip("/") for link in inspect["HostConfig"].get("Links") or []],
        "log_driver": inspect["HostConfig"].get("LogConfig", {}).get("Type", "unknown"),
        "shm_outside": 0 if not process or container_facts.keeps_shared_memory(inspect) else files.folder_bytes(shm),
        "linked_mounts": checkpoint_layout.linked_mounts(checkpoint_layout.bundle(inspect["Id"])),
        **probe_connections.survey(
            inspect["Id"], process, {*itertools.chain(*fixed.values())}, container_facts.health_command(inspect)
        ),
    }


def gather(client, params: dict) -> dict:
    """The module's result."""
    daemon, criu = api.daemon_facts(client), tool.probe()
    inspect = client.find_container(params["container"]) if params["container"] else None
    listed, configured = client.containers(all=True), network_settings(client)
    return {
        "host": host.facts(),
        "docker": daemon,
        "criu": criu,
        "free": {
            "checkpoints": files.free_bytes(params["directory"]),
            "docker": files.free_bytes(daemon["root"]),
        },
        "listening": host.listening_ports(),
        "containers": {
            name.lstrip("/"): {"id": one["Id"], "state": one["State"], "labels": one.get("Labels") or {}}
            for one in listed
            for name in one["Names"]
        },
        "images": sorted(one["Id"] for one in client.images()),
        "layers": client.layers() if daemon["storage_driver"] in storage_drivers.GRAPH_DRIVERS else [],
        "networks": sorted(one["Name"] for one in client.networks()),
        "network_settings": configured,
        "segments": segments(configured),
        "interfaces": host.interfaces(),
        "volumes": sorted(one["Name"] for one in client.volumes().get("Volumes") or []),
        "paths": {path: {**files.path_facts(path), "checksum": checksum(path)} for path in params["paths"]},
        "migrations": journal.entries(),
        "peer": {"problem": params["peer_address"] and host.unreachable(params["peer_address"], params["peer_port"])},
        "container": describe_container(client, inspect, daemon, criu["version"]) if inspect else None,
    }


def main() -> None:
    module = connection_options.new_module(
        {
            "container": {"type": "str"},
            "directory": {"type": "path", "default": "/var/lib/fog-migration/checkpoints"},
            "peer_address": {"type": "str"},
            "peer_port": {"type": "int", "default": 22},
            "paths": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **gather(api.connect(module.params), module.params))
    except MigrationError as error:
        module.fail_json(**error.result("Info"))
    except api.FAILURES as error:
        module.fail_json(msg=MigrationError(api.api_message(error)).sentence("Info"))


if __name__ == "__main__":
    main()
