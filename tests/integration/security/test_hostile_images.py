# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of processes that may do more than the container which they claim to be: none of them runs."""

from __future__ import annotations

import pytest

from support.checkpoints import forge_options
from support.lab import CHECKPOINTS
from support.sequences import counted

PATH = f"{CHECKPOINTS}/kept"
SCRIPT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"


@pytest.mark.parametrize(
    ("options", "claimed", "why"),
    [
        (
            ["--cap-add", "SYS_ADMIN"],
            {"CapAdd": None},
            "has the capability CAP_SYS_ADMIN, which the container does not",
        ),
        ([], {"SecurityOpt": ["no-new-privileges"]}, "may gain new privileges, which the container may not"),
    ],
    ids=["capability", "new-privileges"],
)
def test_what_claims_to_be_less_does_not_run(lab, options, claimed, why):
    lab.start("fog1", "looper100", SCRIPT, *options)
    counted(lab, "fog1", "looper100", 10)
    assert lab.module("fog1", "container_checkpoint", container="looper100", name="kept")["changed"]
    lab.docker("fog1", "rm", "-f", "looper100")
    forge_options(lab, "fog1", PATH, claimed)
    result = lab.module("fog1", "container_restore", path=PATH, name="looper100")
    assert result["failed"] and why in result["msg"], result
    assert "looper100" not in lab.docker("fog1", "ps", "--format", "{{.Names}}")
    # It ran nowhere in between.
    assert "looper100" not in lab.docker("fog1", "ps", "-a", "--format", "{{.Names}}") or not lab.lines(
        "fog1", "looper100"
    )


def test_what_is_above_the_limits_of_the_container_is_lowered(lab):
    """It runs: an honest container may come from a server that gives more."""
    lab.start("fog1", "looper100", SCRIPT, "--ulimit", "nofile=2000:3000", "--oom-score-adj", "100")
    counted(lab, "fog1", "looper100", 10)
    assert lab.module("fog1", "container_checkpoint", container="looper100", name="kept")["changed"]
    lab.docker("fog1", "rm", "-f", "looper100")
    less = [{"Name": "nofile", "Soft": 500, "Hard": 1000}]
    forge_options(lab, "fog1", PATH, {"Ulimits": less, "OomScoreAdj": 300})
    result = lab.module("fog1", "container_restore", path=PATH, name="looper100")
    assert not result["failed"] and lab.running_on("looper100") == ["fog1"], result
    process = lab.inspect("fog1", "looper100")["State"]["Pid"]
    limits = lab.sh("fog1", f"grep '^Max open files' /proc/{process}/limits").split()
    assert limits[3:5] == ["1000", "1000"]
    assert lab.sh("fog1", f"cat /proc/{process}/oom_score_adj").strip() == "300"
