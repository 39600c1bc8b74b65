# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has the container of a migration that was interrupted, and what is to be done about it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verdict
short_description: Decide how an interrupted migration is settled
version_added: 0.1.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Takes what M(fog.migration.migration_journal) with C(state=quiet) returned on the source and on the destination.
  - Until the destination is about to be told to restore, the container is the source's. From then on the
    destination has it if it runs there, with all of its memory or with what brings it; if not, the source has it. If
    the destination cannot be asked then, nobody may run it.
positional: _input, destination
options:
  _input:
    description: The result of the source. One that failed, or was unreachable, is one of a server that cannot be asked.
    type: dict
    required: true
  destination:
    description: The result of the destination.
    type: dict
    required: true
  lost:
    description: Inventory names of servers that will never come back.
    type: list
    elements: str
    default: []
  hosts:
    description: Inventory names of source and destination.
    type: list
    elements: str
    required: true
  rejected:
    description: Whether what runs at the destination has been found unfit, so that the source gets it back.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    verdict: "{{ at_source | fog.migration.verdict(at_destination, hosts=['fog1', 'fog2']) }}"
"""

RETURN = r"""
_value:
  description:
    - C(verdict) is V(undo) (the source has it), V(finish) (the destination has it) or V(wait) (nobody can say, or a
      server is missing). C(why) is a clause. C(undo) and C(finish) tell on which servers that is done now.
  type: dict
  sample: {verdict: undo, why: it does not run at fog2, undo: [fog2, fog1], finish: []}
"""

RUNS = ("running", "paused", "restarting")


def _silence(host: str, result: dict) -> str:
    """Why this server cannot be asked, as a clause; empty where it has answered."""
    if result.get("unreachable") or result.get("failed"):
        said = str(result.get("msg", "")).strip().rstrip(".")
        return f"{host} cannot be asked ({said})" if said else f"{host} cannot be asked"
    return f"{host} is not in the inventory" if result.get("skipped") else ""


def has_it(result: dict) -> bool:
    """Whether the container runs at the destination, with all of its memory or with what brings it."""
    entry, now = result["entry"], result["now"]
    complete = entry.get("memory", "complete") == "complete" or now["programs"]
    return now["container"] in RUNS and complete


def _of(verdict: str, why: str, *hosts: str) -> dict:
    acts = {one: list(hosts) if one == verdict else [] for one in ("undo", "finish")}
    return {"verdict": verdict, "why": why, **acts}


def verdict(source: dict, destination: dict, hosts: list[str], lost=(), rejected: bool = False) -> dict:
    """See DOCUMENTATION."""
    here, there = hosts
    # A server that is lost for good has nothing and says nothing.
    source = {"entry": None} if here in lost else source
    destination = {"entry": None} if there in lost else destination
    no_source, no_destination = _silence(here, source), _silence(there, destination)
    asked = [] if no_destination else [there]
    arrived = not no_destination and bool(destination["entry"]) and has_it(destination) and not rejected
    if no_source:
        if arrived or no_destination:
            return _of("wait", no_source)
        return _of("undo", f"it does not run at {there}, and {no_source}", there)
    if not source["entry"]:
        if arrived:
            return _of("finish", f"it was finished at {here}", there)
        return _of("undo", f"it was never begun at {here}, or was undone there", *asked, here)
    owner = source["entry"]["owner"]
    if owner == "destination":
        return _of("finish", f"it was committed at {there}", here, *asked)
    if no_destination:
        if owner == "source":
            return _of("undo", f"it was not handed over, and {no_destination}", here)
        return _of("wait", f"only {there} can say whether it runs there, and {no_destination}")
    if arrived and owner == "unknown":
        return _of("finish", f"it runs at {there}", here, there)
    return _of("undo", f"it was not handed over to {there}" if arrived else f"it does not run at {there}", there, here)


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"verdict": verdict}
