# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the paths lead that a container mounts of this server: what a policy allows is what is there, not its name."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.fog.migration.plugins.module_utils.filesystem import mounted_paths, roots
from ansible_collections.fog.migration.plugins.module_utils.policy import judge
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: this needs root")
NOBODY = 65534


@pytest.fixture
def srv() -> Iterator[Path]:
    """A folder that is root's alone, as all above it: those of pytest are below F(/tmp)."""
    with tempfile.TemporaryDirectory(dir="/var/lib") as place:
        folder = Path(place, "srv")
        folder.mkdir(mode=0o755)
        (folder / "data").mkdir()
        yield folder


def looked(path: Path, *allowed: object, of_containers=(), **more) -> tuple[list[str], list[str]]:
    """What is refused of a path, where it moves and where it stays, when these folders are allowed."""
    policy = Policy(bind_folders=tuple(map(str, allowed)), **more)
    found = mounted_paths.look_at(policy, str(path), of_containers)
    return [str(one) for one in found.refused], [str(one) for one in found.refused_where_it_stays]


def test_what_is_where_its_name_says(srv):
    (srv / "file").touch()
    for path in (srv, srv / "data", srv / "data" / "not" / "there", srv / "file"):
        assert looked(path, srv) == ([], [])


def test_a_link_of_roots_leads_where_it_leads(srv):
    (srv / "etc").symlink_to("/etc")
    refused = f"it mounts {srv}/etc/ssl, which is /etc/ssl of the server (allowed by bind_folders: [/etc/ssl])"
    assert looked(srv / "etc" / "ssl", srv) == ([refused], [refused])
    assert looked(srv / "etc" / "ssl", srv, "/etc/ssl") == ([], [])
    (srv / "here").symlink_to("data")
    assert looked(srv / "here", srv) == ([], [])


def test_a_folder_of_the_policy_may_be_a_link(srv):
    """F(/etc/localtime) is one on most servers."""
    (srv / "current").symlink_to("data")
    assert looked(srv / "current", srv / "current") == ([], [])
    assert looked(srv / "current" / "x", srv / "current") == ([], [])


@pytest.mark.parametrize("who", ["owner", "others", "container"])
def test_what_others_can_exchange_does_not_stay(srv, who):
    if who == "owner":
        os.chown(srv / "data", NOBODY, NOBODY)
    elif who == "others":
        (srv / "data").chmod(0o777)
    written = roots.identities([str(srv / "data")]) if who == "container" else set()
    (srv / "data" / "below").mkdir()
    # What is in the folder of others is theirs; the folder itself stays where it is.
    assert looked(srv / "data", srv, of_containers=written) == ([], [])
    for name in ("below", "below/more", "not-there"):
        moves, stays = looked(srv / "data" / name, srv, of_containers=written)
        loose = srv / "data" / name.partition("/")[0]
        assert moves == []
        exchanged = f"and others than root can put something else in the place of {loose}"
        assert stays == [f"it mounts {srv}/data/{name}, {exchanged} (allowed by bind_exchangeable: true)"]
        assert looked(srv / "data" / name, srv, of_containers=written, bind_exchangeable=True) == ([], [])


def test_a_folder_with_a_sticky_bit(srv):
    """There, what is root's stays; but what is not there may be made."""
    (srv / "data").chmod(0o1777)
    (srv / "data" / "roots").mkdir()
    assert looked(srv / "data" / "roots", srv) == ([], [])
    assert looked(srv / "data" / "missing", srv)[1] != []


def test_a_link_of_others_leads_nowhere(srv):
    os.chown(srv / "data", NOBODY, NOBODY)
    (srv / "data" / "etc").symlink_to("/etc")
    moves, stays = looked(srv / "data" / "etc", srv, "/etc")
    assert moves == stays and "which others than root could have made (nothing allows that)" in moves[0]
    # Nor does a folder of the policy.
    assert looked(srv / "elsewhere", srv / "data" / "etc") == ([], [])
    (srv / "elsewhere").symlink_to("/etc")
    assert looked(srv / "elsewhere", srv / "data" / "etc")[0] != []


def test_a_socket_behind_a_link(srv):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(srv / "docker.sock"))
        (srv / "data" / "s").symlink_to("../docker.sock")
        refused = (
            f"it mounts {srv}/data/s, which is the socket {srv}/docker.sock of the server "
            f"(allowed by sockets: [{srv}/docker.sock])"
        )
        assert looked(srv / "data" / "s", srv) == ([refused], [refused])
        assert looked(srv / "data" / "s", sockets=(f"{srv}/docker.sock",)) == ([], [])
        assert looked(srv / "data" / "s", sockets=(f"{srv}/data/s",)) == ([], [])


def test_what_cannot_be_followed(srv):
    (srv / "loop").symlink_to("loop")
    (srv / "file").touch()
    for path in (srv / "loop", srv / "file" / "x"):
        assert "of which nobody can say where it leads" in looked(path, srv)[0][0]


def test_which_paths_are_mounted():
    """By itself, by another container, and by volumes that are folders of the server."""
    bind = {"type": "none", "o": "bind", "device": "/c"}
    inspect = {
        "HostConfig": {
            "Binds": ["/a:/a:ro", "name:/n"],
            "Mounts": [
                {"Type": "bind", "Source": "/b", "Target": "/b"},
                {"Type": "volume", "VolumeOptions": {"DriverConfig": {"Options": {**bind, "device": "/d"}}}},
            ],
        },
        "Mounts": [{"Type": "bind", "Source": "/e"}, {"Type": "volume", "Source": "/var/lib/docker/x"}],
    }
    volumes = [
        {"Name": "v", "Driver": "local", "Options": bind},
        {"Name": "w", "Driver": "local", "Options": {"type": "nfs", "device": ":/export"}},
        {"Name": "x", "Driver": "rexray", "Options": {"device": "/f"}},
        {"Name": "y", "Driver": "local", "Options": None},
    ]
    assert judge.mounted_paths(inspect, volumes) == ["/a", "/b", "/e", "/c", "/d"]
    inspect["HostConfig"]["Privileged"] = True
    assert judge.mounted_paths(inspect, volumes) == []
