# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the coordinator asks of both servers, and what becomes of migrations when they fail."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.filter.migration_plan import failed_migrations
from ansible_collections.fog.migration.plugins.plugin_utils import coordinator
from ansible_collections.fog.migration.plugins.plugin_utils._peer import PeerError
from ansible_collections.fog.migration.plugins.plugin_utils.agents import AgentError, NoAgent
from ansible_collections.fog.migration.plugins.plugin_utils.coordinator import Coordinator
from ansible_collections.fog.migration.plugins.plugin_utils.failures import Failure
from ansible_collections.fog.migration.plugins.plugin_utils.run_migration import RunMigration

NO_ROOM = {"msg": "no room", "state_now": "nothing was changed", "remedy": "make some"}
LOST = AgentError("Connection reset by peer", unreachable=True)
ACCESS = {"user": "fog", "host_keys": ["ssh-ed25519 AAAA"], "sessions": 10}
COPIED = {"ended": "it was enough", "sent": 3000, "saved": 10, "rounds": [{"bytes_sent": 3000}], "tracked": True}
STAGING = {"kind": "memory", "why_not_memory": None}


def progress(clock=1.0, done=1 << 20):
    return {"ended": "", "round": 2, "bytes": 2 << 20, "done": done, "sent": done, "clock": clock}


# What a server answers for each migration when nothing is wrong.
FINE = {
    "reserve_source": {"staging": STAGING},
    "reserve_destination": {"staging": STAGING},
    "arm": {"container": "c0ffee"},
    "copy": {},
    "progress": COPIED,
    "switch_over": {"seconds": {"downtime": 0.3}},
    "verify": {"runs": True, "id": "c0ffee", "state": "running", "health": None},
    "commit": {},
    "finish": {"said": "is gone"},
}
# What it answers besides.
BESIDES = {"reserve_source": {"public_key": "ssh-ed25519 BBBB"}, "reserve_destination": ACCESS}


class Servers:
    """Both servers, which answer from a script and write down what they are asked.

    The script has, by operation or by server and operation, a list of what happens one time after the other: an
    exception for a request that fails as a whole, or by migration its result, or its failure (which has C(msg)).
    """

    def __init__(self):
        self.script = {}
        self.asked = []
        self.arguments = {}
        self.closed = 0

    def server(self, name, _action, agent):
        return Server(self, name, agent)

    def requests(self):
        return [f"{name} {operation} {' '.join(identities)}" for name, operation, identities in self.asked]

    def told(self, name, operation, migrations):
        steps = self.script.get(f"{name} {operation}", self.script.get(operation, []))
        special = (steps.pop(0) if len(steps) > 1 else steps[0]) if steps else {}
        if isinstance(special, Exception):
            raise special
        answer = {}
        for one in migrations:
            each = special.get(one["id"][0], FINE[operation])
            if each is not None:
                answer[one["id"]] = {"failure": each} if "msg" in each else {"result": each}
        return answer


class Server:
    user = "fog"

    def __init__(self, servers, name, agent):
        self.servers, self.name = servers, name
        assert agent["folder"] == f"/run/{name}"

    def ask(self, operation, migrations, **arguments):
        self.servers.asked.append((self.name, operation, [one["id"] for one in migrations]))
        self.servers.arguments[self.name, operation] = dict(arguments, migrations=migrations)
        told = self.servers.told(self.name, operation, migrations)
        besides = BESIDES.get(operation)
        return dict(besides, migrations=told) if besides else told


VARIABLES = {"ansible_host": "192.0.2.7", "ansible_port": "2222"}


class Peer:
    """The destination of the inventory."""

    servers = None
    variables = VARIABLES

    def __init__(self, _action, name, _task_vars):
        if name == "nowhere":
            raise PeerError("nowhere is not in the inventory")
        self.action = None

    def variable(self, name, default=None):
        return self.variables.get(name, default)

    def close(self):
        self.servers.closed += 1


@pytest.fixture
def servers(monkeypatch):
    made = Servers()
    monkeypatch.setattr(coordinator, "Server", made.server)
    monkeypatch.setattr(coordinator, "Peer", Peer)
    monkeypatch.setattr(Peer, "servers", made)
    return made


@pytest.fixture
def lines(monkeypatch):
    """What is displayed."""
    shown = []
    monkeypatch.setattr(coordinator.Display, "display", lambda _self, text, **_more: shown.append(text))
    return shown


ORDER = {"place": "/data", "type": "volume", "name": "data", "path": "/v/data"}


def move(name, **more):
    return {
        "id": f"{name}-1",
        "container": name,
        "container_id": f"id-{name}",
        "name": name,
        "source": "fog1",
        "destination": "fog2",
        "mode": "precopy",
        "lazily": True,
        "mounts": [],
        "log": False,
        "judged": {},
        "networks": {},
        "memory": 1000,
        "shared": 0,
        "together": [],
        "clock": {"start": 1.0},
        "image": {"image": "x"},
        "failure": None,
        **more,
    }


def reserved(name, **more):
    """A migration after the reservation."""
    return move(name, **{"staging": {"source": STAGING, "destination": STAGING}, "access": ACCESS, **more})


def failed(name, **more):
    return reserved(name, failure={"stage": "Reservation", "host": "fog2", "msg": "no"}, **more)


def run(work, *moves, all_or_none=False):
    agents = {name: {"folder": f"/run/{name}", "python": "/usr/bin/python3"} for name in ("fog1", "fog2")}
    options = {"agents": agents, "migrations": list(moves), "all_or_none": all_or_none}
    return coordinator.run(None, {}, options, work)


def reserve(one):
    one.reserve({"timeout": 60})


def switch_over(one):
    one.switch_over(2)


# By what each task does: its stage, what it asks, in order, and the end that it notes.
TASKS = {
    "reserve": (reserve, ["fog1 reserve_source", "fog2 reserve_destination"], None, "Reservation"),
    "arm": (Coordinator.arm, ["fog1 arm"], "reservation", "Reservation"),
    "copy": (Coordinator.copy, ["fog1 copy", "fog1 progress"], "pre-copy", "Pre-copy"),
    "switch_over": (switch_over, ["fog1 switch_over"], "stop-and-copy", "Stop-and-copy"),
    "commit": (Coordinator.commit, ["fog2 verify", "fog1 commit"], "commitment", "Commitment"),
}
REQUESTS = [(task, number) for task, (_work, asked, _end, _stage) in TASKS.items() for number in range(len(asked))]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("all_or_none", [True, False])
def test_a_task_asks_for_all(servers, task, all_or_none):
    work, asked, end, _stage = TASKS[task]
    before = [reserved("a"), reserved("b")]
    result = run(work, *before, all_or_none=all_or_none)
    assert servers.requests() == [f"{request} a-1 b-1" for request in asked]
    assert result["changed"] and "failed" not in result
    assert [one["failure"] for one in result["migrations"]] == [None, None]
    assert all((end in one["clock"]) == bool(end) for one in result["migrations"])
    assert servers.closed == 1
    # What came with the task is as it was.
    assert before == [reserved("a"), reserved("b")]


@pytest.mark.parametrize(("task", "number"), REQUESTS)
@pytest.mark.parametrize("all_or_none", [True, False])
def test_a_lost_connection_fails_all_that_were_asked_for(servers, task, number, all_or_none):
    work, asked, end, stage = TASKS[task]
    host, operation = asked[number].split()
    servers.script[operation] = [LOST]
    result = run(work, reserved("a"), reserved("b"), all_or_none=all_or_none)
    assert servers.requests() == [f"{request} a-1 b-1" for request in asked[: number + 1]]
    failure = {"stage": stage, "host": host, "msg": "the connection was lost (Connection reset by peer)"}
    assert [one["failure"] for one in result["migrations"]] == [failure, failure]
    assert result["failed"]
    assert result["msg"] == f"{stage} on {host}: the connection was lost (Connection reset by peer)"
    assert not any(end in one["clock"] for one in result["migrations"])


@pytest.mark.parametrize(("task", "number"), REQUESTS)
def test_one_that_fails_does_not_stop_the_others(servers, task, number):
    work, asked, end, stage = TASKS[task]
    host, operation = asked[number].split()
    servers.script[operation] = [{"a": NO_ROOM}]
    result = run(work, reserved("a"), reserved("b"))
    assert servers.requests() == [
        *(f"{request} a-1 b-1" for request in asked[: number + 1]),
        *(f"{request} b-1" for request in asked[number + 1 :]),
    ]
    a, b = result["migrations"]
    assert a["failure"] == {**NO_ROOM, "stage": stage, "host": host}
    assert b["failure"] is None
    assert end not in a["clock"]
    assert (end in b["clock"]) == bool(end)
    assert result["changed"] and "failed" not in result


@pytest.mark.parametrize(("task", "number"), REQUESTS)
def test_one_that_fails_stops_those_that_do_not_go_without_it(servers, task, number):
    work, asked, end, stage = TASKS[task]
    host, operation = asked[number].split()
    servers.script[operation] = [{"b": NO_ROOM}]
    result = run(work, reserved("a"), reserved("b"), all_or_none=True)
    # Nobody is asked for the others any more.
    assert servers.requests() == [f"{request} a-1 b-1" for request in asked[: number + 1]]
    assert result["failed"]
    assert result["msg"] == f"{stage} on {host}: no room; nothing was changed; make some"
    assert [one["id"] for one in result["migrations"]] == ["a-1", "b-1"]
    assert not any(end in one["clock"] for one in result["migrations"])
    ended = failed_migrations(result["migrations"], result["msg"])
    assert ended[0]["failure"] == {"sentence": "a does not move without b"}
    assert ended[1]["failure"] == {**NO_ROOM, "stage": stage, "host": host}


@pytest.mark.parametrize(("task", "number"), REQUESTS)
def test_all_or_none_of_one_is_that_one(servers, task, number):
    work, asked, _end, _stage = TASKS[task]
    servers.script[asked[number].split()[1]] = [{"a": NO_ROOM}]
    assert run(work, reserved("a"), all_or_none=True)["failed"]


@pytest.mark.parametrize("task", TASKS)
def test_nobody_is_asked_when_all_have_failed(servers, task):
    result = run(TASKS[task][0], failed("a"), failed("b"))
    assert servers.asked == []
    assert result["failed"]
    assert result["msg"] == "Reservation on fog2: no"


@pytest.mark.parametrize("task", TASKS)
def test_those_that_have_failed_before_are_left_alone(servers, task):
    work, asked, end, _stage = TASKS[task]
    result = run(work, failed("a"), reserved("b"))
    assert servers.requests() == [f"{request} b-1" for request in asked]
    assert result["migrations"][0] == failed("a")
    assert end is None or end in result["migrations"][1]["clock"]


@pytest.mark.parametrize("task", TASKS)
def test_an_agent_that_says_nothing_of_one(servers, task):
    work, asked, _end, stage = TASKS[task]
    host, operation = asked[0].split()
    servers.script[operation] = [{"a": None}]
    result = run(work, reserved("a"), reserved("b"))
    assert result["migrations"][0]["failure"] == {"stage": stage, "host": host, "msg": "its agent said nothing of it"}


def test_an_agent_that_refuses_the_whole_request(servers):
    servers.script["reserve_destination"] = [AgentError("no SSH host keys can be read in /etc/ssh")]
    result = run(reserve, move("a"))
    assert result["msg"] == "Reservation on fog2: no SSH host keys can be read in /etc/ssh"
    servers.script["reserve_destination"] = [NoAgent("no agent runs there")]
    assert run(reserve, move("a"))["msg"] == "Reservation on fog2: no agent runs there"


def test_an_agent_that_refuses_the_whole_request_says_how_things_are(servers):
    details = {"state_now": "the container is frozen", "remedy": "resume it", "container_state": "frozen"}
    servers.script["switch_over"] = [AgentError("the dump failed", **details)]
    result = run(switch_over, reserved("a"), reserved("b"), all_or_none=True)
    failure = {"stage": "Stop-and-copy", "host": "fog1", "msg": "the dump failed", **details}
    assert [one["failure"] for one in result["migrations"]] == [failure] * 2
    assert result["msg"] == "Stop-and-copy on fog1: the dump failed; the container is frozen; resume it"


# The whole task


def test_no_migrations_are_nothing_to_do(servers):
    assert run(reserve) == {"changed": False, "migrations": []}
    assert (servers.asked, servers.closed) == ([], 0)


def test_a_destination_that_is_not_there(servers):
    moves = [move("a", destination="nowhere")]
    result = run(reserve, *moves)
    assert result == {
        "failed": True,
        "msg": "the destination cannot be used: nowhere is not in the inventory",
        "migrations": moves,
    }


LEARNT = {"transfer": {"rounds": []}, "checkpoint": {"seconds": {}}, "container_there": "c0ffee", "left": {}}


@pytest.mark.parametrize(
    "one",
    [
        move("a"),
        move("a", lines=["ok"], outcome="it runs on", moved=False, image_way={"way": "there"}),
        reserved("a", **LEARNT),
        failed("a", left={"fog1": {"stage": "Activation", "host": "fog1", "msg": "no"}}),
    ],
)
def test_a_migration_goes_from_task_to_task_as_it_is(one):
    assert RunMigration.from_json(one).to_json() == one


@pytest.mark.parametrize(
    ("more", "gone", "what"),
    [
        ({}, "container_id", "the migration a-1 has no container_id"),
        ({}, "clock", "the migration a-1 has no clock"),
        ({"mode": "cold"}, "", "the migration a-1 has 'cold' as its mode"),
    ],
)
def test_a_migration_that_cannot_be_used_is_refused(servers, more, gone, what):
    migrations = [{name: value for name, value in move("a", **more).items() if name != gone}]
    assert run(reserve, *migrations) == {"failed": True, "msg": what, "migrations": migrations}
    assert (servers.asked, servers.closed) == ([], 0)


def test_a_server_without_an_agent(servers):
    assert run(reserve, move("a", source="fog3"))["failed"]
    assert servers.asked == []


def test_the_connection_is_closed_whatever_happens(servers):
    def work(_coordinator):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(work, move("a"))
    assert servers.closed == 1


# Stage 1


def test_what_a_reservation_tells_the_servers(servers):
    (one,) = run(reserve, move("a"))["migrations"]
    assert one["staging"] == {"source": STAGING, "destination": STAGING}
    assert one["access"] == ACCESS
    here, there = (
        servers.arguments[request] for request in (("fog1", "reserve_source"), ("fog2", "reserve_destination"))
    )
    assert there.pop("public_key") == "ssh-ed25519 BBBB"
    assert here == there
    assert (here["user"], here["timeout"]) == ("fog", 60)
    assert here["controller"]["started"]
    (told,) = here["migrations"]
    assert set(told) == {
        "id", "container", "container_id", "name", "source", "destination", "mode", "lazily", "mounts", "log",
        "judged", "networks", "memory", "shared", "together",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "address", "port"),
    [
        (VARIABLES, "192.0.2.7", 2222),
        ({}, "fog2", 22),
        ({"ansible_port": 2222}, "fog2", 2222),
        ({**VARIABLES, "fog_address": "198.51.100.7"}, "198.51.100.7", 22),
        ({**VARIABLES, "fog_address": "198.51.100.7", "fog_port": "2200"}, "198.51.100.7", 2200),
        ({**VARIABLES, "fog_port": 2200}, "192.0.2.7", 2200),
    ],
)
def test_where_the_source_finds_the_destination(servers, monkeypatch, variables, address, port):
    monkeypatch.setattr(Peer, "variables", variables)
    (one,) = run(Coordinator.arm, reserved("a"))["migrations"]
    assert one["container_there"] == "c0ffee"
    assert servers.arguments["fog1", "arm"]["destination"] == {
        **ACCESS,
        "name": "fog2",
        "address": address,
        "port": port,
    }


# Stage 2


def test_progress_is_told_until_the_last_one_has_ended(servers, lines):
    servers.script["progress"] = [
        {"a": progress(), "b": COPIED},
        {"a": progress(1.5, 2 << 20), "b": COPIED},
        {"a": COPIED, "b": COPIED},
    ]
    a, b = run(Coordinator.copy, reserved("a"), reserved("b"))["migrations"]
    assert servers.requests() == ["fog1 copy a-1 b-1", *["fog1 progress a-1 b-1"] * 3]
    assert lines == [
        "  fog1 -> fog2: round 2, 50 % of 2.0 MiB  a",
        "  fog1 -> fog2: round 2, 100 % of 2.0 MiB, 2.0 MiB/s  a",
    ]
    for one in (a, b):
        told = one["transfer"]
        assert (told["bytes_sent"], told["rounds"], told["tracked"]) == (3000, COPIED["rounds"], True)
        assert (told["rounds_ended"], told["compression"]) == ("it was enough", "zlib")
        assert told["rate"] > 0
    assert b["transfer"]["seconds"] <= a["transfer"]["seconds"]


def test_without_anything_to_copy_nobody_is_asked(servers):
    (one,) = run(Coordinator.copy, reserved("a", mode="postcopy"))["migrations"]
    assert servers.asked == []
    assert (one["transfer"]["rounds"], one["transfer"]["compression"]) == ([], "none")
    assert one["transfer"]["staging"] == one["staging"]
    assert "pre-copy" in one["clock"]


@pytest.mark.parametrize(
    "more", [{"mode": "hybrid"}, {"mode": "postcopy", "mounts": [ORDER]}, {"mode": "postcopy", "log": True}]
)
def test_what_is_copied_beforehand(servers, more):
    run(Coordinator.copy, reserved("a", **more))
    assert servers.requests() == ["fog1 copy a-1", "fog1 progress a-1"]


def test_one_that_fails_after_its_end_does_not_end_the_waiting_for_the_others(servers):
    servers.script["progress"] = [
        {"a": COPIED, "b": progress()},
        {"a": NO_ROOM, "b": progress()},
        {"b": progress()},
        {"b": COPIED},
    ]
    a, b = run(Coordinator.copy, reserved("a"), reserved("b"))["migrations"]
    assert servers.requests()[3:] == ["fog1 progress b-1"] * 2
    assert a["failure"]["msg"] == "no room"
    assert b["transfer"]["rounds_ended"] == "it was enough"


# Stage 3


@pytest.mark.parametrize("all_or_none", [True, False])
def test_how_they_are_frozen(servers, all_or_none):
    result = run(switch_over, reserved("a"), reserved("b"), all_or_none=all_or_none)
    assert [one["checkpoint"] for one in result["migrations"]] == [{"seconds": {"downtime": 0.3}}] * 2
    told = servers.arguments["fog1", "switch_over"]
    assert (told["together"], told["at_once"]) == (all_or_none, 2)


# Stage 4

UNFIT = {"runs": False, "id": "c0ffee", "state": "exited", "health": None}


def test_one_that_is_unfit_is_rejected(servers):
    servers.script["verify"] = [{"a": UNFIT}]
    a, b = run(Coordinator.commit, dict(reserved("a"), name="new"), reserved("b"))["migrations"]
    assert a["failure"] == {
        "stage": "Commitment",
        "host": "fog2",
        "msg": "the container new was restored but does not run any more or is not healthy",
        "rejected": True,
    }
    assert b["failure"] is None
    assert servers.requests() == ["fog2 verify a-1 b-1", "fog1 commit b-1"]


def test_one_that_is_unfit_rejects_all_that_move_together(servers):
    servers.script["verify"] = [{"a": UNFIT, "c": UNFIT}]
    result = run(Coordinator.commit, reserved("a"), reserved("b"), reserved("c"), all_or_none=True)
    assert result["failed"]
    assert result["msg"].startswith("Commitment on fog2: the container a, c was restored but")
    assert [one["failure"]["rejected"] for one in result["migrations"]] == [True] * 3
    # The source is not told to let go of any of them.
    assert servers.requests() == ["fog2 verify a-1 b-1 c-1"]


def test_none_is_committed_where_one_of_them_could_not_be_looked_at(servers):
    servers.script["verify"] = [{"a": NO_ROOM}]
    result = run(Coordinator.commit, reserved("a"), reserved("b"), all_or_none=True)
    assert servers.requests() == ["fog2 verify a-1 b-1"]
    # That it could not be looked at does not say that it is unfit.
    assert not any((one["failure"] or {}).get("rejected") for one in result["migrations"])


# Stage 5


@pytest.mark.parametrize("all_or_none", [True, False])
def test_the_source_finishes_first(servers, all_or_none):
    result = run(Coordinator.finish, reserved("a"), reserved("b"), all_or_none=all_or_none)
    assert servers.requests() == ["fog1 finish a-1 b-1", "fog2 finish a-1 b-1"]
    assert [(one["left"], one["failure"]) for one in result["migrations"]] == [({}, None)] * 2
    assert all("activation" in one["clock"] for one in result["migrations"])


@pytest.mark.parametrize("all_or_none", [True, False])
def test_the_destination_keeps_what_the_source_could_not_finish(servers, all_or_none):
    servers.script["fog1 finish"] = [{"a": NO_ROOM}]
    result = run(Coordinator.finish, reserved("a"), reserved("b"), all_or_none=all_or_none)
    assert servers.requests() == ["fog1 finish a-1 b-1", "fog2 finish b-1"]
    a, b = result["migrations"]
    assert a["left"] == {"fog1": {**NO_ROOM, "stage": "Activation", "host": "fog1"}}
    assert b["left"] == {}
    # They have moved, whatever is left.
    assert "failed" not in result and a["failure"] is None
    assert "activation" in a["clock"]


def test_what_the_destination_could_not_finish_is_left(servers):
    servers.script["fog2 finish"] = [{"b": NO_ROOM}]
    result = run(Coordinator.finish, reserved("a"), reserved("b"))
    assert [list(one["left"]) for one in result["migrations"]] == [[], ["fog2"]]
    assert "failed" not in result


@pytest.mark.parametrize(("host", "asked"), [("fog1", ["fog1"]), ("fog2", ["fog1", "fog2"])])
def test_a_connection_that_is_lost_at_the_end(servers, host, asked):
    servers.script[f"{host} finish"] = [LOST]
    result = run(Coordinator.finish, reserved("a"), reserved("b"))
    assert servers.requests() == [f"{one} finish a-1 b-1" for one in asked]
    assert [list(one["left"]) for one in result["migrations"]] == [[host], [host]]
    assert result["changed"] and "failed" not in result


# Sentences


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        ({"stage": "Pre-copy", "host": "fog1", "msg": "no room."}, "Pre-copy on fog1: no room"),
        ({"stage": "Pre-copy", "host": "fog1", **NO_ROOM}, "Pre-copy on fog1: no room; nothing was changed; make some"),
        ({"stage": "Pre-copy", "host": "fog1", "msg": "no", "state_now": "", "remedy": "x"}, "Pre-copy on fog1: no; x"),
        (
            {"stage": "Arm", "host": "fog1", "msg": "no", "criu_log": ["a"], "container_state": "runs"},
            "Arm on fog1: no",
        ),
        ({"sentence": "Image on fog2: no room", "rejected": False}, "Image on fog2: no room"),
    ],
)
def test_a_failure_is_one_sentence(failure, text):
    assert Failure.from_json(failure).in_words() == text
    assert Failure.from_json(failure).to_json() == failure


def test_works_at_the_same_time_keep_their_order():
    assert coordinator.at_the_same_time([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        coordinator.at_the_same_time([lambda: 1, lambda: 1 // 0])
