# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much is made up for the tests of parsers: little in every run, more with C(make fuzz). And no signs of life."""

from __future__ import annotations

import random

import hypothesis
import pytest
from hypothesis.database import DirectoryBasedExampleDatabase

from ansible_collections.fog.migration.plugins.module_utils.criu import kept_logs
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import source_link

# What failed once is tried first the next time.
_KNOWN = DirectoryBasedExampleDatabase(".cache/hypothesis")
_ALWAYS = {
    "deadline": None,
    "print_blob": True,
    "database": _KNOWN,
    "suppress_health_check": list(hypothesis.HealthCheck),
}
hypothesis.settings.register_profile("test", max_examples=80, **_ALWAYS)
hypothesis.settings.register_profile("fuzz", max_examples=1500, **_ALWAYS)
hypothesis.settings.load_profile("test")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Every run makes other things up; the seed that is printed makes the same ones again."""
    if config.getoption("--hypothesis-seed", None) is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


def pytest_report_header(config: pytest.Config) -> str:
    """The seed, with which a failure can be had again."""
    return f"fuzzing: --hypothesis-seed={config.getoption('--hypothesis-seed')}"


@pytest.fixture(autouse=True)
def _no_logs(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Logs of CRIU that are kept do not come to those of this machine."""
    monkeypatch.setattr(kept_logs, "FOLDER", str(tmp_path_factory.getbasetemp() / "logs" / "criu"))


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life of a channel that is closed would come to whatever has the number of its descriptor by then."""
    monkeypatch.setattr(source_link.SourceLink, "_keep_alive", lambda _self: None)
