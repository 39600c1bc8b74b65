# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decides how each container of a run moves, and what speaks against it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: migration_plan
short_description: Plan the migration of one container or several from one server to another
version_added: 0.1.0
description:
  - For each container it chooses the mode, decides which of its mounts move, and checks everything that could fail
    later, from what M(fog.migration.server_info) has told of both servers.
positional: _input, destination, containers
options:
  _input:
    description: What M(fog.migration.server_info) returned on the source, with all of the containers in C(described).
    type: dict
    required: true
  destination:
    description: What it returned on the destination.
    type: dict
    required: true
  containers:
    description: The names of the containers.
    type: list
    elements: str
    required: true
  run:
    description: Name of the run. The migrations are called C(CONTAINER-RUN).
    type: str
    required: true
  source_name:
    description: The source, as the inventory calls it.
    type: str
    required: true
  destination_name:
    description: The destination, as the inventory calls it.
    type: str
    required: true
  names:
    description: The names at the destination, of those that get another one.
    type: dict
    default: {}
  together:
    description: Whether all of them move together, or none.
    type: bool
    default: false
  started:
    description: When the run began, in seconds since the epoch.
    type: float
    required: true
  now:
    description: What time it is, when the look at the servers ends, in seconds since the epoch.
    type: float
    required: true
  mode:
    description: See P(fog.migration.migration_mode#filter).
    type: str
    default: auto
  transfer:
    description: See P(fog.migration.migration_mode#filter).
    type: str
    default: auto
  keep_checkpoint:
    description: See P(fog.migration.migration_mode#filter).
    type: bool
    default: false
  volumes:
    description: See P(fog.migration.mount_plans#filter).
    type: str
    default: move
  binds:
    description: See P(fog.migration.mount_plans#filter).
    type: str
    default: none
  listed:
    description: See P(fog.migration.mount_plans#filter).
    type: list
    elements: str
    default: []
  networks:
    description: See P(fog.migration.preflight#filter).
    type: str
    default: make
  log:
    description: See P(fog.migration.preflight#filter).
    type: bool
    default: false
  ignore:
    description: See P(fog.migration.preflight#filter).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: How would the containers move?
  ansible.builtin.set_fact:
    plan: "{{ source_info | fog.migration.migration_plan(destination_info, ['web', 'db'], run='20261128a',
      source_name='fog1', destination_name='fog2', together=true, started=began, now=now().timestamp()) }}"
"""

RETURN = r"""
_value:
  description:
    - C(migrations), one for each container, as M(fog.migration.migration_journal) and the other modules take them. Of
      one that cannot move, C(failure) says why.
    - C(mode) in which they move and C(lines) of the preflight report.
    - C(batches), the IDs of those that move at the same time, and C(switch_overs), how many are frozen at the same
      time.
    - C(problem), why nothing can be moved as it was asked for, as a sentence; empty otherwise.
  type: dict
  sample:
    mode: precopy
    problem: ""
    lines: ["ok       container          looper100 can be checkpointed"]
    batches: [[looper100-20261128a]]
    switch_overs: 1
    migrations: [{id: looper100-20261128a, container: looper100, name: looper100, mode: precopy}]
"""

from typing import Any

from ansible_collections.fog.migration.plugins.filter.migration_mode import migration_mode
from ansible_collections.fog.migration.plugins.filter.mount_plans import mount_plans
from ansible_collections.fog.migration.plugins.filter.preflight import preflight
from ansible_collections.fog.migration.plugins.module_utils.docker import image_names, judged
from ansible_collections.fog.migration.plugins.module_utils.docker import mounts as _mounts
from ansible_collections.fog.migration.plugins.plugin_utils.failures import Failure

# The most that are copied at the same time.
MOST_AT_ONCE = 20
# The part of a server's free memory that those in one batch may take on their way.
MEMORY_SHARE = 0.5
# Bytes that the end of a channel on a server takes besides: a process of Python that was forked from the agent.
CHANNEL = 16 << 20


def batches(migrations: list[dict[str, Any]], together: bool, free: int) -> list[list[str]]:
    """The IDs of those that move at the same time: all that move together; else as many as memory allows.

    :param free: bytes of memory that are free on the server that has less.
    """
    if together:
        return [[one["id"] for one in migrations]] if migrations else []
    found: list[list[str]] = []
    size = 0
    for one in migrations:
        # The memory on its way, and the container itself.
        need = CHANNEL + 2 * one["memory"]
        if not found or len(found[-1]) == MOST_AT_ONCE or size + need > MEMORY_SHARE * free:
            found.append([])
            size = 0
        found[-1].append(one["id"])
        size += need
    return found


def _failure(where: str, checks: list[dict[str, Any]], container: str, destination: str) -> Failure | None:
    """Why a container cannot be migrated, or None."""
    failed = [one for one in checks if one["status"] == "failed"]
    if not failed:
        return None
    reasons = "; ".join(f"{one['detail']} ({one['remedy']})" for one in failed)
    return Failure(
        stage="Pre-migration",
        host=where,
        msg=f"{container} cannot be migrated to {destination}: {reasons}",
        state_now="nothing was changed, the container runs on as before",
    )


def _one(source: dict[str, Any], destination: dict[str, Any], name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The migration of one container, with C(lines) and C(why) of its mode."""
    source = dict(source, container=source["described"][name])
    container, group = source["container"], options["group"]

    def said(*keys: str) -> dict[str, Any]:
        return {key: options[key] for key in keys}

    choice = migration_mode(source, destination, wanted=options["mode"], **said("transfer", "keep_checkpoint"))
    mounts = mount_plans(source, destination, together=group, **said("volumes", "binds", "listed"))
    new_name = options["names"].get(name) or name
    checks = preflight(
        source,
        destination,
        name=new_name,
        mounts=mounts,
        mode=choice["mode"],
        alone=not group,
        sender=options["source_name"],
        **said("networks", "log", "ignore"),
    )
    lacking = [one for one in container["networks"] if one not in destination["networks"]]
    there = source["network_settings"]
    made = {one: there[one] for one in lacking if one in there} if options["networks"] == "make" else {}
    where = options["source_name"]
    failure = _failure(where, checks, container["name"], options["destination_name"])
    return {
        "id": f"{container['name']}-{options['run']}",
        "container": container["name"],
        "container_id": container["id"],
        "name": new_name,
        "source": where,
        "destination": options["destination_name"],
        "mode": choice["mode"],
        "why": choice["why"],
        "lazily": choice["lazily"],
        "mounts": [_mounts.ordered(one) for one in mounts if one["way"] == "moves"],
        "log": options["log"],
        "judged": {**judged.digests(container), **judged.of_networks(made)},
        "networks": made,
        "memory": container["memory"],
        "shared": container["memory_shared"],
        "image": {
            "image": container["image"],
            # Only the name that it was made by is of any use to it.
            "image_tags": image_names.own(container["image_tags"], container["image_name"]),
            "image_digests": container["image_digests"],
        },
        "image_way": {"way": "there", "bytes_sent": 0},
        "together": [],
        "clock": options["clock"],
        "lines": [one["line"] for one in checks],
        "failure": failure.to_json() if failure else None,
    }


def migration_plan(
    source: dict[str, Any],
    destination: dict[str, Any],
    containers: list[str],
    *,
    run: str,
    source_name: str,
    destination_name: str,
    started: float,
    now: float,
    names: dict[str, str] | None = None,
    together: bool = False,
    mode: str = "auto",
    transfer: str = "auto",
    keep_checkpoint: bool = False,
    volumes: str = "move",
    binds: str = "none",
    listed: Any = (),
    networks: str = "make",
    log: bool = False,
    ignore: Any = (),
) -> dict[str, Any]:
    """See DOCUMENTATION."""
    nothing: dict[str, Any] = {"migrations": [], "mode": mode, "lines": [], "batches": [], "switch_overs": 1}
    problem = _problem(source, destination, containers, source_name, destination_name)
    if problem:
        return dict(nothing, problem=f"Pre-migration: {problem}; nothing was changed.")
    together = together and len(containers) > 1
    options = {
        "run": run, "source_name": source_name, "destination_name": destination_name,
        "clock": {"start": float(started), "pre-migration": float(now)},
        "names": names or {}, "mode": mode, "transfer": transfer, "keep_checkpoint": keep_checkpoint,
        "volumes": volumes, "binds": binds, "listed": listed, "networks": networks, "log": log, "ignore": ignore,
        "group": list(containers) if together else [],
    }  # fmt: skip
    migrations = [_one(source, destination, name, options) for name in containers]
    going = [one for one in migrations if not one["failure"]]
    if together:
        for one in migrations:
            one["together"] = [other["id"] for other in migrations]
        going = going if len(going) == len(migrations) else []
    failed = [one for one in migrations if one["failure"]]
    free = min(server["host"].get("memory_available", 0) for server in (source, destination))
    cores = min(server["host"].get("cores", 1) for server in (source, destination))
    why_none = "" if going else f"{Failure.from_json(failed[0]['failure']).in_words()}."
    return {
        "migrations": migrations,
        "mode": migrations[0]["mode"],
        "lines": _lines(migrations),
        "batches": batches(going, together, free),
        "switch_overs": max(1, cores // 2),
        "problem": why_none,
    }


def _lines(migrations: list[dict[str, Any]]) -> list[str]:
    """The preflight report."""
    found = []
    for one in migrations:
        found += [f"-------- {one['container']}"] if len(migrations) > 1 else []
        found += [*one["lines"], f"mode     {one['mode']}: {one['why']}"]
    return found


def _problem(source: dict, destination: dict, containers: list[str], here: str, there: str) -> str:
    """What makes a plan impossible, as a clause, or nothing."""
    if here == there:
        return f"the destination is the source, {here}"
    for host, facts in ((here, source), (there, destination)):
        if facts.get("unreachable") or facts.get("failed") or "containers" not in facts:
            return f"{host} cannot be reached or used ({facts.get('msg', 'it gave no answer')})"
    if not containers:
        return "no container is named"
    missing = [name for name in containers if not source["described"].get(name)]
    return f"there is no container {', '.join(missing)} on {here}" if missing else ""


# ---------------------------------------------------------------------------------------------------------------------
# What becomes of migrations on their way


def missing_images(migrations: list[dict[str, Any]], there: list[str]) -> list[dict[str, Any]]:
    """For each image that the destination lacks, the first migration that needs it, with the names of all of them."""
    first: dict[str, dict[str, Any]] = {}
    for one in migrations:
        image = one["image"]
        if not one.get("failure") and image["image"] not in there:
            known = first.setdefault(image["image"], dict(one, image=dict(image, image_tags=[])))["image"]
            known["image_tags"] = list(dict.fromkeys([*known["image_tags"], *image["image_tags"]]))
    return list(first.values())


def with_image_way(migrations: list[dict[str, Any]], image: str, way: dict[str, Any]) -> list[dict[str, Any]]:
    """The migrations, with how their image came to the destination; what was sent is told of the first one only."""
    found, told = [], False
    for one in migrations:
        if one["image"]["image"] == image:
            one = dict(one, image_way=dict(way, bytes_sent=0) if told else way)
            told = True
        found.append(one)
    return found


def failed_migrations(migrations: list[dict[str, Any]], why: str, rejected: bool = False) -> list[dict[str, Any]]:
    """The migrations when a task for all of them has failed: none of them goes on.

    :param why: what the task said, as a sentence.
    :param rejected: whether what was restored at the destination was found unfit.
    """
    causes = [one["container"] for one in migrations if one.get("failure")]
    found = []
    for one in migrations:
        failure = one.get("failure")
        if not failure and causes:
            failure = Failure(sentence=f"{one['container']} does not move without {', '.join(causes)}").to_json()
        whole = Failure(sentence=str(why).rstrip(". "), rejected=rejected)
        found.append(dict(one, failure=failure or whole.to_json()))
    return found


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {
            "migration_plan": migration_plan,
            "missing_images": missing_images,
            "with_image_way": with_image_way,
            "failed_migrations": failed_migrations,
        }
