# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Loading an image that came from another server, which takes no name from another image.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping

from ansible_collections.fog.migration.plugins.module_utils.docker import api, image_names, images
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy
from ansible_collections.fog.migration.plugins.module_utils.system import private_folders

INTACT = "nothing was changed"
_SEND_AGAIN = "save it by its ID with image_export, and transfer it again"


def load(
    client: api.CheckpointClient,
    image: str,
    path: str | None,
    tags: list[str],
    check_mode: bool,
    policy: Policy,
) -> dict:
    """Loads an image, unless it is there, and gives it those names that may arrive and that no other one has.

    Returns the result of the module.

    :param image: its ID.
    :param path: its archive; None where it has come in another way.
    :param tags: the names that it had where it came from, such as C(looper:1.0).
    :param policy: what this server lets come from others.
    :raises MigrationError: when it cannot be, or the archive has something else in it.
    """
    if not images.is_id(image):
        raise MigrationError(f"{image} is not the ID of an image", INTACT, "give the whole ID, sha256:...")
    is_there = client.find_image(image) is not None
    if not is_there:
        if path is None:
            raise MigrationError(f"there is no image {image}", INTACT, "give the path of its archive")
        _load(client, image, path, check_mode)
    names = {str(name): name for name in map(image_names.tagged, tags) if name}
    allowed = [text for text, name in names.items() if image_names.is_among(name, policy.image_names)]
    free, kept = free_names(image, {text: (client.find_image(text) or {}).get("Id", "") for text in allowed})
    for text in free if not check_mode else []:
        client.tag(image, names[text].short_repository, names[text].last)
    return {
        "changed": bool(free) or not is_there,
        "image": {"id": image},
        "tagged": free,
        "kept": kept,
        # What is no name of an image, Docker would not take either.
        "refused": [text for text in names if text not in allowed]
        + [tag for tag in tags if not image_names.tagged(tag)],
    }


def free_names(image: str, owners: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Of these names, those that no image has, and those that another one has, which it keeps.

    :param owners: the ID of the image that has each of the names now; empty where none has.
    """
    free = [name for name, owner in owners.items() if not owner]
    return free, [name for name, owner in owners.items() if owner not in ("", image)]


def _load(client: api.CheckpointClient, image: str, path: str, check_mode: bool) -> None:
    # What is looked at is read once more by Docker.
    private_folders.require(os.path.dirname(path))
    archive = _archive(path)
    strange = archive.strangeness(image)
    if strange:
        raise MigrationError(f"{path} is not the archive of {image} alone: {strange}", INTACT, _SEND_AGAIN)
    if check_mode:
        return
    try:
        client.load_archive(archive.alone())
    except (ValueError, tarfile.TarError) as error:
        raise MigrationError(f"{path} cannot be read: {error}", INTACT, _SEND_AGAIN) from error
    if client.find_image(image) is None:
        raise MigrationError(f"{path} was loaded, but there is no image {image}", "", "look at the daemon's log")


def _archive(path: str) -> images.Archive:
    try:
        return images.Archive(path)
    except (OSError, ValueError) as error:
        raise MigrationError(f"{path} cannot be read: {error}", INTACT, _SEND_AGAIN) from error
