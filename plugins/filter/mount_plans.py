# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the volumes and bind mounts of a container that moves."""

from __future__ import annotations

DOCUMENTATION = r"""
name: mount_plans
short_description: Decide which volumes and bind mounts move with a container
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Takes what M(fog.migration.server_info) found out about the source (with the container) and the destination (with
    the sources of the bind mounts as C(paths)). What is on a file system that both servers have mounted is left alone.
positional: _input, destination
options:
  _input:
    description: What M(fog.migration.server_info) returned on the source.
    type: dict
    required: true
  destination:
    description: What it returned on the destination.
    type: dict
    required: true
  volumes:
    description: What becomes of volumes. V(shared) takes all of them to be at the destination, with their content.
    type: str
    choices: [move, shared, refuse]
    default: move
  binds:
    description: Which bind mounts move. The others are to be there already.
    type: str
    choices: [none, listed, all]
    default: none
  listed:
    description: Paths of the host that move with V(listed).
    type: list
    elements: str
    default: []
  together:
    description: Names of the containers that move together, this one among them. What they share, the first one moves.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Which mounts move?
  ansible.builtin.set_fact:
    mounts: "{{ source_info | fog.migration.mount_plans(destination_info, binds='all') }}"
"""

RETURN = r"""
_value:
  description:
    - One for each, with what M(fog.migration.server_info) tells of it, and C(way), V(moves), V(shared) or V(stays);
      C(problem) and C(remedy) are empty where nothing speaks against it.
  type: list
  elements: dict
  sample: [{type: volume, name: data, destination: /data, way: moves, problem: "", remedy: ""}]
"""

from ansible_collections.fog.migration.plugins.module_utils.docker import mounts as _mounts


def mount_plans(
    source: dict, destination: dict, volumes: str = "move", binds: str = "none", listed=(), together=()
) -> list[dict]:
    """See DOCUMENTATION."""
    there = {"volumes": destination["volumes"], "paths": destination["paths"]}
    name = source["container"]["name"]
    mounts = [_mounts.of_group(mount, name, list(together)) for mount in source["container"]["mounts"]]
    return [{**mount, **_mounts.plan(mount, there, volumes, binds, list(listed))} for mount in mounts]


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"mount_plans": mount_plans}
