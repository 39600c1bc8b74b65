# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Docker has made of a container, compared with what it was asked for."""

from __future__ import annotations

import copy

import pytest
from inspected import INSPECT, changed

from ansible_collections.fog.migration.plugins.module_utils.docker import create, likeness

BODY = create.creation_body(INSPECT, "busybox:lab")[0]


def made(**changes):
    """What Docker makes of it, with some of it otherwise: C(Config__User="x")."""
    config = {key: copy.deepcopy(value) for key, value in BODY.items() if key != "HostConfig"}
    inspect = {"Config": {**config, "Entrypoint": None}, "HostConfig": copy.deepcopy(BODY["HostConfig"])}
    inspect["HostConfig"].update(
        Links=["/db:/looper100/database"], RestartPolicy={"Name": "no", "MaximumRetryCount": 0}
    )
    inspect["NetworkSettings"] = {"Networks": {"bridge": {}}}
    for place, value in changes.items():
        part, _underscores, key = place.partition("__")
        inspect[part][key] = value
    return inspect


def found(body=None, networks=("bridge",), **changes):
    return likeness.differences(body or BODY, networks, made(**changes))


def test_what_it_was_asked_for_is_like_it():
    assert found() == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("Config__Entrypoint", ["/of/the/image"]),
        ("Config__Env", ["A=1", "OF=image"]),
        ("Config__User", "nobody"),
        ("Config__Labels", {"of": "image"}),
        ("Config__Labels", {"of.image": ""}),
        ("Config__Volumes", {"/of/image": {}}),
        ("Config__Healthcheck", {"Test": ["CMD", "true"]}),
        ("Config__StopSignal", "SIGINT"),
        # What a kernel cannot do.
        ("HostConfig__Memory", 0),
        ("HostConfig__PortBindings", {}),
        ("HostConfig__Links", []),
    ],
)
def test_what_is_otherwise(place, value):
    assert found(**{place: value}) == [place.replace("__", ".")]


@pytest.mark.parametrize("networks", [[], ["front"], ["bridge", "front"]])
def test_other_networks(networks):
    assert found(networks=networks) == ["NetworkSettings.Networks"]


@pytest.mark.parametrize(
    ("key", "asked", "value", "same"),
    [
        # Versions of Docker write nothing in several ways, and fill in what older ones had no word for.
        ("ConsoleSize", [0, 0], None, True),
        ("IpcMode", "", "private", True),
        ("IpcMode", "shareable", "private", False),
        ("CgroupnsMode", "host", None, True),
        ("CgroupnsMode", "private", "host", False),
        ("MaskedPaths", [], ["/proc/kcore"], False),
        ("NetworkMode", "default", "bridge", True),
        ("NetworkMode", "none", "bridge", False),
        ("MemorySwappiness", -1, None, True),
        ("MemorySwap", -1, 0, False),
        ("PidsLimit", 60, None, False),
        ("CapAdd", ["NET_ADMIN"], ["CAP_NET_ADMIN"], True),
        ("CapDrop", ["ALL"], None, False),
        ("Tmpfs", {"/run": ""}, {}, False),
        ("Annotations", {"a": "b"}, None, False),
        ("LogConfig", {"Type": "json-file", "Config": {}}, {"Type": "json-file", "Config": {"max-size": "1m"}}, True),
        ("LogConfig", {"Type": "local", "Config": {}}, {"Type": "json-file", "Config": {}}, False),
        ("LogConfig", {"Type": "local", "Config": {"max-size": "1m"}}, {"Type": "local", "Config": {}}, False),
    ],
)
def test_options_of_the_host(key, asked, value, same):
    body = {**BODY, "HostConfig": {**BODY["HostConfig"], key: asked}}
    assert found(body, **{f"HostConfig__{key}": value}) == ([] if same else [f"HostConfig.{key}"])


def test_what_a_docker_does_not_know():
    body = {**BODY, "HostConfig": {**BODY["HostConfig"], "MaskedPaths": ["/proc/kcore"], "Annotations": {"a": "b"}}}
    assert found(body) == ["HostConfig.Annotations"]


def test_an_entrypoint_that_was_emptied_stays_so():
    assert create.creation_body(changed("Config.Entrypoint", None), "i")[0]["Entrypoint"] == [""]
    assert create.creation_body(changed("Config.Entrypoint", ["/bin/x"]), "i")[0]["Entrypoint"] == ["/bin/x"]


def test_no_hostname_is_given_to_what_has_the_servers():
    body, _more = create.creation_body(changed("HostConfig.UTSMode", "host"), "busybox:lab")
    assert "Hostname" not in body and "Domainname" not in body
    assert found({**body, "HostConfig": BODY["HostConfig"]}, Config__Hostname="fog2") == []
