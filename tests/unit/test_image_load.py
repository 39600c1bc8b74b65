# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image that comes from another server takes no name from an image that is there."""

from __future__ import annotations

import http.server
import io
import json
import socketserver
import tarfile
import threading
import urllib.parse

import pytest
from test_images import BEFORE_25, FROM_25, ID, archive, descriptor, index_of

from ansible_collections.fog.migration.plugins.module_utils.docker import api, image_export, image_load, options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy

IMAGE, OTHER = f"sha256:{ID}", "sha256:" + "0" * 64


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """As much of a Docker daemon as loading an image asks for: its images, by their names and IDs."""

    daemon_threads = True

    def __init__(self, path):
        super().__init__(path, Handler)
        self.images = {OTHER: OTHER, "debian:12": OTHER}
        # What was loaded, as Docker sees it, and what it says to that instead of loading it.
        self.loaded = []
        self.problem = ""
        self.saved_by = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    def do_GET(self):
        path, _mark, query = urllib.parse.unquote(self.path).partition("?")
        if path.endswith("/images/get"):
            self.server.saved_by += urllib.parse.parse_qs(query)["names"]
            return self.answer(500, {"message": "no"})
        found = self.server.images.get(path.partition("/images/")[2].rpartition("/json")[0])
        return (
            self.answer(200, {"Id": found, "RepoTags": ["debian:12"]})
            if found
            else self.answer(404, {"message": "No such image"})
        )

    def do_POST(self):
        path, _mark, query = urllib.parse.unquote(self.path).partition("?")
        if path.endswith("/images/load"):
            return self.load(self.body())
        told = urllib.parse.parse_qs(query)
        name = f"{told['repo'][0]}:{told['tag'][0]}"
        self.server.images[name] = path.partition("/images/")[2].rpartition("/tag")[0]
        return self.answer(201, {})

    def body(self):
        blocks = []
        while size := int(self.rfile.readline(), 16):
            blocks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(blocks)

    def load(self, body):
        if self.server.problem:
            return self.answer(200, {"error": self.server.problem})
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            (one,) = json.load(tar.extractfile("manifest.json"))
        self.server.loaded.append(one)
        self.server.images.update({IMAGE: IMAGE, **dict.fromkeys(one["RepoTags"] or [], IMAGE)})
        return self.answer(200, {"stream": f"Loaded image ID: {IMAGE}\n"})

    def log_message(self, *_words):
        pass


@pytest.fixture
def docker(tmp_path):
    """The daemon."""
    with Server(str(tmp_path / "docker.sock")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(docker):
    """A client of it, that of Docker's SDK."""
    client = api.connect({**options.DEFAULTS, "docker_host": f"unix://{docker.server_address}", "api_version": "1.41"})
    yield client
    client.close()


def load(client, image, path, tags, check_mode, policy=None):
    return image_load.load(client, image, path, tags, check_mode, policy or Policy())


@pytest.mark.parametrize("form", [BEFORE_25, FROM_25])
def test_an_image_gets_the_names_that_are_free(tmp_path, docker, client, form):
    path = archive(tmp_path / "image.tar", *form, None)
    done = load(client, IMAGE, path, ["debian:12", "localhost:5000/looper:1.0"], False)
    assert done == {
        "changed": True,
        "image": {"id": IMAGE},
        "tagged": ["localhost:5000/looper:1.0"],
        "kept": ["debian:12"],
        "refused": [],
    }
    assert docker.images == {OTHER: OTHER, "debian:12": OTHER, IMAGE: IMAGE, "localhost:5000/looper:1.0": IMAGE}
    again = load(client, IMAGE, path, ["debian:12", "localhost:5000/looper:1.0"], False)
    assert (again["changed"], again["tagged"], again["kept"]) == (False, [], ["debian:12"])
    assert len(docker.loaded) == 1


def test_an_image_that_has_come_in_another_way_gets_its_names(docker, client):
    docker.images[IMAGE] = IMAGE
    assert load(client, IMAGE, None, ["looper:1.0"], False)["changed"]
    assert docker.images["looper:1.0"] == IMAGE and docker.loaded == []
    with pytest.raises(MigrationError, match="there is no image"):
        load(client, "sha256:" + "1" * 64, None, [], False)


NAMES = ["looper:1.0", "registry.example.org/looper:1.0", "docker.io/library/python", "x@sha256:1", "A:1", IMAGE]


@pytest.mark.parametrize(
    ("allowed", "tagged"),
    [
        (["*"], ["looper:1.0", "registry.example.org/looper:1.0", "python:latest"]),
        (["registry.example.org/*"], ["registry.example.org/looper:1.0"]),
        (["looper:*"], ["looper:1.0"]),
        (["docker.io/library/*"], ["looper:1.0", "python:latest"]),
        ([], []),
    ],
)
def test_an_image_gets_the_names_that_the_policy_lets_arrive(docker, client, allowed, tagged):
    docker.images[IMAGE] = IMAGE
    done = load(client, IMAGE, None, NAMES, False, Policy(image_names=tuple(allowed)))
    assert done["tagged"] == tagged
    names = ["looper:1.0", "registry.example.org/looper:1.0", "python:latest"]
    assert done["refused"] == [*(one for one in names if one not in tagged), "x@sha256:1", "A:1", IMAGE]
    assert set(docker.images) == {OTHER, "debian:12", IMAGE, *tagged}


def test_in_check_mode_nothing_is_done(tmp_path, docker, client):
    path = archive(tmp_path / "image.tar", *FROM_25, None)
    before = dict(docker.images)
    done = load(client, IMAGE, path, ["looper:1.0", "debian:12"], True)
    assert (done["changed"], done["tagged"], done["kept"]) == (True, ["looper:1.0"], ["debian:12"])
    assert docker.images == before


@pytest.mark.parametrize(
    ("tags", "more", "announced", "why"),
    [
        (["debian:12"], {}, IMAGE, "it would give the image the names debian:12"),
        (None, index_of(descriptor(**{"io.containerd.image.name": "debian:12"})), IMAGE, "the names debian:12"),
        (None, {}, "sha256:" + "1" * 64, f"it holds the image {IMAGE}"),
        (None, index_of(descriptor(), descriptor("sha256:" + "e" * 64)), IMAGE, "not an archive of one image"),
    ],
)
def test_an_archive_with_more_than_was_announced_is_refused(tmp_path, docker, client, tags, more, announced, why):
    path = archive(tmp_path / "image.tar", *FROM_25, tags, **more)
    before = dict(docker.images)
    with pytest.raises(MigrationError) as refused:
        load(client, announced, path, [], False)
    assert why in refused.value.what and refused.value.state == "nothing was changed"
    assert docker.images == before and docker.loaded == []


def test_what_is_no_archive_is_refused(tmp_path, client):
    (tmp_path / "text").write_text("text")
    for name in ("text", "none"):
        with pytest.raises(MigrationError, match="cannot be read"):
            load(client, IMAGE, str(tmp_path / name), [], False)


def test_an_image_is_named_by_its_id(client):
    with pytest.raises(MigrationError, match="debian:12 is not the ID of an image"):
        load(client, "debian:12", None, ["looper:1.0"], False)


def test_docker_may_refuse_it(tmp_path, docker, client):
    docker.problem = "open /var/lib/docker/tmp/x: no such file or directory"
    with pytest.raises(MigrationError, match=r"Docker did not load the image \(open .*no such file"):
        load(client, IMAGE, archive(tmp_path / "image.tar", *FROM_25, None), [], False)


def test_an_archive_that_ends_early(tmp_path, docker, client):
    path = tmp_path / "image.tar"
    archive(path, *FROM_25, None, last=bytes(1 << 16))
    config = path.read_bytes()
    # All lists are there; the last file is not.
    path.write_bytes(config[: len(config) - (1 << 16)])
    with pytest.raises(MigrationError, match="cannot be read"):
        load(client, IMAGE, str(path), [], False)
    assert docker.loaded == []


def test_an_image_is_saved_by_its_id(tmp_path, docker, client):
    """By its names, these would be in the archive."""
    docker.images["looper:1.0"] = IMAGE
    with pytest.raises(api.FAILURES):
        image_export.export(client, "looper:1.0", str(tmp_path / "image.tar"), set(), False)
    assert docker.saved_by == [IMAGE]


@pytest.mark.parametrize(("index", "announced"), [({}, IMAGE), (index_of(descriptor()), descriptor()["digest"])])
def test_an_archive_that_is_there_is_kept(tmp_path, docker, client, index, announced):
    """Also in containerd's image store, where an image has the ID of its manifest."""
    docker.images["looper:1.0"] = announced
    path = archive(tmp_path / "image.tar", *FROM_25, None, **index)
    found = client.find_image("looper:1.0")
    assert image_export._is_there(path, found, set())
    assert not image_export._is_there(archive(tmp_path / "named.tar", *FROM_25, ["a:1"], **index), found, set())
    assert not image_export._is_there(path, {"Id": OTHER}, set())
