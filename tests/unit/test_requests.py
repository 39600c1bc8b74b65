# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was said on the command line, and what to say instead where it makes no sense."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.fog.migration.plugins.filter.migration_request import migration_request
from ansible_collections.fog.migration.plugins.filter.recovery_request import recovery_request
from ansible_collections.fog.migration.plugins.plugin_utils import command_line

GROUPS = {
    "all": ["client", "fog1", "fog2", "fog3", "2001:db8::7", "spare"],
    "fog_servers": ["fog1", "fog2", "fog3"],
    "clients": ["client"],
    "new": ["fog3", "spare"],
    "ungrouped": [],
}
EVERYONE = ["localhost", *GROUPS["all"]]


def request(limited=(), **given):
    """The request of a command line. With hosts in I(limited), it has C(--limit) with these."""
    return migration_request(given, list(limited) or EVERYONE, GROUPS, ",".join(limited))


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({"container": "web"}, {"container": "web", "named": ["web"]}),
        ({"container": 100}, {"container": "100", "named": ["100"]}),
        (
            {"container": " web ", "containers": [], "project": "", "label": None},
            {"container": "web", "named": ["web"]},
        ),
        ({"container": "web", "new_name": "web2"}, {"container": "web", "named": ["web"], "new_name": "web2"}),
        ({"containers": "web, db,web,"}, {"containers": ["web", "db"], "named": ["web", "db"]}),
        ({"containers": ["web", 42]}, {"containers": ["web", "42"], "named": ["web", "42"]}),
        ({"containers": "web", "new_name": "web2"}, {"containers": ["web"], "named": ["web"], "new_name": "web2"}),
        ({"project": "shop"}, {"project": "shop", "labelled": "com.docker.compose.project=shop"}),
        ({"label": "app=shop"}, {"label": "app=shop", "labelled": "app=shop"}),
    ],
)
def test_which_containers(given, result):
    nothing = {
        "container": "",
        "containers": [],
        "project": "",
        "label": "",
        "new_name": "",
        "named": [],
        "labelled": "",
    }
    sides = {"source": [], "destination": [], "servers": ["fog1", "fog2", "fog3"], "problem": ""}
    assert request(**given) == {**nothing, **sides, **result}


@pytest.mark.parametrize(
    ("limited", "given", "sides"),
    [
        ((), {"destination": "fog2"}, ([], ["fog2"], ["fog1", "fog2", "fog3"])),
        ((), {"destination": "spare"}, ([], ["spare"], ["fog1", "fog2", "fog3", "spare"])),
        ((), {"source": "fog2", "destination": "spare"}, (["fog2"], ["spare"], ["fog2", "spare"])),
        ((), {"source": "fog_servers", "destination": "new"}, (["fog1", "fog2", "fog3"], ["fog3", "spare"], None)),
        (("fog1", "fog2"), {}, ([], [], ["fog1", "fog2"])),
        (("client", "fog3", "fog1"), {}, ([], [], ["fog1", "fog3"])),
        (("fog1", "fog2"), {"destination": "fog2"}, ([], ["fog2"], ["fog1", "fog2"])),
        (("fog1", "spare"), {"destination": "spare"}, ([], ["spare"], ["fog1", "spare"])),
        (
            ("client", "spare"),
            {"source": "spare", "destination": "client"},
            (["spare"], ["client"], ["spare", "client"]),
        ),
    ],
)
def test_which_servers(limited, given, sides):
    asked = request(limited, container="web", **given)
    assert asked["problem"] == ""
    servers = sides[2] or ["fog1", "fog2", "fog3", "spare"]
    assert (asked["source"], asked["destination"], asked["servers"]) == (*sides[:2], servers)


@pytest.mark.parametrize(
    ("limited", "given", "problem"),
    [
        ((), {}, "no container is named; say -e container=NAME"),
        ((), {"container": ""}, "no container is named"),
        ((), {"new_name": "a1"}, "no container is named"),
        ((), {"container": "web", "label": "a"}, "container= and label= are given; say one of them"),
        ((), {"container": "web", "containers": ["db"]}, "container= and containers= are given"),
        (
            (),
            {"container": "web,db"},
            "'web,db' is no name that Docker has for a container; say -e container=NAME, or for several -e containers=",
        ),
        ((), {"container": "../x"}, "'../x' is no name"),
        ((), {"container": True}, "container= is one word, and not True"),
        ((), {"container": ["web"]}, "container= is one word, and not ['web']"),
        ((), {"containers": [["web"]]}, "containers= is one word, and not ['web']"),
        ((), {"containers": {"web": 1}}, "containers= is one word"),
        ((), {"container": "web", "new_name": "a b"}, "'a b' is no name"),
        ((), {"containers": "web,db", "new_name": "web2"}, "new_name= is for one container"),
        ((), {"project": "shop", "new_name": "web2"}, "new_name= is for one container"),
        (
            (),
            {"container": "web", "source": "nowhere"},
            "the source 'nowhere' is no host and no group of the inventory; name a",
        ),
        (
            (),
            {"container": "web", "destination": "fog2,x"},
            "the destination 'x' is no host and no group of the inventory",
        ),
        ((), {"container": "web", "source": "new:!new"}, "source=new:!new leaves no host"),
        (
            (),
            {"container": "web", "source": "fog1", "destination": "fog1"},
            "fog1 is the source and the destination; name",
        ),
        (
            ("fog1",),
            {"container": "web"},
            "--limit fog1 leaves one server (fog1), and a migration takes two; leave --limit",
        ),
        (("client",), {"container": "web"}, "--limit client leaves no server, and a migration takes two"),
        (
            ("fog1", "fog2"),
            {"container": "web", "source": "fog3"},
            "--limit fog1,fog2 leaves out fog3; leave --limit away",
        ),
    ],
)
def test_what_to_say_instead(limited, given, problem):
    asked = request(limited, **given)
    assert asked["problem"].startswith("Nothing was changed: ") and asked["problem"].endswith(".")
    assert problem in asked["problem"] and "\n" not in asked["problem"]
    assert not any(value for name, value in asked.items() if name != "problem")


@pytest.mark.parametrize(
    "groups", [{"all": []}, {"all": ["x"], "fog_servers": []}, {"all": ["a"], "fog_servers": ["a"]}]
)
def test_an_inventory_without_two_servers(groups):
    problem = migration_request({"container": "web"}, ["localhost", *groups["all"]], groups)["problem"]
    assert "the group fog_servers of the inventory has" in problem
    assert "name an inventory with -i" in problem


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("fog1", ["fog1"]),
        ("fog3:fog1", ["fog1", "fog3"]),
        (" fog3 , clients ", ["client", "fog3"]),
        ("fog*", ["fog1", "fog2", "fog3"]),
        ("fog_serv*", ["fog1", "fog2", "fog3"]),
        ("fog_servers:&new", ["fog3"]),
        ("!new:fog_servers", ["fog1", "fog2"]),
        ("!fog_servers", ["client", "2001:db8::7", "spare"]),
        ("2001:db8::7", ["2001:db8::7"]),
        ("all", GROUPS["all"]),
    ],
)
def test_patterns(pattern, hosts):
    assert command_line.hosts_of(pattern, GROUPS) == hosts


@pytest.mark.parametrize("pattern", ["x", "fog1:x", "!x", "fog[1", "ungrouped", "localhost"])
def test_patterns_that_mean_nobody(pattern):
    with pytest.raises(command_line.Misunderstood):
        command_line.hosts_of(pattern, GROUPS)


@pytest.mark.parametrize(
    ("given", "result"),
    [
        ({}, {}),
        ({"container": "web"}, {"container": "web"}),
        ({"lost": "fog2", "force": "yes"}, {"lost": ["fog2"], "force": True}),
        ({"lost": ["fog2", "fog3"], "force": True}, {"lost": ["fog2", "fog3"], "force": True}),
        ({"lost": "one.that.the.inventory.has.not", "force": "False"}, {"lost": ["one.that.the.inventory.has.not"]}),
    ],
)
def test_what_to_settle(given, result):
    assert recovery_request(given) == {"problem": "", "container": "", "lost": [], "force": False, **result}


@pytest.mark.parametrize(
    ("given", "limit", "problem"),
    [
        (
            {},
            "fog1,fog2",
            "recover.yml asks all fog servers, since two of them know of each migration; leave --limit away",
        ),
        ({"container": "a b"}, "", "'a b' is no name"),
        ({"force": "maybe"}, "", "force= is true or false, and not 'maybe'"),
    ],
)
def test_what_to_say_to_recover(given, limit, problem):
    asked = recovery_request(given, limit)
    assert problem in asked["problem"]
    assert not any(value for name, value in asked.items() if name != "problem")


# As a playbook sees it: the inventory has variables of the same names, and --limit leaves localhost out.
INVENTORY = {
    "all": {
        "vars": {"project": "of-the-inventory", "container": "of-the-inventory"},
        "children": {
            "fog_servers": {"hosts": {"fog1": {}, "fog2": {}, "fog3": {}}},
            "clients": {"hosts": {"client": {}}},
        },
    }
}
ASK = """{{ lookup('fog.migration.extra_vars') | fog.migration.migration_request(hosts=ansible_play_hosts_all,
groups=groups, limit=ansible_limit | default('')) | to_json }}"""
PLAYS = [
    {
        "hosts": "localhost:all",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.copy": {"dest": "{{ asked }}", "content": ASK},
                "run_once": True,
                "delegate_to": "localhost",
            }
        ],
        "vars": {"ansible_connection": "local"},
    }
]
COLLECTIONS = Path(__file__).parents[2] / "playbooks" / "collections"


@pytest.mark.parametrize(
    ("words", "servers"),
    [([], ["fog1", "fog2", "fog3"]), (["--limit", "client:fog*:!fog2"], ["fog1", "fog3"])],
)
def test_a_playbook_knows_what_it_was_asked_for(tmp_path, words, servers):
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(INVENTORY))
    (tmp_path / "play.yml").write_text(yaml.safe_dump(PLAYS))
    (tmp_path / "more.yml").write_text(yaml.safe_dump({"containers": ["web", "{{ other }}"], "other": "db"}))
    asked = tmp_path / "asked.json"
    command = ["ansible-playbook", "-i", "inventory.yml", "-e", "@more.yml", "-e", f"asked={asked}", *words, "play.yml"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(asked.read_text())
    assert said["problem"] == ""
    assert (said["containers"], said["container"], said["project"]) == (["web", "db"], "", "")
    assert said["servers"] == servers
