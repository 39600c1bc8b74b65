# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each server that was to be a fog server, for people."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Tell in a table what the servers of a fleet can do
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Makes the table that C(provision.yml) prints at its end, and the sentences of those servers that could not be made
    fog servers.
options:
  _input:
    description:
      - The fact C(fog_server_result) of each server, by its name in the inventory. It holds C(facts) and C(info), or
        C(problem), or nothing where the connection was lost on the way.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Print the table
  ansible.builtin.debug:
    msg: "{{ (results | fog.migration.fleet_report).table }}"
"""

RETURN = r"""
_value:
  description:
    - C(table), the lines of the table and, below it, why a mode of migration is not possible, and which servers have
      a Docker that is out of support with known holes.
    - C(problems), one sentence for each server that is no fog server now.
  type: dict
  sample:
    table: ["server  platform          kernel         Docker  CRIU   modes"]
    problems: []
"""

from ansible_collections.fog.migration.plugins.module_utils.docker.version import dangers

HEAD = ("server", "platform", "kernel", "Docker", "CRIU", "modes of migration")
NOTHING = "-"


def problem(server: str, result: dict) -> str | None:
    """Why this server is no fog server, or None where it is one, as far as is known."""
    if not result:
        return (
            f"{server} was lost on the way: its connection broke, and nobody knows how far it came; "
            "run this again when it can be reached"
        )
    return result.get("problem")


def _modes(info: dict) -> dict[str, str | None]:
    """The modes of migration and why each is not possible, or None where it is."""
    modes = info.get("criu", {}).get("modes") or {}
    return {name: None if mode["possible"] else mode["why_not"] or "unknown" for name, mode in modes.items()}


def row(server: str, result: dict) -> tuple[str, ...]:
    """The cells of one server."""
    if problem(server, result):
        return (server, *[NOTHING] * 4, "see below")
    facts, info = result.get("facts") or {}, result.get("info") or {}
    platform = [facts.get(key, "") for key in ("distribution", "distribution_version", "architecture")]
    possible = [name for name, why_not in _modes(info).items() if why_not is None]
    return (
        server,
        " ".join(platform).strip() or NOTHING,
        facts.get("kernel") or NOTHING,
        info.get("docker", {}).get("version") or NOTHING,
        info.get("criu", {}).get("version") or NOTHING,
        ", ".join(possible) or NOTHING,
    )


def _lines(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in rows]


def _reasons(results: dict) -> list[str]:
    """Why modes are not possible, each reason once, with the modes and the servers that it concerns."""
    concerned: dict[str, dict[str, list[str]]] = {}
    for server, result in results.items():
        for mode, why_not in _modes(result.get("info") or {}).items():
            if why_not is not None:
                concerned.setdefault(why_not, {}).setdefault(server, []).append(mode)
    lines = []
    for why_not, modes_by_server in concerned.items():
        servers_by_modes: dict[str, list[str]] = {}
        for server, modes in modes_by_server.items():
            servers_by_modes.setdefault(", ".join(modes), []).append(server)
        lines += [f"{', '.join(servers)}: no {modes}: {why_not}" for modes, servers in servers_by_modes.items()]
    return lines


def _dangers(results: dict) -> list[str]:
    """What to know of the servers' Dockers, in a sentence."""
    infos = {server: result.get("info") or {} for server, result in results.items()}
    found = dangers({server: info.get("docker", {}).get("version") or "" for server, info in infos.items()})
    return [f"warning: {found}; docker_channel: distro gives a server one that is."] if found else []


def fleet_report(results: dict) -> dict:
    """See DOCUMENTATION."""
    rows = [HEAD, *(row(server, result) for server, result in results.items())]
    sentences = (problem(server, result) for server, result in results.items())
    return {
        "table": _lines(rows) + _reasons(results) + _dangers(results),
        "problems": [sentence for sentence in sentences if sentence],
    }


class FilterModule:
    """Filters of fog.migration."""

    def filters(self) -> dict:
        """The filters by name."""
        return {"fleet_report": fleet_report}
