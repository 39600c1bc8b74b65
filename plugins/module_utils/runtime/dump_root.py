# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder in which runc knows one container, with a configuration of CRIU's that is for one dump alone.

runc takes CRIU's configuration from an annotation in the container's state (C(org.criu.config)), and marks there that a
dump is complete. The state that Docker's runc has stays as it is.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.docker.version import version_tuple
from ansible_collections.fog.migration.plugins.module_utils.filesystem import overlay, watches

# From this version on, CRIU can leave the network to others (C(NETWORK_LOCK_SKIP) in criu/net.c). It takes the option
# from 3.19 on, but a dump by 4.1.1 dies with it.
LOCK_CAN_BE_SKIPPED = (4, 2)


def with_annotation(state: dict[str, Any], name: str, value: str) -> tuple[dict[str, Any], list[str]]:
    """The runtime's state of a container with an annotation, and the value that this had before, if it was there."""
    config = state.get("config") or {}
    labels = config.get("labels") or []
    before = [label.partition("=")[2] for label in labels if label.startswith(name + "=")]
    others = [label for label in labels if not label.startswith(name + "=")]
    changed = dict(state, config=dict(config, labels=[*others, f"{name}={value}"]))
    return changed, before[:1]


def deleted_files(configured: Mapping[str, str]) -> dict[str, str]:
    """The options with which CRIU takes deleted files along that are not too large, and not too many.

    A file of the image that was deleted counts as one that has a name still, which CRIU wants to link to another name.
    In an overlay that cannot be, and CRIU takes it along for a deleted one then (check_overlayfs_fallback() in
    criu/files-reg.c).

    :param configured: what CRIU's configuration says.
    """
    limit = max(tool.ghost_limit(configured), tool.GHOST_LIMIT)
    return {"link-remap": "", "ghost-limit": str(limit)}


class DumpRoot:
    """One such folder, which is new.

    :param container: its full ID.
    :raises FreezeError: when no runtime knows it.
    """

    def __init__(self, container: str, folder: str) -> None:
        self.folder = folder
        self._mark = os.path.join(folder, container, "checkpoint")
        self._config = os.path.join(folder, "criu.conf")
        self._lock_can_be_skipped = version_tuple(tool.version() or "0.0") >= LOCK_CAN_BE_SKIPPED
        os.makedirs(os.path.join(folder, container), 0o700)
        state, own = with_annotation(runc.runtime_state(container), runc.CRIU_CONFIGURATION, self._config)
        self._text = tool.configuration(*own)
        root = overlay.of(state.get("init_process_pid", 0))
        self._watched = watches.options(runc.moving(container), root) if root else []
        _write(os.path.join(folder, container, "state.json"), json.dumps(state))

    def configure(self, without_lock: bool) -> None:
        """Writes CRIU's configuration for the dump that comes next.

        :param without_lock: CRIU has no need to lock the network, and to unlock it when it restores, which takes it
            some hundredths of a second each.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._mark)
        options = deleted_files(tool.parse_options(self._text))
        if without_lock and self._lock_can_be_skipped:
            options["network-lock"] = "skip"
        text = tool.merge_options(self._text, options)
        _write(self._config, text + "".join(f"{line}\n" for line in self._watched))

    @property
    def is_complete(self) -> bool:
        """Whether the images of a dump are complete, which CRIU tells before it lets go of the processes."""
        return os.path.exists(self._mark)


def _write(path: str, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
