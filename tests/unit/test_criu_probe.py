# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CRIU is asked once as long as nothing changes, and only what is certain is kept."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import features, probe, tool

# What each run of CRIU is asked for, as the real one answers it.
SCRIPT = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
    --version) echo "Version: 4.2.1" ;;
    check) {check} ;;
    "check --feature mem_dirty_track") echo "Warn  (criu/cr-check.c:824): Dirty tracking is OFF."; exit 1 ;;
    "check --feature uffd-noncoop") {noncoop} ;;
esac
"""


class Criu:
    """A program that answers as CRIU does, and counts how often it was asked."""

    def __init__(self, folder) -> None:
        self.program, self.log = folder / "criu", folder / "asked"
        self.answer()

    def answer(self, check="echo Looks good.", noncoop="echo uffd-noncoop is supported") -> None:
        """Installs it anew."""
        self.program.write_text(SCRIPT.format(log=self.log, check=check, noncoop=noncoop))
        self.program.chmod(0o755)

    def asked(self) -> list[str]:
        """What it was asked since the last time."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "criu.json"


@pytest.fixture
def criu(tmp_path, cache, monkeypatch):
    one = Criu(tmp_path)
    monkeypatch.setattr(tool, "find_criu", lambda: str(one.program))
    monkeypatch.setattr(probe, "CACHE", str(cache))
    monkeypatch.setattr(probe, "OWNER", os.geteuid())
    monkeypatch.setattr(probe, "CONFIGURATION", str(tmp_path / "default.conf"))
    return one


EVERYTHING = sorted(["--version", "check", *(f"check --feature {name}" for name in features.FEATURES)])


def test_it_is_asked_once(criu, cache):
    first = probe.probe()
    assert sorted(criu.asked()) == EVERYTHING
    assert (first["version"], first["works"], first["why_not"]) == ("4.2.1", True, None)
    assert not first["features"]["mem_dirty_track"]["works"]
    assert first["features"]["uffd"] == {"works": True, "why_not": None}
    assert list(first["features"]) == list(features.FEATURES)
    assert first["modes"]["postcopy"]["possible"]
    assert cache.stat().st_mode & 0o777 == 0o600
    assert probe.probe() == first
    assert criu.asked() == []
    assert [one.name for one in cache.parent.iterdir() if one.name.startswith(".")] == []


def test_the_first_check_is_alone(criu):
    """It looks at the kernel for the others, too, which read what it has found."""
    probe.probe()
    assert criu.asked()[0] == "check"


@pytest.mark.parametrize("change", ["program", "configuration", "boot", "kernel"])
def test_it_is_asked_again_when_something_has_changed(criu, tmp_path, monkeypatch, change):
    probe.probe()
    criu.asked()
    if change == "program":
        criu.answer(noncoop="exit 1")
    elif change == "configuration":
        (tmp_path / "default.conf").write_text("ghost-limit 1M\n")
    elif change == "boot":
        monkeypatch.setattr(probe.procfs, "boot", lambda: "another one")
    else:
        now = os.uname()
        monkeypatch.setattr(probe.os, "uname", lambda: os.uname_result([*now[:2], "6.0.0", *now[3:]]))
    again = probe.probe()
    assert sorted(criu.asked()) == EVERYTHING
    assert again["modes"]["postcopy"]["possible"] == (change != "program")
    probe.probe()
    assert criu.asked() == []


@pytest.mark.parametrize(
    ("answers", "why_not"),
    [
        ({"check": "echo 'Error (criu/cr-check.c:1): no map_files'; exit 1"}, "no map_files"),
        ({"check": "exit 3"}, "criu check ended with 3"),
        ({"noncoop": "kill -9 $$"}, None),
        ({"noncoop": "exit 2"}, None),
    ],
)
def test_what_may_be_otherwise_next_time_is_not_kept(criu, cache, answers, why_not):
    criu.answer(**answers)
    said = probe.probe()
    assert said["works"] is (why_not is None)
    assert (why_not or "") in (said["why_not"] or "")
    assert not cache.exists()
    criu.asked()
    probe.probe()
    assert sorted(criu.asked()) == EVERYTHING


def test_one_that_hangs(criu, cache, monkeypatch):
    monkeypatch.setattr(probe, "LIMIT", 0.3)
    criu.answer(check="exec sleep 60")
    assert probe.probe()["why_not"] == "criu did not end within 0.3 seconds"
    assert not cache.exists()


def test_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(tool, "find_criu", lambda: None)
    said = probe.probe()
    assert (said["path"], said["version"], said["works"], said["features"]) == (None, None, False, {})
    assert said["why_not"] == said["modes"]["cold"]["why_not"] == "criu is not installed"


def test_it_cannot_be_run(criu, cache):
    criu.program.write_text("#!/nowhere\n")
    assert "No such file or directory" in probe.probe()["why_not"]
    assert not cache.exists()


def test_another_user_keeps_nothing(criu, cache, monkeypatch):
    monkeypatch.setattr(probe, "OWNER", os.geteuid() + 1)
    assert probe.probe()["works"]
    assert not cache.exists()


@pytest.mark.parametrize("harm", ["mode", "link", "owner", "fifo", "folder"])
def test_a_cache_that_others_could_have_written_is_not_trusted(criu, cache, tmp_path, monkeypatch, harm):
    criu.answer(noncoop="exit 1")
    probe.probe()
    lie = json.loads(cache.read_text())
    lie["features"]["uffd-noncoop"] = None
    cache.write_text(json.dumps(lie))
    assert probe.probe()["modes"]["postcopy"]["possible"], "it is read from the cache"
    if harm == "mode":
        cache.chmod(0o644)
    elif harm == "owner":
        status = os.fstat
        monkeypatch.setattr(probe.os, "fstat", lambda number: _of_another(status(number)))
    else:
        cache.rename(tmp_path / "elsewhere")
    if harm == "link":
        cache.symlink_to(tmp_path / "elsewhere")
    elif harm == "fifo":
        os.mkfifo(cache, 0o600)
    elif harm == "folder":
        cache.mkdir(0o700)
    assert not probe.probe()["modes"]["postcopy"]["possible"]


def _of_another(status):
    return os.stat_result([*status[:4], status.st_uid + 1, *status[5:10]])


def texts():
    key = {"boot": "b"}
    good = {"format": probe.FORMAT, "key": key, "version": "4.2.1", "features": dict.fromkeys(features.FEATURES)}
    yield key, good, True
    for name, value in (
        ("format", "other"),
        ("key", {"boot": "c"}),
        ("version", None),
        ("version", 4),
        ("features", {}),
        ("features", []),
        ("features", {**good["features"], "uffd": 1}),
        ("features", {**good["features"], "more": None}),
    ):
        yield key, {**good, name: value}, False
    yield key, [good], False


@pytest.mark.parametrize(("key", "value", "fine"), list(texts()))
def test_what_is_no_cache(key, value, fine):
    assert (probe.parse_cache(json.dumps(value).encode(), key) is not None) is fine


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 60000])
def test_what_is_no_json(text):
    assert probe.parse_cache(text, {}) is None


def test_a_folder_that_cannot_be_written_fails_nothing(criu, monkeypatch):
    monkeypatch.setattr(probe, "CACHE", "/nowhere/criu.json")
    assert probe.probe()["works"]
