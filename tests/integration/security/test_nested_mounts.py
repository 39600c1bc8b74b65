# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of the host below another one, both of them mounted: whoever has the upper one can exchange the lower one.

In the upper one it is a folder as any other. The container puts a link to a folder of the server in its place, which
would be sent as its content, emptied and filled at the destination, or mounted there.
"""

from __future__ import annotations

import pytest

from support.lab import failure, wait_for

pytestmark = pytest.mark.lab

# A number is said when it is on every disk.
WRITER = """
n=0
while :; do
    for folder in /app /data; do echo $n >>$folder/log; done
    echo $n
    n=$((n + 1))
    sleep 0.05
done
"""
MOUNTS = ["-v", "/srv/app:/app", "-v", "/srv/app/data:/data"]
EXCHANGE = "mv /app/data /app/moved && ln -s /srv/victim /app/data"


@pytest.fixture
def nested(lab):
    """A container on fog1 with the two of them; both servers have a folder that is nobody's business."""

    def clear() -> None:
        for node in ("fog1", "fog2"):
            lab.sh(node, "docker ps -aq | xargs -r docker rm -fv; rm -rf /srv/app /srv/victim /srv/elsewhere")

    clear()
    for node in ("fog1", "fog2"):
        lab.sh(node, f"mkdir /srv/victim; echo the secret of {node} >/srv/victim/secret")
    lab.sh("fog1", "mkdir -p /srv/app/data; dd if=/dev/urandom of=/srv/app/big bs=1M count=24 2>/dev/null")
    lab.start("fog1", "mover", WRITER, *MOUNTS)
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 10, "the first numbers")
    yield
    clear()


def require_untouched(lab) -> None:
    """The container runs on, and nothing of it is at the destination; the servers have what is theirs."""
    assert lab.running_on("mover") == ["fog1"]
    assert lab.sh("fog2", "ls -d /srv/app || true") == ""
    for node in ("fog1", "fog2"):
        assert lab.sh(node, "ls /srv/victim; cat /srv/victim/secret").split("\n")[:2] == [
            "secret",
            f"the secret of {node}",
        ]
    seen = len(lab.lines("fog1", "mover"))
    wait_for(lambda: len(lab.lines("fog1", "mover")) > seen + 5, "more numbers")
    lab.docker("fog1", "pause", "mover")
    for path in ("/srv/app/log", "/srv/app/moved/log"):
        numbers = [int(line) for line in lab.sh("fog1", f"cat {path}").split()]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > seen
    lab.docker("fog1", "unpause", "mover")
    lab.require_no_traces()


@pytest.mark.parametrize("mode", ["precopy", "cold"])
def test_nested_mounts_move(lab, nested, mode):
    said = int(lab.lines("fog1", "mover")[-1])
    lab.migrate("mover", migration_mode=mode, migration_binds="all")
    assert lab.running_on("mover") == ["fog2"]
    wait_for(lambda: len(lab.lines("fog2", "mover")) > 10, "more numbers")
    lab.docker("fog2", "pause", "mover")
    for place in ("/app/log", "/data/log", "/app/data/log"):
        numbers = lab.numbers("fog2", "mover", place)
        assert numbers == list(range(len(numbers))) and numbers[-1] > said, place
    lab.docker("fog2", "unpause", "mover")
    assert lab.sh("fog1", "md5sum </srv/app/big") == lab.sh("fog2", "md5sum </srv/app/big")
    lab.require_no_traces()


@pytest.mark.parametrize("mode", ["precopy", "cold"])
def test_one_that_was_exchanged_before_does_not_move(lab, nested, mode):
    lab.docker("fog1", "exec", "mover", "sh", "-c", EXCHANGE)
    message = failure(lab.migrate("mover", check=False, migration_mode=mode, migration_binds="all"))
    assert "the container has another folder than the one that is /srv/app/data by now" in message
    require_untouched(lab)


def test_one_that_is_exchanged_meanwhile_does_not_move(lab, nested):
    """Both servers have looked at it already, and the upper one is on its way."""
    options = {"destination": "fog2", "migration_mode": "precopy", "migration_binds": "all", "migration_rate_limit": 2}
    with lab.begin(container="mover", **options) as playbook:
        wait_for(lambda: lab.sh("fog2", "ls /srv/app/big 2>/dev/null || true"), "the large file at the destination")
        lab.docker("fog1", "exec", "mover", "sh", "-c", EXCHANGE)
        said = playbook.stdout.read()
    assert playbook.returncode != 0, said
    assert "Traceback" not in said
    assert "something else has its place" in said or "could not be written at the destination" in said, said
    require_untouched(lab)


def test_what_others_than_root_have_linked_is_not_followed(lab, nested):
    """At the destination: a local user has the path lead to an empty folder of the server."""
    lab.sh("fog2", "mkdir /srv/elsewhere; ln -s /srv/elsewhere /srv/app; chown -h 1000 /srv/app")
    message = failure(lab.migrate("mover", check=False, migration_mode="precopy", migration_binds="all"))
    assert "at the destination, /srv/app leads through the symbolic link /srv/app" in message
    assert lab.running_on("mover") == ["fog1"]
    assert lab.sh("fog2", "ls -A /srv/elsewhere") == ""
