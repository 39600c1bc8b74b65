# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One look at the processes of a container that runs: what of theirs CRIU cannot dump, and which of them it is.

It reads what C(/proc) has and changes nothing. What counts is in C(criu/undumpable.py).

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.criu import undumpable
from ansible_collections.fog.migration.plugins.module_utils.criu.undumpable import Hindrance
from ansible_collections.fog.migration.plugins.module_utils.filesystem import overlay, watches
from ansible_collections.fog.migration.plugins.module_utils.memory import process_memory
from ansible_collections.fog.migration.plugins.module_utils.network import sockets
from ansible_collections.fog.migration.plugins.module_utils.runtime import room_for_files
from ansible_collections.fog.migration.plugins.module_utils.system import descriptors, procfs

# What kcmp(2) compares.
_MEMORY, _FILES, _FOLDER = 1, 2, 3
_KINDS = ("mnt", "net", "uts", "ipc", "pid", "user", "cgroup", "time", "time_for_children")
_OF_THREADS = ("mnt", "net", "uts", "ipc", "cgroup")
# What is told of one container, at the most.
_MOST = 20


class Found(NamedTuple):
    """A process, by its PID in its container and its name, and what is wrong with it."""

    process: int
    program: str
    hindrance: Hindrance

    def facts(self) -> dict[str, Any]:
        """The same for JSON."""
        return {"process": self.process, "program": self.program, **self.hindrance._asdict()}


class Look:
    """A look at some processes at a time.

    :param processes: those that move, of one container.
    :param first: its first one.
    :param through_runtime: whether it is dumped through our OCI runtime, which tells CRIU more than Docker does.
    """

    def __init__(self, processes: Collection[int], first: int, through_runtime: bool = True) -> None:
        self._through_runtime = through_runtime
        self._processes = sorted(processes)
        self._namespaces = {one: namespaces(f"/proc/{one}") for one in self._processes}
        self._of_first = self._namespaces.get(first, {})
        root = overlay.of(first)
        watched = watches.of(self._processes, root)
        numbers = {one.number for one in watched} if through_runtime else set()
        found = watches.places(root, numbers) if root and numbers else {}
        self._lost = {one.process for one in watched if one.number not in found}
        self._known = {link for links in self._namespaces.values() for link in links.values()}

    def found(self) -> list[dict[str, Any]]:
        """What CRIU cannot dump, of each process what is wrong with it first."""
        told = []
        for process in self._processes:
            # Which ends meanwhile does not move.
            with contextlib.suppress(OSError):
                hindrances = dict.fromkeys(self._of(process))
                inner = process_memory.innermost(procfs.read(f"/proc/{process}/status"))
                told += [Found(inner, procfs.program(process), one).facts() for one in hindrances]
        return told[:_MOST]

    def _of(self, process: int) -> Iterator[Hindrance]:
        status = procfs.status(process)
        tracer = int(status.get("TracerPid", 0))
        yield from undumpable.of_status(status, (procfs.program(tracer) or "a program") if tracer else "")
        yield from undumpable.of_namespaces(self._namespaces[process], self._of_first)
        if int(status.get("PPid", 0)) in self._processes and descriptors.is_same(process, int(status["PPid"]), _MEMORY):
            yield Hindrance("shares its memory with its parent (vfork)", "try again when that is done")
        full = room_for_files.is_full(process, is_raised=self._through_runtime)
        if full:
            yield Hindrance(room_for_files.problem(full), "give it a higher hard limit (--ulimit nofile=SOFT:HARD)")
        if process in self._lost:
            yield undumpable.LOST_WATCH if self._through_runtime else undumpable.WATCH
        yield from self._of_descriptors(process)
        yield from of_maps(process)
        yield from self._of_threads(process)

    def _of_descriptors(self, process: int) -> Iterator[Hindrance]:
        mounts = mounts_of(process)
        for path, link in sockets.descriptors_of(process).items():
            problem = of_path(path, link) or undumpable.of_namespace_file(link, self._known)
            problem = problem or of_place(path, link, mounts)
            if link.startswith(("anon_inode:[pidfd]", "pidfd:[")):
                information = procfs.read(path.replace("/fd/", "/fdinfo/"))
                flags = undumpable.open_flags(information)
                problem = undumpable.of_pidfd(information, self._processes, flags)
            if problem:
                yield problem

    def _of_threads(self, process: int) -> Iterator[Hindrance]:
        own = {kind: link for kind, link in self._namespaces[process].items() if kind in _OF_THREADS}
        for name in os.listdir(f"/proc/{process}/task"):
            thread = int(name)
            if thread == process:
                continue
            shares = [descriptors.is_same(process, thread, kind) is not False for kind in (_FILES, _FOLDER)]
            of_it = namespaces(f"/proc/{process}/task/{thread}", _OF_THREADS)
            yield from undumpable.of_thread(shares[0], shares[1], of_it, own)


def of_path(path: str, link: str) -> Hindrance | None:
    """What is wrong with what a descriptor leads to.

    :param path: itself, in C(/proc/PID/fd).
    :param link: where it leads to, as C(/proc) names it.
    """
    if link.startswith("socket:"):
        return undumpable.of_protocol(sockets.protocol_of(path))
    problem = undumpable.of_link(link)
    if problem or not link.startswith("/dev/"):
        return problem
    with contextlib.suppress(OSError):
        status = os.stat(path)
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if stat.S_ISCHR(status.st_mode):
            return undumpable.of_character_device(major, minor, link)
        if stat.S_ISBLK(status.st_mode):
            return Hindrance(f"has the disk {link} open", "have it close that first")
    return None


def mounts_of(process: int) -> set[str]:
    """The numbers of the mounts that a process has; none where it has ended."""
    return {line.partition(" ")[0] for line in procfs.read(f"/proc/{process}/mountinfo").splitlines()}


def of_place(path: str, link: str, mounts: Collection[str]) -> Hindrance | None:
    """What is wrong with a file that is open, by the mount that it is on.

    :param path: itself, in C(/proc/PID/fd).
    :param link: where it leads to, as C(/proc) names it.
    :param mounts: those of the process.
    """
    if not undumpable.is_named(link):
        return None
    mount = procfs.fields(procfs.read(path.replace("/fd/", "/fdinfo/"))).get("mnt_id", "")
    # Nothing is told of one that was closed or has ended meanwhile.
    return undumpable.of_server(link) if mounts and mount and mount not in mounts else None


def of_maps(process: int) -> Iterator[Hindrance]:
    """What is wrong with the memory of a process."""
    maps = procfs.read(f"/proc/{process}/maps")
    yield from undumpable.of_maps(maps)
    if f" {undumpable.SECRET_MEMORY}" in maps:
        yield from filter(None, [undumpable.of_link(undumpable.SECRET_MEMORY)])
    code = procfs.first_code(maps)
    if code is not None and undumpable.is_read_only_code(code[1]):
        yield undumpable.READ_ONLY_CODE
    for name, mapping in undumpable.mapped_devices(maps).items():
        with contextlib.suppress(OSError):
            status = os.stat(f"/proc/{process}/map_files/{mapping}")
            if stat.S_ISCHR(status.st_mode):
                numbers = os.major(status.st_rdev), os.minor(status.st_rdev)
                yield from filter(None, [undumpable.of_mapped_device(*numbers, name)])


def namespaces(folder: str, kinds: Iterable[str] = _KINDS) -> dict[str, str]:
    """Where the links of a process' or a thread's namespaces lead to, by kind; none that the kernel does not have.

    :param folder: of the process or the thread, in C(/proc).
    """
    found = {}
    for kind in kinds:
        with contextlib.suppress(OSError):
            found[kind] = os.readlink(f"{folder}/ns/{kind}")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# In words, of what server_info tells. Pure functions.

_SHOWN = 4


def problem(found: list[dict[str, Any]]) -> str:
    """What CRIU cannot take along, a clause; empty where there is nothing."""
    if not found:
        return ""
    told = [f"{one['program']} (PID {one['process']} in it) {one['what']}" for one in found[:_SHOWN]]
    more = [f"{len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return f"CRIU cannot take along what is in it: {'; '.join(told + more)}"


def remedy(found: list[dict[str, Any]]) -> str:
    """What to do about it."""
    return "; ".join(dict.fromkeys(filter(None, (one["remedy"] for one in found)))) or "run what it does without that"
