# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fog server of the lab lets come, for as long as a test needs it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.policy import rules


@contextlib.contextmanager
def allowed(lab, node: str, **more: object) -> Iterator[None]:
    """The policy of a node has these rules, and those that it has anyway."""
    before = lab.sh(node, f"cat {rules.FILE}")
    _write(lab, node, json.dumps({**json.loads(before), **more}))
    try:
        yield
    finally:
        _write(lab, node, before)


def _write(lab, node: str, text: str) -> None:
    lab.sh(node, f"cat >{rules.FILE} <<'END'\n{text.rstrip()}\nEND")
