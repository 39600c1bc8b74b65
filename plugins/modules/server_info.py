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
  - With O(container), O(containers) or O(label), also what a migration of these containers has to carry. The
    environment of a container is not returned, because it often holds secrets.
  - Only what O(gather_subset) asks for is looked for. The rest is not in the result.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.agents
  - fog.migration.info
  - fog.migration.docker
  - fog.migration.docker.actiongroup
options:
  gather_subset:
    description:
      - The facts to gather, as for M(ansible.builtin.setup). V(!NAME) excludes a subset. V(all) are all of them, V(min)
        is V(containers), which is gathered as well unless V(!min) excludes it. Where there are only exclusions, all
        others are gathered. What is named is gathered even if V(!all) excludes it.
      - V(containers) are RV(containers). It costs one request to Docker, for any number of containers.
      - V(host) is RV(host), V(ports) are the ports RV(listening), and V(journal) are the RV(migrations). They read some
        small files.
      - V(docker) is RV(docker). It costs two requests to Docker, one of which starts other programs.
      - V(criu) is RV(criu). It costs nine runs of CRIU the first time after a start of the server or a change of CRIU,
        and reads a small file after that (C(/run/fog-migration-criu.json)).
      - V(free) is RV(free). It costs what V(docker) costs, unless that is gathered as well.
      - V(images) are RV(images), and V(volumes) are RV(volumes). Each costs one request to Docker.
      - V(layers) are RV(layers). It costs one request to Docker for each image, and what V(docker) costs.
      - V(networks) are RV(networks), RV(network_settings), RV(segments), RV(interfaces) and RV(routes). It costs one
        request to Docker for all networks and one for each.
      - V(paths) are RV(paths). It reads the whole of each file of up to 64 MiB among them.
      - V(peer) is RV(peer). It costs one TCP connection, and up to four seconds where nobody answers.
      - V(container) is RV(container) and RV(described). If at least one of the containers is here, it costs what
        V(docker) and V(criu) cost, and one request to Docker for each container that the server has and for each image
        of those described. For each one described, it looks at all files in its volumes and its root file system diff.
      - Docker is not asked for V(host), V(criu), V(ports), V(paths), V(journal) and V(peer), so that with V(!min) it
        does not have to run.
    type: list
    elements: str
    default: [all]
    version_added: 0.2.0
  container:
    description:
      - Name or ID of a container to describe in RV(container).
    type: str
  containers:
    description:
      - Names or IDs of containers to describe in RV(described).
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  label:
    description:
      - A label, V(NAME) or V(NAME=VALUE). The running containers with it are described in RV(described).
    type: str
    version_added: 0.2.0
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
  run:
    description:
      - Name of a run of migrations, of letters and digits. An agent is started for it on the host, as by
        M(fog.migration.migration_agent), and tells what this module would tell. The task returns it as RV(agent), for
        O(fog.migration.container_restore#module:agents) and the other steps of a migration.
      - Where no agent can be started, and in check mode, the module is run.
    type: str
    version_added: 0.2.0
notes:
  - The Docker SDK for Python is needed only where O(docker_host) is no Unix socket, or with TLS or O(debug). Elsewhere
    this module does without, because its import takes longer than all questions to Docker.
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

- name: Look at what matters for the choice of a server, and no more
  fog.migration.server_info:
    gather_subset: [min, docker, criu]

- name: Ask once for all containers of a Compose project
  fog.migration.server_info:
    gather_subset: [container]
    label: com.docker.compose.project=shop
  register: shop

- name: See whether CRIU works, also where Docker does not run
  fog.migration.server_info:
    gather_subset: ["!all", "!min", criu]

- name: Say where the container runs
  ansible.builtin.debug:
    msg: "{{ server.container.name }} runs here"
  when: server.container is not none
"""

RETURN = r"""
agent:
  description: The agent that has answered.
  returned: with O(run), when an agent could be started
  type: dict
  sample:
    folder: /run/fog-migration/agent-20261128a
    python: /usr/bin/python3
    log: /var/log/fog-migration/agent-20261128a.log
host:
  description:
    - The host itself. C(processors) are the numbers of those that run, C(open_files) is how many files CRIU can
      have open here, C(huge_pages) the bytes of huge pages that are free or can be made, by the bytes of one.
  returned: when the subset V(host) is gathered
  type: dict
  sample:
    hostname: fog1
    kernel: 6.12.0
    architecture: x86_64
    cpu_features: [avx, sse4_2]
    processors: [0, 1]
    memory_available: 4294967296
    open_files: 1048576
    huge_pages: {"2097152": 0}
peer:
  description: Why the other host cannot be reached from here (C(problem)), or null where it can.
  returned: when the subset V(peer) is gathered
  type: dict
  sample: {problem: null}
docker:
  description: The Docker daemon.
  returned: when the subset V(docker) is gathered
  type: dict
  sample:
    version: 26.1.5
    api_version: "1.45"
    experimental: true
    storage_driver: overlay2
    root: /var/lib/docker
    runtimes: [io.containerd.runc.v2, runc]
    network_drivers: [bridge, host, ipvlan, macvlan, "null", overlay]
    isolation: [seccomp]
    sdk: true
criu:
  description:
    - CRIU on this host, whether C(criu check) finds that it works on the running kernel, and if not, why.
    - C(options) is what C(/etc/criu/runc.conf) says. C(features) are those that matter for a migration, each with
      C(works) and C(why_not); C(modes) are the modes of migration that are possible with them, each with C(possible)
      and C(why_not).
  returned: when the subset V(criu) is gathered
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
  returned: when the subset V(journal) is gathered
  type: list
  elements: dict
  sample: []
paths:
  description:
    - Whether each of O(paths) C(exists), whether it is C(empty), its C(file_system) (C(type) and C(device)), and the
      C(checksum) (SHA-256) of a file of up to 64 MiB, and why a migration would not follow it (C(refused)), which is
      where it leads through a symbolic link that others than root could have made. C(not_allowed) and
      C(not_allowed_to_stay) are what the policy of this server does not allow of where it leads, where it moves with a
      container and where it does not.
  returned: when the subset V(paths) is gathered
  type: dict
  sample: {/srv/data: {exists: true, empty: false, file_system: {type: ext4, device: /dev/sda1}}}
free:
  description: Bytes free for checkpoints (C(checkpoints)) and for Docker (C(docker)).
  returned: when the subset V(free) is gathered
  type: dict
  sample: {checkpoints: 85899345920, docker: 85899345920}
listening:
  description: Ports that something listens on.
  returned: when the subset V(ports) is gathered
  type: list
  elements: str
  sample: [22/tcp]
containers:
  description:
    - All containers by name, with their C(id), C(state) and C(labels), the ID of their C(image), and what their health
      check says (C(health); V(none) where there is no such check).
  returned: when the subset V(containers) is gathered
  type: dict
  sample: {looper100: {id: 4f9d..., state: running, health: none, labels: {}, image: "sha256:1c35..."}}
images:
  description: IDs of all images.
  returned: when the subset V(images) is gathered
  type: list
  elements: str
  sample: ["sha256:1c35..."]
layers:
  description:
    - Chain IDs of all layers of these images, which need not be sent here with another image that has them. Empty where
      Docker keeps its images in containerd's store, which wants all of them.
  returned: when the subset V(layers) is gathered
  type: list
  elements: str
  sample: ["sha256:6f9a..."]
networks:
  description: Names of all networks.
  returned: when the subset V(networks) is gathered
  type: list
  elements: str
  sample: [bridge, host, none]
network_settings:
  description:
    - How each network was made, by name, with options as M(community.docker.docker_network) takes them, its C(scope),
      and the addresses of the running containers in it (C(used)).
  returned: when the subset V(networks) is gathered
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
  returned: when the subset V(networks) is gathered
  type: list
  elements: str
  sample: [eth0, lo]
routes:
  description:
    - Where the routes of the server lead, its own addresses among them, but for those by default. One that is a part of
      another one by the same interface is left out.
  returned: when the subset V(networks) is gathered
  type: list
  elements: dict
  contains:
    subnet:
      description: The addresses.
      type: str
      sample: 192.0.2.0/24
    interface:
      description: The name of the interface, empty where there is none.
      type: str
      sample: eth0
segments:
  description:
    - Networks on which containers have addresses of their own on the network outside (macvlan and ipvlan), by name,
      each with its C(driver), its C(subnets) and the addresses that containers here have in it (C(used)).
  returned: when the subset V(networks) is gathered
  type: dict
  sample: {lan: {driver: macvlan, subnets: [192.0.2.0/24], used: [192.0.2.129]}}
volumes:
  description: Names of all volumes.
  returned: when the subset V(volumes) is gathered
  type: list
  elements: str
  sample: [data]
described:
  description:
    - What RV(container) tells of one container, of each of O(containers), by what it is called there, and of each
      running container with O(label), by its name. Null for those that are not on this host.
  returned: when the subset V(container) is gathered
  type: dict
  sample: {looper100: {id: 4f9d..., name: looper100, state: running}, other: null}
container:
  description: The container, or null where it is not on this host or O(container) was not given.
  returned: when the subset V(container) is gathered
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
    user:
      description: The user of its first program, as it was configured; empty where nobody said it.
      type: str
      sample: www-data
    image_name:
      description: What its creator called its image.
      type: str
      sample: "busybox:lab"
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
      description:
        - Bytes of memory that a checkpoint has to hold. That is what its processes have for themselves (in memory or
          swapped out, huge pages included), RV(container.memory_shared) and RV(container.memory_files).
      type: int
      sample: 131072
    memory_shared:
      description: Bytes of memory that processes share without a file that has a name, each piece once.
      type: int
      sample: 0
    memory_files:
      description: Bytes of files in file systems of its own that are in memory, such as C(/dev/shm).
      type: int
      sample: 0
    memory_swapped:
      description: Bytes of its memory that are swapped out.
      type: int
      sample: 0
    memory_room:
      description:
        - Bytes that it can have in memory besides what it has there, by the limits of its control groups and by what
          the server has available.
      type: int
      sample: 402653184
    huge_pages:
      description: Bytes of huge pages that it has mapped, by the bytes of one.
      type: dict
      sample: {"2097152": 67108864}
    address_space:
      description: Bytes of address space that its processes have in private mappings, with memory or without.
      type: int
      sample: 8388608
    dump_descriptors:
      description: How many files CRIU has open in a dump that leaves the memory with the processes.
      type: int
      sample: 276
    dump_lists:
      description: Bytes of memory that CRIU takes for its lists of that address space in such a dump.
      type: int
      sample: 32768
    dump_entries:
      description: Bytes of memory that CRIU takes in any dump where it cannot ask the kernel only for what is there.
      type: int
      sample: 0
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
    mounted_paths:
      description: Paths of the host that are mounted into it, by itself or by volumes that are folders of the host.
      type: list
      elements: str
      sample: [/srv/data]
    fixed_addresses:
      description: Those of its addresses that it was given by its creator, by network.
      type: dict
      sample: {lan: []}
    endpoints:
      description:
        - What was configured of it in each of its networks, besides addresses. C(Aliases), C(MacAddress), C(Links),
          C(DriverOpts) and C(GwPriority), as Docker calls them.
      type: dict
      sample: {lan: {Aliases: [web], MacAddress: "02:42:c0:00:02:81", Links: [], DriverOpts: null, GwPriority: null}}
    hardware_address:
      description: The hardware address that it was given by its creator, or nothing.
      type: str
      sample: ""
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
      description: Message queues and deleted files that it holds and that CRIU is known not to take along.
      type: list
      elements: str
      sample: [a POSIX message queue]
    submounts:
      description: Where other file systems of the server are mounted below its bind mounts.
      type: list
      elements: str
      sample: [/host/boot]
    processors:
      description: The processors that threads of it are bound to (C(taskset)); none where no thread is.
      type: list
      elements: int
      sample: [0, 2]
    undumpable:
      description:
        - What of its processes CRIU is known not to take along, each with the C(process) (its PID in the container),
          its C(program), C(what) it has or does, and the C(remedy), if there is one.
      type: list
      elements: dict
      sample:
        - {process: 7, program: node, what: holds an io_uring, remedy: set kernel.io_uring_disabled=2 there}
    deleted:
      description: Sizes of files that it has open or mapped and that were deleted, by the name that they had.
      type: dict
      sample: {/tmp/scratch: 4096}
    sessions:
      description: Names of the programs that C(docker exec) has started in it and that run, health checks apart.
      type: list
      elements: str
      sample: [sh]
    own_network:
      description:
        - What is in its network beside what Docker has made there, in words. C(filters) is what keeps
          packets away (tables of packet filters, routes to nowhere, addresses and routes of Docker's that were
          removed), C(settings) are interfaces, addresses, routes and routing rules that were added, and C(groups) are
          multicast groups that are listened to.
      type: dict
      sample: {filters: [], settings: ["the address 10.77.0.1/24"], groups: []}
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
          C(read_only), whether it is C(anonymous), whether another container has C(lent) it (C(--volumes-from)),
          whether it C(is_folder) or C(is_file), its C(file_system) (C(type) and C(device)), the C(bytes) of a volume,
          the C(checksum) (SHA-256) of a file of up to 64 MiB, whether the container has another file or folder than the
          one that has this path by now (C(replaced)), why a migration would not follow the path (C(refused), empty
          where it would), and the other containers that have it (C(users)).
      type: list
      elements: dict
      sample: []
    shm_outside:
      description: Bytes of files in its C(/dev/shm) where that is shared with others, so that they do not move with it.
      type: int
      sample: 0
    file_locks:
      description: Names of its programs that hold locks on files.
      type: list
      elements: str
      sample: [mariadbd]
    linked_mounts:
      description: Where it has mounts whose source on the server is a symbolic link.
      type: list
      elements: str
      sample: [/sbin/docker-init]
"""

from ansible_collections.fog.migration.plugins.module_utils.operations import server_info
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import run_as_module


def main() -> None:
    run_as_module(server_info.OPERATION)


if __name__ == "__main__":
    main()
