# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's parameters in cmdline.txt of a Raspberry Pi."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pi_cmdline
short_description: Set kernel parameters in the cmdline.txt of a Raspberry Pi
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Adds parameters to the one line of C(cmdline.txt). A parameter that is there with another value is replaced where it
    stands. C(cgroup_enable) may stand there several times, and takes the C(cgroup_disable) of the same controller away.
positional: parameters
options:
  _input:
    description: The text of C(cmdline.txt).
    type: str
    required: true
  parameters:
    description: Parameters, each with its value.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Turn the memory cgroup on
  ansible.builtin.copy:
    content: "{{ text | fog.migration.pi_cmdline(['cgroup_enable=memory', 'cgroup_memory=1']) }}"
    dest: /boot/cmdline.txt
    mode: "0755"
"""

RETURN = r"""
_value:
  description: The new text, one line.
  type: str
  sample: "console=serial0,115200 root=PARTUUID=6c586e13-02 rootwait cgroup_enable=memory cgroup_memory=1\n"
"""

REPEATED = ("cgroup_enable", "console", "rootflags")


def key(parameter):
    return parameter.split("=", 1)[0]


def pi_cmdline(text, parameters):
    present = text.split()
    for wanted in parameters:
        name, _equal, value = wanted.partition("=")
        if name == "cgroup_enable":
            present = [it for it in present if it != f"cgroup_disable={value}"]
        if wanted in present:
            continue
        same = [] if name in REPEATED else [index for index, it in enumerate(present) if key(it) == name]
        if same:
            present[same[-1]] = wanted
        else:
            present.append(wanted)
    return " ".join(present) + "\n"


class FilterModule:
    def filters(self):
        return {"pi_cmdline": pi_cmdline}
