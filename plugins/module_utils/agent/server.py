# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of a server: one process that is started once in a run, and does the work of it for all containers.

It answers requests at a Unix socket in its private folder: one line of JSON with the C(operation) and its C(arguments),
one line of JSON with the C(result), or with C(failure). Each request is answered by a process of its own, forked from
the agent: what is imported once is there for all of them, and none can take the agent or another container with it.

What belongs to a container outlives the request that began it and the agent: the source's and the destination's end
of its channel are processes of their own, and the journal says where they are.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.agent import processes, requests
from ansible_collections.fog.migration.plugins.module_utils.agent.connect import SOCKET
from ansible_collections.fog.migration.plugins.module_utils.agent.steps import Steps
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, descriptors, limits

# Bytes of a request.
LONGEST = 16 << 20
# Seconds between two looks at what has ended.
LOOK = 5
# Seconds without a request after which the agent imports what migrations need: the look at the server comes first.
WARM_UP = 0.25
# Seconds without a request after which an agent ends that has nothing to do.
PATIENCE = 60
# Linux' PR_SET_CHILD_SUBREAPER.
_SUBREAPER = 36


class Agent:
    """The agent itself.

    :param folder: its private folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = os.path.join(folder, SOCKET)
        # Under its name only once it listens: whoever waits for it connects at once.
        self.listener.bind(path + ".new")
        self.listener.listen(64)
        os.rename(path + ".new", path)
        self._asked = time.monotonic()
        self._is_warm = False
        # Those that answer requests now.
        self._children: set[int] = set()

    def serve(self) -> None:
        """Answers until it is told to stop, or nobody has asked for too long."""
        while not self._is_idle():
            ready = select.select([self.listener], [], [], LOOK if self._is_warm else WARM_UP)[0]
            self._children -= _reap()
            if not ready and not self._is_warm and not self._children:
                self._is_warm = True
                requests.warm_up()
            if ready:
                connection, _address = self.listener.accept()
                self._asked = time.monotonic()
                child = os.fork()
                if not child:
                    self.listener.close()
                    processes.in_child(functools.partial(_serve_one, connection, self.folder))
                self._children.add(child)
                connection.close()

    def _is_idle(self) -> bool:
        quiet = time.monotonic() - self._asked
        return quiet > PATIENCE and not self._children and not processes.has_work(self.folder)


def _reap() -> set[int]:
    """Takes note of children that have ended; their numbers."""
    ended: set[int] = set()
    with contextlib.suppress(ChildProcessError):
        while True:
            child = os.waitpid(-1, os.WNOHANG)[0]
            if not child:
                break
            ended.add(child)
    return ended


def _serve_one(connection: socket.socket, folder: str) -> None:
    with connection:
        line, given = receive(connection)
        try:
            request = json.loads(line.decode("utf-8"))
            if not isinstance(request, dict):
                raise ValueError
        except (ValueError, RecursionError):
            connection.sendall(b'{"failure": {"msg": "that is no request"}}\n')
            return
        if "attach" in request:
            requests.attach(folder, str(request["attach"]), given, connection)
            return
        steps = Steps(folder)
        answer = requests.answer(folder, request, steps)
        connection.sendall(json.dumps(dict(answer, steps=steps.lines)).encode("ascii") + b"\n")


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One request, up to its line end or the end of what is sent, and the descriptors that came with it."""
    found: list[int] = []
    text = bytearray()
    while b"\n" not in text and len(text) < LONGEST:
        data, more = descriptors.receive(connection, 2)
        found += more
        if not data:
            break
        text += data
    return bytes(text), found


def _stop(_number: int, _frame: Any) -> None:
    raise SystemExit(0)


def main() -> int:
    """Serves in the folder that this program was installed in, and removes the folder at the end."""
    folder = os.path.dirname(os.path.abspath(sys.argv[0]))
    os.umask(0o077)
    limits.keep_out_of_core_files()
    limits.bound()
    signal.signal(signal.SIGTERM, _stop)
    # What outlives a request becomes a child of the agent.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)
    agent = None
    try:
        deploy.register(folder)
        agent = Agent(folder)
        agent.serve()
    except SystemExit:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if agent:
            agent.listener.close()
        requests.remove(folder)
    return 0
