# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a policy does not allow, in words for people, and what its patterns mean.

Pure functions all of them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import NamedTuple

# As long as a path may be, and some words.
_LONGEST = 4200


class Refusal(NamedTuple):
    """What a policy does not allow: a clause of what the container has, and the line that would allow it."""

    problem: str
    allow: str

    def __str__(self) -> str:
        return f"{self.problem} (allowed by {self.allow})" if self.allow else f"{self.problem} (nothing allows that)"


def in_one_line(found: Iterable[Refusal]) -> list[Refusal]:
    """The same, each once. What a container asks for is its owner's text, and these become messages of one line."""
    return list(dict.fromkeys(Refusal(printable(one.problem), printable(one.allow)) for one in found))


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Whether one of these patterns, as a shell has them, is of this text."""
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns)


def printable(text: str) -> str:
    """A text without what would do something to a terminal, and not without end."""
    plain = "".join(one if one.isprintable() else "?" for one in text)
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."


def short(text: str) -> str:
    """The begin of a text that may be a whole file."""
    plain = printable(text)
    return plain if len(plain) < 80 else f"{plain[:40]}..."
