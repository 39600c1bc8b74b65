# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's nodes are made of: their Debian, where their Docker comes from, and its image store."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[2] / "roles/lab"
NOTHING = {"lab_name": "fog-lab", "lab_docker_suite": "", "lab_image_store": ""}


def value(of, **given):
    """What a variable of the role is, or an expression, when these are given."""
    loader, variables = DataLoader(), {}
    for name in ("defaults", "vars"):
        file = str(ROLE / name / "main.yml")
        variables.update(loader.load_from_file(file, trusted_as_template=True))
    templar = Templar(loader, variables={**variables, **NOTHING, **given})
    return templar.template(trust_as_template(of if "{" in of else "{{" + of + "}}"))


def test_by_itself_all_is_of_one_debian():
    assert value("lab_node_kinds") == {"fog1": "trixie//", "fog2": "trixie//", "client": "trixie//"}


def test_another_docker_is_the_fog_servers():
    kinds = value("lab_node_kinds", lab_docker_suite="forky", lab_image_store="containerd", lab_bare_servers=1)
    assert set(kinds) == {"fog1", "fog2", "client", "bare1"}
    assert kinds["fog1"] == kinds["fog2"] == "trixie/forky/containerd"
    assert kinds["client"] == kinds["bare1"] == "trixie//"


def test_single_nodes_are_others():
    given = {
        "lab_fog_servers": 3,
        "lab_bare_servers": 1,
        "lab_docker_suite": "forky",
        "lab_docker_suites": {"fog2": "", "bare1": "forky"},
        "lab_image_stores": {"fog3": "containerd"},
        "lab_suites": {"client": "bookworm"},
    }
    assert value("lab_node_kinds", **given) == {
        "fog1": "trixie/forky/",
        "fog2": "trixie//",
        "fog3": "trixie/forky/containerd",
        "client": "bookworm//",
        "bare1": "trixie/forky/",
    }


def test_a_lab_without_fog_servers():
    assert value("lab_node_kinds", lab_fog_servers=0, lab_docker_suite="forky") == {"client": "trixie//"}


def made_of(variable, kind):
    """The inputs of an image's or a snapshot's name that follow from the kind of node."""
    facts = {"lab_kind": kind, "lab_checksums": {"stdout_lines": []}, "lab_reads_limits": False}
    inputs = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))[variable]
    return [value(one, **facts) for one in inputs if "lab_kind" in one or "lab_image_name" in one]


KINDS = ["trixie//", "bookworm//", "trixie/forky/", "trixie//containerd", "trixie/forky/containerd"]


def test_each_kind_has_a_snapshot_of_its_own():
    names = [made_of("lab_snapshot_inputs", kind) for kind in KINDS]
    assert all(one not in names[:number] for number, one in enumerate(names))


def test_kinds_that_differ_in_the_image_store_have_one_image():
    images = [made_of("lab_image_inputs", kind) for kind in KINDS]
    assert images[0] == images[3] and images[2] == images[4]
    assert all(one not in images[:number] for number, one in enumerate(images[:3]))


@pytest.mark.parametrize("store", ["", "containerd"])
def test_the_image_store_is_a_setting_of_docker(store):
    given = value("lab_store_variables")[store].get("docker_daemon_extra", {})
    assert given == ({"features": {"containerd-snapshotter": True}} if store else {})


def test_stores_that_are_offered_are_known():
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert specs["argument_specs"]["main"]["options"]["lab_image_store"]["choices"] == list(
        value("lab_store_variables")
    )


def test_the_inventory_says_what_the_nodes_are_made_of():
    """The tests ask it when they make bare servers, so that the others stay as they are."""
    text = (ROLE / "templates/inventory.json.j2").read_text(encoding="utf-8")
    connection = {"lab_connection": {}, "lab_server_variables": {"docker_channel": "distro"}}
    made = value(text, lab_docker_suites={"fog2": "forky"}, lab_image_stores={"fog2": "containerd"}, **connection)
    nodes = yaml.safe_load(made)["_meta"]["hostvars"]
    assert nodes["fog1"] == {
        "ansible_host": nodes["fog1"]["ansible_host"],
        "lab_suite": "trixie",
        "lab_docker_suite": "",
        "lab_image_store": "",
    }
    assert nodes["fog2"]["lab_docker_suite"] == "forky" and nodes["fog2"]["lab_image_store"] == "containerd"
    assert nodes["fog2"]["docker_daemon_extra"] == {"features": {"containerd-snapshotter": True}}
