# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy of the destination: what it refuses is refused before anything is touched, and where a source has lied."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import judged, mounts
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


@pytest.fixture
def places(lab) -> Iterator[tuple[str, str]]:
    """A folder and the name of a volume that no server has."""

    def clear() -> None:
        for node in lab.servers():
            lab.sh(node, "docker rm -f looper100; docker volume rm fog-test; rm -rf /srv/fog-test", check=False)

    clear()
    yield "/srv/fog-test", "fog-test"
    clear()


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_what_gives_rights_stays_out_of_folders_of_the_destination(lab, counter, places, mode):
    counter("-v", f"{places[0]}:/data", "-v", f"{places[1]}:/volume")
    make = "cp /bin/sh {0}/setuid; chmod 4755 {0}/setuid; mknod {0}/null c 1 3; echo x >{0}/plain"
    for place in ("/data", "/volume"):
        lab.docker("fog1", "exec", "looper100", "sh", "-c", make.format(place))
    with policy.allowed(lab, "fog2", bind_privileges=False):
        lab.migrate("looper100", migration_mode=mode, migration_binds="all")
    assert lab.running_on("looper100") == ["fog2"]
    look = "cd {} && find . -mindepth 1 -printf '%P %y %m\\n' | sort"
    assert lab.sh("fog2", look.format(places[0])).splitlines() == ["plain f 644", "setuid f 755"]
    volume = lab.docker("fog2", "volume", "inspect", "--format", "{{.Mountpoint}}", places[1])
    assert lab.sh("fog2", look.format(volume)).splitlines() == ["null c 644", "plain f 644", "setuid f 4755"]


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


def test_what_was_judged_is_what_is_made(lab, counter):
    """The policy would allow what the source has made up after the preflight; nobody has judged it."""
    counter("-v", "data:/data")
    facts = lab.module("fog1", "server_info", container="looper100", gather_subset=["container"])["container"]
    order = {"judged": judged.digests(facts), "mounts": [mounts.ordered(one) for one in facts["mounts"]]}
    assert lab.module("fog1", "container_checkpoint", container="looper100", name="kept", mounts=["/data"])["changed"]
    lab.docker("fog1", "rm", "-f", "looper100")
    with policy.allowed(lab, "fog1", bind_folders=["/opt"]):
        lied = f"{CHECKPOINTS}/lied"
        lab.sh("fog1", f"cp -a {PATH} {lied} && mkdir -p /opt/kept && touch /opt/kept/file")
        forge_options(lab, "fog1", lied, {"Binds": ["/opt/kept:/data"]})
        result = lab.module("fog1", "container_restore", path=lied, **order)
        assert result["failed"] and "other are HostConfig.Binds; nothing was made of it" in result["msg"], result
        # A source that has lied to the preflight as well: Docker has another mount there than was ordered.
        only_mounts = {"mounts": order["mounts"]}
        result = lab.module("fog1", "container_restore", path=lied, **only_mounts)
        assert result["failed"] and "/opt/kept where the volume data at /data was ordered" in result["msg"], result
        assert lab.sh("fog1", "ls /opt/kept; rm -r /opt/kept").split() == ["file"]
        assert "looper100" not in lab.docker("fog1", "ps", "-a", "--format", "{{.Names}}")
    result = lab.module("fog1", "container_restore", path=PATH, **order)
    assert not result["failed"] and lab.running_on("looper100") == ["fog1"], result
    lab.docker("fog1", "rm", "-f", "looper100")
    lab.docker("fog1", "volume", "rm", "data")


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
