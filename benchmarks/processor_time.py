# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much processor time a command takes: with all processes that it starts, and on the nodes of the lab."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath


def usage_file(groups: str, mounts: str, container: str) -> Path:
    """Where the kernel tells the processor time of a container with all in it.

    :param groups: C(/proc/PID/cgroup) of its first process, which may be in a group below that of the container.
    :param mounts: C(/proc/mounts).
    :param container: its whole ID, which is in the name of its group.
    :raises ValueError: when there is no such group, or where it is cannot be told.
    """
    paths = {kinds: path for _number, kinds, path in (line.split(":", 2) for line in groups.splitlines())}
    version_1 = next((kinds for kinds in paths if "cpuacct" in kinds.split(",")), None)
    path = PurePosixPath(paths.get(version_1 or "", "/"))
    group = next((one for one in (path, *path.parents) if container in one.name), None)
    if group is None:
        raise ValueError(f"the container {container[:12]} has no control group of its own: {path}")
    for _device, where, kind, options, *_rest in (line.split() for line in mounts.splitlines()):
        if kind == "cgroup" and version_1 and "cpuacct" in options.split(","):
            return Path(where, group.relative_to("/"), "cpuacct.usage")
        if kind == "cgroup2" and not version_1:
            return Path(where, group.relative_to("/"), "cpu.stat")
    raise ValueError("the control groups for processor time are not mounted")


def used(file: Path, text: str) -> float:
    """The seconds that such a file tells."""
    if file.name == "cpuacct.usage":
        return int(text) / 1e9
    return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6


class NodeTime:
    """The processor time of containers of this machine, read from outside, which costs them nothing."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self.files = [self._file(node) for node in nodes]

    @staticmethod
    def _file(node: str) -> Path:
        words = ["docker", "inspect", "--format", "{{.State.Pid}} {{.Id}}", node]
        pid, container = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
        mounts = Path("/proc/mounts").read_text(encoding="utf-8")
        return usage_file(Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8"), mounts, container)

    def seconds(self) -> float:
        """Of all together, so far."""
        return sum(used(file, file.read_text(encoding="ascii")) for file in self.files)


def parent_of(stat: str) -> int:
    """The parent in C(/proc/PID/stat), where the name may hold anything."""
    return int(stat.rpartition(")")[2].split()[1])


def children() -> list[int]:
    """The child processes of this one."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if parent_of(file.read_text(encoding="utf-8", errors="replace")) == os.getpid():
                found.append(int(file.parent.name))
    return found


def adopt_orphans() -> None:
    """What commands leave behind becomes a child of this process, which can end it and see what it has used."""
    pr_set_child_subreaper = 36
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(pr_set_child_subreaper, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot adopt what commands leave behind")


def end_orphans() -> None:
    """Ends what a command has left behind: SSH's connections, which would stay open for the next one."""
    for pid in children():
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 5
    while left := children():
        for pid in left:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)


def children_used() -> float:
    """Processor seconds of all processes that this one has started, and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
