# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for CRIU's own processes in the control groups of a container that it restores.

The OCI runtime puts CRIU into the container's control groups, where it counts for the limit of processes
(C(--pids-limit)) as well as what it restores. So that limit is higher until all of it is restored; before the container
runs, it is what it was. What the runtime has written down of it is put right when the container runs: it would come
back with the next C(docker update) otherwise.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import subprocess

from ansible_collections.fog.migration.plugins.module_utils.docker import runc

# CRIU has some helpers, and one for each thing that it does in another namespace.
ROOM = 64
# Seconds for the runtime to write down a limit.
LIMIT = 30


def of(config: dict) -> int:
    """The limit of processes in an OCI configuration; 0 for none."""
    pids = ((config.get("linux") or {}).get("resources") or {}).get("pids") or {}
    limit = pids.get("limit") or 0
    return limit if isinstance(limit, int) and limit > 0 else 0


def widened(config: dict) -> dict:
    """The OCI configuration with room for CRIU; as it was, where it has no limit."""
    limit = of(config)
    if not limit:
        return config
    resources = dict(config["linux"]["resources"], pids={"limit": limit + ROOM})
    return dict(config, linux=dict(config["linux"], resources=resources))


def put_back(container: str, limit: int) -> None:
    """The container has its own limit again. What runs already goes on, though it may be more.

    :raises FreezeError: when no runtime knows it.
    :raises OSError: when the kernel does not take it.
    """
    if limit:
        groups = runc.control_groups(container)
        with open(os.path.join(groups.get("pids") or groups[""], "pids.max"), "w", encoding="ascii") as stream:
            stream.write(str(limit))


def settle(container: str, limit: int) -> None:
    """The same, and what the OCI runtime has written down of it is put right; for a container that runs."""
    if limit > 0:
        with contextlib.suppress(OSError, subprocess.SubprocessError, runc.FreezeError):
            put_back(container, limit)
            root = runc.runtime_root(container)
            words = [runc.runc_program(), "--root", root, "update", "--pids-limit", str(limit), container]
            subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False)
