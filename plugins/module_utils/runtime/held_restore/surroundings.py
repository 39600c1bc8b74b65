# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the processes of a restored container are: its control groups, its root, and what is mounted in it.

CRIU makes mounts as its images say, and these are the source's word. A mount that the container's OCI configuration
does not know may show the server's files or its kernel's settings; a path that the configuration hides or makes
read-only may be open. So both are looked for before any process runs. A container that may mount (CAP_SYS_ADMIN) could
have done all of that itself, and is not asked.

Of the hidden paths, only those are required that each kernel has and each Docker hides: whether another one was there
to be hidden, the source's kernel and its Docker have decided.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import re
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import privileges
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# Hidden by each Docker from 17.09 on (DefaultLinuxSpec in moby's oci/defaults.go), and made read-only.
HIDDEN = ("/proc/kcore", "/proc/timer_list", "/sys/firmware")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
# The file systems that tell of the kernel and change it, by where they are mounted.
_OF_KERNEL = {"/proc": "proc", "/sys": "sysfs"}
# What is in one of these that the server does not have, CRIU has made from the images.
_OF_ITS_OWN = ("tmpfs", "mqueue", "devpts")
# Seconds until what "docker exec" or a health check has started in the PID namespace is in the control group, too.
JOIN_LIMIT = 2
_ESCAPED = re.compile(r"\\([0-7]{3})")
_GONE = (FileNotFoundError, ProcessLookupError)


class Mount(NamedTuple):
    """One mount, as C(/proc/PID/mountinfo) tells of it. I(root) is the folder of its file system that is mounted."""

    number: int
    parent: int
    device: str
    root: str
    place: str
    is_read_only: bool
    kind: str


class Server(NamedTuple):
    """What the runtime had before it when the restore was prepared.

    :param root: device and inode of the container's root file system; None where it could not be looked at.
    :param mounts: what is mounted where the runtime runs; none where it could not be looked at.
    """

    root: tuple[int, int] | None = None
    mounts: tuple[Mount, ...] = ()


def look(view: str, root: str) -> Server:
    """What there is for a restore.

    :param view: the root of a process in the runtime's mount namespace, C(/proc/PID/root).
    :param root: the path of the container's root file system there.
    """
    identity = None
    with contextlib.suppress(OSError):
        status = os.stat(view + root)
        identity = status.st_dev, status.st_ino
    return Server(identity, tuple(parse_mounts(procfs.read(f"{posixpath.dirname(view)}/mountinfo"))))


def parse_mounts(text: str) -> list[Mount]:
    """The mounts in the text of C(/proc/PID/mountinfo)."""
    found = []
    for line in text.splitlines():
        fields, _dash, more = line.partition(" - ")
        number, parent, device, root, place, options = fields.split(" ")[:6]
        kind, _source, of_all = [*more.split(" "), "", ""][:3]
        is_read_only = "ro" in options.split(",") or "ro" in of_all.split(",")
        # What has lost its name since it was mounted.
        root = _plain(root).partition("//deleted")[0]
        found.append(Mount(int(number), int(parent), device, root, _plain(place), is_read_only, kind))
    return found


def _plain(path: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match.group(1), 8)), path)


def require(config: dict, server: Server, container: str, processes: Iterable[int]) -> None:
    """Returns when the processes of a container, which are stopped, are where its configuration has them.

    :param config: its OCI configuration; where there is none, nothing is required.
    :param processes: its processes.
    :raises Refused: when one is not.
    :raises FreezeError: when no runtime knows the container.
    """
    if not config:
        return
    first = runc.first_process(container)[0]
    _require_in_groups(config, container, first)
    if "SYS_ADMIN" in privileges.allowed(config.get("process") or {}):
        return
    mounts = parse_mounts(procfs.read(f"/proc/{first}/mountinfo"))
    is_null = functools.partial(_is_null, first)
    # The kernel gives the number of a file system that is gone to the next one, such as one of the container's.
    present = {one.device for one in parse_mounts(procfs.read("/proc/self/mountinfo"))}
    problems = mount_problems(config, server.mounts, mounts, is_null=is_null, present=present)
    problem = root_problem(server.root, first, mounts) or next(problems, None)
    if problem:
        raise Refused(f"the container {problem}, as the images say that came from the source")
    numbers = {one.number for one in mounts}
    for process in processes:
        problem = place_problem(process, first, numbers)
        if problem:
            raise Refused(f"{procfs.program(process)} in it {problem}, as the images say that came from the source")


# ---------------------------------------------------------------------------------------------------------------------
# Control groups


def _require_in_groups(config: dict, container: str, first: int) -> None:
    """Returns when all processes in the container's own PID namespace are in each of its control groups."""
    if not has_own_processes(config):
        return
    deadline = time.monotonic() + JOIN_LIMIT
    while True:
        outside = outside_groups(first, runc.grouped(container))
        if not outside:
            return
        if time.monotonic() > deadline:
            names = ", ".join(sorted({procfs.program(one) for one in outside}))
            raise Refused(f"{names} in it is in none of the container's control groups")
        time.sleep(0.005)


def has_own_processes(config: dict) -> bool:
    """Whether nobody else has a process in the container's PID namespace."""
    namespaces = (config.get("linux") or {}).get("namespaces") or []
    return any(one.get("type") == "pid" and not one.get("path") for one in namespaces)


def outside_groups(first: int, groups: list[set[int]]) -> list[int]:
    """The processes in the PID namespace of I(first) that are missing in one of these groups of processes."""
    inside = set.intersection(*groups) if groups else set()
    namespace = _link(f"/proc/{first}/ns/pid")
    found = [one for one in procfs.all_processes() if one not in inside and _link(f"/proc/{one}/ns/pid") == namespace]
    # One that has ended is in no group any more.
    return [one for one in found if namespace and procfs.started(one) is not None]


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Root


def root_problem(root: tuple[int, int] | None, first: int, mounts: Iterable[Mount]) -> str | None:
    """What is wrong with the root of the container's first process.

    :param root: see C(Server).
    :param mounts: those that it sees. With a root that is no mount, these would not be all.
    """
    status = _stat(f"/proc/{first}/root")
    is_other = root and status and (status.st_dev, status.st_ino) != root
    if status and (is_other or not any(one.place == "/" for one in mounts)):
        return "has another root than its root file system"
    return None


def place_problem(process: int, first: int, mounts: set[int]) -> str | None:
    """What is wrong with the root and the working folder of a process. It may have changed both within the container.

    :param mounts: the numbers of the mounts in the container.
    """
    namespace = _link(f"/proc/{process}/ns/mnt")
    if namespace and namespace != _link(f"/proc/{first}/ns/mnt"):
        return "has mounts of its own, which the container may not make"
    for name, words in (("root", "root"), ("cwd", "working folder")):
        number = _mount_of(f"/proc/{process}/{name}")
        if number is not None and number not in mounts:
            return f"has a {words} outside of the container"
    return None


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except _GONE:
        return None


def _mount_of(path: str) -> int | None:
    """The number of the mount that a path leads to; None where the process has ended, or the kernel does not tell."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except _GONE:
        return None
    try:
        number = procfs.fields(procfs.read(f"/proc/self/fdinfo/{descriptor}")).get("mnt_id", "")
        return int(number) if number.isdigit() else None
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------------------------------
# Mounts


def mount_problems(
    config: dict,
    server: Iterable[Mount],
    mounts: list[Mount],
    exists: Callable[[str], bool] = os.path.lexists,
    is_null: Callable[[str], bool] = lambda _place: True,
    present: Collection[str] | None = None,
) -> Iterator[str]:
    """What is wrong with what is mounted in a container, as clauses.

    :param config: its OCI configuration.
    :param server: what is mounted where the runtime runs; where there is none, strange mounts are not looked for.
    :param mounts: what is mounted in the container.
    :param exists: whether the kernel has a path.
    :param is_null: whether what is mounted at a path of the container is the device C(/dev/null).
    :param present: the devices of what is mounted on the server by now; None for all of I(server).
    """
    linux = config.get("linux") or {}
    of_kernel = {one.number: one.kind for one in mounts if _OF_KERNEL.get(one.place) == one.kind}
    if len(set(of_kernel.values())) < len(of_kernel):
        yield "has the kernel's settings mounted twice"
    held = {"/": config.get("root", {}).get("readonly", False)}
    held.update({one["destination"]: _is_held(one) for one in _own(config) if not _is_of_groups(one)})
    for path in linux.get("readonlyPaths") or []:
        held[path] = True
        if path in READ_ONLY and exists(path) and not _covered(path, mounts, of_kernel):
            yield f"may change {path}, which its configuration makes read-only"
    for path in set(linux.get("maskedPaths") or []).intersection(HIDDEN):
        if exists(path) and not _covered(path, mounts, of_kernel):
            yield f"sees {path}, which its configuration hides"
    for one in mounts:
        if (held.get(one.place) or _is_held_group(config, one)) and not one.is_read_only:
            yield f"may write to {one.place}, which its configuration makes read-only"
    yield from _writable_binds(config, list(server), mounts)
    yield from _strange_mounts(config, list(server), mounts, is_null, present)


def _writable_binds(config: dict, server: list[Mount], mounts: list[Mount]) -> Iterator[str]:
    """What can be written to of the server and is mounted by the configuration, but only read-only.

    Its path in the container may go through links, so that it is known by what is mounted. The same may be mounted once
    more, so that it can be written to; and what is mounted below the source of one stays as it is there.
    """
    held: dict[tuple[str, str], str] = {}
    free: set[tuple[str, str]] = set()
    for one in config.get("mounts") or []:
        top, below = _sources(one, config, server)
        free |= below if _is_held(one) else top | below
        held.update(dict.fromkeys(top if _is_held(one) else (), posixpath.normpath(one["destination"])))
    for one in mounts:
        place = held.get((one.device, one.root))
        is_free = (one.device, one.root) in free and one.place != place
        if place and not is_free and not one.is_read_only:
            yield f"may write to {one.place}, which its configuration mounts read-only"


def _own(config: dict) -> list[dict]:
    """The mounts of the configuration that are file systems of their own."""
    return [one for one in config.get("mounts") or [] if one.get("type") not in (None, "", "bind", "none")]


def _covered(path: str, mounts: list[Mount], of_kernel: dict[int, str]) -> bool:
    """Whether something is mounted at this path of the kernel's file systems themselves; not below one of them."""
    # Where there is none of it, nothing is to be hidden.
    kind = _OF_KERNEL["/" + path.split("/")[1]]
    return kind not in of_kernel.values() or any(one.place == path and one.parent in of_kernel for one in mounts)


def _strange_mounts(
    config: dict,
    server: list[Mount],
    mounts: list[Mount],
    is_null: Callable[[str], bool],
    present: Collection[str] | None,
) -> Iterator[str]:
    """What is mounted and is neither a file system that the configuration has there, nor one of its bind mounts."""
    known = known_mounts(config, server)
    own = {posixpath.normpath(one["destination"]): one["type"] for one in _own(config)}
    read_only = (config.get("linux") or {}).get("readonlyPaths") or []
    roots = [one for one in mounts if one.place == "/"]
    others = {one.device for one in server if present is None or one.device in present}
    for one in mounts if server else []:
        if (one.kind in _OF_ITS_OWN and one.device not in others) or (one.device, one.root) in known:
            continue
        if any(one.device == root.device and _is_below(one.root, root.root) for root in roots):
            continue
        # One of another PID namespace tells of the processes there, and of their files.
        is_of_others = one.kind == "proc" and has_own_processes(config) and one.device in others
        if (own.get(one.place) == one.kind and not is_of_others) or _is_control_group(own, one):
            continue
        if one.kind in _OF_KERNEL.values() and one.place in read_only and not is_of_others:
            continue
        # A device of the server, as runc puts one over what it hides; whether it may be used is the control group's.
        # Where the server is a container itself, its devices are in a tmpfs.
        is_device = one.kind == "devtmpfs" and one.root != "/"
        if is_device or (one.kind == "tmpfs" and one.root == "/null" and is_null(one.place)):
            continue
        yield f"has a {one.kind} mounted at {one.place}, which its configuration does not know"


def _is_null(process: int, place: str) -> bool:
    """Whether there is the device C(/dev/null) at a path as this process sees it."""
    try:
        status = os.lstat(f"/proc/{process}/root{place}")
    except OSError:
        return False
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def _is_held(mount: dict) -> bool:
    return "ro" in (mount.get("options") or [])


def _is_of_groups(mount: dict) -> bool:
    return mount["type"].startswith("cgroup")


def _is_held_group(config: dict, mount: Mount) -> bool:
    """Whether this is of control groups, and read-only by the configuration.

    The file system in which those of version 1 are mounted is none of them, and runc leaves it writable.
    """
    held = {one["destination"]: one["type"] for one in _own(config) if _is_of_groups(one) and _is_held(one)}
    return _is_control_group(held, mount)


def _is_control_group(own: dict[str, str], mount: Mount) -> bool:
    """Whether this is what a mount of control groups becomes: one file system, or one for each controller."""
    places = [place for place, kind in own.items() if kind.startswith("cgroup")]
    return mount.kind in ("cgroup", "cgroup2") and any((mount.place + "/").startswith(one + "/") for one in places)


def known_mounts(config: dict, server: list[Mount]) -> set[tuple[str, str]]:
    """Device and root of what the configuration mounts from the server, and of what is mounted below that there."""
    return set().union(*(found for one in config.get("mounts") or [] for found in _sources(one, config, server)))


def _sources(mount: dict, config: dict, server: list[Mount]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Device and root of what one mount of the configuration is of on the server; and of what is mounted below that."""
    path = posixpath.normpath(mount.get("source") or "")
    if mount in _own(config) or not path.startswith("/"):
        return set(), set()
    above = [one for one in server if _is_below(path, one.place)]
    longest = max((len(one.place) for one in above), default=0)
    top = {(one.device, _inside(one, path)) for one in above if len(one.place) == longest}
    return top, {(one.device, one.root) for one in server if one.place != path and _is_below(one.place, path)}


def _inside(mount: Mount, path: str) -> str:
    """The path in its file system of what has this path where a mount is."""
    return posixpath.normpath(posixpath.join(mount.root, posixpath.relpath(path, mount.place)))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
