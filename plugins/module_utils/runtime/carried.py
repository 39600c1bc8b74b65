# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a container's threads CRIU's images do not have, and a migration carries beside them: the processors.

A thread that was bound to some of them (sched_setaffinity) is bound to the same ones where it is restored, before it
runs, as far as they are there.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import process_memory
from ansible_collections.fog.migration.plugins.module_utils.system import host, procfs

# Its name beside the images.
NAME = "processors.json"
# Bytes that it may have, and the number that no processor's reaches.
_MOST, _MOST_PROCESSORS = 4 << 20, 1 << 16


def allowed(container: str) -> set[int]:
    """The processors that the control groups of a container let its threads have."""
    groups = runc.control_groups(container)
    for folder, name in ((groups.get("cpuset"), "cpuset.effective_cpus"), (groups.get(""), "cpuset.cpus.effective")):
        text = procfs.read(os.path.join(folder, name)) if folder else ""
        if text.strip():
            return host.parse_list(text)
    return set(host.processors())


def bound(processes: Iterable[int], every: set[int]) -> dict[int, list[int]]:
    """The threads of these processes that are bound to some processors: these, by TID in the innermost PID namespace.

    :param every: the processors that one has that is bound to none.
    """
    found = {}
    for process in processes:
        for thread in _threads(process):
            # What ends meanwhile does not move.
            with contextlib.suppress(OSError):
                processors = os.sched_getaffinity(thread)
                if processors != every:
                    found[_innermost(process, thread)] = sorted(processors)
    return found


def _threads(process: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir(f"/proc/{process}/task")]
    return []


def _innermost(process: int, thread: int) -> int:
    return process_memory.innermost(procfs.read(f"/proc/{process}/task/{thread}/status"))


def write(container: str, folder: str) -> None:
    """Notes beside the images in a folder what threads of a container are bound to; nothing where none is.

    :raises FreezeError: when no runtime knows it.
    """
    found = bound(runc.moving(container), allowed(container))
    if found:
        path = os.path.join(folder, NAME)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
            json.dump(found, stream)


def read(folder: str) -> dict[int, list[int]]:
    """What was noted there; nothing where nothing was.

    :raises Refused: when it is not what C(write) writes.
    """
    try:
        with open(os.path.join(folder, NAME), encoding="ascii") as stream:
            return parse(stream.read(_MOST + 1))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"what came with the images of its threads' processors is malformed ({error})") from error


def parse(text: str) -> dict[int, list[int]]:
    """The same from its text.

    :raises ValueError: when it is not what C(write) writes.
    """
    value = json.loads(text) if len(text) <= _MOST else None
    if not isinstance(value, dict):
        raise ValueError("no object of a few MiB")
    found = {}
    for thread, processors in value.items():
        are_numbers = isinstance(processors, list) and all(map(_is_number, processors))
        if not thread.isdigit() or not are_numbers or not all(0 <= one < _MOST_PROCESSORS for one in processors):
            raise ValueError("no lists of processors by thread")
        found[int(thread)] = processors
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def bind(processes: Iterable[int], wanted: Mapping[int, list[int]]) -> None:
    """Binds threads of these processes, which are stopped, as was noted, to what is there of that.

    :param wanted: see C(bound).
    """
    for process in processes if wanted else ():
        for thread in _threads(process):
            with contextlib.suppress(OSError):
                there = set(wanted.get(_innermost(process, thread), ())) & os.sched_getaffinity(thread)
                if there:
                    os.sched_setaffinity(thread, there)
