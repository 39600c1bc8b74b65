# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a dump or a restore that failed, and the log that is kept of it."""

from __future__ import annotations

import os
import stat

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import kept_logs

LOG = """(00.001) Warn  (criu/x.c:1): RLIMIT_NOFILE
(00.002) Error (criu/seize.c:335): zombie 13175 (comm python3) found while seizing
(00.003) Error (criu/files.c:9): Can't dump file 3 of that type [reg] (unknown)
(00.004) Error (criu/cr-dump.c:2128): Dumping FAILED.
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where logs are kept."""
    monkeypatch.setattr(kept_logs, "FOLDER", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_a_log_is_kept_and_told(tmp_path, folder):
    log = tmp_path / "dump.log"
    assert kept_logs.reason(str(log)) == ""
    log.write_text(LOG)
    told = kept_logs.reason(str(log))
    (kept,) = folder.iterdir()
    assert told == (
        f", CRIU said: (criu/files.c:9): Can't dump file 3 of that type [reg] (unknown) (its log is {kept})"
    )
    assert kept.read_text() == LOG
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_not_all_logs_are_kept(tmp_path, folder, monkeypatch):
    log = tmp_path / "dump.log"
    log.write_text("x")
    kept = [kept_logs.keep(str(log)) for _number in range(kept_logs.KEPT + 3)]
    assert sorted(os.path.join(folder, name) for name in os.listdir(folder)) == sorted(kept)[3:]
    monkeypatch.setattr(kept_logs, "FOLDER", str(log))
    assert kept_logs.keep(str(log)) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'time="2026-11-30T06:50:35Z" level=error msg="criu failed: type NOTIFY errno 0\\nlog file: /run/x.log"',
            "criu failed: type NOTIFY errno 0",
        ),
        ("criu: not found", "criu: not found"),
        ("", ""),
    ],
)
def test_what_the_runtime_says(line, said):
    assert kept_logs.runtime_message(line) == said
