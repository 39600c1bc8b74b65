# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files on the channel of a live migration: what arrives is what was sent, and stays where it belongs."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import stat
import struct
import subprocess
import threading

import pytest
from checkpoints import describe
from fake_docker import ID, INSPECT, Docker

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import file_loader, manifest
from ansible_collections.fog.migration.plugins.module_utils.docker import mounts
from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive, snapshot
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import file_frames, file_sync
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.destination import Destination
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.policy import rules
from ansible_collections.fog.migration.plugins.module_utils.system import files
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames


@pytest.fixture
def ends():
    """The two ends of a channel that have greeted each other."""
    (there_in, here_out), (here_in, there_out) = os.pipe(), os.pipe()
    here, there = Frames(here_in, here_out, 10), Frames(there_in, there_out, 10)
    here.write_json(framing.HELLO, {})
    there.expect(framing.HELLO)
    yield here, there
    for descriptor in (there_in, here_out, here_in, there_out):
        os.close(descriptor)


def receive(there, staging):
    """The next file."""
    kind, payload = there.expect(framing.FILE)
    assert kind == framing.FILE
    file_frames.receive_file(there, str(staging), framing.parse_object(payload))


@pytest.mark.parametrize("size", [0, 1, files.CHUNK, 3 * files.CHUNK + 5])
def test_a_file_arrives_private_and_whole(ends, tmp_path, size):
    here, there = ends
    content = random.Random(size).randbytes(size)
    (tmp_path / "pages-1.img").write_bytes(content)
    source = str(tmp_path / "pages-1.img")
    sending = threading.Thread(target=file_frames.send_file, args=(here, source, "images/pages-1.img"))
    sending.start()
    receive(there, tmp_path / "staging")
    sending.join()
    arrived = tmp_path / "staging" / "images" / "pages-1.img"
    assert arrived.read_bytes() == content
    assert arrived.stat().st_mode & 0o777 == 0o600
    assert arrived.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("path", ["../x", "/etc/x", "images/../../x", "", None, "a\0b"])
def test_a_path_that_leaves_staging_is_refused(ends, tmp_path, path):
    here, there = ends
    here.write_json(framing.FILE, {"path": path, "size": 1})
    with pytest.raises(Refused, match="the source sends"):
        receive(there, tmp_path / "staging")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [-1, "1", None, True, 1.5])
def test_a_size_that_is_none_is_refused(ends, tmp_path, size):
    here, there = ends
    here.write_json(framing.FILE, {"path": "x", "size": size})
    with pytest.raises(Refused, match="without a size"):
        receive(there, tmp_path / "staging")


def test_more_than_was_announced_is_refused(ends, tmp_path):
    here, there = ends
    here.write_json(framing.FILE, {"path": "x", "size": 1})
    here.write(framing.DATA, b"xx")
    with pytest.raises(Refused, match="more bytes of x came"):
        receive(there, tmp_path)


def test_another_checksum_is_refused(ends, tmp_path):
    here, there = ends
    here.write_json(framing.FILE, {"path": "x", "size": 1})
    here.write(framing.DATA, b"x")
    here.write_json(framing.END, {"sha256": hashlib.sha256(b"y").hexdigest()})
    with pytest.raises(Refused, match="damaged on the way"):
        receive(there, tmp_path)


def test_a_link_that_waits_in_staging_is_not_followed(ends, tmp_path):
    here, there = ends
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "x").symlink_to(tmp_path / "elsewhere")
    here.write_json(framing.FILE, {"path": "x", "size": 0})
    with pytest.raises(OSError, match="symbolic links"):
        receive(there, tmp_path / "staging")
    assert not (tmp_path / "elsewhere").exists()


def test_a_log_leaves_room(ends, tmp_path):
    """What the source sends of it ends before the disk is full, on which Docker and others write as well."""
    here, there = ends
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], check=False).returncode:
        pytest.skip("nothing can be mounted here")

    def send():
        out = file_sync.Outgoing(here, 0)
        for _piece in range(64):
            out.write(struct.pack(">I", 200_000) + bytes(200_000))

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    try:
        with pytest.raises(OSError, match="stays free for the server itself"):
            file_sync.append(there, str(disk / "log"))
        assert files.free_bytes(str(disk)) >= files.floor(8 << 20)
        # The rest is taken, so that who sends it does not wait.
        while sending.is_alive():
            if files.is_readable(there.fd_in, 0.1):
                os.read(there.fd_in, 1 << 20)
    finally:
        subprocess.run(["umount", disk], check=True)


# Folders of the destination


@pytest.fixture
def with_rights(tmp_path):
    """A folder with a setuid file and a device, and an empty one."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "setuid").touch()
    (here / "setuid").chmod(0o4755)
    try:
        os.mknod(here / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    return here, there


@pytest.mark.parametrize("kind", ["bind", "volume"])
@pytest.mark.parametrize("keeps", [True, False])
def test_what_gives_rights_is_left_out_on_the_way(ends, with_rights, tmp_path, monkeypatch, kind, keeps):
    """Of bind mounts, where the policy says so."""
    (sender, receiver), (here, there) = ends, with_rights
    docker = {"Mounts": [{"Type": kind, "Source": str(there), "Destination": "/data"}]}
    answers = {"/containers/c2/json": docker, "/containers/json?all=1": []}
    monkeypatch.setattr(file_sync.engine, "get", lambda _socket, path: (answers[path], None))
    monkeypatch.setattr(rules, "read", lambda: rules.Policy(bind_privileges=keeps))
    settings = DestinationSettings(str(tmp_path / "staging"), "/none.sock", "fog2", mounts=[mounts.Ordered("/data")])
    destination = Destination(receiver, settings)
    destination._adopt("c2")
    stream = file_sync.Outgoing(sender, 0)
    archive.Packer(str(here), stream.write).pack([], snapshot.snapshot(str(here)))
    stream.end()
    destination._take_files({"tree": "/data", "fresh": True, "round": 1})
    kept = keeps or kind == "volume"
    assert sorted(os.listdir(there)) == (["null", "setuid"] if kept else ["setuid"])
    assert stat.S_IMODE((there / "setuid").stat().st_mode) == (0o4755 if kept else 0o755)


@pytest.mark.parametrize("kind", ["bind", "volume"])
@pytest.mark.parametrize("keeps", [True, False])
def test_what_gives_rights_is_left_out_of_a_checkpoint(with_rights, tmp_path, monkeypatch, kind, keeps):
    here, there = with_rights
    monkeypatch.setattr(rules, "read", lambda: rules.Policy(bind_privileges=keeps))
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    archive.save(str(here), str(checkpoint / "mount-0.diff"), snapshot.snapshot(str(here)))
    describe(checkpoint)
    described = dataclasses.replace(manifest.load(str(checkpoint)), mounts={"/data": "mount-0.diff"})
    (tmp_path / "root").mkdir()
    mount = {"Type": kind, "Name": "data", "Source": str(there), "Destination": "/data", "Driver": "local"}
    docker = Docker(tmp_path / "root")
    docker.add({**INSPECT, "Mounts": [mount]})
    loader = file_loader.FileLoader(docker, str(checkpoint), described, {})
    loader.fill_mounts({one["destination"]: one for one in mounts.of_container(docker.there[ID])})
    loader.close()
    kept = keeps or kind == "volume"
    assert sorted(os.listdir(there)) == (["null", "setuid"] if kept else ["setuid"])
