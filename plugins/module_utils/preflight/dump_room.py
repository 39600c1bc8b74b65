# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server has what CRIU needs for a dump of a container, besides room for the memory itself.

Pure functions all of them, of what C(server_info) tells of the source and its container.
"""

from __future__ import annotations

from typing import NamedTuple

MIB, GIB = 1 << 20, 1 << 30
RESERVE_LESS = "have it reserve less address space (MariaDB: set innodb_buffer_pool_size_max)"


class Hindrance(NamedTuple):
    """Why something cannot be, and what to do about it: two clauses, empty where it can be."""

    problem: str
    remedy: str


NONE = Hindrance("", "")
# Bytes of lists that are copied in about a tenth of a second.
_SLOW_LISTS = 256 * MIB


def against_any(source: dict) -> Hindrance:
    """Why CRIU cannot dump this container at all, since its address space is too large for it."""
    container, available = source["container"], source["host"]["memory_available"]
    needed = container["dump_entries"]
    if needed <= available:
        return NONE
    return Hindrance(
        f"it reserves {_gib(container['address_space'])} of address space, of which CRIU would have to read "
        f"{_mib(needed)} of entries at once, and {_mib(available)} of memory are available",
        f"{RESERVE_LESS}, or use a kernel from 6.7 and a CRIU from 4.0 on, which need not read them",
    )


def against_lazy(source: dict) -> Hindrance:
    """Why CRIU cannot leave the memory of this container with its processes, as post-copy has to."""
    container, host = source["container"], source["host"]
    files, lists = container["dump_descriptors"], container["dump_lists"]
    if files > host["open_files"]:
        return Hindrance(
            f"CRIU would have to open {files} files at the source to leave its memory in place, and may open "
            f"{host['open_files']} there",
            "raise the hard limit of open files there, or say -e migration_mode=precopy",
        )
    if lists > host["memory_available"]:
        return Hindrance(
            f"it reserves {_gib(container['address_space'])} of address space, for which CRIU needs {_mib(lists)} of "
            f"lists to leave its memory in place, and {_mib(host['memory_available'])} are available at the source",
            f"say -e migration_mode=precopy, or {RESERVE_LESS}",
        )
    return NONE


def slows_lazy(source: dict) -> Hindrance:
    """Why leaving the memory of this container with its processes takes CRIU long."""
    container = source["container"]
    if container["dump_lists"] <= _SLOW_LISTS:
        return NONE
    return Hindrance(
        f"it reserves {_gib(container['address_space'])} of address space, for which CRIU copies "
        f"{_mib(container['dump_lists'])} of lists while it stands still",
        f"say -e migration_mode=precopy, or {RESERVE_LESS}",
    )


def lazy_pays(source: dict) -> bool:
    """Whether a dump is faster that leaves the memory with the processes: the lists are copied for it."""
    container = source["container"]
    return not against_lazy(source).problem and container["dump_lists"] <= container["memory"]


def missing_huge_pages(container: dict, destination: dict) -> str:
    """Which huge pages the destination lacks, as a clause; empty where it has all."""
    there = destination["host"]["huge_pages"]
    lacking = [
        f"{_mib(wanted)} of huge pages of {_mib(int(page))} and {_mib(there.get(page, 0))} are free there"
        for page, wanted in sorted(container["huge_pages"].items())
        if wanted > there.get(page, 0)
    ]
    return f"it needs {', '.join(lacking)}" if lacking else ""


def _mib(count: int) -> str:
    return f"{count // MIB} MiB" if count >= MIB else f"{count // 1024} KiB"


def _gib(count: int) -> str:
    return f"{count // GIB} GiB" if count >= GIB else _mib(count)
