# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into a configuration file of CRIU."""

from __future__ import annotations

DOCUMENTATION = r"""
name: criu_options
short_description: Set options in a configuration file of CRIU
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Returns the content of a configuration file of CRIU, such as C(/etc/criu/runc.conf), with some options set and
    everything else as it was, comments included.
options:
  _input:
    description: The content of the file.
    type: str
    required: true
  options:
    description: The options, by name. An empty value is an option without one.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the new content
  ansible.builtin.debug:
    msg: "{{ content | fog.migration.criu_options({'manage-cgroups': 'ignore'}) }}"
"""

RETURN = r"""
_value:
  description: The new content.
  type: str
  sample: "manage-cgroups=ignore\n"
"""

from ansible_collections.fog.migration.plugins.module_utils.criu.tool import merge_options


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"criu_options": merge_options}
