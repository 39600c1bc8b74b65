# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CRIU a server gets, and from where."""

from __future__ import annotations

DOCUMENTATION = r"""
name: criu_plan
short_description: Decide where a server gets its CRIU from
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - From what the role P(fog.migration.criu#role) saw on a server and what is wanted, decides whether the CRIU that is
    there stays, and if not, which ways to another one are tried, in which order. Changes nothing.
options:
  _input:
    description: What was seen on the server, as C(files/look.sh) of the role says it.
    type: dict
    required: true
  source:
    description: The way that the user wants, or V(auto).
    type: str
    choices: [auto, distro, suite, source]
    default: auto
  suite:
    description: The newer release that CRIU may come from, or empty where that is not said.
    type: str
    default: ""
  version:
    description: The oldest version that is good enough, or empty where only the kernel decides.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    plan: "{{ seen | fog.migration.criu_plan(source='auto') }}"
"""

RETURN = r"""
_value:
  description:
    - C(needed) (the oldest version that can work, or empty), C(keep) (whether what is there stays), C(ways) (what to
      try, each with C(way) and C(suite)), and C(skipped) (why the other ways are not tried, as clauses).
  type: dict
  sample:
    needed: "4.2"
    keep: false
    ways: [{way: source, suite: ""}]
    skipped: ["distro: CRIU 3.17.1 of bookworm is older than 4.2, which kernel 6.18.2 needs"]
"""

import re

# From this kernel on, a CRIU older than that cannot work: 6.13 split the vvar mapping, and 6.16 refuses SO_PASSCRED on
# sockets that are not unix sockets.
_NEEDED = (((6, 16), "4.2"), ((6, 13), "4.1"))

# Where a newer release has a CRIU that installs beside everything else of the older one. On Debian 12 it would want
# another libc6.
_NEWER = {"trixie": "forky"}
_PACKAGED_FOR = ("amd64", "arm64", "ppc64el", "riscv64", "s390x")


def numbers(version: str) -> tuple[int, ...]:
    """V(4.1.1-1+b2) -> (4, 1, 1)."""
    return tuple(int(number) for number in re.split(r"[^\d.]", version, maxsplit=1)[0].split(".") if number)


def needed_version(kernel: str, wanted: str) -> str:
    """The oldest CRIU that can work on this kernel and is new enough for the user, or empty."""
    by_kernel = next((version for since, version in _NEEDED if numbers(kernel) >= since), "")
    return max(by_kernel, wanted, key=numbers)


def _distro(seen: dict, needed: str) -> str:
    """Why the distribution's CRIU is not tried, or empty."""
    candidate = seen["candidate"]
    if not candidate:
        return f"{seen['release']} has no package criu for {seen['architecture']}"
    if numbers(candidate) < numbers(needed):
        version = ".".join(str(number) for number in numbers(candidate))
        return (
            f"CRIU {version} of {seen['release']} is older than {needed}, which is needed with kernel {seen['kernel']}"
        )
    return ""


def _suite(seen: dict, suite: str) -> str:
    """Why the CRIU of a newer release is not tried, or empty."""
    if seen["architecture"] not in _PACKAGED_FOR:
        return f"Debian has no package criu for {seen['architecture']}"
    if not suite:
        return f"no newer release is known whose CRIU fits {seen['release']}"
    return ""


def _stays(seen: dict, source: str, suite: str, needed: str) -> bool:
    """Whether the CRIU that is there is as good as what would be installed, and comes from where the user wants it."""
    if seen["works"] != "yes" or numbers(seen["version"]) < numbers(needed):
        return False
    origin = {"distro": ("package", ""), "suite": ("package", suite), "source": ("source", seen["suite"])}
    return source == "auto" or origin[source] == (seen["origin"], seen["suite"])


def criu_plan(seen: dict, source: str = "auto", suite: str = "", version: str = "") -> dict:
    """See DOCUMENTATION."""
    suite = suite or _NEWER.get(seen["release"], "")
    needed = needed_version(seen["kernel"], version)
    if source == "auto":
        refusals = {"distro": _distro(seen, needed), "suite": _suite(seen, suite), "source": ""}
    else:
        refusals = {source: ""}
    ways = [{"way": way, "suite": suite if way == "suite" else ""} for way, why in refusals.items() if not why]
    return {
        "needed": needed,
        "keep": _stays(seen, source, suite, needed),
        "ways": ways,
        "skipped": [f"{way}: {why}" for way, why in refusals.items() if why],
    }


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"criu_plan": criu_plan}
