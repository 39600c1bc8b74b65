# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of a mode of migration."""

from __future__ import annotations

DOCUMENTATION = r"""
name: migration_mode
short_description: Choose how a container is migrated
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Takes what M(fog.migration.server_info) found out about the source (with the container) and the destination. Without
    a wish it chooses V(precopy) where both servers are prepared for live migration, and V(cold) otherwise.
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
  wanted:
    description: The mode that was asked for.
    type: str
    choices: [auto, cold, precopy, postcopy, hybrid]
    default: auto
  transfer:
    description: How files are to travel, see the option C(mode) of M(fog.migration.checkpoint_transfer).
    type: str
    choices: [auto, direct, relay]
    default: auto
  keep_checkpoint:
    description: Whether a checkpoint is to be kept, which only V(cold) has.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Choose
  ansible.builtin.set_fact:
    choice: "{{ source_info | fog.migration.migration_mode(destination_info) }}"
"""

RETURN = r"""
_value:
  description:
    - C(mode) and the reason for it (C(why)); and C(lazily), whether its memory is to stay with its processes until
      it runs at the destination. Both servers can do that then, the source has what CRIU needs for it, and V(precopy)
      is faster with it.
  type: dict
  sample: {mode: precopy, why: both servers are prepared for live migration, lazily: true}
"""

from ansible_collections.fog.migration.plugins.module_utils.preflight import dump_room
from ansible_collections.fog.migration.plugins.module_utils.preflight.platform import live_problems


def _against_live(source: dict, destination: dict, transfer: str, keep_checkpoint: bool) -> list[str]:
    """What speaks against a live migration, as clauses."""
    problems = [one["problem"] for one in live_problems(source, destination, "precopy")]
    if transfer == "relay":
        problems.append("the transfer is to be relayed by the controller")
    elif source["peer"]["problem"]:
        problems.append(f"the source cannot reach the destination's SSH port ({source['peer']['problem']})")
    if keep_checkpoint:
        problems.append("a checkpoint is to be kept")
    return [problem for problem in problems if problem]


def migration_mode(
    source: dict, destination: dict, wanted: str = "auto", transfer: str = "auto", keep_checkpoint: bool = False
) -> dict:
    """See DOCUMENTATION."""
    mode, why = _mode(source, destination, wanted, transfer, keep_checkpoint)
    possible = all(server["criu"]["modes"]["postcopy"]["possible"] for server in (source, destination))
    # The other two live modes have no choice.
    goes = dump_room.lazy_pays(source) if mode in ("cold", "precopy") else not dump_room.against_lazy(source).problem
    return {"mode": mode, "why": why, "lazily": possible and goes}


def _mode(source: dict, destination: dict, wanted: str, transfer: str, keep_checkpoint: bool) -> tuple[str, str]:
    """The mode, and the reason for it."""
    if wanted != "auto":
        return wanted, "it was asked for"
    problems = _against_live(source, destination, transfer, keep_checkpoint)
    if problems:
        return "cold", f"live migration is not possible: {'; '.join(problems)}"
    return "precopy", "both servers are prepared for live migration"


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"migration_mode": migration_mode}
