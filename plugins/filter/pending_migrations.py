# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The migrations that have not ended, from the journals of all servers."""

from __future__ import annotations

DOCUMENTATION = r"""
name: pending_migrations
short_description: List the migrations that have to be settled
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Takes what M(fog.migration.migration_info) found on each server, and tells which migrations there are, and which of
    them are under way, so that nobody else may settle them.
options:
  _input:
    description: The results by inventory name.
    type: dict
    required: true
  patience:
    description:
      - Seconds after its last note in which a migration of another controller counts as being under way. Of those of
        this controller, it is known.
    type: int
    default: 3600
  now:
    description: Seconds since the epoch.
    type: float
    required: true
"""

EXAMPLES = r"""
- name: What is there to settle?
  ansible.builtin.debug:
    msg: "{{ found | fog.migration.pending_migrations(now=now(utc=true).timestamp()) }}"
"""

RETURN = r"""
_value:
  description:
    - One for each migration, by the time of its begin, with C(id), C(name), C(source), C(destination), C(mode),
      C(line) (about it, for people) and C(busy) (why it must not be settled now, or null).
  type: list
  elements: dict
  sample:
    - id: looper100-20261122T041500
      name: looper100
      source: fog1
      destination: fog2
      mode: precopy
      line: "looper100 from fog1 to fog2 (precopy, stage handover): paused at fog1, running at fog2"
      busy: null
"""

from ansible_collections.fog.migration.plugins.plugin_utils._controller import is_alive


def busy(entries: list[dict], patience: float, now: float, alive=is_alive) -> str | None:
    """Why this migration must not be settled now, from its entries on the servers; None where it may be."""
    known = [alive(entry.get("controller")) for entry in entries]
    if True in known:
        return "the playbook that moves it still runs"
    if False in known:
        return None
    age = now - max(entry["noted"] for entry in entries)
    if age < patience:
        return f"another controller moves it, and was heard of {age:.0f} s ago"
    return None


def _line(entries: dict[str, dict]) -> str:
    """How it is on its servers, and what their journals could not note."""
    first = next(iter(entries.values()))
    where = ", ".join(f"{entry['now']['container']} at {host}" for host, entry in entries.items())
    stages = " and ".join(dict.fromkeys(entry["stage"] for entry in entries.values()))
    refused = [f"; at {host}, {one}" for host, entry in entries.items() for one in entry.get("refused", [])]
    what = f"{first['name']} from {first['source']} to {first['destination']} ({first['mode']}, stage {stages})"
    return f"{what}: {where}{''.join(refused)}"


def pending_migrations(found: dict, now: float, patience: int = 3600) -> list[dict]:
    """See DOCUMENTATION."""
    together: dict[str, dict[str, dict]] = {}
    for host, result in found.items():
        for entry in result.get("migrations") or []:
            together.setdefault(entry["id"], {})[host] = entry
    migrations = []
    for identity, entries in together.items():
        first = next(iter(entries.values()))
        facts = {key: first[key] for key in ("name", "source", "destination", "mode", "begun")}
        told = {"line": _line(entries), "busy": busy(list(entries.values()), patience, now)}
        migrations.append({"id": identity, **facts, **told})
    return sorted(migrations, key=lambda one: one["begun"])


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"pending_migrations": pending_migrations}
