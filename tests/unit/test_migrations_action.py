# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugins that ask agents for several migrations, in tasks of Ansible's own."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins.loader import connection_loader
from ansible.template import Templar

from ansible_collections.fog.migration.plugins.action import (
    container_checkpoint,
    container_restore,
    image_export,
    migration_journal,
)
from ansible_collections.fog.migration.plugins.plugin_utils import coordinator

MOVES = [{"id": "a-1", "source": "fog1", "destination": "fog2"}]
AGENTS = {"fog1": {}, "fog2": {}}
RUN = {"agents": AGENTS, "migrations": MOVES}


class Asked:
    """A coordinator that writes down what it is told to do."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


@pytest.fixture
def run(monkeypatch):
    """Runs the task of an action plugin; its result, and what it had done for the migrations."""

    def execute(plugin, check_mode=False, **args):
        asked = Asked()

        def coordinate(_action, _task_vars, options, work):
            work(asked)
            return {"changed": True, "migrations": options["migrations"], "together": options["all_or_none"]}

        monkeypatch.setattr(coordinator, "run", coordinate)
        task = Task()
        task.args, task.check_mode, task.async_val = args, check_mode, 0
        context = PlayContext()
        loader = DataLoader()
        action = plugin.ActionModule(
            task, connection_loader.get("local", context), context, loader, Templar(loader), None
        )
        monkeypatch.setattr(
            action, "_execute_module", lambda module_name, module_args, **_more: {"ran": (module_name, module_args)}
        )
        monkeypatch.setattr(action, "_remove_tmp_path", lambda _path: None)
        result = action.run(task_vars={"inventory_hostname": "fog1"})
        return result, asked.calls

    return execute


SETTINGS = {"compression": "none", "max_rounds": 3, "threshold": 2.5}


@pytest.mark.parametrize(
    ("plugin", "args", "call"),
    [
        (container_restore, {"state": "armed"}, ("arm",)),
        (container_checkpoint, {}, ("switch_over", 1)),
        (container_checkpoint, {"at_once": "3"}, ("switch_over", 3)),
        (migration_journal, {"state": "committed"}, ("commit",)),
        (migration_journal, {"state": "finished"}, ("finish",)),
    ],
)
def test_what_is_done_for_several_migrations(run, plugin, args, call):
    result, calls = run(plugin, **RUN, **args, all_or_none="yes")
    assert calls == [call]
    assert (result["changed"], result["migrations"], result["together"]) == (True, MOVES, True)


def test_what_a_reservation_is_told(run):
    _result, [(name, told)] = run(migration_journal, **RUN, state="reserved", settings=SETTINGS)
    assert name == "reserve"
    assert told.pop("limits") == {"rounds": 3, "threshold": 2.5, "shrink": 0.9}
    assert told == {
        "compression": "none",
        "directory": "/var/lib/fog-migration/checkpoints",
        "rate_limit": 0.0,
        "staging_limit": 0,
        "staging_directory": "/var/lib/fog-migration/staging",
        "restore_timeout": 600,
        "timeout": 3600,
    }


@pytest.mark.parametrize(
    ("plugin", "args"),
    [
        (container_restore, {}),
        (container_restore, {"state": "present"}),
        (container_restore, {"state": "armed", "path": "/srv/c1"}),
        (container_checkpoint, {"name": "c1"}),
        (container_checkpoint, {"at_once": "many"}),
        (migration_journal, {"state": "noted"}),
        (migration_journal, {"state": "reserved", "settings": {"rounds": 3}}),
        (migration_journal, {"state": "committed", "agents": None}),
    ],
)
def test_what_a_task_for_several_migrations_cannot_say(run, plugin, args):
    with pytest.raises(AnsibleError):
        run(plugin, **{**RUN, **args})


@pytest.mark.parametrize("moves", [MOVES, []])
def test_in_check_mode_nobody_is_asked(run, moves):
    result, calls = run(container_restore, check_mode=True, agents=AGENTS, migrations=moves, state="armed")
    assert calls == []
    assert (result["changed"], result["migrations"]) == (bool(moves), moves)


@pytest.mark.parametrize("plugin", [container_restore, container_checkpoint, image_export, migration_journal])
def test_without_migrations_the_module_is_run(run, plugin):
    result, calls = run(plugin, agents={}, path="/x")
    assert calls == []
    name = plugin.__name__.rpartition(".")[2]
    assert result["ran"] == (f"fog.migration.{name}", {"path": "/x"})


def test_a_journal_that_is_opened_knows_its_controller(run):
    result, _calls = run(migration_journal, state="open", id="a-1")
    _module, arguments = result["ran"]
    assert arguments["controller"]["pid"] and arguments["controller"]["started"]
    assert run(migration_journal, state="noted", id="a-1")[0]["ran"][1] == {"state": "noted", "id": "a-1"}


def test_a_reservation_without_settings_has_the_defaults(run):
    _result, [(_name, told)] = run(migration_journal, **RUN, state="reserved")
    assert told["limits"] == {"rounds": 10, "threshold": 1.0, "shrink": 0.9}
