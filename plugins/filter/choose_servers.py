# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From where to where containers are migrated, and which."""

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
    default: ""
  containers:
    description: Names of containers that are on one server and migrate together.
    type: list
    elements: str
    default: []
  project:
    description: Name of a Compose project, whose running containers migrate together.
    type: str
    default: ""
  label:
    description: A label, C(NAME) or C(NAME=VALUE); the running containers that have it migrate together.
    type: str
    default: ""
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

- name: Decide it for all containers of a Compose project
  ansible.builtin.set_fact:
    choice: "{{ servers | fog.migration.choose_servers(project='shop') }}"
"""

RETURN = r"""
_value:
  description:
    - C(source), C(destination) and the names of the C(containers), or C(error), a sentence. What does not apply is
      empty.
    - C(unused_agents) are the agents of the servers that take no part, by server.
  type: dict
  sample: {source: fog1, destination: fog2, containers: [looper100], error: "", unused_agents: {}}
"""

import re
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError


class NoChoice(CollectionError):
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


class Wish(NamedTuple):
    """Which containers are meant, by their names or by a label that they have."""

    names: list[str]
    label: str = ""

    def found(self, containers: dict) -> list[str]:
        """The names of those that a server has; none if not all of those that were named."""
        if self.label:
            name, equals, value = self.label.partition("=")
            having = {one: facts["labels"] for one, facts in containers.items() if facts["state"] == "running"}
            return sorted(one for one, has in having.items() if name in has and (not equals or has[name] == value))
        return self.names if set(self.names) <= set(containers) else []

    def runs(self, containers: dict) -> bool:
        """Whether all of them run there."""
        return all(containers[name]["state"] == "running" for name in self.found(containers))

    def __str__(self) -> str:
        if self.label:
            return f"running container with the label {self.label}"
        several = f"server with all of {', '.join(self.names)}"
        return f"container {self.names[0]}" if len(self.names) == 1 else several


PROJECT = "com.docker.compose.project"


def _wish(container: str, containers: list[str], project: str, label: str) -> Wish:
    given = [bool(one) for one in (container, containers, project, label)]
    if sum(given) != 1:
        raise NoChoice("say either which container, which containers, which Compose project or which label is meant")
    return Wish(containers or [container], f"{PROJECT}={project}" if project else label)


def _choose_source(servers: dict, wish: Wish, wanted: list[str]) -> str:
    candidates = {host: info for host, info in servers.items() if not wanted or host in wanted}
    if not candidates:
        raise NoChoice(
            f"the source {', '.join(wanted)} is not in the inventory; name a host or a group with -e source="
        )
    unusable = [why for why in (_why_unusable(host, info) for host, info in candidates.items()) if why]
    usable = {host: info["containers"] for host, info in candidates.items() if not _why_unusable(host, info)}
    holders = [host for host, containers in usable.items() if wish.found(containers)]
    found = [host for host in holders if wish.runs(usable[host])] or holders
    if len(found) == 1:
        return found[0]
    if found:
        what = wish.names[0] if len(wish.names) == 1 and not wish.label else f"a {wish}"
        raise NoChoice(f"{what} is on {', '.join(sorted(found))}; say which one is meant with -e source=")
    raise NoChoice(f"there is no {wish} on {', '.join(sorted(usable)) or 'any server'}{_listed(unusable)}")


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


def choose_servers(
    servers: dict, container: str = "", source=(), destination=(), containers=(), project: str = "", label: str = ""
) -> dict:
    """See DOCUMENTATION."""
    choice = {"source": "", "destination": "", "containers": [], "error": ""}
    try:
        wish = _wish(container, list(dict.fromkeys(containers)), project, label)
        chosen = _choose_source(servers, wish, list(source))
        there = _choose_destination(servers, chosen, list(destination))
        choice.update(source=chosen, destination=there, containers=wish.found(servers[chosen]["containers"]))
    except NoChoice as reason:
        choice["error"] = f"Nothing was changed: {reason}."
    part = (choice["source"], choice["destination"])
    unused = {host: info["agent"] for host, info in servers.items() if "agent" in info and host not in part}
    return dict(choice, unused_agents=unused)


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"choose_servers": choose_servers}
