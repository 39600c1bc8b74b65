# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pulling an image from those registries that the policy of this server allows.

By digest, so that it can only be this image; by all its digests, so that it has the same ones here. A tag is not
pulled, whatever another server calls a digest: it would be taken from the image that has it.

Private to the collection fog.migration.
"""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.docker import api, image_names
from ansible_collections.fog.migration.plugins.module_utils.docker.image_names import Name
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.policy.refusal import matches, short
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy

_FAILURES: tuple[type[Exception], ...] = (MigrationError, *api.FAILURES)


def pull(client: api.CheckpointClient, image: str, digests: Iterable[str], policy: Policy) -> str:
    """Pulls an image; why it is not here then, as a clause, or nothing.

    :param image: its ID.
    :param digests: names with digest under which registries have it, as another server says.
    """
    names = [name for name in map(image_names.digested, digests) if name]
    allowed = [name for name in names if matches(name.repository, policy.image_pulls)]
    if not allowed:
        refused = names and short(names[0].repository)
        return (
            f"the policy there does not let {refused} be pulled (allowed by image_pulls: ['{refused}'])"
            if refused
            else "it has no digest of a registry"
        )
    problems = [_pull(client, image, name) for name in allowed]
    return "" if client.find_image(image) else next(filter(None, problems), "its registry does not answer")


def _pull(client: api.CheckpointClient, image: str, name: Name) -> str:
    """Pulls what has this name; why it is not the image, or nothing."""
    there = client.find_image(str(name))
    try:
        for line in client.pull(name.repository, tag=name.last, stream=True, decode=True):
            if "error" in line:
                raise MigrationError(api.api_message(line["error"]))
    except _FAILURES as error:
        return str(error) if isinstance(error, MigrationError) else api.api_message(error)
    found = client.find_image(str(name))
    if found and found["Id"] != image and not there:
        # Nobody here has asked for that one.
        client.remove_image(str(name))
    return "" if found and found["Id"] == image else "its registry has another image under its digest"
