# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever is spoken to over SSH has to be who was meant: nothing here goes without the verification of host keys."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Virtual machines that were made a moment ago, of which nobody can know the key.
MADE_JUST_NOW = ("inventories/vagrant/", "molecule/vagrant/", "tools/vagrant/")
CARELESS = re.compile(
    r"StrictHostKeyChecking['\"]?\s*[=: ]\s*['\"]?(?:no|off|accept-new)\b"
    r"|UserKnownHostsFile['\"]?\s*[=: ]\s*['\"]?/dev/null"
    r"|host_key_checking\s*[=:]\s*['\"]?(?:false|no)\b|HOST_KEY_CHECKING['\"]?\s*[=:]\s*['\"]?(?:false|no|0)\b"
    r"|AutoAddPolicy|WarningPolicy",
    re.IGNORECASE,
)


def texts() -> dict[str, str]:
    """What is in the repository, by path, but the tests, which say what is forbidden."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout.decode()
    paths = [path for path in listed.split("\0") if path and (ROOT / path).is_file() and not path.startswith("tests/")]
    return {path: (ROOT / path).read_text(encoding="utf-8", errors="replace") for path in paths}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_nothing_does_without_host_keys():
    found = texts()
    assert len(found) > 100
    careless = {path: CARELESS.findall(text) for path, text in found.items() if CARELESS.search(text)}
    assert {path: what for path, what in careless.items() if not path.startswith(MADE_JUST_NOW)} == {}


@pytest.mark.parametrize(
    "text",
    [
        "-o StrictHostKeyChecking=no",
        "ssh -oStrictHostKeyChecking=accept-new",
        '"StrictHostKeyChecking": "no",',
        "StrictHostKeyChecking off",
        "-o UserKnownHostsFile=/dev/null",
        "host_key_checking = False",
        "ANSIBLE_HOST_KEY_CHECKING: 'false'",
        "client.set_missing_host_key_policy(paramiko.AutoAddPolicy())",
    ],
)
def test_what_is_careless(text):
    assert CARELESS.search(text)


@pytest.mark.parametrize("text", ["-o StrictHostKeyChecking=yes", '"StrictHostKeyChecking": "yes"', "no host keys"])
def test_what_is_not(text):
    assert not CARELESS.search(text)
