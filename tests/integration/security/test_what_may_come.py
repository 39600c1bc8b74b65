# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy of the destination: what it refuses is refused before anything is touched, and where a source has lied."""

from __future__ import annotations

import pytest

from support import policy
from support.checkpoints import forge_options
from support.lab import CHECKPOINTS, failure
from support.sequences import counted

PATH = f"{CHECKPOINTS}/kept"
SCRIPT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"


@pytest.fixture
def counter(lab):
    """Starts the counter on fog1, with some options."""

    def start(*options):
        lab.start("fog1", "looper100", SCRIPT, *options)
        counted(lab, "fog1", "looper100", 10)

    return start


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_what_the_destination_does_not_allow_stays(lab, counter, mode):
    counter("--cap-add", "SYS_ADMIN", "-v", "/opt/fog-test:/data")
    message = failure(lab.migrate("looper100", check=False, migration_mode=mode, migration_binds="all"))
    for words in (
        "capability SYS_ADMIN (allowed by capabilities: [SYS_ADMIN])",
        "it mounts /opt/fog-test of the server",
    ):
        assert words in message, message
    assert lab.running_on("looper100") == ["fog1"]
    with policy.allowed(lab, "fog2", capabilities=["SYS_ADMIN"], bind_folders=["/opt"]):
        lab.migrate("looper100", migration_mode=mode, migration_binds="all")
    assert lab.running_on("looper100") == ["fog2"]


def test_who_may_not_send_is_told_so(lab, counter):
    counter()
    with policy.allowed(lab, "fog2", sources=["fog7"]):
        assert "fog1 may not send (allowed by sources: [fog1])" in failure(lab.migrate("looper100", check=False))
    assert lab.running_on("looper100") == ["fog1"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"Privileged": True}, "it is privileged (allowed by privileged: true)"),
        ({"Binds": ["/etc:/data"]}, "it mounts /etc of the server"),
        ({"Annotations": {"org.criu.config": "/tmp/x"}}, "annotation org.criu.config"),
        ({"PidMode": "host"}, "the server's pid namespace"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_a_source_has_made_up_is_not_made(lab, counter, options, why):
    counter()
    assert lab.module("fog1", "container_checkpoint", container="looper100", name="kept")["changed"]
    lab.docker("fog1", "rm", "-f", "looper100")
    forge_options(lab, "fog1", PATH, options)
    result = lab.module("fog1", "container_restore", path=PATH, name="looper100")
    assert result["failed"] and why in result["msg"], result
    assert "looper100" not in lab.docker("fog1", "ps", "-a", "--format", "{{.Names}}")


@pytest.mark.parametrize("spoil", ["echo x", "chown 1000"])
def test_nothing_comes_where_the_policy_cannot_be_believed(lab, counter, spoil):
    counter()
    with policy.allowed(lab, "fog2"):
        file = policy.rules.FILE
        lab.sh("fog2", f"echo x >{file}" if spoil == "echo x" else f"chown 1000 {file}")
        try:
            assert "the policy in /etc/fog-migration/policy.json cannot be used" in failure(
                lab.migrate("looper100", check=False)
            )
        finally:
            lab.sh("fog2", f"chown 0 {file}")
    assert lab.running_on("looper100") == ["fog1"]
