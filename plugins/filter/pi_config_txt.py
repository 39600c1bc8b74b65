# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What config.txt of a Raspberry Pi says of the kernel to boot."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pi_config_txt
short_description: Choose the kernel in the config.txt of a Raspberry Pi
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Puts settings into a marked block at the end of the text of C(config.txt) (or C(tryboot.txt)), where they win
    against what stands before, or takes that block away. Every other line stays as it is.
positional: settings
options:
  _input:
    description: The text of C(config.txt).
    type: str
    required: true
  settings:
    description: Settings by name, in their order. The block is taken away when there are none.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Boot another kernel
  ansible.builtin.copy:
    content: "{{ text | fog.migration.pi_config_txt({'kernel': 'fog/4.16.18-v7-fog/kernel7.img'}) }}"
    dest: /boot/config.txt
    mode: "0755"
"""

RETURN = r"""
_value:
  description: The new text.
  type: str
  sample: "dtparam=audio=on\n# BEGIN fog.migration kernel\n[all]\nkernel=fog/kernel7.img\n# END fog.migration kernel\n"
"""

import re

BEGIN = "# BEGIN fog.migration kernel"
END = "# END fog.migration kernel"
BLOCK = re.compile(rf"^{re.escape(BEGIN)}\r?\n.*?^{re.escape(END)}[ \t]*(\r?\n|\Z)", re.MULTILINE | re.DOTALL)


def pi_config_txt(text, settings):
    rest = BLOCK.sub("", text)
    if not settings:
        return rest
    if rest and not rest.endswith("\n"):
        rest += "\n"
    # [all] ends whatever section of the file came last.
    lines = [BEGIN, "[all]", *(f"{name}={value}" for name, value in settings.items()), END, ""]
    return rest + "\n".join(lines)


class FilterModule:
    def filters(self):
        return {"pi_config_txt": pi_config_txt}
