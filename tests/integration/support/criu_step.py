# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU is killed at a step of a dump or a restore on a node: each time, and neither earlier nor later.

What tells how far CRIU is are the lines of its log. A C library that is preloaded into it (C(criu_step.c)) kills it as
soon as it has written one. CRIU's own faults (CRIU_FAULT) end it at one of these steps only, and the scripts that it
runs (action-script) come before it locks the network, not after.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
from pathlib import Path

# What CRIU from 3.16 to 4.2 writes right after it has come so far.
DUMP = {
    # It holds all processes. Their network is not locked yet.
    "frozen": "Lock network",
    # Their network is locked.
    "locked": "Dumping task (pid",
    # The connections of a process are in repair mode, and the process runs CRIU's code.
    "connections": "Dumping pages (type",
    # All is dumped, but nobody knows it.
    "written": "Running post-dump scripts",
    # The runtime knows it. Everything is locked still.
    "complete": "Unlock network",
    # The network and the connections are as they were. CRIU holds the processes still.
    "unlocked": "Unfreezing tasks into",
}
RESTORE = {
    "begun": "Wait until namespaces are created",
    # All is there. The connections are in repair mode still.
    "restored": "Unlock network",
    # CRIU holds all processes, and has not asked yet whether they may run.
    "held": "Running pre-resume scripts",
    # CRIU has let go of it, stopped, and the runtime does not know it.
    "resumed": "Restore finished successfully",
}
WRAPPER, LIBRARY = "/usr/local/sbin/criu", "/usr/local/lib/fog-criu-step.so"
REMOVE = f"rm -f {WRAPPER} {LIBRARY}"
_INSTALL = """
set -e
criu=$(command -v criu)
[ "$criu" != {wrapper} ]
base64 -d >{library}
cat >{wrapper} <<END
#!/bin/sh
FOG_CRIU_STEP='{text}' LD_PRELOAD={library} exec $criu "\\$@"
END
chmod 755 {wrapper}
"""


def compiler() -> str | None:
    """The C compiler of this machine, or None."""
    return shutil.which("cc") or shutil.which("gcc")


def install(lab, node: str, text: str) -> None:
    """From now on, each CRIU on this node ends when it has written this text, until C(REMOVE) has run there."""
    script = REMOVE + _INSTALL.format(wrapper=WRAPPER, library=LIBRARY, text=text)
    command = [*lab.exec_command(node), "sh", "-c", script]
    subprocess.run(command, input=base64.b64encode(_library()), capture_output=True, check=True)


_DUMP = """
state=$(ls /run/docker/runtime-*/moby/{container}/state.json)
folder=$(mktemp -d)
runc --root "${{state%/{container}/*}}" checkpoint --image-path "$folder" --work-path "$folder" --tcp-established \\
    --ext-unix-sk --file-locks --leave-running {container} && echo dumped
rm -rf "$folder"
"""


def kill_in_dump(lab, node: str, container: str, step: str) -> None:
    """Has the runtime dump a container, without any program of ours, and CRIU die at a step of that."""
    install(lab, node, DUMP[step])
    try:
        said = lab.sh(node, _DUMP.format(container=lab.inspect(node, container)["Id"]))
    finally:
        lab.sh(node, REMOVE)
    assert "dumped" not in said


def _library() -> bytes:
    """The library, compiled."""
    source = Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "criu_step.so")
        command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source)]
        subprocess.run(command, capture_output=True, check=True)
        return made.read_bytes()
