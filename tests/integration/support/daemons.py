# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker on fog servers: what its version can do, and its settings, changed for a while."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from .lab import Lab, wait_for

SETTINGS = "/etc/docker/daemon.json"


@contextlib.contextmanager
def other_settings(lab: Lab, node: str, restart: bool = False, **wanted) -> Iterator[None]:
    """Docker on this node with other settings, which it reads anew, or for which it is started anew."""
    before = lab.sh(node, f"cat {SETTINGS}")
    _write(lab, node, json.dumps({**json.loads(before), **wanted}), restart)
    try:
        yield
    finally:
        _write(lab, node, before, restart)


def _write(lab: Lab, node: str, text: str, restart: bool) -> None:
    lab.sh(node, f"cat >{SETTINGS} <<'END'\n{text}\nEND\nsystemctl {'restart' if restart else 'reload'} docker")


def version(lab: Lab, node: str) -> str:
    """The version of Docker on this node."""
    return lab.docker(node, "version", "--format", "{{.Server.Version}}")


@contextlib.contextmanager
def without_runtime(lab: Lab, *nodes: str) -> Iterator[None]:
    """Docker on these nodes without our OCI runtime: cold mode goes through Docker's own checkpoints there."""

    def knows(node: str) -> bool:
        return "fog-runc" in lab.docker(node, "info", "--format", "{{json .Runtimes}}")

    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(other_settings(lab, node, runtimes={}))
            wait_for(lambda node=node: not knows(node), "the end of the runtime")
        yield
    for node in nodes:
        wait_for(lambda node=node: knows(node), "the runtime")


def not_experimental(lab: Lab, node: str) -> contextlib.AbstractContextManager[None]:
    """Docker on this node without its experimental mode."""
    return other_settings(lab, node, restart=True, experimental=False)
