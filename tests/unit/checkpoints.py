# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints as tests make them."""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest


def describe(folder) -> None:
    """Writes a manifest of everything that is in a folder."""
    manifest = _manifest.Manifest(
        id="1",
        name="checkpoint100",
        created="2026-11-21T04:15:00Z",
        exit=True,
        architecture="x86_64",
        container=_manifest.Container("c", "n", "i"),
        files=_manifest.describe_files(str(folder)),
    )
    _manifest.write(str(folder), manifest)
