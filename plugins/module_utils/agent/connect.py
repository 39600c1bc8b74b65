# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaks to the agent whose folder this file lies in.

    connect.py call           passes standard input to the agent, and the agent's answer to standard output
    connect.py attach NAME    gives standard input and output to the agent, as the channel of the migration NAME

It is started for every request, so it imports no more than it needs.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys

SOCKET = "agent.sock"
BLOCK = 1 << 16


def call(connection: socket.socket) -> int:
    """One request, one answer."""
    while True:
        data = sys.stdin.buffer.read(BLOCK)
        if not data:
            break
        try:
            connection.sendall(data)
        except ConnectionError:
            break  # the agent has refused the request before its end, and has said why
    connection.shutdown(socket.SHUT_WR)
    while True:
        try:
            data = connection.recv(BLOCK)
        except ConnectionError:
            return 0  # it has left a part of the request unread
        if not data:
            return 0
        sys.stdout.buffer.write(data)


def attach(connection: socket.socket, name: str) -> int:
    """Returns when the agent has done with the channel; 1 with the reason on standard error where it refused it."""
    request = json.dumps({"attach": name}).encode("ascii") + b"\n"
    descriptors = array.array("i", [0, 1])
    connection.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    # The agent alone holds the channel from now on, so that its other end sees when the agent closes it.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    reason = b"".join(iter(lambda: connection.recv(BLOCK), b""))
    sys.stderr.write(reason.decode("utf-8", "replace"))
    return 1 if reason else 0


def main(words: list[str]) -> int:
    """Does what the command line says; the exit code."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), SOCKET)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as exc:
        sys.stderr.write(f"no agent answers at {path}: {exc.strerror}\n")
        return 3
    with connection:
        return attach(connection, words[1]) if words[0] == "attach" else call(connection)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
