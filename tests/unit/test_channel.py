# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One migration from its first request to its end, with both ends over pipes; Docker, CRIU and runc are stand-ins."""

from __future__ import annotations

import json
import os
import threading
import types
from pathlib import Path

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import engine, runc
from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError, Refused
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import (
    config,
    moving_container,
    restore,
    source_requests,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.destination import Destination
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import (
    DestinationSettings,
    SourceSettings,
)
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source import Source
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_requests import Request
from ansible_collections.fog.migration.plugins.module_utils.network import network_lock
from ansible_collections.fog.migration.plugins.module_utils.runtime import frozen_container
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import (
    armed_start,
    bundle,
    restore_network,
    stopped_restore,
)
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames

IMAGE = b"registers"
# The order of steps at the destination in which a restored container goes on.
RESUMED = [
    "require_stopped",
    "destination: find_connections",
    "destination: let_through",
    "resume",
    "destination: announce",
]
INSPECT = {"Id": "c1", "Name": "/looper", "Config": {}, "HostConfig": {}, "Mounts": []}


class Runtime(threading.Thread):
    """Docker's start with our OCI runtime in it. C(outcome) is its last answer; None: it ends without one.

    C(owns): whether Docker owns then what the runtime has restored.
    """

    outcome: str | None = "running"
    owns = True

    def __init__(self, _docker_socket, container):
        super().__init__(daemon=True)
        self.problem = None
        self.folder = Path(armed_start.RUNTIME, container)

    def run(self):
        (self.folder / "holds").write_text("/fog-runc\n", encoding="ascii")
        answers = os.open(self.folder / "answer", os.O_WRONLY)
        os.write(answers, b"armed\n")
        with open(self.folder / "order", encoding="ascii") as requests:
            request = requests.readline()
        if request == "restore\n" and self.outcome:
            os.write(answers, self.outcome.encode() + b"\n")
            self.problem = None if self.owns else "dockerd was killed"
        elif request:
            self.problem = "there is no room"
        os.close(answers)


class Dump(threading.Thread):
    """A dump that is made at once."""

    let_go = False

    def __init__(self, _container, images, _work, _root, lazy, _unwanted):
        super().__init__(daemon=True)
        self.images, self.lazy = Path(images), lazy

    def run(self):
        (self.images / "core-1.img").write_bytes(IMAGE)

    wait = threading.Thread.join


class Network:
    """The container's network at either end: what was done with it, in order."""

    is_silent, bundle = False, bundle.Bundle(has_hook=True)

    def __init__(self, done, where):
        self._done, self._where = done, where

    def __getattr__(self, name):
        def note(*_arguments):
            self._done.append(f"{self._where}: {name}")
            return []

        return note


@pytest.fixture
def done(tmp_path, monkeypatch):
    """All that is outside of both ends is replaced; what was done with it, in order."""
    log = []

    def call(_docker_socket, method, path, _seconds=None):
        log.append(f"{method} {path}")

    def bring_back(_container, resume=None, _let_go=False):
        if resume:
            resume()
        return Outcome(undone=("a lock",))

    monkeypatch.setattr(armed_start, "RUNTIME", str(tmp_path / "runtime"))
    monkeypatch.setattr(armed_start, "DockerStart", Runtime)
    monkeypatch.setattr(frozen_container, "Dump", Dump)
    monkeypatch.setattr(network_lock, "NetworkLock", lambda _container: Network(log, "source"))
    monkeypatch.setattr(restore_network, "RestoreNetwork", lambda _folder: Network(log, "destination"))
    monkeypatch.setattr(engine, "call", call)
    monkeypatch.setattr(tool, "read_stats", lambda path: {os.path.basename(path): 1})
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    monkeypatch.setattr(runc, "runtime_state", lambda _container: {"cgroup_paths": {}})
    for name in ("moving", "processes"):
        monkeypatch.setattr(runc, name, lambda _container: [])
    for name in ("keep_frozen", "kill_restore"):
        monkeypatch.setattr(runc, name, lambda _container, name=name: log.append(name))
    for name in ("require_stopped", "resume"):
        monkeypatch.setattr(stopped_restore, name, lambda _container, name=name: log.append(name) or [])
    monkeypatch.setattr(frozen_container.repair, "bring_back", bring_back)
    monkeypatch.setattr(config, "describe", lambda *_arguments: config.Description(config.Config(INSPECT), "/x", None))
    # Docker's own folders for the container, here and there.
    for name, text in (("c1", "192.0.2.1 mine\n"), ("c2", "as Docker has made it\n")):
        (tmp_path / "containers" / name).mkdir(parents=True)
        (tmp_path / "containers" / name / "hosts").write_text(text)
    inspect = {**INSPECT, "HostsPath": str(tmp_path / "containers" / "c1" / "hosts")}
    monkeypatch.setattr(config, "inspect_of", lambda _socket, _container: inspect)
    monkeypatch.setattr(engine, "get", lambda _socket, _path: ({"DockerRootDir": str(tmp_path)}, None))
    return log


@pytest.fixture
def ends(tmp_path, done):
    """C(ends(together)): the source's end, of a container that is to be made at the destination."""
    threads, descriptors, made = [], [], []

    def make(path):
        made.append(config.Config.from_json(json.loads(Path(path).read_text())).inspect["Id"])
        return "c2"

    def serve(destination, writer):
        """As its process does it, with which its side of the channel ends."""
        try:
            destination.run()
        except ChannelError as exc:
            made.append(str(exc))
        finally:
            os.close(writer)

    def start(together=()):
        (there_in, here_out), (here_in, there_out) = os.pipe(), os.pipe()
        descriptors.append(here_out)
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
        common = {"docker_socket": "/none.sock", "together": list(together), "migration": together and together[0]}
        there = DestinationSettings(str(tmp_path / "there"), host="fog2", restore_limit=5, **common)
        destination = Destination(Frames(there_in, there_out, 10), there, make)
        threads.append(threading.Thread(target=serve, args=(destination, there_out), daemon=True))
        threads[-1].start()
        source = Source(Frames(here_in, here_out, 10), SourceSettings("c1", str(tmp_path / "here"), **common))
        source.link.open()
        return types.SimpleNamespace(source=source, destination=destination, thread=threads[-1], made=made)

    yield start
    for descriptor in descriptors:
        os.close(descriptor)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def answers(source, *operations):
    return [source_requests.answer(source, Request(operation)) for operation in operations]


def test_it_goes_on_there(ends, done, tmp_path):
    both = ends()
    make, arm, freeze, finish = answers(both.source, "make", "arm", "freeze", "finish")
    assert make == {"result": {"container": "c2"}} and both.made == ["c1"]
    assert arm == {"result": {"done": "armed"}}
    result = freeze["result"]
    assert list(result["seconds"]) == ["pause", "dump", "files", "send", "restore", "downtime"]
    assert result["bytes_sent"] > len(IMAGE) and result["connections_closed"] == result["files_sent"] == []
    assert finish["result"]["statistics"] == {"stats-dump": 1, "stats-restore": 1}
    assert both.source.state == "moved"
    assert done[:2] == ["source: prepare", "destination: prepare"]
    before = ["source: drain_pending", "POST /containers/c1/pause", "source: lock", "source: detach_sockets"]
    # Both ends go on at the same time from here.
    assert done[2:6] == before and {"destination: announce", "source: reset_orphans"} <= set(done[6:])
    assert [one for one in done if one in RESUMED] == RESUMED
    both.source.close()
    assert "POST /containers/c1/unpause" not in done and "source: unlock" not in done
    # It stays when that end is told to end now, which ends by itself.
    both.destination.told_to_end(15, None)
    both.thread.join(10)
    assert "kill_restore" not in done
    assert (tmp_path / "containers" / "c2" / "hosts").read_text() == "192.0.2.1 mine\n"
    assert not (tmp_path / "there").exists() and not (tmp_path / "here").exists()


@pytest.mark.parametrize(("outcome", "why"), [(None, "there is no room"), ("failed", "the restore failed")])
def test_a_restore_that_fails(ends, done, monkeypatch, outcome, why):
    monkeypatch.setattr(Runtime, "outcome", outcome)
    both = ends()
    *_others, freeze = answers(both.source, "make", "arm", "freeze")
    words = ("it runs on (what a dump had left was undone: a lock)", "mend the cause and try again")
    assert freeze == {"error": why, "state": "runs", "words": words}
    with pytest.raises(Refused, match="it was told to end"):
        both.destination.told_to_end(15, None)
    # It is removed there before it goes on here.
    removed, resumed = "DELETE /containers/c2?force=1&v=1", "POST /containers/c1/unpause"
    assert done.index("kill_restore") < done.index(removed) < done.index("source: unlock") < done.index(resumed)
    both.thread.join(10)
    assert both.made == ["c1", why]


def test_what_docker_does_not_own_has_not_run(ends, done, monkeypatch):
    """Nobody has heard of it, and nothing that was sent to it was acknowledged."""
    monkeypatch.setattr(Runtime, "owns", False)
    both = ends()
    *_others, freeze = answers(both.source, "make", "arm", "freeze")
    assert freeze["error"] == "the container was restored, but Docker did not own it (dockerd was killed)"
    assert freeze["state"] == "runs" and not {"resume", "destination: announce"} & set(done)
    assert done.index("DELETE /containers/c2?force=1&v=1") < done.index("POST /containers/c1/unpause")


def test_one_that_waits_for_others_goes_when_it_may(ends, done, monkeypatch):
    decided = []
    monkeypatch.setattr(journal, "decide", lambda *words: decided.append(words) or words[-1])
    both = ends(["looper-1", "looper-2"])
    *_others, freeze, go, finish = answers(both.source, "make", "arm", "ready", "pause", "freeze", "go", "finish")
    assert "together" in freeze["result"]["seconds"] and "downtime" in go["result"]
    assert "result" in finish and decided == [("looper-1", ["looper-1", "looper-2"], True)]
    assert done.index("require_stopped") < done.index("resume")
    both.source.close()


def test_one_that_waits_for_others_is_taken_back(ends, done, monkeypatch):
    monkeypatch.setattr(journal, "decide", lambda *words: words[-1])
    both = ends(["looper-1", "looper-2"])
    *_others, given_up = answers(both.source, "make", "arm", "ready", "pause", "freeze", "give up")
    assert given_up == {"result": {}} and both.source.state == "runs"
    assert "resume" not in done and "POST /containers/c1/unpause" in done


@pytest.mark.parametrize(
    ("lazily", "order"), [(True, ["pages", "restore"]), (False, ["restore", "pages"])], ids=["lazily", "whole"]
)
def test_what_serves_lazy_pages_is_there_before_criu_connects_to_it(lazily, order, tmp_path):
    """Our hook, in which other restores wait for their pages, comes after that."""
    done = []
    start = types.SimpleNamespace(
        network=types.SimpleNamespace(bundle=bundle.Bundle(has_hook=True)),
        restore=lambda _options: done.append("restore"),
    )
    settings = DestinationSettings(str(tmp_path), "/none.sock", "fog2")
    one = restore.Restore(None, settings, start, None, None)
    one._provide_pages = lambda _request: done.append("pages")
    one._begin({"lazily": lazily})
    assert done == order


def test_nobody_knows_who_has_it(ends, done, monkeypatch):
    """The destination goes without an answer: the container stays paused."""

    def vanish(_start, _seconds):
        raise ChannelError("the channel broke")

    monkeypatch.setattr(armed_start.ArmedStart, "outcome", vanish)
    monkeypatch.setattr(Runtime, "outcome", None)
    both = ends()
    *_others, freeze, give_up = answers(both.source, "make", "arm", "freeze", "give up")
    words = moving_container.STATES["handed over"]
    assert freeze == {"error": "the other end closed the channel", "state": "handed over", "words": words}
    given_up = "the destination may have the container already"
    assert give_up == {"error": given_up, "state": "handed over", "words": words}
    assert "POST /containers/c1/unpause" not in done and "source: unlock" not in done
