# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that a source sends of a container."""

from __future__ import annotations

import contextlib
import json

import pytest
from inspected import INSPECT, changed, digests_of

from ansible_collections.fog.migration.plugins.module_utils.agent import run_destination
from ansible_collections.fog.migration.plugins.module_utils.agent.reservation import ReservedDestination
from ansible_collections.fog.migration.plugins.module_utils.docker import engine
from ansible_collections.fog.migration.plugins.module_utils.docker.mounts import Ordered
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import config, file_sync
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.config import Config
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.policy import rules

VOLUME = {"Name": "data", "Driver": "local", "Options": None, "Labels": {}}
SENT = {"inspect": INSPECT, "volumes": [VOLUME], "moving": ["/data"], "single_files": []}


def without(name):
    return {key: value for key, value in SENT.items() if key != name}


def test_what_is_sent_is_what_arrives():
    ours = Config(INSPECT, [VOLUME], ["/data"], ["/etc/own.conf"])
    assert Config.from_json(json.loads(json.dumps(ours.to_json()))) == ours
    assert Config.from_json(SENT).to_json() == SENT


@pytest.mark.parametrize(
    ("value", "why"),
    [
        *((value, "lacks something") for value in (None, [], "", 7, {}, [SENT], {**SENT, "command": "reboot"})),
        *((without(name), "lacks something") for name in SENT),
        *(({**SENT, name: None}, "of the wrong type") for name in SENT),
        *(({**SENT, name: {"a": 1}}, "of the wrong type") for name in ("volumes", "moving", "single_files")),
        ({**SENT, "inspect": [INSPECT]}, "of the wrong type"),
        ({**SENT, "inspect": {}}, "describes no container"),
        ({**SENT, "inspect": {**INSPECT, "Config": None}}, "describes no container"),
        ({**SENT, "inspect": {**INSPECT, "HostConfig": []}}, "describes no container"),
        ({**SENT, "moving": ["/data", 7]}, "describes no container"),
        ({**SENT, "moving": [["/data"]]}, "describes no container"),
        ({**SENT, "single_files": [None]}, "describes no container"),
        ({**SENT, "volumes": ["data"]}, "describes no container"),
        ({**SENT, "volumes": [{}]}, "describes no container"),
        ({**SENT, "volumes": [{**VOLUME, "Name": 7}]}, "describes no container"),
    ],
)
def test_what_is_no_configuration_is_refused(value, why):
    with pytest.raises(Refused, match=why) as refusal:
        Config.from_json(value)
    assert str(refusal.value).startswith("the source sent a configuration ")


def test_the_volumes_that_move():
    bind = {"Type": "bind", "Source": "/srv/x", "Destination": "/x"}
    other = {**INSPECT["Mounts"][0], "Name": "other", "Destination": "/other"}
    inspect = changed("Mounts", [*INSPECT["Mounts"], other, bind])
    assert Config(inspect, moving=["/data", "/x"]).moving_volumes() == ["data"]
    assert Config(inspect).moving_volumes() == []


# What the source reads of it


class Docker:
    """Docker's answers by path."""

    def __init__(self, inspect, **more):
        self.answers = {
            "/containers/looper100/json": inspect,
            "/containers/looper100/changes": None,
            "/info": {"DockerRootDir": "/var/lib/docker"},
            "/volumes/data": VOLUME,
            **more,
        }

    def get(self, _socket, path):
        if path in self.answers:
            return self.answers[path], None
        return None, "404 Not Found"


@pytest.fixture
def docker(monkeypatch):
    def stand(inspect, **more):
        monkeypatch.setattr(engine, "get", Docker(inspect, **more).get)

    return stand


def test_what_is_read_of_a_container(docker, tmp_path):
    (tmp_path / "own.conf").touch()
    file = {"Type": "bind", "Source": str(tmp_path / "own.conf"), "Destination": "/etc/own.conf"}
    inspect = changed("Mounts", [*INSPECT["Mounts"], file])
    docker(inspect)
    told = config.describe("/x.sock", "looper100", ["/data", "/etc/own.conf"])
    assert told.config == Config(inspect, [VOLUME], ["/data", "/etc/own.conf"], ["/etc/own.conf"])
    assert told.root == "/var/lib/docker"
    assert told.storage is None
    assert Config.from_json(json.loads(json.dumps(told.config.to_json()))) == told.config


def test_an_anonymous_volume_is_not_made_again(docker):
    docker(changed("Mounts", [{"Type": "volume", "Name": "a" * 64, "Source": "/x", "Destination": "/data"}]))
    assert config.describe("/x.sock", "looper100", []).config.volumes == []


def test_a_place_where_nothing_is_mounted(docker):
    docker(INSPECT)
    with pytest.raises(MigrationError, match="nothing is mounted at /a, /b in looper100"):
        config.describe("/x.sock", "looper100", ["/b", "/data", "/a"])


def test_changed_files_that_cannot_be_read(docker):
    docker(changed("Driver", "zfs"), **{"/containers/looper100/changes": [{"Path": "/x", "Kind": 1}]})
    with pytest.raises(MigrationError, match="of looper100 were changed, which cannot be read from zfs"):
        config.describe("/x.sock", "looper100", [])


def test_a_container_that_docker_does_not_tell_of(docker):
    docker(INSPECT)
    with pytest.raises(MigrationError, match=r"^Docker does not tell of /containers/other/json \(404 Not Found\)$"):
        config.describe("/x.sock", "other", [])


# What the destination does with a file that is no configuration, or not the one that was judged


def reserved(**facts):
    """What the destination has been told of the container that is to come."""
    orders = [Ordered("/data", "volume", "data", "/v/data")]
    own = DestinationSettings("/staging", "/x.sock", "fog2", mounts=orders)
    return ReservedDestination("/run/x", "looper", facts.get("judged", {}), False, own)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 20000, b"{}"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, monkeypatch, data):
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    path = tmp_path / config.FILE
    path.write_bytes(data)
    with pytest.raises(Refused):
        run_destination._make_container("looper-1", reserved(), str(path))


def test_a_container_is_not_made_for_a_migration_that_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    path = tmp_path / config.FILE
    path.write_text(json.dumps(SENT))
    with pytest.raises(MigrationError, match=r"^the migration looper-1 has ended here$"):
        run_destination._make_container("looper-1", reserved(), str(path))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"HostConfig": {**INSPECT["HostConfig"], "Privileged": True}}, "judged: other are HostConfig.Privileged$"),
        ({"Mounts": [{"Type": "bind", "Source": "/etc", "Destination": "/data"}]}, "other are the mount at /data$"),
        ({"Mounts": None}, "other are the mount at /data$"),
        ({"Mounts": "x"}, r"^the configuration that arrived describes no container \("),
    ],
)
def test_what_was_judged_is_what_is_made(tmp_path, monkeypatch, change, why):
    monkeypatch.setattr(run_destination.journal, "load", lambda _identity: "open")
    path = tmp_path / config.FILE
    told = digests_of(INSPECT, [VOLUME])
    path.write_text(json.dumps({**SENT, "inspect": {**INSPECT, **change}}))
    with pytest.raises(MigrationError, match=why):
        run_destination._make_container("looper-1", reserved(judged=told), str(path))


def test_what_was_not_ordered_is_not_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(run_destination.journal, "load", lambda _identity: "open")
    path = tmp_path / config.FILE
    path.write_text(json.dumps({**SENT, "moving": ["/data", "/etc"]}))
    with pytest.raises(MigrationError, match=r"the content of /etc arrived for the container, and was not ordered"):
        run_destination._make_container("looper-1", reserved(judged=digests_of(INSPECT, [VOLUME])), str(path))


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({}, False),
        # Another one that Docker has made at the destination.
        ({"Source": "SOURCE", "Name": "other"}, True),
        ({"Source": "SOURCE", "Type": "bind", "Name": ""}, True),
    ],
)
def test_what_docker_has_mounted_is_what_was_ordered(monkeypatch, tmp_path, change, refused):
    mount = {"Type": "volume", "Name": "data", "Source": str(tmp_path), "Destination": "/data"}
    mount.update({key: str(tmp_path) if value == "SOURCE" else value for key, value in change.items()})
    answers = {"/containers/looper100/json": changed("Mounts", [mount]), "/containers/json?all=1": []}
    monkeypatch.setattr(engine, "get", lambda _socket, path: (answers[path], None))
    # Where nobody has judged it, only the place counts.
    orders = [Ordered("/data", "volume", "data", "/v/data"), *([] if refused else [Ordered("/data")])]
    for order in orders:
        with contextlib.ExitStack() as stack:
            if refused:
                why = r"on fog2 has .* where the volume data at /data was ordered to be filled"
                stack.enter_context(pytest.raises(Refused, match=why))
            filled = file_sync.Mounts("/x.sock", "looper100", [order], [], rules.Policy, "fog2")
            assert "/data" in filled
            filled.close()
