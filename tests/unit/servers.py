# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What C(server_info) tells of a server between which and another one of its kind everything can move."""

from __future__ import annotations

import copy

from ansible_collections.fog.migration.plugins.module_utils.policy import rules

SERVER = {
    "host": {
        "processors": [0, 1],
        "hostname": "fog1",
        "kernel": "6.12.1",
        "architecture": "x86_64",
        "cpu_features": ["avx2", "sse4_2", "nopl"],
        "memory_available": 4 * 2**30,
        "open_files": 20000,
        "huge_pages": {"2097152": 0},
    },
    "docker": {
        "sdk": True,
        "version": "26.1.5",
        "experimental": True,
        "storage_driver": "overlay2",
        "runtimes": ["fog-runc", "runc"],
        "network_drivers": ["bridge", "macvlan"],
        "root": "/var/lib/docker",
        "isolation": ["apparmor", "seccomp"],
    },
    "criu": {
        "works": True,
        "version": "4.2",
        "why_not": None,
        "options": {"manage-cgroups": "ignore"},
        "modes": {mode: {"possible": True, "why_not": None} for mode in ("cold", "precopy", "postcopy", "hybrid")},
    },
    "peer": {"problem": None},
    "free": {"checkpoints": 10**10, "docker": 10**10},
    "listening": ["22/tcp"],
    "containers": {},
    "images": [],
    "networks": ["bridge"],
    "network_settings": {},
    "interfaces": ["eth0", "lo"],
    "routes": [{"subnet": "127.0.0.0/8", "interface": "lo"}, {"subnet": "10.9.0.0/24", "interface": "eth0"}],
    "segments": {},
    "volumes": [],
    "migrations": [],
    "policy": rules.facts_of(rules.Policy()),
    "container": {
        "id": "4f9d",
        "name": "looper100",
        "user": "",
        "refusal": None,
        "remedy": None,
        "live_refusal": None,
        "live_remedy": None,
        "ports": ["8080/tcp"],
        "networks": ["bridge"],
        "addresses": {"bridge": ["172.17.0.2"]},
        "fixed_addresses": {"bridge": []},
        "endpoints": {"bridge": {"MacAddress": "02:42:ac:11:00:02", "Aliases": [], "Links": []}},
        "hardware_address": "",
        "connections": [],
        "bound": [],
        "unix_outside": [],
        "unknown": [],
        "undumpable": [],
        "processors": [],
        "deleted": {"/x": 2**20},
        "sessions": [],
        "own_network": {"filters": [], "settings": [], "groups": []},
        "asks": {"inspect": {"HostConfig": {}, "Config": {}}, "volumes": [], "sockets": []},
        "mounts": [],
        "mounted_paths": [],
        "submounts": [],
        "log_driver": "json-file",
        "shares": [],
        "links": [],
        "linked_mounts": [],
        "file_locks": [],
        "shm_outside": 0,
        "memory": 10**6,
        "memory_shared": 0,
        "memory_files": 0,
        "memory_swapped": 0,
        "memory_room": 2**30,
        "huge_pages": {},
        "address_space": 2**23,
        "dump_descriptors": 276,
        "dump_lists": 2**15,
        "dump_entries": 0,
        "rootfs_size": 10,
        "rootfs_readable": True,
        "image": "sha256:a",
        "image_name": "looper:1.0",
        "image_size": 10**6,
    },
}


def changed(change):
    """A good server with something changed: C({"docker.version": ...})."""
    server = copy.deepcopy(SERVER)
    for path, value in (change or {}).items():
        part, key = path.split(".") if "." in path else (None, path)
        (server[part] if part else server)[key] = value
    return server
