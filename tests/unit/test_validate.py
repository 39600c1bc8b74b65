# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that Docker accepts, and what another server may say."""

from __future__ import annotations

import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils import validate


@pytest.mark.parametrize("name", ["ab", "looper100", "a.b-c_d", "0a"])
def test_good_names(name):
    assert validate.name_refusal("the checkpoint", name) is None


@pytest.mark.parametrize("name", ["", "a", "a/b", "../ab", "-ab", ".ab", "a b", "ab\n", "ä1"])
def test_bad_names(name):
    assert "refused by Docker" in validate.name_refusal("the checkpoint", name)


@pytest.fixture(params=["as it is", "without a limit"])
def _python(request):
    """A Python that takes numbers of any length, as those before 3.8.14 and 3.10.7 do, and this one."""
    limit = getattr(sys, "get_int_max_str_digits", lambda: None)()
    if request.param == "without a limit" and limit is not None:
        sys.set_int_max_str_digits(0)
    yield
    if limit is not None:
        sys.set_int_max_str_digits(limit)


@pytest.mark.usefixtures("_python")
def test_numbers_of_any_length():
    assert validate.load_json('{"a": [1, -5, 1.5, 18446744073709551616, true]}') == {"a": [1, -5, 1.5, 2**64, True]}
    for number in ("9" * 4_000_000, "-" + "9" * 5000):
        with pytest.raises(ValueError, match="digits"):
            validate.load_json(f'{{"size": {number}}}')
