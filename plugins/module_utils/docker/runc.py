# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker's OCI runtime knows of a container: its processes, its control groups, and whether they are frozen.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import time

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# Where Docker's runtimes keep what they know of a container: 26 and others with containerd's shim, 17.09.
RUNTIME_ROOTS = ("/run/docker/runtime-*/moby", "/run/docker/runtime-*", "/run/runc", "/run/containerd/runc/moby")

# A program that is an OCI runtime, by its name: "runc", "docker-runc", "runc_cloned" in memory, "fog-runc", and what
# runs one of them in its place.
_RUNTIME = re.compile(r"(?<![a-z])(?:runc|runsc|crun|youki|runtime)(?![a-z])")
# What runs a runtime that is a script, such as fog-runc.
_INTERPRETER = re.compile(r"(?:ba|da|a|k|z)?sh|busybox|python[0-9.]*|perl[0-9.]*")

# What CRIU's processes are called, and the seconds that one gets to let go of a container when its runtime was killed.
CRIU, CRIU_LIMIT = "criu", 60
# Seconds for what was killed to end.
KILL_LIMIT = 5
# The annotation of a container that names CRIU's configuration for it (handleCriuConfigurationFile in runc's
# libcontainer/criu_linux.go).
CRIU_CONFIGURATION = "org.criu.config"


class FreezeError(CollectionError):
    """It could not be frozen. The text is a clause; the container runs on."""


def runc_program() -> str:
    """The runc that Docker uses here."""
    return shutil.which("docker-runc") or shutil.which("runc") or "runc"


def runtime_root(container: str) -> str:
    """The folder in which runc knows this container.

    :raises FreezeError: when no runtime knows it.
    """
    for pattern in RUNTIME_ROOTS:
        for root in glob.glob(pattern):
            if os.path.exists(os.path.join(root, container, "state.json")):
                return root
    raise FreezeError("no OCI runtime knows it")


def runtime_state(container: str) -> dict:
    """What runc has written down of a container.

    :raises FreezeError: when no runtime knows it.
    """
    with open(os.path.join(runtime_root(container), container, "state.json"), encoding="utf-8") as stream:
        return json.load(stream)


def control_groups(container: str) -> dict[str, str]:
    """The folders of a container's control groups: by controller, or that of all of them by an empty name.

    :raises FreezeError: when no runtime knows it.
    """
    return runtime_state(container)["cgroup_paths"]


def first_process(container: str) -> tuple[int, int]:
    """The PID of the process that a container began with, and the time at which that was, as the kernel counts it.

    :raises FreezeError: when no runtime knows it.
    """
    state = runtime_state(container)
    return state["init_process_pid"], int(state["init_process_start"])


def freezer(container: str) -> tuple[str, str]:
    """The file that freezes the control group of a container, and what is in it then."""
    paths = control_groups(container)
    if "freezer" in paths:
        return os.path.join(paths["freezer"], "freezer.state"), "FROZEN"
    return os.path.join(paths[""], "cgroup.freeze"), "1"


def processes(container: str) -> list[int]:
    """The PIDs of a container, also of those in control groups below its own."""
    paths = control_groups(container)
    return sorted(_in_group(paths.get("") or paths["freezer"]))


# Of control groups of version 1, those that say what a process may use. Those of version 2 are one, without a name.
_LIMITING = ("", "devices", "freezer", "memory", "pids")


def grouped(container: str) -> list[set[int]]:
    """The PIDs in each of a container's control groups that says what they may use, and in those below it.

    :raises FreezeError: when no runtime knows it.
    """
    paths = control_groups(container)
    return [set(_in_group(paths[name])) for name in _LIMITING if paths.get(name)]


def _in_group(path: str) -> list[int]:
    found = []
    for folder, _folders, _names in os.walk(path):
        with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as stream:
            found += [int(line) for line in stream]
    return found


def memory_group(container: str, process: int) -> str:
    """The folder of the control group to which the memory of a process of a container is charged; empty for none."""
    paths = control_groups(container)
    top = paths.get("memory") or paths.get("", "")
    for folder, _folders, _names in os.walk(top):
        if str(process) in procfs.read(os.path.join(folder, "cgroup.procs")).split():
            return folder
    return top


def moving(container: str) -> list[int]:
    """The PIDs of a container that CRIU takes along: its first process and those that descend from it.

    What C(docker exec) or a health check has started does not, and ends when the container is removed here.
    """
    parents = procfs.parents(processes(container))
    return sorted(procfs.descendants(parents, first_process(container)[0]))


def keep_frozen(container: str) -> None:
    """Freezes the control group of a container that Docker has paused, again.

    CRIU thaws it while it keeps the processes from running itself, and freezes it at its end, but not when it is
    killed: the container would run here as well as at the destination then.
    """
    place, frozen = freezer(container)
    with open(place, "w", encoding="ascii") as stream:
        stream.write(frozen)


def is_frozen(container: str) -> bool:
    """Whether the control group of a container is frozen, or about to be.

    :raises FreezeError: when no runtime knows it.
    """
    place, frozen = freezer(container)
    with open(place, encoding="ascii") as stream:
        return stream.read().strip() in (frozen, "FREEZING")


def thaw(container: str) -> None:
    """Thaws the control group of a container that Docker does not take for paused."""
    place, frozen = freezer(container)
    with open(place, "w", encoding="ascii") as stream:
        stream.write("THAWED" if frozen == "FROZEN" else "0")


def kill(container: str) -> None:
    """Kills all processes of a container. One that is frozen ends when it is thawed, without running any more.

    :raises FreezeError: when no runtime knows it.
    """
    for process in processes(container):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def at_work(container: str) -> bool:
    """Whether the OCI runtime is just dumping or restoring this container, or CRIU without a runtime that has died."""
    return bool(_runtimes(container, "checkpoint", "restore")) or bool(held_by_criu(container))


def _runtimes(container: str, *verbs: str) -> list[int]:
    """The OCI runtimes of this server that do one of these things with a container.

    Anybody can start a program with such words, which tells nothing unless the program is a runtime of root's, and not
    in a container. Who cannot be told from one counts as one: nobody may disturb it.
    """
    found = []
    for process in procfs.all_processes():
        words = procfs.command_line(process)
        if container in words and any(verb in words for verb in verbs) and _is_runtime(process, words):
            found.append(process)
    return found


def _is_runtime(process: int, words: list[str]) -> bool:
    """Whether this process of these words is an OCI runtime of this server's."""
    if not procfs.is_of_server(process):
        return False
    program = procfs.executable(process)
    return program is None or names_runtime(program, words) or _is_same_file(f"/proc/{process}/exe", runc_program())


def names_runtime(program: str, words: list[str]) -> bool:
    """Whether a program is an OCI runtime, by its path (see C(procfs.executable)) and the words it was started with."""
    # runc may run from a copy in memory, whose name has slashes in it.
    name = program if program.startswith("/memfd:") else os.path.basename(program)
    if _INTERPRETER.fullmatch(name):
        name = os.path.basename(words[1]) if len(words) > 1 else ""
    return bool(_RUNTIME.search(name))


def _is_same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def held_by_criu(container: str) -> list[int]:
    """The processes of a container that CRIU holds, as it does while it dumps them; none where no runtime knows it.

    A container may trace its own processes, by a program of any name.
    """
    with contextlib.suppress(OSError, FreezeError):
        tracers = {one: procfs.tracer(one) for one in processes(container)}
        return [one for one, by in tracers.items() if procfs.program(by) == CRIU and procfs.is_of_server(by)]
    return []


def wait_for_criu(container: str) -> None:
    """Returns when CRIU has let go of a container, or has had its time for it.

    A CRIU whose runtime was killed goes on until it has something to tell it, and lets go of the processes then.
    """
    deadline = time.monotonic() + CRIU_LIMIT
    while held_by_criu(container) and time.monotonic() < deadline:
        time.sleep(0.01)


def restoring(container: str) -> set[int]:
    """The runtime that restores this container and everything below it: CRIU, and what it has restored so far."""
    found: set[int] = set()
    for runtime in _runtimes(container, "restore"):
        if runtime != os.getpid():
            found |= procfs.processes_below(runtime)
    return found


def dead_criu(container: str) -> set[int]:
    """Those of CRIU's processes in a restore of this container that have ended, which its runtime has not heard of yet.

    The processes that CRIU restores have its connection to the runtime open until they run. When CRIU alone is killed,
    they wait for it, and the runtime for them, for ever.
    """
    return {one for one in restoring(container) if procfs.program(one) == CRIU and procfs.started(one) is None}


def _is_free(process: int) -> bool:
    return not procfs.tracer(process)


def kill_restore(container: str) -> None:
    """Kills the runtime that restores this container, everything below it, and what runs in the container.

    What CRIU has restored is nobody's child any more when CRIU is killed late, and waits for it for ever. It is in the
    control groups of the container then. What is about to be restored may have a new process at any moment.

    What CRIU traces is killed before CRIU, with whose end it would go on.
    """
    deadline = time.monotonic() + KILL_LIMIT
    while True:
        found = restoring(container).union(procfs.in_groups_of(container))
        living = [process for process in sorted(found, key=_is_free) if procfs.started(process)]
        for process in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if not living or time.monotonic() > deadline:
            return
        time.sleep(0.01)
