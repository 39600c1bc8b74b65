#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: criu_info
short_description: Tell what CRIU can do on a server
version_added: 0.2.0
description:
  - Finds the CRIU that a container runtime would run, asks it whether it works on the running kernel and with which
    features, one by one, and tells which modes of migration are possible with them.
  - Unlike M(fog.migration.server_info) it needs no Docker.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.info
seealso:
  - module: fog.migration.server_info
"""

EXAMPLES = r"""
- name: Ask CRIU
  fog.migration.criu_info:
  register: criu

- name: Say why a migration with pre-copy is not possible
  ansible.builtin.debug:
    msg: "{{ criu.modes.precopy.why_not }}"
  when: not criu.modes.precopy.possible
"""

RETURN = r"""
path:
  description: Where CRIU is, or null.
  returned: success
  type: str
  sample: /usr/sbin/criu
version:
  description: Its version, or null.
  returned: success
  type: str
  sample: 4.2.1
options:
  description: What C(/etc/criu/runc.conf) says.
  returned: success
  type: dict
  sample: {manage-cgroups: ignore}
works:
  description: Whether C(criu check) finds that it works on the running kernel.
  returned: success
  type: bool
  sample: true
why_not:
  description: If not, why.
  returned: success
  type: str
  sample: criu is not installed
features:
  description: The features of CRIU that matter for a migration, each with C(works) and C(why_not).
  returned: success
  type: dict
  sample: {uffd: {works: true, why_not: null}}
modes:
  description:
    - The modes of migration V(cold), V(precopy), V(postcopy) and V(hybrid), each with C(possible) and C(why_not).
  returned: success
  type: dict
  sample:
    cold: {possible: true, why_not: null}
    precopy:
      possible: false
      why_not: the kernel does not track dirty memory (CONFIG_MEM_SOFT_DIRTY), which no ARM kernel can
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils.criu import probe


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, **probe.probe())


if __name__ == "__main__":
    main()
