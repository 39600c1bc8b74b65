# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Only what is wanted of a server is looked for, and nothing twice."""

from __future__ import annotations

import collections
import os
import subprocess
import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import probe
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.preflight import container_description, server_facts

ALL = list(server_facts.SUBSETS)


def without(*names):
    return [name for name in ALL if name not in names]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (["all"], ALL),
        ([], ALL),
        (["min"], ["containers"]),
        (["criu"], ["containers", "criu"]),
        (["journal", "host"], ["containers", "host", "journal"]),
        (["!min", "criu"], ["criu"]),
        (["!all", "!min", "criu"], ["criu"]),
        (["!all"], ["containers"]),
        (["!all", "!min"], []),
        (["!layers", "!container"], without("layers", "container")),
        (["all", "!layers"], without("layers")),
        (["all", "!min"], without("containers")),
        (["!all", "layers"], ["containers", "layers"]),
        (["layers", "!layers"], ["containers", "layers"]),
    ],
)
def test_subsets(words, chosen):
    assert server_facts.subsets(words) == chosen


@pytest.mark.parametrize("word", ["cpu", "!cpu", "", "!", "!!all"])
def test_no_subset(word):
    with pytest.raises(MigrationError) as caught:
        server_facts.subsets(["criu", word])
    assert "there is no subset" in caught.value.what
    assert "min, containers, host" in caught.value.remedy


def test_the_defaults_are_those_of_the_options():
    spec = server_facts.argument_spec()
    assert set(spec) == set(server_facts.DEFAULTS)
    assert {name: option.get("default") for name, option in spec.items()} == server_facts.DEFAULTS


class Docker:
    """A daemon with some containers, that counts what it is asked."""

    def __init__(self, *containers) -> None:
        self.all = {one["Id"]: one for one in containers}
        self.asked = collections.Counter()

    def _count(self, *what):
        self.asked[" ".join(what)] += 1

    def info(self):
        self._count("info")
        return {"Driver": "overlay2", "DockerRootDir": "/nowhere"}

    def version(self):
        self._count("version")
        return {"Version": "26.1.5", "ApiVersion": "1.45", "Experimental": True}

    def containers(self, *, all):
        self._count("containers")
        assert all
        return [
            {
                "Id": one["Id"],
                "Names": [one["Name"], f"/other{one['Name']}"],
                "State": one["State"]["Status"],
                "Status": one["told"],
                "Labels": one["Config"]["Labels"],
                "ImageID": one["Image"],
            }
            for one in self.all.values()
        ]

    def find_container(self, name):
        self._count("container", name)
        return self.all.get(name)

    def diff(self, container):
        self._count("diff", container)
        return []

    def images(self):
        self._count("images")
        return [{"Id": "sha256:b"}, {"Id": "sha256:a"}]

    def find_image(self, reference):
        self._count("image", reference)
        layers = {"sha256:a": ["sha256:1"], "sha256:b": ["sha256:1", "sha256:2"]}[reference]
        return {"RepoTags": [f"{reference[-1]}:latest"], "Size": 7, "RootFS": {"Layers": layers}}

    def networks(self):
        self._count("networks")
        return [{"Id": "n1", "Name": "bridge"}, {"Id": "n2", "Name": "host"}, {"Id": "n3", "Name": "gone"}]

    def find_network(self, name):
        self._count("network", name)
        return {"Name": "bridge", "Driver": "macvlan"} if name == "n1" else None

    def volumes(self):
        self._count("volumes")
        return {"Volumes": [{"Name": "data"}, {"Name": "a"}]}


def container(name, told="Up 2 hours", mounts=(), **more):
    """The inspect data of one, and what Docker's list tells of its state."""
    host_config = {"IpcMode": "private", **more.pop("HostConfig", {})}
    return {
        "Id": (name * 32)[:64],
        "Name": f"/{name}",
        "Image": "sha256:a",
        "State": {"Status": "running", "Running": True, "Pid": 0},
        "Config": {"Labels": {"app": "shop", "name": name}},
        "HostConfig": host_config,
        "Mounts": [{"Type": "volume", "Name": "data", "Source": one, "Destination": "/data"} for one in mounts],
        "told": told,
        **more,
    }


@pytest.fixture(autouse=True)
def quiet_host(monkeypatch, tmp_path):
    """No CRIU is asked, and there is no journal."""
    said = {"version": "4.2.1", "works": True, "why_not": None, "modes": {}}
    monkeypatch.setattr(probe, "probe", lambda: said)
    monkeypatch.setattr(journal, "FOLDER", str(tmp_path / "journal"))


def gather(docker, *subset, **params):
    return server_facts.gather({"gather_subset": list(subset) or ["all"], **params}, docker)


def test_everything():
    docker = Docker(container("web"))
    facts = gather(docker)
    assert set(facts) == {
        *("containers", "host", "docker", "criu", "free", "listening", "images", "layers", "networks"),
        *("network_settings", "segments", "interfaces", "routes", "volumes", "paths", "migrations", "peer"),
        *("container", "described", "policy"),
    }
    assert facts["container"] is None and facts["described"] == {} and facts["peer"] == {"problem": None}
    assert facts["images"] == ["sha256:a", "sha256:b"] and facts["volumes"] == ["a", "data"]
    assert facts["networks"] == ["bridge", "gone", "host"] and list(facts["network_settings"]) == ["bridge"]
    assert facts["segments"] == {"bridge": {"driver": "macvlan", "subnets": [], "used": []}}
    assert len(facts["layers"]) == 2 and facts["docker"]["root"] == "/nowhere"
    assert max(docker.asked.values()) == 1
    assert not [what for what in docker.asked if what.startswith("container ")]


@pytest.mark.parametrize(
    ("subset", "keys", "asked"),
    [
        ("containers", ["containers"], ["containers"]),
        ("docker", ["docker"], ["info", "version"]),
        ("images", ["images"], ["images"]),
        ("volumes", ["volumes"], ["volumes"]),
        ("free", ["free"], ["info", "version"]),
        ("layers", ["layers"], ["image sha256:a", "image sha256:b", "images", "info", "version"]),
        (
            "networks",
            ["interfaces", "network_settings", "networks", "routes", "segments"],
            ["network n1", "network n3", "networks"],
        ),
        ("container", ["container", "described"], []),
        *(
            (name, [key], [])
            for name, key in (
                ("host", "host"),
                ("criu", "criu"),
                ("ports", "listening"),
                ("paths", "paths"),
                ("journal", "migrations"),
                ("peer", "peer"),
                ("policy", "policy"),
            )
        ),
    ],
)
def test_what_a_subset_costs(subset, keys, asked):
    docker = Docker(container("web"))
    assert sorted(gather(docker, "!min", subset)) == keys
    assert sorted(docker.asked) == asked
    needed = server_facts.needs_docker({"gather_subset": ["!min", subset]})
    assert needed is (subset not in server_facts.WITHOUT_DOCKER)
    if not needed:
        assert sorted(gather(None, "!min", subset)) == keys


def test_docker_is_needed_by_default():
    assert server_facts.needs_docker({})
    with pytest.raises(MigrationError):
        gather(None, "min")


def test_the_list():
    docker = Docker(container("web", told="Up 2 hours (healthy)"), container("db"))
    found = gather(docker, "min")["containers"]
    assert list(found) == ["web", "db"]
    assert found["web"] == {
        "id": container("web")["Id"],
        "state": "running",
        "health": "healthy",
        "labels": {"app": "shop", "name": "web"},
        "image": "sha256:a",
    }


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("Up 2 hours", "none"),
        ("Up 2 hours (healthy)", "healthy"),
        ("Up 2 hours (unhealthy)", "unhealthy"),
        ("Up 1 second (health: starting)", "starting"),
        ("Up 2 hours (Paused)", "none"),
        ("Exited (0) 2 hours ago", "none"),
        ("", "none"),
    ],
)
def test_health(status, said):
    assert server_facts.health(status) == said


def test_several_are_described_and_each_is_inspected_once():
    web, db, other = container("web", mounts=["/x"]), container("db", mounts=["/x"]), container("other")
    docker = Docker(web, db, other)
    facts = gather(docker, "container", container="web", containers=["web", "db", "none", db["Id"][:12]])
    assert list(facts["described"]) == ["web", "db", "none", db["Id"][:12]]
    assert facts["described"]["none"] is None
    assert facts["described"]["web"] == facts["container"]
    assert facts["described"]["db"] == facts["described"][db["Id"][:12]]
    assert facts["described"]["web"]["mounts"][0]["users"] == ["db"]
    assert facts["described"]["db"]["mounts"][0]["users"] == ["web"]
    assert facts["described"]["db"]["image_tags"] == ["a:latest"]
    wanted = [
        "containers",
        "info",
        "version",
        "image sha256:a",
        *(f"container {one['Id']}" for one in (web, db, other)),
    ]
    assert {name: docker.asked[name] for name in wanted} == dict.fromkeys(wanted, 1)


def test_those_with_a_label():
    exited = container("old", State={"Status": "exited", "Running": False, "Pid": 0})
    docker = Docker(container("web"), container("db"), exited)
    assert list(gather(docker, "container", label="app=shop")["described"]) == ["db", "web"]
    assert list(gather(docker, "container", label="name=db", containers=["old"])["described"]) == ["old", "db"]
    assert gather(docker, "container", label="app=other")["described"] == {}
    assert list(gather(docker, "container", label="app")["described"]) == ["db", "web"]


def test_who_is_meant():
    listed = Docker(container("ab"), container("abc"), container("f0")).containers(all=True)
    names = {name: (server_facts.identity_of(name, listed) or "")[:3] for name in ("ab", "/abc", "abca", "aba", "f0")}
    assert names == {"ab": "aba", "/abc": "abc", "abca": "abc", "aba": "aba", "f0": "f0f"}
    assert [server_facts.identity_of(name, listed) for name in ("a", "", "x", "other/ab")] == [None] * 4


def test_one_that_goes_meanwhile():
    web, db = container("web"), container("db")
    docker = Docker(web, db)
    listed = docker.containers(all=True)
    del docker.all[web["Id"]]
    docker.containers = lambda all: listed
    facts = gather(docker, "container", containers=["web", "db"])
    assert facts["described"]["web"] is None and facts["described"]["db"]["name"] == "db"


def test_what_docker_does_not_tell_is_one_clause(monkeypatch):
    class Failure(OSError):
        explanation = "driver failed\nlog file: /x/y.log"

    def fail():
        raise Failure("500 Server Error")

    docker = Docker()
    monkeypatch.setattr(docker, "images", fail)
    with pytest.raises(MigrationError) as caught:
        gather(docker, "images")
    assert caught.value.what == "driver failed"


def test_paths(tmp_path):
    (tmp_path / "file").write_text("x")
    paths = [str(tmp_path), str(tmp_path / "file"), str(tmp_path / "none")]
    found = gather(None, "!min", "paths", paths=paths)["paths"]
    assert [found[path]["exists"] for path in paths] == [True, True, False]
    assert [bool(found[path]["checksum"]) for path in paths] == [False, True, False]


def test_what_is_shared_is_looked_at_once(tmp_path, monkeypatch):
    (tmp_path / "big").write_bytes(b"x" * 100)
    looked = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or scan(path))
    docker = Docker(container("web", mounts=[str(tmp_path)]), container("db", mounts=[str(tmp_path)]))
    found = gather(docker, "container", containers=["web", "db"])["described"]
    assert [one["mounts"][0]["bytes"] for one in found.values()] == [100, 100]
    assert looked.count(str(tmp_path)) == 1


def test_a_file_that_is_too_large_has_no_checksum(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("xx")
    assert container_description.checksum(str(tmp_path / "file"))
    monkeypatch.setattr(container_description, "LARGEST", 1)
    assert container_description.checksum(str(tmp_path / "file")) is None


PATH = os.pathsep.join(sys.path)


def test_the_sdk_is_not_imported_for_a_unix_socket():
    """Its import takes longer than all that is asked."""
    script = """if True:
        import sys
        base = "ansible_collections.fog.migration.plugins.module_utils"
        from ansible_collections.fog.migration.plugins.modules import server_info
        from ansible_collections.fog.migration.plugins.module_utils.docker import reader
        options = {"docker_host": "unix:///x.sock", "api_version": "auto", "timeout": 1}
        assert reader.connect(options).docker_socket == "/x.sock"
        print(sorted(name for name in ("docker", "requests", "urllib3", f"{base}.docker.api") if name in sys.modules))
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ, PYTHONPATH=PATH),
    )
    assert done.stdout.strip() == "[]", done.stderr
