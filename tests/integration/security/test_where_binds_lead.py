# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind mounts that do not move: what is mounted at the destination is where the path leads there, not its name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import policy
from support.lab import CHECKPOINTS, failure
from support.sequences import counted

pytestmark = pytest.mark.lab

SCRIPT = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"
PLACE = "/srv/fog-test"
PATH = f"{CHECKPOINTS}/kept"
OWN = f"mkdir -p {PLACE}/data; touch {PLACE}/data/own"
# What is at the destination in the place of a folder with something in it, and why that does not come. The policy of
# the lab allows all that is below /srv.
ELSEWHERE = {
    "root's link": (f"mkdir {PLACE}; ln -s /etc {PLACE}/data", f"it mounts {PLACE}/data, which is /etc of the server"),
    "a folder above": (f"mkdir {PLACE}; ln -s / {PLACE}/srv; ln -s srv/etc {PLACE}/data", "which is /etc of the"),
    "a link of others": (
        f"mkdir {PLACE}; chown 1000 {PLACE}; ln -s /srv {PLACE}/data",
        f"leads through the symbolic link {PLACE}/data, which others than root could have made",
    ),
    "a folder of others": (
        f"{OWN}; chown 1000 {PLACE}",
        f"it mounts {PLACE}/data, and others than root can put something else in the place of {PLACE}/data",
    ),
    "a socket": (
        f"mkdir {PLACE}; ln -s /run/docker.sock {PLACE}/data",
        f"it mounts {PLACE}/data, which is the socket /run/docker.sock of the server",
    ),
}


@pytest.fixture
def places(lab) -> Iterator[None]:
    """The folder and the volume are on no server."""

    def clear() -> None:
        for node in lab.servers():
            lab.sh(node, f"docker rm -f looper100 writer; docker volume rm fogbound; rm -rf {PLACE}", check=False)

    clear()
    yield
    clear()


def start(lab, *options: str) -> None:
    lab.sh("fog1", OWN)
    lab.start("fog1", "looper100", SCRIPT, *options)
    counted(lab, "fog1", "looper100", 10)


@pytest.mark.parametrize("mode", ["cold", "precopy"])
@pytest.mark.parametrize("what", ELSEWHERE)
def test_what_leads_elsewhere_at_the_destination_stays(lab, places, what, mode):
    there, why = ELSEWHERE[what]
    start(lab, "-v", f"{PLACE}/data:/data")
    lab.sh("fog2", there)
    message = failure(lab.migrate("looper100", check=False, migration_mode=mode))
    assert why in message, message
    assert lab.running_on("looper100") == ["fog1"]
    lab.sh("fog2", f"rm -rf {PLACE}; {OWN}")
    lab.migrate("looper100", migration_mode=mode)
    assert lab.docker("fog2", "exec", "looper100", "ls", "/data") == "own"


def test_a_volume_that_is_a_folder_of_the_server(lab, places):
    options = ["--opt", "type=none", "--opt", "o=bind", "--opt", f"device={PLACE}/data"]
    lab.sh("fog1", OWN)
    lab.docker("fog1", "volume", "create", *options, "fogbound")
    start(lab, "-v", "fogbound:/data")
    lab.sh("fog2", f"mkdir {PLACE}; ln -s /etc {PLACE}/data")
    message = failure(lab.migrate("looper100", check=False, migration_volumes="shared"))
    assert f"it mounts {PLACE}/data, which is /etc of the server" in message, message
    assert lab.running_on("looper100") == ["fog1"]


def test_a_folder_in_which_a_container_can_write(lab, places):
    """Root of a container is root of the server, and may put a link there at any time."""
    start(lab, "-v", f"{PLACE}/data:/data")
    lab.copy_image()
    lab.sh("fog2", OWN)
    lab.docker("fog2", "run", "-d", "--name", "writer", "-v", f"{PLACE}:/all", "busybox:lab", "sleep", "1000")
    message = failure(lab.migrate("looper100", check=False))
    assert f"others than root can put something else in the place of {PLACE}/data" in message, message
    lab.docker("fog2", "rm", "-f", "writer")
    lab.migrate("looper100")
    assert lab.running_on("looper100") == ["fog2"]


def test_what_leads_elsewhere_when_it_is_made(lab, places):
    """The last look, whatever the preflight has seen."""
    start(lab, "-v", f"{PLACE}/data:/data")
    assert lab.module("fog1", "container_checkpoint", container="looper100", name="kept")["changed"]
    lab.docker("fog1", "rm", "-f", "looper100")
    # That it is a socket, its name says as well by then.
    elsewhere = {**ELSEWHERE, "a socket": (ELSEWHERE["a socket"][0], f"it mounts the socket {PLACE}/data")}
    for there, why in elsewhere.values():
        lab.sh("fog1", f"rm -rf {PLACE}; {there}")
        result = lab.module("fog1", "container_restore", path=PATH, name="looper100")
        assert result["failed"] and why in result["msg"], result
        assert "looper100" not in lab.docker("fog1", "ps", "-a", "--format", "{{.Names}}")
    lab.sh("fog1", f"rm -rf {PLACE}; mkdir {PLACE}; mkdir /opt/fog-test; ln -s /opt/fog-test {PLACE}/data")
    try:
        with policy.allowed(lab, "fog1", bind_folders=["/srv", "/opt"]):
            result = lab.module("fog1", "container_restore", path=PATH, name="looper100")
        assert not result["failed"], result
    finally:
        lab.sh("fog1", "docker rm -f looper100; rm -r /opt/fog-test")
