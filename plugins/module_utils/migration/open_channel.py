# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that open the channel of a live migration, each on one of its two hosts, and how far pre-copy is.

Every step takes the options of the task (I(params)) and what the controller says for this step (I(orders)).

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import time

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.docker import mounts
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot as _snapshot
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration import destination, source, transfer_steps
from ansible_collections.fog.migration.plugins.module_utils.migration.transfer_steps import StepFailed
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import staging as _staging
from ansible_collections.fog.migration.plugins.module_utils.transport import (
    transfer,
    work_dir,
)

# Seconds for the channel to be open, and between two answers about pre-copy.
OPEN_SECONDS = 30
PROGRESS_SECONDS = 2
MIB = 1024 * 1024


def open_destination(params: dict, orders: dict, check_mode: bool) -> dict:
    """Staging at the destination, its end of the migration, and the line that admits the source."""
    facts = transfer_steps.look_at_destination(orders)
    if check_mode or facts["sudo_problem"]:
        return facts
    directory = transfer_steps.make_directory(params, orders, "destination", facts["user"])
    facts["directory"] = directory
    facts["staging"] = _make_staging(directory, params, *transfer.copies_there(params["live"]["mode"]))
    program = _lay_down_destination(directory, params, orders)
    return transfer_steps.admit_source(params, orders, facts, program)


def _lay_down_destination(directory: str, params: dict, orders: dict) -> list[str]:
    """What the source's key may run; the words of its command."""
    live = params["live"]
    order = {
        "container": live["armed"],
        "mounts": live["mounts"],
        "log": live["log"],
        "together": live["together"],
        "migration": params["migration"],
        "staging": os.path.join(directory, work_dir.STAGING),
        "docker_socket": live["docker_socket"],
        "patience": destination.PATIENCE,
        "restore_limit": live["restore_timeout"],
        "host": orders["host"],
    }
    return deploy.install(directory, order, "migration.destination")


def _make_staging(directory: str, params: dict, most: int, expected: int) -> dict:
    """Room for the memory on its way."""
    live, migration = params["live"], params["migration"]
    path, limit = os.path.join(directory, work_dir.STAGING), live["staging_limit"] * MIB
    made = _staging.make(path, live["staging_directory"], live["memory"], most, expected, limit)
    if made["kind"] == "disk":
        # What is below /run, a restart of the server removes; this it does not.
        journal.note(migration, made={"scratch": [os.path.realpath(path)]})
    return made


def open_channel(params: dict, orders: dict, _check_mode: bool) -> dict:
    """Starts the source's end of a live migration, which holds the channel open behind this task."""
    directory, live = orders["directory"], params["live"]
    key = os.path.join(directory, "key")
    ssh = {"key": key, "hosts_file": transfer_steps.write_known_hosts(directory, orders["host_keys"])}
    ssh.update({name: orders[name] for name in ("user", "address", "port")})
    staging = _make_staging(directory, params, *transfer.copies_here(live["mode"], live["lazily"]))
    channel = _start_source(directory, _source_order(directory, params, ssh))
    # It has done what it was for.
    for path in (key, key + ".pub"):
        os.unlink(path)
    if transfer.copies_beforehand(live):
        memory = live["mode"] in transfer.PRECOPY_MODES
        limits = {"rounds": live["max_rounds"], "threshold": int(live["threshold"] * MIB), "shrink": live["shrink"]}
        _ask(channel, {"do": "copy", "memory": memory, "limits": limits})
    return {"channel": channel, "staging": staging}


def _source_order(directory: str, params: dict, ssh: dict) -> dict:
    """What the source's end is told."""
    live = params["live"]
    trees, log = prepared_files(params["path"], live["log"])
    return {
        "container": live["container"],
        "staging": os.path.join(directory, work_dir.STAGING),
        "docker_socket": live["docker_socket"],
        "options": ["--tcp-established", "--ext-unix-sk", "--file-locks"],
        "lazily": live["lazily"],
        "compression": "none" if params["compression"] == "none" else "auto",
        "rate_limit": int(params["rate_limit"] * MIB),
        "migration": params["migration"],
        "together": live["together"],
        "patience": params["timeout"],
        "lifetime": params["timeout"] * 2,
        "ssh": ssh,
        "trees": trees,
        "log": log,
    }


def _start_source(directory: str, order: dict) -> str:
    """Starts the source's end; its socket, once the channel is open."""
    log = os.path.join(directory, "log")
    program = deploy.spawn(deploy.install(directory, order, "migration.source"), log)
    channel = os.path.join(directory, source.SOCKET)
    deadline = time.monotonic() + OPEN_SECONDS
    while not os.path.exists(channel):
        if program.poll() is not None or time.monotonic() > deadline:
            program.kill()
            with open(log, encoding="utf-8", errors="replace") as stream:
                said = stream.read().strip().splitlines()
            raise StepFailed(f"the channel could not be opened ({said[-1] if said else 'no answer'})")
        time.sleep(0.02)
    return channel


def prepared_files(path: str, log: bool) -> tuple[list[dict], str | None]:
    """What is kept equal, of a prepared checkpoint: its root file system, the mounts that move, and its log if wanted.

    :returns: the trees of files, and the file of the log or None.
    """
    manifest = _manifest.load(path)
    if not manifest.get("prepared"):
        raise StepFailed(f"{path} is no prepared checkpoint")
    inspect = _manifest.inspected(path, "nothing was sent")
    snapshot = os.path.join(path, _snapshot.SNAPSHOT)
    trees = [{"place": "", "snapshot": snapshot}] if os.path.exists(snapshot) else []
    sources = mounts.sources(inspect)
    trees += [{"place": place, "root": sources[place]} for place in manifest.get("mounts", {})]
    return trees, container_log.path_of(inspect) if log else None


def _ask(channel: str, wish: dict) -> dict:
    """What the source's end of a live migration answers."""
    try:
        answer = source.ask(channel, wish)
    except (OSError, ValueError) as exc:
        raise StepFailed(f"the source's end of the channel does not answer ({exc})") from exc
    if "error" in answer:
        raise StepFailed(answer["error"])
    return answer["result"]


def progress(_params: dict, orders: dict, _check_mode: bool) -> dict:
    """How far pre-copy is; as soon as it has ended, or after a moment."""
    deadline = time.monotonic() + PROGRESS_SECONDS
    while True:
        told = _ask(orders["channel"], {"do": "progress"})
        if told["ended"] or time.monotonic() > deadline:
            return {"progress": told}
        time.sleep(0.1)
