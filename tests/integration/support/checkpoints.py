# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints on a fog server that a test has changed."""

from __future__ import annotations

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


def forge_manifest(lab, node: str, folder: str) -> None:
    """Makes the manifest of the checkpoint in I(folder) fit the files that are there now."""
    lab.sh(node, f"python3 - <<'END'\n{FORGE.format(folder=folder)}\nEND")
