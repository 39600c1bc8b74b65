# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module is run by itself, and refuses what only its action plugin can do."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

NOWHERE = {"docker_host": "unix:///nowhere.sock"}
# Each of these says that it cannot reach Docker, before anything else.
ALONE = {
    "container_checkpoint": {"container": "looper", "name": "c1"},
    "container_restore": {"path": "/nowhere"},
    "image_export": {"image": "looper:1.0", "path": "/nowhere/looper.tar"},
    "image_load": {"image": "sha256:a", "path": "/nowhere/looper.tar"},
    "network_create": {"networks": {}},
}
BY_AGENTS = {
    "container_checkpoint": {"migrations": [{"id": "looper-1"}], "agents": {"fog1": {}}},
    "container_restore": {"migrations": [{"id": "looper-1"}]},
    "image_export": {"agents": {"fog1": {}}},
    "image_load": {"agents": {"fog1": {}}},
}


def message(module: str, arguments: dict) -> str:
    """What a module that fails says when it is run as a program."""
    name = f"ansible_collections.fog.migration.plugins.modules.{module}"
    words = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **NOWHERE}})
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", name], input=words, capture_output=True, text=True, check=False, env=environment
    )
    result = json.loads(done.stdout)
    assert result["failed"], result
    return result["msg"]


@pytest.mark.parametrize("module", ALONE)
def test_it_runs_by_itself(module):
    assert "unix:///nowhere.sock cannot be reached" in message(module, ALONE[module])


@pytest.mark.parametrize("module", BY_AGENTS)
def test_it_asks_no_agents(module):
    assert message(module, {**ALONE[module], **BY_AGENTS[module]}).startswith("Agents are asked by the action plugin")
