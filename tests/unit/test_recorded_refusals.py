# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the preflight refuses, of what real servers have said."""

from __future__ import annotations

import pytest
from refusal_cases import CASES, Case, differences, recorded, refusal, require_refused, shape


@pytest.fixture(scope="module")
def servers():
    return recorded()


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(servers, name):
    require_refused(servers, CASES[name])


@pytest.mark.parametrize("mode", ["auto", "cold", "precopy", "postcopy", "hybrid"])
def test_what_is_not_refused(servers, mode):
    """The one that nothing speaks against; so the servers are no reason of the refusals."""
    assert refusal(servers, Case("looper", (), {}, {"mode": mode})) == ""


@pytest.mark.parametrize("container", ["web", "voluminous", "elsewhere"])
def test_the_reason_is_the_only_one(servers, container):
    """Elsewhere, or with other wishes, it could be migrated."""
    free = {**servers, "fog2": {**servers["fog2"], "listening": []}}
    assert refusal(free, Case(container, ())) == ""


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1, "b": None}, {"a": 2.5, "b": "x"}, []),
        ({"a": 1}, {"a": True}, [".a: number and bool"]),
        ({"a": 1}, {"a": 1, "b": 2}, [": b"]),
        ({"a": {"x": []}}, {"a": {"y": []}}, [".a: x, y"]),
        ({"a": [1, 2]}, {"a": [7]}, []),
        ({"a": [1, 2]}, {"a": []}, []),
        ({"a": [1]}, {"a": ["x"]}, [".a: ['number'] and ['str']"]),
    ],
)
def test_shapes(old, new, found):
    assert differences(shape(old), shape(new)) == found
