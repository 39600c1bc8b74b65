#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: network_create
short_description: Make the networks of a container that comes from another server
version_added: 0.3.0
description:
  - Makes those networks that are not here as they are on another server, if the policy of this one lets it be, and
    their addresses are no other network's here, and not those to which this server has a route.
  - A network that is here already is left alone.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.agents
  - fog.migration.docker
  - fog.migration.docker.actiongroup
attributes:
  check_mode:
    support: full
    description: It is told which networks would be made, and whether they could be.
  diff_mode:
    support: none
    description: A network has no text to compare.
  idempotent:
    support: full
    description: A network that is there is not made again.
options:
  networks:
    description:
      - How each network was made, by its name, as C(network_settings) of M(fog.migration.server_info) tells.
    type: dict
    required: true
  judged:
    description:
      - What the preflight of a migration has judged, as the filter P(fog.migration.migration_plan#filter) tells.
        Another network is not made.
    type: dict
  migration:
    description:
      - ID of a migration, in whose journal it is noted what is made, so that it can be undone.
    type: str
seealso:
  - module: fog.migration.server_info
  - module: community.docker.docker_network
"""

EXAMPLES = r"""
- name: Look at the networks of another server
  fog.migration.server_info:
    gather_subset: [networks]
  delegate_to: fog1
  register: there

- name: Make one of them here
  fog.migration.network_create:
    networks:
      front: "{{ there.network_settings.front }}"
"""

RETURN = r"""
made:
  description: The names of those that were made.
  returned: success
  type: list
  elements: str
  sample: [front]
"""

from ansible_collections.fog.migration.plugins.module_utils.operations import network_create
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import run_as_module


def main() -> None:
    run_as_module(network_create.OPERATION)


if __name__ == "__main__":
    main()
