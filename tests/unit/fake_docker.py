# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of a Docker daemon with one container as writing and restoring a checkpoint asks for."""

from __future__ import annotations

import copy
import os

from ansible_collections.fog.migration.plugins.module_utils.docker import options as docker_options
from ansible_collections.fog.migration.plugins.module_utils.request import Request

ID = "4f9d1c" + "0" * 58
IMAGE = "sha256:aaa"
INSPECT = {
    "Id": ID,
    "Name": "/looper",
    "Image": IMAGE,
    "Driver": "a driver of nobody",
    "State": {"Running": True, "Status": "running", "Pid": 0},
    "Config": {"Image": "busybox:lab"},
    "HostConfig": {"NetworkMode": "default", "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
    "NetworkSettings": {"Networks": {"bridge": {}}},
    "Mounts": [],
}


class Docker:
    """It writes down what it is told to do.

    :param root: an empty folder that becomes Docker's data root.
    """

    def __init__(self, root):
        self.root = str(root)
        self.events = []
        self.there = {}
        self.add(copy.deepcopy(INSPECT))
        self.experimental = True
        self.api_version = "1.45"
        self.runtimes = {"runc": {}}
        # What a call of this name raises instead.
        self.failing = {}

    def add(self, inspect):
        self.there[inspect["Id"]] = inspect
        os.makedirs(os.path.join(self.root, "containers", inspect["Id"]), exist_ok=True)

    def state(self, container=ID):
        return self.there[container]["State"]

    def do(self, *event):
        self.events.append(event)
        if event[0] in self.failing:
            raise self.failing[event[0]]

    def info(self):
        return {"Driver": "a driver of nobody", "DockerRootDir": self.root, "Runtimes": self.runtimes}

    def version(self):
        return {"Version": "26.1.5", "ApiVersion": "1.45", "Experimental": self.experimental}

    def containers(self, all):
        """As the list of Docker's API, of those that are there."""
        assert all
        return [{"Id": one["Id"], "Mounts": one.get("Mounts", [])} for one in self.there.values()]

    def find_container(self, name):
        for one in self.there.values():
            if name in (one["Id"], one["Name"].lstrip("/")):
                return copy.deepcopy(one)
        return None

    inspect_container = find_container

    def diff(self, _container):
        return []

    def find_image(self, reference):
        return {"Id": IMAGE, "RepoTags": ["busybox:lab"]} if reference in (IMAGE, "busybox:lab") else None

    inspect_image = find_image

    def volumes(self):
        return {"Volumes": None}

    def networks(self):
        return [{"Name": "bridge", "Driver": "bridge"}]

    def update_container(self, container, restart_policy):
        self.do("policy", restart_policy["Name"])
        self.there[container]["HostConfig"]["RestartPolicy"] = restart_policy

    def pause(self, _container):
        self.do("pause")

    def unpause(self, _container):
        self.do("unpause")

    def create_checkpoint(self, container, name, directory, leave_running, timeout):
        folder = os.path.join(directory, name)
        os.makedirs(folder)
        with open(os.path.join(folder, "inventory.img"), "wb") as stream:
            stream.write(b"memory")
        self.state(container)["Running"] = leave_running
        self.do("checkpoint")

    def create_from_body(self, name, body):
        config = {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig")}
        made = {"Id": "f00", "Name": f"/{name}", "Config": config, "HostConfig": body["HostConfig"]}
        inspect = {**copy.deepcopy(INSPECT), **made}
        inspect["State"] = {"Running": False, "Status": "created", "Pid": 0}
        self.add(inspect)
        self.do("create", name)
        return "f00"

    def rename(self, container, name):
        self.do("rename", name)
        self.there[container]["Name"] = f"/{name}"

    def remove_container(self, container, v=False, force=False):
        self.do("remove", container)
        del self.there[container]


class Asked:
    """Requests, and what was warned of."""

    def __init__(self, defaults):
        self.defaults = defaults
        self.warnings = []

    def __call__(self, check_mode=False, asked=0.0, **params):
        return Request({**docker_options.DEFAULTS, **self.defaults, **params}, check_mode, self.warnings.append, asked)
