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
  - Writes an image into an archive, as C(docker save) does, but without its tags, and without the files of those layers
    that the server has that it is for. M(fog.migration.image_load) loads it there, since Docker opens no file of a
    layer that it has, and gives it its tags.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.agents
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
    description: An archive with the same image and layers is left as it is.
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
  - module: fog.migration.image_load
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

from ansible_collections.fog.migration.plugins.module_utils.operations import image_export
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import run_as_module


def main() -> None:
    run_as_module(image_export.OPERATION)


if __name__ == "__main__":
    main()
