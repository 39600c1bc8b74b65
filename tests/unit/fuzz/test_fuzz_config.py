# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a source sends for the configuration of a container: it is refused in one sentence, or is one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspected import INSPECT, digests_of

from ansible_collections.fog.migration.plugins.module_utils.agent import run_destination
from ansible_collections.fog.migration.plugins.module_utils.agent.reservation import ReservedDestination
from ansible_collections.fog.migration.plugins.module_utils.docker import judged
from ansible_collections.fog.migration.plugins.module_utils.docker.etc_files import EtcFiles, Placing, merged_hosts
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.config import Config
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from fuzz.made_up import as_json, like, payloads, values

SENT = {
    "inspect": INSPECT,
    "volumes": [{"Name": "data", "Driver": "local", "Options": None, "Labels": {}}],
    "moving": ["/data"],
    "single_files": ["/etc/own.conf"],
}

RESERVED = ReservedDestination("/run/x", "looper", {}, False, DestinationSettings("/staging", "/x.sock", "fog2"))
JUDGED = digests_of(INSPECT, SENT["volumes"])


@given(st.one_of(like(SENT), values))
def test_a_configuration(value):
    try:
        config = Config.from_json(value)
    except Refused as refusal:
        assert "\n" not in str(refusal)
        assert value != SENT
    else:
        assert config.to_json() == value
        assert Config.from_json(json.loads(json.dumps(config.to_json()))).to_json() == json.loads(json.dumps(value))
        assert all(isinstance(one, str) for one in config.moving + config.single_files)
        assert all(isinstance(one["Name"], str) for one in config.volumes)
        assert isinstance(config.inspect["Config"], dict) and isinstance(config.inspect["HostConfig"], dict)


@given(st.one_of(like(SENT).map(as_json), payloads))
def test_the_file_with_a_configuration(data):
    """The migration has no entry in the journal, so what is a configuration is of no use either."""
    with tempfile.TemporaryDirectory() as folder, pytest.raises((Refused, MigrationError)) as refusal:
        path = Path(folder, "config.json")
        path.write_bytes(data)
        run_destination._make_container("of-nobody", RESERVED, str(path))
    assert "\n" not in str(refusal.value)


@given(like(SENT))
def test_what_is_not_what_was_judged(value):
    """The same as a file with a configuration, at the point where it is compared."""
    try:
        config = Config.from_json(value)
    except Refused:
        return
    try:
        judged.require(JUDGED, config.inspect, config.volumes)
    except MigrationError as refusal:
        assert "\n" not in refusal.what and len(refusal.what) < 1000
    else:
        assert digests_of(config.inspect, config.volumes) == JUDGED


ETC = {
    "texts": {"hosts": "127.0.0.1\tlocalhost\n172.17.0.2\tlooper\n", "hostname": "looper\n"},
    "modes": {"hosts": 0o644, "hostname": 0o600},
    "addresses": ["172.17.0.2", "fd00::2"],
    "name": "looper",
    "of_server": ["gate"],
    "base": "127.0.0.1\tlocalhost\n",
}


@given(st.one_of(like(ETC), values))
def test_the_files_that_docker_makes(value):
    """Nothing is written but the files that are there."""
    try:
        known = EtcFiles.from_json(value)
    except Refused as refusal:
        assert "\n" not in str(refusal) and value != ETC
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hosts").write_text("172.17.0.9\tlooper\n")
        placing = Placing(folder, known)
        placing.hold()
        placing.settle()
        assert [one.name for one in Path(folder).iterdir()] == ["hosts"]


def test_files_of_many_lines_do_not_take_long():
    """Each is looked up once, and not compared with all others."""
    many = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(60_000)]
    lines = "".join(f"{one} n\n" for one in many)
    for base in (None, lines):
        known = EtcFiles({"hosts": lines}, {}, many, "n", many, base)
        assert merged_hosts(known, "172.17.0.9\tlooper\n").count("\n") <= len(many) + 1


def test_the_configuration_that_the_others_are_like_is_one():
    assert Config.from_json(SENT).to_json() == SENT
