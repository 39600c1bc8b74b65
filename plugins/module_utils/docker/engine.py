# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few words that a program of ours has to say to Docker while a container stands still, without Docker's SDK.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import json
import socket
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.validate import one_sentence

_END = b"\r\n"


def call(docker_socket: str, method: str, path: str, seconds: float | None = None) -> str | None:
    """C(METHOD PATH) of Docker's API, without a body: why it failed, or None.

    :param docker_socket: path of Docker's socket on this host.
    :param path: such as C(/containers/ID/pause).
    :param seconds: how long Docker may take; None: as long as it likes.
    """
    answer, problem = _answer(docker_socket, method, path, seconds)
    return problem or refusal(answer)


def get(docker_socket: str, path: str, seconds: float | None = 60) -> tuple[dict, str | None]:
    """What Docker tells at this path of its API, an object, and why it does not, or None."""
    answer, problem = _answer(docker_socket, "GET", path, seconds)
    problem = problem or refusal(answer)
    if problem:
        return {}, problem
    try:
        # Of version 1.0 of HTTP, there are no parts.
        return json.loads(answer.partition(b"\r\n\r\n")[2].decode("utf-8")), None
    except (ValueError, RecursionError):
        return {}, "its answer cannot be read"


def fetch(docker_socket: str, path: str, seconds: float | None = 60) -> tuple[int, dict[str, str], Any, str | None]:
    """As C(get), for whoever has to tell one failure from another.

    :returns: the status (0: no answer), Docker's headers by their names in lower case, what it tells, and the problem.
    """
    answer, problem = _answer(docker_socket, "GET", path, seconds)
    if problem:
        return 0, {}, None, problem
    head, _blank, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    number = first.split(" ")[1:2]
    status = int(number[0]) if number and number[0].isdigit() else 0
    headers = {name.strip().lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    if refusal(answer):
        return status, headers, None, refusal(answer)
    try:
        value = json.loads(body.decode("utf-8")) if "json" in headers.get("content-type", "") else body.decode("utf-8")
        return status, headers, value, None
    except (ValueError, RecursionError):
        return status, headers, None, "its answer cannot be read"


def _answer(docker_socket: str, method: str, path: str, seconds: float | None) -> tuple[bytes, str | None]:
    """Docker's whole answer, and why there is none, or None."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(seconds)
    try:
        connection.connect(docker_socket)
        connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".encode("ascii"))
        with connection.makefile("rb") as stream:
            return stream.read(), None
    except OSError as exc:
        return b"", f"Docker does not answer at {docker_socket}: {exc.strerror or exc}"
    finally:
        connection.close()


def refusal(answer: bytes) -> str | None:
    """Why Docker refused, from its whole answer, or None."""
    head, _blank, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    # 304: it is so already.
    if status and (status[0].startswith(b"2") or status[0] == b"304"):
        return None
    try:
        return " ".join(str(json.loads(body.decode("utf-8"))["message"]).split())
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"Docker answered {one_sentence(head.split(_END)[0].decode('ascii', 'replace')) or 'nothing'}"
