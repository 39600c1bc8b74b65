# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that Docker accepts."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils import validate


@pytest.mark.parametrize("name", ["ab", "looper100", "a.b-c_d", "0a"])
def test_good_names(name):
    assert validate.name_refusal("the checkpoint", name) is None


@pytest.mark.parametrize("name", ["", "a", "a/b", "../ab", "-ab", ".ab", "a b", "ab\n", "ä1"])
def test_bad_names(name):
    assert "refused by Docker" in validate.name_refusal("the checkpoint", name)
