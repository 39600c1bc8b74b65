# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of both ends of a channel: what one process writes, another one reads, and nothing else."""

from __future__ import annotations

import json
import subprocess

import pytest

from ansible_collections.fog.migration.plugins.module_utils.agent import reservation
from ansible_collections.fog.migration.plugins.module_utils.agent.reservation import ReservedDestination, ReservedSource
from ansible_collections.fog.migration.plugins.module_utils.docker.mounts import Ordered
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import settings
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.precopy import Limits
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import (
    DestinationSettings,
    SourceSettings,
    SshTarget,
    TreeSettings,
)
from ansible_collections.fog.migration.plugins.module_utils.system import deploy

SOURCE = SourceSettings(
    "c1",
    "/run/x/staging",
    "/run/docker.sock",
    migration="looper-1",
    together=["looper-1", "looper-2"],
    restore_options=["--tcp-established"],
    trees=[TreeSettings("", snapshot="/x/rootfs.json"), TreeSettings("/data", "/var/lib/docker/volumes/data/_data")],
    ssh=SshTarget("/x/key", "/x/known_hosts", "root", "10.0.0.2", 22),
)
ORDERS = [Ordered("/data", "volume", "data", "/v/data"), Ordered("/x")]
DESTINATION = DestinationSettings("/run/x/staging", "/run/docker.sock", "fog2", "c2", mounts=ORDERS, log=True)
BOTH = pytest.mark.parametrize("known", [SOURCE, DESTINATION, SourceSettings("c1", "/x", "/y")])


@BOTH
def test_what_is_written_is_read(known):
    assert type(known).from_json(json.loads(json.dumps(known.to_json()))) == known


@BOTH
def test_a_field_that_is_missing_is_refused(known):
    for name in known.to_json():
        value = known.to_json()
        del value[name]
        with pytest.raises(MigrationError, match=rf"^the settings of the \w+'s end lack {name}$"):
            type(known).from_json(value)


@BOTH
def test_a_field_that_is_unknown_is_refused(known):
    with pytest.raises(MigrationError, match=r"^the settings of the \w+'s end have the unknown colour, size$"):
        type(known).from_json({**known.to_json(), "size": 1, "colour": None})


@pytest.mark.parametrize("value", [None, [], 1, "x", {}])
def test_what_are_no_settings(value):
    for cls in (SourceSettings, DestinationSettings):
        with pytest.raises(MigrationError):
            cls.from_json(value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"trees": [{"place": ""}]}, "the settings of a tree of files lack is_bind, root, snapshot"),
        ({"trees": [1]}, "the settings of a tree of files are no object"),
        (
            {"ssh": {**SOURCE.to_json()["ssh"], "password": "x"}},
            "the settings of the connection have the unknown password",
        ),
    ],
)
def test_parts_are_looked_at_as_well(change, why):
    with pytest.raises(MigrationError, match=f"^{why}$"):
        SourceSettings.from_json({**SOURCE.to_json(), **change})


def test_options_of_a_task_become_settings():
    known = settings.for_source("/run/x", "looper-1", "zstd", 1.5, 60, container="c1", docker_socket="/s")
    assert (known.staging, known.compression, known.rate_limit) == ("/run/x/staging", "auto", 3 << 19)
    assert (known.patience, known.lifetime) == (60, 120)
    assert known.restore_options == ["--tcp-established", "--ext-unix-sk", "--file-locks"]
    assert settings.for_source("/x", None, "none", 0, 1, container="c", docker_socket="/s").compression == "none"
    there = settings.for_destination("/run/x", None, 30, 60, docker_socket="/s", host="fog2")
    assert (there.staging, there.restore_limit, there.patience) == ("/run/x/staging", 30, 900)
    assert there.quiet_limit == 120
    assert Limits.from_options(3, 1.5, 0.5) == Limits(3, 3 << 19, 0.5)


@pytest.mark.parametrize("part", ["source", "destination"])
def test_a_program_with_wrong_settings_says_so_in_one_sentence(tmp_path, part):
    command = deploy.install(str(tmp_path), {}, f"migration.channel.{part}")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"the settings of the {part}'s end lack ") and done.stderr.count("\n") == 1


# What is reserved


@pytest.fixture(autouse=True)
def _own_journal(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))


def test_what_is_reserved_is_kept_until_an_end_is_started(tmp_path):
    source = ReservedSource("/run/x", True, False, Limits(3, 5, 0.5), SOURCE)
    reservation.store(str(tmp_path), "looper-1", source)
    assert reservation.load_source(str(tmp_path), "looper-1") == source
    destination = ReservedDestination("/run/y", "looper", {"its image": "0a" * 32}, True, DESTINATION)
    reservation.store(str(tmp_path), "looper-2", destination)
    assert reservation.load_destination(str(tmp_path), "looper-2") == destination


def test_where_the_socket_of_a_channel_is(tmp_path):
    for directory in ("/run/x", "/run/y"):
        reservation.store(str(tmp_path), "looper-1", ReservedSource(directory, True, True, Limits(), SOURCE))
        assert reservation.channel_of(str(tmp_path), "looper-1") == f"{directory}/source.sock"


@pytest.mark.parametrize("identity", ["looper-1", "../looper-1"])
def test_nothing_was_reserved(tmp_path, identity):
    folder = str(tmp_path)
    why = "nothing was reserved here for the migration looper-1|is not the name of a migration"
    for load in (reservation.load_source, reservation.load_destination):
        with pytest.raises((MigrationError, journal.JournalError), match=why):
            load(folder, identity)
    with pytest.raises((MigrationError, journal.JournalError), match=why):
        reservation.channel_of(folder, identity)


def test_the_reservation_of_another_version_is_refused(tmp_path):
    (tmp_path / "looper-1.settings").write_text('{"directory": "/x", "name": "looper", "colour": 1}')
    with pytest.raises(MigrationError, match=r"^the facts of a reservation lack judged, keeps_key, settings$"):
        reservation.load_destination(str(tmp_path), "looper-1")
