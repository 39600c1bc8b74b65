# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What migrate.yml was asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: migration_request
short_description: Understand what migrate.yml was asked for
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Takes the variables that were given on the command line, and tells which containers are to move, and which servers
    take part. What makes no sense becomes one sentence that says what to say instead.
  - Variables of the inventory that have the same names do not matter.
options:
  _input:
    description:
      - The variables that were given, as P(fog.migration.extra_vars#lookup) tells them. Of these, V(container),
        V(containers), V(project), V(label), V(source), V(destination) and V(new_name) are read.
    type: dict
    required: true
  hosts:
    description: The hosts of the play, C(ansible_play_hosts_all), which C(--limit) may have made fewer.
    type: list
    elements: str
    required: true
  groups:
    description: The inventory, C(groups).
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
    request: "{{ lookup('fog.migration.extra_vars') | fog.migration.migration_request(hosts=ansible_play_hosts_all,
      groups=groups, limit=ansible_limit | default('')) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(problem), a sentence, or empty; everything else is empty where there is one.
    - C(container), C(containers), C(project), C(label) and C(new_name) as they were given, one of the first four.
    - C(named), the names of the containers in a list, and C(labelled), the label that the containers have, which for
      C(project) is that of Compose. One of both is empty.
    - C(source) and C(destination), the hosts that these can be, or none where nobody has said; C(servers), the hosts to
      look at.
  type: dict
  sample:
    problem: ""
    container: looper100
    containers: []
    project: ""
    label: ""
    new_name: ""
    named: [looper100]
    labelled: ""
    source: []
    destination: [fog2]
    servers: [fog1, fog2]
"""

from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.validate import NAME
from ansible_collections.fog.migration.plugins.plugin_utils.command_line import (
    SERVERS,
    Misunderstood,
    hosts_of,
    list_of,
    listed,
    text_of,
)

PROJECT = "com.docker.compose.project"
_WORDS = ("container", "project", "label", "new_name")
_NOTHING = {
    "problem": "",
    **dict.fromkeys(_WORDS, ""),
    "containers": [],
    "named": [],
    "labelled": "",
    "source": [],
    "destination": [],
    "servers": [],
}


def _containers(given: dict[str, Any]) -> dict[str, Any]:
    """Which containers are meant.

    :raises Misunderstood: when that is not clear.
    """
    words = {name: text_of(given, name) for name in _WORDS}
    containers = list_of(given, "containers")
    said = [name for name, value in {**words, "containers": containers}.items() if value and name != "new_name"]
    if not said:
        raise Misunderstood("no container is named; say -e container=NAME")
    if len(said) > 1:
        raise Misunderstood(f"{' and '.join(f'{name}=' for name in said)} are given; say one of them")
    named = containers or [words["container"]] * bool(words["container"])
    odd = [name for name in [*named, words["new_name"]] if name and not NAME.fullmatch(name)]
    if odd:
        raise Misunderstood(
            f"{odd[0]!r} is no name that Docker has for a container; say -e container=NAME, or for several "
            "-e containers=NAME,NAME"
        )
    if words["new_name"] and len(named) != 1:
        raise Misunderstood("new_name= is for one container, those that move together keep their names; leave it away")
    labelled = f"{PROJECT}={words['project']}" if words["project"] else words["label"]
    return {**words, "containers": containers, "named": named, "labelled": labelled}


def _side(given: dict[str, Any], side: str, groups: dict[str, list[str]]) -> list[str]:
    """The hosts that the source or the destination can be, none where nobody has said.

    :raises Misunderstood: when there are no such hosts.
    """
    pattern = ",".join(list_of(given, side))
    if not pattern:
        return []
    try:
        found = hosts_of(pattern, groups)
    except Misunderstood as reason:
        raise Misunderstood(f"the {side} {reason}; name a host or a group with -e {side}=") from None
    if not found:
        raise Misunderstood(f"{side}={pattern} leaves no host; name a host or a group with -e {side}=")
    return found


def _servers(given: dict[str, Any], hosts: list[str], groups: dict[str, list[str]], limit: str) -> dict[str, Any]:
    """Which servers take part.

    :raises Misunderstood: when that is not clear, or C(--limit) leaves too few of them.
    """
    sides = {side: _side(given, side, groups) for side in ("source", "destination")}
    named = [host for side in sides.values() for host in side]
    left_out = [host for host in dict.fromkeys(named) if limit and host not in hosts]
    if left_out:
        raise Misunderstood(f"--limit {limit} leaves out {listed(left_out)}; leave --limit away, or name it there, too")
    if all(sides.values()) and len(set(named)) < 2:
        raise Misunderstood(f"{named[0]} is the source and the destination; name another one with -e destination=")
    fleet = [] if all(sides.values()) else groups.get(SERVERS, [])
    servers = [host for host in dict.fromkeys([*fleet, *named]) if not limit or host in hosts]
    if len(servers) < 2:
        few = f"--limit {limit} leaves" if limit else f"the group {SERVERS} of the inventory has"
        remedy = "leave --limit away, or name two there" if limit else "name an inventory with -i, or make it complete"
        which = f"one server ({servers[0]})" if servers else "no server"
        raise Misunderstood(f"{few} {which}, and a migration takes two; {remedy}")
    return {**sides, "servers": servers}


def migration_request(
    given: dict[str, Any], hosts: list[str], groups: dict[str, list[str]], limit: str = ""
) -> dict[str, Any]:
    """See DOCUMENTATION."""
    try:
        return {**_NOTHING, **_containers(given), **_servers(given, hosts, groups, limit)}
    except Misunderstood as reason:
        return {**_NOTHING, "problem": f"Nothing was changed: {reason}."}


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"migration_request": migration_request}
