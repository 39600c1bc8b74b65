# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of servers, the preflight and the report."""

from __future__ import annotations

import pytest
from servers import SERVER, changed

from ansible_collections.fog.migration.plugins.filter.choose_servers import choose_servers
from ansible_collections.fog.migration.plugins.filter.migration_mode import migration_mode
from ansible_collections.fog.migration.plugins.filter.preflight import missing_instructions, preflight
from ansible_collections.fog.migration.plugins.filter.report import image_note, readable_bytes, report
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry

RUNS = {"containers": {"looper100": {"id": "1", "state": "running"}}}
STOPPED = {"containers": {"looper100": {"id": "1", "state": "exited"}}}
EMPTY = {"containers": {}}
WRAPPED = 'Task failed: Data could not be sent to remote host "10.1.1.1". Make sure this host can be reached over ssh: '
GONE = {"unreachable": True, "msg": WRAPPED + "no route to host"}


@pytest.mark.parametrize(
    ("servers", "options", "choice"),
    [
        ({"fog1": RUNS, "fog2": EMPTY}, {}, ("fog1", "fog2")),
        ({"fog1": EMPTY, "fog2": RUNS}, {}, ("fog2", "fog1")),
        ({"fog1": RUNS, "fog2": EMPTY, "fog3": EMPTY}, {"destination": ["fog3"]}, ("fog1", "fog3")),
        ({"fog1": RUNS, "fog2": EMPTY, "fog3": GONE}, {"destination": ["fog2"]}, ("fog1", "fog2")),
        ({"fog1": RUNS, "fog2": RUNS}, {"source": ["fog2"]}, ("fog2", "fog1")),
        ({"fog1": RUNS, "fog2": STOPPED}, {}, ("fog1", "fog2")),
        ({"fog1": RUNS, "fog2": EMPTY}, {"destination": ["fog1", "fog2"]}, ("fog1", "fog2")),
    ],
)
def test_choice(servers, options, choice):
    chosen = choose_servers(servers, "looper100", **options)
    assert (chosen["source"], chosen["destination"], chosen["error"]) == (*choice, "")


def test_the_agents_of_those_that_take_no_part_are_told():
    servers = {name: dict(EMPTY, agent={"folder": name}) for name in ("fog2", "fog3")}
    servers["fog1"] = dict(RUNS, agent={"folder": "fog1"})
    chosen = choose_servers(servers, "looper100", destination=["fog2"])
    assert chosen["unused_agents"] == {"fog3": {"folder": "fog3"}}
    nothing = choose_servers(dict(servers, fog4=GONE), "nobody")
    assert nothing["error"] and set(nothing["unused_agents"]) == {"fog1", "fog2", "fog3"}


@pytest.mark.parametrize(
    ("servers", "options", "error"),
    [
        ({"fog1": EMPTY, "fog2": EMPTY}, {}, "there is no container looper100 on fog1, fog2"),
        ({"fog1": GONE, "fog2": EMPTY}, {}, "fog1 cannot be reached (no route to host)"),
        ({"fog1": RUNS, "fog2": EMPTY, "fog3": EMPTY}, {}, "several servers"),
        (
            {"fog1": RUNS, "fog2": EMPTY},
            {"destination": ["fog1"]},
            "fog1 is the destination and the container is there already",
        ),
        ({"fog1": RUNS, "fog2": GONE}, {}, "the destination fog2 cannot be reached"),
        ({"fog1": RUNS}, {}, "no server to migrate to"),
        ({"fog1": RUNS, "fog2": RUNS}, {}, "say which one is meant"),
        ({"fog1": RUNS, "fog2": {"failed": True, "msg": "no Docker."}}, {}, "fog2 cannot be used (no Docker)"),
        ({"fog1": RUNS}, {"source": ["nowhere"]}, "the source nowhere is not in the inventory"),
        ({"fog1": RUNS}, {"destination": ["nowhere"]}, "the destination nowhere is not in the inventory"),
    ],
)
def test_no_choice_is_one_sentence(servers, options, error):
    chosen = choose_servers(servers, "looper100", **options)
    assert error in chosen["error"]
    assert not chosen["source"]


def running(**labels):
    return {name: {"id": name, "state": "running", "labels": {"app": label}} for name, label in labels.items()}


SHOP = {"containers": {**running(db="shop", web="shop", other="blog")}}
SHOP["containers"]["old"] = {"id": "old", "state": "exited", "labels": {"app": "shop"}}


@pytest.mark.parametrize(
    ("wish", "containers"),
    [
        ({"containers": ["web", "db", "web"]}, ["web", "db"]),
        ({"label": "app=shop"}, ["db", "web"]),
        ({"label": "app"}, ["db", "other", "web"]),
        ({"project": "shop"}, None),
        ({"label": "app=nothing"}, None),
        ({"containers": ["web", "nobody"]}, None),
        ({"containers": ["web"], "label": "app"}, None),
        ({}, None),
    ],
)
def test_which_move_together(wish, containers):
    chosen = choose_servers({"fog1": SHOP, "fog2": EMPTY}, **wish)
    assert chosen["containers"] == (containers or [])
    assert bool(chosen["error"]) == (containers is None)


def test_a_compose_project():
    project = {"id": "1", "state": "running", "labels": {"com.docker.compose.project": "shop"}}
    servers = {"fog1": {"containers": {"shop-web-1": project}}, "fog2": EMPTY}
    assert choose_servers(servers, project="shop")["containers"] == ["shop-web-1"]
    assert "there is no running container with the label" in choose_servers(servers, project="blog")["error"]
    both = choose_servers({**servers, "fog2": servers["fog1"]}, project="shop")["error"]
    assert "a running container with the label com.docker.compose.project=shop is on fog1, fog2" in both


LAN = {"driver": "macvlan", "subnets": ["192.0.2.0/24", "fd00::/64"], "used": []}
ON_LAN = {
    "container.networks": ["lan"],
    "container.addresses": {"lan": ["192.0.2.5", "fd00::5"]},
    "segments": {"lan": {**LAN, "used": ["192.0.2.5"]}},
}
FRONT = {
    "driver": "bridge",
    "driver_options": {},
    "ipam_driver": "default",
    "ipam_driver_options": {},
    "ipam_config": [{"subnet": "198.51.100.0/24"}],
    "enable_ipv6": False,
    "internal": False,
    "attachable": False,
    "labels": {},
    "scope": "local",
    "used": ["198.51.100.9"],
}
IN_FRONT = {
    "container.networks": ["bridge", "front"],
    "container.fixed_addresses": {"bridge": [], "front": ["198.51.100.5"]},
    "network_settings": {"front": FRONT},
}
HAS_FRONT = {"networks": ["bridge", "front"], "network_settings": {"front": FRONT}}
ON_PARENT = {
    **IN_FRONT,
    "network_settings": {"front": {**FRONT, "driver": "macvlan", "driver_options": {"parent": "eth0"}}},
}
HAS_FRONT_ON_PARENT = {"networks": ["bridge", "front"], "network_settings": ON_PARENT["network_settings"]}
OVER = {"local": "172.17.0.2:80", "remote": "192.0.2.7:40000", "survives": False}
GOES_ON = {"local": "192.0.2.5:80", "remote": "192.0.2.7:40001", "survives": True}


NO_LAZY_PAGES = {
    "precopy": {"possible": True, "why_not": None},
    "postcopy": {"possible": False, "why_not": "there is no userfaultfd"},
    "hybrid": {"possible": False, "why_not": "there is no userfaultfd"},
}

# 8 TiB and 1 TiB of address space.
PRIVILEGED = {"inspect": {"HostConfig": {"Privileged": True}, "Config": {}}, "volumes": [], "sockets": []}
UNCONFINED = {**PRIVILEGED, "inspect": {"HostConfig": {"SecurityOpt": ["apparmor=unconfined"]}, "Config": {}}}
USERNS = ["apparmor", "seccomp", "userns"]
URING = {"process": 7, "program": "node", "what": "holds an io_uring", "remedy": "set something"}
MARIADB = {"container.address_space": 2**43, "container.dump_lists": 2**35}
HASKELL = {"container.address_space": 2**40, "container.dump_lists": 2**32}


@pytest.mark.parametrize(
    ("change_source", "change_destination", "wanted", "mode", "lazily", "why"),
    [
        ({}, {}, "auto", "precopy", True, "both servers are prepared"),
        ({}, {}, "cold", "cold", True, "it was asked for"),
        ({}, {}, "hybrid", "hybrid", True, "it was asked for"),
        ({"docker.runtimes": []}, {}, "auto", "precopy", True, "both servers are prepared"),
        ({}, {"docker.runtimes": ["runc"]}, "auto", "cold", True, "does not know the OCI runtime fog-runc"),
        ({"criu.modes": NO_LAZY_PAGES}, {}, "auto", "precopy", False, "both servers are prepared"),
        ({"peer.problem": "no route to host"}, {}, "auto", "cold", True, "SSH port (no route to host)"),
        ({"docker.version": "17.09.1-ce"}, {}, "auto", "cold", True, "Docker 17.09.1-ce at the source is older"),
        ({"peer.problem": "no route to host"}, {}, "precopy", "precopy", True, "it was asked for"),
        # It moves without leaving its memory in place, which it could not, or not as fast.
        (MARIADB, {}, "auto", "precopy", False, "both servers are prepared"),
        (HASKELL, {}, "auto", "precopy", False, "both servers are prepared"),
        (HASKELL, {}, "postcopy", "postcopy", True, "it was asked for"),
        (MARIADB, {}, "postcopy", "postcopy", False, "it was asked for"),
        ({"container.dump_descriptors": 20000}, {}, "auto", "precopy", True, "both servers are prepared"),
        ({"container.dump_descriptors": 20001}, {}, "auto", "precopy", False, "both servers are prepared"),
    ],
)
def test_the_mode(change_source, change_destination, wanted, mode, lazily, why):
    source, destination = changed(change_source), changed(change_destination)
    choice = migration_mode(source, destination, wanted)
    assert (choice["mode"], choice["lazily"]) == (mode, lazily)
    assert why in choice["why"]


@pytest.mark.parametrize("wish", [{"transfer": "relay"}, {"keep_checkpoint": True}])
def test_what_only_cold_mode_can(wish):
    assert migration_mode(SERVER, SERVER, **wish)["mode"] == "cold"


def failed(change_source=None, change_destination=None, **options):
    """Names of the checks that fail when something of two good servers is changed."""
    source, destination = changed(change_source), changed(change_destination)
    checks = preflight(source, destination, name="looper100", **{"mounts": [], **options})
    assert all(check["remedy"] for check in checks if check["status"] == "failed")
    return [check["check"] for check in checks if check["status"] == "failed"]


# A server without our OCI runtime.
BY_DOCKER = {"docker.runtimes": ["runc"]}
MOUNT = {"type": "volume", "name": "data", "source": "/x", "destination": "/data", "bytes": 2**20}
OPEN = Entry("looper100-1", "source", "4f9d", "looper100", "a", "b", "precopy", "/var/lib/checkpoints").to_json()
LINKED = {"container.links": ["db"], "containers": {"db": {"state": "running", "image": "sha256:a"}}}
MOVES = {**MOUNT, "way": "moves", "problem": "", "remedy": ""}
STAYS = {**MOUNT, "way": "stays", "problem": "it is not there", "remedy": "put it there"}


LOCKS = {"container.file_locks": ["mariadbd"]}
TOLD = {"criu.options": {"manage-cgroups": "ignore", "file-locks": ""}}
HUGE = {"container.huge_pages": {"2097152": 2**26}}


@pytest.mark.parametrize(
    ("source", "destination", "options", "names"),
    [
        ({}, {}, {}, []),
        ({"container.refusal": "it is paused", "container.remedy": "resume it"}, {}, {}, ["container"]),
        ({}, {"docker.experimental": False}, {}, []),
        ({}, {"docker.experimental": False, **BY_DOCKER}, {}, ["restore"]),
        ({}, {"docker.version": "28.5.2"}, {}, []),
        ({}, {"docker.version": "28.5.2", **BY_DOCKER}, {}, ["restore"]),
        ({}, {"docker.version": "28.5.2", **BY_DOCKER}, {"mode": "precopy"}, ["runtime"]),
        ({}, {"docker.version": "27.5.1", **BY_DOCKER}, {}, []),
        ({"docker.version": "17.09.1-ce"}, {}, {}, ["docker_version"]),
        ({}, {"docker.version": "17.09.1-ce"}, {}, []),
        ({"docker.sdk": False}, {}, {}, ["docker_sdk"]),
        ({}, {"docker.sdk": False}, {"mode": "precopy"}, ["docker_sdk"]),
        ({}, {"criu.works": False}, {}, ["criu_destination"]),
        ({"criu.works": False}, {}, {}, ["criu_source"]),
        ({"criu.options": {}}, {}, {}, []),
        ({}, {"criu.options": {}}, {}, ["cgroups"]),
        ({"docker.version": "17.09.1"}, {"criu.options": {}, "docker.version": "17.09.1-ce"}, {}, []),
        ({}, {"host.architecture": "aarch64", "host.cpu_features": ["asimd"]}, {}, ["architecture"]),
        ({}, {"host.cpu_features": ["sse4_2"]}, {}, ["cpu_features"]),
        ({}, {"host.cpu_features": ["sse4_2"]}, {"ignore": ["cpu_features"]}, []),
        ({}, {"host.cpu_features": ["avx2", "sse4_2"]}, {}, []),
        ({}, {"host.kernel": "5.10.0"}, {}, ["kernel"]),
        ({}, {"host.kernel": "6.18.0"}, {}, []),
        ({}, {"containers": {"looper100": {"state": "exited"}}}, {}, ["name"]),
        ({}, {"listening": ["22/tcp", "8080/tcp"]}, {}, ["ports"]),
        ({"container.asks": PRIVILEGED}, {}, {}, ["policy"]),
        ({"container.asks": PRIVILEGED}, {"policy.privileged": True}, {}, []),
        ({}, {"policy": {"problem": "the policy cannot be used"}}, {}, ["policy"]),
        ({"docker.isolation": ["rootless", "seccomp"]}, {}, {}, ["isolation"]),
        ({}, {"docker.isolation": ["seccomp"]}, {}, ["isolation"]),
        ({"docker.isolation": ["seccomp"]}, {}, {}, ["isolation"]),
        ({"container.asks": UNCONFINED}, {"docker.isolation": ["seccomp"]}, {"ignore": ["policy"]}, []),
        ({"container.asks": PRIVILEGED}, {"docker.isolation": ["seccomp"]}, {"ignore": ["policy"]}, []),
        ({"docker.isolation": USERNS}, {"docker.isolation": USERNS}, {}, []),
        ({"docker.isolation": USERNS}, {}, {}, ["isolation"]),
        (
            {"docker.isolation": USERNS, "docker.root": "/var/lib/docker/100000.100000"},
            {"docker.isolation": USERNS, "docker.root": "/var/lib/docker/200000.200000"},
            {},
            ["isolation"],
        ),
        ({}, {"policy.sources": ["fog7"]}, {"sender": "fog1"}, ["policy"]),
        ({}, {"policy.sources": ["fog?"]}, {"sender": "fog1"}, []),
        ({"container.networks": ["lan"]}, {}, {}, ["networks"]),
        ({"migrations": [{**OPEN, "role": "source"}]}, {}, {}, ["journal"]),
        ({"migrations": [{**OPEN, "role": "destination"}]}, {}, {}, []),
        ({"migrations": [{**OPEN, "role": "source", "container": "5a"}]}, {}, {}, []),
        ({}, {"migrations": [{**OPEN, "role": "destination"}]}, {}, ["journal"]),
        ({"container.shares": ["the network namespace of web"]}, {}, {}, ["namespaces"]),
        ({}, {}, {"alone": False, "mode": "precopy"}, []),
        ({}, {}, {"alone": False, "mode": "cold"}, ["group"]),
        ({"container.links": ["db"]}, {}, {}, ["links"]),
        ({"container.links": ["db"]}, {"containers": {"db": {"state": "exited"}}}, {}, ["links"]),
        ({"container.links": ["db"]}, {"containers": {"db": {"state": "running"}}}, {}, []),
        (LINKED, {"containers": {"db": {"state": "running", "image": "sha256:a"}}}, {}, []),
        (LINKED, {"containers": {"db": {"state": "running", "image": "sha256:b"}}}, {}, ["links"]),
        ({"container.log_driver": "journald"}, {}, {}, []),
        ({"container.log_driver": "journald"}, {}, {"log": True}, ["log"]),
        ({}, {}, {"log": True}, []),
        ({}, {}, {"mounts": [MOVES]}, []),
        ({}, {}, {"mounts": [MOVES, STAYS, STAYS]}, ["volumes", "volumes"]),
        ({}, {}, {"mounts": [{**MOVES, "bytes": 10**15}], "mode": "precopy"}, ["space_destination"]),
        ({}, {}, {"mounts": [{**MOVES, "bytes": 10**15}], "mode": "cold"}, ["space_source", "space_destination"]),
        ({}, {"docker.storage_driver": "zfs"}, {}, ["storage_driver"]),
        ({}, {"docker.storage_driver": "vfs"}, {}, []),
        ({}, {"docker.storage_driver": "overlayfs"}, {}, ["image"]),
        ({"docker.storage_driver": "overlayfs"}, {}, {"mode": "precopy"}, ["image"]),
        ({"docker.storage_driver": "overlayfs"}, {"docker.storage_driver": "overlayfs"}, {}, []),
        ({"container.rootfs_readable": False}, {}, {}, ["storage_driver"]),
        ({"container.memory": 2 * 10**10}, {}, {}, ["space_source", "space_destination"]),
        ({}, {"free": {"checkpoints": 10**10, "docker": 10**6}}, {}, ["space_destination"]),
        ({}, {}, {"mode": "postcopy"}, []),
        ({"docker.runtimes": ["runc"]}, {}, {"mode": "postcopy"}, []),
        ({}, {"docker.runtimes": ["runc"]}, {"mode": "postcopy"}, ["runtime"]),
        ({}, {"criu.modes": NO_LAZY_PAGES}, {"mode": "postcopy"}, ["postcopy_destination"]),
        ({}, {"docker.version": "18.09.1"}, {"mode": "hybrid"}, ["docker_destination"]),
        # What only Docker's own checkpoints need.
        ({"container.refusal": "it is started with --rm"}, {"docker.experimental": False}, {"mode": "precopy"}, []),
        (
            {"container.live_refusal": "it is paused", "container.live_remedy": "resume it"},
            {},
            {"mode": "precopy"},
            ["container"],
        ),
        ({"container.memory": 4 * 10**9}, {}, {"mode": "cold"}, []),
        ({"container.memory": 4 * 10**9, **BY_DOCKER}, {}, {"mode": "cold"}, ["space_source"]),
        ({"container.memory": 4 * 10**9}, BY_DOCKER, {"mode": "cold"}, ["space_destination"]),
        ({"container.memory": 4 * 10**9}, {}, {"mode": "precopy"}, []),
        (ON_LAN, {"networks": ["lan"], "segments": {"lan": LAN}}, {}, []),
        (ON_LAN, {"networks": ["lan"], "segments": {}}, {}, ["addresses"]),
        (ON_LAN, {"networks": ["lan"], "segments": {"lan": {**LAN, "driver": "ipvlan"}}}, {}, ["addresses"]),
        (ON_LAN, {"networks": ["lan"], "segments": {"lan": {**LAN, "subnets": ["192.0.3.0/24"]}}}, {}, ["addresses"]),
        (ON_LAN, {"networks": ["lan"], "segments": {"lan": {**LAN, "used": ["192.0.2.5"]}}}, {}, ["addresses"]),
        (ON_LAN, {}, {}, ["networks"]),
        (IN_FRONT, {}, {}, []),
        (IN_FRONT, {}, {"networks": "existing"}, ["networks"]),
        (IN_FRONT, {"network_settings": {"back": FRONT}}, {}, ["networks"]),
        (IN_FRONT, {"docker.network_drivers": ["host"]}, {}, ["networks"]),
        (IN_FRONT, {"routes": [{"subnet": "198.51.0.0/16", "interface": "eth1"}]}, {}, ["networks"]),
        (ON_PARENT, {}, {}, ["policy"]),
        (ON_PARENT, {"policy": {"networks": ["macvlan:eth0"]}}, {}, []),
        # It is not made then.
        (ON_PARENT, {}, {"networks": "existing"}, ["networks"]),
        (ON_PARENT, HAS_FRONT_ON_PARENT, {}, []),
        (IN_FRONT, HAS_FRONT, {"networks": "existing"}, []),
        (IN_FRONT, {**HAS_FRONT, "network_settings": {"front": {**FRONT, "driver": "ipvlan"}}}, {}, ["networks"]),
        ({"container.connections": [OVER]}, {}, {"mode": "precopy"}, []),
        ({"container.connections": [OVER]}, {}, {"mode": "cold"}, []),
        ({"container.connections": [OVER], **BY_DOCKER}, {}, {"mode": "cold"}, ["connections"]),
        ({"container.connections": [OVER]}, BY_DOCKER, {"mode": "cold"}, ["connections"]),
        ({"container.connections": [OVER]}, BY_DOCKER, {"mode": "cold", "ignore": ["connections"]}, []),
        ({"container.bound": ["172.17.0.2:80"]}, {}, {}, ["bound"]),
        ({"container.unix_outside": ["/run/docker.sock"]}, {}, {"mode": "precopy"}, ["unix_sockets"]),
        ({"container.deleted": {"/x": 2**25}}, {}, {"mode": "precopy"}, []),
        ({"container.deleted": {"/x": 2**25 + 1}}, {}, {"mode": "precopy"}, ["deleted_files"]),
        ({"container.deleted": {"/x": 2**26}, "criu.options": {"ghost-limit": "64M"}}, {}, {"mode": "precopy"}, []),
        ({"container.deleted": {"/x": 2**20 + 1}, **BY_DOCKER}, {}, {"mode": "cold"}, ["deleted_files"]),
        ({"container.shm_outside": 4096}, {}, {"mode": "precopy"}, ["shared_memory"]),
        ({"container.linked_mounts": ["/sbin/docker-init"]}, {}, {"mode": "cold"}, []),
        ({"container.linked_mounts": ["/sbin/docker-init"]}, BY_DOCKER, {"mode": "cold"}, ["mounts"]),
        ({"container.linked_mounts": ["/sbin/docker-init"]}, {}, {"mode": "precopy"}, []),
        (LOCKS, {}, {"mode": "precopy"}, []),
        (LOCKS, {}, {"mode": "cold"}, []),
        ({**LOCKS, **BY_DOCKER}, {}, {"mode": "cold"}, ["file_locks"]),
        (LOCKS, BY_DOCKER, {"mode": "cold"}, ["file_locks"]),
        ({**LOCKS, **TOLD, **BY_DOCKER}, {**TOLD, **BY_DOCKER}, {"mode": "cold"}, []),
        (LOCKS, {**TOLD, **BY_DOCKER, "docker.version": "18.09.1"}, {"mode": "cold"}, ["file_locks"]),
        ({"container.unknown": ["a POSIX message queue"]}, {}, {"mode": "precopy"}, ["descriptors"]),
        ({"container.submounts": ["/host/proc"]}, {}, {"mode": "precopy"}, ["submounts"]),
        ({"container.processors": [0, 1]}, {}, {"mode": "precopy"}, []),
        ({"container.undumpable": [URING]}, {}, {"mode": "precopy"}, ["processes"]),
        ({"container.undumpable": [URING]}, {}, {"mode": "precopy", "ignore": ["processes"]}, []),
        ({"container.dump_descriptors": 20001}, {}, {"mode": "postcopy"}, ["address_space"]),
        ({"container.dump_descriptors": 20001}, {}, {"mode": "precopy"}, []),
        (MARIADB, {}, {"mode": "hybrid"}, ["address_space"]),
        (MARIADB, {}, {"mode": "precopy"}, []),
        (MARIADB, {}, {"mode": "cold"}, []),
        (HASKELL, {}, {"mode": "postcopy"}, []),
        ({**MARIADB, "container.dump_entries": 2**34}, {}, {"mode": "precopy"}, ["address_space"]),
        ({**MARIADB, "container.dump_entries": 2**34}, {}, {"mode": "postcopy"}, ["address_space"]),
        (HUGE, {}, {"mode": "precopy"}, ["huge_pages"]),
        (HUGE, {"host.huge_pages": {"2097152": 2**26}}, {"mode": "precopy"}, []),
        (HUGE, {"host.huge_pages": {"1073741824": 2**30}}, {"mode": "cold"}, ["huge_pages"]),
        ({"container.memory_files": 2**30}, {}, {"mode": "precopy"}, []),
        ({"container.memory_swapped": 2**28}, {}, {"mode": "precopy"}, []),
        ({"container.memory_swapped": 2**30}, {}, {"mode": "precopy"}, ["swapped_memory"]),
        ({"container.memory_swapped": 2**30}, {}, {"mode": "cold"}, []),
    ],
)
def test_preflight(source, destination, options, names):
    assert failed(source, destination, **options) == names


@pytest.mark.parametrize(
    ("connections", "status", "detail"),
    [
        ([], "ok", "it has no connections to the outside"),
        ([GOES_ON], "ok", "its connections go on: 192.0.2.5:80 - 192.0.2.7:40001"),
        (
            [OVER, GOES_ON],
            "warning",
            "1 connection will be closed, since its address does not move: 172.17.0.2:80 - 192.0.2.7:40000",
        ),
        (
            [dict(OVER, remote=f"192.0.2.7:{number}") for number in range(7)],
            "warning",
            "7 connections will be closed, since its address does not move: "
            + ", ".join(f"172.17.0.2:80 - 192.0.2.7:{number}" for number in range(5))
            + ", 2 more",
        ),
    ],
)
def test_connections_are_told(connections, status, detail):
    source = changed({"container.connections": connections})
    checks = preflight(source, changed(None), name="looper100", mounts=[], mode="precopy")
    told = next(check for check in checks if check["check"] == "connections")
    assert (told["status"], told["detail"]) == (status, detail)


def bind(way: str, place: str = "/a") -> dict:
    mount = {"type": "bind", "source": "/srv/a", "destination": place, "bytes": 0}
    return {**mount, "way": way, "problem": "", "remedy": ""}


@pytest.mark.parametrize(
    ("mounts", "told"),
    [
        ([bind("stays")], "it mounts /srv/a, loose"),
        ([bind("shared")], "it mounts /srv/a, loose"),
        ([bind("moves")], "it mounts /srv/a, which is /etc"),
        # One of them is looked up by Docker later on.
        ([bind("moves"), bind("stays", "/b")], "it mounts /srv/a, loose"),
        # A folder of the server that is a volume.
        ([], "it mounts /srv/a, loose"),
    ],
)
def test_where_its_paths_lead_at_the_destination(mounts, told):
    known = {"not_allowed": ["it mounts /srv/a, which is /etc"], "not_allowed_to_stay": ["it mounts /srv/a, loose"]}
    source, there = changed({"container.mounted_paths": ["/srv/a"]}), changed({"paths": {"/srv/a": known}})
    checks = preflight(source, there, "new", mounts=mounts, mode="precopy")
    (policy,) = [one for one in checks if one["check"] == "policy"]
    assert policy["status"] == "failed"
    assert policy["detail"] == f"the destination's policy does not let it come: {told}"


@pytest.mark.parametrize(
    ("source", "destination", "detail"),
    [
        ({}, {}, "the destination has bridge"),
        (IN_FRONT, {}, "the destination has bridge and front will be made"),
        (IN_FRONT, HAS_FRONT, "the destination has bridge, front"),
        ({**IN_FRONT, "container.networks": []}, {}, "it has no network"),
    ],
)
def test_networks_are_told(source, destination, detail):
    checks = preflight(changed(source), changed(destination), "new", mounts=[], mode="precopy")
    assert [one["detail"] for one in checks if one["check"] == "networks"] == [detail]


@pytest.mark.parametrize(
    ("source", "mode", "name", "status", "told"),
    [
        (
            MARIADB,
            "postcopy",
            "address_space",
            "failed",
            "it reserves 8192 GiB of address space, for which CRIU needs 32768 MiB of lists to leave its",
        ),
        (
            HASKELL,
            "hybrid",
            "address_space",
            "warning",
            "for which CRIU copies 4096 MiB of lists while it stands still",
        ),
        (HASKELL, "precopy", "address_space", "ok", "CRIU has room for a dump of it"),
        (
            {"container.dump_descriptors": 20001},
            "postcopy",
            "address_space",
            "failed",
            "CRIU would have to open 20001 files at the source to leave its memory in place, and may open 20000 there",
        ),
        (HUGE, "precopy", "huge_pages", "failed", "it needs 64 MiB of huge pages of 2 MiB and 0 KiB are free there"),
        (
            {"container.memory_files": 2**30},
            "cold",
            "memory_files",
            "warning",
            "1024 MiB in its /dev/shm and other file systems in memory are packed while it stands still",
        ),
    ],
)
def test_memory_is_told(source, mode, name, status, told):
    checks = preflight(changed(source), changed(None), "looper100", [], mode=mode)
    (found,) = (one for one in checks if one["check"] == name)
    assert found["status"] == status
    assert told in found["line"]


@pytest.mark.parametrize(
    ("source", "destination", "concerned"),
    [
        ("26.1.5+dfsg1", "20.10.9", None),
        ("17.09.1-ce", "26.1.5", "Docker 17.09.1-ce (source)"),
        ("20.10.24+dfsg1", "20.10.8", "Docker 20.10.8 (destination)"),
        ("19.03.15", "19.03.15", "Docker 19.03.15 (source, destination)"),
        ("19.03.15", "18.09.1", "Docker 19.03.15 (source) and 18.09.1 (destination)"),
    ],
)
def test_a_docker_with_known_holes_is_told(source, destination, concerned):
    servers = (changed({"docker.version": version}) for version in (source, destination))
    (told,) = (one for one in preflight(*servers, "looper100", [], mode="cold") if one["check"] == "docker_holes")
    assert told["status"] == ("warning" if concerned else "ok")
    assert not concerned or told["detail"].startswith(f"{concerned} may let a container become root of its server")


def test_what_to_do_about_a_reservation():
    checks = preflight(changed(MARIADB), changed(None), "looper100", [], mode="postcopy")
    (found,) = (one for one in checks if one["check"] == "address_space")
    assert found["detail"].endswith("and 4096 MiB are available at the source")
    assert found["remedy"].startswith("say -e migration_mode=precopy, or have it reserve less address space (MariaDB: ")


def test_what_criu_cannot_take_along_is_told_with_its_process():
    found = [URING, {**URING, "process": 8}, *({**URING, "process": number, "remedy": ""} for number in range(9, 15))]
    checks = preflight(changed({"container.undumpable": found}), changed(None), "looper100", [], mode="precopy")
    (check,) = (one for one in checks if one["check"] == "processes")
    assert check["detail"] == (
        "CRIU cannot take along what is in it: node (PID 7 in it) holds an io_uring; node (PID 8 in it) holds an "
        "io_uring; node (PID 9 in it) holds an io_uring; node (PID 10 in it) holds an io_uring; 4 more"
    )
    assert check["remedy"] == "set something"


def test_processors_that_are_not_there():
    def told(wanted, there, **options):
        bound, has = changed({"container.processors": wanted}), changed({"host.processors": there})
        checks = preflight(bound, has, name="looper100", mounts=[], **options)
        return next(check for check in checks if check["check"] == "processors")

    assert told([0, 3], [0, 1, 2, 3], mode="precopy")["status"] == "ok"
    check = told([0, 3], [0, 1], mode="precopy")
    assert check["status"] == "warning" and check["detail"].endswith("that the destination does not have (3)")


def test_sessions_are_told():
    checks = preflight(
        changed({"container.sessions": ["sh", "top"]}), changed(None), name="looper100", mounts=[], mode="precopy"
    )
    told = next(check for check in checks if check["check"] == "sessions")
    assert told["status"] == "warning" and told["detail"].endswith("does not move, and ends: sh, top")


def test_only_instruction_sets_count():
    assert missing_instructions(["avx2", "avx512f", "constant_tsc", "sse4_2"], ["avx2"]) == ["avx512f", "sse4_2"]


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB")])
def test_readable_bytes(count, text):
    assert readable_bytes(count) == text


SENT = {"way": "sent", "bytes_sent": 2048, "layers": 3, "layers_left_out": 2}


@pytest.mark.parametrize(
    ("image", "note"),
    [
        ({"way": "there"}, "the image was there"),
        ({"way": "pulled"}, "image: pulled from its registry"),
        (SENT, "2.0 KiB sent, 2 of 3 layers were there"),
        ({**SENT, "why_not_pulled": "no answer"}, "2 of 3 layers were there; not pulled: no answer"),
        ({**SENT, "tags_kept": []}, "2 of 3 layers were there"),
        ({**SENT, "tags_kept": ["a:1", "b:1"]}, "were there; a:1, b:1 is another image there, and was left so"),
        ({"way": "pulled", "tags_kept": ["a:1"]}, "its registry; a:1 is another image there, and was left so"),
    ],
)
def test_report_tells_how_the_image_came(image, note):
    assert image_note(image).endswith(note)


def test_report_of_a_live_migration():
    clock = ("start", "pre-migration", "reservation", "pre-copy", "stop-and-copy", "commitment", "activation")
    measured = {
        "container": "looper100",
        "name": "looper100",
        "source": "fog1",
        "destination": "fog2",
        "mode": "precopy",
        "clock": {stage: 100.0 + second for second, stage in enumerate(clock)},
        "image": {"way": "there", "bytes_sent": 0},
        "checkpoint": {
            "seconds": {
                "pause": 0.01,
                "dump": 0.2,
                "files": 0.004,
                "send": 0.005,
                "restore": 0.3,
                "downtime": 0.52,
                "completion": 0.7,
            },
            "bytes_sent": 2048,
            "files_sent": [{"place": "/", "bytes_sent": 1024}, {"place": "/", "bytes_sent": 10}],
            "connections_closed": ["172.17.0.2:80 - 192.0.2.7:40000"],
            "rounds": [{"bytes_sent": 8 * 2**20}, {"bytes_sent": 512}, {"bytes_sent": 1024}],
            "statistics": {"frozen_time": 52000},
        },
        "transfer": {
            "rounds": [{"bytes_sent": 8 * 2**20}, {"bytes_sent": 512}],
            "rounds_ended": "it was enough",
            "tracked": False,
            "rate": 2**20,
            "compression": "zlib",
            "staging": {
                "source": {"kind": "memory", "why_not_memory": None},
                "destination": {"kind": "disk", "why_not_memory": "500 MiB are more than the limit of 100 MiB"},
            },
        },
        "restore": {"container": {"id": "8a77d9000000aaaa"}},
        "left": {},
    }
    lines = report(measured)
    assert lines[0] == "looper100 moved from fog1 to fog2 (precopy)"
    assert lines[3].endswith("2 rounds by comparison: 8.0 MiB, 512 B; it was enough (1.0 MiB/s, zlib)")
    assert lines[4] == "    staging         on disk at the destination: 500 MiB are more than the limit of 100 MiB"
    assert lines[5].endswith("1 round: 1.0 KiB")
    assert "  freeze" in lines[6] and "0.210 s" in lines[6]
    assert "  files" in lines[7] and lines[7].endswith("/ 2 differences: 1.0 KiB, 10 B")
    assert "2.0 KiB sent while" in lines[8]
    assert any("downtime" in line and "0.520 s" in line and "the source's clock" in line for line in lines)
    assert "  closed          172.17.0.2:80 - 192.0.2.7:40000, which could not move with it" in lines


def test_report_tells_the_phases_and_the_downtime():
    measured = {
        "container": "looper100",
        "name": "looper100",
        "source": "fog1",
        "destination": "fog2",
        "mode": "cold",
        "clock": {
            "start": 100.0,
            "pre-migration": 101.5,
            "reservation": 103.0,
            "checkpoint": 105.0,
            "stop-and-copy": 107.25,
            "commitment": 108.0,
            "activation": 109.0,
        },
        "image": {"way": "there", "bytes_sent": 0},
        "checkpoint": {
            "seconds": {"total": 0.5},
            "statistics": {"frozen_time": 52000},
            "bytes_checkpoint": 2048,
            "files": 3,
        },
        "transfer": {
            "seconds": 0.4,
            "bytes_sent": 2500,
            "bytes_received": 100,
            "mode": "direct",
            "compression": "zstd",
        },
        "restore": {"seconds": {"total": 0.7}, "container": {"id": "0123456789abcdef"}},
        "left": {"files at the source": {"failed": True}, "files at the destination": {}},
    }
    text = "\n".join(report(measured))
    for expected in (
        "looper100 moved from fog1 to fog2 (cold)",
        "downtime            2.750 s",
        "total               9.000 s",
        "frozen by CRIU for 0.052 s",
        "runs now on     fog2 as looper100 (0123456789ab)",
        "files at the source could not be removed",
    ):
        assert expected in text
    assert "files at the destination could not" not in text
    assert "pre-copy" not in text
    measured["clock"]["pre-copy"] = 104.0
    text = "\n".join(report(measured))
    assert "pre-copy            1.000 s  of what is in its volumes" in text
    assert "downtime            2.750 s" in text
