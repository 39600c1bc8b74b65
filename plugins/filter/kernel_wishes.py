# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What fragments of a kernel configuration want, for one architecture and version."""

from __future__ import annotations

DOCUMENTATION = r"""
name: kernel_wishes
short_description: Read which kernel symbols are wanted, for one architecture and version
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Reads fragments of a Linux kernel configuration in which a comment before each symbol says who needs it, and leaves
    out what the architecture or the version does not know.
  - 'The comment is C(# required: reason) or C(# wished: reason). Conditions stand in brackets after the first word,
    C(# required [m arm >=4.10 <5.1]: reason). Of these, V(m) says that a module will do, V(arm) and V(arm64) name the
    only architecture concerned, and C(>=) and C(<) the versions.'
  - A symbol that several fragments name is wanted as the last of them says.
positional: architecture, version
options:
  _input:
    description: The fragments, each with C(name) and C(text).
    type: list
    elements: dict
    required: true
  architecture:
    description: Architecture of the kernel.
    type: str
    choices: [arm, arm64]
    required: true
  version:
    description: Version of the kernel.
    type: str
    required: true
seealso:
  - plugin: fog.migration.kernel_proof
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read what CRIU wants
  ansible.builtin.set_fact:
    wishes: "{{ [{'name': 'criu', 'text': lookup('ansible.builtin.file', 'criu.config')}]
      | fog.migration.kernel_wishes('arm', '4.16.18') }}"
"""

RETURN = r"""
_value:
  description:
    - The symbols in the order in which they are first named. C(value) V(n) is "is not set", C(required) is false for a
      wish, C(module) says whether V(m) will do where V(y) is wanted.
  type: list
  elements: dict
  sample:
    - {symbol: CONFIG_TUN, value: "y", required: true, module: true, reason: "tun and tap devices", fragment: criu}
"""

import re

from ansible.errors import AnsibleFilterError

ARCHITECTURES = ("arm", "arm64")
WISH = re.compile(r"# (required|wished)(?: \[([^\]]*)\])?: (.+)")
SET = re.compile(r"(CONFIG_[A-Za-z0-9_]+)=(.+)")
UNSET = re.compile(r"# (CONFIG_[A-Za-z0-9_]+) is not set")


def number(version):
    """4.16.18-v7 -> (4, 16, 18)"""
    match = re.match(r"\d+(\.\d+)*", str(version))
    if not match:
        raise AnsibleFilterError(f"{version!r} is no version of a kernel")
    return tuple(int(part) for part in match.group().split("."))


def holds(condition, architecture, version):
    if condition in ARCHITECTURES:
        return condition == architecture
    if condition.startswith(">="):
        return version >= number(condition[2:])
    if condition.startswith("<"):
        return version < number(condition[1:])
    raise AnsibleFilterError(f"{condition!r} is none of the conditions m, arm, arm64, >=VERSION, <VERSION")


def read(fragment):
    """Each symbol of a fragment with the comment that stands right before it."""
    comment = None
    for line_number, line in enumerate(fragment["text"].splitlines(), start=1):
        line = line.strip()
        place = f"{fragment['name']}, line {line_number}"
        symbol = SET.fullmatch(line) or UNSET.fullmatch(line)
        if not symbol:
            if line and not line.startswith("#"):
                raise AnsibleFilterError(f"{place}: {line!r} is neither a comment nor a symbol")
            comment = WISH.fullmatch(line)
            continue
        if not comment:
            raise AnsibleFilterError(f"{place}: no comment before {symbol.group(1)} says that it is required or wished")
        yield symbol.group(1), symbol.group(2) if symbol.re is SET else "n", comment
        comment = None


def kernel_wishes(fragments, architecture, version):
    if architecture not in ARCHITECTURES:
        raise AnsibleFilterError(f"{architecture!r} is none of the architectures {', '.join(ARCHITECTURES)}")
    wishes = {}
    for fragment in fragments:
        for symbol, value, comment in read(fragment):
            conditions = (comment.group(2) or "").split()
            module = "m" in conditions
            if not all(holds(it, architecture, number(version)) for it in conditions if it != "m"):
                continue
            wishes[symbol] = {
                "symbol": symbol,
                "value": value,
                "required": comment.group(1) == "required",
                "module": module,
                "reason": comment.group(3),
                "fragment": fragment["name"],
            }
    return list(wishes.values())


class FilterModule:
    def filters(self):
        return {"kernel_wishes": kernel_wishes}
