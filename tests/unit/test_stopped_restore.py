# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is restored stopped, and goes on: real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import stopped_restore
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# A process and its child. It tells how its child was when it was told of it, which it never is.
FAMILY = """
import os, signal, sys, time
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
seen = []
signal.signal(signal.SIGCHLD, lambda *_more: seen.append(os.waitpid(-1, os.WNOHANG | os.WUNTRACED)))
print(child, flush=True)
deadline = time.monotonic() + 20
while not seen and time.monotonic() < deadline:
    time.sleep(0.01)
print(seen[0][0], flush=True)
os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("parents", "first", "order"),
    [
        ({1: 0}, 1, [1]),
        ({7: 1, 5: 7, 9: 5, 6: 7}, 7, [9, 5, 6, 7]),
        # What "docker exec" has started has another parent.
        ({7: 1, 8: 7, 20: 1, 21: 20}, 7, [8, 21, 20, 7]),
    ],
)
def test_the_order_in_which_they_go_on(parents, first, order):
    assert stopped_restore.in_order(parents, first) == order


def test_no_parent_sees_its_child_stopped(monkeypatch):
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True) as parent:
        try:
            child = int(parent.stdout.readline())
            family = [parent.pid, child]
            monkeypatch.setattr(runc, "processes", lambda _container: family)
            monkeypatch.setattr(runc, "moving", lambda _container: family)
            monkeypatch.setattr(runc, "first_process", lambda _container: (parent.pid, ""))
            # As CRIU leaves them.
            subprocess.run(["kill", "-STOP", *map(str, family)], check=True)
            stopped_restore.require_stopped("c1")
            assert stopped_restore.waits("c1") and procfs.is_stopped(child)
            stopped_restore.resume("c1")
            assert not stopped_restore.waits("c1") and not procfs.is_stopped(child)
            assert parent.stdout.readline() == "0\n"
        finally:
            parent.kill()
