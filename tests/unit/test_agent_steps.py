# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log of an agent's steps, and what is done for each migration of a request."""

from __future__ import annotations

import os
import re
import stat
import threading

import pytest
from docker import errors as docker_errors

from ansible_collections.fog.migration.plugins.module_utils.agent import requests, run_source, steps
from ansible_collections.fog.migration.plugins.module_utils.agent.each import each
from ansible_collections.fog.migration.plugins.module_utils.agent.migration import Migration, of_request
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, MigrationError
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import moving_container, source_requests

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} (.*)")


@pytest.fixture(autouse=True)
def log_folder(tmp_path, monkeypatch):
    folder = tmp_path / "log"
    monkeypatch.setattr(steps, "FOLDER", str(folder))
    return folder


@pytest.fixture
def log(log_folder):
    return steps.Steps("/run/fog-migration/agent-1")


def lines_of(log):
    return [LINE.fullmatch(line).group(1) for line in log.lines]


# The log


def test_a_step_is_one_line_with_its_time_and_container(log):
    with log.step("looper", "arm"):
        pass
    log.note("", "the end")
    first, second = lines_of(log)
    assert re.fullmatch(r"looper: arm: 0\.\d{3} s", first)
    assert second == "-: the end"
    with open(log.path, encoding="utf-8") as stream:
        assert stream.read().splitlines() == log.lines


def test_a_step_that_fails_says_why_and_fails(log):
    with pytest.raises(MigrationError), log.step("looper", "arm"):
        raise MigrationError("there is no room")
    assert re.fullmatch(r"looper: arm: failed after 0\.\d{3} s: there is no room", lines_of(log)[0])


def test_the_log_is_for_root_only(log, log_folder):
    mask = os.umask(0)
    try:
        log.note("looper", "one")
    finally:
        os.umask(mask)
    assert log.path == str(log_folder / "agent-1.log")
    assert stat.S_IMODE(os.stat(log.path).st_mode) == 0o600
    assert stat.S_IMODE(log_folder.stat().st_mode) == 0o700


def test_a_link_in_its_place_is_not_followed(log, log_folder, tmp_path):
    log_folder.mkdir()
    (tmp_path / "other").write_text("sings")
    os.symlink(tmp_path / "other", log.path)
    log.note("looper", "one")
    assert (tmp_path / "other").read_text() == "sings"


def test_a_log_that_cannot_be_written_fails_nothing(log, log_folder):
    log_folder.write_text("no folder")
    log.note("looper", "one")
    log.close(keep=True)
    assert lines_of(log) == ["looper: one"]


def test_a_log_that_is_not_kept_leaves_nothing(log, log_folder):
    log.note("looper", "one")
    log.close(keep=False)
    log.note("", "stop")
    assert not log_folder.exists()
    assert lines_of(log) == ["looper: one", "-: stop"]


@pytest.mark.parametrize("keep", [True, False])
def test_other_logs_stay(log, log_folder, keep):
    log.note("looper", "one")
    (log_folder / "agent-0.log").touch()
    log.close(keep=keep)
    assert sorted(os.listdir(log_folder)) == ["agent-0.log", "agent-1.log"][: 1 + keep]


def test_the_oldest_logs_go(log, log_folder):
    log.note("looper", "one")
    for number in range(30):
        path = log_folder / f"agent-old{number}.log"
        path.touch()
        os.utime(path, (1000 + number, 1000 + number))
    log.close(keep=True)
    kept = {f"agent-old{number}.log" for number in range(11, 30)} | {"agent-1.log"}
    assert set(os.listdir(log_folder)) == kept
    assert len(kept) == steps.KEPT == 20


def test_a_request_for_progress_is_no_step(log, log_folder):
    silent = run_source._Silent("/run/fog-migration/agent-1")
    with silent.step("looper", "progress"):
        pass
    assert not log_folder.exists()
    assert silent.lines == []


def test_the_answer_to_a_request_says_why_it_failed(log, monkeypatch):
    def work(_folder, arguments, _steps):
        raise arguments["error"]

    monkeypatch.setitem(requests.OPERATIONS, "arm", work)
    error = MigrationError("no room", "nothing was changed", "make some", criu_log=["a"])
    told = requests.answer("/x", {"operation": "arm", "arguments": {"error": error}}, log)
    assert told == {
        "failure": {"msg": "no room", "state_now": "nothing was changed", "remedy": "make some", "criu_log": ["a"]}
    }
    told = requests.answer("/x", {"operation": "arm", "arguments": {"error": OSError("odd")}}, log)
    assert told == {"failure": {"msg": "OSError: odd"}}


# Each migration


TOLD = {
    "id": "a-1",
    "container": "a",
    "container_id": "4f9d",
    "name": "a2",
    "source": "fog1",
    "destination": "fog2",
    "mode": "precopy",
    "lazily": True,
    "mounts": [{"place": "/data", "type": "volume", "name": "data", "path": "/v/data"}],
    "log": False,
    "judged": {"its image": "0a" * 32},
    "networks": {"shop": {"Driver": "bridge"}},
    "memory": 1 << 20,
    "shared": 1 << 19,
    "together": ["a-1", "b-1"],
}


def migrations(*names):
    return [Migration.from_json({**TOLD, "id": f"{name}-1", "container": name}) for name in names]


def test_one_that_fails_concerns_no_other(log):
    def work(migration):
        if migration.container == "b":
            raise MigrationError("b cannot")
        return migration.container.upper()

    told = each(migrations("a", "b", "c"), work, log, "try")
    assert told == {
        "a-1": {"result": "A"},
        "b-1": {"failure": {"msg": "b cannot", "state_now": "", "remedy": ""}},
        "c-1": {"result": "C"},
    }
    assert sorted(line.split(":")[0] for line in lines_of(log)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (
            MigrationError("it is gone", "it is stopped", "look for it", container_state="frozen"),
            {"msg": "it is gone", "state_now": "it is stopped", "remedy": "look for it", "container_state": "frozen"},
        ),
        (Interrupted("the other end went away"), {"msg": "the other end went away"}),
        (docker_errors.APIError("Conflict", explanation="it is in use\n"), {"msg": "it is in use"}),
        (docker_errors.NotFound("there is no such container"), {"msg": "there is no such container"}),
        (OSError("no such\n daemon."), {"msg": "no such daemon"}),
        (FileNotFoundError(2, "No such file or directory", "/x"), {}),
        (KeyError("mode"), {"msg": "KeyError: 'mode'"}),
        (ZeroDivisionError("division by zero"), {"msg": "ZeroDivisionError: division by zero"}),
        (RecursionError("too deep"), {"msg": "RecursionError: too deep"}),
    ],
)
def test_every_failure_becomes_a_message(log, error, failure):
    def work(_migration):
        raise error

    told = each(migrations("a"), work, log, "try")["a-1"]["failure"]
    assert told == {"state_now": "", "remedy": "", **failure, "msg": failure.get("msg", told["msg"])}
    assert told["msg"] and "\n" not in told["msg"]


def test_what_an_agent_is_told_of_a_migration():
    (one,) = of_request({"migrations": [TOLD], "timeout": 60})
    assert (one.id, one.container, one.memory, one.together) == ("a-1", "a", 1 << 20, ["a-1", "b-1"])
    assert one.to_json() == TOLD
    assert of_request({"migrations": []}) == []


@pytest.mark.parametrize("name", list(TOLD))
def test_a_migration_that_lacks_something_is_refused(name):
    which = "a migration" if name == "id" else "the migration a-1"
    with pytest.raises(MigrationError) as refused:
        of_request({"migrations": [TOLD, {key: value for key, value in TOLD.items() if key != name}]})
    assert refused.value.what == f"{which} has no {name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "../x"),
        ("id", 7),
        ("container", None),
        ("container_id", []),
        ("name", 100),
        ("source", {}),
        ("destination", True),
        ("mode", "cold"),
        ("lazily", "yes"),
        ("mounts", "/data"),
        ("mounts", ["/data"]),
        ("mounts", [{"place": "/data", "type": "volume", "name": "data"}]),
        ("mounts", [{"place": "/data", "type": "volume", "name": None, "path": "/x"}]),
        ("judged", None),
        ("judged", {"its image": 7}),
        ("log", None),
        ("networks", ["shop"]),
        ("networks", {"shop": None}),
        ("memory", -1),
        ("memory", "1"),
        ("shared", -1),
        ("together", ["a-1", None]),
    ],
)
def test_a_migration_with_something_wrong_is_refused(name, value):
    with pytest.raises(MigrationError) as refused:
        of_request({"migrations": [{**TOLD, name: value}]})
    assert refused.value.what.endswith(f" has {value!r} as its {name}")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({}, "the request has no list of migrations"),
        ({"migrations": {"a-1": TOLD}}, "the request has no list of migrations"),
        ({"migrations": [TOLD, "b-1"]}, "a migration is no object"),
        (
            {"migrations": [{**TOLD, "clock": {}, "failure": None}]},
            "the migration a-1 has the unknown 'clock', 'failure'",
        ),
    ],
)
def test_a_request_with_something_else_is_refused(arguments, what):
    with pytest.raises(MigrationError) as refused:
        of_request(arguments)
    assert refused.value.what == what


def test_the_order_is_kept_whoever_ends_first(log):
    later = threading.Event()

    def work(migration):
        if migration.container == "a":
            assert later.wait(30)
        else:
            later.set()

    assert list(each(migrations("a", "b"), work, log, "try")) == ["a-1", "b-1"]
    assert [line.split(":")[0] for line in lines_of(log)] == ["b", "a"]


def test_one_after_the_other(log):
    order = []
    each(migrations("a", "b", "c"), lambda _one: order.append(threading.get_ident()) or order[0], log, "try", at_once=1)
    assert len(order) == 3 and len(set(order)) == 1


def test_nothing_is_done_for_none(log):
    assert each([], lambda _one: 1 // 0, log, "try") == {}


# What the source's end of a channel says


@pytest.mark.parametrize("error", [OSError("no socket"), ValueError("no answer"), BrokenPipeError(32, "Broken pipe")])
def test_a_channel_that_does_not_answer(monkeypatch, error):
    def ask(*_arguments):
        raise error

    monkeypatch.setattr(source_requests, "_exchange", ask)
    with pytest.raises(MigrationError, match="the source's end of the channel does not answer"):
        source_requests.ask("/x", {"do": "copy"})


@pytest.mark.parametrize("state", moving_container.STATES)
def test_a_channel_that_fails_says_how_the_container_is(monkeypatch, state):
    answer = {"error": "no room", "state": state, "words": moving_container.STATES[state]}
    monkeypatch.setattr(source_requests, "_exchange", lambda *_arguments: answer)
    with pytest.raises(MigrationError, match=r"^no room$") as failure:
        source_requests.ask("/x", {"do": "copy"})
    error = failure.value
    assert (error.state, error.remedy) == moving_container.STATES[state]
    assert error.details == {"container_state": state}
