# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests of what is changed in the OCI bundle of a container that is to be restored."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from ansible_collections.fog.migration.plugins.module_utils import errors
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import bundle


def test_our_hook_comes_first_where_the_container_has_a_network_of_its_own():
    docker = {"path": "/proc/1/exe", "args": ["libnetwork-setkey"]}
    config = {"hooks": {"prestart": [docker]}, "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}]}}
    filtered, keys = bundle.with_hook(config, "/run/x")
    hooks = filtered["hooks"]["prestart"]
    assert (hooks[0]["path"], hooks[0]["args"][-1], hooks[1:], keys) == ("/bin/sh", "/run/x", [docker], [])
    shared = {"linux": {"namespaces": [{"type": "network", "path": "/proc/7/ns/net"}]}}
    for other in (shared, {"linux": {"namespaces": [{"type": "mount"}]}}):
        assert bundle.with_hook(other, "/run/x") == (other, [])


class Daemon:
    """Where dockerd waits to hear of a network namespace; it gives one answer."""

    def __init__(self, folder, answer):
        (folder / "libnetwork").mkdir()
        words = ["libnetwork-setkey", f"-exec-root={folder}", "c" * 64, "abc"]
        self.hook = {"path": "/proc/1/exe", "args": words}
        self.heard = None
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "libnetwork" / "abc.sock"))
        self._listener.listen()

    def serve(self):
        connection, _peer = self._listener.accept()
        with connection:
            self.heard = json.loads(connection.recv(1000))
            connection.sendall(self._answer)
        self._listener.close()


@pytest.mark.parametrize(("answer", "problem"), [(b"success", None), (b"no such", "no such"), (b"", "no answer")])
def test_what_dockers_hook_would_say_is_said_for_it(tmp_path, answer, problem):
    daemon, other = Daemon(tmp_path, answer), {"path": "/bin/true", "args": ["true"]}
    config = {"hooks": {"prestart": [daemon.hook, other]}, "linux": {"namespaces": [{"type": "network"}]}}
    filtered, (key,) = bundle.with_hook(config, "/run/x")
    assert filtered["hooks"]["prestart"][1:] == [other]
    serving = threading.Thread(target=daemon.serve)
    serving.start()
    expected = pytest.raises(errors.Refused, match=problem) if problem else contextlib.nullcontext()
    with expected:
        key.set(7)
    serving.join()
    assert daemon.heard == {"ContainerID": "c" * 64, "Key": "/proc/7/ns/net"}


def test_mounts_of_links_become_mounts_of_what_they_lead_to(tmp_path):
    (tmp_path / "init").write_text("init")
    (tmp_path / "link").symlink_to("init")
    real, link = str(tmp_path.resolve() / "init"), str(tmp_path / "link")
    other = {"type": "proc", "source": "proc", "destination": "/proc"}
    bind = {"type": "bind", "destination": "/sbin/docker-init", "options": ["bind", "ro"]}
    config = {"root": {}, "mounts": [other, {**bind, "source": link}]}
    assert bundle.with_real_sources(config) == {"root": {}, "mounts": [other, {**bind, "source": real}]}
    assert bundle.with_real_sources({})["mounts"] == []
