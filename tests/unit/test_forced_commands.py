# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the key of a transfer can start: in time, once, and in an environment that its owner has no part in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.agent import reservation, run_destination, run_source
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import reopening
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import (
    expiry,
    framing,
    ssh_access,
    ssh_connection,
    work_dir,
)
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
PRINT = "import json, os; print(json.dumps(dict(os.environ)))"
LATE, IN_TIME = 1000, 4102444800


def transfer(tmp_path, expires):
    """The private folder of a transfer with staging."""
    directory = tmp_path / f"transfer-0a1b-destination-{expires}"
    (directory / "staging").mkdir(parents=True)
    return directory


def channel(directory):
    """The command of the destination's end of a channel."""
    own = DestinationSettings(str(directory / "staging"), str(directory / "docker.sock"), "fog2")
    return deploy.install(str(directory), own.to_json(), "migration.channel.destination")


def frames_of(process):
    return Frames(process.stdout.fileno(), process.stdin.fileno(), 30)


# Time


def test_the_name_of_a_folder_tells_when_its_time_is_over(tmp_path):
    directory = work_dir.path_of("0a1b", "destination", LATE)
    assert expiry.of_directory(directory) == LATE
    with pytest.raises(MigrationError, match="has expired at 1970-01-01T00:16:40Z, by the clock of this server"):
        expiry.require_in_time(directory)
    expiry.require_in_time(work_dir.path_of("0a1b", "source", IN_TIME))
    for other in ("agent-1", "transfer-1", "transfer-0a1b-destination-soon"):
        assert expiry.of_directory(str(tmp_path / other)) is None


def test_a_receiver_does_not_listen_to_a_key_that_has_expired(tmp_path):
    """Whatever its sshd knows of expiry."""
    order = {"role": "receive", "final": str(tmp_path / "there"), "host": "fog2", "replace": False, "idle_limit": 30}
    words = deploy.install(str(transfer(tmp_path, LATE)), order)
    with subprocess.Popen(words, **PIPES) as receiver:
        with pytest.raises(Refused, match=r"has expired at .* nothing was received on fog2, start the transfer again"):
            frames_of(receiver).expect(framing.HELLO)
        receiver.stdin.close()
        assert receiver.wait(30) == 1
        assert "has expired" in json.loads(receiver.stderr.read())["error"]
    assert not (tmp_path / "there").exists() and not (tmp_path / ".there.incoming").exists()


@pytest.mark.parametrize("expires", [LATE, IN_TIME])
def test_a_channel_is_opened_in_time(tmp_path, expires):
    with subprocess.Popen(channel(transfer(tmp_path, expires)), **PIPES) as destination:
        if expires == IN_TIME:
            assert frames_of(destination).expect_object(framing.HELLO)["role"] == "destination"
        else:
            with pytest.raises(Refused, match="the key of this transfer has expired"):
                frames_of(destination).expect(framing.HELLO)
        destination.stdin.close()
        assert destination.wait(30) == 1
        assert ("has expired" in destination.stderr.read().decode()) is (expires == LATE)


def test_a_channel_is_attached_in_time(tmp_path):
    folder, directory = tmp_path / "agent-1", transfer(tmp_path, LATE)
    folder.mkdir()
    own = DestinationSettings(str(directory / "staging"), "/run/docker.sock", "fog2", migration="looper-1")
    reserved = reservation.ReservedDestination(str(directory), "looper", {}, False, own)
    reservation.store(str(folder), "looper-1", reserved)
    with pytest.raises(MigrationError, match="has expired"):
        run_destination.serve(str(folder), "looper-1", 0, 1)
    assert directory.exists()


def test_a_channel_is_opened_anew_however_late(tmp_path, monkeypatch):
    """The container runs already, and misses pages."""
    # Sockets have no long names.
    monkeypatch.setattr(reopening, "SOCKET", "s")
    folder, directory = tmp_path / "agent-1", transfer(tmp_path, LATE)
    folder.mkdir()
    own = DestinationSettings(str(directory / "staging"), "/run/docker.sock", "fog2", migration="looper-1")
    reserved = reservation.ReservedDestination(str(directory), "looper", {}, False, own)
    reservation.store(str(folder), "looper-1", reserved)
    # The first one had it.
    os.unlink(reservation.settings_path(str(folder), "looper-1"))
    arrived = threading.Event()
    waiting = reopening.Reopening(str(directory))
    waiting.listen(arrived.set)
    (reader, writer), (back, there) = os.pipe(), os.pipe()
    giver = threading.Thread(target=run_destination.serve, args=(str(folder), "looper-1", reader, there), daemon=True)
    giver.start()
    assert arrived.wait(30)
    given = waiting.next_channel(30)
    assert given
    os.write(writer, b"x")
    assert os.read(given[0], 1) == b"x"
    waiting._givers[0].close()
    giver.join(30)
    assert not giver.is_alive()
    for descriptor in (*given, writer, back):
        os.close(descriptor)


def test_only_one_of_those_that_come_together_gets_a_channel(tmp_path, monkeypatch):
    """The other one has read the same settings just before."""
    folder, directory = tmp_path / "agent-1", transfer(tmp_path, IN_TIME)
    folder.mkdir()
    own = DestinationSettings(str(directory / "staging"), "/run/docker.sock", "fog2", migration="looper-1")
    reserved = reservation.ReservedDestination(str(directory), "looper", {}, False, own)
    reservation.store(str(folder), "looper-1", reserved)
    load = reservation.load_destination

    def late(*arguments):
        reserved = load(*arguments)
        os.unlink(reservation.settings_path(str(folder), "looper-1"))
        return reserved

    monkeypatch.setattr(reservation, "load_destination", late)
    with pytest.raises(MigrationError, match="had its channel, and waits for no other one"):
        run_destination.serve(str(folder), "looper-1", 0, 1)
    assert directory.exists()


# Once


def test_a_second_start_is_refused_and_harms_nothing(tmp_path):
    directory = transfer(tmp_path, IN_TIME)
    words = channel(directory)
    with subprocess.Popen(words, **PIPES) as first:
        frames = frames_of(first)
        frames.expect_object(framing.HELLO)
        frames.write_json(framing.HELLO, framing.greeting("source"))
        # When it has these, it has begun to serve.
        until((directory / "staging" / "work").exists)
        registered = (directory / deploy.PID_FILE).read_bytes()
        with subprocess.Popen(words, **PIPES) as second:
            with pytest.raises(Refused, match="this migration has its channel already, which goes on"):
                frames_of(second).expect(framing.HELLO)
            second.stdin.close()
            assert second.wait(30) == 1
            assert second.stderr.read().decode().count("\n") == 1
        assert (directory / deploy.PID_FILE).read_bytes() == registered
        assert (directory / "staging" / "work").is_dir()
        assert first.poll() is None
        frames.write_json(framing.DO, {"do": "give up"})
        assert first.wait(30) == 0
    assert not directory.exists()


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Environment

HOSTILE = {"PYTHONPATH": "/x", "OPENSSL_CONF": "/x", "TMPDIR": "/x", "DOCKER_HOST": "tcp://x", "SECRET": "x"}


def test_a_program_gets_nothing_of_the_environment_that_a_client_has_sent():
    """As sshd runs it: by a shell, which has what AcceptEnv lets through."""
    line = ssh_access.forced_command("root", "root", [sys.executable, "-I", "-c", PRINT])
    done = subprocess.run(["sh", "-c", line], env={**os.environ, **HOSTILE}, capture_output=True, check=True)
    assert {name for name in json.loads(done.stdout) if not name.startswith("LC_")} == {"PATH"}


def test_sudo_is_run_in_a_clean_environment():
    words = ssh_access.forced_command("pi", "root", ["python3"]).split()
    assert words[:2] == ["env", "-i"] and words[3:] == ["sudo", "-n", "python3"]


def test_what_was_asked_for_arrives_as_it_is():
    line = ssh_access.forced_command("root", "root", [sys.executable, "-I", "-c", "import sys; print(sys.argv[1])"])
    asked = 'looper-1; echo $HOME "x"'
    done = subprocess.run(
        ["sh", "-c", f'{line} "$SSH_ORIGINAL_COMMAND"'],
        env={"PATH": os.environ["PATH"], "SSH_ORIGINAL_COMMAND": asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == asked + "\n"


@pytest.fixture
def crowded(monkeypatch):
    """An environment with what ssh does not need, and what would change what it does."""
    for name, value in {**HOSTILE, "SSH_AUTH_SOCK": "/x", "SSH_ASKPASS": "/x", "DISPLAY": ":0", "LANG": "C"}.items():
        monkeypatch.setenv(name, value)


def test_ssh_gets_no_more_of_the_environment_than_it_needs(crowded):
    connection = ssh_connection.SshConnection([sys.executable, "-c", PRINT], time.monotonic() + 30)
    told = json.loads(connection.stdout.read())
    connection.close()
    assert {"PATH", "LANG"} <= set(told) <= {*ssh_access.SSH_NEEDS, "LC_CTYPE"}


def test_the_shared_connection_gets_no_more_either(crowded, tmp_path, monkeypatch):
    """A program in the place of ssh writes down what it gets, and ends."""
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\nenv >{tmp_path}/environment\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    there = {"name": "fog2", "address": "192.0.2.1", "port": 22, "user": "root", "host_keys": [], "sessions": 10}
    with pytest.raises(MigrationError, match="the SSH connection to fog2 could not be opened"):
        run_source.connect(str(tmp_path), there, 1, keep_key=False)
    told = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert told - {"PWD", "_", "SHLVL", "OLDPWD"} <= set(ssh_access.SSH_NEEDS)
