#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_load
short_description: Load a Docker image that takes no name from another one
version_added: 0.2.0
description:
  - Loads an image that M(fog.migration.image_export) has saved on another server, and gives it those of its names that
    no image has here.
  - With O(digests), it is pulled instead, from those registries only that the policy of this server allows
    (C(image_pulls)). The policy also says which names may arrive with an image (C(image_names)).
  - C(docker load) takes every name that an archive has from the image that had it, so that others who start containers
    by that name get another program. This does not; an archive with names, or with another image, is refused.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.agents
  - fog.migration.docker
  - fog.migration.docker.actiongroup
attributes:
  check_mode:
    support: full
    description: The archive is looked at, and it is told which names the image would get.
  diff_mode:
    support: none
    description: An archive has no text to compare.
  idempotent:
    support: full
    description: An image that is there is not loaded again.
options:
  image:
    description:
      - Its ID, C(sha256:) and 64 digits. Where Docker keeps images in containerd's store, this is that of its manifest.
    type: str
    required: true
  path:
    description:
      - The archive. It may lack layers that are here. Without it, the image has to be there.
    type: path
  tags:
    description:
      - The names that it had on the other server.
    type: list
    elements: str
    default: []
  digests:
    description:
      - Names with digest under which registries have it, such as C(registry.example.org/looper@sha256:77af...). Then it
        is pulled by these, unless it is here. That it could not be is no failure, see RV(why_not_pulled).
    type: list
    elements: str
seealso:
  - module: fog.migration.image_export
  - module: community.docker.docker_image_load
"""

EXAMPLES = r"""
- name: Save an image
  fog.migration.image_export:
    image: looper:1.0
    path: /root/image/looper.tar
  register: saved

- name: Transfer it
  fog.migration.checkpoint_transfer:
    path: /root/image
    destination: fog2

- name: Load it
  fog.migration.image_load:
    image: "{{ saved.image.id }}"
    path: /root/image/looper.tar
    tags: "{{ saved.image.tags }}"
  delegate_to: fog2
"""

RETURN = r"""
image:
  description: The image, with its C(id).
  returned: success
  type: dict
  sample: {id: "sha256:1c35..."}
tagged:
  description: The names that it got.
  returned: success
  type: list
  elements: str
  sample: ["looper:1.0"]
kept:
  description: The names that it did not get, since another image has them.
  returned: success
  type: list
  elements: str
  sample: []
refused:
  description: The names that it did not get, since the policy of this server does not let them arrive.
  returned: success
  type: list
  elements: str
  sample: []
why_not_pulled:
  description: Why it could not be pulled, as a clause; empty where it is here.
  returned: when O(digests) is given
  type: str
  sample: ""
"""

from ansible_collections.fog.migration.plugins.module_utils.operations import image_load
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import run_as_module


def main() -> None:
    run_as_module(image_load.OPERATION)


if __name__ == "__main__":
    main()
