# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the source's end of a channel: which ones are answered, and what becomes of the answers."""

from __future__ import annotations

import json
import os
import socket
import threading

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.migration import group_migration
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import source_requests
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.precopy import Limits
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source import Source
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_requests import Request
from ansible_collections.fog.migration.plugins.module_utils.system import program_socket


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"do": "arm"}', Request("arm")),
        (b'{"do": "freeze", "mode": "hybrid"}', Request("freeze", "hybrid")),
        (b'{"do": "copy", "memory": true, "limits": {"rounds": 3}}', Request("copy", memory=True, limits=Limits(3))),
        (b'{"do": "copy", "memory": true, "only_shared": true}', Request("copy", memory=True, only_shared=True)),
        (b'{"do": "sing"}', None),
        (b'{"do": "freeze", "mode": "warm"}', None),
        (b'{"do": "copy", "limits": {"rounds": "3"}}', None),
        (b'{"do": "copy", "limits": {"speed": 3}}', None),
        (b'{"do": "copy", "limits": [3]}', None),
        (b'{"do": ["arm"]}', None),
        (b'"arm"', None),
        (b"", None),
        (b"\xff", None),
        (b"[" * 100000, None),
    ],
)
def test_what_is_a_request(line, request_):
    assert source_requests.parse(line) == request_


class End:
    """A source's end that does nothing, or fails."""

    state, words = "runs", ("it runs on as before", "mend the cause and try again")

    def __init__(self, error=None):
        self.error, self.handled, self.closed = error, [], False

    def handle(self, request):
        self.handled.append(request.operation)
        if self.error:
            raise self.error
        return {"did": request.operation}

    def close(self):
        self.closed = True


@pytest.fixture
def serving(tmp_path):
    """C(serving(end)): the socket at which this end answers."""
    threads, listeners = [], []

    def serve(end, patience=10):
        listeners.append(source_requests.listen(str(tmp_path)))
        threads.append(threading.Thread(target=source_requests.serve, args=(end, listeners[-1], patience)))
        threads[-1].start()
        return str(tmp_path / source_requests.SOCKET)

    yield serve
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    for listener in listeners:
        listener.close()


def test_requests_are_answered_until_the_last_one(serving):
    end = End()
    channel = serving(end)
    assert source_requests.ask(channel, {"do": "arm"}) == {"did": "arm"}
    with pytest.raises(MigrationError, match="that is no request"):
        source_requests.ask(channel, {"do": "sing"})
    assert source_requests.ask(channel, {"do": "finish"}) == {"did": "finish"}
    assert end.handled == ["arm", "finish"]


def test_a_failure_ends_it_and_says_how_the_container_is(serving):
    end = End(MigrationError("no room"))
    with pytest.raises(MigrationError, match=r"^no room$") as failure:
        source_requests.ask(serving(end), {"do": "arm"})
    assert failure.value.details == {"container_state": "runs"} and end.closed


def test_one_that_nobody_asks_any_more_ends(serving):
    end = End()
    serving(end, patience=0)
    for _try in range(1000):
        if end.handled:
            break
        threading.Event().wait(0.01)
    assert end.handled == ["end"]


def test_every_operation_is_one_of_the_source(tmp_path, monkeypatch):
    """None of them is unknown to what answers them."""
    done = []
    for name in source_requests.OPERATIONS:
        method = "_" + name.replace(" ", "_")
        monkeypatch.setattr(Source, method, lambda _self, *_more, method=method: done.append(method) or {})
    source = Source.__new__(Source)
    for name in source_requests.OPERATIONS:
        assert source.handle(Request(name)) == {}
    assert len(done) == len(set(done)) == len(source_requests.OPERATIONS)


# What a member of a group makes of it


def move(channel):
    return group_migration.Move("looper", channel, "precopy", "c1", None)


def test_a_move_keeps_the_results(monkeypatch):
    one, answers = move("/x"), {"freeze": {"bytes_sent": 1, "seconds": {"dump": 1}}, "go": {"downtime": 2}}
    answers.update(arm={"done": "armed"}, finish={"seconds": 3, "rounds": [], "statistics": {}})
    monkeypatch.setattr(source_requests, "ask", lambda _channel, request: answers[request["do"]])
    for operation in ("arm", "freeze", "go", "finish"):
        one.request(operation)
    seconds = {"dump": 1, "downtime": 2, "completion": 3}
    assert one.result == {"bytes_sent": 1, "seconds": seconds, "rounds": [], "statistics": {}}


def test_a_move_whose_channel_does_not_answer(tmp_path):
    with pytest.raises(MigrationError, match=r"^the channel .*/none.sock does not answer \(") as failure:
        move(str(tmp_path / "none.sock")).request("arm")
    assert failure.value.state == "looper runs, or is paused"


def test_a_move_that_fails(serving):
    with pytest.raises(MigrationError, match=r"^looper could not be moved \(no room\)$") as failure:
        move(serving(End(MigrationError("no room")))).request("freeze")
    error = failure.value
    assert (error.state, error.remedy) == ("it runs on as before", "mend the cause and try again")
    assert error.details == {"container_state": "runs"}


@pytest.mark.parametrize("seconds", [0.05, None])
def test_an_end_that_dies_or_says_nothing(tmp_path, seconds):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = str(tmp_path / "source.sock")
    listener.bind(path)
    listener.listen()

    def accept():
        connection = listener.accept()[0]
        connection.recv(1000)
        if seconds is None:
            connection.close()
        else:
            threading.Event().wait(0.2)
            connection.close()

    thread = threading.Thread(target=accept)
    thread.start()
    with pytest.raises(source_requests.NoAnswer, match="the source's end of the channel does not answer"):
        source_requests.ask(path, {"do": "progress"}, seconds)
    thread.join()
    listener.close()


# A program that is to make its socket


def test_a_program_that_has_not_even_a_log(tmp_path):
    with pytest.raises(program_socket.NotListening, match=r"^no answer$"):
        program_socket.wait_for(str(tmp_path / "x.sock"), str(tmp_path / "log"), 1, lambda: False)


def test_a_socket_that_is_there(tmp_path):
    (tmp_path / "x.sock").touch()
    program_socket.wait_for(str(tmp_path / "x.sock"), "/none", 0, lambda: False)


@pytest.mark.parametrize(
    ("log", "why"),
    [("one\ntwo\n\n", "two"), ("", "no answer"), (json.dumps({"a": 1}) + "\nlast  ", "last"), ("\xff\n", "\xff")],
)
@pytest.mark.parametrize("runs", [True, False])
def test_why_a_program_does_not_listen(tmp_path, log, why, runs):
    (tmp_path / "log").write_text(log, encoding="utf-8")
    with pytest.raises(program_socket.NotListening, match=f"^{why}$"):
        program_socket.wait_for(str(tmp_path / "x.sock"), os.fspath(tmp_path / "log"), 0.01, lambda: runs)
