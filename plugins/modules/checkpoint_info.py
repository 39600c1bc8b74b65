#!/usr/bin/python
# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_info
short_description: List and verify checkpoints
version_added: 0.1.0
description:
  - Reads the checkpoints of M(fog.migration.container_checkpoint) in a folder, or one of them, and tells what they hold
    and whether they are intact.
author:
  - fog.migration contributors (@fog-migration)
extends_documentation_fragment:
  - fog.migration.info
options:
  directory:
    description:
      - Folder that holds checkpoints. An absent folder holds none.
    type: path
    default: /var/lib/fog-migration/checkpoints
  name:
    description:
      - Only the checkpoint of this name.
    type: str
  container:
    description:
      - Only checkpoints of the container of this name.
    type: str
  verify:
    description:
      - Compare every file with its SHA-256 in the manifest, which reads all of it. With V(false) only the
        manifest is read.
    type: bool
    default: true
seealso:
  - module: fog.migration.container_checkpoint
"""

EXAMPLES = r"""
- name: Which checkpoints of looper100 are there, and are they intact?
  fog.migration.checkpoint_info:
    container: looper100
  register: found

- name: Name the damaged ones
  ansible.builtin.debug:
    msg: "{{ found.checkpoints | rejectattr('intact') | map(attribute='path') }}"
"""

RETURN = r"""
checkpoints:
  description: The checkpoints, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Folder of the checkpoint.
      type: str
      sample: /var/lib/fog-migration/checkpoints/checkpoint100
    manifest:
      description:
        - The manifest without its list of files. Empty where there is none that can be read. Its C(name), C(created)
          and C(container) tell one checkpoint of a container from another one; those of an encrypted checkpoint are
          authenticated when it is restored, see RV(fog.migration.container_restore#module:checkpoint).
      type: dict
      sample: {name: checkpoint100, created: "2026-11-21T04:15:00Z", exit: true}
    size:
      description: Bytes of all files that the manifest lists.
      type: int
      sample: 184320
    intact:
      description: Whether it is complete and unchanged. Null where O(verify=false).
      type: bool
      sample: true
    encrypted:
      description:
        - Whether it is encrypted. That it is intact can be told without the key, as long as nobody has changed the
          manifest as well.
      type: bool
      sample: false
    problems:
      description: What is wrong with it.
      type: list
      elements: str
      sample: [criu/pages-1.img has 4096 bytes instead of 217088]
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError


def describe(folder: str, verify: bool) -> dict:
    """One checkpoint: its manifest, its size and what is wrong with it."""
    try:
        manifest = _manifest.load(folder)
        problems = _manifest.problems(folder, manifest) if verify else []
    except MigrationError as error:
        return {
            "path": folder,
            "manifest": {},
            "size": 0,
            "intact": False,
            "encrypted": False,
            "problems": [error.what],
        }
    return {
        "path": folder,
        "manifest": {key: value for key, value in manifest.to_json().items() if key not in ("files", "encryption")},
        "size": manifest.total_size,
        "intact": not problems if verify else None,
        "encrypted": bool(manifest.encryption),
        "problems": problems,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/var/lib/fog-migration/checkpoints"},
            "name": {"type": "str"},
            "container": {"type": "str"},
            "verify": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    directory, wanted = module.params["directory"], module.params["container"]
    try:
        names = [name for name in sorted(os.listdir(directory)) if not name.startswith(".")]
    except FileNotFoundError:
        names = []
    except OSError as error:
        module.fail_json(msg=MigrationError(str(error), "nothing was read", "run as root (become)").sentence("Info"))
    folders = [os.path.join(directory, name) for name in names if module.params["name"] in (None, name)]
    found = [describe(folder, module.params["verify"]) for folder in folders if os.path.isdir(folder)]
    if wanted:
        found = [one for one in found if one["manifest"].get("container", {}).get("name") == wanted]
    found.sort(key=lambda one: one["manifest"].get("created", ""))
    module.exit_json(changed=False, checkpoints=found)


if __name__ == "__main__":
    main()
