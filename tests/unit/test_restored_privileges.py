# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests of what restored processes may do: by the text of the kernel, and by real processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import privileges

KINDS = ("pid", "network", "mount", "ipc", "uts")


def config(*capabilities, seccomp=False, held=False, user=0, kinds=KINDS):
    """An OCI configuration, as far as it matters here."""
    process = {
        "user": {"uid": user},
        "noNewPrivileges": held,
        "capabilities": {"bounding": [f"CAP_{one}" for one in capabilities]},
    }
    linux = {"namespaces": [{"type": kind} for kind in kinds]}
    if seccomp:
        linux["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO"}
    return {"process": process, "linux": linux}


def status(*, held=0, seccomp=0, user=0, **sets):
    """What the kernel tells of a thread; capabilities as numbers of bits."""
    fields = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), "0" * 16)
    fields.update({name: f"{sum(1 << bit for bit in bits):016x}" for name, bits in sets.items()})
    return {
        "State": "T (stopped)",
        "Uid": "\t".join([str(user)] * 4),
        "NoNewPrivs": str(held),
        "Seccomp": str(seccomp),
        **fields,
    }


def test_the_numbers_of_capabilities_are_the_kernels():
    expected = {"CHOWN": 0, "KILL": 5, "SYS_ADMIN": 21, "AUDIT_READ": 37, "CHECKPOINT_RESTORE": 40}
    assert {name: privileges.CAPABILITIES.index(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("configured", "seen", "problem"),
    [
        (config("CHOWN", "KILL"), status(CapBnd=[0, 5], CapPrm=[0]), None),
        (config("CHOWN"), status(CapBnd=[0, 21]), "CAP_SYS_ADMIN, which"),
        (config("CHOWN"), status(CapAmb=[63]), "CAP_63, which"),
        (config(), status(CapEff=[0]), "CAP_CHOWN, which"),
        # A part of what it has.
        (config("SYS_ADMIN"), status(CapBnd=[21, 38, 39, 40]), None),
        ({"process": {"capabilities": ["CAP_KILL"]}}, status(CapBnd=[5]), None),
        (config(held=True), status(held=1), None),
        (config(held=True), status(), "may gain new privileges"),
        (config(held=True, user=7), status(held=1, user=7), None),
        (config(held=True, user=7), status(held=1), "another user than 7"),
        (config(user=7), status(), None),
        (config(seccomp=True), status(seccomp=2), None),
        (config(seccomp=True), status(), "no seccomp filter"),
        (config(), {}, None),
        (config(), {**status(CapEff=[0]), "State": "Z (zombie)"}, None),
    ],
)
def test_what_a_thread_may_do(configured, seen, problem):
    found = privileges.thread_problem(configured, seen)
    assert problem in found if problem else found is None


def test_namespaces_that_are_shared_with_the_server():
    own = {"type": "ipc", "path": f"/proc/{os.getpid()}/ns/ipc"}
    entries = [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, own]
    found = privileges.host_namespaces({"linux": {"namespaces": entries}})
    assert found == {"net", "ipc", "user", "cgroup"}
    assert privileges.host_namespaces({}) == {"pid", "net", "mnt", "ipc", "uts", "user", "cgroup"}


@pytest.mark.parametrize(
    ("label", "profile", "is_within"),
    [
        ("docker-default (enforce)", "docker-default", True),
        ("docker-default (complain)", "docker-default", True),
        ("docker-default//child (enforce)", "docker-default", True),
        ("docker-default//&other (enforce)", "docker-default", True),
        ("docker-default2 (enforce)", "docker-default", False),
        ("unconfined", "docker-default", False),
        ("my profile (x) (enforce)", "my profile (x)", True),
        ("anything (enforce)", "unconfined", True),
    ],
)
def test_a_profile_of_apparmor(label, profile, is_within):
    assert privileges.is_within_profile(label, profile) == is_within


@pytest.mark.parametrize(
    ("process", "modules", "files", "problem"),
    [
        (
            {"apparmorProfile": "a"},
            {"apparmor"},
            {"current": "unconfined\n"},
            "held by unconfined of AppArmor, and not",
        ),
        ({"apparmorProfile": "a"}, {"apparmor"}, {"current": "a (enforce)\n"}, None),
        # The file of the module itself tells, where another one has the common file.
        ({"apparmorProfile": "a"}, {"apparmor"}, {"current": "_", "apparmor/current": "b (enforce)"}, "is held by b"),
        ({"apparmorProfile": "a"}, set(), {"current": "unconfined\n"}, None),
        ({"apparmorProfile": ""}, {"apparmor"}, {"current": "unconfined\n"}, None),
        ({"apparmorProfile": "a"}, {"apparmor"}, {}, None),
        ({"selinuxLabel": "u:r:t:s0:c1"}, {"selinux"}, {"current": "u:r:t:s0:c1\0"}, None),
        ({"selinuxLabel": "u:r:t:s0:c1"}, {"selinux"}, {"current": "u:r:t:s0:c2\0"}, "has the label u:r:t:s0:c2 of"),
        ({"selinuxLabel": "u:r:t:s0:c1"}, set(), {"current": "u:r:t:s0:c2\0"}, None),
    ],
)
def test_labels(tmp_path, process, modules, files, problem):
    for name, text in files.items():
        path = tmp_path / "attr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = privileges.label_problem({"process": process}, modules, str(tmp_path))
    assert problem in found if problem else found is None


def test_the_modules_of_this_server():
    assert privileges.security_modules() <= {"apparmor", "selinux"}


REMAPPED = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@pytest.mark.parametrize(
    ("linux", "maps", "problem"),
    [
        ({}, {}, None),
        ({}, {"uid_map": "0 100000 65536\n"}, "has other users of the server than"),
        ({}, {"gid_map": "0 100000 65536\n"}, "has other groups of the server than"),
        ({"uidMappings": REMAPPED}, {"uid_map": "         0     100000      65536\n"}, None),
        ({"uidMappings": REMAPPED}, {"uid_map": "0 0 4294967295\n"}, "has other users of the server than"),
        ({"gidMappings": REMAPPED}, {"gid_map": "0 100000 65536\n65536 0 1\n"}, "has other groups of the server"),
        # It has ended.
        ({"uidMappings": REMAPPED}, {"uid_map": ""}, None),
        ({"namespaces": [{"type": "user", "path": "/proc/7/ns/user"}]}, {"uid_map": "0 1 1\n"}, None),
    ],
)
def test_users_and_groups_of_the_server(tmp_path, linux, maps, problem):
    for file in ("uid_map", "gid_map"):
        (tmp_path / file).write_text(maps.get(file, privileges.procfs.read(f"/proc/self/{file}")))
    found = privileges.identity_problem({"linux": linux}, str(tmp_path))
    assert problem in found if problem else found is None


@contextlib.contextmanager
def program(*options):
    """A process in namespaces of its own that can become no more than it is."""
    if os.geteuid() or not all(map(shutil.which, ("unshare", "setpriv"))):
        pytest.skip("NOT TESTED: this needs root and the programs unshare and setpriv")
    words = ["unshare", "--net", "--mount", "--ipc", "--uts", "setpriv", *options, "sleep", "60"]
    process = subprocess.Popen(words)
    deadline = time.monotonic() + 20
    while privileges.procfs.program(process.pid) != "sleep" and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_real_processes():
    kinds = ("network", "mount", "ipc", "uts")
    every = privileges.CAPABILITIES
    less = ["--bounding-set=-all", "--inh-caps=-all", "--reuid=7", "--clear-groups", "--regid=7"]
    with program(*less) as bound, program() as free:
        privileges.require(config(kinds=kinds), [bound])
        privileges.require(config(*every, kinds=kinds), [bound, free])
        with pytest.raises(Refused, match="sleep in it has the capability CAP_CHOWN"):
            privileges.require(config(kinds=kinds), [bound, free])
        with pytest.raises(Refused, match="sleep in it is in the server's own pid namespace"):
            privileges.require(config(kinds=KINDS), [bound])
    # It has ended.
    privileges.require(config(kinds=kinds), [bound])


def test_real_users_of_the_server():
    kinds = ("network", "mount", "ipc", "uts")
    with program("--bounding-set=-all", "--inh-caps=-all", "--reuid=7", "--clear-groups", "--regid=7") as bound:
        mapped = config(kinds=kinds)
        mapped["linux"]["uidMappings"] = REMAPPED
        with pytest.raises(Refused, match="sleep in it has other users of the server than the container"):
            privileges.require(mapped, [bound])
