# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which wanted symbols survived in a kernel's configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kernel_proof
short_description: Prove that a kernel's configuration has every symbol that is wanted
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Compares a kernel's final C(.config) with what was wanted. The kernel's own tools drop a symbol in silence when
    something that it depends on is missing.
positional: wishes
options:
  _input:
    description: The text of the kernel's C(.config).
    type: str
    required: true
  wishes:
    description: What P(fog.migration.kernel_wishes#filter) returned.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: fog.migration.kernel_wishes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Nothing that is required was lost
  ansible.builtin.assert:
    that: proof.lost | length == 0
  vars:
    proof: "{{ lookup('ansible.builtin.file', '.config') | fog.migration.kernel_proof(wishes) }}"
"""

RETURN = r"""
_value:
  description: What became of the wishes.
  type: dict
  contains:
    kept:
      description: How many wishes came true.
      type: int
    lost:
      description: Required symbols that did not survive, a phrase each.
      type: list
      elements: str
    missed:
      description: Wished symbols that did not survive, a phrase each.
      type: list
      elements: str
    modules:
      description: Symbols that became modules where that will do.
      type: list
      elements: str
  sample:
    kept: 118
    lost: []
    missed: ["CONFIG_MEM_SOFT_DIRTY is not set instead of y (tracks dirty pages)"]
    modules: []
"""

import re

SET = re.compile(r"^(CONFIG_[A-Za-z0-9_]+)=(.+)$", re.MULTILINE)


def verdict(wish, value):
    if value == wish["value"] or (value == "y" and wish["value"] == "m"):
        return "kept"
    return "modules" if value == "m" and wish["value"] == "y" and wish["module"] else "lost"


def phrase(wish, value):
    became = "is not set" if value == "n" else f"is {value}"
    return f"{wish['symbol']} {became} instead of {wish['value']} ({wish['reason']})"


def kernel_proof(config, wishes):
    values = {match.group(1): match.group(2).strip() for match in SET.finditer(config)}
    proof = {"kept": 0, "lost": [], "missed": [], "modules": []}
    for wish in wishes:
        value = values.get(wish["symbol"], "n")
        result = verdict(wish, value)
        if result == "lost":
            proof["lost" if wish["required"] else "missed"].append(phrase(wish, value))
            continue
        proof["kept"] += 1
        if result == "modules":
            proof["modules"].append(wish["symbol"])
    return proof


class FilterModule:
    def filters(self):
        return {"kernel_proof": kernel_proof}
