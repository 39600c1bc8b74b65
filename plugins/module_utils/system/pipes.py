# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program with a pipe to it and a pipe from it.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import subprocess
from typing import IO, Any, NamedTuple


class Piped(NamedTuple):
    """A program that runs, and its pipes."""

    process: subprocess.Popen
    stdin: IO[bytes]
    stdout: IO[bytes]


def piped(command: list[str], **more: Any) -> Piped:
    """Starts a program.

    :param more: further arguments of C(Popen).
    """
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
    if not (process.stdin and process.stdout):
        raise AssertionError("both are pipes")
    return Piped(process, process.stdin, process.stdout)
