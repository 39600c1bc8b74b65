# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests of a server's policy: its file, and what it lets come."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.fog.migration.plugins.module_utils.policy import judge, known, rules
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy, PolicyError

MASKED = ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"]
# As Docker tells of a container for which nobody has asked for anything.
USUAL = {
    "Binds": None,
    "NetworkMode": "default",
    "RestartPolicy": {"Name": "no"},
    "CapAdd": None,
    "CgroupnsMode": "host",
    "IpcMode": "private",
    "Privileged": False,
    "SecurityOpt": None,
    "MaskedPaths": MASKED,
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    "Runtime": "runc",
    "PidMode": "",
    "Devices": [],
    "CgroupParent": "",
}
# As Docker tells of a volume that a container has.
MOUNTED = {"Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data", "Destination": "/data"}


def told(policy=None, volumes=(), sockets=(), config=None, mounted=(), **host):
    inspect = {"HostConfig": {**USUAL, **host}, "Config": {"Image": "busybox", **(config or {})}, "Mounts": mounted}
    return judge.refusals(policy or Policy(), inspect, volumes, sockets)


def test_what_docker_gives_to_every_container_may_come():
    assert told() == []
    assert told(CapAdd=["CAP_NET_RAW", "chown"], SecurityOpt=["no-new-privileges"]) == []
    assert told(Runtime="fog-runc", Binds=["data:/data"], mounted=[MOUNTED]) == []
    assert told(OomScoreAdj=500, OomKillDisable=False, LogConfig={"Type": "json-file", "Config": {"tag": "x"}}) == []


@pytest.mark.parametrize(
    ("asked", "problem", "allowing"),
    [
        ({"Privileged": True}, "it is privileged", {"privileged": True}),
        ({"NetworkMode": "host"}, "the server's network namespace", {"host_namespaces": ("network",)}),
        ({"PidMode": "host"}, "the server's pid namespace", {"host_namespaces": ("pid",)}),
        ({"UsernsMode": "host"}, "the server's user namespace", {"host_namespaces": ("user",)}),
        ({"Binds": ["/srv/data:/data:ro"]}, "it mounts /srv/data", {"bind_folders": ("/srv",)}),
        ({"Mounts": [{"Type": "bind", "Source": "/"}]}, "it mounts / of", {"bind_folders": ("/",)}),
        # Another container has lent it.
        (
            {"mounted": [{"Type": "bind", "Source": "/opt/a"}, {"Type": "volume", "Source": "/var/lib/docker/v"}]},
            "it mounts /opt/a of",
            {"bind_folders": ("/opt",)},
        ),
        ({"Devices": [{"PathOnHost": "/dev/fuse"}]}, "device /dev/fuse", {"devices": ("/dev/fuse",)}),
        ({"DeviceCgroupRules": ["a *:* rwm"]}, "device rule:a", {"devices": ("rule:a [*]:[*] rwm",)}),
        ({"DeviceRequests": [{"Driver": "nvidia"}]}, "request:nvidia", {"devices": ("request:*",)}),
        ({"CapAdd": ["SYS_ADMIN"]}, "capability SYS_ADMIN", {"capabilities": ("SYS_*",)}),
        ({"CapAdd": ["ALL"]}, "capability ALL", {"capabilities": ("ALL",)}),
        (
            {"SecurityOpt": ["seccomp=unconfined"]},
            "option seccomp=unconfined",
            {"security_options": ("seccomp=unconfined",)},
        ),
        ({"SecurityOpt": ["label=disable"]}, "option label=disable", {"security_options": ("label=disable",)}),
        *(
            ({"SecurityOpt": [one]}, f"option {one}", {"security_options": (one,)})
            for one in ("label=type:spc_t", "label:type:spc_t", "label=level:s0", "label=user:x", "label=role:x")
        ),
        ({"OomScoreAdj": -1}, "killed later than others", {"options": ("OomScoreAdj",)}),
        ({"OomKillDisable": True}, "not killed when memory", {"options": ("OomKillDisable",)}),
        ({"LogConfig": {"Type": "gelf"}}, "write its log by gelf", {"options": ("LogConfig.gelf",)}),
        (
            {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "tcp://192.0.2.1"}}},
            "write its log by syslog",
            {"options": ("LogConfig.syslog",)},
        ),
        ({"Mounts": [{"Type": "npipe"}]}, "mount of the type npipe", {"options": ("Mounts.npipe",)}),
        ({"Mounts": [{"Type": "cluster"}]}, "mount of the type cluster", {"options": ("Mounts.cluster",)}),
        (
            {"Mounts": [{"Type": "tmpfs", "TmpfsOptions": {"Of": {"tomorrow": 1}}}]},
            "HostConfig.Mounts.TmpfsOptions.Of, which nobody knows",
            {"options": ("Mounts.TmpfsOptions.Of",)},
        ),
        ({"Ulimits": [{"Name": "core", "Of": 1}]}, "HostConfig.Ulimits.Of", {"options": ("Ulimits.Of",)}),
        ({"MaskedPaths": []}, "paths of the kernel", {"security_options": ("systempaths=unconfined",)}),
        ({"ReadonlyPaths": []}, "can write paths of the kernel", {"security_options": ("systempaths=unconfined",)}),
        ({"Mounts": [{"Type": "image", "Source": "x"}]}, "mount of the type image", {"options": ("Mounts.image",)}),
        ({"CgroupParent": "/system.slice"}, "below /system.slice", {"cgroup_parents": ("/system.slice",)}),
        ({"Annotations": {"my.note": "x"}}, "annotation my.note", {"annotations": ("my.*",)}),
        ({"Runtime": "kata"}, "runtime kata", {"runtimes": ("kata",)}),
        ({"FutureOption": 7}, "HostConfig.FutureOption, which nobody knows", {"options": ("FutureOption",)}),
        ({"config": {"FutureName": "x"}}, "Config.FutureName, which nobody knows", {"options": ("Future*",)}),
    ],
)
def test_what_only_a_line_of_the_policy_allows(asked, problem, allowing):
    (refusal,) = told(**asked)
    assert problem in str(refusal) and next(iter(allowing)) in refusal.allow
    assert told(Policy(**allowing), **asked) == []


BIND = {"Type": "bind", "Source": "/srv/a", "Target": "/a"}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        # All of a name, and a second one beside it, of which Docker takes the last one.
        ({"Mounts": [{"type": "bind", "source": "/etc", "target": "/a"}]}, "HostConfig.Mounts.type"),
        ({"Mounts": [dict(BIND, source="/etc")]}, "HostConfig.Mounts.source, which Docker takes for Source"),
        ({"Mounts": [dict(BIND, BindOptions={"propagation": "shared"})]}, "HostConfig.Mounts.BindOptions.propagation"),
        ({"Mounts": [dict(BIND, VolumeOptions={"driverConfig": {"Options": {"o": "bind"}}})]}, "driverConfig"),
        ({"Mounts": [dict(BIND, VolumeOptions={"DriverConfig": {"options": {"o": "bind"}}})]}, "DriverConfig.options"),
        ({"Mounts": [dict(BIND, tmpfsoptions={})]}, "HostConfig.Mounts.tmpfsoptions"),
        # Go takes this letter for an s.
        ({"Mounts": [{**BIND, "\u017fource": "/etc"}]}, "which Docker takes for Source"),
        ({"Devices": [{"pathonhost": "/dev/mem"}]}, "HostConfig.Devices.pathonhost"),
        ({"DeviceRequests": [{"driver": "nvidia"}]}, "HostConfig.DeviceRequests.driver"),
        ({"LogConfig": {"type": "gelf"}}, "HostConfig.LogConfig.type"),
        ({"Ulimits": [{"hard": 1}]}, "HostConfig.Ulimits.hard"),
        ({"PortBindings": {"80/tcp": [{"hostport": "22"}]}}, "HostConfig.PortBindings.hostport"),
        ({"privileged": True}, "HostConfig.privileged, which Docker takes for Privileged"),
        # It says that nothing is masked.
        ({"maskedpaths": []}, "HostConfig.maskedpaths"),
        ({"config": {"hostconfig": {"Privileged": True}}}, "Config.hostconfig, which Docker takes for HostConfig"),
        ({"config": {"user": "root"}}, "Config.user"),
        ({"config": {"Privileged": True}}, "Config.Privileged"),
        ({"Mounts": {"Type": "bind"}}, "HostConfig.Mounts is not of the form"),
        ({"Devices": ["/dev/mem"]}, "HostConfig.Devices is not of the form"),
        ({"LogConfig": "gelf"}, "HostConfig.LogConfig is not of the form"),
    ],
)
def test_nothing_allows_names_that_only_look_like_others(asked, named):
    """Docker finds keys without regard to their case, and what is judged is what they say."""
    everything = Policy(privileged=True, bind_folders=("/",), devices=("*",), options=("*",))
    found = told(everything, **asked)
    assert any(named in one.problem for one in found), found
    assert {one.allow for one in found} == {""}


def test_what_only_looks_like_another_name_is_told_to_the_preflight():
    for more in ({"maskedpaths": []}, {"LogConfig": {"Type": "gelf"}}, {"OomScoreAdj": -5}, {"Ulimits": [{"hard": 1}]}):
        inspect = {"HostConfig": {**USUAL, **more}, "Config": {}, "Mounts": []}
        assert judge.refusals(Policy(), **judge.asks(inspect, [], [])) == judge.refusals(Policy(), inspect, []) != []


def test_every_name_that_is_known_may_come():
    def filled(form):
        if isinstance(form, list):
            return [filled(form[0])]
        return {key: filled(one) for key, one in form.items()} if isinstance(form, dict) else ""

    inspect = {part: filled(form) for part, form in known.FORMS.items()}
    everything = Policy(devices=("*",), options=("Mounts.",), security_options=("*",))
    assert inspect["HostConfig"]["Mounts"][0]["BindOptions"]["Propagation"] == ""
    assert judge.refusals(everything, inspect, []) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"Binds": ["data:/data"]},
        {"Binds": ["data:/data//:ro,nocopy"]},
        {"Mounts": [{"Type": "volume", "Source": "data", "Target": "//data/"}]},
        {"Mounts": [{"Type": "volume", "Target": "/other"}]},
    ],
)
def test_a_volume_is_that_which_it_has_there(asked):
    assert told(mounted=[MOUNTED], **asked) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"Binds": ["others:/data"]},
        {"Binds": ["data:/data", "data:/more"]},
        {"Mounts": [{"Type": "volume", "Source": "others", "Target": "/data"}]},
        {"Mounts": [{"Type": "volume", "Source": "data", "Target": "/more"}]},
        {"Mounts": [{"Type": "volume", "Source": "data"}]},
        {"Binds": ["data:/data"], "mounted": [{**MOUNTED, "Type": "bind"}]},
        {"Binds": ["data:/data"], "mounted": ()},
        # Whoever may do everything here has no other container's volume by mistake.
        {"Binds": ["others:/data"], "Privileged": True},
    ],
)
def test_no_policy_allows_a_volume_that_it_does_not_have(asked):
    """At the destination, it would be another container's."""
    asked = {"mounted": [MOUNTED], **asked}
    everything = Policy(privileged=True, bind_folders=("/",), options=("*",))
    (refusal,) = told(everything, **asked)
    assert "which it does not have there (nothing allows that)" in str(refusal)
    mounted = asked.pop("mounted")
    inspect = {"HostConfig": {**USUAL, **asked}, "Config": {}, "Mounts": mounted}
    assert judge.refusals(everything, **judge.asks(inspect, [], [])) == [refusal]


@pytest.mark.parametrize("name", ["org.criu.config", "bundle", "org.systemd.property.ExecStartPre"])
def test_no_policy_allows_orders_to_the_runtime(name):
    everything = Policy(privileged=True, annotations=("*",))
    (refusal,) = told(everything, Privileged=True, Annotations={name: "x"})
    assert str(refusal).endswith("(nothing allows that)")


def test_what_is_told_of_a_container_is_judged_in_the_same_way():
    inspect = {"HostConfig": {**USUAL, "MaskedPaths": [], "PidMode": "host"}, "Config": {"Env": ["PASSWORD=x"]}}
    inspect["HostConfig"]["LogConfig"] = {"Type": "splunk", "Config": {"splunk-token": "SECRET"}}
    asked = judge.asks(inspect, [{"Name": "v", "Labels": {}}], ["/run/x.sock"])
    assert "PASSWORD" not in str(asked) and "SECRET" not in str(asked) and "PidMode" in str(asked)
    assert judge.refusals(Policy(), **asked) == judge.refusals(Policy(), inspect, []) != []


def test_a_socket_has_to_be_named():
    asked = {"Binds": ["/run/docker.sock:/run/docker.sock"], "sockets": ["/run/docker.sock"]}
    (refusal,) = told(Policy(bind_folders=("/",)), **asked)
    assert "the socket /run/docker.sock" in refusal.problem
    assert told(Policy(sockets=("/run/docker.sock",)), **asked) == []


@pytest.mark.parametrize(
    ("path", "inside"),
    [("/srv", True), ("/srv/a", True), ("/srv2", False), ("/srv/../etc", False), ("/srv//a", False), ("/srv/a/", True)],
)
def test_what_is_in_a_folder(path, inside):
    assert (told(Policy(bind_folders=("/srv",)), Binds=[f"{path}:/x"]) == []) == inside


@pytest.mark.parametrize(
    ("options", "allowing"),
    [
        ({"type": "none", "o": "bind", "device": "/etc"}, {"bind_folders": ("/etc",)}),
        ({"o": "rbind", "device": "/etc"}, {"bind_folders": ("/etc",)}),
        ({"type": "nfs", "o": "ro,rbind", "device": "/etc"}, {"bind_folders": ("/etc",)}),
        ({"type": "ext4", "o": "bind,ro", "device": "/etc"}, {"bind_folders": ("/etc",)}),
        ({"type": "ext4", "device": "/dev/sda1"}, {"volume_types": ("ext4",)}),
        ({"type": "overlay", "o": "lowerdir=/etc"}, {"volume_types": ("overlay",)}),
    ],
)
def test_a_volume_may_be_a_mount_of_anything(options, allowing):
    volume = {"Name": "v", "Driver": "local", "Options": options}
    (refusal,) = told(volumes=[volume])
    assert "its volume v is" in refusal.problem
    assert told(Policy(**allowing), volumes=[volume]) == []


@pytest.mark.parametrize("driver", ["local", "", None])
def test_dockers_own_driver_needs_no_name(driver):
    options = {"type": "none", "o": "bind", "device": "/etc"}
    (refusal,) = told(volumes=[{"Name": "v", "Driver": driver, "Options": options}])
    assert "its volume v is /etc of the server" in refusal.problem


@pytest.mark.parametrize("driver", ["local", "", None])
def test_a_volume_that_docker_makes_beside_the_container(driver):
    """It is in the description of the container alone."""
    options = {"type": "none", "o": "bind", "device": "/etc"}
    mount = {
        "Type": "volume",
        "Target": "/data",
        "VolumeOptions": {"DriverConfig": {"Name": driver, "Options": options}},
    }
    mounted = [{"Type": "volume", "Name": "v", "Destination": "/data"}]
    for name, called in (("v", "v"), ("", "at /data")):
        (refusal,) = told(Mounts=[dict(mount, Source=name)], mounted=mounted)
        assert f"its volume {called} is /etc of the server" in refusal.problem
    assert told(Policy(bind_folders=("/etc",)), Mounts=[mount]) == []
    # One that is told of twice is refused once.
    volume = {"Name": "v", "Driver": "local", "Options": options}
    assert len(told(volumes=[volume], Mounts=[dict(mount, Source="v")], mounted=mounted)) == 1


@pytest.mark.parametrize("key", ["NetworkMode", "PidMode", "IpcMode"])
def test_no_namespace_of_another_container_is_joined(key):
    (refusal,) = told(Policy(host_namespaces=("network", "pid", "ipc")), **{key: "container:4f9d"})
    assert "of container:4f9d (nothing allows that)" in str(refusal)


def test_usual_volumes_may_come():
    usual = [
        {"Name": "v", "Driver": "local", "Options": None},
        {"Name": "w", "Driver": "rexray", "Options": {"a": "b"}},
    ]
    remote = {"Name": "n", "Driver": "local", "Options": {"type": "nfs", "o": "addr=192.0.2.1", "device": ":/export"}}
    assert told(volumes=[*usual, remote]) == []


def test_who_may_send():
    assert judge.refuses_source(Policy(), "fog1") is None
    assert judge.refuses_source(Policy(sources=("fog*",)), "fog1") is None
    assert "fog9 may not send" in str(judge.refuses_source(Policy(sources=("fog1",)), "fog9"))


# The file


def test_a_policy_from_its_file(tmp_path):
    path = tmp_path / "policy.json"
    assert rules.read(str(path)) == Policy()
    path.write_text(json.dumps({"bind_folders": ["/srv"], "privileged": True}), encoding="utf-8")
    path.chmod(0o644)
    if os.geteuid():
        pytest.skip("NOT TESTED: this needs root")
    assert rules.read(str(path)) == Policy(bind_folders=("/srv",), privileged=True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"privilegd": true}', "has privilegd, which nobody knows"),
        ('{"privileged": "no"}', "neither true nor false"),
        ('{"bind_privileges": "no"}', "bind_privileges is neither true nor false"),
        ('{"devices": "/dev/fuse"}', "devices is not a list"),
        ('{"devices": [7]}', "devices is not a list"),
    ],
)
def test_a_policy_that_is_not_understood_is_none(text, why):
    with pytest.raises(PolicyError, match=why):
        rules.parse(text)


@pytest.mark.parametrize("way", ["group", "others", "owner", "link", "folder"])
def test_a_policy_that_others_than_root_could_have_written_is_none(tmp_path, way):
    if os.geteuid():
        pytest.skip("NOT TESTED: this needs root")
    path, real = tmp_path / "policy.json", tmp_path / "real.json"
    real.write_text("{}", encoding="utf-8")
    real.chmod({"group": 0o664, "others": 0o646}.get(way, 0o644))
    if way == "owner":
        os.chown(real, 65534, 0)
    if way == "link":
        path.symlink_to(real)
    elif way == "folder":
        path.mkdir()
    else:
        real.rename(path)
    with pytest.raises(PolicyError, match="policy"):
        rules.read(str(path))
