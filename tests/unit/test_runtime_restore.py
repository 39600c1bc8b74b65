# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore through our OCI runtime: what is told of it, and that nothing of it goes on after a failure."""

from __future__ import annotations

import os

import pytest

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import runtime_restore
from ansible_collections.fog.migration.plugins.module_utils.criu import kept_logs
from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import armed_start

LOG = "(0.1) 1: Error (criu/tty.c:7): no tty\n"


class Start:
    """Docker's start of a container, with our OCI runtime in it. What C(failing) names, fails."""

    failing: str | None = None

    def __init__(self, docker_socket, container, on_wait):
        self.done = []
        assert not os.path.exists(os.path.join(armed_start.RUNTIME, container))

    def restore(self, words):
        self.options = words
        (work,) = (words[place + 1] for place, word in enumerate(words) if word == "--work-path")
        with open(os.path.join(work, "restore.log"), "w", encoding="ascii") as stream:
            stream.write(LOG)

    def arm(self, patience):
        if self.failing == "arm":
            raise OSError(22, "fog-runc is of another version", "/run/x/bundle")

    def outcome(self, seconds):
        return None if self.failing == "outcome" else "running"

    def why_not(self, answer, seconds):
        return f"OCI runtime restore failed: log file: /run/x/restore.log: {answer} after {seconds}"

    def require_owned(self):
        if self.failing in ("owned", "stop"):
            raise Refused("the container was restored, but Docker did not own it (no answer)")
        self.done.append("owned")

    def go_on(self):
        self.done.append("go on")

    def settle(self):
        self.done.append("settle")

    def stop(self, reason):
        self.done.append("stop")
        if self.failing == "stop":
            raise Interrupted(f"{reason}, and Docker does not end its start")

    def close(self):
        self.done.append("close")


@pytest.fixture
def start(monkeypatch, tmp_path):
    """The starts that were made, after one that was killed."""
    made = []
    work = tmp_path / "work"
    monkeypatch.setattr(armed_start, "RUNTIME", str(tmp_path / "runtime"))
    (tmp_path / "runtime" / "c1").mkdir(parents=True)
    monkeypatch.setattr(runtime_restore.tempfile, "mkdtemp", lambda **_more: work.mkdir() or str(work))
    monkeypatch.setattr(runc, "kill_restore", lambda _container: None)
    monkeypatch.setattr(
        kept_logs, "keep", lambda path: f"/kept/{os.path.basename(path)}" if os.path.exists(path) else ""
    )
    monkeypatch.setattr(
        runtime_restore, "ArmedStart", lambda *words, **more: made.append(Start(*words, **more)) or made[-1]
    )
    yield made
    assert not work.exists() and made[0].done[-1] == "close"


def test_what_runs(start):
    binds = {"/data": object()}
    lines, statistics = runtime_restore.from_images("/docker.sock", "c1", "/checkpoint/criu", 60, binds)
    assert (lines, statistics) == ([LOG.strip()], {})
    assert start[0].done == ["owned", "go on", "settle", "close"]
    # What is compared before any of it runs.
    assert start[0].binds is binds
    assert start[0].options[:2] == ["--image-path", "/checkpoint/criu"]
    assert start[0].options[-3:] == ["--tcp-established", "--ext-unix-sk", "--file-locks"]


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        ("arm", "fog-runc is of another version"),
        ("outcome", "OCI runtime restore failed: None after 60; CRIU's log is /kept/restore.log"),
        ("owned", "the container was restored, but Docker did not own it (no answer); CRIU's log is /kept/restore.log"),
        (
            "stop",
            (
                "the container was restored, but Docker did not own it (no answer); CRIU's log is /kept/restore.log, "
                "and Docker does not end its start"
            ),
        ),
    ],
)
def test_what_does_not(start, monkeypatch, failing, why):
    monkeypatch.setattr(Start, "failing", failing)
    with pytest.raises(MigrationError) as failure:
        runtime_restore.from_images("/docker.sock", "c1", "/checkpoint/criu", 60, {})
    assert failure.value.what == why
    assert failure.value.details == {"criu_log": [] if failing == "arm" else [LOG.strip()]}
    assert start[0].done == ["stop", "close"]
