# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an agent does when it is asked.

Requests about the migrations of a run name them by C(migrations), and are answered for each one by itself: an object
by the ID of the migration, with C(result), or with C(failure) where that one failed. What one of them does concerns no
other one, unless they move together.

The requests of a live migration, in their order:

==========  ====================  ==================================================================================
stage       at                    requests
==========  ====================  ==================================================================================
1           source, destination   reserve: the journal, networks, room for the memory, the key of the run
1           source                arm: the one SSH connection, the channels; the containers are made there
2           source                copy, then progress
3           source                switch_over: armed there, frozen here, handed over
4           destination, source   verify, then commit
5           source, destination   finish
==========  ====================  ==================================================================================

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import time
from typing import Any, Callable, Dict

from ansible_collections.fog.migration.plugins.module_utils.agent import processes
from ansible_collections.fog.migration.plugins.module_utils.agent.steps import Steps
from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError, MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, limits
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access

# Seconds until an agent that was asked to stop has ended.
STOP_LIMIT = 5

Answer = Dict[str, Any]
Work = Callable[[str, Dict[str, Any], Steps], Any]


def answer(folder: str, request: dict[str, Any], steps: Steps) -> Answer:
    """The answer to one request: C(result) or C(failure).

    :param folder: the agent's.
    """
    name, arguments = str(request.get("operation")), request.get("arguments") or {}
    work = OPERATIONS.get(name)
    if work is None:
        return {"failure": {"msg": f"the agent knows no operation {name}"}}
    try:
        with steps.step("", name):
            return {"result": work(folder, arguments, steps)}
    except MigrationError as exc:
        return {"failure": dict(exc.details, msg=exc.what, state_now=exc.state, remedy=exc.remedy)}
    except limits.NO_MEMORY as exc:
        return {"failure": {"msg": limits.out_of_memory(exc)}}
    except Exception as exc:
        return {"failure": {"msg": f"{type(exc).__name__}: {exc}"}}


def attach(folder: str, identity: str, descriptors: list[int], connection: socket.socket) -> None:
    """Serves the channel of a migration; I(connection) gets the reason when that fails."""
    if len(descriptors) != 2:
        connection.sendall(b"a channel is attached with two descriptors\n")
        return
    from ansible_collections.fog.migration.plugins.module_utils.agent import run_destination

    try:
        run_destination.serve(folder, identity, *descriptors)
    except (CollectionError, OSError) as exc:
        reason = f"{exc}\n"
        try:
            connection.sendall(reason.encode("utf-8", "replace"))
        except OSError:
            # Nobody is at the other side any more: it is in the agent's own log.
            sys.stderr.write(reason)


def end(folder: str, seconds: float) -> None:
    """Ends the agent of this folder, and removes what one leaves that is killed meanwhile.

    :param seconds: after which this returns, whether it has ended or not.
    """
    deploy.stop(folder)
    deadline = time.monotonic() + seconds
    while deploy.running(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    if not deploy.running(folder):
        remove(folder)


def remove(folder: str) -> None:
    """Leaves nothing of an agent: its connections, the key of its run and its folder go."""
    _close(folder)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(folder))


def remove_unused(folder: str) -> bool:
    """Removes what is left of a killed agent, unless a migration of its run is open: then it is recovery's."""
    if processes.has_work(folder):
        return False
    remove(folder)
    return True


def _close(folder: str) -> None:
    """Nothing of it can be used any more."""
    ssh_access.close_connections(folder)
    if os.path.exists(os.path.join(folder, processes.ADMITTED)):
        from ansible_collections.fog.migration.plugins.module_utils.agent import run_destination

        with contextlib.suppress(ssh_access.SshAccessError, OSError):
            run_destination.revoke(folder)


def _stop(folder: str, arguments: dict[str, Any], steps: Steps) -> Answer:
    steps.close(keep=bool(arguments.get("keep_log")))
    end(folder, STOP_LIMIT)
    return {"log": steps.path}


def _ping(_folder: str, _arguments: dict[str, Any], _steps: Steps) -> Answer:
    return {"pid": os.getppid()}


def _module(_folder: str, arguments: dict[str, Any], _steps: Steps) -> Answer:
    """Runs one of the collection's modules in the agent."""
    from ansible_collections.fog.migration.plugins.module_utils.agent import operations

    return operations.run(arguments["name"], arguments["params"], bool(arguments.get("check_mode")))


def warm_up() -> None:
    """Imports what the migrations need, so that the processes that do their work have it already."""
    from ansible_collections.fog.migration.plugins.module_utils.agent import run_destination, run_source

    del run_destination, run_source


def _source(name: str) -> Work:
    """What the source does; it is imported when it is asked for: looking at a server needs none of it."""

    def work(folder: str, arguments: dict[str, Any], steps: Steps) -> Any:
        from ansible_collections.fog.migration.plugins.module_utils.agent import run_source

        return getattr(run_source, name)(folder, arguments, steps)

    return work


def _destination(name: str) -> Work:
    """What the destination does."""

    def work(folder: str, arguments: dict[str, Any], steps: Steps) -> Any:
        from ansible_collections.fog.migration.plugins.module_utils.agent import run_destination

        return getattr(run_destination, name)(folder, arguments, steps)

    return work


OPERATIONS: dict[str, Work] = {
    "ping": _ping,
    "module": _module,
    "stop": _stop,
    "reserve_source": _source("reserve"),
    "reserve_destination": _destination("reserve"),
    "arm": _source("arm"),
    "copy": _source("copy"),
    "progress": _source("progress"),
    "switch_over": _source("switch_over"),
    "verify": _destination("verify"),
    "commit": _source("commit"),
    "finish": _source("finish"),
}
