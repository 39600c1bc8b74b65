# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller as a relay: how it finds the hosts, whom it trusts, and that every byte passes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import directory_transfer, ssh_access, transfer
from ansible_collections.fog.migration.plugins.plugin_utils import _relay

paramiko = pytest.importorskip("paramiko")

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIN5aFSJix5saS1GqeYzgRNrI3ubAnOkDIidDgPM62pCa"


class Connection:
    """As much of Ansible's connection as the relay looks at."""

    def __init__(self, transport="ssh", **options):
        self.transport = transport
        self.options = options

    def get_option(self, name):
        return self.options[name]


def end(name="fog1", command="true", transport="ssh", **options):
    return _relay.End(name, Connection(transport, **options), command)


# Routes


NEEDS_SSH = pytest.mark.skipif(not shutil.which("ssh"), reason="needs OpenSSH's client")


@NEEDS_SSH
def test_a_route_is_what_openssh_makes_of_ansibles_options(tmp_path):
    known = tmp_path / "known_hosts"
    (tmp_path / "id").touch()
    trust = f"-o UserKnownHostsFile={known} -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes"
    route = _relay.route_to(
        end(
            host="10.0.0.11",
            port=2222,
            remote_user="pi",
            private_key_file=str(tmp_path / "id"),
            password="secret",
            host_key_checking=True,
            ssh_args="-F none -o ControlMaster=auto -o ControlPersist=60s",
            ssh_common_args=trust,
        )
    )
    assert (route.hostname, route.port, route.user, route.password) == ("10.0.0.11", 2222, "pi", "secret")
    assert route.key_files == [str(tmp_path / "id")]
    assert route.known_hosts == [str(known), "/dev/null"]
    assert route.host_key_names == ["[10.0.0.11]:2222", "10.0.0.11"]
    assert route.check_host_key
    assert not route.accept_new
    assert route.proxy_command is None
    assert "secret" not in repr(route)


@NEEDS_SSH
def test_a_users_own_ssh_configuration_counts(tmp_path):
    config = tmp_path / "config"
    config.write_text(
        "Host fog1\n HostName 192.0.2.7\n Port 2200\n User fog\n HostKeyAlias garden\n"
        " ProxyJump pi@bastion:2201\n StrictHostKeyChecking accept-new\n"
    )
    route = _relay.route_to(end(host="fog1", ssh_args=f"-F {config}"))
    assert (route.hostname, route.port, route.user) == ("192.0.2.7", 2200, "fog")
    assert route.host_key_names == ["garden"]
    assert route.accept_new
    assert route.proxy_command == "ssh -W '[192.0.2.7]:2200' ssh://pi@bastion:2201"


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({}, None),
        ({"proxyjump": ["none"], "proxycommand": ["none"]}, None),
        ({"proxyjump": ["a,b@c"]}, "ssh -J a -W '[h]:22' ssh://b@c"),
        ({"proxycommand": ["nc -x proxy %h %p as %r 100%%"]}, "nc -x proxy h 22 as u 100%"),
    ],
)
def test_the_way_through_others(settings, command):
    assert _relay.proxy_command(settings, "h", 22, "u") == command


@pytest.mark.parametrize(
    ("strict", "ansible_checks", "checks", "accepts_new"),
    [
        ("true", True, True, False),
        ("ask", True, True, False),
        ("accept-new", True, True, True),
        ("false", True, False, False),
        ("true", False, False, False),
    ],
)
def test_host_keys_are_checked_where_ansible_checks_them(strict, ansible_checks, checks, accepts_new):
    route = _relay.make_route({"stricthostkeychecking": [strict]}, "fog1", None, ansible_checks)
    assert (route.check_host_key, route.accept_new) == (checks, accepts_new)


@NEEDS_SSH
@pytest.mark.parametrize("hashed", [False, True])
def test_known_hosts_are_read_plain_and_hashed(tmp_path, hashed):
    known = tmp_path / "known_hosts"
    known.write_text(f"[10.0.0.11]:2222,fog1 ssh-ed25519 {KEY}\nother ssh-ed25519 {KEY}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
        assert "10.0.0.11" not in known.read_text()
    route = _relay.Route(
        "10.0.0.11",
        2222,
        known_hosts=[str(tmp_path / "none"), str(known)],
        host_key_names=["[10.0.0.11]:2222", "10.0.0.11"],
    )
    assert [(kind, key.get_base64()) for kind, key in _relay.trusted_keys(route)] == [("ssh-ed25519", KEY)]
    route.host_key_names = ["10.0.0.12"]
    assert _relay.trusted_keys(route) == []


@pytest.mark.parametrize(
    ("transport", "reason"),
    [
        ("community.docker.docker", "fog1 is connected by community.docker.docker, and a relay needs ssh or local"),
    ],
)
def test_a_connection_that_cannot_be_relayed(transport, reason):
    with pytest.raises(_relay.RelayError, match=reason) as error:
        _relay.start(end(transport=transport))
    assert error.value.hopeless


def test_paramiko_is_asked_for(monkeypatch):
    monkeypatch.setattr(_relay, "paramiko", None)
    with pytest.raises(_relay.RelayError, match="pip install paramiko"):
        _relay.start(end())


# Bytes


def program(directory, **order):
    directory.mkdir()
    return ssh_access.shell_line(deploy.install(str(directory), dict(order, idle_limit=30)))


@pytest.fixture
def ends(tmp_path):
    """Two ends on this machine, and what they are to transfer."""
    root = tmp_path / "looper100"
    root.mkdir()
    (root / "pages-1.img").write_bytes(random.Random(1).randbytes(3 * 1024 * 1024))
    final = tmp_path / "there"
    send = program(tmp_path / "s", role="send", path=str(root), compression="none", compression_level=1, rate_limit=0)
    receive = program(tmp_path / "r", role="receive", final=str(final), host="fog2", replace=False)
    return end("fog1", send, "local"), end("fog2", receive, "local"), root, final


def test_a_transfer_passes_through(ends):
    source, destination, root, final = ends
    result = _relay.relay(source, destination, retries=0, timeout=60)
    assert not result.get("failed")
    assert result["attempts"] == 1
    assert result["bytes_sent"] > 3 * 1024 * 1024
    assert 0 < result["bytes_received"] < 10000
    assert result["compression"] == "none"
    assert (final / "pages-1.img").read_bytes() == (root / "pages-1.img").read_bytes()


CUT = """
import os
left = 1000000
while left:
    data = os.read(0, min(left, 65536))
    os.write(1, data)
    left -= len(data)
"""


@pytest.mark.parametrize("victim", ["source", "destination"])
def test_an_interrupted_relay_resumes(ends, tmp_path, victim):
    """The line on one side is cut after a million bytes on the first attempt, and not on the second."""
    source, destination, _root, final = ends
    (tmp_path / "cut.py").write_text(CUT)
    cut = f"{sys.executable} {tmp_path}/cut.py"
    if victim == "source":
        broken, whole = f"{source.command} | {cut}", source.command
    else:
        broken, whole = f"{cut} | {destination.command}", destination.command
    command = f"if mkdir {tmp_path}/once 2>/dev/null; then {broken}; else {whole}; fi"
    (source if victim == "source" else destination).command = command
    result = _relay.relay(source, destination, retries=1, timeout=60)
    assert not result.get("failed"), result
    assert result["attempts"] == 2
    assert 0 < result["resumed_bytes"] < 1000000
    assert final.is_dir()


def test_a_refusal_comes_back_as_the_reason(ends):
    source, destination, _root, final = ends
    final.mkdir()
    (final / "other").touch()
    result = _relay.relay(source, destination, retries=3, timeout=60)
    assert result["failed"]
    assert result["attempts"] == 1
    assert not result["interrupted"]
    assert "fog2 holds something else already" in result["msg"]


def test_what_a_program_complains_about_is_told(ends):
    source, destination, _root, final = ends
    destination.command = "echo 'sudo: a password is required' >&2; exit 1"
    result = _relay.relay(source, destination, retries=3, timeout=60)
    assert result["attempts"] == 1
    assert result["msg"] == "on fog2, sudo: a password is required"
    assert not final.exists()


def test_a_relay_that_takes_too_long_is_given_up(ends):
    source, destination, _root, _final = ends
    destination.command = "exec sleep 100"
    result = _relay.relay(source, destination, retries=0, timeout=1)
    assert "the timeout of 1 s is over" in result["msg"]


def test_the_last_words_of_a_program():
    assert _relay.read_words(b'warning\n{"verdict": {"files": 1}}\n') == ({"verdict": {"files": 1}}, "warning")
    assert _relay.read_words(b"{broken\n\n") == ({}, "")


# Decisions


@pytest.mark.parametrize(
    ("wanted", "source", "destination", "mode", "why"),
    [
        ("auto", {"has_ssh": True, "reachable": True}, {"access_problem": None}, "direct", None),
        ("relay", {"has_ssh": True, "reachable": True}, {"access_problem": None}, "relay", None),
        ("auto", {"has_ssh": True, "reachable": False, "unreachable_reason": "timed out"}, {}, "relay", "cannot reach"),
        ("auto", {"has_ssh": False, "reachable": True}, {}, "relay", "no ssh and ssh-keygen"),
        ("auto", {"has_ssh": True, "reachable": True}, {"access_problem": "no"}, "relay", "on the destination, no"),
        ("direct", {"has_ssh": True, "reachable": True}, {"access_problem": "no"}, "direct", "on the destination, no"),
    ],
)
def test_the_mode_is_chosen(wanted, source, destination, mode, why):
    chosen, reason = transfer.choose_mode(wanted, source, destination)
    assert chosen == mode
    assert reason is None if why is None else why in reason


def test_what_two_ways_cost_is_added_up():
    first = {"failed": True, "msg": "no", "bytes_sent": 10, "bytes_received": 1, "seconds": 0.5, "attempts": 3}
    second = {"bytes_sent": 100, "bytes_received": 2, "seconds": 1.0, "attempts": 1, "resumed_bytes": 0}
    assert transfer.added_up(first, second) == {
        "bytes_sent": 110,
        "bytes_received": 3,
        "seconds": 1.5,
        "attempts": 4,
        "resumed_bytes": 0,
    }
    assert transfer.added_up({}, second) == second


@pytest.mark.parametrize(
    ("result", "never"),
    [
        ({}, False),
        ({"failed": True}, False),
        ({"failed": True, "interrupted": True}, True),
        ({"failed": True, "interrupted": True, "reached": True}, False),
        ({"failed": True, "interrupted": False}, False),
    ],
)
def test_ends_that_never_met(result, never):
    assert transfer.never_met(result) is never


OPTIONS = {"path": "/a", "dest_path": None, "compression_level": 1, "rate_limit": 0.0, "retries": 2, "timeout": 60}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"path": "a"}, "path is a, but it must be absolute"),
        ({"path": "/a/../b"}, "without .."),
        ({"path": "//"}, "more than /"),
        ({"dest_path": "~/x"}, "dest_path is ~/x, but it must be absolute"),
        ({"compression_level": 20}, "from 1 to 19"),
        ({"rate_limit": -1.0}, "must not be negative"),
        ({"retries": -1}, "must not be negative"),
        ({"timeout": 0}, "at least 1 second"),
    ],
)
def test_options_are_checked(change, problem):
    found = transfer.check_options(dict(OPTIONS, **change))
    assert found is None if problem is None else problem in found


def test_staging_is_beside_the_final_name():
    assert transfer.staging("/a/b") == directory_transfer.staging_of("/a/b") == "/a/.b.incoming"
    assert os.path.dirname(transfer.staging("/a")) == "/"


def test_a_rate_is_no_division_by_zero():
    assert transfer.rate(100, 0.0) == 0.0
    assert transfer.rate(100, 2.0) == 50.0
