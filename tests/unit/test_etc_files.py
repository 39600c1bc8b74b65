# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in a container's /etc that Docker makes."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import etc_files
from ansible_collections.fog.migration.plugins.module_utils.docker.etc_files import EtcFiles
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused

LOCAL = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n"


def here(text, *addresses, of_server=(), base=None):
    return EtcFiles({"hosts": text}, {"hosts": 0o644}, list(addresses), "web", list(of_server), base)


@pytest.mark.parametrize(
    ("source", "there", "merged"),
    [
        # Nothing was changed.
        (LOCAL + "172.17.0.2\tweb\n", LOCAL + "172.17.0.9\tweb\n", LOCAL + "172.17.0.9\tweb\n"),
        # Lines, comments and an own name were added, another line was removed.
        (
            "127.0.0.1 localhost\n# mine\n1.2.3.4 a b\n172.17.0.2 web shop\n",
            LOCAL + "172.17.0.9\tweb\n",
            "127.0.0.1 localhost\n# mine\n1.2.3.4 a b\n172.17.0.9 web shop\n",
        ),
        # Its own was removed, or it has no network there.
        (LOCAL, LOCAL + "172.17.0.9\tweb\n", LOCAL),
        (LOCAL + "172.17.0.2\tweb\n1.2.3.4 a", LOCAL, LOCAL + "1.2.3.4 a"),
    ],
)
def test_what_was_written_to_hosts_is_kept(source, there, merged):
    assert etc_files.merged_hosts(here(source, "172.17.0.2"), there) == merged


def test_each_address_becomes_that_of_the_same_kind():
    source = LOCAL + "172.17.0.2\tweb\n192.0.2.7\tweb\nfd00::2\tweb\n"
    there = LOCAL + "fd00::5\tweb\n192.0.2.7\tweb\n172.18.0.4\tweb\n"
    known = here(source, "172.17.0.2", "192.0.2.7", "fd00::2")
    assert etc_files.merged_hosts(known, there) == LOCAL + "172.18.0.4\tweb\n192.0.2.7\tweb\nfd00::5\tweb\n"


def test_what_each_server_knows_otherwise():
    source = "172.17.0.1\tgate\n172.17.0.3\tdatabase 4f9d1c db\n1.2.3.4\tother\n"
    there = "172.30.0.1\tgate\n172.30.0.8\tdatabase 77aa db\n1.2.3.4\tother\n"
    known = here(source, of_server=["gate", "database"])
    assert etc_files.merged_hosts(known, there) == there
    inspect = {
        "HostConfig": {"ExtraHosts": ["gate:host-gateway", "other:1.2.3.4"], "Links": ["/db:/web/database"]},
        "NetworkSettings": {"Networks": {"front": {"Links": ["redis:cache"]}}},
    }
    assert etc_files.names_of_server(inspect) == ["cache", "database", "gate"]


def test_in_the_servers_network_only_the_difference_moves():
    known = here("127.0.0.1 localhost\n1.2.3.4 mine\n", base="127.0.0.1 localhost\n127.0.1.1 fog1\n::1 six\n")
    there = "127.0.0.1 localhost\n127.0.1.1 fog2\n::1 six\n"
    assert etc_files.merged_hosts(known, there) == "127.0.0.1 localhost\n127.0.1.1 fog2\n1.2.3.4 mine\n"


def test_who_has_made_resolv_conf():
    text = b"nameserver 192.0.2.1\n"
    digest = hashlib.sha256(text).hexdigest()
    assert etc_files.is_as_docker_made_it(text, f"sha256:{digest}\n", [])
    assert etc_files.is_as_docker_made_it(text, digest, [])
    assert not etc_files.is_as_docker_made_it(text + b"#", digest, [text + b"#"])
    # Docker keeps none of a copy of the server's.
    assert etc_files.is_as_docker_made_it(text, None, [b"", text])
    assert not etc_files.is_as_docker_made_it(text, None, [b""])


@pytest.fixture
def inspect(tmp_path):
    for name, text in (("hosts", b"1.2.3.4 \xff\n"), ("hostname", b"web\n"), ("resolv.conf", b"nameserver 9.9.9.9\n")):
        (tmp_path / name).write_bytes(text)
    (tmp_path / "hostname").chmod(0o600)
    return {
        "HostsPath": str(tmp_path / "hosts"),
        "HostnamePath": str(tmp_path / "hostname"),
        "ResolvConfPath": str(tmp_path / "resolv.conf"),
        "Mounts": [],
        "Config": {"Hostname": "web"},
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
    }


def test_they_are_put_in_the_files_that_are_there(inspect, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    for name in ("hosts", "hostname"):
        (there / name).write_text("longer than what comes in its place\n")
    inodes = {name: (there / name).stat().st_ino for name in ("hosts", "hostname")}
    known = EtcFiles.from_json(json.loads(json.dumps(etc_files.read(inspect).to_json())))
    etc_files.Placing(str(there), known).settle()
    assert {name: (there / name).read_bytes() for name in os.listdir(there)} == {
        "hosts": b"1.2.3.4 \xff\n",
        "hostname": b"web\n",
    }
    assert {name: (there / name).stat().st_ino for name in inodes} == inodes
    assert (there / "hostname").stat().st_mode & 0o777 == 0o600


OURS, THEIRS = "172.17.0.2\tweb\n", "203.0.113.77\tweb\n"


@pytest.mark.parametrize(
    "steps",
    [
        # Docker knows the address before the runtime is called; when the network is connected, to which it adds; or
        # only when the runtime has ended.
        [LOCAL + THEIRS, None, None],
        [LOCAL, "add", None],
        [LOCAL, LOCAL, LOCAL + THEIRS],
        # It makes all of it anew each time.
        [LOCAL + THEIRS, LOCAL + THEIRS, LOCAL + THEIRS],
    ],
)
def test_the_file_of_hosts_is_as_long_as_it_was_until_all_is_restored(tmp_path, steps):
    hosts, source = tmp_path / "hosts", LOCAL + OURS + "1.2.3.4 mine\n"
    placing = etc_files.Placing(str(tmp_path), here(source, "172.17.0.2"))
    for number, step in enumerate(steps):
        if step:
            hosts.write_text(hosts.read_text() + THEIRS if step == "add" else step)
        if number < 2:
            placing.hold()
            assert hosts.read_text() == source
    placing.settle()
    assert hosts.read_text() == LOCAL + THEIRS + "1.2.3.4 mine\n"


def test_docker_may_write_what_is_there_already(tmp_path):
    hosts, source = tmp_path / "hosts", LOCAL + OURS
    placing = etc_files.Placing(str(tmp_path), here(source, "172.17.0.2"))
    for text in (LOCAL, source):
        hosts.write_text(text)
        placing.hold()
    placing.settle()
    assert hosts.read_text() == source


def test_what_docker_has_made_of_resolv_conf_stays(inspect, tmp_path):
    (tmp_path / "resolv.conf.hash").write_text(hashlib.sha256(b"nameserver 9.9.9.9\n").hexdigest())
    assert set(etc_files.read(inspect).texts) == {"hosts", "hostname"}


def test_what_is_mounted_there_is_no_file_of_dockers(inspect):
    inspect["Mounts"] = [{"Destination": "/etc/hosts"}]
    assert set(etc_files.read(inspect).texts) == {"resolv.conf", "hostname"}


def test_nothing_is_followed_and_nothing_is_too_long(inspect, tmp_path, monkeypatch):
    there = tmp_path / "there"
    there.mkdir()
    (there / "hosts").symlink_to(tmp_path / "hostname")
    with pytest.raises(Refused, match="its /etc/hosts cannot be written"):
        etc_files.Placing(str(there), here("x")).settle()
    assert (tmp_path / "hostname").read_text() == "web\n"
    monkeypatch.setattr(etc_files, "LONGEST", 5)
    with pytest.raises(MigrationError, match="its /etc/hosts is longer"):
        etc_files.read(inspect)


GOOD = here("x", "192.0.2.1").to_json()


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {**GOOD, "more": 1},
        {**GOOD, "texts": {"shadow": "x"}},
        {**GOOD, "texts": {"hosts": 7}},
        {**GOOD, "texts": {"hosts": "x" * (etc_files.LONGEST + 1)}},
        {**GOOD, "modes": {"hosts": "0644"}},
        {**GOOD, "addresses": "192.0.2.1"},
        {**GOOD, "of_server": [7]},
        {**GOOD, "name": None},
        {**GOOD, "base": 7},
    ],
)
def test_what_describes_no_files(value):
    assert EtcFiles.from_json(GOOD).to_json() == GOOD
    with pytest.raises(Refused):
        EtcFiles.from_json(value)
