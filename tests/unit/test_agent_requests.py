# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's side: how action plugins ask agents, and what they make of the answers."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.plugin_utils import agents, migrations_action
from ansible_collections.fog.migration.plugins.plugin_utils.agents import AgentError, NoAgent, Server
from ansible_collections.fog.migration.plugins.plugin_utils.migrations_action import ask_agent, own_agent

# An agent as far as a controller sees it: it answers with what it was sent.
ECHO = """
import json, sys
assert sys.argv[1:] == ["call"]
request = json.loads(sys.stdin.readline())
sys.stdout.write({before!r})
print(json.dumps({answer}))
sys.stdout.write({after!r})
"""


def done(out="", err="", rc=0):
    return {"stdout": out, "stderr": err, "rc": rc}


class Action:
    """An action plugin whose connection leads to this machine, or one that says what it is told to."""

    def __init__(self, says=None, **args):
        self.says = says
        self.commands = []
        self._connection = types.SimpleNamespace(get_option={"remote_user": "fog"}.__getitem__)
        self._task = types.SimpleNamespace(args=args, delegate_to=None, async_val=0, check_mode=False)

    def _low_level_execute_command(self, command, in_data=None):
        self.commands.append(command)
        if isinstance(self.says, Exception):
            raise self.says
        if self.says:
            return self.says
        ran = subprocess.run(["/bin/sh", "-c", command], input=in_data, capture_output=True, check=False)
        return done(ran.stdout.decode(), ran.stderr.decode(), ran.returncode)

    def arguments(self):
        return {name: value for name, value in self._task.args.items() if name != "agents"}


def agent_in(folder):
    return {"folder": str(folder), "python": sys.executable, "log": "/x.log"}


@pytest.fixture
def echo(tmp_path):
    """An agent in a folder with an odd name; what it answers is an expression about the request."""

    def made(answer, before="", after=""):
        folder = tmp_path / "agent's folder; $HOME"
        folder.mkdir(exist_ok=True)
        (folder / "connect.py").write_text(ECHO.format(answer=answer, before=before, after=after))
        return Server("fog1", Action(), agent_in(folder))

    return made


# One request


def test_a_request_and_its_answer(echo):
    server = echo('{"result": request, "steps": ["12:00:00.000 -: ping"]}')
    name = "a 'quoted'\nname \u2713"
    assert server.ask("ping", name=name) == {"operation": "ping", "arguments": {"name": name}}


@pytest.mark.parametrize(
    ("before", "after"),
    [("Welcome\n", ""), ('{"motd": 1}\n', ""), ("", "bye\n"), ("", "{}\n[]\n7\n{\n"), ("[[[\r\n", "\n\n")],
)
def test_a_login_shell_may_say_something_as_well(echo, before, after):
    assert echo('{"result": 7}', before, after).ask("ping") == 7


def test_a_failure_of_the_whole_request(echo):
    server = echo('{"failure": {"msg": "no SSH.", "state_now": "nothing was sent", "remedy": "mend that"}}')
    with pytest.raises(AgentError, match=r"^no SSH$") as failure:
        server.ask("reserve_destination")
    assert failure.value.details == {"state_now": "nothing was sent", "remedy": "mend that"}
    assert (failure.value.unreachable, isinstance(failure.value, NoAgent)) == (False, False)


def test_no_agent_is_told_apart(tmp_path):
    deploy.install_program(str(tmp_path), "agent.connect")
    with pytest.raises(NoAgent, match=r"^no agent runs there$"):
        Server("fog1", Action(), agent_in(tmp_path)).ask("ping")


def test_a_server_that_cannot_be_reached():
    error = AnsibleConnectionFailure("no route to host.")
    with pytest.raises(AgentError, match=r"no route to host$") as failure:
        Server("fog1", Action(error), agent_in("/x")).ask("ping")
    assert failure.value.unreachable


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (done(), "its agent gave no answer (it has ended)"),
        (done("{}\n[]"), "its agent gave no answer ([])"),
        (done("Welcome", "Traceback\nKeyError: 'x'\n", 1), "its agent gave no answer (KeyError: 'x')"),
        (done("", "sh: 1: python3: not found\n", 127), "its agent gave no answer (sh: 1: python3: not found)"),
    ],
)
def test_no_answer(says, why):
    with pytest.raises(AgentError) as failure:
        Server("fog1", Action(says), agent_in("/x")).ask("ping")
    assert str(failure.value) == why
    assert not isinstance(failure.value, NoAgent)


def test_the_user_of_the_connection():
    assert Server("fog1", Action(), agent_in("/x")).user == "fog"
    local = Action()
    local._connection = types.SimpleNamespace(get_option={}.__getitem__)
    assert Server("fog1", local, agent_in("/x")).user is None


# A module, in the agent or by itself

VARS = {"inventory_hostname": "fog1"}
AGENTS = {"fog1": agent_in("/one"), "fog2": agent_in("/two")}


def test_the_agent_on_the_host_of_the_task():
    action = Action(agents=AGENTS)
    assert own_agent(action, VARS).name == "fog1"
    action._task.delegate_to = "fog2"
    agent = own_agent(action, VARS)
    assert (agent.name, agent._agent) == ("fog2", AGENTS["fog2"])
    action._task.delegate_to = "fog3"
    assert own_agent(action, VARS) is None


def test_without_agents_the_module_is_run():
    assert own_agent(Action(), VARS) is None
    assert own_agent(Action(agents=None), VARS) is None
    action = Action(agents=AGENTS)
    action._task.async_val = 10
    assert own_agent(action, VARS) is None
    assert ask_agent(action, None, "fog.migration.image_export") is None


def test_an_agent_runs_the_module(echo):
    server = echo('{"result": request["arguments"]}')
    action = Action(agents=AGENTS, image="looper", layers=["a"])
    assert ask_agent(action, server, "fog.migration.image_export") == {
        "name": "image_export",
        "params": {"image": "looper", "layers": ["a"]},
    }


def test_in_check_mode_the_module_is_run(echo):
    action = Action(agents=AGENTS)
    action._task.check_mode = True
    server = Server("fog1", Action(ZeroDivisionError()), agent_in("/x"))
    assert ask_agent(action, server, "fog.migration.image_export") is None


def test_where_no_agent_runs_any_more_the_module_is_run():
    server = Server("fog1", Action(done("", "no agent answers", 3)), agent_in("/x"))
    assert ask_agent(Action(), server, "fog.migration.image_export") is None


@pytest.mark.parametrize(
    ("says", "word"), [(AnsibleConnectionFailure("no route"), "unreachable"), (done(rc=1), "failed")]
)
def test_what_may_have_been_done_is_not_done_again(says, word):
    result = ask_agent(Action(), Server("fog1", Action(says), agent_in("/x")), "fog.migration.image_export")
    assert result[word] is True
    assert result["msg"] and result["changed"] is False
    assert not {"failed", "unreachable"} - {word} & set(result)


def test_what_tasks_for_a_run_may_say():
    assert {name: one.get("required", False) for name, one in migrations_action.SPEC.items()} == {
        "agents": True,
        "migrations": True,
        "all_or_none": False,
    }


# The start of an agent without a module


def start(says):
    action = Action(says)
    return agents.start(action, "fog1", ["/usr/bin/python3", "python3"], "1", b"archive"), action


def test_an_agent_is_started_without_a_module():
    told = {"changed": True, "agent": agent_in("/x")}
    result, action = start(done("Welcome\n" + json.dumps(told) + "\n"))
    assert result == told
    assert action.commands[0].startswith("sh -c ") and action.commands[0].endswith(" 1 /usr/bin/python3 python3")


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (AnsibleConnectionFailure("no route"), "the connection was lost (no route)"),
        (done(), "it could not be started (no answer)"),
        (done("", "Traceback\nImportError: no\n", 1), "it could not be started (ImportError: no)"),
        (done("{ what a login shell may say\n{}\n7\n", "", 1), "it could not be started (no answer)"),
    ],
)
def test_an_agent_that_cannot_be_started(says, why):
    result, _action = start(says)
    word = "unreachable" if isinstance(says, AnsibleConnectionFailure) else "failed"
    assert result == {word: True, "msg": f"Migration agent on fog1: {why}"}


@pytest.mark.parametrize(
    ("said", "first"),
    [
        ({"ansible_python_interpreter": "/opt/python"}, ["/opt/python"]),
        ({"ansible_python_interpreter": "auto_silent", "ansible_interpreter_python_fallback": ["a", "b"]}, ["a", "b"]),
        ({"ansible_facts": {"discovered_interpreter_python": "/x"}, "ansible_interpreter_python_fallback": []}, ["/x"]),
    ],
)
def test_the_interpreter_is_the_one_that_ansible_would_use(said, first):
    assert agents.interpreters(said) == first


def test_there_is_no_interpreter():
    result = agents.start(Action(), "fog1", ["/no/python", "/nor/here"], "1", b"")
    why = "it could not be started (none of /no/python /nor/here is there)"
    assert result == {"failed": True, "msg": f"Migration agent on fog1: {why}"}


def test_the_program_that_starts_it_has_its_archive_and_leaves_nothing(tmp_path, monkeypatch):
    """The name of this run is none, so that nothing is started."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    result = agents.start(Action(), "fog1", ["/no/python", sys.executable], "no run", agents.packed())
    assert result["failed"]
    assert "'no run' is no name of a run" in result["msg"]
    assert list(tmp_path.iterdir()) == []


def test_an_agent_that_is_stopped(echo):
    server = echo('{"result": request["arguments"]}')
    assert agents.stop(server, agent_in("/x"), True) == {"changed": True, "agent": agent_in("/x")}
    gone = Server("fog1", Action(done(rc=3)), agent_in("/x"))
    assert agents.stop(gone, agent_in("/x"), True) == {"changed": False, "agent": agent_in("/x")}
