# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of processes that may do more than the container which they claim to be: none of them runs."""

from __future__ import annotations

import pytest

from support import policy, programs
from support.checkpoints import forge_options
from support.lab import CHECKPOINTS, wait_for
from support.sequences import counted

PATH = f"{CHECKPOINTS}/kept"
# Writes without end, and has timers that send it SIGCONT. A dump fails in which one does, so they are far away there.
GOES_ON = """
import ctypes, signal, struct, time
signal.signal(signal.SIGCONT, lambda *more: None)
libc = ctypes.CDLL(None)
event = struct.pack("@Pii", 0, signal.SIGCONT, 0).ljust(64, bytes(1))
for number in range(100):
    timer = ctypes.c_void_p()
    assert not libc.timer_create(time.CLOCK_MONOTONIC, event, ctypes.byref(timer))
    assert not libc.timer_settime(timer, 0, struct.pack("@4l", 1, 0, 1000, number * 10_000_000), None)
with open("/out/ran", "w") as ran:
    while True:
        ran.write("x")
        ran.flush()
"""
# Their seconds become 0 in the images: one of them ends every 10 ms. The fields 7 to 10 of posix_timer_entry are the
# interval, which is one second, and the time that is left.
SOON = f"""
import re
path = "{PATH}/criu/core-1.img"
data = open(path, "rb").read()
data, count = re.subn(rb"8\\x01@\\x00H(?=[\\x80-\\xff][\\x01-\\x7f]P)..", b"8\\x01@\\x00H\\x80\\x00", data)
open(path, "wb").write(data)
print(count)
"""
OUT = "/opt/fog-goes-on"
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


def test_what_goes_on_by_itself_does_not_run(lab):
    """A process that a signal of its own would have go on, while it is looked at."""

    def written():
        return int(lab.sh("fog1", f"cat {OUT}/ran 2>/dev/null | wc -c"))

    programs.make_image(lab)
    lab.sh("fog1", f"rm -rf {OUT} && mkdir {OUT}")
    options = ["--cap-add", "SYS_ADMIN", "-v", f"{OUT}:/out", "--entrypoint", "/usr/bin/python3"]
    lab.docker("fog1", "run", "-d", "--name", "looper100", *options, programs.IMAGE, "-c", GOES_ON)
    wait_for(written, "its first line")
    frozen = lab.module("fog1", "container_checkpoint", container="looper100", name="kept")
    assert frozen["changed"], frozen
    lab.docker("fog1", "rm", "-f", "looper100")
    assert int(lab.sh("fog1", f"python3 - <<'END'\n{SOON}\nEND")) == 100
    forge_options(lab, "fog1", PATH, {"CapAdd": None})
    before = written()
    with policy.allowed(lab, "fog1", bind_folders=["/opt"]):
        result = lab.module("fog1", "container_restore", path=PATH, name="looper100")
    assert result["failed"] and "has the capability CAP_SYS_ADMIN" in result["msg"], result
    assert written() == before
    lab.sh("fog1", f"rm -rf {OUT}")
    # CRIU and the runtime have come to their end by themselves, and so has what they had mounted and made.
    assert lab.sh("fog1", "pgrep criu; grep criu-root /proc/mounts; ls /run/fog-migration/runtime", check=False) == ""
