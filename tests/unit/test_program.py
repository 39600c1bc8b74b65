# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import stat
import subprocess
import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils import _engine, _program


def test_what_a_source_text_imports():
    text = f"""
import os
from {_program.PACKAGE} import _one, _two
from {_program.PACKAGE}._three import (
    name,
)
from elsewhere import _four
"""
    assert _program.imported(text) == {"_one", "_two", "_three"}


def test_a_program_comes_with_all_that_it_imports_and_nothing_else():
    assert set(_program.sources("_channel")) == {"_channel", "_frames", "_listing", "_program", "_stream"}
    for name, text in _program.sources("_live_source").items():
        outside = {"docker", "requests", "ansible"} & {word.split(".")[0] for word in text.split("import ")[1:]}
        assert not outside, name


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
