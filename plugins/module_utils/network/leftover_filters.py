# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packet filters of a migration that are left in the network namespace of the caller: CRIU's lock, and ours.

CRIU locks the network of what it dumps, and unlocks it at its end, but not when it is killed.

    nftables    a table C(CRIU-) and a number, of the family inet (C(nftables_get_table) in criu/netfilter.c)
    iptables    a chain CRIU in the table filter, and what leads there (C(iptables_network_lock_internal) in
                criu/net.c); in the server's own network, two rules for each connection, that drop all packets without
                CRIU's mark (C(IPTABLES_CONN_CMD) in criu/netfilter.c)

Rules of iptables are read and removed by the server's own program, as CRIU makes them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import NamedTuple, Union

from ansible_collections.fog.migration.plugins.module_utils.network import filters, netlink, nftables

PROGRAMS = ("iptables", "ip6tables")
_CHAIN, _MARK = "CRIU", "! --mark 0xc114"
_PLACES = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"
# Seconds that one of these programs may take.
_PATIENCE = 20


class Table(NamedTuple):
    """A table of nftables."""

    family: int
    name: str

    @property
    def is_ours(self) -> bool:
        """Whether a migration itself has made it, and CRIU did not."""
        return self.name == filters.TABLE

    def __str__(self) -> str:
        whose = "the migration's" if self.is_ours else "CRIU's"
        return f"{whose} network lock in the nftables table {self.name}"


class Rules(NamedTuple):
    """Rules of CRIU's in iptables, as C(iptables-save) tells them, a chain's begin among them."""

    program: str
    lines: tuple[str, ...]

    @property
    def is_ours(self) -> bool:
        """A migration itself makes none."""
        return False

    def __str__(self) -> str:
        return f"CRIU's network lock in {self.program}"


Leftover = Union[Table, Rules]


def find() -> list[Leftover]:
    """What is left in the network namespace of the caller."""
    tables = [Table(family, name) for family, name in nftables.tables() if is_leftover(name)]
    rules = [Rules(program, rules_in(_saved(program))) for program in PROGRAMS]
    return [*tables, *(one for one in rules if one.lines)]


def remove(one: Leftover) -> None:
    """Removes one of them.

    :raises OSError: when it cannot be removed.
    """
    if isinstance(one, Table):
        _remove_table(one)
        return
    for text in undoing(one.lines):
        _restore(one.program, text)


def is_leftover(table: str) -> bool:
    """Whether a table of nftables is one of a migration, by its name."""
    return table == filters.TABLE or table.startswith(_CHAIN + "-")


def rules_in(saved: str) -> tuple[str, ...]:
    """The lines about CRIU's rules in what C(iptables-save) has written."""
    table, found = "", []
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif table == "filter" and _is_rule(line):
            found.append(line)
    return tuple(found)


def _is_rule(line: str) -> bool:
    words = line.split()
    begins_chain = words[:1] == [":" + _CHAIN]
    leads_there = words[:1] == ["-A"] and words[-2:] == ["-j", _CHAIN]
    locks_connection = words[:1] == ["-A"] and _MARK in line and words[-2:] == ["-j", "DROP"]
    return begins_chain or leads_there or locks_connection


def undoing(lines: Iterable[str]) -> list[str]:
    """What C(iptables-restore) has to read, one after the other, so that these rules are gone.

    With nf_tables behind it, it removes a chain only in a change of its own, once nothing leads there any more.
    """
    rules = [f"-D{line[2:]}" for line in lines if line.startswith("-A")]
    chain = [f"-F {_CHAIN}", f"-X {_CHAIN}"] if any(line.startswith(":") for line in lines) else []
    return ["\n".join(["*filter", *changes, "COMMIT", ""]) for changes in (rules, chain) if changes]


def _remove_table(table: Table) -> None:
    batch = nftables.Batch()
    batch.delete_table(*table)
    try:
        batch.send()
    except OSError as exc:
        # Whoever made it was faster.
        if not netlink.is_missing(exc):
            raise


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), _PLACES]))


def _saved(program: str) -> str:
    """All rules; nothing where the program is missing or does not work: then it was of no use to CRIU either."""
    path = _program(f"{program}-save")
    if not path:
        return ""
    try:
        done = subprocess.run(
            [path], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _restore(program: str, text: str) -> None:
    path = _program(f"{program}-restore") or f"{program}-restore"
    words = [path, "-w", "--noflush"]
    try:
        subprocess.run(words, input=text, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except subprocess.SubprocessError as exc:
        raise OSError(f"{path} does not remove CRIU's rules ({exc})") from exc
