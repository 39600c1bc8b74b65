# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The restore of what processes share, apart from CRIU's.

CRIU reads shared memory into a mapping, in which each page is a fault of its own and is filled with zeros first
(C(open_shmem) in criu/shmem.c). To write it as a file takes less than half of that time, and two processors share it.
So CRIU is given pieces that are empty, and they are written when it has restored the container, of which nothing runs.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap, process_memory, write_shared
from ansible_collections.fog.migration.plugins.module_utils.memory.page_store import Store
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, pipes, procfs
from ansible_collections.fog.migration.plugins.module_utils.validate import is_whole

# Bytes of a piece for which it pays, and how many pieces there may be.
LEAST, MOST_PIECES = 4 << 20, 256
# include/uapi/linux/fcntl.h: Python has not all of them.
F_GET_SEALS, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE = 1034, 0x8, 0x10


class Place(NamedTuple):
    """Where a process has a piece mapped.

    :param image_id: its PID in the innermost namespace.
    :param start: an address in the mapping.
    """

    image_id: int
    start: int


def parse_places(value: Any, held: Iterable[str]) -> dict[str, Place]:
    """The places by pagemap, as the source has sent them.

    :param held: the pagemaps of which there are pages here.
    :raises Refused: when they are malformed.
    """
    if not isinstance(value, dict) or len(value) > MOST_PIECES:
        raise Refused("the source sent no valid list of shared memory")
    known = {name for name in held if pagemap.is_shared(name)}
    for name, place in value.items():
        numbers = isinstance(place, list) and len(place) == 2 and all(is_whole(one) and one < 1 << 62 for one in place)
        if name not in known or not numbers:
            raise Refused("the source sent a malformed place of shared memory")
    return {name: Place(*place) for name, place in value.items()}


def pays(file: int) -> bool:
    """Whether a piece of shared memory is restored apart from CRIU: it is large, can be written, and has whole pages.

    The last bytes of a page of which the file ends within can only be written through a mapping.
    """
    size = os.fstat(file).st_size
    if not hasattr(os, "memfd_create") or size < LEAST or size % pagemap.PAGE or not write_shared.is_kernels(file):
        return False
    return not fcntl.fcntl(file, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)


class SharedRestore:
    """The pieces of one container. Its program is started beforehand, which takes longer than to write most of them.

    :param folder: where the program is put; for nobody else to write.
    """

    def __init__(self, folder: str) -> None:
        path = deploy.install_program(folder, deploy.name_of(write_shared))
        self._program = pipes.piped([sys.executable, "-I", "-S", path])
        self.places: dict[str, Place] = {}

    def write(self, store: Store, processes: Iterable[int], group_of: Callable[[int], str]) -> None:
        """Writes the pieces of I(places), which the store has; it has them no more then.

        :param processes: of the container.
        :param group_of: the folder of the control group to which the memory of a process is charged.
        :raises Refused: when that fails.
        """
        if not self.places:
            return
        by_image = {process_memory.innermost(procfs.read(f"/proc/{one}/status")): one for one in processes}
        missing = sorted({place.image_id for place in self.places.values()} - set(by_image))
        if missing:
            raise Refused(f"shared memory cannot be restored: process {missing[0]} of the container is not there")
        pieces = [_piece(store, name, by_image[place.image_id], place) for name, place in self.places.items()]
        problem = self._request({"group": group_of(pieces[0]["process"]), "pieces": pieces})
        if problem:
            raise Refused(f"shared memory cannot be restored: {problem}")
        for name in self.places:
            store.give_up(name)

    def _request(self, request: dict[str, Any]) -> str:
        try:
            self._program.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            self._program.stdin.flush()
            answer = self._program.stdout.readline()
        except OSError as exc:
            return str(exc.strerror or exc)
        self._program.process.wait()
        return answer.decode("utf-8", "replace").strip() if answer else "the program that writes it was killed"

    def close(self) -> None:
        """Ends the program."""
        self._program.process.kill()
        self._program.process.wait()
        for pipe in (self._program.stdin, self._program.stdout):
            # What could not be written to a program that is gone is not written now either.
            with contextlib.suppress(OSError):
                pipe.close()


def _piece(store: Store, name: str, process: int, place: Place) -> dict[str, Any]:
    """One piece, as the program takes it."""
    with store.runs(name) as runs:
        listed = [[run.offset, run.vaddr, run.pages * store.page] for run in runs]
        file = f"/proc/{os.getpid()}/fd/{runs[0].file}"
    return {"process": process, "start": place.start, "file": file, "runs": listed}
