# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Agents that really run: what they answer, what they give away, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from agents import LIMIT, Agent, launcher, until

from ansible_collections.fog.migration.plugins.module_utils.agent import connect, launch, reservation, server
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, procfs
from ansible_collections.fog.migration.plugins.module_utils.transport import framing, work_dir
from ansible_collections.fog.migration.plugins.plugin_utils import agents as controllers

RUN = "20261128a"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return deploy.pack(str(tmp_path_factory.mktemp("archive") / "agent.zip"))


@contextlib.contextmanager
def agents_in(place, archive):
    """Starts agents in a temporary folder; takes lines of Python that an agent executes before it serves."""
    started = []

    def start(more=""):
        folder = str(place / "run" / f"agent-{RUN}")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(launch, "_LAUNCHER", launcher(place, more))
            assert launch.start(folder, archive)
        started.append(Agent(folder))
        return started[-1]

    try:
        yield start
    finally:
        for agent in started:
            # Its number may be another process's by now.
            if deploy.running(agent.folder) == agent.pid:
                os.kill(agent.pid, signal.SIGKILL)


@pytest.fixture
def new_agent(tmp_path, archive):
    with agents_in(tmp_path, archive) as start:
        yield start


@pytest.fixture(scope="module")
def agent(tmp_path_factory, archive):
    """One for all tests that leave it as it is."""
    with agents_in(tmp_path_factory.mktemp("agent"), archive) as start:
        yield start("server.PATIENCE = 600")


# Requests


def test_it_answers(agent):
    answer = agent.ask("ping")
    assert answer["result"] == {"pid": agent.pid}
    assert [line.split(" ", 1)[1].rpartition(":")[0] for line in answer["steps"]] == ["-: ping"]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"ping\n", b"[]\n", b'"ping"\n', b"\xff\n", b"[" * 20000 + b"\n", b'{"operation": "ping"']
)
def test_what_is_no_request_is_refused(agent, data):
    assert json.loads(agent.call(data).stdout) == {"failure": {"msg": "that is no request"}}
    assert agent.ask("ping")["result"]


def test_an_unknown_operation_is_refused(agent):
    for name in ("reboot", None, ["ping"]):
        answer = agent.ask(name)
        assert answer["failure"] == {"msg": f"the agent knows no operation {name}"}


def test_arguments_that_make_no_sense_are_a_failure(agent):
    assert agent.ask("reserve_source")["failure"]["msg"] == "the request has no list of migrations"
    assert agent.ask("commit", migrations=[{}])["failure"]["msg"] == "a migration has no id"
    assert agent.ask("commit", migrations=[])["result"] == {}


def test_a_request_larger_than_the_limit_is_refused(new_agent):
    agent = new_agent("server.LONGEST = 1 << 20")
    request = json.dumps({"operation": "ping", "arguments": {"x": "x" * (4 << 20)}}).encode() + b"\n"
    done = agent.call(request)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"failure": {"msg": "that is no request"}})
    assert agent.ask("ping", x="x" * (1 << 19))["result"]


def test_requests_are_answered_at_the_same_time(agent):
    with agent.connection():
        assert agent.ask("ping")["result"]


def test_a_module_runs_in_the_agent(agent):
    answer = agent.ask("module", name="migration_journal", params={"id": "looper-1"})
    assert answer["result"]["failed"]
    assert answer["result"]["msg"] == "migration_journal: the option state is missing"


# Processes


def test_what_needs_too_much_memory_is_a_failure(new_agent):
    """Of one request: the agent and what it does besides go on."""
    small = (
        f"from {deploy.PACKAGE}.system import limits\nlimits.LEAST_MEMORY, limits.MEMORY_PART = 160 << 20, 1 << 50\n"
    )
    hog = (
        f"from {deploy.PACKAGE}.agent import requests\nrequests.OPERATIONS['hog'] = lambda *_more: len(bytes(1 << 30))"
    )
    agent = new_agent(small + hog)
    assert Path(f"/proc/{agent.pid}/oom_score_adj").read_text() == "1000\n"
    assert agent.ask("hog")["failure"] == {
        "msg": "the program that moves it may have 160 MiB of memory here, and needed more"
    }
    assert agent.ask("ping")["result"] == {"pid": agent.pid}


def test_a_child_that_dies_does_not_end_the_agent(agent):
    # Those of earlier requests have ended, but are not reaped at once.
    assert until(lambda: not agent.children())
    with agent.connection() as connection:
        assert until(agent.children)
        for child in agent.children():
            os.kill(child, signal.SIGKILL)
        assert connection.recv(1) == b""
    assert until(lambda: not agent.children())
    assert agent.ask("ping")["result"] == {"pid": agent.pid}


WORKER = """
import time
from {package}.agent import processes, requests
def work(*_arguments):
    return {{"worker": processes.spawn(lambda: time.sleep(300))}}
requests.OPERATIONS["work"] = work
"""


def test_a_spawned_worker_does_not_keep_the_connection_of_the_request_open(new_agent):
    agent = new_agent(WORKER.format(package=deploy.PACKAGE))
    worker = agent.ask("work")["result"]["worker"]
    try:
        assert procfs.started(worker)
        # The process that has answered has ended, and the worker belongs to the agent.
        assert until(lambda: agent.children() == [worker])
        links = {number: os.readlink(f"/proc/{worker}/fd/{number}") for number in os.listdir(f"/proc/{worker}/fd")}
        assert {links.pop("0"), links.pop("1")} == {os.devnull}
        assert links.pop("2").endswith("/agent.log")
        assert links == {}
    finally:
        os.kill(worker, signal.SIGKILL)
    assert until(lambda: not agent.children())


def test_a_worker_outlives_the_agent(new_agent):
    agent = new_agent(WORKER.format(package=deploy.PACKAGE))
    worker = agent.ask("work")["result"]["worker"]
    try:
        assert agent.ask("stop")["result"]
        assert agent.has_ended()
        assert procfs.started(worker)
    finally:
        os.kill(worker, signal.SIGKILL)


# Channels


def reserved(agent: Agent, tmp_path: Path, identity: str = "looper-1") -> Path:
    """What the reservation of a migration leaves at the destination; its private folder."""
    directory = tmp_path / f"transfer-{identity}"
    (directory / "staging").mkdir(parents=True)
    own = DestinationSettings(
        str(directory / "staging"), "/run/docker.sock", "fog2", migration=identity, patience=1, restore_limit=1
    )
    reservation.store(agent.folder, identity, reservation.ReservedDestination(str(directory), "looper", {}, False, own))
    return directory


@contextlib.contextmanager
def attached(agent, identity):
    """A process that attaches its standard input and output to a migration."""
    with subprocess.Popen(
        agent.command("attach", identity), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def greeted(process):
    """The frames of a channel, and the destination's greeting."""
    frames = framing.Frames(process.stdout.fileno(), process.stdin.fileno(), LIMIT)
    return frames, frames.expect_object(framing.HELLO)


def test_a_channel_is_served_at_the_pipes_that_were_attached(agent, tmp_path):
    directory = reserved(agent, tmp_path)
    with attached(agent, "looper-1") as process:
        frames, hello = greeted(process)
        assert (hello["role"], hello["host"]) == ("destination", "fog2")
        # The one that has brought the pipes lets go of them, perhaps after the greeting.
        assert until(lambda: {os.readlink(f"/proc/{process.pid}/fd/{end}") for end in (0, 1)} == {os.devnull})
        server = deploy.running(str(directory))
        assert server in agent.children()
        assert Path(agent.folder, "looper-1.settings").exists() is False
        frames.write_json(framing.HELLO, framing.greeting("source"))
        frames.write_json(framing.DO, {"do": "give up"})
        assert process.wait(LIMIT) == 0
        assert process.stderr.read() == b""
        # The other end of the channel is closed.
        assert process.stdout.read() == b""
    assert not directory.exists()


def test_a_channel_ends_with_its_source(agent, tmp_path):
    directory = reserved(agent, tmp_path)
    with attached(agent, "looper-1") as process:
        assert process.stdout.read(1) == framing.HELLO
        process.stdin.close()
        process.wait(LIMIT)
    assert until(lambda: not directory.exists())
    assert agent.ask("ping")["result"]


def test_why_a_channel_failed_comes_out_at_its_other_end(agent, tmp_path):
    directory = reserved(agent, tmp_path)
    with attached(agent, "looper-1") as process:
        frames, _hello = greeted(process)
        frames.write_json(framing.HELLO, framing.greeting("destination"))
        assert process.wait(LIMIT) == 1
        assert process.stderr.read() == b"the other end is not a source of fog.migration\n"
        with pytest.raises(Refused, match="not a source"):
            frames.expect(framing.DONE)
    assert not directory.exists()


def test_a_channel_that_is_told_to_end_says_so(agent, tmp_path):
    """Recovery does that when its patience is over."""
    directory = reserved(agent, tmp_path)
    with attached(agent, "looper-1") as process:
        frames, _hello = greeted(process)
        frames.write_json(framing.HELLO, framing.greeting("source"))
        assert until((directory / "staging" / "work").exists)
        deploy.stop(str(directory))
        with pytest.raises(Refused, match=r"^it was told to end$"):
            frames.expect(framing.DONE)
        assert process.wait(LIMIT) == 1
    assert until(lambda: not directory.exists())


def test_a_migration_is_attached_once(agent, tmp_path):
    reserved(agent, tmp_path)
    with attached(agent, "looper-1") as first:
        assert first.stdout.read(1) == framing.HELLO
        with attached(agent, "looper-1") as second:
            assert second.wait(LIMIT) == 1
            assert second.stderr.read() == b"the migration looper-1 had its channel, and waits for no other one\n"
            assert second.stdout.read() == b""
        assert first.poll() is None


@pytest.mark.parametrize(
    ("identity", "why"),
    [
        ("looper-2", "nothing was reserved here for the migration looper-2"),
        ("../looper-1", "'../looper-1' is not the name of a migration"),
        ("", "'' is not the name of a migration"),
        ("looper-1; reboot", "'looper-1; reboot' is not the name of a migration"),
    ],
)
def test_an_unknown_migration_is_not_attached(agent, tmp_path, identity, why):
    reserved(agent, tmp_path)
    with attached(agent, identity) as process:
        assert process.wait(LIMIT) == 1
        assert process.stderr.read().decode() == why + "\n"
        assert process.stdout.read() == b""


def test_a_channel_needs_two_descriptors(agent, tmp_path):
    reserved(agent, tmp_path)
    assert agent.exchange(b'{"attach": "looper-1"}\n') == b"a channel is attached with two descriptors\n"
    assert Path(agent.folder, "looper-1.settings").exists()


def test_no_agent_is_another_exit_code(tmp_path):
    program = deploy.install_program(str(tmp_path), "agent.connect")
    for words in (["call"], ["attach", "looper-1"]):
        done = subprocess.run(
            [sys.executable, "-I", "-S", program, *words], input=b"{}", capture_output=True, check=False
        )
        assert done.returncode == 3
        assert done.stderr.decode().startswith(f"no agent answers at {tmp_path}/{connect.SOCKET}: ")
        assert done.stdout == b""


# The end of an agent


def test_sigterm_ends_it_and_its_folder(new_agent):
    agent = new_agent()
    agent.ask("ping")
    os.kill(agent.pid, signal.SIGTERM)
    assert agent.has_ended()
    assert not os.path.exists(agent.folder)


def test_sigterm_ends_its_folder_from_the_first_moment(new_agent):
    agent = new_agent()
    os.kill(agent.pid, signal.SIGTERM)
    assert agent.has_ended()
    assert not os.path.exists(os.path.dirname(agent.folder))


SLOW_END = """
import shutil, time
remove = shutil.rmtree
def slowly(*arguments, **more):
    open({begun!r}, "w").close()
    time.sleep(0.2)
    remove(*arguments, **more)
shutil.rmtree = slowly
"""


def test_a_second_sigterm_changes_nothing(new_agent, tmp_path):
    begun = tmp_path / "begun"
    agent = new_agent(SLOW_END.format(begun=str(begun)))
    os.kill(agent.pid, signal.SIGTERM)
    assert until(begun.exists)
    os.kill(agent.pid, signal.SIGTERM)
    assert agent.has_ended()
    assert not os.path.exists(agent.folder)


DIES_AT_ITS_END = """
import os, shutil, signal
remove, agent = shutil.rmtree, os.getpid()
def dies(*arguments, **more):
    if os.getpid() == agent:
        os.kill(agent, signal.SIGKILL)
    remove(*arguments, **more)
shutil.rmtree = dies
"""


def test_an_agent_that_is_killed_while_it_ends_leaves_nothing(new_agent):
    agent = new_agent(DIES_AT_ITS_END)
    assert agent.ask("stop")["result"]
    assert not os.path.exists(agent.folder)


@pytest.mark.parametrize("is_open", [True, False])
def test_what_a_killed_agent_has_left_goes_with_the_end_of_its_run(new_agent, tmp_path, is_open):
    agent = new_agent()
    os.kill(agent.pid, signal.SIGKILL)
    assert until(lambda: procfs.started(agent.pid) is None)
    Path(agent.folder, "reserved").write_text(f"{tmp_path if is_open else tmp_path / 'ended'}\n")

    def execute(command):
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        return {"stdout": done.stdout, "stderr": done.stderr}

    action = types.SimpleNamespace(_low_level_execute_command=execute)
    server = controllers.Server("fog1", action, {"folder": agent.folder, "python": sys.executable})
    assert server.remove_folder() is not is_open
    assert os.path.exists(agent.folder) == is_open


def test_an_idle_agent_ends(new_agent):
    agent = new_agent("server.PATIENCE = 3")
    assert agent.has_ended()
    assert not os.path.exists(agent.folder)


def test_an_agent_with_work_waits_for_its_end(new_agent, tmp_path):
    agent = new_agent("server.PATIENCE = 2")
    work = tmp_path / "transfer-1"
    work.mkdir()
    Path(agent.folder, "reserved").write_text(f"{tmp_path}/transfer-0\n{work}\n")
    assert not until(lambda: not agent.runs(), 3)
    work.rmdir()
    assert agent.has_ended()
    assert not os.path.exists(agent.folder)


def test_an_agent_that_still_answers_waits(new_agent):
    agent = new_agent("server.PATIENCE = 2")
    with agent.connection():
        assert not until(lambda: not agent.runs(), 3)
    assert agent.has_ended()


@pytest.mark.parametrize(
    ("reserved", "quiet", "idle"),
    [(None, 50, False), (None, 70, True), ("gone", 50, False), ("gone", 70, True), ("there", 1000, False)],
)
def test_how_long_an_agent_waits_for_requests(tmp_path, monkeypatch, reserved, quiet, idle):
    (tmp_path / "there").mkdir()
    if reserved:
        (tmp_path / "reserved").write_text(f"{tmp_path / reserved}\n")
    agent = server.Agent(str(tmp_path))
    with agent.listener:
        now = time.monotonic() + quiet
        monkeypatch.setattr(time, "monotonic", lambda: now)
        assert agent._is_idle() is idle
        agent._children = {1}
        assert agent._is_idle() is False


@pytest.mark.parametrize("keep", [True, False])
def test_it_is_told_to_stop(new_agent, tmp_path, keep):
    agent = new_agent()
    log = tmp_path / "log" / f"agent-{RUN}.log"
    agent.ask("ping")
    assert log.exists()
    assert agent.ask("stop", keep_log=keep)["result"] == {"log": str(log)}
    assert agent.has_ended()
    assert not os.path.exists(agent.folder)
    assert log.exists() == log.parent.exists() == keep


# Its start


def test_what_it_has_is_private(agent):
    assert stat.S_IMODE(os.stat(agent.folder).st_mode) == 0o700
    agent.ask("ping")
    for name in ("agent.sock", "connect.py", "pid"):
        assert stat.S_IMODE(os.stat(os.path.join(agent.folder, name)).st_mode) & 0o077 == 0


def test_it_is_started_once(new_agent, archive):
    agent = new_agent()
    assert launch.start(agent.folder, archive) is False
    assert deploy.running(agent.folder) == agent.pid
    assert launch.stop(agent.folder) is True
    assert launch.stop(agent.folder) is False
    assert agent.has_ended()


class Locally:
    """An action plugin whose connection leads to this machine."""

    def _low_level_execute_command(self, command, in_data=None):
        done = subprocess.run(["sh", "-c", command], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}


@pytest.mark.parametrize("reserved", [False, True])
def test_what_a_killed_one_has_left_goes_when_it_is_to_stop(new_agent, tmp_path, reserved):
    killed = new_agent()
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.has_ended()
    if reserved:
        Path(killed.folder, "reserved").write_text(f"{tmp_path}\n")
    agent = launch.described(killed.folder)
    told = controllers.stop(controllers.Server("fog1", Locally(), agent), agent, keep_log=False)
    # The recovery needs what a reservation is known by.
    assert told == {"changed": not reserved, "agent": agent}
    assert os.path.exists(killed.folder) == reserved


def test_one_that_was_killed_is_replaced(new_agent):
    killed = new_agent()
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.has_ended()
    assert killed.call(b"{}").returncode == 3
    agent = new_agent()
    assert agent.pid != killed.pid
    assert agent.ask("ping")["result"] == {"pid": agent.pid}


def test_one_that_does_not_start_leaves_nothing(tmp_path):
    (tmp_path / "agent.zip").write_text("no archive")
    folder = tmp_path / "run" / "agent-1"
    with pytest.raises(MigrationError, match=r"^the agent did not start \(ModuleNotFoundError: ") as failure:
        launch.start(str(folder), str(tmp_path / "agent.zip"))
    assert failure.value.state == "nothing was changed"
    assert not folder.exists()


@pytest.mark.parametrize("run", ["", "../x", "a b", "a-b", "x" * 41])
def test_what_is_no_name_of_a_run(run):
    with pytest.raises(MigrationError, match="is no name of a run"):
        launch.folder_of(run)


def test_what_the_launcher_tells(tmp_path, archive, monkeypatch, capsys):
    monkeypatch.setattr(work_dir, "base_directory", lambda: str(tmp_path / "run"))
    monkeypatch.setattr(launch, "_LAUNCHER", launcher(tmp_path))
    folder = str(tmp_path / "run" / f"agent-{RUN}")
    mask = os.umask(0o022)
    try:
        for changed in (True, False):
            launch.main(RUN, archive)
            told = json.loads(capsys.readouterr().out)
            assert told["changed"] is changed
            assert told["agent"]["folder"] == folder
            assert told["agent"]["python"] == sys.executable
            assert told["agent"]["log"].endswith(f"/agent-{RUN}.log")
        launch.stop(folder)
        launch.main("no run", archive)
        told = json.loads(capsys.readouterr().out)
        assert told["failed"] and told["msg"].startswith("Migration agent on ")
        launch.main("1", str(tmp_path / "nowhere.zip"))
        told = json.loads(capsys.readouterr().out)
        assert told["failed"] and f"No such file or directory: {tmp_path}/nowhere.zip" in told["msg"]
    finally:
        os.umask(mask)
        launch.stop(folder)


@pytest.mark.parametrize(
    ("seconds", "reserved", "goes"),
    [(60, None, True), (0, None, False), (60, "open", False), (60, "ended", True)],
    ids=str,
)
def test_what_a_killed_agent_has_left_goes_with_the_next_start(new_agent, tmp_path, seconds, reserved, goes):
    """One that may be starting stays, and one whose migrations a recovery knows."""
    left = tmp_path / "run" / "agent-20261127b"
    left.mkdir(parents=True)
    if reserved:
        (left / "reserved").write_text(f"{tmp_path if reserved == 'open' else tmp_path / 'ended'}\n")
    os.utime(left, (time.time() - seconds,) * 2)
    assert new_agent().ask("ping")["result"]
    assert left.exists() != goes
