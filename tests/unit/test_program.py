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

from ansible_collections.fog.migration.plugins.module_utils import _program
from ansible_collections.fog.migration.plugins.module_utils.docker import _engine


def test_what_a_source_text_imports():
    text = f"""
import os
from {_program.PACKAGE} import _one, _two
from {_program.PACKAGE}._three import (
    name,
)
from {_program.PACKAGE}.room import _four, _five
from {_program.PACKAGE}.room._six import name
import {_program.PACKAGE}_not_ours
from {_program.PACKAGE}_not_ours import _seven
from elsewhere import _four
"""
    assert _program.imported(text) == {"_one", "_two", "_three", "room._four", "room._five", "room._six"}


def outside(text):
    """What a source text imports that is neither Python's own nor ours; it has to be Python 3.8."""
    words = set()
    for node in ast.walk(ast.parse(text, feature_version=(3, 8))):
        if isinstance(node, ast.Import):
            words |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith(_program.PACKAGE):
            words.add(node.module)
    return {word for word in words if word.split(".")[0] not in sys.stdlib_module_names}


def test_a_program_comes_with_all_that_it_imports_and_nothing_else():
    assert set(_program.sources("channel._channel")) == {
        "_program",
        "channel._channel",
        "channel._frames",
        "channel._listing",
        "channel._stream",
    }
    assert outside("import os, docker.api\nfrom ansible.module_utils import basic") == {
        "docker.api",
        "ansible.module_utils",
    }


@pytest.mark.parametrize("part", ["channel._channel", "live._source", "live._destination", "network._hold"])
def test_a_program_needs_nothing_that_servers_lack(part):
    found = {name: outside(text) for name, text in _program.sources(part).items()}
    assert part in found and not any(found.values()), found


def test_it_is_private_and_wins_over_what_is_installed(tmp_path):
    folder = tmp_path / "program"
    folder.mkdir(0o700)
    order = {"role": "receive", "final": str(tmp_path / "x"), "host": "fog2", "replace": False, "idle_limit": 1}
    command = _program.lay_down(str(folder), order)
    assert json.loads((folder / "order.json").read_text())["role"] == "receive"
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
    assert _engine.refusal(answer) == why_not


def test_no_docker(tmp_path):
    assert "Docker does not answer" in _engine.order(str(tmp_path / "none.sock"), "POST", "/x")
