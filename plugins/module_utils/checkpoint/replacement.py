# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A new container in the place of one that has ended, which Docker would start with an OCI runtime that cannot restore.

Docker starts a container with the runtime for which it was made. So another one is made for ours, with the volumes and
the log of the old one, under an interim name. It takes the name of the old one, which is removed, once it runs.

Private to the collection fog.migration.
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.docker import api, mounts, ways


class Replacement:
    """The place of one container, which another one is to take.

    :param name: the name of the container.
    :param old: its inspect data, after it has ended; None where it has gone already.
    """

    def __init__(self, client: api.CheckpointClient, name: str, old: dict | None) -> None:
        self.client = client
        self.name = name
        self.old = old
        # The name of the new one until it takes the place.
        self.interim_name = f"{name}.restored"

    @property
    def is_needed(self) -> bool:
        """Whether the old one is there, and was not made for our OCI runtime."""
        return self.old is not None and self.old["HostConfig"].get("Runtime") != ways.RUNTIME

    def interim(self) -> dict | None:
        """The inspect data of a new one that runs already, but has not taken the place; None where there is none."""
        found = self.client.find_container(self.interim_name)
        return found if found and found["State"].get("Running") else None

    def clear(self) -> None:
        """Removes a new one that does not run, of an attempt that was interrupted."""
        found = self.client.find_container(self.interim_name)
        if found and not found["State"].get("Running"):
            self.client.remove_container(found["Id"], force=True)

    def described(self, inspect: dict) -> dict:
        """What the new one is made from.

        :param inspect: the inspect data of the old one while it ran.
        """
        return mounts.with_volumes_of(inspect, self.old or {})

    def take(self, container_id: str) -> None:
        """The old one goes, but for its volumes, and the new one gets its name."""
        if self.old:
            self.client.remove_container(self.old["Id"], force=True)
        self.client.rename(container_id, self.name)
