# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server can do and what runs on it: each subset of these facts is looked for only where it is wanted.

So is what a subset alone needs imported, since a module compiles what it imports in each run.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Collection
from typing import Any, Protocol

from ansible_collections.fog.migration.plugins.module_utils.docker import daemon
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import files, host, limits

# The options, and what they are where nobody gives them.
DEFAULTS: dict[str, Any] = {
    "gather_subset": ["all"],
    "container": None,
    "containers": [],
    "label": None,
    "directory": "/var/lib/fog-migration/checkpoints",
    "peer_address": None,
    "peer_port": 22,
    "paths": [],
}
# What is gathered unless it is excluded by its name.
MINIMUM = ("containers",)
# These are looked for without Docker.
WITHOUT_DOCKER = ("host", "criu", "ports", "paths", "journal", "peer", "policy")


def argument_spec() -> dict[str, dict[str, Any]]:
    """The options of C(server_info), as an AnsibleModule wants them, but those of the connection to Docker."""
    kinds: dict[str, dict[str, Any]] = {
        "gather_subset": {"type": "list", "elements": "str"},
        "container": {"type": "str"},
        "containers": {"type": "list", "elements": "str"},
        "label": {"type": "str"},
        "directory": {"type": "path"},
        "peer_address": {"type": "str"},
        "peer_port": {"type": "int"},
        "paths": {"type": "list", "elements": "str"},
    }
    given = {name: {"default": value} for name, value in DEFAULTS.items() if value is not None}
    return {name: {**kind, **given.get(name, {})} for name, kind in kinds.items()}


class Client(Protocol):
    """What is asked of Docker; C(reader.Reader) and the SDK's client C(api.CheckpointClient) both have it."""

    def info(self) -> dict[str, Any]: ...

    def version(self) -> dict[str, Any]: ...

    def containers(self, *, all: bool) -> list[dict[str, Any]]: ...

    def find_container(self, name: str) -> dict[str, Any] | None: ...

    def diff(self, container: str) -> list[dict[str, Any]] | None: ...

    def images(self) -> list[dict[str, Any]]: ...

    def find_image(self, reference: str) -> dict[str, Any] | None: ...

    def networks(self) -> list[dict[str, Any]]: ...

    def find_network(self, name: str) -> dict[str, Any] | None: ...

    def volumes(self) -> dict[str, Any]: ...


def subsets(words: Collection[str]) -> list[str]:
    """The subsets that are meant by the words of C(gather_subset), in the order in which they are gathered.

    As Ansible's own: the minimum is there unless V(!min) excludes it, only exclusions mean all the others, and what is
    named is there even if V(!all) excludes it.

    :raises MigrationError: for a word that is no subset.
    """
    named, excluded, everything = set(), set(), set(SUBSETS)
    for word in words:
        name = word[1:] if word.startswith("!") else word
        meant = {"all": everything, "min": set(MINIMUM)}.get(name, {name})
        if not meant <= everything:
            known = ", ".join(["all", "min", *SUBSETS])
            raise MigrationError(
                f"there is no subset {name!r} of facts", "", f"choose from {known}, or exclude one with !NAME"
            )
        if not word.startswith("!"):
            named |= meant
        else:
            excluded |= meant - set(MINIMUM) if name == "all" else meant
    explicit = {word for word in words if word in everything}
    chosen = (named | set(MINIMUM) if named else everything) - (excluded - explicit)
    return [name for name in SUBSETS if name in chosen]


def needs_docker(params: dict[str, Any]) -> bool:
    """Whether Docker is asked for what these options want.

    :raises MigrationError: see subsets().
    """
    wanted = subsets({**DEFAULTS, **params}["gather_subset"])
    return any(name not in WITHOUT_DOCKER for name in wanted)


def gather(params: dict[str, Any], client: Client | None) -> dict[str, Any]:
    """The facts that the options want.

    :param params: see DEFAULTS; what is missing there is as in that.
    :param client: what asks Docker; None is enough where needs_docker() says no.
    :raises MigrationError: when Docker does not answer, or something here cannot be read.
    """
    params = {**DEFAULTS, **params}
    server = Server(params, client)
    facts: dict[str, Any] = {}
    try:
        for name in subsets(params["gather_subset"]):
            facts.update(SUBSETS[name](server))
    except OSError as error:
        # Failures of the SDK's client are of this kind as well.
        raise MigrationError(daemon.message(error)) from error
    return facts


class Server:
    """What was learned of this server so far, so that nothing is asked twice."""

    def __init__(self, params: dict[str, Any], client: Client | None) -> None:
        self.params = params
        self._client = client
        self._inspected: dict[str, dict[str, Any] | None] = {}

    @property
    def client(self) -> Client:
        """What asks Docker.

        :raises MigrationError: where there is none.
        """
        if self._client is None:
            raise MigrationError("nothing was given that asks Docker")
        return self._client

    @property
    def has_docker(self) -> bool:
        """Whether there is something that asks Docker."""
        return self._client is not None

    @functools.cached_property
    def policy(self) -> dict[str, Any]:
        """See C(rules.facts)."""
        from ansible_collections.fog.migration.plugins.module_utils.policy import rules

        return rules.facts()

    @functools.cached_property
    def daemon(self) -> dict[str, Any]:
        """See C(daemon.facts)."""
        return daemon.facts(self.client.info(), self.client.version())

    @functools.cached_property
    def criu(self) -> dict[str, Any]:
        """See C(probe.probe)."""
        from ansible_collections.fog.migration.plugins.module_utils.criu import probe

        return probe.probe()

    @functools.cached_property
    def listed(self) -> list[dict[str, Any]]:
        """All containers, as Docker lists them."""
        return self.client.containers(all=True)

    @functools.cached_property
    def images(self) -> list[dict[str, Any]]:
        """All images, as Docker lists them."""
        return self.client.images()

    def inspected(self, identity: str) -> dict[str, Any] | None:
        """The inspect data of a container, None when it has gone."""
        if identity not in self._inspected:
            self._inspected[identity] = self.client.find_container(identity)
        return self._inspected[identity]

    @functools.cached_property
    def everyone(self) -> list[dict[str, Any]]:
        """The inspect data of all containers."""
        found = (self.inspected(one["Id"]) for one in self.listed)
        return [one for one in found if one]

    @functools.cached_property
    def describer(self) -> Any:
        """What describes containers, see C(container_description)."""
        from ansible_collections.fog.migration.plugins.module_utils.preflight import container_description

        return container_description.Describer(self.client, self.daemon, self.criu["version"], self.everyone)

    def describe(self, name: str | None) -> dict[str, Any] | None:
        """What a migration of this container has to know, or None where it is not here."""
        identity = identity_of(name, self.listed) if name else None
        inspect = self.inspected(identity) if identity else None
        return self.describer.describe(inspect) if inspect else None


def names_of(one: dict[str, Any]) -> list[str]:
    """The names of a container as Docker lists it, without those that links to it have given it."""
    names = (name.lstrip("/") for name in one.get("Names") or [])
    return [name for name in names if "/" not in name]


def identity_of(name: str, listed: list[dict[str, Any]]) -> str | None:
    """The ID of the container with this name, ID, or begin of an ID that no other one has; or None."""
    name = name.lstrip("/")
    for one in listed:
        if name == one["Id"] or name in names_of(one):
            return one["Id"]
    beginning = [one["Id"] for one in listed if one["Id"].startswith(name)]
    return beginning[0] if len(beginning) == 1 and name else None


def labelled(label: str, listed: list[dict[str, Any]]) -> list[str]:
    """The names of the running containers with a label, which is C(NAME) or C(NAME=VALUE)."""
    name, equals, value = label.partition("=")
    found = []
    for one in listed:
        labels = one.get("Labels") or {}
        if one["State"] == "running" and name in labels and (not equals or labels[name] == value):
            found += names_of(one)[:1]
    return sorted(found)


def health(status: str) -> str:
    """What the health check of a container says, from the status that Docker lists of it."""
    for word in ("unhealthy", "healthy", "starting"):
        if status.endswith((f"({word})", f"(health: {word})")):
            return word
    return "none"


def _containers(server: Server) -> dict[str, Any]:
    return {
        "containers": {
            name: {
                "id": one["Id"],
                "state": one["State"],
                "health": health(one.get("Status") or ""),
                "labels": one.get("Labels") or {},
                "image": one.get("ImageID", ""),
            }
            for one in server.listed
            for name in names_of(one)
        }
    }


def _host(_server: Server) -> dict[str, Any]:
    return {"host": {**host.facts(), **limits.facts()}}


def _docker(server: Server) -> dict[str, Any]:
    return {"docker": {**server.daemon, "sdk": has_sdk()}}


def has_sdk() -> bool:
    """Whether Docker's SDK for Python seems to be installed; it is not imported."""
    try:
        found = importlib.util.find_spec("docker")
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None


def _criu(server: Server) -> dict[str, Any]:
    return {"criu": server.criu}


def _free(server: Server) -> dict[str, Any]:
    places = {"checkpoints": server.params["directory"], "docker": server.daemon["root"]}
    return {"free": {name: files.free_bytes(place) for name, place in places.items()}}


def _ports(_server: Server) -> dict[str, Any]:
    return {"listening": host.listening_ports()}


def _images(server: Server) -> dict[str, Any]:
    return {"images": sorted(one["Id"] for one in server.images)}


def _layers(server: Server) -> dict[str, Any]:
    from ansible_collections.fog.migration.plugins.module_utils.docker import images, storage_drivers

    if storage_drivers.by_containerd(server.daemon["storage_driver"]):
        return {"layers": []}
    found = (server.client.find_image(one["Id"]) or {} for one in server.images)
    stacks = ((image.get("RootFS") or {}).get("Layers") or [] for image in found)
    return {"layers": sorted({chain for stack in stacks for chain in images.chain_ids(stack)})}


def _networks(server: Server) -> dict[str, Any]:
    from ansible_collections.fog.migration.plugins.module_utils.docker import networks
    from ansible_collections.fog.migration.plugins.module_utils.network import routes

    listed = server.client.networks()
    configured = networks.configured(server.client, listed)
    return {
        "networks": sorted(one["Name"] for one in listed),
        "network_settings": configured,
        "segments": networks.segments(configured),
        "interfaces": host.interfaces(),
        "routes": routes.facts(),
    }


def _volumes(server: Server) -> dict[str, Any]:
    return {"volumes": sorted(one["Name"] for one in server.client.volumes().get("Volumes") or [])}


def _paths(server: Server) -> dict[str, Any]:
    from ansible_collections.fog.migration.plugins.module_utils.docker import mounts
    from ansible_collections.fog.migration.plugins.module_utils.filesystem import mounted_paths, roots
    from ansible_collections.fog.migration.plugins.module_utils.policy import rules
    from ansible_collections.fog.migration.plugins.module_utils.preflight.container_description import checksum

    # Where nobody asks Docker, the last look before the mount is made knows of them.
    listed = server.listed if server.params["paths"] and server.has_docker else []
    written = roots.identities(mounts.writable(listed))
    policy = rules.from_facts(server.policy) if "problem" not in server.policy else None

    def told(path: str) -> dict[str, Any]:
        looked = mounted_paths.look_at(policy, path, written) if policy else mounted_paths.Looked([], [])
        return {
            **files.path_facts(path),
            "checksum": checksum(path),
            "refused": roots.refusal(path),
            "not_allowed": [str(one) for one in looked.refused],
            "not_allowed_to_stay": [str(one) for one in looked.refused_where_it_stays],
        }

    return {"paths": {path: told(path) for path in server.params["paths"]}}


def _journal(_server: Server) -> dict[str, Any]:
    from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal

    return {"migrations": [entry.to_json() for entry in journal.entries()]}


def _policy(server: Server) -> dict[str, Any]:
    return {"policy": server.policy}


def _peer(server: Server) -> dict[str, Any]:
    address = server.params["peer_address"]
    return {"peer": {"problem": address and host.unreachable(address, server.params["peer_port"])}}


def _container(server: Server) -> dict[str, Any]:
    named, label = server.params["containers"], server.params["label"]
    names = [*named, *(labelled(label, server.listed) if label else [])]
    return {
        "container": server.describe(server.params["container"]),
        "described": {name: server.describe(name) for name in dict.fromkeys(names)},
    }


# What each subset adds to the facts, in the order in which they are gathered.
SUBSETS = {
    "containers": _containers,
    "host": _host,
    "docker": _docker,
    "criu": _criu,
    "free": _free,
    "ports": _ports,
    "images": _images,
    "layers": _layers,
    "networks": _networks,
    "volumes": _volumes,
    "paths": _paths,
    "journal": _journal,
    "peer": _peer,
    "policy": _policy,
    "container": _container,
}
