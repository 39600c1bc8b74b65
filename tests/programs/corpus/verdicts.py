# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What follows from what the clients of a program have heard: nothing here acts.

A judge takes what was heard, and what was found in the container afterwards, and returns what is wrong.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Line(NamedTuple):
    """Something that a client has heard, and when."""

    when: float
    what: str


# By client, each in its order. Of C(-) is what no client has heard: that a program of theirs has said.
Heard = dict[str, list[Line]]
NOBODY = "-"
# How the last word of a client begins that has given up.
GIVEN_UP = "!"
Judge = Callable[[Heard, str], list[str]]

_CHECKSUM = re.compile(r"[0-9a-f]{64}")
_WRONG_WITH_PGBENCH = re.compile(r"error|fatal|aborted", re.IGNORECASE)


def heard(lines: Iterable[str]) -> Heard:
    """Lines of C(client.py): when, who, and what."""
    found: Heard = {}
    for when, who, what in (line.rstrip("\n").split(" ", 2) for line in lines):
        found.setdefault(who, []).append(Line(float(when), what))
    return found


def joined(some: Iterable[Heard]) -> Heard:
    """What the same clients have heard one time after another."""
    found: Heard = {}
    for who, lines in itertools.chain.from_iterable(one.items() for one in some):
        found.setdefault(who, []).extend(lines)
    return found


def answers(all_heard: Heard) -> Heard:
    """What clients have heard of the program itself."""
    return {who: lines for who, lines in all_heard.items() if who != NOBODY}


def longest_pause(all_heard: Heard, begin: float, end: float) -> float:
    """For how many seconds a client has heard nothing, at most, between these times or beyond them."""
    pairs = itertools.chain.from_iterable(map(itertools.pairwise, answers(all_heard).values()))
    waits = (later.when - earlier.when for earlier, later in pairs if later.when >= begin and earlier.when <= end)
    return round(max(waits, default=0.0), 3)


def given_up(all_heard: Heard) -> list[str]:
    """Which clients have given up, and why."""
    return [f"{who}: {line.what[1:].strip()}" for who, lines in all_heard.items() for line in lines if gave_up(line)]


def gave_up(line: Line) -> bool:
    """Whether a line is the last word of a client that has given up."""
    return line.what.startswith(GIVEN_UP)


# Judges


def in_order(all_heard: Heard, _found: str = "") -> list[str]:
    """Each client has heard one number after another, and none twice, from whichever was its first."""
    mistakes = (_first_mistake(who, lines) for who, lines in answers(all_heard).items())
    return [mistake for mistake in mistakes if mistake]


def _first_mistake(who: str, lines: list[Line]) -> str:
    texts = [line.what for line in lines if not gave_up(line)]
    for earlier, later in itertools.pairwise(texts):
        if not (earlier.isdigit() and later.isdigit() and int(later) == int(earlier) + 1):
            return f"{who}: {later!r} after {earlier!r}"
    return ""


def all_published(all_heard: Heard, _found: str = "") -> list[str]:
    """In order, and to the last number: a publisher says at last how many it has published, from 0 on."""
    numbers = [line.what.split()[1] for line in all_heard.get(NOBODY, []) if line.what.startswith("published ")]
    last = [lines[-1].what for lines in answers(all_heard).values()]
    wanted = [str(int(number) - 1) for number in numbers]
    lost = [] if wanted == last else [f"the last numbers are {last}, not {wanted}"]
    return in_order(all_heard) + lost


def as_in_the_files(all_heard: Heard, found: str) -> list[str]:
    """Answers are the text of the small file, and downloads have the checksum of the large one; both were found."""
    checksum, text = found.split()
    wrong = []
    for who, lines in answers(all_heard).items():
        texts = [line.what for line in lines if not gave_up(line)]
        if who.startswith("download"):
            texts, wanted = [one for one in texts if _CHECKSUM.fullmatch(one)], checksum
        else:
            wanted = text
        if set(texts) != {wanted}:
            wrong.append(f"{who}: {sorted(set(texts))[:3]} instead of {wanted!r}")
    return wrong


def sums_are_equal(all_heard: Heard, found: str) -> list[str]:
    """No transaction of pgbench has failed, all are in its table, and the sums of its four tables are equal.

    :param found: the number of transactions in its table, then the sums.
    """
    said = [line.what for line in all_heard.get(NOBODY, [])]
    wrong = [line for line in said if _WRONG_WITH_PGBENCH.search(line)]
    processed, failed = (_total(said, f"number of {what}: ") for what in _TRANSACTIONS)
    if failed != 0:
        wrong.append(f"{failed} transactions have failed")
    number, *sums = (int(word) for word in found.split())
    if number != processed:
        wrong.append(f"{processed} transactions are done for the clients, and {number} for the database")
    if len(sums) != 4 or len(set(sums)) != 1:
        wrong.append(f"the sums are {sums}")
    return wrong


_TRANSACTIONS = ("transactions actually processed", "failed transactions")


def _total(said: list[str], begin: str) -> int | None:
    """The sum of the numbers in the lines that begin so; None where there is none."""
    numbers = [int(line.removeprefix(begin).split()[0]) for line in said if line.startswith(begin)]
    return sum(numbers) if numbers else None
