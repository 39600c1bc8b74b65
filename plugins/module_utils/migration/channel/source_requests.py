# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the source's end of a channel, which come through a socket in the private folder of the transfer.

One line of JSON asks, one line answers: C(result), or C(error) with the C(state) that the container is in now, and in
C(words) how that is and what to do.

    make      has the destination make the container, with all but its memory and its volumes' content
    copy      begins with the volumes, then rounds of pre-copy, as long as they pay; answers at once
    progress  how far that is
    arm       has the destination's Docker wait inside our OCI runtime
    ready     has the destination up to date, for the shortest freeze; of containers that move together
    pause     has it stand still; of those that move together, so that none writes any more what others have as well
    freeze    freezes, sends, has the destination restore; answers when the container runs there, or, of those that
              move together, when it is restored there and waits
    go        has what waits there run, since all the others can; answers when it runs
    finish    answers when Docker owns the container there and no page is missing any more; the program ends
    give up   lets the container go on here, if the destination does not have it; the program ends
    end       finishes or gives up, whichever it is time for; for a migration that nobody waits for any more

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from dataclasses import dataclass, field
from typing import Any, Protocol

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError, MigrationError
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.precopy import Limits
from ansible_collections.fog.migration.plugins.module_utils.system import limits

SOCKET = "source.sock"
OPERATIONS = ("make", "copy", "progress", "arm", "ready", "pause", "freeze", "go", "finish", "give up", "end")
# After one of them, no other request is answered.
LAST = ("finish", "give up", "end")
MODES = ("stop-and-copy", "precopy", "postcopy", "hybrid")
# Bytes of a request.
MAX_REQUEST = 1 << 20


@dataclass(frozen=True)
class Request:
    """One request to the source's end.

    :param mode: for C(freeze) and C(finish), one of MODES.
    :param memory: for C(copy), whether memory is copied in rounds.
    :param only_shared: for C(copy), whether only the memory is copied that processes share.
    :param limits: for C(copy), when rounds end.
    """

    operation: str
    mode: str = MODES[0]
    memory: bool = False
    only_shared: bool = False
    limits: Limits = field(default_factory=Limits)


class SourceEnd(Protocol):
    """What answers requests."""

    @property
    def state(self) -> str:
        """How the container is now."""

    @property
    def words(self) -> tuple[str, str]:
        """The same, and what to do, as clauses."""

    def handle(self, request: Request) -> dict[str, Any]:
        """Does what is requested; its result."""

    def close(self) -> None:
        """Ends everything, whatever failed."""


# ---------------------------------------------------------------------------------------------------------------------
# Who asks


class NoAnswer(MigrationError):
    """The source's end of a channel did not answer. C(reason) is the error of the socket."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(f"the source's end of the channel does not answer ({reason})")
        self.reason = reason


def ask(channel: str, request: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
    """The result of one request to the source's end of a channel.

    :param channel: its socket.
    :param request: an object for JSON: C(do) is the operation.
    :param seconds: how long it may take; None: as long as it likes.
    :raises NoAnswer: when nobody answers, or not in time.
    :raises MigrationError: when the operation failed, with C(container_state).
    """
    try:
        answer = _exchange(channel, request, seconds)
    except (OSError, ValueError) as exc:
        raise NoAnswer(exc) from exc
    if "error" in answer:
        state, remedy = answer["words"]
        raise MigrationError(answer["error"], state, remedy, container_state=answer["state"])
    return answer["result"]


def _exchange(path: str, request: dict[str, Any], seconds: float | None) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(path)
        with connection.makefile("rw", encoding="utf-8") as stream:
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            return json.loads(stream.readline())


# ---------------------------------------------------------------------------------------------------------------------
# Who answers


def listen(directory: str) -> socket.socket:
    """The socket in this folder. It has its name only once it listens: whoever waits for it connects at once."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = os.path.join(directory, SOCKET)
    listener.bind(path + ".new")
    listener.listen()
    os.rename(path + ".new", path)
    return listener


def serve(source: SourceEnd, listener: socket.socket, patience: float) -> None:
    """Answers one request after the other; ends with the last one, with a failure, or when nobody asks any more.

    :param patience: seconds.
    """
    while select.select([listener], [], [], patience)[0]:
        if not _answer_one(source, listener):
            return
    answer(source, Request("end"))


def _answer_one(source: SourceEnd, listener: socket.socket) -> bool:
    """Answers whoever comes next, who may have been killed meanwhile: that ends nothing. Whether others may follow."""
    connection, _peer = listener.accept()
    request: Request | None = None
    result: dict[str, Any] = {}
    with connection, contextlib.suppress(OSError), connection.makefile("rwb") as stream:
        request = parse(stream.readline(MAX_REQUEST))
        result = answer(source, request) if request else _failure(source, "that is no request")
        stream.write(json.dumps(result).encode("ascii") + b"\n")
        stream.flush()
    return not (request and (request.operation in LAST or "error" in result))


def parse(line: bytes) -> Request | None:
    """The request in a line of JSON, or None when it is none that can be answered."""
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("do"), str) or value["do"] not in OPERATIONS:
        return None
    limits, mode = value.get("limits", {}), value.get("mode", MODES[0])
    numbers = isinstance(limits, dict) and all(isinstance(one, (int, float)) for one in limits.values())
    if not numbers or not set(limits) <= set(Limits._fields) or mode not in MODES:
        return None
    memory, only_shared = bool(value.get("memory")), bool(value.get("only_shared"))
    return Request(value["do"], mode, memory, only_shared, Limits(**limits))


def answer(source: SourceEnd, request: Request) -> dict[str, Any]:
    """The answer to one request: C(result), or C(error) with C(state) and C(words)."""
    try:
        return {"result": source.handle(request)}
    except MigrationError as exc:
        error = exc.what
    except (ChannelError, runc.FreezeError, pagemap.PagesError, OSError) as exc:
        error = str(exc)
    except limits.NO_MEMORY as exc:
        error = limits.out_of_memory(exc)
    try:
        source.close()
    except runc.FreezeError as exc:
        error += f"; and it could not be resumed ({exc})"
    return _failure(source, error)


def _failure(source: SourceEnd, error: str) -> dict[str, Any]:
    return {"error": error, "state": source.state, "words": source.words}
