# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent runs in its own process is what the modules run: options, defaults, refusals, results."""

from __future__ import annotations

import ast
import copy
import importlib

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.fog.migration.plugins.doc_fragments import agents
from ansible_collections.fog.migration.plugins.module_utils.agent import operations
from ansible_collections.fog.migration.plugins.module_utils.docker import connection_options
from ansible_collections.fog.migration.plugins.module_utils.docker.options import DEFAULTS, OPTIONS
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, MigrationError
from ansible_collections.fog.migration.plugins.module_utils.operations import (
    checkpoint_transfer,
    for_agents,
    options,
    with_docker,
)
from ansible_collections.fog.migration.plugins.module_utils.operations.as_module import for_module
from ansible_collections.fog.migration.plugins.module_utils.request import Request
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport.ssh_connection import SendingFailed

PLUGINS = "ansible_collections.fog.migration.plugins"
JOURNAL = {"id": "looper-1", "state": "noted"}
OPENING = {
    "id": "looper-1",
    "state": "open",
    "role": "source",
    "container": "4f9d",
    "name": "looper",
    "source": "fog1",
    "destination": "fog2",
    "mode": "precopy",
}
CHECKPOINT = {"container": "looper", "name": "c1"}
OTHER = {"container": "two", "channel": "/run/two", "migration": "two-1"}
TRANSFER = {"path": "/srv/c1", "destination": "fog2"}
ACCEPTED = [
    ("container_checkpoint", CHECKPOINT),
    ("container_checkpoint", {**CHECKPOINT, "others": [OTHER, {**OTHER, "mode": "hybrid"}], "mounts": ["/data"]}),
    ("container_checkpoint", {**CHECKPOINT, "since": None, "channel": "/run/one", "docker_host": "unix:///run/d.sock"}),
    ("container_checkpoint", {"name": "c1", "state": "encrypted", "encryption_key": "a long enough key"}),
    ("container_restore", {"path": "/srv/c1"}),
    ("container_restore", {"path": "/srv/c1", "state": "armed", "restore_timeout": 7}),
    ("checkpoint_transfer", TRANSFER),
    ("checkpoint_transfer", {**TRANSFER, "live": {"container": "a", "armed": "b"}, "step": "open_channel"}),
    ("migration_journal", JOURNAL),
    ("migration_journal", OPENING),
    ("migration_journal", {**JOURNAL, "made": {"volumes": ["data"]}}),
    ("image_export", {"image": "looper:1.0", "path": "/root/looper.tar"}),
    ("image_load", {"image": "sha256:a", "path": "/root/looper.tar", "tags": ["looper:1.0"]}),
    ("image_load", {"image": "sha256:a", "digests": []}),
    ("network_create", {"networks": {"front": {"driver": "bridge"}}}),
    ("network_create", {"networks": {}, "judged": {"the network front": "a"}, "migration": "looper-1"}),
    ("server_info", {}),
    ("server_info", {"gather_subset": ["!all"], "containers": ["looper"], "peer_address": "10.0.0.2"}),
]
REFUSED = [
    ("container_checkpoint", {"name": "c1"}),
    ("container_checkpoint", {"container": "looper"}),
    ("container_checkpoint", {**CHECKPOINT, "state": "frozen"}),
    ("container_checkpoint", {**CHECKPOINT, "nmae": "c2"}),
    ("container_checkpoint", {**CHECKPOINT, "channel": "/run/one", "since": "/srv/c0"}),
    ("container_checkpoint", {**CHECKPOINT, "others": [{"container": "two", "channel": "/run/two"}]}),
    ("container_checkpoint", {**CHECKPOINT, "others": [{**OTHER, "mode": "cold"}]}),
    ("container_checkpoint", {**CHECKPOINT, "others": [{**OTHER, "nmae": "two"}]}),
    ("container_checkpoint", {"name": "c1", "state": "encrypted"}),
    ("container_restore", {}),
    ("checkpoint_transfer", {**TRANSFER, "live": {"container": "a"}}),
    ("migration_journal", {name: value for name, value in OPENING.items() if name != "mode"}),
    ("migration_journal", {**JOURNAL, "owner": "nobody"}),
    ("image_export", {"path": "/root/looper.tar"}),
    ("image_load", {"path": "/root/looper.tar"}),
    ("network_create", {"migration": "looper-1"}),
    ("network_create", {"networks": "front"}),
    ("server_info", {"peer_port": "ssh"}),
]


def spec_and_rules(name):
    operation = operations.OPERATIONS[name]()
    return operations.spec_of(operation), operation.rules


def validated(name, params):
    """What Ansible says of these parameters."""
    spec, rules = spec_and_rules(name)
    return ArgumentSpecValidator(copy.deepcopy(spec), **rules).validate(copy.deepcopy(params))


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_every_operation_is_tried_here(name):
    assert name in {one for one, _params in ACCEPTED} & {one for one, _params in REFUSED}


@pytest.mark.parametrize(("name", "params"), ACCEPTED)
def test_defaults_are_those_of_ansible(name, params):
    expected = validated(name, {key: value for key, value in params.items() if value is not None})
    assert expected.error_messages == []
    before = copy.deepcopy(params)
    spec, rules = spec_and_rules(name)
    assert options.complete(spec, params, rules) == expected.validated_parameters
    assert params == before


@pytest.mark.parametrize(("name", "params"), REFUSED)
def test_what_ansible_refuses_is_refused(name, params):
    assert validated(name, params).error_messages
    result = operations.run(name, params, check_mode=True)
    assert result["failed"]
    assert result["msg"].startswith(f"{name}: ")


def test_defaults_are_not_shared():
    spec, rules = spec_and_rules("image_export")
    given = {"image": "looper", "path": "/root/looper.tar"}
    options.complete(spec, given, rules)["layers"].append("sha256:a")
    assert options.complete(spec, given, rules)["layers"] == []


AS_TEXT = [
    ("container_checkpoint", {**CHECKPOINT, "container": 100, "force": "yes", "leave_running": "False"}),
    ("container_checkpoint", {**CHECKPOINT, "checkpoint_timeout": "60", "log": 1, "mounts": "/data,/srv"}),
    ("container_checkpoint", {**CHECKPOINT, "directory": "~/checkpoints", "since": "$HOME/c0", "mounts": [1, "/data"]}),
    ("container_checkpoint", {**CHECKPOINT, "checkpoint_timeout": 60.0, "debug": "Off", "tls": "t"}),
    ("checkpoint_transfer", {**TRANSFER, "rate_limit": "2.5", "dest_port": "22", "compression_level": 3.0}),
    ("checkpoint_transfer", {**TRANSFER, "rate_limit": 2, "live": '{"container": "a", "armed": "b", "memory": "7"}'}),
    ("image_export", {"image": "looper", "path": "/root/looper.tar", "layers": "sha256:a"}),
]


@pytest.mark.parametrize(("name", "params"), AS_TEXT)
def test_what_comes_as_text_is_converted_as_ansible_does(name, params):
    expected = validated(name, params)
    assert expected.error_messages == []
    spec, rules = spec_and_rules(name)
    filled = options.complete(spec, params, rules)
    assert filled == expected.validated_parameters
    assert {key: type(one) for key, one in filled.items()} == {
        key: type(one) for key, one in expected.validated_parameters.items()
    }


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("container_checkpoint", {"force": "perhaps"}),
        ("container_checkpoint", {"force": []}),
        ("container_checkpoint", {"checkpoint_timeout": "soon"}),
        ("container_checkpoint", {"checkpoint_timeout": 1.5}),
        ("container_checkpoint", {"checkpoint_timeout": [1]}),
        ("container_checkpoint", {"mounts": {"/data": True}}),
        ("container_checkpoint", {"others": ["two"]}),
        ("checkpoint_transfer", {**TRANSFER, "rate_limit": "fast"}),
        ("checkpoint_transfer", {**TRANSFER, "live": "yes"}),
        ("checkpoint_transfer", {**TRANSFER, "live": ["a"]}),
    ],
)
def test_what_is_of_another_type_is_refused(name, wrong):
    given = wrong if name == "checkpoint_transfer" else {**CHECKPOINT, **wrong}
    assert validated(name, given).error_messages
    result = operations.run(name, given, check_mode=True)
    assert result["failed"]
    assert ", which is no " in result["msg"]


def test_options_have_their_other_names():
    spec, rules = spec_and_rules("container_checkpoint")
    filled = options.complete(spec, {"container": "looper", "checkpoint": "c1", "docker_url": "tcp://fog1"}, rules)
    assert (filled["name"], filled["docker_host"]) == ("c1", "tcp://fog1")
    assert "checkpoint" not in filled


@pytest.mark.parametrize(
    ("given", "host"),
    [({}, "tcp://fog1"), ({"docker_host": "tcp://fog2"}, "tcp://fog2"), ({"docker_url": "tcp://fog3"}, "tcp://fog3")],
)
def test_the_environment_says_where_docker_is(monkeypatch, given, host):
    seen = []
    operation = with_docker.with_docker("Image", {}, lambda request: seen.append(request.params) or {})
    monkeypatch.setitem(operations.OPERATIONS, "image_export", lambda: operation)
    monkeypatch.setenv("DOCKER_HOST", "tcp://fog1")
    monkeypatch.setenv("DOCKER_TIMEOUT", "7")
    operations.run("image_export", given, check_mode=True)
    assert (seen[0]["docker_host"], seen[0]["timeout"]) == (host, 7)


def told_of(option):
    """What a documentation and a specification both tell of an option."""
    facts = {key: option.get(key) for key in ("type", "default", "choices", "elements", "aliases")}
    return {**facts, "required": option.get("required", False)}


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_a_module_documents_the_options_of_its_operation(name):
    module = importlib.import_module(f"ansible_collections.fog.migration.plugins.modules.{name}")
    documentation = yaml.safe_load(module.DOCUMENTATION)
    spec, _rules = for_module(operations.OPERATIONS[name]())
    fragments = {"fog.migration.agents": for_agents.AGENTS, "fog.migration.agents.run": for_agents.RUN}
    named = [fragments[one] for one in documentation["extends_documentation_fragment"] if one in fragments]
    elsewhere = {option for fragment in named for option in fragment}
    assert elsewhere <= set(spec)
    assert {key: told_of(one) for key, one in documentation["options"].items()} == {
        key: told_of(one) for key, one in spec.items() if key not in elsewhere
    }


@pytest.mark.parametrize("fragment", ["DOCUMENTATION", "RUN"])
def test_the_options_for_agents_are_documented(fragment):
    documented = yaml.safe_load(getattr(agents.ModuleDocFragment, fragment))["options"]
    assert {key: told_of(one) for key, one in documented.items()} == {
        key: told_of(one) for key, one in for_agents.RUN.items() if (key == "agents") == (fragment == "DOCUMENTATION")
    }


# What a module can be told, and an operation cannot


def of_module(name):
    return for_module(operations.OPERATIONS[name]())


@pytest.mark.parametrize("name", operations.OPERATIONS)
def test_a_module_takes_all_that_its_operation_takes(name):
    operation = operations.OPERATIONS[name]()
    before = copy.deepcopy(operation.spec), copy.deepcopy(operation.rules)
    spec, rules = for_module(operation)
    assert set(spec) == set(operation.spec) | set(operation.for_agents)
    assert not set(operation.spec) & set(operation.for_agents)
    assert {key: rules[key] for key in operation.rules} == operation.rules
    assert (operation.spec, operation.rules) == before


def accepted(name, params):
    spec, rules = of_module(name)
    return not ArgumentSpecValidator(copy.deepcopy(spec), **rules).validate(copy.deepcopy(params)).error_messages


@pytest.mark.parametrize(
    ("name", "params", "possible"),
    [
        ("container_restore", {"path": "/srv/c1"}, True),
        ("container_restore", {}, False),
        ("container_restore", {"migrations": []}, True),
        ("container_restore", {"agents": {}}, False),
        ("container_checkpoint", {"name": "c1"}, False),
        ("container_checkpoint", {"container": "looper", "name": "c1"}, True),
        ("migration_journal", {"id": "looper-1", "state": "noted"}, True),
        ("migration_journal", {"state": "noted"}, False),
        ("migration_journal", {"migrations": [], "state": "reserved", "settings": {"max_rounds": 3}}, True),
        ("migration_journal", {"migrations": [], "state": "gone"}, False),
        ("image_export", {"image": "x", "path": "/x", "agents": {}}, True),
        ("image_export", {"image": "x"}, False),
        ("image_export", {"image": "x", "path": "/x", "migrations": []}, False),
    ],
)
def test_what_a_module_cannot_do_without_a_task_for_several_can(name, params, possible):
    assert accepted(name, params) is possible


@pytest.mark.parametrize(
    ("name", "params"), [("image_export", {"agents": {}}), ("container_restore", {"migrations": []})]
)
def test_the_agent_itself_is_not_told_of_agents(name, params):
    assert "there is no option" in operations.run(name, params, check_mode=True)["msg"]


def test_a_module_connects_with_the_same_options():
    assert {name: dict(one, fallback=None) for name, one in connection_options.CONNECTION_SPEC.items()} == {
        name: dict(one, fallback=None) for name, one in OPTIONS.items()
    }


def test_the_agent_needs_no_ansible():
    texts = deploy.sources("agent.operations")
    assert {f"operations.{name}" for name in operations.OPERATIONS} <= set(texts)
    nodes = [node for text in texts.values() for node in ast.walk(ast.parse(text))]
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "docker" in imported
    assert [name for name in imported if name.split(".")[0] == "ansible"] == []


def test_an_unknown_module_is_refused():
    assert operations.run("criu_info", {}, False) == {
        "changed": False,
        "failed": True,
        "msg": "the agent runs no module criu_info",
        "warnings": [],
    }


# Results and failures


@pytest.fixture
def asked(monkeypatch):
    """Runs an operation that does what a function says, as if it were the module image_export."""

    def ask(function):
        operation = with_docker.with_docker("Image", {}, function, state="nothing was changed")
        monkeypatch.setitem(operations.OPERATIONS, "image_export", lambda: operation)
        return operations.run("image_export", {}, check_mode=True)

    return ask


def test_a_result_comes_with_its_warnings(asked):
    def work(request):
        assert request.check_mode
        assert request.params == DEFAULTS
        request.warn("one thing")
        return {"changed": True, "size": 7}

    assert asked(work) == {"changed": True, "size": 7, "warnings": ["one thing"]}


def test_a_refusal_is_told_as_the_module_tells_it(asked):
    def work(_request):
        raise MigrationError("it cannot be", "nothing was changed", "leave it", criu_log=["line"])

    result = asked(work)
    assert result["msg"].startswith("Image on ")
    assert result["msg"].endswith(": it cannot be; nothing was changed; leave it.")
    assert (result["failed"], result["criu_log"], result["stage"]) == (True, ["line"], "Image")


def test_a_failure_of_the_api_is_one_sentence(asked):
    def work(_request):
        raise OSError("no such\n daemon.")

    assert asked(work)["msg"].endswith(": no such daemon; nothing was changed.")


def test_what_nobody_expects_is_not_hidden(asked):
    with pytest.raises(ZeroDivisionError):
        asked(lambda _request: 1 // 0)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (SendingFailed("it did not arrive", {"attempts": 3}), {"msg": "it did not arrive", "attempts": 3}),
        (Interrupted("the other end went away"), {"msg": "the other end went away"}),
        (MigrationError("no checkpoint", "nothing was sent"), {"msg": "no checkpoint"}),
        (FileNotFoundError(2, "No such file", "/srv/c1/a"), {"msg": "No such file: /srv/c1/a"}),
        (OSError("odd"), {"msg": "odd: /srv/c1"}),
    ],
)
def test_how_a_transfer_fails(error, result):
    assert isinstance(error, checkpoint_transfer.FAILURES)
    assert checkpoint_transfer.explain(error, Request(TRANSFER | {"path": "/srv/c1"}, False, print, 0.0)) == result


def test_a_transfer_needs_its_action_plugin():
    assert operations.run("checkpoint_transfer", TRANSFER, False)["msg"] == (
        "checkpoint_transfer needs its action plugin on the controller; nothing was done."
    )
