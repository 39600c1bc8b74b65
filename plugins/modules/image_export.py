#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_export
short_description: Save a Docker image without the layers that another server has
version_added: 0.2.0
description:
  - Writes an image with its tags into an archive, as C(docker save) does, but without the files of those layers that
    the server has that it is for. M(community.docker.docker_image_load) loads it there, since Docker opens no file of a
    layer that it has.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.docker
  - fog.migration.docker.actiongroup
attributes:
  check_mode:
    support: full
    description: It is told which layers would be in the archive; nothing is written.
  diff_mode:
    support: none
    description: An archive has no text to compare.
  idempotent:
    support: full
    description: An archive with the same image, tags and layers is left as it is.
options:
  image:
    description:
      - ID or name of the image.
    type: str
    required: true
  path:
    description:
      - The archive. Its folder has to exist; beside it there has to be room for the whole image.
    type: path
    required: true
  layers:
    description:
      - Chain IDs of the layers that need not be in the archive, as RV(fog.migration.server_info#module:layers) tells
        them of the server that the archive is for.
    type: list
    elements: str
    default: []
notes:
  - An image store of containerd's wants all layers in an archive.
seealso:
  - module: fog.migration.server_info
  - module: community.docker.docker_image_export
  - module: community.docker.docker_image_load
"""

EXAMPLES = r"""
- name: Which layers does the other server have?
  fog.migration.server_info:
  delegate_to: fog2
  register: there

- name: Save the others
  fog.migration.image_export:
    image: looper:1.0
    path: /root/looper.tar
    layers: "{{ there.layers }}"
"""

RETURN = r"""
image:
  description: The image, with its C(id) and its C(tags).
  returned: success
  type: dict
  sample: {id: "sha256:1c35...", tags: ["looper:1.0"]}
layers:
  description: How many layers the image has.
  returned: success
  type: int
  sample: 4
layers_left_out:
  description: How many of them are not in the archive.
  returned: success
  type: int
  sample: 3
size:
  description: Bytes of the archive. 0 in check mode where it would be written.
  returned: success
  type: int
  sample: 10240
"""

import os

from ansible_collections.fog.migration.plugins.module_utils.docker import api, connection_options, images
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

STAGE = "Image"
INTACT = "nothing was changed"


def kept(path: str, image: dict, layers: set[str]) -> bool:
    """Whether this very archive is there already."""
    try:
        archive = images.Archive(path)
    except (OSError, ValueError):
        return False
    tags = sorted(image.get("RepoTags") or [])
    return (archive.id, archive.tags) == (image["Id"], tags) and archive.serves(layers)


def save(client: api.CheckpointClient, image: dict, path: str, layers: set[str]) -> None:
    """Docker's archive of the image, then without what is not wanted; I(path) is there when it is complete."""
    whole, partial = f"{path}.whole", f"{path}.partial"
    try:
        # Saved by its ID, an image has no tags in the archive.
        client.save_images(image.get("RepoTags") or [image["Id"]], whole)
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


def export(client: api.CheckpointClient, params: dict, check_mode: bool) -> dict:
    """The module's result."""
    path, layers = params["path"], set(params["layers"])
    image = client.find_image(params["image"])
    if image is None:
        raise MigrationError(f"there is no image {params['image']}", INTACT, "name one that docker images shows")
    if not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise MigrationError(f"the folder of {path} does not exist", INTACT, "make it first")
    changed = not kept(path, image, layers)
    if changed and not check_mode:
        save(client, image, path, layers)
    diff_ids = image["RootFS"].get("Layers") or []
    return {
        "changed": changed,
        "image": {"id": image["Id"], "tags": image.get("RepoTags") or []},
        "layers": len(diff_ids),
        "layers_left_out": images.layers_there(diff_ids, layers),
        "size": 0 if changed and check_mode else os.path.getsize(path),
    }


def main() -> None:
    module = connection_options.new_module(
        {
            "image": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "layers": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**export(api.connect(module.params), module.params, module.check_mode))
    except MigrationError as error:
        module.fail_json(**error.result(STAGE))
    except api.FAILURES as error:
        module.fail_json(msg=MigrationError(api.api_message(error), INTACT).sentence(STAGE))


if __name__ == "__main__":
    main()
