# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ast
import json
import stat
import subprocess
import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import engine
from ansible_collections.fog.migration.plugins.module_utils.system import deploy


def test_what_a_source_text_imports():
    text = f"""
import os
from {deploy.PACKAGE} import errors, recovery
from {deploy.PACKAGE}.journal.store import (
    load,
)
from {deploy.PACKAGE}.docker import api, runc
from {deploy.PACKAGE}.docker.mounts import plan
import {deploy.PACKAGE}_not_ours
from {deploy.PACKAGE}_not_ours import mounts
from elsewhere import framing
"""
    assert deploy.imported(text) == {
        "errors",
        "recovery",
        "journal.store",
        "docker.api",
        "docker.runc",
        "docker.mounts",
    }


def outside(text):
    """What a source text imports that is neither Python's own nor ours; it has to be Python 3.8."""
    words = set()
    for node in ast.walk(ast.parse(text, feature_version=(3, 8))):
        if isinstance(node, ast.Import):
            words |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith(deploy.PACKAGE):
            words.add(node.module)
    return {word for word in words if word.split(".")[0] not in sys.stdlib_module_names}


def test_a_program_comes_with_all_that_it_imports_and_nothing_else():
    assert set(deploy.sources("transport.directory_transfer")) == {
        "errors",
        "validate",
        "system.deploy",
        "system.files",
        "system.limits",
        "system.pipes",
        "system.procfs",
        "transport.directory_transfer",
        "transport.framing",
        "transport.listing",
        "transport.compression",
    }
    assert outside("import os, docker.api\nfrom ansible.module_utils import basic") == {
        "docker.api",
        "ansible.module_utils",
    }


@pytest.mark.parametrize(
    "part",
    [
        "transport.directory_transfer",
        "migration.channel.source",
        "migration.channel.destination",
        "network.network_lock",
    ],
)
def test_a_program_needs_nothing_that_servers_lack(part):
    found = {name: outside(text) for name, text in deploy.sources(part).items()}
    assert part in found and not any(found.values()), found


@pytest.mark.parametrize("module", ["operations.checkpoint_transfer", "agent.requests"])
def test_both_ends_of_a_channel_are_in_the_archive_of_what_installs_or_runs_them(module):
    assert {"migration.channel.source", "migration.channel.destination"} <= set(deploy.sources(module))


def test_it_is_private_and_wins_over_what_is_installed(tmp_path):
    folder = tmp_path / "program"
    folder.mkdir(0o700)
    order = {"role": "receive", "final": str(tmp_path / "x"), "host": "fog2", "replace": False, "idle_limit": 1}
    command = deploy.install(str(folder), order)
    assert json.loads((folder / "config.json").read_text())["role"] == "receive"
    for path in folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    # It runs, and says why it has nothing to do.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error" in json.loads(done.stderr.splitlines()[-1])
    assert command[0] == sys.executable


@pytest.mark.parametrize(
    ("answer", "why_not"),
    [
        (b"HTTP/1.0 204 No Content\r\n\r\n", None),
        (b"HTTP/1.0 304 Not Modified\r\n\r\n", None),
        (b'HTTP/1.0 409 Conflict\r\n\r\n{"message": "it is\\n not running"}', "it is not running"),
        (b"HTTP/1.0 500 Oh\r\n\r\n<html>", "Docker answered HTTP/1.0 500 Oh"),
        (b"", "Docker answered nothing"),
    ],
)
def test_what_docker_answers(answer, why_not):
    assert engine.refusal(answer) == why_not


def test_no_docker(tmp_path):
    assert "Docker does not answer" in engine.call(str(tmp_path / "none.sock"), "POST", "/x")
