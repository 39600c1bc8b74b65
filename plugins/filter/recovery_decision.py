# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has the container of a migration that was interrupted, and what is to be done about it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: recovery_decision
short_description: Decide how an interrupted migration is settled
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Takes what M(fog.migration.migration_journal) with C(state=quiet) returned on the source and on the destination.
  - Of containers that move together, the destination has one only if it has all of them, and one has run there.
  - Until the destination is about to be told to restore, the container is the source's. From then on the
    destination has it if it runs there, with all of its memory or with what brings it; if not, the source has it. If
    the destination cannot be asked then, nobody may run it.
  - Once the source has let go of it, the destination has it, if it has ever run there, and also if it has ended since.
    While the source cannot be asked, it may have let go of whatever has run at the destination.
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
    decision: "{{ at_source | fog.migration.recovery_decision(at_destination, hosts=['fog1', 'fog2']) }}"
"""

RETURN = r"""
_value:
  description:
    - C(decision) is V(undo) (the source has it), V(finish) (the destination has it) or V(wait) (nobody can say, or a
      server is missing). C(why) is a clause. C(undo) and C(finish) tell on which servers that is done now, and
      C(missing) is a server on which it cannot be done, or empty.
  type: dict
  sample: {decision: undo, why: it does not run at fog2, undo: [fog2, fog1], finish: [], missing: ""}
"""

RUNS = ("running", "paused", "restarting")


def _silence(host: str, result: dict) -> str:
    """Why this server cannot be asked, as a clause; empty where it has answered."""
    if result.get("unreachable") or result.get("failed"):
        said = str(result.get("msg", "")).strip().rstrip(".")
        return f"{host} cannot be asked ({said})" if said else f"{host} cannot be asked"
    return f"{host} is not in the inventory" if result.get("skipped") else ""


def has_it(result: dict) -> bool:
    """Whether the container, with all that moves together with it, runs at the destination and does not only wait."""
    everyone = [result, *result["now"].get("together", [])]
    waits = result["entry"].get("together") and not any(one["entry"]["owner"] == "destination" for one in everyone)
    return not waits and all(map(_is_whole, everyone))


def _has_run(entry: dict) -> bool:
    """Whether it has run at the destination with all of its memory."""
    return entry["owner"] == "destination" and _is_complete(entry)


def _is_complete(entry: dict) -> bool:
    """Whether none of its memory is on its way any more."""
    return entry.get("memory", "complete") == "complete"


def _is_whole(one: dict) -> bool:
    """Whether it is there with all of its memory, or with what brings it."""
    entry, now = one["entry"], one["now"]
    return now["container"] in RUNS and (_is_complete(entry) or now["programs"])


def recovery_decision(source: dict, destination: dict, hosts: list[str], lost=(), rejected: bool = False) -> dict:
    """See DOCUMENTATION."""
    here, there = hosts
    # A server that is lost for good has nothing and says nothing.
    source = {"entry": None} if here in lost else source
    destination = {"entry": None} if there in lost else destination
    silent = {host: _silence(host, result) for host, result in zip(hosts, (source, destination), strict=True)}
    arrived = not silent[there] and bool(destination["entry"]) and has_it(destination) and not rejected
    ran = not silent[there] and bool(destination["entry"]) and _has_run(destination["entry"]) and not rejected
    decided, why, order = _decide(source, silent, hosts, arrived, ran)
    now = [host for host in order if not silent[host] and host not in lost]
    missing = next((host for host in hosts if silent[host] or host in lost), "")
    return {
        "decision": decided,
        "why": why,
        "missing": missing,
        "undo": now if decided == "undo" else [],
        "finish": now if decided == "finish" else [],
    }


def _decide(
    source: dict, silent: dict[str, str], hosts: list[str], arrived: bool, ran: bool
) -> tuple[str, str, list[str]]:
    """The decision, why, and on which servers it is done, in order, as far as they can be asked.

    :param silent: why a server cannot be asked, by name; empty where it has answered.
    :param arrived: whether the destination has the container now.
    :param ran: whether it has ever run there.
    """
    here, there = hosts
    finish, undo = [here, there], [there, here]
    if silent[here]:
        # The source may have committed what has run there, and may have let go of it.
        if arrived or ran or silent[there]:
            return "wait", silent[here], []
        return "undo", f"it does not run at {there}, and {silent[here]}", undo
    if not source["entry"]:
        # The source undoes after the destination, and finishes before it.
        if arrived or ran:
            return "finish", f"it was finished at {here}", finish
        return "undo", f"it was never begun at {here}, or was undone there", undo
    owner = source["entry"]["owner"]
    if owner == "destination":
        return "finish", f"it was committed at {there}", finish
    if silent[there]:
        if owner == "source":
            return "undo", f"it was not handed over, and {silent[there]}", undo
        return "wait", f"only {there} can say whether it runs there, and {silent[there]}", []
    if arrived and owner == "in_doubt":
        return "finish", f"it runs at {there}", finish
    return "undo", f"it was not handed over to {there}" if arrived else f"it does not run at {there}", undo


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"recovery_decision": recovery_decision}
