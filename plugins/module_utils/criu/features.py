# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What CRIU is asked for feature by feature, and which modes of migration are possible with the answers.

Pure functions all of them.
"""

from __future__ import annotations

import re

# What CRIU is asked for one by one (C(criu check --feature)), and what the kernel lacks when it says no.
FEATURES = {
    "mem_dirty_track": "the kernel does not track dirty memory (CONFIG_MEM_SOFT_DIRTY)",
    "uffd": "the kernel has no userfaultfd (CONFIG_USERFAULTFD)",
    "uffd-noncoop": "the kernel's userfaultfd does not tell what a process does to its memory, as it does from 4.11 on",
    "seccomp_filters": "the kernel does not show the seccomp filters of a process (CONFIG_SECCOMP_FILTER)",
    "tcp_half_closed": "the kernel cannot restore a TCP connection that one side has closed",
    "network_lock_nftables": "CRIU cannot lock a network by nftables on this kernel (CONFIG_NF_TABLES)",
    "cgroupns": "the kernel has no control group namespaces (CONFIG_CGROUPS, from 4.6 on)",
}
# The modes of migration, and the features without which CRIU cannot do them.
MODES = {
    "cold": (),
    "precopy": (),
    "postcopy": ("uffd", "uffd-noncoop"),
    "hybrid": ("uffd", "uffd-noncoop"),
}


def feature_refusal(name: str, said: str | None, criu_version: str | None, machine: str) -> str | None:
    """Why this feature does not work, as a clause.

    :param said: what C(criu check) said, or None where it works.
    :param machine: the architecture as C(uname -m) names it.
    """
    if said is None:
        return None
    if "Unknown feature" in said:
        return f"CRIU {criu_version} does not know the feature {name}"
    no_hope = name == "mem_dirty_track" and re.match(r"arm|aarch64", machine)
    return FEATURES[name] + (", which no ARM kernel can" if no_hope else "")


def migration_modes(works: bool, why_not: str | None, features: dict) -> dict[str, dict]:
    """The modes of migration that this CRIU can do on its kernel.

    :param works: whether C(criu check) was content; if not, I(why_not) holds for all modes.
    :param features: C(works) and C(why_not) by name.
    :returns: C(possible) and C(why_not) by mode.
    """
    modes = {}
    for mode, needed in MODES.items():
        missing = [name for name in needed if name in features and not features[name]["works"]]
        if "uffd" in missing:
            # Without userfaultfd at all, that it tells nothing says nothing new.
            missing = [name for name in missing if name != "uffd-noncoop"]
        refusal = ("; ".join(features[name]["why_not"] for name in missing) or None) if works else why_not
        modes[mode] = {"possible": refusal is None, "why_not": refusal}
    return modes
