# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log so far moves along where that is wanted."""

from __future__ import annotations

import pytest

from support.lab import wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.02; done"


@pytest.mark.parametrize("mode", ["precopy", pytest.param("cold", marks=pytest.mark.slow)])
def test_it_begins_at_the_beginning(lab, start, mode):
    start(COUNTER, "--log-opt", "max-size=20k", "--log-opt", "max-file=99", lines=100)
    lab.migrate("mover", migration_mode=mode, migration_log=True)
    said = len(lab.lines("fog2", "mover"))
    wait_for(lambda: len(lab.lines("fog2", "mover")) > said + 20, "more numbers")
    numbers = [int(line) for line in lab.lines("fog2", "mover")]
    assert numbers == list(range(len(numbers)))
