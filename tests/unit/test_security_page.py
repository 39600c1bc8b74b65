# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every promise of docs/security.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def test_each_promise_is_held_by_tests():
    promises = PAGE.partition("## Promises and their tests")[2].partition("## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")][1:]
    assert rows and all("`tests/" in row for row in rows)


def test_the_tests_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    missing = [one for one in named if f"def {one[1]}(" not in (ROOT / one[0]).read_text(encoding="utf-8")]
    assert len(named) > 20 and missing == []
