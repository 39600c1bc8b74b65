# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a container again, in which order things are noted and made, and removing what was made."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.fog.migration.plugins.module_utils.checkpoint.recreate import Recreation
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.policy import rules

VOLUMES = [{"Name": "data", "Driver": "local", "Options": None, "Labels": None}, {"Name": "there", "Driver": "local"}]


class Docker:
    """As much of Docker as a recreation asks for. It writes down what it is told, beside what is noted."""

    def __init__(self, events):
        self.events = events
        self.containers_here = {}
        self.volumes_here = ["there"]
        self.images_here = {"busybox:lab": "sha256:aaa"}
        self.body = None
        self.mounts_made = []
        self.api_version = "1.43"
        # The networks that it has come to be in, and what it has got from its image.
        self.networks_here = {}
        self.of_image = {}

    def containers(self, all):
        assert all
        return []

    def inspect_container(self, container):
        config = {**self.of_image, **{key: self.body[key] for key in ("Image", "Entrypoint")}}
        return {
            "Id": container,
            "Mounts": self.mounts_made,
            "Config": config,
            "HostConfig": self.body["HostConfig"],
            "NetworkSettings": {"Networks": self.networks_here},
        }

    def disconnect_container_from_network(self, container, network):
        self.events.append(("no endpoint", network, container))
        del self.networks_here[network]

    def volumes(self):
        return {"Volumes": [{"Name": name} for name in self.volumes_here] or None}

    def create_volume(self, name, **_arguments):
        self.events.append(("volume", name))
        self.volumes_here.append(name)

    def remove_volume(self, name):
        self.events.append(("no volume", name))
        self.volumes_here.remove(name)

    def networks(self):
        return [{"Name": "land", "Driver": "macvlan"}, {"Name": "other", "Driver": "bridge"}]

    def find_image(self, tag):
        return {"Id": self.images_here[tag]} if tag in self.images_here else None

    def create_from_body(self, name, body):
        self.events.append(("container", name))
        self.body = body
        given = (body.get("NetworkingConfig") or {}).get("EndpointsConfig")
        self.networks_here = dict(given or {body["HostConfig"]["NetworkMode"]: {}})
        self.containers_here["f00"] = name
        return "f00"

    def connect_endpoint(self, network, container, endpoint):
        self.events.append(("endpoint", network, container))
        self.networks_here[network] = endpoint

    def find_container(self, container):
        return {"Id": container} if container in self.containers_here else None

    def remove_container(self, container, v, force):
        assert v and force
        self.events.append(("no container", container))
        del self.containers_here[container]


@pytest.fixture
def events():
    return []


@pytest.fixture
def docker(events):
    return Docker(events)


@pytest.fixture
def inspect(tmp_path):
    def bind(name):
        return {"Type": "bind", "Source": str(tmp_path / name), "Destination": f"/in/{name}"}

    return {
        "Id": "4f9d1c" + "0" * 58,
        "Name": "/looper",
        "Image": "sha256:aaa",
        "Config": {"Image": "busybox:lab"},
        "HostConfig": {"NetworkMode": "land", "RestartPolicy": {"Name": "always"}},
        "NetworkSettings": {
            "Networks": {
                "land": {"IPAddress": "192.0.2.9", "IPAMConfig": None},
                "other": {"IPAddress": "192.0.2.77", "IPAMConfig": None},
            }
        },
        "Mounts": [
            {"Type": "volume", "Name": "data", "Source": "/volumes/data", "Destination": "/data"},
            bind("folder"),
            bind("deep/file"),
            bind("stays"),
        ],
    }


@pytest.fixture
def recreation(docker, inspect, events):
    def note(made):
        events.extend(("noted", kind, value) for kind, value in made.items())

    return Recreation(
        docker, "clone", inspect, VOLUMES, ["/data", "/in/folder", "/in/deep/file"], ["/in/deep/file"], note
    )


def test_what_is_made_is_noted_first(recreation, events, tmp_path):
    recreation.make_mounts()
    assert events == [
        ("noted", "volumes", ["data"]),
        ("volume", "data"),
        ("noted", "folders", [str(tmp_path / "folder")]),
        ("noted", "folders", [str(tmp_path / "deep/file")]),
    ]
    assert (tmp_path / "folder").is_dir()
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700
    assert (tmp_path / "deep/file").is_file()
    assert not (tmp_path / "stays").exists()


def test_mounts_are_made_once(recreation, events):
    recreation.make_mounts()
    before = list(events)
    recreation.make_mounts()
    assert events == before


def test_the_container_joins_its_further_networks(recreation, events, docker):
    assert recreation.create(armed=True) == "f00"
    assert events[-3:] == [("container", "clone"), ("noted", "container", "f00"), ("endpoint", "other", "f00")]
    assert ("volume", "data") in events
    assert docker.body["Image"] == "busybox:lab"
    assert docker.body["HostConfig"]["Runtime"] == "fog-runc"
    assert docker.body["HostConfig"]["RestartPolicy"] == {"Name": "no"}


@pytest.mark.parametrize("networks", [[], ["other"]])
def test_it_is_in_no_network_that_it_was_disconnected_from(recreation, events, docker, inspect, networks):
    """Docker joins that of its mode by itself."""
    known = inspect["NetworkSettings"]["Networks"]
    inspect["NetworkSettings"]["Networks"] = {name: known[name] for name in networks}
    recreation.create()
    assert list(docker.networks_here) == networks
    assert ("no endpoint", "land", "f00") in events


def test_what_docker_makes_otherwise_does_not_come(recreation, docker):
    """What is this server's own, and takes its place again, is not lost for that."""
    docker.of_image = {"User": "nobody"}
    recreation.create()
    recreation.policy = rules.Policy(bind_folders=["/"])
    with pytest.raises(MigrationError, match=r"Config\.User would not be as before"):
        recreation.create()


@pytest.mark.parametrize(("same", "given"), [(True, {"IPAMConfig": {"IPv4Address": "192.0.2.9"}}), (False, {})])
def test_it_has_the_same_addresses_where_it_moves(recreation, docker, same, given):
    recreation.create(same_addresses=same)
    assert docker.body["NetworkingConfig"]["EndpointsConfig"]["land"] == given


def test_another_image_of_that_tag_is_not_taken(recreation, docker):
    docker.images_here["busybox:lab"] = "sha256:bbb"
    recreation.create()
    assert docker.body["Image"] == "sha256:aaa"


def test_nothing_is_made_of_what_is_no_container(recreation, events, inspect):
    inspect["NetworkSettings"] = {"Networks": {"land": 7}}
    with pytest.raises(MigrationError, match="does not describe a container"):
        recreation.create()
    assert events == []


def test_what_was_made_is_removed_and_nothing_else(recreation, docker, tmp_path):
    (tmp_path / "folder").mkdir()
    recreation.create()
    assert recreation.remove() == "nothing of it is left on this host"
    assert docker.containers_here == {}
    assert docker.volumes_here == ["there"]
    assert (tmp_path / "folder").exists()
    assert not (tmp_path / "deep/file").exists()


def test_what_cannot_be_removed_is_told_and_tried_again(recreation, docker):
    def busy(name):
        raise OSError("volume is in use")

    recreation.create()
    remove, docker.remove_volume = docker.remove_volume, busy
    assert recreation.remove() == "what was made of it could not be removed (volume is in use)"
    docker.remove_volume = remove
    assert recreation.remove() == "nothing of it is left on this host"
    assert docker.volumes_here == ["there"]


def test_what_is_removed_can_be_named(recreation, docker):
    docker.containers_here["bee"] = "armed before"
    recreation.remove("bee")
    assert docker.containers_here == {}


def test_what_is_below_another_one_is_noted_as_well(recreation, inspect, events, tmp_path):
    """In whatever order Docker tells of them."""
    inspect["Mounts"] = [
        {"Type": "bind", "Source": str(tmp_path / "folder" / "below"), "Destination": "/in/deep/file"},
        {"Type": "bind", "Source": str(tmp_path / "folder"), "Destination": "/in/folder"},
    ]
    recreation.volumes = []
    recreation.make_mounts()
    noted = [str(tmp_path / "folder"), str(tmp_path / "folder" / "below")]
    assert events == [("noted", "folders", [path]) for path in noted]
    recreation.remove()
    assert not (tmp_path / "folder").exists()


def test_nothing_is_made_through_a_link_of_others(recreation, inspect, events, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "etc")
    os.chown(tmp_path / "link", 1000, 1000, follow_symlinks=False)
    inspect["Mounts"] = [{"Type": "bind", "Source": str(tmp_path / "link" / "new"), "Destination": "/in/folder"}]
    recreation.volumes = []
    with pytest.raises(MigrationError, match="leads through the symbolic link"):
        recreation.make_mounts()
    assert events == [] and list((tmp_path / "etc").iterdir()) == []
    os.chown(tmp_path / "link", 0, 0, follow_symlinks=False)
    recreation.make_mounts()
    assert events == [("noted", "folders", [str(tmp_path / "etc" / "new")])]


def test_what_the_image_has_put_into_a_new_volume_is_removed(recreation, docker, tmp_path):
    """And nothing of one that was there before."""
    for name in ("data", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "of_image").write_text("x")
        mount = {"Type": "volume", "Name": name, "Driver": "local", "Source": str(tmp_path / name)}
        docker.mounts_made.append({**mount, "Destination": "/data" if name == "data" else "/in/folder"})
    recreation.create()
    assert [len(list((tmp_path / name).iterdir())) for name in ("data", "there")] == [0, 1]
