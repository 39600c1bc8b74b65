# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs move while their clients use them: no client loses anything, or is told of an error."""

from __future__ import annotations

import itertools

import pytest

from corpus.programs import COUNTER, MODES, PROGRAMS
from corpus.scene import scene

pytestmark = pytest.mark.lab

# What "make test" takes; "make test-programs" takes all.
SHORT = {("redis", "precopy"), ("postgresql", "precopy"), ("nginx", "precopy")}


def case(name: str, mode: str):
    """A program in a mode, as pytest wants to know it."""
    why = PROGRAMS[name].stays.get(mode)
    marks = [] if (name, mode) in SHORT else [pytest.mark.programs]
    marks += [pytest.mark.xfail(raises=AssertionError, reason=why)] if why else []
    return pytest.param(name, mode, marks=marks)


CASES = [case(*one) for one in itertools.product(PROGRAMS, MODES) if one[0] != COUNTER]


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_there_and_back(lab, lan, programs, name, mode):
    if not lab.reads_limits("fog1"):
        pytest.skip("NOT TESTED: root lacks CAP_SYS_RESOURCE here, without which CRIU dumps root's processes only")
    with scene(lab, PROGRAMS[name]) as program:
        for node in ("fog2", "fog1"):
            program.move(node, mode)
        assert program.end().errors == []
