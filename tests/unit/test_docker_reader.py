# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker is read without its SDK: what it answers, and what is asked of it."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import api, options, reader
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

HEAD = {"Content-Type": "application/json", "Api-Version": "1.45", "Server": "Docker/26.1.5+dfsg1 (linux)"}


class Daemon:
    """Answers at a Unix socket, each path with what it was given."""

    def __init__(self, folder) -> None:
        self.path = str(folder / "docker.sock")
        self.answers: dict[str, tuple[int, dict, bytes]] = {}
        self.asked: list[str] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def answer(self, path: str, value, status: int = 200, **headers: str) -> None:
        self.answers[path] = (status, {**HEAD, **headers}, json.dumps(value).encode())

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self.listener.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(65536).decode().split("\r\n")[0]
                path = asked.split(" ")[1]
                self.asked.append(asked)
                nothing = (404, HEAD, b'{"message": "page not found"}')
                status, headers, body = self.answers.get(path, nothing)
                head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                connection.sendall(f"HTTP/1.0 {status} Whatever\r\n{head}\r\n".encode() + body)


@pytest.fixture
def daemon(tmp_path):
    one = Daemon(tmp_path)
    yield one
    one.listener.close()


def test_all_that_is_read(daemon):
    docker = reader.Reader(daemon.path)
    for path, value, call in (
        ("/info", {"Driver": "overlay2"}, docker.info),
        ("/containers/json?all=1", [{"Id": "1"}], lambda: docker.containers(all=True)),
        ("/containers/json", [], docker.containers),
        ("/containers/web/json", {"Id": "1"}, lambda: docker.find_container("web")),
        ("/containers/1/changes", [{"Path": "/x", "Kind": 0}], lambda: docker.diff("1")),
        ("/images/json", [{"Id": "sha256:1"}], docker.images),
        ("/images/sha256:1/json", {"Id": "sha256:1"}, lambda: docker.find_image("sha256:1")),
        ("/networks", [{"Id": "2"}], docker.networks),
        ("/networks/2", {"Id": "2"}, lambda: docker.find_network("2")),
        ("/volumes", {"Volumes": None}, docker.volumes),
    ):
        daemon.answer(path, value)
        assert call() == value
        assert daemon.asked.pop() == f"GET {path} HTTP/1.0"


def test_it_has_what_the_sdk_has():
    """Whoever gets one of the two does not see which."""
    names = [name for name in vars(reader.Reader) if not name.startswith("_")]
    assert len(names) == 10
    assert [name for name in names if not callable(getattr(api.CheckpointClient, name, None))] == []


def test_what_is_not_there(daemon):
    docker = reader.Reader(daemon.path)
    assert docker.find_container("none") is docker.find_image("none") is docker.find_network("none") is None
    with pytest.raises(MigrationError) as caught:
        docker.info()
    assert caught.value.what == "the Docker daemon refused GET /info (page not found)"


@pytest.mark.parametrize("name", ["../info", "a/b", "a b\r\nX: y", "ü?x=1#y", "%2e"])
def test_a_name_is_one_part_of_the_path(daemon, name):
    assert reader.Reader(daemon.path).find_container(name) is None
    (asked,) = daemon.asked
    method, path, version = asked.split(" ")
    assert (method, version) == ("GET", "HTTP/1.0")
    assert path.startswith("/containers/") and path.endswith("/json") and path.count("/") == 3
    assert not set(path) & set("?#")


def test_the_version_is_in_the_head(daemon):
    daemon.answer("/_ping", "OK", **{"Docker-Experimental": "true"})
    said = {"Version": "26.1.5+dfsg1", "ApiVersion": "1.45", "Experimental": True}
    assert reader.Reader(daemon.path).version() == said
    daemon.answer("/_ping", "OK", **{"Docker-Experimental": "false"})
    assert reader.Reader(daemon.path).version() == {**said, "Experimental": False}
    daemon.answer("/_ping", "OK", Server="other")
    daemon.answer("/version", {"Version": "1"})
    assert reader.Reader(daemon.path).version() == {"Version": "1"}


def test_a_version_of_the_api(daemon):
    daemon.answer("/v1.41/volumes", {"Volumes": []})
    assert reader.Reader(daemon.path, "1.41").volumes() == {"Volumes": []}


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (500, b'{"message": "it is broken."}', "refused GET /info (it is broken)"),
        (500, b"nonsense", "refused GET /info (Docker answered HTTP/1.0 500 Whatever)"),
        (200, b"{", "refused GET /info (its answer cannot be read)"),
        (200, b"\xff", "refused GET /info (its answer cannot be read)"),
    ],
)
def test_a_daemon_that_is_broken(daemon, status, body, why):
    daemon.answers["/info"] = (status, HEAD, body)
    with pytest.raises(MigrationError) as caught:
        reader.Reader(daemon.path).info()
    assert why in caught.value.what


def test_no_daemon(tmp_path):
    with pytest.raises(MigrationError) as caught:
        reader.Reader(str(tmp_path / "none.sock")).find_container("web")
    place = f"unix://{tmp_path}/none.sock"
    assert caught.value.what == f"the Docker daemon at {place} cannot be reached (No such file or directory)"
    assert caught.value.state == "nothing was changed"


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, "/var/run/docker.sock"),
        ({"docker_host": "http+unix:///x.sock"}, "/x.sock"),
        ({"docker_host": "tcp://192.0.2.1:2376"}, None),
        ({"docker_host": "ssh://192.0.2.1"}, None),
        ({"docker_host": "unix://"}, None),
        ({"tls": True}, None),
        ({"validate_certs": True}, None),
        ({"debug": True}, None),
    ],
)
def test_who_needs_the_sdk(given, place, monkeypatch):
    params = {**options.DEFAULTS, **given}
    monkeypatch.setattr(api, "connect", lambda asked: ("the SDK", asked))
    assert reader.socket_of(params) == place
    client = reader.connect(params)
    if place is None:
        assert client == ("the SDK", params)
    else:
        assert (client.docker_socket, client.timeout) == (place, 60)
