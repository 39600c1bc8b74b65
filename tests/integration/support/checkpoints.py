# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints on fog servers: those that a test has changed, and whether Docker starts a container from one."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker.version import starts_from_checkpoints

from . import daemons

FORGE = """
import hashlib, json, os
folder = "{folder}"
path = os.path.join(folder, "manifest.json")
manifest = json.load(open(path))
for name, entry in manifest["files"].items():
    data = open(os.path.join(folder, name), "rb").read()
    entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())
json.dump(manifest, open(path, "w"))
"""


LIE = """
import json
path = "{folder}/container.json"
container = json.load(open(path))
container["HostConfig"].update({options!r})
json.dump(container, open(path, "w"))
"""


def forge_options(lab, node: str, folder: str, options: dict) -> None:
    """Has the checkpoint in I(folder) say that its container was made with these options (C(HostConfig)).

    Whoever is root at the source can write that, and make the checksums fit.
    """
    lab.sh(node, f"python3 - <<'END'\n{LIE.format(folder=folder, options=options)}\nEND")
    forge_manifest(lab, node, folder)


def forge_manifest(lab, node: str, folder: str) -> None:
    """Makes the manifest of the checkpoint in I(folder) fit the files that are there now."""
    lab.sh(node, f"python3 - <<'END'\n{FORGE.format(folder=folder)}\nEND")


def why_not_started(lab, node: str) -> str:
    """Why Docker on this node cannot start a container from a checkpoint by itself; empty where it can."""
    version = daemons.version(lab, node)
    able = starts_from_checkpoints(version)
    return "" if able else f"Docker {version} cannot start a container from a checkpoint by itself"


def require_starts(lab, *nodes: str) -> None:
    """Skips a test that has Docker by itself start a container from a checkpoint on one of these nodes."""
    for why in filter(None, (why_not_started(lab, node) for node in nodes)):
        pytest.skip(f"NOT TESTED: {why}")
