# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each container of a run moves, and what became of all of them."""

from __future__ import annotations

import copy

import pytest
from servers import SERVER, changed

from ansible_collections.fog.migration.plugins.filter.migration_plan import (
    MOST_AT_ONCE,
    batches,
    failed_migrations,
    migration_plan,
    missing_images,
    with_image_way,
)
from ansible_collections.fog.migration.plugins.filter.report import migrations_report
from ansible_collections.fog.migration.plugins.module_utils.docker import judged

GIB = 2**30
IMAGE = {"image_tags": ["looper:1.0"], "image_digests": []}
LAN = {
    "driver": "bridge",
    "driver_options": {},
    "ipam_driver": "default",
    "ipam_driver_options": {},
    "ipam_config": [],
    "enable_ipv6": False,
    "internal": False,
    "attachable": False,
    "labels": {},
    "scope": "local",
}
MOUNT = {
    "type": "volume",
    "name": "data",
    "driver": "local",
    "source": "/var/lib/docker/volumes/data/_data",
    "destination": "/data",
    "read_only": False,
    "lent": False,
    "bytes": 2**20,
    "anonymous": False,
    "users": [],
    "file_system": {"type": "ext4", "device": "/dev/sda1"},
    "is_folder": True,
    "is_file": False,
    "checksum": None,
    "replaced": False,
    "refused": "",
}
ORDER = {"place": "/data", "type": "volume", "name": "data", "path": "/var/lib/docker/volumes/data/_data"}


def container(name, **more):
    """What the source tells of one container."""
    return {**copy.deepcopy(SERVER["container"]), **IMAGE, "name": name, "id": f"id-{name}", "ports": [], **more}


def source(*containers, **change):
    server = changed({"host.memory_available": 8 * GIB, "host.cores": 4, "paths": {}, **change})
    server["described"] = {one["name"]: one for one in containers}
    return server


def destination(**change):
    return changed({"host.memory_available": 4 * GIB, "host.cores": 2, "paths": {}, **change})


def plan(*containers, there=None, names=None, **options):
    """The plan for these containers, or for those that are named."""
    options = {"run": "1", "source_name": "fog1", "destination_name": "fog2", "started": 100, "now": 101, **options}
    here = options.pop("here", None) or source(*containers)
    names = names or [one["name"] for one in containers]
    return migration_plan(here, there or destination(), names, **options)


# Stage 0


def test_a_container_that_can_move():
    told = plan(container("looper100", memory=10 * 2**20, memory_shared=2**20))
    (one,) = told["migrations"]
    assert one.pop("lines") == told["lines"][:-1]
    assert one.pop("judged") == judged.digests(container("looper100"))
    assert one == {
        "id": "looper100-1",
        "container": "looper100",
        "container_id": "id-looper100",
        "name": "looper100",
        "source": "fog1",
        "destination": "fog2",
        "mode": "precopy",
        "why": "both servers are prepared for live migration",
        "lazily": True,
        "mounts": [],
        "log": False,
        "networks": {},
        "memory": 10 * 2**20,
        "shared": 2**20,
        "image": {"image": "sha256:a", **IMAGE},
        "image_way": {"way": "there", "bytes_sent": 0},
        "together": [],
        "clock": {"start": 100.0, "pre-migration": 101.0},
        "failure": None,
    }
    assert (told["mode"], told["problem"], told["batches"]) == ("precopy", "", [["looper100-1"]])
    assert told["lines"][-1] == "mode     precopy: both servers are prepared for live migration"
    assert all(line.split()[0] in ("ok", "warning") for line in told["lines"][:-1])


def test_what_is_asked_for_is_in_the_migration():
    web = container("web", networks=["bridge", "lan"], fixed_addresses={"bridge": [], "lan": []}, mounts=[MOUNT])
    here = source(web, network_settings={"lan": LAN, "other": LAN})
    options = {"names": {"web": "shop"}, "mode": "hybrid", "log": True}
    one = migration_plan(
        here,
        destination(),
        ["web"],
        run="a",
        source_name="x",
        destination_name="y",
        started="7.5",
        now="9.5",
        **options,
    )["migrations"][0]
    assert (one["id"], one["container"], one["name"]) == ("web-a", "web", "shop")
    assert (one["mode"], one["why"], one["log"]) == ("hybrid", "it was asked for", True)
    assert (one["mounts"], one["networks"]) == ([ORDER], {"lan": LAN})
    assert one["clock"] == {"start": 7.5, "pre-migration": 9.5}
    assert one["failure"] is None


@pytest.mark.parametrize(
    ("options", "there"),
    [({"networks": "existing"}, {}), ({}, {"networks": ["bridge", "lan"], "network_settings": {"lan": LAN}})],
)
def test_networks_that_are_not_made(options, there):
    web = container("web", networks=["bridge", "lan"], fixed_addresses={"bridge": [], "lan": []})
    told = plan(here=source(web, network_settings={"lan": LAN}), names=["web"], there=destination(**there), **options)
    assert told["migrations"][0]["networks"] == {}
    assert bool(told["problem"]) == (options == {"networks": "existing"})


@pytest.mark.parametrize("volumes", ["shared", "move"])
def test_which_mounts_move(volumes):
    one = plan(container("web", mounts=[MOUNT]), volumes=volumes)["migrations"][0]
    assert one["mounts"] == ([ORDER] if volumes == "move" else [])


def test_a_new_name_that_is_taken():
    there = destination(containers={"shop": {"id": "1", "state": "exited"}})
    told = migration_plan(
        source(container("web")),
        there,
        ["web"],
        run="1",
        source_name="fog1",
        destination_name="fog2",
        started=0,
        now=1,
        names={"web": "shop"},
    )
    assert told["problem"].startswith("Pre-migration on fog1: web cannot be migrated to fog2: ")


# What speaks against it


@pytest.mark.parametrize(
    ("here", "there", "options", "problem"),
    [
        ({}, {}, {"destination_name": "fog1"}, "the destination is the source, fog1"),
        (
            {"unreachable": True, "msg": "no route"},
            {},
            {},
            "fog1 cannot be reached or used (no route)",
        ),
        ({}, {"failed": True, "msg": "no Docker"}, {}, "fog2 cannot be reached or used (no Docker)"),
        ({}, None, {}, "fog2 cannot be reached or used (it gave no answer)"),
        ({}, {}, {"names": ["nobody"]}, "there is no container nobody on fog1"),
        ({}, {}, {"names": ["nobody", "web", "none"]}, "there is no container nobody, none on fog1"),
    ],
)
def test_what_makes_a_plan_impossible_is_one_sentence(here, there, options, problem):
    told = plan(
        here={**source(container("web")), **here},
        there={"changed": False} if there is None else {**destination(), **there},
        **{"names": ["web"], **options},
    )
    assert told == {
        "migrations": [],
        "mode": "auto",
        "lines": [],
        "batches": [],
        "switch_overs": 1,
        "problem": f"Pre-migration: {problem}; nothing was changed.",
    }


def test_one_that_does_not_exist_there_any_more():
    here = source(container("web"))
    here["described"]["gone"] = None
    assert "there is no container gone on fog1" in plan(here=here, names=["web", "gone"])["problem"]


PAUSED = {"live_refusal": "it is paused", "live_remedy": "resume it"}


def test_the_failure_of_one_is_one_sentence_with_all_reasons():
    told = plan(container("web", **PAUSED, unknown=["an io_uring"]))
    (one,) = told["migrations"]
    assert one["failure"] == {
        "stage": "Pre-migration",
        "host": "fog1",
        "msg": "web cannot be migrated to fog2: it is paused (resume it); it holds an io_uring, which CRIU cannot take "
        "along (run what it does without that)",
        "state_now": "nothing was changed, the container runs on as before",
    }
    assert told["problem"] == (
        f"Pre-migration on fog1: {one['failure']['msg']}; nothing was changed, the container runs on as before."
    )
    assert told["batches"] == []


def test_one_that_cannot_move_does_not_stop_the_others():
    told = plan(container("a", **PAUSED), container("b"), container("c"))
    assert [bool(one["failure"]) for one in told["migrations"]] == [True, False, False]
    assert told["batches"] == [["b-1", "c-1"]]
    assert told["problem"] == ""
    assert [line for line in told["lines"] if line.startswith("----")] == ["-------- a", "-------- b", "-------- c"]


def test_none_of_them_can_move():
    told = plan(container("a", **PAUSED), container("b", **PAUSED))
    assert told["batches"] == []
    assert told["problem"].startswith("Pre-migration on fog1: a cannot be migrated to fog2: it is paused")


def test_all_or_none():
    told = plan(container("a"), container("b", **PAUSED), together=True)
    assert told["batches"] == []
    assert told["problem"].startswith("Pre-migration on fog1: b cannot be migrated to fog2: it is paused")
    told = plan(container("a"), container("b"), together=True)
    assert (told["batches"], told["problem"]) == ([["a-1", "b-1"]], "")
    assert [one["together"] for one in told["migrations"]] == [["a-1", "b-1"]] * 2


def test_together_in_cold_mode_is_refused():
    told = plan(container("a"), container("b"), together=True, mode="cold")
    assert "cannot be migrated" in told["problem"]


def test_one_alone_is_not_together():
    told = plan(container("a"), together=True, mode="cold")
    assert (told["problem"], told["migrations"][0]["together"]) == ("", [])


def test_what_those_that_move_together_share_the_first_one_moves():
    shared = {"mounts": [{**MOUNT, "users": ["a", "b"]}]}
    a = container("a", mounts=[{**MOUNT, "users": ["b"]}])
    b = container("b", mounts=[{**MOUNT, "users": ["a"]}])
    told = plan(a, b, together=True)
    assert [one["mounts"] for one in told["migrations"]] == [[ORDER], []]
    assert told["problem"] == ""
    assert "is used by" in plan(container("a", **shared))["problem"]


# How many at the same time


MIB = 1 << 20


def of(*sizes):
    """Migrations of containers with so many MiB of memory."""
    return [{"id": str(number), "memory": size * MIB} for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "together", "free", "found"),
    [
        ((), False, 100, []),
        ((), True, 100, []),
        ((1,), False, 100, [["0"]]),
        # Twice their memory, and 16 MiB for each, has to fit into half of what is free.
        ((10, 24), False, 200, [["0", "1"]]),
        ((10, 25), False, 200, [["0"], ["1"]]),
        ((10, 25, 9), False, 200, [["0"], ["1", "2"]]),
        ((10, 10, 10, 5), False, 150, [["0", "1"], ["2", "3"]]),
        # One of them always goes, whatever it needs.
        ((1000, 1, 1000), False, 100, [["0"], ["1"], ["2"]]),
        ((0, 0), False, 0, [["0"], ["1"]]),
        ((0, 0), False, 64, [["0", "1"]]),
        # Together is together.
        ((1000, 1, 1000), True, 100, [["0", "1", "2"]]),
    ],
)
def test_how_many_move_at_the_same_time(sizes, together, free, found):
    assert batches(of(*sizes), together, free * MIB) == found


def test_there_is_a_most():
    found = batches(of(*[1] * 50), False, 64 * GIB)
    assert [len(one) for one in found] == [20, 20, 10]
    assert MOST_AT_ONCE == 20
    assert [one for batch in found for one in batch] == [str(number) for number in range(50)]
    assert [len(one) for one in batches(of(*[1] * 50), True, GIB)] == [50]


def test_the_server_with_less_memory_decides():
    web, db = container("web", memory=GIB // 2), container("db", memory=GIB // 2)
    enough = destination(**{"host.memory_available": 5 * GIB})
    assert plan(here=source(web, db, **{"host.memory_available": 5 * GIB}), there=enough, names=["web", "db"])[
        "batches"
    ] == [["web-1", "db-1"]]
    little = source(web, db, **{"host.memory_available": GIB})
    assert plan(here=little, names=["web", "db"])["batches"] == [["web-1"], ["db-1"]]
    assert plan(web, db, there=destination(**{"host.memory_available": GIB}))["batches"] == [["web-1"], ["db-1"]]


@pytest.mark.parametrize(("here", "there", "at_once"), [(4, 2, 1), (8, 9, 4), (1, 1, 1), (1, 64, 1)])
def test_how_many_are_frozen_at_the_same_time(here, there, at_once):
    web = container("web")
    told = plan(here=source(web, **{"host.cores": here}), names=["web"], there=destination(**{"host.cores": there}))
    assert told["switch_overs"] == at_once


# On their way

MOVES = [
    {
        "id": "a-1",
        "container": "a",
        "image": {"image": "x", "image_tags": ["x:1"]},
        "clock": {"start": 1.0},
        "failure": None,
    },
    {
        "id": "b-1",
        "container": "b",
        "image": {"image": "y", "image_tags": []},
        "clock": {"start": 1.0},
        "failure": None,
    },
    {
        "id": "c-1",
        "container": "c",
        "image": {"image": "x", "image_tags": ["x:2", "x:1"]},
        "clock": {"start": 1.0},
        "failure": None,
    },
]
FAILURE = {"stage": "Reservation", "host": "fog2", "msg": "no room"}


def failing(*containers):
    return [dict(one, failure=FAILURE) if one["container"] in containers else one for one in MOVES]


@pytest.fixture(autouse=True)
def moves_stay_as_they_are():
    before = copy.deepcopy(MOVES)
    yield
    assert before == MOVES


@pytest.mark.parametrize(
    ("moves", "there", "first"),
    [
        (MOVES, [], ["a", "b"]),
        (MOVES, ["y"], ["a"]),
        (MOVES, ["x", "y"], []),
        (failing("a"), [], ["b", "c"]),
        (failing("a", "c"), [], ["b"]),
        ([], [], []),
    ],
)
def test_an_image_is_sent_once(moves, there, first):
    assert sorted(one["container"] for one in missing_images(moves, there)) == sorted(first)


def test_an_image_gets_the_names_that_its_containers_have_for_it():
    assert [one["image"]["image_tags"] for one in missing_images(MOVES, [])] == [["x:1", "x:2"], []]
    assert [one["image"]["image_tags"] for one in missing_images(failing("a"), [])] == [[], ["x:2", "x:1"]]


def test_how_the_image_came_is_told_of_all_and_what_it_cost_of_one():
    way = {"way": "sent", "bytes_sent": 7, "layers": 3}
    told = with_image_way(MOVES, "x", way)
    assert [one.get("image_way") for one in told] == [way, None, {**way, "bytes_sent": 0}]
    assert [one["id"] for one in told] == [one["id"] for one in MOVES]


def test_a_task_that_failed_for_no_single_one_stops_all():
    told = failed_migrations(MOVES, "Image on fog2: no room.", rejected=True)
    assert [one["failure"] for one in told] == [{"sentence": "Image on fog2: no room", "rejected": True}] * 3
    assert failed_migrations(MOVES, 7)[0]["failure"] == {"sentence": "7", "rejected": False}


def test_of_those_that_move_together_the_others_say_without_whom():
    told = failed_migrations(failing("b"), "Reservation on fog2: no room.")
    assert [one["failure"] for one in told] == [
        {"sentence": "a does not move without b"},
        FAILURE,
        {"sentence": "c does not move without b"},
    ]
    assert failed_migrations(failing("b", "c"), "")[0]["failure"] == {"sentence": "a does not move without b, c"}


# The report

SECONDS = {"pause": 0.01, "dump": 0.2, "files": 0.0, "send": 0.0, "restore": 0.3, "downtime": 0.52, "completion": 0.7}
MEMORY = {"kind": "memory", "why_not_memory": None}
ENDED = {
    "id": "looper-1",
    "container": "looper",
    "name": "looper",
    "source": "fog1",
    "destination": "fog2",
    "mode": "precopy",
    "clock": {
        stage: 100.0 + second
        for second, stage in enumerate(
            ("start", "pre-migration", "reservation", "pre-copy", "stop-and-copy", "commitment", "activation")
        )
    },
    "image_way": {"way": "there", "bytes_sent": 0},
    "checkpoint": {"seconds": SECONDS, "bytes_sent": 0, "files_sent": [], "rounds": [], "statistics": {}},
    "transfer": {
        "rounds": [],
        "rounds_ended": "",
        "tracked": False,
        "rate": 0.0,
        "compression": "none",
        "staging": {"source": MEMORY, "destination": MEMORY},
    },
    "container_there": "8a77d9000000aaaa",
    "left": {},
    "failure": None,
}
AGENTS = {"fog1": {"log": "/var/log/1"}, "fog2": {"log": "/var/log/2"}}
LOGS = "The steps of the agents are in fog1:/var/log/1 and fog2:/var/log/2."


def test_a_report_of_those_that_moved():
    other = {**ENDED, "container": "other", "name": "new"}
    told = migrations_report([ENDED, other], AGENTS)
    assert told["problems"] == []
    assert told["lines"][0] == "looper moved from fog1 to fog2 (precopy)"
    assert "  runs now on     fog2 as looper (8a77d9000000)" in told["lines"]
    assert "other moved from fog1 to fog2 as new (precopy)" in told["lines"]
    assert not any("LEFT OVER" in line or "steps of the agents" in line for line in told["lines"])


def test_a_report_of_what_is_left():
    told = migrations_report([{**ENDED, "left": {"fog1": {"msg": "it is in use"}}}], AGENTS)
    assert "  LEFT OVER       what the migration has at fog1 could not be removed" in told["lines"]


def test_a_report_of_a_cold_migration_has_its_own_removals():
    cold = {
        **ENDED,
        "mode": "cold",
        "clock": {**ENDED["clock"], "checkpoint": 103.5},
        "checkpoint": {"seconds": {"total": 0.5}, "statistics": {}, "bytes_checkpoint": 2048, "files": 3},
        "transfer": {
            "seconds": 0.4,
            "bytes_sent": 1,
            "bytes_received": 1,
            "mode": "direct",
            "compression": "zstd",
        },
        "restore": {"seconds": {"total": 0.7}, "container": {"id": "0123456789abcdef"}},
        "left": {"files at the source": {"failed": True}, "files at the destination": {}},
        "unencrypted": {"fog1": {"failed": True}},
    }
    told = migrations_report([cold], {})
    assert "  LEFT OVER       files at the source could not be removed" in told["lines"]
    assert "  IN CLEAR        the checkpoint at fog1 could not be encrypted" in told["lines"]
    assert "  runs now on     fog2 as looper (0123456789ab)" in told["lines"]


def test_a_report_of_one_that_failed():
    failure = {"stage": "Reservation", "host": "fog2", "msg": "no room.", "state_now": "", "remedy": "make some"}
    failed = {"container": "b", "failure": failure, "outcome": "b runs on at fog1.", "moved": False}
    told = migrations_report([ENDED, failed], AGENTS)
    assert told["lines"][0] == "looper moved from fog1 to fog2 (precopy)"
    assert told["lines"][-1] == LOGS
    assert told["problems"] == ["Reservation on fog2: no room; make some. b runs on at fog1."]


def test_a_report_of_one_that_moved_all_the_same():
    failure = {"sentence": "Commitment on fog1: the connection was lost"}
    told = migrations_report([{"failure": failure, "outcome": "b runs at fog2.", "moved": True}], AGENTS)
    assert told == {"lines": ["Commitment on fog1: the connection was lost. b runs at fog2.", LOGS], "problems": []}


def test_a_report_of_one_that_was_refused_before_anything_was_done():
    (one,) = plan(container("a", **PAUSED))["migrations"]
    told = migrations_report([one], AGENTS)
    assert told["lines"] == []
    (problem,) = told["problems"]
    assert problem.startswith("Pre-migration on fog1: a cannot be migrated to fog2: it is paused (resume it); nothing")
    assert problem.endswith("the container runs on as before.")


def test_a_report_of_nothing():
    assert migrations_report([], AGENTS) == {"lines": [], "problems": []}
