# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the kernel, Docker or an archive answers: it is read, or refused in one sentence."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import subprocess
import tarfile
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspected import INSPECT
from test_images import BEFORE_25, ID, archive

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import encryption, file_loader, recreate
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import manifest as _manifest
from ansible_collections.fog.migration.plugins.module_utils.docker import engine, images
from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError, MigrationError
from ansible_collections.fog.migration.plugins.module_utils.network import netlink, nftables, sockets
from ansible_collections.fog.migration.plugins.module_utils.policy import judge, rules
from ansible_collections.fog.migration.plugins.module_utils.transport import compression
from ansible_collections.fog.migration.plugins.module_utils.validate import load_json_file
from fuzz.made_up import as_json, like, odd_json, payloads, values

# ---------------------------------------------------------------------------------------------------------------------
# The kernel

TABLE = bytes(4) + netlink.text(1, "CRIU-123") + netlink.number(2, 7)
MESSAGE = netlink.message(20, 0, TABLE) + netlink.message(netlink.NLMSG_ERROR, 0, bytes(20))
SOCKET = (
    bytes([socket.AF_INET6, 1, 0, 0]) + struct.pack(">HH", 80, 5000) + bytes(44) + struct.pack("=5I", 0, 0, 0, 0, 7)
)


@st.composite
def changed(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes, some of which are other ones, missing or too many."""
    found = bytearray(data)
    for _change in range(draw(st.integers(0, 4))):
        found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
    return bytes(
        found[: draw(st.integers(0, len(found)))] if draw(st.booleans()) else found + draw(st.binary(max_size=9))
    )


@given(st.one_of(changed(MESSAGE), st.binary(max_size=200)))
def test_messages(data):
    """They end, whatever lengths they tell."""
    found = list(netlink.messages_of(data))
    assert len(found) <= len(data) // netlink.HEADER.size
    for _kind, _sequence, body in found:
        assert len(netlink.attributes_of(body)) <= len(body)


@given(st.one_of(changed(TABLE), st.binary(max_size=60)))
def test_tables(data):
    with contextlib.suppress(OSError):
        assert isinstance(nftables.table_of(data)[1], str)


@given(st.one_of(changed(SOCKET), st.binary(max_size=100)))
def test_sockets(data):
    with contextlib.suppress(OSError):
        assert isinstance(sockets._parsed(data, socket.IPPROTO_TCP).inode, int)


# ---------------------------------------------------------------------------------------------------------------------
# Docker

ANSWER = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nApi-Version: 1.45\r\n\r\n" + b'{"Id": "4f9d"}'


def answered(data: bytes, ask):
    """What somebody makes of a Docker that says this, whatever it is asked."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/docker.sock"
        listener.bind(path)
        listener.listen(1)

        def answer() -> None:
            connection = listener.accept()[0]
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            return ask(path)
        finally:
            thread.join()


@given(st.one_of(changed(ANSWER), st.binary(max_size=100), odd_json.map(lambda data: ANSWER[:-14] + data)))
def test_docker(data):
    _value, problem = answered(data, lambda path: engine.get(path, "/info", 5))
    assert problem is None or "\n" not in problem
    status, headers, _value, problem = answered(data, lambda path: engine.fetch(path, "/info", 5))
    assert isinstance(status, int) and isinstance(headers, dict)
    assert problem is None or "\n" not in problem


# ---------------------------------------------------------------------------------------------------------------------
# Archives of images


def _with(data: bytes, name: str, content: bytes) -> bytes:
    """An archive in which one file is another one."""
    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as source, tarfile.open(fileobj=target, mode="w") as tar:
        for member in source.getmembers():
            body = source.extractfile(member) if member.isfile() else None
            if member.name == name:
                member.size = len(content)
                body = io.BytesIO(content)
            tar.addfile(member, body)
    return target.getvalue()


INDEX = {"manifests": [{"digest": "sha256:1c35", "annotations": {"io.containerd.image.name": "busybox:lab"}}]}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An archive with one image, as Docker writes it."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    archive(path, *BEFORE_25, ["busybox:lab"], **{"index.json": as_json(INDEX)})
    return path.read_bytes()


@given(st.data())
def test_an_archive_of_an_image(image, data):
    name = data.draw(st.sampled_from(["manifest.json", "index.json"]))
    with tarfile.open(fileobj=io.BytesIO(image)) as tar:
        said = json.load(tar.extractfile(name))
    content = data.draw(st.one_of(like(said).map(as_json), payloads))
    stream = data.draw(st.one_of(st.just(_with(image, name, content)), changed(image[:2048]), st.binary(max_size=600)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.tar")
        path.write_bytes(stream)
        with contextlib.suppress(ValueError):
            found = images.Archive(str(path))
            assert isinstance(found.strangeness(f"sha256:{ID}"), str)


def test_a_description_that_is_too_large(image, tmp_path, too_much):
    path = tmp_path / "image.tar"
    path.write_bytes(_with(image, "manifest.json", b" " * (images._LONGEST + 1)))
    with pytest.raises(ValueError, match="more than"):
        images.Archive(str(path))


# ---------------------------------------------------------------------------------------------------------------------
# A checkpoint

ENCRYPTION = {"method": encryption.COST.method, "salt": "00" * 16, "check": "00" * 16, "tag": "00" * 32}
VOLUMES = [{"Name": "data", "Driver": "local", "Options": None}]


@given(st.one_of(like(ENCRYPTION), values))
def test_an_encryption(value):
    with contextlib.suppress(MigrationError):
        assert encryption.Encryption.from_json(value).to_json() == value


@given(st.one_of(like(VOLUMES).map(as_json), payloads))
def test_volumes(data):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "volumes.json").write_bytes(data)
        try:
            found = file_loader.FileLoader(None, folder, None, {}).volumes()
        except MigrationError as error:
            assert "\n" not in error.what
        else:
            assert all(isinstance(one["Name"], str) for one in found)


@given(st.one_of(like(INSPECT).map(as_json), payloads))
def test_a_container(data):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "container.json").write_bytes(data)
        try:
            found = _manifest.inspected(folder, "nothing was changed")
        except MigrationError as error:
            assert "\n" not in error.what
        else:
            assert isinstance(found["HostConfig"], dict)


def test_a_description_of_any_size_takes_no_memory(tmp_path, too_much):
    with (tmp_path / "container.json").open("wb") as stream:
        stream.truncate(too_much)
    with pytest.raises(ValueError, match="more than"):
        load_json_file(str(tmp_path / "container.json"))
    with pytest.raises(MigrationError, match="more than"):
        _manifest.inspected(str(tmp_path), "nothing was changed")


# ---------------------------------------------------------------------------------------------------------------------
# The policy

POLICY = {"sources": ["fog*"], "privileged": False, "bind_folders": ["/srv"], "devices": ["/dev/fuse"]}


@given(st.one_of(like(POLICY).map(as_json), payloads))
def test_a_policy(data):
    with contextlib.suppress(rules.PolicyError, UnicodeError, RecursionError):
        policy = rules.parse(data.decode("utf-8"))
        assert rules.from_facts(rules.facts_of(policy)) == policy


ASKS = {
    "Image": "sha256:aaa",
    "Config": {"Image": "busybox"},
    "HostConfig": {
        "Binds": ["/etc:/data"],
        "Mounts": [{"Type": "volume", "Source": "v", "VolumeOptions": {"DriverConfig": {"Options": {"o": "bind"}}}}],
        "CapAdd": ["SYS_ADMIN"],
        "Devices": [{"PathOnHost": "/dev/mem"}],
        "Annotations": {"org.criu.config": "x"},
        "MaskedPaths": [],
    },
    "Mounts": [{"Type": "bind", "Source": "/etc"}],
}


@given(like(ASKS))
def test_what_is_judged(inspect):
    """Something of it is refused, or it is no container, or it asks for nothing any more."""
    if not isinstance(inspect, dict) or not all(isinstance(inspect.get(key), dict) for key in ("Config", "HostConfig")):
        return
    one = recreate.Recreation(None, "looper", inspect, [], policy=rules.Policy())
    try:
        one._require_allowed()
    except MigrationError as error:
        assert "\n" not in error.what
    else:
        assert judge.refusals(rules.Policy(), inspect, []) == []


# ---------------------------------------------------------------------------------------------------------------------
# Compression


class Sink:
    """As much as is announced, and no more."""

    def __init__(self) -> None:
        self.left = 1 << 20

    def write(self, data: bytes) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise MigrationError("more bytes came than were announced")


@pytest.mark.skipif(not compression.zstd_program(), reason="there is no zstd here")
@given(st.one_of(st.binary(max_size=100), st.binary(max_size=60).map(lambda data: b"\x28\xb5\x2f\xfd" + data)))
def test_what_was_compressed(data):
    stream = compression.Decompressor(compression.zstd_program(), Sink())
    with contextlib.suppress(ChannelError, MigrationError):
        try:
            stream.write(data)
        finally:
            with contextlib.suppress(ChannelError, MigrationError, subprocess.SubprocessError):
                stream.close()
