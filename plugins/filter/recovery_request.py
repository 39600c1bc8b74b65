# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What recover.yml was asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: recovery_request
short_description: Understand what recover.yml was asked for
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Takes the variables that were given on the command line, and tells what is to be settled. What makes no sense
    becomes one sentence that says what to say instead.
  - Variables of the inventory that have the same names do not matter.
options:
  _input:
    description:
      - The variables that were given, as P(fog.migration.extra_vars#lookup) tells them. Of these, V(container), V(lost)
        and V(force) are read.
    type: dict
    required: true
  limit:
    description: What was said with C(--limit), C(ansible_limit), or nothing.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Understand what was asked for
  ansible.builtin.set_fact:
    request: "{{ lookup('fog.migration.extra_vars')
      | fog.migration.recovery_request(limit=ansible_limit | default('')) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(problem), a sentence, or empty; C(container), the one whose migrations are to be settled, or empty for all;
      C(lost), the servers that will not come back; and C(force), whether migrations that are under way are settled too.
  type: dict
  sample: {problem: "", container: looper100, lost: [fog1], force: false}
"""

from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.validate import NAME
from ansible_collections.fog.migration.plugins.plugin_utils.command_line import (
    Misunderstood,
    is_true,
    list_of,
    text_of,
)


def _request(given: dict[str, Any], limit: str) -> dict[str, Any]:
    if limit:
        raise Misunderstood(
            "recover.yml asks all fog servers, since two of them know of each migration; leave --limit away, and say "
            "-e container=NAME for the migrations of one container"
        )
    container, lost = text_of(given, "container"), list_of(given, "lost")
    if container and not NAME.fullmatch(container):
        raise Misunderstood(f"{container!r} is no name that Docker has for a container; say -e container=NAME")
    return {"container": container, "lost": lost, "force": is_true(given, "force")}


def recovery_request(given: dict[str, Any], limit: str = "") -> dict[str, Any]:
    """See DOCUMENTATION."""
    nothing = {"problem": "", "container": "", "lost": [], "force": False}
    try:
        return {**nothing, **_request(given, limit)}
    except Misunderstood as reason:
        return {**nothing, "problem": f"Nothing was changed: {reason}."}


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"recovery_request": recovery_request}
