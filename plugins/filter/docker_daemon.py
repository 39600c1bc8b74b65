# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's daemon.json: what is there, what is wanted, and what the Docker at hand takes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: docker_daemon
short_description: Merge what is wanted into a daemon.json
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Merges the wanted settings into those that are there, leaves out what the Docker at hand refuses, and tells how the
    change takes effect.
options:
  _input:
    description: The text of the daemon.json that is there; empty when there is none.
    type: str
    required: true
  wanted:
    description: Settings that it must have.
    type: dict
    required: true
  version:
    description: Version of the Docker that is to read it.
    type: str
    required: true
  swarm:
    description: Whether the host is part of a swarm, where C(live-restore) is refused.
    type: bool
    default: false
  unknown:
    description: Keys of which that Docker itself said that it does not know them.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Merge
  ansible.builtin.set_fact:
    merged: "{{ old_text | fog.migration.docker_daemon(wanted={'experimental': true}, version='17.09.1-ce') }}"
"""

RETURN = r"""
_value:
  description:
    - C(error) (empty, or why the present file cannot be used), C(settings) (the merged settings), C(text) (the file's
      new content; the present one where nothing changes), C(changed), C(restart) (whether a running Docker has to be
      restarted for it; a reload is enough otherwise), C(left_out) (what was left out, and why).
  type: dict
"""

import json

from ansible_collections.fog.migration.plugins.filter.docker_plan import numbers

# Keys that were taken away: the first Docker that refuses them, and why they are not missed.
_REMOVED = {
    "disable-legacy-registry": ((17, 12), "this Docker speaks to no legacy registry anyway"),
}
# What dockerd takes over when it is told to reload.
_RELOADABLE = {
    "debug",
    "labels",
    "live-restore",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "default-runtime",
    "runtimes",
    "insecure-registries",
    "registry-mirrors",
    "shutdown-timeout",
}


def _merge(old: dict, new: dict) -> dict:
    """Dictionaries are merged at every depth; anything else is replaced."""
    merged = dict(old)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _left_out(settings: dict, version: str, swarm: bool, unknown: list[str]) -> dict[str, str]:
    reasons = dict.fromkeys(unknown, "this Docker does not know it")
    for key, (first, why) in _REMOVED.items():
        if numbers(version) >= first:
            reasons[key] = why
    if swarm and settings.get("live-restore"):
        reasons["live-restore"] = "a member of a swarm refuses it"
    return {key: why for key, why in reasons.items() if key in settings}


def docker_daemon(text: str, wanted: dict, version: str, swarm: bool = False, unknown=()) -> dict:
    """See DOCUMENTATION."""
    try:
        old = json.loads(text) if text.strip() else {}
    except ValueError as error:
        return {"error": f"it is no JSON ({error})"}
    if not isinstance(old, dict):
        return {"error": "it is no JSON object"}
    settings = _merge(old, wanted)
    left_out = _left_out(settings, version, swarm, list(unknown))
    settings = {key: value for key, value in settings.items() if key not in left_out}
    different = {key for key in {*old, *settings} if (key in old, old.get(key)) != (key in settings, settings.get(key))}
    return {
        "error": "",
        "settings": settings,
        "text": json.dumps(settings, indent=2) + "\n" if different else text,
        "changed": bool(different),
        "restart": bool(different - _RELOADABLE),
        "left_out": left_out,
    }


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"docker_daemon": docker_daemon}
