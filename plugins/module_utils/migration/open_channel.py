# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that open the channel of a live migration, each on one of its two hosts, and how far pre-copy is.

Every step takes the options of the task (I(params)) and what the controller adds for this step (I(step_options)).

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import time

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.docker import mounts
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.filesystem import container_log
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot as _snapshot
from ansible_collections.fog.migration.plugins.module_utils.migration import memory_staging, transfer_steps
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import (
    destination,
    settings,
    source,
    source_requests,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.precopy import Limits
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import (
    SourceSettings,
    SshTarget,
    TreeSettings,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.transfer_steps import StepFailed
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, program_socket
from ansible_collections.fog.migration.plugins.module_utils.transport import staging, transfer

# Seconds for the channel to be open, and between two answers about pre-copy.
OPEN_SECONDS = 30
PROGRESS_SECONDS = 2


def open_destination(params: dict, step_options: dict, check_mode: bool) -> dict:
    """Staging at the destination, its end of the migration, and the line that admits the source."""
    facts = transfer_steps.look_at_destination(step_options)
    if check_mode or facts["sudo_problem"]:
        return facts
    directory = transfer_steps.make_directory(params, step_options, "destination", facts["user"])
    facts["directory"] = directory
    live = params["live"]
    room = transfer.room_there(live["mode"], live["memory"], live["shared"])
    facts["staging"] = _make_staging(directory, params, room)
    program = _install_destination(directory, params, step_options, room)
    return transfer_steps.admit_source(params, step_options, facts, program)


def _install_destination(directory: str, params: dict, step_options: dict, room: tuple[int, int]) -> list[str]:
    """What the source's key may run; the words of its command.

    :param room: see C(_make_staging).
    """
    live = params["live"]
    own = settings.for_destination(
        directory,
        params["migration"],
        live["restore_timeout"],
        params["timeout"],
        container=live["armed"],
        docker_socket=live["docker_socket"],
        host=step_options["host"],
        together=live["together"],
        mounts=[mounts.Ordered(place) for place in live["mounts"]],
        log=live["log"],
        room=staging.size_for(room[0]),
    )
    return deploy.install(directory, own.to_json(), deploy.name_of(destination))


def _make_staging(directory: str, params: dict, room: tuple[int, int]) -> dict:
    """Room for the memory on its way.

    :param room: how many bytes of memory it can hold, and how many it will.
    """
    live = params["live"]
    return memory_staging.make(directory, params["migration"], live["staging_directory"], room, live["staging_limit"])


def open_channel(params: dict, step_options: dict, _check_mode: bool) -> dict:
    """Starts the source's end of a live migration, which holds the channel open behind this task."""
    directory, live = step_options["directory"], params["live"]
    key = os.path.join(directory, "key")
    hosts_file = transfer_steps.write_known_hosts(directory, step_options["host_keys"])
    ssh = SshTarget(key, hosts_file, step_options["user"], step_options["address"], step_options["port"])
    room = transfer.room_here(live["mode"], live["lazily"], live["memory"], live["shared"])
    made = _make_staging(directory, params, room)
    channel = _start_source(directory, _source_settings(directory, params, ssh))
    # It has done what it was for.
    for path in (key, key + ".pub"):
        os.unlink(path)
    if transfer.copies_beforehand(live["mode"], live["shared"], live["mounts"], live["log"]):
        memory = {
            "memory": transfer.copies_memory(live["mode"], live["shared"]),
            "only_shared": transfer.copies_only_shared(live["mode"]),
        }
        limits = Limits.from_options(live["max_rounds"], live["threshold"], live["shrink"])
        _ask(channel, {"do": "copy", **memory, "limits": limits._asdict()})
    return {"channel": channel, "staging": made}


def _source_settings(directory: str, params: dict, ssh: SshTarget) -> SourceSettings:
    live = params["live"]
    trees, log = prepared_files(params["path"], live["log"])
    return settings.for_source(
        directory,
        params["migration"],
        params["compression"],
        params["rate_limit"],
        params["timeout"],
        container=live["container"],
        docker_socket=live["docker_socket"],
        together=live["together"],
        lazy_pages=live["lazily"],
        trees=trees,
        log=log,
        ssh=ssh,
    )


def _start_source(directory: str, own: SourceSettings) -> str:
    """Starts the source's end; its socket, once the channel is open."""
    log, channel = os.path.join(directory, "log"), os.path.join(directory, source_requests.SOCKET)
    program = deploy.spawn(deploy.install(directory, own.to_json(), deploy.name_of(source)), log)
    try:
        program_socket.wait_for(channel, log, OPEN_SECONDS, lambda: program.poll() is None)
    except program_socket.NotListening as exc:
        program.kill()
        raise StepFailed(f"the channel could not be opened ({exc})") from exc
    return channel


def prepared_files(path: str, log: bool) -> tuple[list[TreeSettings], str | None]:
    """What is kept equal, of a prepared checkpoint: its root file system, the mounts that move, and its log if wanted.

    :returns: the trees of files, and the file of the log or None.
    """
    manifest = _manifest.load(path)
    if not manifest.prepared:
        raise StepFailed(f"{path} is no prepared checkpoint")
    inspect = _manifest.inspected(path, "nothing was sent")
    snapshot = os.path.join(path, _snapshot.SNAPSHOT)
    trees = [TreeSettings("", snapshot=snapshot)] if os.path.exists(snapshot) else []
    there = {one["destination"]: one for one in mounts.of_container(inspect)}
    trees += [
        TreeSettings(place, there[place]["source"], is_bind=there[place]["type"] == "bind")
        for place in manifest.mounts or {}
    ]
    return trees, container_log.path_of(inspect) if log else None


def _ask(channel: str, request: dict) -> dict:
    """The result of one request to the source's end of a live migration."""
    try:
        return source_requests.ask(channel, request)
    except MigrationError as exc:
        raise StepFailed(exc.what) from exc


def progress(_params: dict, step_options: dict, _check_mode: bool) -> dict:
    """How far pre-copy is; as soon as it has ended, or after a moment."""
    deadline = time.monotonic() + PROGRESS_SECONDS
    while True:
        now = _ask(step_options["channel"], {"do": "progress"})
        if now["ended"] or time.monotonic() > deadline:
            return {"progress": now}
        time.sleep(0.1)
