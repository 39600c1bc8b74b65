# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short selection of what C(make fault-test) does: faults in the midst of migrations, after which nothing is lost."""

from __future__ import annotations

import faults
import pytest
import run
import subjects
import witness as witness_module
from faults import Plan

from support import criu_step

pytestmark = pytest.mark.lab

PLANS = [
    Plan("controller", "precopy", "freeze", 0.4),
    Plan("receiver", "precopy", "freeze", 0.55),
    pytest.param(Plan("sender", "precopy", "freeze", 0.6), marks=pytest.mark.slow),
    pytest.param(Plan("source node", "cold", "activation", 0.0), marks=pytest.mark.slow),
    Plan("destination node", "precopy", "pre-copy", 0.3),
    Plan("dockerd at the destination", "cold", "restore", 0.5),
    Plan("dockerd before it owns the container", "cold", "any", 0.0),
    Plan("dockerd before it owns the container", "precopy", "any", 0.0),
    pytest.param(Plan("destination node", "cold", "filling", 0.3), marks=pytest.mark.slow),
    # At each step of a dump and of a restore, with a client that must not notice if the container stays.
    *(Plan("criu in a dump", "precopy", step, 0.001) for step in ("locked", "written")),
    *(
        pytest.param(Plan(kind, "precopy", step, 0.001), marks=pytest.mark.slow)
        for kind, (_side, steps) in faults.STEPS.items()
        for step in steps
        if step not in ("locked", "written")
    ),
    # Large: a lazy dump; and a dump into a checkpoint.
    pytest.param(Plan("criu in a dump", "postcopy", "connections", 0.0), marks=pytest.mark.slow),
    pytest.param(Plan("criu in a dump", "cold", "locked", 0.0), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.kind} {plan.moment} {plan.mode}".replace(" ", "-"))
def test_nothing_is_lost(lab, plan):
    if plan.kind in faults.STEPS and not criu_step.compiler():
        pytest.skip("NOT TESTED: this machine has no C compiler")
    run.give_counters(lab)
    witness = witness_module.Witness(run.gateway())
    try:
        result = run.Trial(lab, plan, subjects.Counters(lab, witness, plan, 0)).run()
    finally:
        witness.close()
    assert result["problems"] == [], "\n".join(result["log"])
