# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the processes of a restored container may do, compared with its OCI configuration before any of them runs.

CRIU gives each thread the user, the capabilities and the namespaces that are in its images, and these are the source's
word. Docker's configuration at the destination only applies to what Docker starts. So a thread that may do more than
the configuration allows is found here, and never runs.

The instructions of a seccomp filter are not compared: each version of libseccomp makes others of the same profile.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# By their numbers (include/uapi/linux/capability.h in the kernel).
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
# What CAP_SYS_ADMIN includes. A Docker that is older than one of them does not give it to a privileged container.
_PARTS_OF_SYS_ADMIN = ("SYSLOG", "PERFMON", "BPF", "CHECKPOINT_RESTORE")
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# The kernel's names of the namespaces by those of the OCI configuration.
_NAMESPACES = {
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
}
_SECCOMP_FILTER = "2"


def require(config: dict, processes: Iterable[int]) -> None:
    """Returns when none of these processes, which are stopped, may do more than the container.

    :param config: the container's OCI configuration.
    :raises Refused: when one of them may.
    """
    shared = host_namespaces(config)
    for process in processes:
        problem = namespace_problem(process, shared) or identity_problem(config, f"/proc/{process}")
        problem = problem or next(_thread_problems(config, process), None)
        if problem:
            raise Refused(f"{procfs.program(process)} in it {problem}, as the images say that came from the source")


def _thread_problems(config: dict, process: int) -> Iterator[str]:
    modules = security_modules()
    for path in glob.glob(f"/proc/{process}/task/*/status"):
        fields = procfs.fields(procfs.read(path))
        problem = thread_problem(config, fields)
        if not problem and fields.get("State", "Z")[:1] not in "ZX":
            problem = label_problem(config, modules, os.path.dirname(path))
        if problem:
            yield problem


def security_modules() -> set[str]:
    """Which of AppArmor and SELinux the kernel of this server has and uses."""
    found = {"apparmor"} if procfs.read("/sys/module/apparmor/parameters/enabled").startswith("Y") else set()
    return found | ({"selinux"} if os.path.exists("/sys/fs/selinux/enforce") else set())


def label_problem(config: dict, modules: set[str], thread: str) -> str | None:
    """What is wrong with the label by which AppArmor or SELinux holds a thread.

    :param modules: see C(security_modules).
    :param thread: its folder in C(/proc).
    """
    process = config.get("process") or {}
    profile, label = process.get("apparmorProfile", ""), process.get("selinuxLabel", "")
    found = _label(thread, "apparmor") if "apparmor" in modules and profile else ""
    if found and not is_within_profile(found, profile):
        return f"is held by {found} of AppArmor, and not by {profile} as the container"
    found = _label(thread, "selinux") if "selinux" in modules and label else ""
    if found and found != label:
        return f"has the label {found} of SELinux, and not {label} as the container"
    return None


def _label(thread: str, module: str) -> str:
    """A label as the kernel tells it, which has a file for each module from Linux 5.8 on; empty where it tells none."""
    text = procfs.read(f"{thread}/attr/{module}/current") or procfs.read(f"{thread}/attr/current")
    return text.rstrip("\0\n")


def is_within_profile(label: str, profile: str) -> bool:
    """Whether a label of AppArmor holds as a profile does: it is that, one within it, or it and another one together.

    :param label: such as C(docker-default (enforce)).
    """
    name = label.rpartition(" (")[0] if label.endswith(")") else label
    return profile == "unconfined" or name == profile or name.startswith(f"{profile}//")


def host_namespaces(config: dict) -> set[str]:
    """The kernel's names of the namespaces that the container shares with its server."""
    entries = {one.get("type"): one.get("path") for one in (config.get("linux") or {}).get("namespaces") or []}
    return {name for kind, name in _NAMESPACES.items() if kind not in entries or _is_of_host(entries[kind] or "", name)}


def _is_of_host(path: str, name: str) -> bool:
    return bool(path) and os.path.samefile(path, f"/proc/self/ns/{name}")


def namespace_problem(process: int, shared: set[str]) -> str | None:
    """What is wrong with the namespaces of a process.

    :param shared: see C(host_namespaces).
    """
    for name in sorted(set(_NAMESPACES.values()) - shared):
        try:
            is_host = os.path.samefile(f"/proc/{process}/ns/{name}", f"/proc/self/ns/{name}")
        except FileNotFoundError:
            # The process has ended, or the kernel does not have this kind.
            continue
        if is_host:
            return f"is in the server's own {name} namespace"
    return None


def identity_problem(config: dict, process: str) -> str | None:
    """What is wrong with the users and groups of the server as which a process counts there.

    :param config: the container's OCI configuration.
    :param process: its folder in C(/proc).
    """
    linux = config.get("linux") or {}
    # Those of a namespace that others have made are not told there.
    if any(one.get("type") == "user" and one.get("path") for one in linux.get("namespaces") or []):
        return None
    for kind, file, key in (("users", "uid_map", "uidMappings"), ("groups", "gid_map", "gidMappings")):
        given = sorted((one["containerID"], one["hostID"], one["size"]) for one in linux.get(key) or [])
        found = parse_ranges(procfs.read(f"{process}/{file}"))
        # Nothing of one that has ended, or where the kernel has no such namespaces.
        if found and found != (given or parse_ranges(procfs.read(f"/proc/self/{file}"))):
            return f"has other {kind} of the server than the container"
    return None


def parse_ranges(text: str) -> list[tuple[int, ...]]:
    """The ranges in C(/proc/PID/uid_map), as (first one there, first one here, how many)."""
    return sorted(tuple(map(int, line.split())) for line in text.split("\n") if line)


def thread_problem(config: dict, status: dict[str, str]) -> str | None:
    """What a thread may do and the container may not.

    :param config: the container's OCI configuration.
    :param status: the fields of C(/proc/PID/task/TID/status).
    """
    if not status or status["State"][:1] in "ZX":
        return None
    process = config.get("process") or {}
    held = process.get("noNewPrivileges", False)
    extra = _beyond(status, allowed(process))
    if extra:
        return f"has the capability CAP_{extra}, which the container does not have"
    if held and status.get("NoNewPrivs") == "0":
        return "may gain new privileges, which the container may not"
    if (config.get("linux") or {}).get("seccomp") and status.get("Seccomp", _SECCOMP_FILTER) != _SECCOMP_FILTER:
        return "has no seccomp filter, which the container has"
    user = (process.get("user") or {}).get("uid", 0)
    if held and user and set(status["Uid"].split()) != {str(user)}:
        return f"is of another user than {user}, to which the container is bound"
    return None


def allowed(process: dict) -> set[str]:
    """The capabilities that a process of the container can get.

    :param process: the part of that name of the OCI configuration.
    """
    given = process.get("capabilities") or {}
    # Before version 1.0 of the OCI's specification, one list is all of them.
    names = given.get("bounding") or [] if isinstance(given, dict) else given
    found = {name[4:] if name.startswith("CAP_") else name for name in names}
    return found.union(_PARTS_OF_SYS_ADMIN) if "SYS_ADMIN" in found else found


def _beyond(status: dict[str, str], names: set[str]) -> str | None:
    """A capability in any set of a thread that is not among these."""
    numbers = {CAPABILITIES.index(name) for name in names if name in CAPABILITIES}
    for field in _SETS:
        value = int(status.get(field, "0"), 16)
        for number in range(value.bit_length()):
            if value >> number & 1 and number not in numbers:
                return CAPABILITIES[number] if number < len(CAPABILITIES) else str(number)
    return None
