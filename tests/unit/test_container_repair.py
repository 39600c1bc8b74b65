# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the module that undoes what a dump has left touches a container, and what it tells."""

from __future__ import annotations

import pytest
from fake_docker import ID, Docker

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Found, Outcome
from ansible_collections.fog.migration.plugins.module_utils.network import nftables
from ansible_collections.fog.migration.plugins.module_utils.network.leftover_filters import Table
from ansible_collections.fog.migration.plugins.modules import container_repair

LOCK = Table(nftables.INET, "CRIU-4711")


@pytest.fixture
def docker(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))
    return Docker(tmp_path / "docker")


@pytest.fixture
def repaired(monkeypatch):
    """The containers that were repaired; C(repaired.outcome) is how each is found to be then."""

    class Repaired(list):
        outcome = Outcome()

        def bring_back(self, container):
            self.append(container)
            return self.outcome

    containers = Repaired()
    monkeypatch.setattr(container_repair.repair, "bring_back", containers.bring_back)
    return containers


def test_what_is_left_is_undone(docker, repaired):
    repaired.outcome = Outcome(undone=(str(LOCK),))
    told = container_repair.run(docker, "looper", False)
    note = f"what a dump had left was undone: {LOCK}"
    assert told == {"changed": True, "runs": True, "said": "runs on", "note": note}
    assert repaired == [ID]


def test_where_nothing_is_left_it_runs_on_as_before(docker, repaired):
    told = container_repair.run(docker, "looper", False)
    assert told == {"changed": False, "runs": True, "said": "runs on as before", "note": ""}


def test_what_is_left_still_is_a_failure(docker, repaired):
    repaired.outcome = Outcome(left=(str(LOCK),))
    with pytest.raises(MigrationError, match=r"looper runs on \(not as before, there still is CRIU's network lock in"):
        container_repair.run(docker, "looper", False)


@pytest.mark.parametrize(("filters", "note"), [((LOCK,), str(LOCK)), ((), "")])
def test_check_mode_only_looks(docker, repaired, monkeypatch, filters, note):
    monkeypatch.setattr(container_repair, "look", lambda _container: Found(filters=filters))
    told = container_repair.run(docker, "looper", True)
    assert told == {"changed": bool(filters), "runs": True, "said": "runs", "note": note}
    assert repaired == []


@pytest.mark.parametrize(
    ("name", "status", "said"), [("looper", "exited", "is exited"), ("another", "running", "is not here")]
)
def test_what_does_not_run_is_left_alone(docker, repaired, name, status, said):
    docker.state()["Status"] = status
    told = container_repair.run(docker, name, False)
    assert told == {"changed": False, "runs": False, "said": said, "note": ""}
    assert repaired == []


@pytest.mark.parametrize("role", ["source", "destination"])
def test_what_is_being_migrated_is_left_to_the_migration(docker, repaired, role):
    entry = {"id": "looper-1", "container": ID, "name": "looper", "source": "fog1", "destination": "fog2"}
    journal.open_entry({**entry, "role": role, "mode": "precopy", "directory": "/d"})
    if role == "destination":
        journal.note("looper-1", made={"container": ID})
    with pytest.raises(MigrationError) as failure:
        container_repair.run(docker, "looper", False)
    assert failure.value.state == "nothing was changed" and "recover.yml" in failure.value.remedy
    assert repaired == []
