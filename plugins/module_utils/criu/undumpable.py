# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a process can have that CRIU cannot dump, or cannot make again.

Pure functions all of them, of what C(/proc) tells of a process. What is in the tables was read in CRIU 4.2; the place
is with each of them. A verb and its object each, for a sentence that begins with the process.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.system import procfs


class Hindrance(NamedTuple):
    """What a process has or does, a clause without its subject, and how it does without; or empty for no advice."""

    what: str
    remedy: str = ""


MPTCP = "run it with --sysctl net.mptcp.enabled=0, or have it open TCP sockets (Go: GODEBUG=multipathtcp=0)"
SHARED_CODE = "run it without a compiler at run time that shares its code (PHP: opcache.jit_buffer_size=0)"
EXEC = "start what docker exec -d has left in the background with </dev/null"
UNSHARE = "start what it does there in a container of its own"
# Files without a name of the kernel's that CRIU makes again (dump_one_file() in criu/files.c). Maps of BPF are among
# them only where CRIU was built with libbpf, and only two kinds of them.
_DUMPABLE_ANONYMOUS = {"eventfd", "eventpoll", "inotify", "fanotify", "signalfd", "timerfd", "pidfd"}
# Some of the others, in words. What is not here is told by the kernel's own name.
_ANONYMOUS = {
    "io_uring": Hindrance("holds an io_uring", "set kernel.io_uring_disabled=2 there, with which most do without"),
    "perf_event": Hindrance("holds a performance counter (perf_event_open)", "end its profiler first"),
    "userfaultfd": Hindrance("holds a userfaultfd"),
    "bpf-map": Hindrance("holds a map of BPF"),
    "bpf-prog": Hindrance("holds a program of BPF"),
    "bpf_link": Hindrance("holds a program of BPF that is in use"),
    "kvm-vm": Hindrance("holds a virtual machine of KVM's"),
    "kvm-vcpu": Hindrance("holds a processor of a virtual machine of KVM's"),
    "landlock-ruleset": Hindrance("holds rules of Landlock"),
    "seccomp notify": Hindrance("answers the system calls of others (seccomp's user notification)"),
    "fscontext": Hindrance("is about to mount a file system"),
}
DELETED = " (deleted)"
SECRET_MEMORY = f"/secretmem{DELETED}"
# The protocols of the sockets that CRIU can make again, as the kernel names them (can_dump_ipproto() and
# dump_one_inet_fd() in criu/sk-inet.c, dump_socket() in criu/sockets.c). UNIX-STREAM is Unix's from Linux 5.16 on.
PROTOCOLS = {
    *("TCP", "TCPv6", "UDP", "UDPv6", "UDP-Lite", "UDPLITEv6", "RAW", "RAWv6", "PING", "PINGv6"),
    *("UNIX", "UNIX-STREAM", "PACKET", "NETLINK"),
}
# Character devices by their numbers (dump_chrdev() in criu/files.c, get_tty_driver() in criu/tty.c): those of memory
# (null, zero, random, kmsg and the like), terminals, and of the miscellaneous ones tun and autofs.
_MEMORY, _CONSOLES, _TERMINALS, _MISCELLANEOUS = 1, 4, 5, 10
_USB_SERIAL, _LOW_DENSE_SERIAL, _PSEUDO_TERMINALS = 188, 204, range(128, 144)
_TUN, _AUTOFS = 200, 235
_LAST_CONSOLE = 63
_DEVICES = {226: "the graphics card", 116: "a sound card", 13: "an input device"}
# Devices that CRIU lets a process have mapped (handle_vma() in criu/proc_parse.c): /dev/zero alone.
_ZERO = (1, 5)
# The namespaces of which a process has to have those of the first process. Of mounts, CRIU takes more along
# (CLONE_SUBNS in criu/include/namespaces.h); of networks as well, but not where the OCI runtime makes that of the
# container ("more than one netns" in criu/net.c).
NAMESPACES = {
    "uts": "hostname",
    "net": "network",
    "ipc": "System V and message queues",
    "pid": "PIDs",
    "user": "users",
    "cgroup": "control groups",
    "time": "clocks",
}
# Files that never had a name, of which CRIU knows what they are; or it does not, and they are told of elsewhere.
_NAMELESS = re.compile(r"/(memfd:.*|dev/zero|SYSV[0-9a-f]{8}|anon_hugepage|secretmem|\[aio\])")
_THREAD_OF_PIDFD = 0o200  # PIDFD_THREAD
_ANONYMOUS_LINK = re.compile(r"anon_inode:\[?([^\]]*)\]?$")
_NAMESPACE_LINK = re.compile(r"([a-z_]+):\[(\d+)\]$")
_MAPPED_DEVICE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ [0-9a-f]+ \S+ \d+ +(/dev/.+|anon_inode:.+|\[uprobes\])$")


def of_link(link: str) -> Hindrance | None:
    """What is wrong with what a descriptor leads to, or a mapping, as C(/proc) names that."""
    if link == SECRET_MEMORY:
        return Hindrance("holds memory that only it can read (memfd_secret)")
    found = _ANONYMOUS_LINK.match(link)
    if not found or found.group(1) in _DUMPABLE_ANONYMOUS:
        return None
    return _ANONYMOUS.get(found.group(1), Hindrance(f"holds a file of the kernel's kind {found.group(1)}"))


def of_protocol(name: str) -> Hindrance | None:
    """What is wrong with a socket, by the kernel's name of its protocol; empty where it is none."""
    if not name or name in PROTOCOLS:
        return None
    return Hindrance(f"holds a socket of the protocol {name}", MPTCP if name == "MPTCP" else "")


def of_character_device(major: int, minor: int, link: str) -> Hindrance | None:
    """What is wrong with a character device that is open.

    :param link: its name.
    """
    is_terminal = (
        (major == _TERMINALS and minor <= 2)
        or (major == _CONSOLES and 1 <= minor <= _LAST_CONSOLE)
        or major in (_USB_SERIAL, _LOW_DENSE_SERIAL, *_PSEUDO_TERMINALS)
    )
    if major == _MEMORY or is_terminal or (major == _MISCELLANEOUS and minor in (_TUN, _AUTOFS)):
        return None
    what = _DEVICES.get(major, "the device")
    return Hindrance(f"has {what} {link} open", "have it close that first")


def of_pidfd(information: str, own: Collection[int], flags: int) -> Hindrance | None:
    """What is wrong with a descriptor of a process (dump_one_pidfd() in criu/pidfd.c).

    :param information: the text of C(/proc/PID/fdinfo/FD).
    :param own: the processes that move.
    """
    found = re.search(r"^Pid:\s*(-?\d+)$", information, re.MULTILINE)
    process = int(found.group(1)) if found else -1
    if flags & _THREAD_OF_PIDFD:
        return Hindrance("holds a descriptor of a thread (pidfd_open with PIDFD_THREAD)")
    if process > 0 and process not in own:
        return Hindrance("holds a descriptor of a process that does not move (pidfd_open)")
    return None


def open_flags(information: str) -> int:
    """The flags of an open file, from the text of C(/proc/PID/fdinfo/FD)."""
    found = re.search(r"^flags:\s*([0-7]+)$", information, re.MULTILINE)
    return int(found.group(1), 8) if found else 0


def is_named(link: str) -> bool:
    """Whether what a descriptor leads to has, or had, a name in a file system that is mounted somewhere."""
    return link.startswith("/") and not _NAMELESS.fullmatch(link[: -len(DELETED)] if link.endswith(DELETED) else link)


def of_server(link: str) -> Hindrance:
    """What is wrong with a file that is on a mount that its process does not have.

    CRIU looks for the mount of each file (lookup_mnt_id() in criu/files-reg.c). C(docker exec -d) gives what it starts
    the server's C(/dev/null) for its standard input, which one that has gone into the background, and is a child of the
    first process, may have still.
    """
    return Hindrance(f"has {link} of the server open", EXEC)


def of_namespace_file(link: str, known: Collection[str]) -> Hindrance | None:
    """What is wrong with an open namespace (lookup of its ID in criu/namespaces.c).

    :param known: the namespaces of all processes that move, as C(/proc) names them.
    """
    found = _NAMESPACE_LINK.match(link)
    if not found or link in known or found.group(1) in ("pidfd", "socket", "pipe"):
        return None
    return Hindrance(f"holds a {found.group(1)} namespace that no process of the container is in")


def of_namespaces(own: dict[str, str], first: dict[str, str]) -> list[Hindrance]:
    """What is wrong with the namespaces of a process (generate_ns_id() in criu/namespaces.c).

    :param own: where C(/proc/PID/ns/KIND) leads to, by kind.
    :param first: the same of the container's first process.
    """
    found = [
        Hindrance(f"has a {kind} namespace of its own ({NAMESPACES[kind]})", UNSHARE)
        for kind in NAMESPACES
        if kind in own and kind in first and own[kind] != first[kind]
    ]
    later = own.get("time_for_children"), own.get("time")
    if all(later) and later[0] != later[1]:
        found.append(Hindrance("has asked for a time namespace for its children (clocks)", UNSHARE))
    return found


def of_status(status: dict[str, str], tracer: str) -> list[Hindrance]:
    """What is wrong with a process by its status (collect_threads() in criu/seize.c).

    :param status: the fields of C(/proc/PID/status).
    :param tracer: the name of the process that traces it, empty for none.
    """
    found = []
    if tracer:
        found.append(Hindrance(f"is traced by {tracer} (ptrace)", "end the debugger or tracer first"))
    is_dead = status.get("State", "")[:1] == "Z"
    if is_dead and int(status.get("Threads", "1")) > 1:
        found.append(Hindrance("has threads that run, while its first one has ended (pthread_exit)"))
    return found


def of_thread(shares_files: bool, shares_folder: bool, own: dict[str, str], first: dict[str, str]) -> list[Hindrance]:
    """What is wrong with a thread, of which CRIU takes it that all of this is its process' (criu/cr-restore.c).

    :param shares_files: whether its open files are those of its process.
    :param shares_folder: the same of its current folder and its root.
    :param own: where C(/proc/PID/task/TID/ns/KIND) leads to, by kind.
    :param first: the same of its process.
    """
    others = sorted(kind for kind, link in own.items() if first.get(kind, link) != link)
    return [
        *([] if shares_files else [Hindrance("has a thread with open files of its own (unshare)")]),
        *([] if shares_folder else [Hindrance("has a thread with a current folder of its own (unshare)")]),
        *(Hindrance(f"has a thread in another {kind} namespace than its own", UNSHARE) for kind in others),
    ]


def of_maps(maps: str) -> list[Hindrance]:
    """What is wrong with the memory of a process, in the text of C(/proc/PID/maps)."""
    found: dict[str, Hindrance] = {}
    for line in maps.split("\n"):
        match = _MAPPED_DEVICE.match(line)
        name = match.group(3) if match else ""
        if name == "[uprobes]":
            found[name] = Hindrance("is watched by a probe of the server (uprobes)", "end that tracer first")
        elif name.startswith("anon_inode:"):
            problem = of_link(name)
            found.update({name: problem} if problem else {})
    return list(found.values())


def mapped_devices(maps: str) -> dict[str, str]:
    """What is mapped from C(/dev), in the text of C(/proc/PID/maps): a mapping in C(/proc/PID/map_files) of each."""
    found = (_MAPPED_DEVICE.match(line) for line in maps.split("\n"))
    return {
        one.group(3): procfs.map_file(one.group(1), one.group(2))
        for one in found
        if one and one.group(3).startswith("/dev/")
    }


def of_mapped_device(major: int, minor: int, name: str) -> Hindrance | None:
    """What is wrong with a device that is mapped (handle_vma() in criu/proc_parse.c)."""
    if (major, minor) == _ZERO:
        return None
    return Hindrance(f"has the device {name} mapped", "have it close that first")


# CRIU takes the first code in the memory of each process (C(procfs.first_code)) to run its own code, and the kernel
# lets nobody write to shared memory that is mapped for reading (check_vma_flags() in the kernel's mm/gup.c).
READ_ONLY_CODE = Hindrance("has shared code first in its memory, into which CRIU cannot write", SHARED_CODE)


def is_read_only_code(rights: str) -> bool:
    """Whether code with these rights, such as C(r-xs), is shared and read-only."""
    return rights[1:] == "-xs"


# CRIU makes watches anew by the paths of what is watched (check_open_handle() in criu/fsnotify.c).
LOST_WATCH = Hindrance(
    "watches a file that has no name any more, or one with a blank or a quote in its name (inotify)",
    "have it watch something else",
)
# Docker's own checkpoints do not tell CRIU where to look for these paths.
WATCH = Hindrance(
    "watches a file of the root file system (inotify)", "install the OCI runtime of this collection (run provision.yml)"
)
