# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What server_info and criu_info tell of a real server, and what they do not look for."""

from __future__ import annotations

import json

import pytest

from support.lab import wait_for

CACHE = "/run/fog-migration-criu.json"
NO_DOCKER = {"docker_host": "unix:///nowhere.sock"}


def told(result: dict) -> dict:
    """What a module has told, without what Ansible says of the run."""
    assert not result["failed"], result
    return {name: value for name, value in result.items() if name not in ("failed", "changed", "invocation")}


def criu_told(lab) -> dict:
    """What C(criu_info) tells on fog1. Ansible adds the owner and mode of what is called a path."""
    result = told(lab.module("fog1", "criu_info"))
    return {name: result[name] for name in ("path", "version", "options", "works", "why_not", "features", "modes")}


@pytest.fixture
def shop(lab):
    """Two containers of a project that share a volume and are in a network, one of them with a health check."""
    health = ("--health-cmd", "true", "--health-interval", "1s")
    lab.docker("fog1", "network", "create", "shop")
    lab.start(
        "fog1", "web", "sleep 1000", "--label", "project=shop", "--network", "shop", "-v", "goods:/goods", *health
    )
    lab.start("fog1", "db", "sleep 1000", "--label", "project=shop", "-v", "goods:/goods", "-p", "8080:80")
    lab.start("fog1", "other", "sleep 1000")
    lab.docker("fog1", "exec", "db", "dd", "if=/dev/zero", "of=/goods/file", "bs=1000", "count=3")
    checks: list[str] = []

    def is_healthy() -> bool:
        checks[:] = [lab.docker("fog1", "inspect", "--format", "{{json .State}}", "web")]
        return '"Status":"healthy"' in checks[0]

    try:
        wait_for(is_healthy, "the first health check")
    except AssertionError as problem:
        raise AssertionError(f"{problem}: {checks}") from None
    yield lab
    lab.docker("fog1", "rm", "-fv", "web", "db", "other")
    lab.docker("fog1", "volume", "rm", "goods")
    lab.docker("fog1", "network", "rm", "shop")


def test_with_the_sdk_and_without_it(shop):
    """O(debug) is by a library of the SDK, so that the SDK is asked; it tells the same of everything."""
    wanted = {"container": "web", "containers": ["db", "none"], "paths": ["/etc/hostname", "/none"]}
    without, by_sdk = (told(shop.module("fog1", "server_info", **wanted, **more)) for more in ({}, {"debug": True}))
    assert without.pop("free").keys() == by_sdk.pop("free").keys() == {"checkpoints", "docker"}
    for facts in (without, by_sdk):
        assert facts["host"].pop("memory_available") > 0
    # The memory of a process that has just begun grows a little, and with it what a dump of it needs, and what is left
    # on the server.
    for one in (without, by_sdk):
        for container in (one["container"], one["described"]["db"]):
            names = "memory", "memory_room", "address_space", "dump_descriptors", "dump_lists"
            assert all(container.pop(name) > 0 for name in names)
    assert without == by_sdk


def test_several_are_described(shop):
    names = {"containers": ["db", shop.inspect("fog1", "web")["Id"], "none"], "gather_subset": ["container"]}
    found = told(shop.module("fog1", "server_info", **names))
    assert sorted(found) == ["container", "containers", "described"]
    assert found["container"] is None
    assert set(found["described"]) == set(names["containers"])
    db, web = found["described"]["db"], found["described"][names["containers"][1]]
    assert found["described"]["none"] is None
    assert (db["name"], web["name"]) == ("db", "web")
    assert (db["mounts"][0]["users"], db["mounts"][0]["bytes"]) == (["web"], 3000)
    assert (web["mounts"][0]["users"], web["mounts"][0]["bytes"]) == (["db"], 3000)
    assert (db["ports"], web["networks"]) == (["8080/tcp"], ["shop"])
    alone = told(shop.module("fog1", "server_info", container="db"))["container"]
    # What is left on the server is always other.
    assert db.pop("memory_room") > 0 < alone.pop("memory_room")
    assert db == alone
    labelled = told(shop.module("fog1", "server_info", label="project=shop", gather_subset=["!min", "container"]))
    assert sorted(labelled) == ["container", "described"]
    assert sorted(labelled["described"]) == ["db", "web"]
    listed = found["containers"]
    assert {name: (one["state"], one["health"]) for name, one in listed.items()} == {
        "web": ("running", "healthy"),
        "db": ("running", "none"),
        "other": ("running", "none"),
    }
    assert listed["web"]["labels"] == {"project": "shop"}


def test_what_is_told_without_docker(lab):
    """With V(!min), it does not have to run."""
    facts = told(lab.module("fog1", "server_info", gather_subset=["!all", "!min", "criu", "ports"], **NO_DOCKER))
    assert sorted(facts) == ["criu", "listening"]
    assert "22/tcp" in facts["listening"]
    assert facts["criu"] == criu_told(lab)
    assert lab.module("fog1", "server_info", gather_subset=["criu"], **NO_DOCKER)["failed"]


def test_a_subset_that_there_is_not(lab):
    result = lab.module("fog1", "server_info", gather_subset=["cpu"])
    assert result["failed"]
    assert result["msg"].startswith(
        "Info on fog1: there is no subset 'cpu' of facts; choose from all, min, containers, "
    )


def test_criu_is_asked_once(lab):
    """Until something of it changes; and nobody's answers are taken but its own."""
    first = criu_told(lab)
    assert first["works"] and first["features"]["uffd"]["works"]
    assert lab.sh("fog1", f"stat -c '%a %U' {CACHE}; ls -A /run | grep -c fog-migration-criu").split() == [
        "600",
        "root",
        "1",
    ]
    cached = json.loads(lab.sh("fog1", f"cat {CACHE}"))
    cached["features"]["uffd"] = "a lie"
    lab.sh("fog1", f"cat > {CACHE} <<'END'\n{json.dumps(cached)}\nEND")
    lie = criu_told(lab)
    assert not lie["features"]["uffd"]["works"] and not lie["modes"]["postcopy"]["possible"]
    assert told(lab.module("fog1", "server_info", gather_subset=["criu"]))["criu"] == lie
    lab.sh("fog1", f"chmod 644 {CACHE}")
    assert criu_told(lab) == first
    assert lab.sh("fog1", f"stat -c %a {CACHE}").strip() == "600"
    lab.sh("fog1", f"cat > {CACHE} <<'END'\n{json.dumps(cached)}\nEND")
    assert criu_told(lab) == lie
    lab.sh("fog1", "touch $(command -v criu)")
    assert criu_told(lab) == first
