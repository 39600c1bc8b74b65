# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the descriptors of a restored container lead: to what is its own, and to nothing of the server's.

CRIU opens what its images say. A file is the container's where it is in one of its mounts, a socket in its network
namespace, a device where its control groups would let it be opened. What has no name (pipes, memory, events, timers)
is nobody else's: CRIU makes it anew.

There may be thousands of them, and the container stands still. So each is looked at by one system call, which asks no
file system, since its server may be stopped as well (FUSE) or slow (NFS).

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import itertools
import os
import socket
import stat
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.network import namespace, sockets
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import privileges, surroundings
from ansible_collections.fog.migration.plugins.module_utils.system import descriptors, procfs

# Of linux/stat.h. Nobody asks a file system for what it has not told yet.
_DONT_SYNC, _WANTED, _MOUNT = 0x4000, 0x1 | 0x2 | 0x100 | 0x1000, 0x1000
_STATX = struct.Struct("=I24xHxxQ88xIIIIQ")
_STATX_BYTES = 256
# Of linux/sockios.h.
_NAMESPACE_OF_SOCKET = 0x894C
# Which column of these has a socket's inode. Of Unix sockets, whose names are anybody's, the kernel is asked otherwise.
_TABLES = {
    **dict.fromkeys(("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6"), 9),
    "netlink": 9,
    "packet": 8,
}
# Everybody may have these: null, zero, full, random, urandom, and the terminal that a process has.
_HARMLESS = frozenset(os.makedev(*one) for one in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)))
# runc gives these to each container (AllowedDevices in runc's specconv): ptmx, its terminals, and in old ones tun.
_OF_RUNC = (("c", 5, 2), ("c", 136, None))
_GONE = (FileNotFoundError, ProcessLookupError)
_KIND, _DEVICES = 0o170000, (stat.S_IFCHR, stat.S_IFBLK)
# After so many descriptors that are none of another process, no more of them are compared.
_MOST_OTHERS = 5
# So many sockets are looked at one by one.
_FEW = 2000


class Seen(NamedTuple):
    """What a descriptor leads to: type and mode, inode, mount, device that it is on, device that it is."""

    mode: int
    inode: int
    mount: int
    device: int = 0
    is_device: int = 0


class Own(NamedTuple):
    """What is a container's own.

    :param mounts: the numbers of its mounts; None where it may mount, so that no file is looked at.
    :param devices: whether it may open a device, by its kind (C(c) or C(b)), major and minor number.
    :param unnamed: the devices that pipes, sockets, memory and namespaces are on.
    :param namespaces: its namespaces, as the kernel calls them.
    """

    mounts: Collection[int] | None
    devices: Callable[[str, int, int], bool]
    unnamed: dict[str, int]
    namespaces: Collection[str]
    # The numbers of mounts on which all but devices is its own: those of the container, and the kernel's for pipes.
    usual: Collection[int] = frozenset()


def require(config: dict, first: int, processes: Iterable[int]) -> None:
    """Returns when no descriptor of these processes, which are stopped, leads out of their container.

    :param config: the container's OCI configuration.
    :param first: its first process.
    :raises Refused: when one does.
    """
    processes = list(processes)
    try:
        own = _own(config, first, processes)
    except _GONE:
        # It has ended, and so have all others.
        return
    look = _looker()
    found: dict[int, tuple[int, int]] = {}
    before = 0
    for process in processes:
        # What it has in common with one that was looked at, nobody needs to look at once more.
        common = descriptors.comparer(before, process) if before else None
        problem = next(_problems(process, own, look, found, common), None)
        if problem:
            raise _refused(process, problem)
        before = process
    for process, places in itertools.groupby(_unlisted(found, first).values(), key=lambda place: place[0]):
        if not all(_is_within(network, own) for network in _networks(process, [number for _process, number in places])):
            raise _refused(process, "has a socket of another network namespace")


def _refused(process: int, problem: str) -> Refused:
    return Refused(f"{procfs.program(process)} in it {problem}, as the images say that came from the source")


def _own(config: dict, first: int, processes: Iterable[int]) -> Own:
    may_mount = "SYS_ADMIN" in privileges.allowed(config.get("process") or {})
    mounts = frozenset(one.number for one in surroundings.parse_mounts(procfs.read(f"/proc/{first}/mountinfo")))
    return Own(
        None if may_mount else mounts,
        functools.partial(may_open, device_rules(config)),
        _unnamed(),
        # Who may mount may have made more of them.
        set().union(*map(_namespaces, [first, *(processes if may_mount else ())])),
        mounts | _mounts_of_pipes(),
    )


def _namespaces(process: int) -> set[str]:
    """What the kernel calls the namespaces of a process."""
    folder = f"/proc/{process}/ns"
    try:
        return {_link(f"{folder}/{name}") for name in os.listdir(folder)}
    except _GONE:
        return set()


def _problems(
    process: int,
    own: Own,
    look: Callable[[int, int, bytes], tuple[int, int, int, int, int]],
    found: dict[int, tuple[int, int]],
    common: Callable[[int], bool] | None,
) -> Iterator[str]:
    """What is wrong with the descriptors of a process.

    :param found: gets its sockets, by their inodes.
    :param common: whether a descriptor is that of a process that was looked at.
    """
    folder = b"/proc/%d/fd" % process
    try:
        names = os.listdir(folder)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except _GONE:
        return
    usual, on_sockets = own.usual, own.unnamed["socket"]
    try:
        others = 0
        for name in names:
            # It takes a third of the time, and is in vain where processes have little in common.
            if common and others < _MOST_OTHERS:
                if common(int(name)):
                    continue
                others += 1
            try:
                seen = look(held, process, name)
            except _GONE:
                continue
            mode, inode, mount, device = seen[:4]
            if mount in usual and mode & _KIND not in _DEVICES:
                continue
            if device == on_sockets:
                found.setdefault(inode, (process, int(name)))
                continue
            problem = problem_of(Seen(*seen), own, functools.partial(_link, f"/proc/{process}/fd/{int(name)}"))
            if problem:
                yield problem
    finally:
        os.close(held)


def problem_of(seen: Seen, own: Own, link: Callable[[], str]) -> str | None:
    """What is wrong with what a descriptor leads to that is no socket.

    :param link: returns how the kernel calls it.
    """
    kind = stat.S_IFMT(seen.mode)
    # What the kernel calls anon_inode is of no kind.
    if not kind or (own.mounts is not None and seen.mount in own.mounts and kind not in (stat.S_IFCHR, stat.S_IFBLK)):
        return None
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return _device_problem(seen, own, link)
    if seen.device == own.unnamed["pipe"]:
        return None
    if seen.device == own.unnamed["namespace"]:
        called = link()
        return None if called in own.namespaces else f"has opened the namespace {called}, which is another one's"
    if own.mounts is None or seen.device == own.unnamed["memory"]:
        return None
    called = link()
    # Memory of another size of pages. Without a mount, the kernel has it alone.
    if called.startswith(("/memfd:", "anon_inode:", "pidfd:")) and seen.mount not in _mounts_here():
        return None
    return f"has opened {called}, which is in none of the container's mounts"


def _device_problem(seen: Seen, own: Own, link: Callable[[], str]) -> str | None:
    if seen.is_device in _HARMLESS:
        return None
    kind = "c" if stat.S_ISCHR(seen.mode) else "b"
    if not own.devices(kind, os.major(seen.is_device), os.minor(seen.is_device)):
        return f"has opened the device {link()}, which the container may not"
    # A terminal of the server has the same numbers as one of the container.
    if own.mounts is not None and seen.mount not in own.mounts:
        return f"has opened {link()}, which is in none of the container's mounts"
    return None


def _mounts_here() -> set[int]:
    return {one.number for one in surroundings.parse_mounts(procfs.read("/proc/self/mountinfo"))}


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _mounts_of_pipes() -> set[int]:
    """The number of the mount that the kernel has for pipes, which nobody else can see."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        return {_mount_of(os.getpid(), b"%d" % reader)}
    finally:
        os.close(reader)
        os.close(writer)


def _unnamed() -> dict[str, int]:
    """The devices of the kernel's own file systems, by looking at what is on them."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    memory = os.memfd_create("look", os.MFD_CLOEXEC)
    one, other = socket.socketpair()
    try:
        return {
            "pipe": os.fstat(reader).st_dev,
            "memory": os.fstat(memory).st_dev,
            "socket": os.fstat(one.fileno()).st_dev,
            "namespace": os.stat("/proc/self/ns/net").st_dev,
        }
    finally:
        for descriptor in (reader, writer, memory):
            os.close(descriptor)
        one.close()
        other.close()


# ---------------------------------------------------------------------------------------------------------------------
# One look


def _looker() -> Callable[[int, int, bytes], tuple[int, int, int, int, int]]:
    """What looks at a descriptor, by that of the folder C(/proc/PID/fd), the process and its name: see C(Seen)."""
    statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
    # An old C library does not have it.
    if statx is None:
        return _seen_slowly
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    unpack, makedev, place = _STATX.unpack_from, os.makedev, ctypes.addressof(buffer)
    statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)

    def look(folder: int, process: int, name: bytes) -> tuple[int, int, int, int, int]:
        if statx(folder, name, _DONT_SYNC, _WANTED, place) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), name)
        mask, mode, inode, own_major, own_minor, major, minor, mount = unpack(buffer)
        # Before Linux 5.8 it does not tell the mount.
        mount = mount if mask & _MOUNT else _mount_of(process, name)
        return mode, inode, mount, makedev(major, minor), makedev(own_major, own_minor) if own_major else 0

    return look


def _seen_slowly(folder: int, process: int, name: bytes) -> tuple[int, int, int, int, int]:
    facts = os.stat(name, dir_fd=folder)
    return facts.st_mode, facts.st_ino, _mount_of(process, name), facts.st_dev, facts.st_rdev


def _mount_of(process: int, name: bytes) -> int:
    number = procfs.fields(procfs.read(f"/proc/{process}/fdinfo/{int(name)}")).get("mnt_id", "")
    return int(number) if number.isdigit() else 0


# ---------------------------------------------------------------------------------------------------------------------
# Devices


def device_rules(config: dict) -> list[dict]:
    """The rules by which the control groups of a container let it open devices, in order."""
    its = ((config.get("linux") or {}).get("resources") or {}).get("devices") or []
    runcs = [{"allow": True, "type": kind, "major": major, "minor": minor} for kind, major, minor in _OF_RUNC]
    return [*its, *(dict(one, access="rwm") for one in runcs)]


def may_open(rules: Iterable[dict], kind: str, major: int, minor: int) -> bool:
    """Whether a device may be opened. The last rule that is of it counts."""
    allowed = False
    for rule in rules:
        is_of_it = (
            (rule.get("type") or "a") in ("a", kind) and _is(rule.get("major"), major) and _is(rule.get("minor"), minor)
        )
        access = rule.get("access") or "rwm"
        if is_of_it and (not rule.get("allow") or {"r", "w"} & set(access)):
            allowed = bool(rule.get("allow"))
    return allowed


def _is(wanted: int | None, number: int) -> bool:
    return wanted is None or wanted < 0 or wanted == number


# ---------------------------------------------------------------------------------------------------------------------
# Sockets


def _unlisted(found: dict[int, tuple[int, int]], first: int) -> dict[int, tuple[int, int]]:
    """Those of these sockets that have to be looked at one by one.

    To have the kernel list all sockets of the container takes milliseconds, however few these are. One that is bound to
    nothing is in no list.
    """
    if len(found) <= _FEW:
        return found
    try:
        listed = namespace.inside(namespace.network_of(first), _listed_sockets)
    except _GONE:
        return {}
    return {inode: place for inode, place in found.items() if inode not in listed}


def _listed_sockets() -> set[int]:
    """The inodes of the sockets in the caller's network namespace that the kernel lists."""
    found = set(sockets.unix_sockets())
    for name, column in _TABLES.items():
        rows = (line.split() for line in procfs.read(f"/proc/thread-self/net/{name}").split("\n")[1:])
        found |= {int(row[column]) for row in rows if len(row) > column and row[column].isdigit()}
    return found


def _networks(process: int, numbers: Iterable[int]) -> Iterator[int]:
    """The network namespace of each of these sockets of a process, by its inode, as far as it can be known."""
    try:
        with descriptors.held(process) as handle:
            for number in numbers:
                copy = descriptors.copy_by(handle, number)
                try:
                    network = fcntl.ioctl(copy, _NAMESPACE_OF_SOCKET)
                except OSError:
                    # It is of no network.
                    continue
                finally:
                    os.close(copy)
                inode = os.fstat(network).st_ino
                os.close(network)
                yield inode
    except OSError:
        # The process has ended, or the kernel is older than 5.6: then nobody can tell.
        return


def _is_within(network: int, own: Own) -> bool:
    return f"net:[{network}]" in own.namespaces
