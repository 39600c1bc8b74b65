# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests as a whole: pytest imports each file by its name alone, so that all of them can run together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def test_no_two_files_with_tests_have_the_same_name():
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert len(names) > 100 and [name for name, count in names.items() if count > 1] == []
