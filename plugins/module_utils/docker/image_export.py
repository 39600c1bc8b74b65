# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saving an image without the layers that another server has.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os

from ansible_collections.fog.migration.plugins.module_utils.docker import api, images
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import private_folders

INTACT = "nothing was changed"


def export(client: api.CheckpointClient, reference: str, path: str, layers: set[str], check_mode: bool) -> dict:
    """Writes the archive of an image, unless this very archive is there; the result of the module.

    :param layers: the chain IDs of those that are not wanted.
    :raises MigrationError: when that cannot be.
    """
    image = client.find_image(reference)
    if image is None:
        raise MigrationError(f"there is no image {reference}", INTACT, "name one that docker images shows")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise MigrationError(f"the folder of {path} does not exist", INTACT, "make it first")
    private_folders.require(os.path.dirname(path))
    changed = not _is_there(path, image, layers)
    if changed and not check_mode:
        _save(client, image, path, layers)
    diff_ids = image["RootFS"].get("Layers") or []
    return {
        "changed": changed,
        "image": {"id": image["Id"], "tags": image.get("RepoTags") or []},
        "layers": len(diff_ids),
        "layers_left_out": images.layers_there(diff_ids, layers),
        "size": 0 if changed and check_mode else os.path.getsize(path),
    }


def _is_there(path: str, image: dict, layers: set[str]) -> bool:
    try:
        archive = images.Archive(path)
    except (OSError, ValueError):
        return False
    return not archive.strangeness(image["Id"]) and archive.serves(layers)


def _save(client: api.CheckpointClient, image: dict, path: str, layers: set[str]) -> None:
    """Docker's archive of the image, then without what is not wanted; I(path) is there when it is complete."""
    whole, partial = f"{path}.whole", f"{path}.partial"
    try:
        # Saved by its ID, an image has no tags in the archive, which would be taken from another one by docker load.
        client.save_images([image["Id"]], whole)
        left_out = images.Archive(whole).to_leave_out(layers)
        if left_out:
            images.copy_without(whole, partial, left_out)
        os.replace(partial if left_out else whole, path)
    except ValueError as error:
        raise MigrationError(
            f"what Docker saved of the image {image['Id']} cannot be used: {error}", INTACT, "look at the daemon's log"
        ) from error
    finally:
        for rest in (whole, partial):
            if os.path.exists(rest):
                os.unlink(rest)
