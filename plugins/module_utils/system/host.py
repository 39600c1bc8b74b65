# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is: kernel, processor, free space, listening ports, memory of a process tree. Linux's files, parsed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
import shutil
import signal
import socket
from collections.abc import Iterable

_PROBE_SECONDS = 4


def parse_cpu_features(cpuinfo: str) -> list[str]:
    """The processor's features in the text of C(/proc/cpuinfo), sorted ("flags" on x86, "Features" on ARM)."""
    for line in cpuinfo.splitlines():
        key, _colon, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return sorted(set(value.split()))
    return []


def parse_listening(table: str) -> set[int]:
    """The listening ports in the text of C(/proc/net/tcp) or C(tcp6)."""
    rows = (line.split() for line in table.splitlines()[1:])
    return {int(row[1].rsplit(":", 1)[1], 16) for row in rows if len(row) > 3 and row[3] == "0A"}


def descendants(parents: dict[int, int], root: int) -> set[int]:
    """I(root) and every process below it, from a map of process to parent process."""
    found, fresh = set(), {root}
    while fresh:
        found |= fresh
        fresh = {process for process, parent in parents.items() if parent in fresh} - found
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _status(process: int) -> dict[str, str]:
    lines = (line.partition(":") for line in _read(f"/proc/{process}/status").splitlines())
    return {key: value.strip() for key, _colon, value in lines}


def all_processes() -> list[int]:
    """The processes of this host."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parents(processes: Iterable[int]) -> dict[int, int]:
    """The parent of each of these processes, 0 for those that have ended."""
    return {process: int(_status(process).get("PPid", 0)) for process in processes}


def processes_below(root: int) -> set[int]:
    """I(root) and all processes that descend from it, now."""
    return descendants(parents(all_processes()), root)


def command_line(process: int) -> list[str]:
    """The words with which a process was started."""
    return _read(f"/proc/{process}/cmdline").split("\0")[:-1]


def is_stopped(process: int) -> bool:
    """Whether a process was stopped (SIGSTOP, or Ctrl-Z) or is traced, and does not only wait for something."""
    return _read(f"/proc/{process}/stat").rpartition(")")[2].split()[:1] in (["T"], ["t"])


def stopped_below(root: int) -> list[str]:
    """The names of the processes that were stopped, of I(root) and those that descend from it."""
    return sorted(program(process) for process in processes_below(root) if is_stopped(process)) if root else []


def program(process: int) -> str:
    """The name of a process, at most 15 characters."""
    return _read(f"/proc/{process}/comm").rstrip("\n")


def temporary_folders() -> set[str]:
    """Where containerd unpacks a checkpoint for its restore: its folder for temporary files, as it sees it."""
    found = set()
    for number in all_processes():
        if program(number) in ("containerd", "dockerd"):
            variables = dict(line.partition("=")[::2] for line in _read(f"/proc/{number}/environ").split("\0"))
            place = variables.get("XDG_RUNTIME_DIR") or variables.get("TMPDIR") or "/tmp"
            found.add(f"/proc/{number}/root{place}")
    return found


def kill_restore(container: str) -> None:
    """Kills the runtime that restores this container and everything below it: CRIU, and what it has restored so far."""
    for number in all_processes():
        words = command_line(number) if number != os.getpid() else []
        if "restore" in words and container in words:
            for process in sorted(processes_below(number)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def settle_oom_score(root: int, wanted: int) -> list[int]:
    """Gives I(root) and what is below it this oom_score_adj where it has that of its parent; which ones were changed.

    CRIU does not restore a score of 0, so that a restored process has what containerd's shim has: -998, mostly.
    """
    outside = _read(f"/proc/{parents([root])[root]}/oom_score_adj")
    if not outside or int(outside) == wanted:
        return []
    found = [one for one in sorted(processes_below(root)) if _read(f"/proc/{one}/oom_score_adj") == outside]
    for process in found:
        place, gone = f"/proc/{process}/oom_score_adj", (FileNotFoundError, ProcessLookupError)
        with contextlib.suppress(*gone), open(place, "w", encoding="ascii") as stream:
            stream.write(str(wanted))
    return found


def anonymous_memory(root: int) -> int:
    """Bytes of anonymous memory (what a checkpoint has to hold) of I(root) and all processes below it."""
    sizes = (_status(process).get("RssAnon", "0 kB").split()[0] for process in processes_below(root))
    return sum(int(size) * 1024 for size in sizes)


def limits_readable(own_status: dict[str, str], statuses: list[dict[str, str]]) -> bool:
    """Whether a process with the first status may read the resource limits of those with the others.

    The kernel's rule for C(prlimit), which CRIU uses: the same real, effective and saved user and group IDs, or
    CAP_SYS_RESOURCE (capability 24).
    """
    if int(own_status.get("CapEff", "0"), 16) >> 24 & 1:
        return True
    own = own_status["Uid"].split()[0], own_status["Gid"].split()[0]
    return all(
        set(status["Uid"].split()[:3]) == {own[0]} and set(status["Gid"].split()[:3]) == {own[1]}
        for status in statuses
        if "Uid" in status
    )


def unreadable_limits(root: int) -> bool:
    """Whether I(root) or a process below it belongs to another user and CRIU may not read its limits on this host."""
    if not root:
        return False
    return not limits_readable(_status(os.getpid()), [_status(process) for process in processes_below(root)])


def cpu_features() -> list[str]:
    """The features of this host's processor."""
    return parse_cpu_features(_read("/proc/cpuinfo"))


def listening_ports() -> list[str]:
    """Ports that something listens on, e.g. C(["22/tcp"])."""
    ports = parse_listening(_read("/proc/net/tcp")) | parse_listening(_read("/proc/net/tcp6"))
    return [f"{port}/tcp" for port in sorted(ports)]


def interfaces() -> list[str]:
    """Names of the network interfaces."""
    return sorted(name for _index, name in socket.if_nameindex())


def free_bytes(path: str) -> int:
    """Bytes free for root in the file system of I(path), or of its nearest folder that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bfree * status.f_frsize


def folder_bytes(path: str) -> int:
    """Bytes of the plain files below I(path)."""
    places = (os.path.join(base, name) for base, _folders, names in os.walk(path) for name in names)
    return sum(map(_size, places))


def _size(path: str) -> int:
    """Bytes of a file, 0 when it has gone."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def lock(descriptor: int) -> bool:
    """Locks an open file or folder for this process, unless another one has it locked; whether it is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def facts() -> dict:
    """C(hostname), C(kernel), C(architecture) and C(cpu_features) of this host."""
    return {
        "hostname": platform.node(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu_features": cpu_features(),
    }


def unreachable(address: str, port: int) -> str | None:
    """Why no TCP connection can be opened from here, as a clause; None where one can."""
    try:
        socket.create_connection((address, port), _PROBE_SECONDS).close()
    except OSError as error:
        return f"{address} port {port}: {error.strerror or error}"
    return None


def parse_mounts(table: str) -> list[tuple[str, str, str]]:
    """Place, type and device of each file system in the text of C(/proc/self/mounts), in order."""
    rows = (line.split(" ") for line in table.splitlines())
    return [(_unescaped(row[1]), row[2], _unescaped(row[0])) for row in rows if len(row) > 2]


def _unescaped(name: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), name)


def file_system(path: str, mounts: list[tuple[str, str, str]]) -> dict[str, str]:
    """C(type) and C(device) of the file system that a path is on.

    :param mounts: see C(parse_mounts).
    """
    found = {"type": "unknown", "device": ""}
    longest = -1
    for place, kind, device in mounts:
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        # Of several at one place, the last one is seen.
        if inside and len(place) >= longest:
            found, longest = {"type": kind, "device": device}, len(place)
    return found


def path_facts(path: str) -> dict:
    """C(exists), C(empty) (nothing, or a folder with nothing in it), and C(file_system) of a path on this host."""
    real = os.path.realpath(path)
    empty = not os.path.lexists(real) or (os.path.isdir(real) and not os.listdir(real))
    kind = file_system(real, parse_mounts(_read("/proc/self/mounts")))
    return {"exists": os.path.lexists(real), "empty": empty, "file_system": kind}


def remove(path: str) -> None:
    """Removes a file, or a folder with all that is in it, as far as that can be."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)
