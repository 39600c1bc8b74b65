# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From where to where a container is migrated."""

from __future__ import annotations

DOCUMENTATION = r"""
name: choose_servers
short_description: Decide from which server to which a container is migrated
version_added: 0.1.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Takes what M(fog.migration.server_info) said on each server and decides which one is the source and which one the
    destination, or says in one sentence why that cannot be decided.
positional: container
options:
  _input:
    description:
      - Results of M(fog.migration.server_info) by inventory host name.
      - A server that could not be looked at has RV(ignore:unreachable) or RV(ignore:failed) and RV(ignore:msg).
    type: dict
    required: true
  container:
    description: Name of the container.
    type: str
    required: true
  source:
    description: Hosts among which the source is looked for; all of them when empty.
    type: list
    elements: str
    default: []
  destination:
    description: Hosts one of which is the destination; all of them when empty.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Decide
  ansible.builtin.set_fact:
    choice: "{{ servers | fog.migration.choose_servers('looper100', destination=['fog2']) }}"
"""

RETURN = r"""
_value:
  description: C(source) and C(destination), or C(error), a sentence. What does not apply is empty.
  type: dict
  sample: {source: fog1, destination: fog2, error: ""}
"""

import re


class NoChoice(Exception):
    """Why there is nothing to choose: a sentence."""


# What Ansible puts before the reason of ssh itself.
_WRAPPING = re.compile(r"^(Task failed: )?(Data could not be sent to remote host .* reached over ssh: )?")


def _reason(info: dict) -> str:
    """What a failed or unreachable result says, without Ansible's wrapping."""
    return _WRAPPING.sub("", str(info.get("msg") or "it gave no answer")).strip().rstrip(".")


def _why_unusable(host: str, info: dict) -> str:
    """The clause that says why a server cannot take part, or nothing."""
    if info.get("unreachable"):
        return f"{host} cannot be reached ({_reason(info)})"
    if info.get("failed") or "containers" not in info:
        return f"{host} cannot be used ({_reason(info)})"
    return ""


def _listed(clauses: list[str]) -> str:
    return f"; {'; '.join(clauses)}" if clauses else ""


def _choose_source(servers: dict, container: str, wanted: list[str]) -> str:
    candidates = {host: info for host, info in servers.items() if not wanted or host in wanted}
    if not candidates:
        raise NoChoice(
            f"the source {', '.join(wanted)} is not in the inventory; name a host or a group with -e source="
        )
    unusable = [why for why in (_why_unusable(host, info) for host, info in candidates.items()) if why]
    usable = {host: info for host, info in candidates.items() if not _why_unusable(host, info)}
    holders = [host for host, info in usable.items() if container in info["containers"]]
    running = [host for host in holders if usable[host]["containers"][container]["state"] == "running"]
    found = running or holders
    if len(found) == 1:
        return found[0]
    if found:
        raise NoChoice(f"{container} is on {', '.join(sorted(found))}; say which one is meant with -e source=")
    raise NoChoice(
        f"there is no container {container} on {', '.join(sorted(usable)) or 'any server'}{_listed(unusable)}"
    )


def _choose_destination(servers: dict, source: str, wanted: list[str]) -> str:
    if wanted == [source]:
        raise NoChoice(f"{source} is the destination and the container is there already; name another one")
    candidates = [host for host in (wanted or servers) if host != source]
    if not candidates:
        raise NoChoice("there is no server to migrate to; name one with -e destination=")
    if len(candidates) > 1:
        raise NoChoice(
            f"there are several servers to migrate to ({', '.join(candidates)}); name one with -e destination="
        )
    destination = candidates[0]
    if destination not in servers:
        raise NoChoice(
            f"the destination {destination} is not in the inventory; name a host or a group with -e destination="
        )
    why = _why_unusable(destination, servers[destination])
    if why:
        raise NoChoice(f"the destination {why}")
    return destination


def choose_servers(servers: dict, container: str, source=(), destination=()) -> dict:
    """See DOCUMENTATION."""
    try:
        chosen = _choose_source(servers, container, list(source))
        return {"source": chosen, "destination": _choose_destination(servers, chosen, list(destination)), "error": ""}
    except NoChoice as reason:
        return {"source": "", "destination": "", "error": f"Nothing was changed: {reason}."}


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"choose_servers": choose_servers}
