# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the processes of a restored container may use up of the server: limits of resources, niceness, real time.

CRIU gives each process what its images say, and it may give more than the container could take for itself. What is
above what a container gets that Docker starts here is lowered to that, before any of them runs. It is not refused: an
honest container may come from a server whose Docker gives more, or whose root has given it more.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import functools
import os
import resource
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import open_files, privileges
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# The kernel's numbers of limits, by the words of C(/proc/PID/limits) (fs/proc/base.c), and their names in the OCI
# configuration. Python has no name of some of them.
LIMITS = {
    "Max cpu time": (0, "RLIMIT_CPU"),
    "Max file size": (1, "RLIMIT_FSIZE"),
    "Max data size": (2, "RLIMIT_DATA"),
    "Max stack size": (3, "RLIMIT_STACK"),
    "Max core file size": (4, "RLIMIT_CORE"),
    "Max resident set": (5, "RLIMIT_RSS"),
    "Max processes": (6, "RLIMIT_NPROC"),
    "Max open files": (7, "RLIMIT_NOFILE"),
    "Max locked memory": (8, "RLIMIT_MEMLOCK"),
    "Max address space": (9, "RLIMIT_AS"),
    "Max file locks": (10, "RLIMIT_LOCKS"),
    "Max pending signals": (11, "RLIMIT_SIGPENDING"),
    "Max msgqueue size": (12, "RLIMIT_MSGQUEUE"),
    "Max nice priority": (13, "RLIMIT_NICE"),
    "Max realtime priority": (14, "RLIMIT_RTPRIO"),
    "Max realtime timeout": (15, "RLIMIT_RTTIME"),
}
_NICE, _REAL_TIME = "RLIMIT_NICE", "RLIMIT_RTPRIO"
_UNLIMITED = (1 << 64) - 1
# Those that want RLIMIT_RTPRIO, and the one that no limit lets anybody have (SCHED_DEADLINE in sched(7)).
_OF_REAL_TIME, _DEADLINE = (os.SCHED_FIFO, os.SCHED_RR), 6
_GONE = (FileNotFoundError, ProcessLookupError)


class Given(NamedTuple):
    """What a container gets that Docker starts here.

    :param limits: the hard limits, by their names in the OCI configuration.
    :param niceness: the lowest.
    :param score: its oom_score_adj.
    :param others_score: that of who starts it, which a process has of which CRIU has restored no other one.
    """

    limits: Mapping[str, int]
    niceness: int
    score: int
    others_score: str


def require(config: dict, container: str, processes: Iterable[int]) -> None:
    """Returns when none of these processes, which are stopped, has brought along what the container may not have.

    :param config: the container's OCI configuration; where there is none, nothing is required.
    :raises Refused: when that is not so.
    :raises FreezeError: when no runtime knows the container.
    """
    if not config:
        return
    first, known = runc.first_process(container)[0], list(processes)
    _lower(config, first, known)
    open_files.require(config, first, known)


def _lower(config: dict, first: int, processes: Iterable[int]) -> None:
    process = config.get("process") or {}
    may = privileges.allowed(process)
    given = given_here(process, starter_of(first))
    # Most processes of a container have the same ones.
    limits = functools.lru_cache(maxsize=None)(lambda text: above(parse_limits(text), given.limits))
    for one in processes:
        try:
            if "SYS_RESOURCE" not in may:
                for number, pair in limits(procfs.read(f"/proc/{one}/limits")).items():
                    resource.prlimit(one, number, pair)
                _lower_score(one, given)
            if "SYS_NICE" not in may:
                for thread in os.listdir(f"/proc/{one}/task"):
                    _lower_priority(int(thread), given)
        except _GONE:
            continue
        except (OSError, OverflowError, ValueError) as exc:
            raise Refused(
                f"{procfs.program(one)} in it may use more than the container, which stays so ({exc})"
            ) from exc


# ---------------------------------------------------------------------------------------------------------------------
# What is given


def starter_of(first: int) -> int | None:
    """The program that has started the first process of a container, and has given it what it had itself."""
    process, seen = first, 0
    while process > 1 and seen < 5:
        process, seen = procfs.parents([process])[process], seen + 1
        if (procfs.executable(process) or "").rpartition("/")[2].find("containerd-shim") >= 0:
            return process
    return None


def given_here(process: dict, starter: int | None) -> Given:
    """What Docker gives.

    :param process: the part of that name of the OCI configuration.
    :param starter: see C(starter_of). Where there is none, only what the configuration says is known.
    """
    limits = {name: hard for name, (_soft, hard) in parse_limits(procfs.read(f"/proc/{starter}/limits")).items()}
    limits.update({one["type"]: one["hard"] for one in process.get("rlimits") or []})
    niceness = os.getpriority(os.PRIO_PROCESS, starter) if starter else 0
    return Given(
        limits,
        min(0, niceness, 20 - min(40, limits.get(_NICE, 0))),
        process.get("oomScoreAdj") or 0,
        procfs.read(f"/proc/{starter}/oom_score_adj").strip(),
    )


def parse_limits(text: str) -> dict[str, tuple[int, int]]:
    """The soft and the hard limits in the text of C(/proc/PID/limits), by their names in the OCI configuration."""
    found = {}
    for line in text.split("\n")[1:]:
        words = line[26:].split()
        known = LIMITS.get(line[:26].strip())
        if known and len(words) >= 2:
            found[known[1]] = (_number(words[0]), _number(words[1]))
    return found


def _number(word: str) -> int:
    return _UNLIMITED if word == "unlimited" else int(word)


# ---------------------------------------------------------------------------------------------------------------------
# What is lowered


def above(limits: Mapping[str, tuple[int, int]], given: Mapping[str, int]) -> dict[int, tuple[int, int]]:
    """What limits are lowered to that are above those that are given, by the kernel's numbers."""
    numbers = {name: number for number, name in LIMITS.values()}
    found = {}
    for name, (soft, hard) in limits.items():
        most = given.get(name, hard)
        if hard > most:
            found[numbers[name]] = (_as_asked(min(soft, most)), _as_asked(most))
    return found


def _as_asked(value: int) -> int:
    return resource.RLIM_INFINITY if value >= _UNLIMITED else value


def _lower_score(process: int, given: Given) -> None:
    """Has the kernel's OOM killer not spare a process. Of whom it spares by mistake, C(settle_oom_score) knows."""
    score = procfs.read(f"/proc/{process}/oom_score_adj").strip()
    if score and score != given.others_score and int(score) < given.score:
        with open(f"/proc/{process}/oom_score_adj", "w", encoding="ascii") as stream:
            stream.write(str(given.score))


def _lower_priority(thread: int, given: Given) -> None:
    policy = os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK
    most = given.limits.get(_REAL_TIME, 0)
    is_above = policy in _OF_REAL_TIME and os.sched_getparam(thread).sched_priority > most
    if is_above and most:
        os.sched_setparam(thread, os.sched_param(most))
    elif is_above or policy == _DEADLINE:
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
    # It counts as soon as there is no real time any more.
    if os.getpriority(os.PRIO_PROCESS, thread) < given.niceness:
        os.setpriority(os.PRIO_PROCESS, thread, given.niceness)
