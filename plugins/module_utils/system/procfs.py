# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes of this host, as C(/proc) shows them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from collections.abc import Iterable


def read(path: str) -> str:
    """The text of one of the kernel's files, empty where there is none.

    The names in it are anybody's, of which the kernel changes nothing but the ends of lines: these alone end one.
    """
    try:
        with open(path, encoding="utf-8", errors="replace", newline="\n") as stream:
            return stream.read()
    except OSError:
        return ""


def boot() -> str:
    """What tells this run of the server from the one before: the kernel's own name for it, and its first process."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        kernel = stream.read().strip()
    # A server may be a container, whose kernel runs on when it starts anew.
    with open("/proc/1/stat", encoding="utf-8", errors="replace") as stream:
        started = stream.read().rpartition(")")[2].split()[19]
    return f"{kernel}:{started}"


def status(process: int) -> dict[str, str]:
    """The fields of C(/proc/PID/status), none when the process has ended."""
    return fields(read(f"/proc/{process}/status"))


def fields(text: str) -> dict[str, str]:
    """The fields in the text of C(/proc/PID/status), or of C(/proc/PID/task/TID/status)."""
    lines = (line.partition(":") for line in text.split("\n"))
    return {key: value.strip() for key, _colon, value in lines}


def kibibytes(status: dict[str, str], key: str) -> int:
    """A number of kB in the status of a process; 0 where the kernel does not tell it."""
    return int(status.get(key, "0 kB").split()[0])


def started(process: int) -> int | None:
    """When a process began, in the kernel's clock ticks since its start; with the PID, it names one process.

    None when there is no such process that runs.
    """
    fields = read(f"/proc/{process}/stat").rpartition(")")[2].split()
    return int(fields[19]) if fields and fields[0] not in "ZX" else None


def all_processes() -> list[int]:
    """The processes of this host."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parents(processes: Iterable[int]) -> dict[int, int]:
    """The parent of each of these processes, 0 for those that have ended."""
    return {process: int(status(process).get("PPid", 0)) for process in processes}


def descendants(parents: dict[int, int], root: int) -> set[int]:
    """I(root) and every process below it, from a map of process to parent process."""
    found, fresh = set(), {root}
    while fresh:
        found |= fresh
        fresh = {process for process, parent in parents.items() if parent in fresh} - found
    return found


def processes_below(root: int) -> set[int]:
    """I(root) and all processes that descend from it, now."""
    return descendants(parents(all_processes()), root)


_CODE = re.compile(r"([0-9a-f]+)-[0-9a-f]+ (..x.) ")


def first_code(maps: str) -> tuple[int, str] | None:
    """Address and rights of the first code in C(/proc/PID/maps), if there is any.

    There, CRIU puts its first instruction into a process, for the moment in which it is executed, and that both before
    its dump and after it (C(get_exec_start) in criu/parasite-syscall.c, C(compel_execute_syscall) in compel).
    """
    found = next(filter(None, map(_CODE.match, maps.split("\n"))), None)
    return (int(found.group(1), 16), found.group(2)) if found else None


def in_groups_of(container: str) -> list[int]:
    """The processes in control groups that are named for a container, by its full ID, or in groups below these."""
    return [process for process in all_processes() if is_in_groups_of(container, read(f"/proc/{process}/cgroup"))]


def is_in_groups_of(container: str, groups: str) -> bool:
    """Whether a control group in the text of C(/proc/PID/cgroup) is a container's, or below it.

    One is called as the container itself, or C(docker-ID.scope) where systemd makes it. Part of another name is none.
    """
    # Of nearly all processes, the first look says that it is not.
    if container not in groups:
        return False
    its = re.compile(rf"(?:\w+-)?{re.escape(container)}(?:\.scope)?")
    return any(its.fullmatch(name) for line in groups.split("\n") for name in line.split(":", 2)[-1].split("/"))


_DELETED_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ [0-9a-f]+ (\S+ [1-9]\d*) +(/.* \(deleted\))$")


def deleted_mappings(text: str) -> dict[str, str]:
    """The files without a name in C(/proc/PID/maps): what their names were, by a mapping in C(/proc/PID/map_files).

    Each is there once.
    """
    matches = filter(None, map(_DELETED_MAPPING.match, text.split("\n")))
    found = {match.group(3): (map_file(match.group(1), match.group(2)), match.group(4)) for match in matches}
    return dict(found.values())


def map_file(begin: str, end: str) -> str:
    """What a mapping is called in C(/proc/PID/map_files), by its ends as C(/proc/PID/maps) has them, with zeros."""
    return f"{int(begin, 16):x}-{int(end, 16):x}"


def command_line(process: int) -> list[str]:
    """The words with which a process was started."""
    return read(f"/proc/{process}/cmdline").split("\0")[:-1]


def program(process: int) -> str:
    """The name of a process, at most 15 characters. It may give itself any."""
    return read(f"/proc/{process}/comm").rstrip("\n")


def executable(process: int) -> str | None:
    """The path of the program that a process runs, also of one that was deleted; None where the kernel does not tell.

    Of one in memory it is what this was called, as in C(/memfd:runc_cloned:/proc/self/exe).
    """
    found = _link(f"/proc/{process}/exe")
    return found.partition(" (deleted)")[0] if found else None


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


# What a container's control group is called, whoever made it: its ID, or C(docker-ID.scope).
_CONTAINERS_GROUP = re.compile(r"(?:\w+-)*[0-9a-f]{64}(?:\.scope)?")


def is_of_server(process: int) -> bool:
    """Whether a process is root's and one of this server, not of a container on it, whatever it says of itself.

    It is in this program's PID namespace. It may have a mount namespace of its own, as a service has, or as CRIU has in
    the midst of a dump; but then it is in no container's control group, so that it is not in a container that shares
    the server's PID namespace. What the kernel does not tell is taken for this program's own.
    """
    if status(process).get("Uid", "").split() != ["0"] * 4:
        return False
    if not _shares_namespace(process, "pid"):
        return False
    strange = _group_names(process) - _group_names(os.getpid())
    return _shares_namespace(process, "mnt") or not any(map(_CONTAINERS_GROUP.fullmatch, strange))


def _shares_namespace(process: int, kind: str) -> bool:
    its = _link(f"/proc/{process}/ns/{kind}")
    return its is None or its == _link(f"/proc/self/ns/{kind}")


def _group_names(process: int) -> set[str]:
    """What the control groups of a process are called, and those above them."""
    lines = read(f"/proc/{process}/cgroup").split("\n")
    return {name for line in lines for name in line.split(":", 2)[-1].split("/")}


def is_stopped(process: int) -> bool:
    """Whether a process was stopped (SIGSTOP, or Ctrl-Z) or is traced, and does not only wait for something."""
    return read(f"/proc/{process}/stat").rpartition(")")[2].split()[:1] in (["T"], ["t"])


def tracer(process: int) -> int:
    """The process that traces this one, as a debugger does, or 0."""
    return int(status(process).get("TracerPid", 0))


def stopped_below(root: int) -> list[str]:
    """The names of the processes that were stopped, of I(root) and those that descend from it."""
    return stopped(processes_below(root)) if root else []


def stopped(processes: Iterable[int]) -> list[str]:
    """The names of those of these processes that were stopped."""
    return sorted(program(process) for process in processes if is_stopped(process))


def settle_oom_score(root: int, wanted: int) -> list[int]:
    """Gives I(root) and what is below it this oom_score_adj where it has that of its parent; which ones were changed.

    CRIU does not restore a score of 0, so that a restored process has what containerd's shim has: -998, mostly.
    """
    outside = read(f"/proc/{parents([root])[root]}/oom_score_adj")
    if not outside or int(outside) == wanted:
        return []
    found = [one for one in sorted(processes_below(root)) if read(f"/proc/{one}/oom_score_adj") == outside]
    for process in found:
        place, gone = f"/proc/{process}/oom_score_adj", (FileNotFoundError, ProcessLookupError)
        with contextlib.suppress(*gone), open(place, "w", encoding="ascii") as stream:
            stream.write(str(wanted))
    return found


def lock_holders(table: str) -> set[int]:
    """The processes that hold locks on files, in the text of C(/proc/locks); not those that wait for one."""
    rows = (line.split() for line in table.splitlines())
    return {int(row[4]) for row in rows if len(row) > 4 and row[1] != "->" and row[4].isdigit()}


def may_exceed_limits(own_status: dict[str, str]) -> bool:
    """Whether a process with this status may exceed limits, its own and others': CAP_SYS_RESOURCE (capability 24)."""
    return bool(int(own_status.get("CapEff", "0"), 16) >> 24 & 1)


def unreadable_limits(root: int) -> bool:
    """Whether I(root) or a process below it belongs to another user and CRIU may not read its limits on this host."""
    return limits_unreadable(processes_below(root)) if root else False


def limits_unreadable(processes: Iterable[int]) -> bool:
    """Whether one of these processes belongs to another user and CRIU may not read its limits on this host.

    It is tried: CRIU asks the kernel in the same way, which wants CAP_SYS_RESOURCE for it.
    """
    return any(not _limits_readable(process) for process in processes)


def _limits_readable(process: int) -> bool:
    try:
        resource.prlimit(process, resource.RLIMIT_NOFILE)
    except PermissionError:
        return False
    except ProcessLookupError:
        # It has ended.
        pass
    return True
