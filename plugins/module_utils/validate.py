# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small checks of what comes from outside: numbers, paths, names.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeGuard  # novm

# Docker's own rule for the names of checkpoints and containers: at least two characters.
NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$")
# Levels of folders. What goes down into them goes so deep in itself.
DEEPEST = 200


# Digits of the longest number in what another server says; and of the longest one that Python itself takes for a number
# (from 3.8.14, 3.9.14, 3.10.7 and 3.11 on, where nobody has changed that).
_DIGITS = 4300
# Bytes of a description of a container that another server sends. They take thirty times as much in memory.
LONGEST = 4 << 20
# Letters of what another server says that are shown.
_SHOWN = 100
# And of a sentence.
_LONGEST_SENTENCE = 2000


def one_sentence(text: object) -> str:
    """What another server or a program says, without what would do something to a terminal or a log."""
    words = " ".join(text.split()) if isinstance(text, str) else ""
    return "".join(letter if letter.isprintable() else "?" for letter in words[:_LONGEST_SENTENCE])


def load_json(text: str) -> Any:
    """The value of JSON that another server says.

    A Python without a limit for the digits of a number takes minutes for one of some megabytes.

    :raises ValueError: when it is none, or has too long a number.
    :raises RecursionError: when it goes too deep.
    """
    limit = getattr(sys, "get_int_max_str_digits", int)()
    return json.loads(text, parse_int=None if 0 < limit <= _DIGITS else _short_number)


def load_json_file(path: str, most: int = LONGEST) -> Any:
    """The value in a file that another server has sent.

    :param most: bytes that it may have.
    :raises ValueError: when it is none, or is larger.
    :raises OSError: when it cannot be read.
    """
    with open(path, "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most} bytes")
    try:
        return load_json(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error


def _short_number(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether this is a number to count with: JSON's true is none, and nothing here is negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def shown(value: object) -> str:
    """What another server says, as a sentence shows it: however long it is, the rest of the sentence is there."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def check_path(path: object) -> str | None:
    """Why this path must not be in a listing, or None."""
    if not isinstance(path, str) or not path:
        return "an empty path"
    if "\0" in path:
        return "a path with a NUL in it"
    if path.startswith("/"):
        return f"the absolute path {shown(path)}"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return f"the path {shown(path)}, which leaves the directory or is not in its plain form"
    if path.count("/") >= DEEPEST:
        return f"a path that is more than {DEEPEST} levels deep"
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return f"the path {shown(path)}, which cannot be that of a file"
    return None


def name_refusal(what: str, name: str) -> str | None:
    """Why Docker refuses this name for a checkpoint or a container, or None."""
    if NAME.fullmatch(name):
        return None
    return (
        f"{what} name {name!r} is refused by Docker, which wants two or more of [a-zA-Z0-9_.-], "
        "the first a letter or digit"
    )


def is_text(value: object) -> bool:
    """Whether this is a string."""
    return isinstance(value, str)


def are_texts(value: object) -> bool:
    """Whether this is a list of strings."""
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
