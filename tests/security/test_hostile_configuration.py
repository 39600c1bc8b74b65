# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks by the configuration of a container, on the agent of a destination: C(connect.py attach), as sshd starts it.

The policy is the one of a server that has none, which allows what Docker gives to a container that asks for nothing.
Docker, which is a stand-in, is not even asked.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import tempfile
from pathlib import Path

import pytest
from agents import Agent, launcher
from destinations import HOST, MIB, NEEDS_ROOT, Docker, Ended, do, frame, hello, run, stream
from inspected import INSPECT, digests_of

from ansible_collections.fog.migration.plugins.module_utils.agent import launch, reservation
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.policy import rules
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import framing

pytestmark = [
    NEEDS_ROOT,
    pytest.mark.skipif(os.path.exists(rules.FILE), reason="this machine has a policy of its own"),
]

MIGRATION = "looper-1"
# Docker's usual ones, which the stand-in's version asks for by these names.
USUAL = {
    "NetworkMode": "bridge",
    "RestartPolicy": {"Name": "no"},
    "MaskedPaths": ["/proc/kcore", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"],
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
}
VOLUME = {"Name": "data", "Driver": "local", "Options": None, "Labels": {}}
BIND_OF_ETC = {"type": "none", "o": "bind", "device": "/etc"}


class Attached:
    """A destination's agent, with a migration that waits for its channel."""

    def __init__(self, place, docker, agent: Agent) -> None:
        self.place, self.docker, self.agent = place, docker, agent

    def reserve(self, judged: dict[str, str]) -> None:
        """What stage 1 leaves: an entry in the journal, and a private folder.

        :param judged: what the preflight has judged.
        """
        directory = self.place.there / "transfer"
        directory.mkdir(0o700)
        own = DestinationSettings(str(directory / "staging"), self.docker.path, HOST, migration=MIGRATION, patience=1)
        reserved = reservation.ReservedDestination(str(directory), "looper", judged, False, own)
        reservation.store(self.agent.folder, MIGRATION, reserved)
        facts = {"id": MIGRATION, "container": "4f9d", "name": "looper", "source": "fog1", "destination": HOST}
        more = {"role": "destination", "mode": "precopy", "directory": str(self.place.there), "stage": "reservation"}
        assert journal.open_entry({**facts, **more, "together": [], "controller": None}) is None

    def attach(self, name: str, said: bytes) -> Ended:
        """What the forced command says to this name and these bytes."""
        return run(self.agent.command("attach", name), [said])

    def send(self, config: object) -> str:
        """Sends a configuration and has the container made; why it was refused. Nothing of it is left."""
        # The source has told the preflight the same, where that can be judged at all.
        judged: dict[str, str] = {}
        with contextlib.suppress(Exception):
            judged = digests_of(config["inspect"], config["volumes"])
        self.reserve(judged)
        text = config if isinstance(config, bytes) else json.dumps(config).encode("ascii")
        told = frame(framing.FILE, {"path": "config.json", "size": len(text)}) + stream(text)
        ended = self.attach(MIGRATION, hello("source") + told + do("make"))
        made = journal.load(MIGRATION).made
        journal.close_entry(MIGRATION)
        # What is noted as made is undone later, or would be nobody's.
        assert made == ({"volumes": ["data"]} if self.docker.asked else {})
        assert not (self.place.there / "transfer").exists()
        assert ended.code == 1 and ended.said.count("\n") == 1 and "Traceback" not in ended.said, ended
        assert Path(self.agent.folder, "agent.log").read_text(encoding="utf-8") == ""
        return ended.said.strip()


@pytest.fixture(scope="module")
def server():
    """An agent, whose Docker is the stand-in, and that. Sockets have no long names."""
    with contextlib.ExitStack() as stack:
        here = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fog-")))
        docker = stack.enter_context(Docker(here / "docker"))
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        more = f"from {deploy.PACKAGE}.docker import options\noptions.DEFAULTS['docker_host'] = 'unix://{docker.path}'"
        patched.setattr(journal, "FOLDER", str(here / "journal"))
        patched.setattr(launch, "_LAUNCHER", launcher(here, f"{more}\nserver.PATIENCE = 600"))
        folder = str(here / "run" / "agent-20261128a")
        assert launch.start(folder, deploy.pack(str(here / "agent.zip")))
        agent = Agent(folder)
        try:
            yield agent, docker
        finally:
            os.kill(agent.pid, signal.SIGTERM)
            assert agent.has_ended()
        assert not os.path.exists(folder)


@pytest.fixture
def attached(place, server):
    """What takes the channel of one migration."""
    agent, docker = server
    docker.asked.clear()
    return Attached(place, docker, agent)


def config(host: dict | None = None, *, volumes: tuple = (VOLUME,), moving: tuple = (), **inspect: object) -> dict:
    """The configuration of a container that asks for nothing, with something else in its place."""
    told = copy.deepcopy(INSPECT)
    told["HostConfig"] = {**USUAL, **(host or {})}
    return {
        "inspect": {**told, **inspect},
        "volumes": list(volumes),
        "moving": list(moving),
        "single_files": [],
    }


def mount(**more: object) -> dict:
    """An entry of C(HostConfig.Mounts)."""
    return {"Type": "volume", "Source": "v", "Target": "/x", **more}


CONFIGURATIONS = {
    "privileged": (config({"Privileged": True}), "it is privileged"),
    "the whole server": (config({"Binds": ["/:/host"]}), "it mounts / of the server"),
    "its configuration, as a volume that moves": (
        config({"Binds": ["/etc:/data"]}, moving=("/data",)),
        "the content of /data arrived for the container, and was not ordered",
    ),
    "a folder in other words": (config({"Binds": ["/srv/../etc:/data"]}), "it mounts /srv/../etc"),
    "a folder as a mount": (config({"Mounts": [mount(Type="bind", Source="/etc")]}), "it mounts /etc"),
    "a folder in small letters": (
        config({"Mounts": [{"type": "bind", "source": "/etc", "target": "/x"}]}),
        "HostConfig.Mounts.type, which Docker takes for Type",
    ),
    "a folder beside another one": (
        config({"Mounts": [mount(Type="tmpfs", type="bind", source="/etc")]}),
        "HostConfig.Mounts.source, which Docker takes for Source",
    ),
    "privileges in small letters": (config({"privileged": True}), "HostConfig.privileged, which Docker takes for"),
    "nothing masked in small letters": (config({"maskedpaths": []}), "HostConfig.maskedpaths, which Docker takes for"),
    "a second description": (
        config(Config={"Image": "busybox", "hostconfig": {"Privileged": True}}),
        "Config.hostconfig, which Docker takes for HostConfig",
    ),
    "the volume of another container": (
        config({"Binds": ["others:/data"]}),
        "mounts the volume others at /data, which it does not have there",
    ),
    "the volume of another container as a mount": (
        config({"Mounts": [mount(Source="others", Target="/data")]}),
        "mounts the volume others at /data, which it does not have there",
    ),
    "an image as a mount": (config({"Mounts": [mount(Type="image")]}), "of the type image"),
    "another label": (config({"SecurityOpt": ["label=type:spc_t"]}), "label=type:spc_t"),
    "a log that is sent": (config({"LogConfig": {"Type": "gelf", "Config": {}}}), "write its log by gelf"),
    "others are killed first": (config({"OomScoreAdj": -1000}), "killed later than others"),
    "a folder that was lent": (
        config({"VolumesFrom": ["x"]}, Mounts=[{"Type": "bind", "Source": "/etc", "Destination": "/d"}]),
        "it mounts /etc",
    ),
    "a folder as a volume": (config(volumes=({**VOLUME, "Options": BIND_OF_ETC},)), "its volume data is /etc"),
    "a folder as a volume without a driver": (
        config(volumes=({**VOLUME, "Driver": "", "Options": BIND_OF_ETC},)),
        "its volume data is /etc",
    ),
    "a folder as a volume that nobody tells of": (
        config({"Mounts": [mount(VolumeOptions={"DriverConfig": {"Options": BIND_OF_ETC}})]}, volumes=()),
        "its volume v is /etc",
    ),
    "a disk as a volume": (
        config(volumes=({**VOLUME, "Options": {"type": "ext4", "device": "/dev/sda1"}},)),
        "a mount of /dev/sda1 as ext4",
    ),
    "a mount of another type": (config({"Mounts": [mount(Type="npipe")]}), "of the type npipe"),
    "Docker's socket": (config({"Binds": ["/run/docker.sock:/s"]}), "/run/docker.sock"),
    "orders to CRIU": (config({"Annotations": {"org.criu.config": "/tmp/x"}}), "annotation org.criu.config"),
    "orders to systemd": (config({"Annotations": {"org.systemd.property.ExecStop": "x"}}), "annotation org.systemd"),
    "another bundle": (config({"Annotations": {"bundle": "/tmp"}}), "annotation bundle"),
    "an annotation": (config({"Annotations": {"a": "b"}}), "annotation a"),
    "the server's processes": (config({"PidMode": "host"}), "the server's pid namespace"),
    "the server's network": (config({"NetworkMode": "host"}), "the server's network namespace"),
    "the processes of another container": (config({"PidMode": "container:web"}), "joins the pid namespace of"),
    "the network of another container": (config({"NetworkMode": "container:web"}), "joins the network namespace"),
    "the memory of another container": (config({"IpcMode": "container:web"}), "joins the ipc namespace of"),
    "a capability": (config({"CapAdd": ["SYS_ADMIN"]}), "capability SYS_ADMIN"),
    "all capabilities": (config({"CapAdd": ["ALL"]}), "capability ALL"),
    "capabilities of old": (config({"Capabilities": ["CAP_SYS_MODULE"]}), "capability SYS_MODULE"),
    "no filter of system calls": (config({"SecurityOpt": ["seccomp=unconfined"]}), "seccomp=unconfined"),
    "no profile": (config({"SecurityOpt": ["apparmor=unconfined"]}), "apparmor=unconfined"),
    "the kernel's memory": (config({"MaskedPaths": []}), "sees paths of the kernel"),
    "the kernel's settings": (config({"ReadonlyPaths": []}), "can write paths of the kernel"),
    "a device": (config({"Devices": [{"PathOnHost": "/dev/mem"}]}), "device /dev/mem"),
    "all devices": (config({"DeviceCgroupRules": ["a *:* rwm"]}), "device rule:a"),
    "a graphics card": (config({"DeviceRequests": [{"Driver": "nvidia"}]}), "request:nvidia"),
    "the control group of the server": (config({"CgroupParent": "/"}), "control group is below /"),
    "another runtime": (config({"Runtime": "/tmp/x"}), "the OCI runtime /tmp/x"),
    "a key that nobody knows": (config({"RootOfTheServer": True}), "HostConfig.RootOfTheServer, which nobody knows"),
    "another key that nobody knows": (
        config(Config={"Image": "busybox", "RunAsRoot": True}),
        "Config.RunAsRoot, which nobody knows",
    ),
    "keys of the wrong type": (config({"Binds": {"/etc": "/data"}, "CapAdd": 7}), ""),
    "no configuration": ({}, "lacks something, or has too much"),
    "more than a configuration": ({**config(), "run": "reboot"}, "lacks something, or has too much"),
    "a container that is a list": ({**config(), "inspect": []}, "parts of the wrong type"),
    "a container without anything": ({**config(), "inspect": {}}, "describes no container"),
    "places that are numbers": ({**config(), "moving": [7]}, "describes no container"),
    "no JSON": (b"{", "not JSON"),
    "JSON that goes deep": (b"[" * 10**6, "not JSON"),
    "a number without end": (b"9" * 10**6, "not JSON"),
    "letters of nobody": (b"\xff" * 100, "not JSON"),
}


def test_what_asks_for_nothing_is_allowed(attached):
    """Docker is asked then; the stand-in makes no container."""
    attached.send(config())
    assert any("/containers/create" in one or "/volumes/create" in one for one in attached.docker.asked)


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_configurations(attached, what):
    told, why = CONFIGURATIONS[what]
    sentence = attached.send(told)
    assert why in sentence and sentence.isprintable(), sentence
    assert attached.docker.asked == []


NAMES = ["", ".", "..", "../looper-1", "/etc/passwd", "looper-2", "-1", "a\nb", "\x1b[2J", "x" * 100_000, "$(reboot)"]


def test_channels_of_others(attached):
    """Who has the key may say which channel he wants, in any words."""
    for name in NAMES:
        ended = attached.attach(name, hello("source"))
        assert ended.code == 1 and ended.said.strip().isprintable() and ended.answers == b"", ended
    assert attached.agent.ask("ping")["result"]


def test_a_channel_is_nobody_elses_after_it_was_attached(attached):
    attached.reserve({})
    journal.close_entry(MIGRATION)
    first = attached.attach(MIGRATION, b"")
    assert "closed the channel" in first.said
    assert "nothing was reserved" in attached.attach(MIGRATION, b"").said or first.code == 1


def test_a_configuration_that_is_large(attached):
    """It is read as a whole: so large as there is room for images."""
    sentence = attached.send(b'{"inspect":{},"volumes":[' + b"{}," * (10 * MIB) + b"0]}")
    assert sentence.isprintable()
