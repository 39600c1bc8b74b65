# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the volumes and bind mounts of a container that moves."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.filter.mount_plans import mount_plans
from ansible_collections.fog.migration.plugins.module_utils.docker.mounts import (
    of_container,
    volume_arguments,
    with_lent_mounts,
    with_volumes_of,
)
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot
from ansible_collections.fog.migration.plugins.module_utils.system import files

EXT4 = {"type": "ext4", "device": "/dev/sda1"}
NFS = {"type": "nfs4", "device": "store:/export"}
VOLUME = {
    "type": "volume",
    "name": "data",
    "driver": "local",
    "source": "/v/data",
    "destination": "/data",
    "anonymous": False,
    "is_folder": True,
    "is_file": False,
    "checksum": None,
    "replaced": False,
    "refused": "",
    "file_system": EXT4,
    "users": [],
}
BIND = {**VOLUME, "type": "bind", "name": "", "driver": "", "source": "/srv", "destination": "/srv"}
FILE = {"is_folder": False, "is_file": True, "checksum": "1a"}
THERE = {"exists": True, "empty": False, "file_system": EXT4}
LENT = {"anonymous": True, "lent": True}
EMPTY = {**THERE, "empty": True}


def plan(mount, paths=None, there=(), **options):
    source, destination = (
        {"container": {"name": "mover", "mounts": [mount]}},
        {"volumes": list(there), "paths": paths or {}},
    )
    (found,) = mount_plans(source, destination, **options)
    assert bool(found["problem"]) == bool(found["remedy"])
    return found["way"], found["problem"]


@pytest.mark.parametrize(
    ("change", "options", "way", "problem"),
    [
        ({}, {}, "moves", ""),
        ({"anonymous": True}, {}, "moves", ""),
        ({}, {"volumes": "shared"}, "shared", ""),
        ({}, {"volumes": "refuse"}, "stays", "the content of the volume data would not travel"),
        ({}, {"there": ["data"]}, "moves", "the destination has a volume data already"),
        ({"anonymous": True}, {"there": ["data"]}, "moves", ""),
        ({"users": ["web"]}, {}, "moves", "the volume data is used by web as well"),
        ({"users": ["web", "db"]}, {"together": ["mover", "db"]}, "shared", ""),
        ({"users": ["web"]}, {"together": ["mover", "web"]}, "moves", ""),
        ({"users": ["web", "zoo"]}, {"together": ["mover", "web"]}, "moves", "the volume data is used by zoo as well"),
        ({"driver": "rexray"}, {}, "shared", ""),
        # Each of them would get a volume of its own.
        (
            {**LENT, "users": ["web"]},
            {"together": ["mover", "web"]},
            "stays",
            "was lent to it by a container that moves",
        ),
        ({**LENT, "users": ["db"]}, {"together": ["mover", "db"]}, "stays", "was lent to it by a container that moves"),
        (LENT, {}, "moves", ""),
        ({"lent": True, "users": ["db"]}, {"together": ["mover", "db"]}, "shared", ""),
        ({"file_system": NFS}, {}, "shared", ""),
        ({"file_system": {"type": "fuse.sshfs", "device": "x"}}, {"volumes": "refuse"}, "shared", ""),
    ],
)
def test_volumes(change, options, way, problem):
    found = plan({**VOLUME, **change}, **options)
    assert found[0] == way
    assert problem in found[1] and bool(problem) == bool(found[1])


@pytest.mark.parametrize(
    ("change", "there", "options", "way", "problem"),
    [
        ({}, THERE, {}, "stays", ""),
        ({}, None, {}, "stays", "the destination has no /srv"),
        ({}, None, {"binds": "all"}, "moves", ""),
        ({}, EMPTY, {"binds": "all"}, "moves", ""),
        ({}, THERE, {"binds": "all"}, "moves", "the destination has something in /srv already"),
        ({}, None, {"binds": "listed", "listed": ["/srv"]}, "moves", ""),
        ({}, THERE, {"binds": "listed", "listed": ["/other"]}, "stays", ""),
        ({}, THERE, {"binds": "all", "volumes": "shared"}, "stays", ""),
        ({"is_folder": False}, THERE, {"binds": "all"}, "stays", ""),
        ({"is_folder": False}, None, {"binds": "all"}, "stays", "which is neither a folder nor a file"),
        (FILE, None, {"binds": "all"}, "moves", ""),
        (FILE, {**THERE, "checksum": "1a"}, {"binds": "all"}, "shared", ""),
        (FILE, {**THERE, "checksum": "2b"}, {"binds": "all"}, "moves", "the destination has something in /srv already"),
        ({**FILE, "checksum": None}, {**THERE, "checksum": None}, {"binds": "all"}, "moves", "the destination has"),
        ({**FILE, "replaced": True}, None, {"binds": "all"}, "moves", "has another file than the one that is /srv"),
        ({"replaced": True}, None, {"binds": "all"}, "moves", "has another folder than the one that is /srv"),
        ({"replaced": True}, THERE, {}, "stays", ""),
        ({"refused": "/srv leads elsewhere"}, None, {"binds": "all"}, "moves", "/srv leads elsewhere"),
        ({"refused": "/srv leads elsewhere"}, THERE, {}, "stays", ""),
        ({}, {**EMPTY, "refused": "/srv leads off"}, {"binds": "all"}, "moves", "at the destination, /srv leads off"),
        ({"users": ["web"]}, None, {"binds": "all"}, "moves", "the bind /srv is used by web as well"),
        ({"file_system": NFS}, {**THERE, "file_system": NFS}, {"binds": "all"}, "shared", ""),
        ({"file_system": NFS}, THERE, {}, "shared", "is on nfs4, which the destination does not have there"),
        ({"file_system": NFS}, {**THERE, "file_system": {**NFS, "device": "x:/"}}, {}, "shared", "is on nfs4"),
    ],
)
def test_bind_mounts(change, there, options, way, problem):
    found = plan({**BIND, **change}, {"/srv": there} if there else {}, **options)
    assert found[0] == way
    assert problem in found[1] and bool(problem) == bool(found[1])


def test_a_volume_is_made_as_it_was():
    inspect = {"Name": "data", "Driver": "local", "Options": {"type": "tmpfs"}, "Labels": None, "Mountpoint": "/v"}
    assert volume_arguments(inspect) == {
        "name": "data",
        "driver": "local",
        "driver_opts": {"type": "tmpfs"},
        "labels": None,
    }


ANONYMOUS = {"Type": "volume", "Name": "a" * 64, "Source": "/v/a", "Destination": "/data"}
NAMED = {"Type": "volume", "Name": "named", "Source": "/v/named", "Destination": "/srv"}


@pytest.mark.parametrize(
    ("host", "binds", "listed"),
    [
        ({"Binds": ["named:/srv"]}, ["named:/srv", "a" * 64 + ":/data"], []),
        ({"Binds": None, "Mounts": None}, ["a" * 64 + ":/data"], []),
        (
            {
                "Mounts": [
                    {"Type": "volume", "Target": "/data"},
                    {"Type": "volume", "Target": "/srv", "Source": "named"},
                ]
            },
            [],
            ["a" * 64, "named"],
        ),
    ],
)
def test_the_volumes_of_another_one(host, binds, listed):
    own = [{**ANONYMOUS, "Name": "b" * 64}, NAMED]
    made = with_volumes_of({"HostConfig": host, "Id": "new", "Mounts": own}, {"Mounts": [ANONYMOUS, NAMED]})
    assert made["Mounts"] == [ANONYMOUS, NAMED]
    assert made["HostConfig"]["Binds"] == binds and made["Id"] == "new"
    assert [one["Source"] for one in made["HostConfig"]["Mounts"]] == listed


def test_the_file_system_of_a_path():
    table = "/dev/sda1 / ext4 rw 0 0\nstore:/e /srv/a\\040b nfs4 rw 0 0\nnone /srv tmpfs rw 0 0\nover /srv xfs rw 0 0\n"
    mounts = files.parse_mounts(table)
    assert files.file_system("/srv/a b/c", mounts)["type"] == "nfs4"
    assert files.file_system("/srv/x", mounts) == {"type": "xfs", "device": "over"}
    assert files.file_system("/srvx", mounts)["type"] == "ext4"
    assert files.file_system("/", mounts)["type"] == "ext4"
    assert files.file_system("/x", [])["type"] == "unknown"


def test_what_is_known_of_a_path(tmp_path):
    assert files.path_facts(str(tmp_path / "absent"))["exists"] is False
    assert files.path_facts(str(tmp_path))["empty"]
    (tmp_path / "file").touch()
    found = files.path_facts(str(tmp_path))
    assert (found["exists"], found["empty"]) == (True, False)


def test_mapped_files_below_a_mount():
    names = {b"data/file", b"data2/file", b"file"}
    assert snapshot.below(b"/data", names) == {b"file"}
    assert snapshot.below(b"", names) == names


# ---------------------------------------------------------------------------------------------------------------------
# --volumes-from


def lending(mounts, config=None, **host):
    """A container that has volumes of a container called data."""
    return {"HostConfig": {"VolumesFrom": ["data"], **host}, "Config": {"Volumes": config}, "Mounts": mounts}


NO_COPY = {"VolumeOptions": {"NoCopy": True}}
BOUND = {"Type": "bind", "Source": "/srv/a:b", "Destination": "/bound", "RW": False, "Propagation": "rslave"}


@pytest.mark.parametrize(
    ("mount", "made"),
    [
        (NAMED, {"Type": "volume", "Source": "named", "ReadOnly": False, **NO_COPY}),
        ({**NAMED, "RW": False}, {"Type": "volume", "Source": "named", "ReadOnly": True, **NO_COPY}),
        (ANONYMOUS, {"Type": "volume", "ReadOnly": False}),
        (BOUND, {"Type": "bind", "Source": "/srv/a:b", "ReadOnly": True, "BindOptions": {"Propagation": "rslave"}}),
        ({"Type": "tmpfs", "Destination": "/tmp"}, {"Type": "tmpfs", "ReadOnly": False}),
    ],
)
def test_what_another_container_has_lent_is_its_own(mount, made):
    """By the container's name it would be what a container of that name has at the destination."""
    inspect = lending([mount])
    assert with_lent_mounts(inspect) == {"Mounts": [{**made, "Target": mount["Destination"]}]}
    assert [one["lent"] for one in of_container(inspect)] == ([True] if mount["Type"] != "tmpfs" else [])


@pytest.mark.parametrize(
    "inspect",
    [
        lending([NAMED], Binds=["named:/srv/:ro"]),
        lending([NAMED], Mounts=[{"Type": "volume", "Target": "/srv", "Source": "named"}]),
        lending([{"Type": "tmpfs", "Destination": "/srv"}], Tmpfs={"/srv": ""}),
        # As its image wants it.
        lending([ANONYMOUS], config={"/data": {}}),
        {"HostConfig": {"VolumesFrom": None}, "Mounts": [NAMED, ANONYMOUS]},
    ],
)
def test_what_is_its_own_is_not_mounted_twice(inspect):
    expected = {key: value for key, value in inspect["HostConfig"].items() if key != "VolumesFrom"}
    assert with_lent_mounts(inspect) == expected
    assert not any(one["lent"] for one in of_container(inspect))


def test_an_anonymous_volume_of_the_image_may_have_been_exchanged_for_a_named_one():
    inspect = lending([{**NAMED, "Destination": "/data"}], config={"/data": {}})
    assert [one["Source"] for one in with_lent_mounts(inspect)["Mounts"]] == ["named"]
