# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making a container again from its inspect data, with its volumes, and removing it again.

It needs no checkpoint on disk: the inspect data may come from a checkpoint or over the channel of a live migration.

Private to the collection fog.migration.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterable

from ansible_collections.fog.migration.plugins.module_utils.docker import api, container_facts, likeness, mounts
from ansible_collections.fog.migration.plugins.module_utils.docker import create as _create
from ansible_collections.fog.migration.plugins.module_utils.docker.version import makes_in_several_networks
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import mounted_paths, roots
from ansible_collections.fog.migration.plugins.module_utils.policy import judge, rules
from ansible_collections.fog.migration.plugins.module_utils.policy.refusal import Refusal, in_one_line
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy
from ansible_collections.fog.migration.plugins.module_utils.system import files


def _note_nothing(**_facts: object) -> None:
    """For a container that belongs to no migration."""


def policy_here() -> Policy:
    """What this server lets come from others.

    :raises MigrationError: when that cannot be known.
    """
    try:
        return rules.read()
    except rules.PolicyError as error:
        raise MigrationError(str(error)) from error


class Recreation:
    """Makes one container again, not started, and can remove all that it has made.

    :param name: the name of the new container.
    :param inspect: the inspect data of the container while it ran.
    :param volumes: the inspect data of its named volumes.
    :param moving_mounts: the mount points in the container whose content moves with it. Folders and files of the host
        are made for these only.
    :param single_files: which of them are bind mounts of a single file.
    :param note: is called with C(made={...}) for everything that is made: for volumes and folders before they are
        made, for the container right after. The journal can undo it from that.
    :param policy: what this server lets come from others; None where the container is its own.
    """

    def __init__(
        self,
        client: api.CheckpointClient,
        name: str,
        inspect: dict,
        volumes: list[dict],
        moving_mounts: Iterable[str] = (),
        single_files: Iterable[str] = (),
        note: Callable[..., object] = _note_nothing,
        policy: Policy | None = None,
    ) -> None:
        self.client = client
        self.name = name
        self.inspect = inspect
        self.volumes = volumes
        self.moving_mounts = frozenset(moving_mounts)
        self.single_files = frozenset(single_files)
        self.policy = policy
        self.note = note
        self.container_id = ""
        self.made_volumes: list[str] = []
        self.made_folders: list[str] = []

    def make_mounts(self) -> None:
        """Makes the volumes that are not here yet, and the folders and files for the bind mounts that move.

        What is there already is left as it is, so this may be called again.
        """
        self._make_volumes()
        # One that is below another one comes after it, so that both are noted.
        for mount in sorted(mounts.of_container(self.inspect), key=lambda one: one["source"].count("/")):
            path = mount["source"]
            moves = mount["type"] == "bind" and mount["destination"] in self.moving_mounts
            if moves and not os.path.lexists(path):
                self._make_bind_source(path, mount["destination"] in self.single_files)

    def _volumes_here(self) -> set[str]:
        return {one["Name"] for one in self.client.volumes()["Volumes"] or []}

    def _make_volumes(self) -> None:
        there = self._volumes_here()
        for volume in self.volumes:
            if volume["Name"] not in there:
                self.note(made={"volumes": [volume["Name"]]})
                self.client.create_volume(**mounts.volume_arguments(volume))
                self.made_volumes.append(volume["Name"])

    def _make_bind_source(self, path: str, single_file: bool) -> None:
        """What is noted has no link in its path: what fills it may put one there, through which nothing is removed."""
        try:
            real = roots.real_path(path, self._written)
            self.note(made={"folders": [real]})
            roots.make(real, single_file)
        except Refused as error:
            raise MigrationError(str(error)) from error
        self.made_folders.append(real)

    @functools.cached_property
    def _written(self) -> Collection[roots.Identity]:
        """The folders in which containers of this server can write."""
        return roots.identities(mounts.writable(self.client.containers(all=True)))

    def _empty_new_volumes(self, old: Collection[str]) -> None:
        """Removes from volumes that move what Docker has put into them of the image when it made the container.

        :param old: the names of volumes that were there before.
        """
        described = mounts.of_container(self.inspect)
        if not any(one["type"] == "volume" and one["destination"] in self.moving_mounts for one in described):
            return
        for one in mounts.of_container(self.client.inspect_container(self.container_id)):
            new = one["type"] == "volume" and one["driver"] == "local" and one["name"] not in old
            if new and one["destination"] in self.moving_mounts:
                try:
                    with roots.hold(one["source"]) as root:
                        root.empty()
                except Refused as error:
                    raise MigrationError(str(error)) from error

    def create(self, armed: bool = False, same_addresses: bool = False) -> str:
        """Makes the container, after the mounts that make_mounts() has not made yet.

        After a failure, call remove().

        :param armed: whether it is to be restored through our OCI runtime.
        :param same_addresses: whether it gets the addresses again that Docker chose for it. Only where the container
            does not run at the source any more once this one starts.
        :returns: its ID.
        :raises MigrationError: when the inspect data describe no container, or one that may not come.
        """
        self._require_allowed()
        body, more_networks = self._body(armed, same_addresses)
        old_volumes = self._volumes_here()
        self.make_mounts()
        self.container_id = self.client.create_from_body(self.name, body)
        self.note(made={"container": self.container_id})
        self._empty_new_volumes(old_volumes)
        self._join(more_networks)
        self._require_like(body)
        return self.container_id

    def _join(self, more: dict[str, dict]) -> None:
        """Has it in the networks that it was in and in no other: Docker joins the one of the C(NetworkMode) itself.

        :param more: the endpoints of those that it is not in yet.
        """
        there = container_facts.endpoints(self.client.inspect_container(self.container_id))
        for network in sorted(set(there) - set(container_facts.endpoints(self.inspect))):
            self.client.disconnect_container_from_network(self.container_id, network)
        for network, endpoint in more.items():
            self.client.connect_endpoint(network, self.container_id, endpoint)

    def _require_like(self, body: dict) -> None:
        """Returns when Docker has made what it was asked for, before anything runs in it.

        :raises MigrationError: when it has not, and the container came from elsewhere.
        """
        if self.policy is None:
            return
        made = self.client.inspect_container(self.container_id)
        other = likeness.differences(body, container_facts.endpoints(self.inspect), made)
        if other:
            raise MigrationError(
                f"Docker at the destination makes another container of it: {', '.join(other)} would not be as before",
                "nothing of it is left",
                "give the destination a Docker and a kernel that know this, or run it without that",
            )

    def _require_allowed(self) -> None:
        """The last look before Docker is asked: what the preflight has judged is not what makes the container."""
        if not self.policy:
            return
        try:
            sockets = filter(files.is_socket, judge.bind_sources(self.inspect))
            found = judge.refusals(self.policy, self.inspect, self.volumes, sockets)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MigrationError(f"what arrived does not describe a container ({error!r})") from error
        # What is refused by its name is not looked for.
        found = found or self._places_refused(self.policy)
        if found:
            raise MigrationError(
                f"the policy of this server does not let it come: {'; '.join(map(str, found))}",
                "nothing was made of it",
                f"change {rules.FILE} here, by the role fog.migration.policy, if it is to come",
            )

    def _places_refused(self, policy: Policy) -> list[Refusal]:
        """What is not allowed of where the paths lead that it mounts of this server."""
        binds = [one for one in mounts.of_container(self.inspect) if one["type"] == "bind"]
        moves = {one["source"]: one["destination"] in self.moving_mounts for one in binds}
        # One may be mounted at several places.
        stays = {one["source"] for one in binds if one["destination"] not in self.moving_mounts}
        found: list[Refusal] = []
        for path in judge.mounted_paths(self.inspect, self.volumes):
            told = mounted_paths.look_at(policy, path, self._written)
            found += told.refused if moves.get(path) and path not in stays else told.refused_where_it_stays
        return in_one_line(found)

    def _body(self, armed: bool, same_addresses: bool) -> tuple[dict, dict]:
        """The body of the request that creates it, and the endpoints of further networks."""
        tag = self.inspect["Config"].get("Image", "")
        tags = {tag: (self.client.find_image(tag) or {}).get("Id")} if tag else {}
        at_once = makes_in_several_networks(self.client.api_version)
        try:
            image = _create.image_reference(self.inspect, tags)
            drivers = self._drivers() if same_addresses else {}
            return _create.creation_body(self.inspect, image, armed, drivers, at_once)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MigrationError(f"the checkpoint does not describe a container ({error!r})") from error

    def _drivers(self) -> dict[str, str]:
        """The drivers of the container's networks on this host, by name."""
        wanted = (self.inspect.get("NetworkSettings") or {}).get("Networks") or {}
        drivers = {network["Name"]: network["Driver"] for network in self.client.networks()}
        return {name: drivers[name] for name in wanted if name in drivers}

    def remove(self, container_id: str = "") -> str:
        """Removes what was made: the container, volumes and folders. What was there before stays.

        :param container_id: the container to remove; without it, the one that create() has made, if it has made one.
        :returns: the clause that tells the state.
        """
        container_id = container_id or self.container_id
        try:
            if container_id and self.client.find_container(container_id):
                api.remove(self.client, container_id, v=True)
            while self.made_volumes:
                self.client.remove_volume(self.made_volumes[-1])
                self.made_volumes.pop()
            left = []
            while self.made_folders:
                folder = self.made_folders.pop()
                left += [] if roots.remove(folder) else [folder]
            if left:
                return f"what was made of it could not be removed ({', '.join(left)})"
        except api.FAILURES as error:
            return f"what was made of it could not be removed ({api.api_message(error)})"
        return "nothing of it is left on this host"
