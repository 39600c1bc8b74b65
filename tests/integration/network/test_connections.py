# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of connections to a container that moves: they go on where its address moves, or are closed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from support import criu_step, knock
from support import lan as lan_module
from support.lab import IMAGE, RUNTIME, failure, wait_for
from support.peer import Peers

pytestmark = pytest.mark.lab

# Counts as fast as it is listened to on one port, and says what it hears on the other.
SERVER = """
nc -ll -p 7000 -e sh -c 'n=0; while echo $n; do n=$((n+1)); done' &
exec nc -ll -p 7001 -e cat
"""


def start_server(lab, *options: str, network: str = lan_module.NAME) -> dict:
    """Starts the container on fog1; its endpoint."""
    lab.start("fog1", "mover", SERVER, "--network", network, *options)
    wait_for(lambda: ":7001" in lab.docker("fog1", "exec", "mover", "netstat", "-ltn"), "the server's ports")
    return lab.inspect("fog1", "mover")["NetworkSettings"]["Networks"][network]


def moved_to(lab, node: str, endpoint: dict, **extra) -> None:
    """Migrates the server; it has the same addresses on this node then."""
    lab.migrate("mover", **extra)
    assert lab.running_on("mover") == [node]
    now = lab.inspect(node, "mover")["NetworkSettings"]["Networks"][lan_module.NAME]
    for key in ("IPAddress", "GlobalIPv6Address", "MacAddress"):
        assert now[key] == endpoint[key], key


def test_connections_there_and_back(lab, lan):
    """In each mode, under load, with both families: every number comes once and in order, both ways."""
    endpoint = start_server(lab)
    addresses = [endpoint["IPAddress"], endpoint["GlobalIPv6Address"]]
    assert all(addresses)
    peers = Peers(lab, "client", *(f"{address}:{port}" for address in addresses for port in (7000, 7001)))
    for mode in ("precopy", "postcopy", "hybrid", "cold"):
        for node in ("fog2", "fog1"):
            moved_to(lab, node, endpoint, migration_mode=mode)
            peers.require_more()
    result = peers.end()
    assert [one["problem"] for one in result["connections"]] == [None] * 4, result
    assert result["resets"] == 0


@pytest.mark.parametrize("lan", ["ipvlan"], indirect=True)
def test_connections_on_ipvlan(lab, lan):
    """The address moves, but the MAC is that of the server: the peers hear of the other one."""
    endpoint = start_server(lab)
    addresses = [endpoint["IPAddress"], endpoint["GlobalIPv6Address"]]
    peers = Peers(lab, "client", *(f"{address}:{port}" for address in addresses for port in (7000, 7001)))
    moved_to(lab, "fog2", endpoint)
    peers.require_more()
    result = peers.end()
    assert [one["problem"] for one in result["connections"]] == [None] * 4, result
    assert result["resets"] == 0


# Sends frames of the container's from the destination as soon as the restore is ordered there.
ATTRACT = """
import glob, socket, sys, time
handle = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
handle.bind(("eth0", 0))
frame = bytes.fromhex("ff" * 6 + sys.argv[1].replace(":", "") + "88b5") + bytes(46)
while not glob.glob("/run/fog-migration/runtime/*/options"):
    time.sleep(0.001)
end = time.monotonic() + 3
while time.monotonic() < end:
    handle.send(frame)
    time.sleep(0.001)
print("attracted")
"""


def test_nobody_is_refused(lab, lan):
    """Not even where the switch lets the destination hear what is for the container before the container is there."""
    endpoint = start_server(lab)
    program = Path(knock.__file__).read_text(encoding="utf-8")
    lab.sh("client", f"cat >/root/knock.py <<'END'\n{program}\nEND")
    lab.sh("fog2", f"cat >/root/attract.py <<'END'\n{ATTRACT}\nEND")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    words = ["python3", "/root/knock.py", endpoint["IPAddress"], "7001"]
    knocking = subprocess.Popen([*lab.exec_command("client"), *words], **pipes)
    words = ["timeout", "120", "python3", "/root/attract.py", endpoint["MacAddress"]]
    attracting = subprocess.Popen([*lab.exec_command("fog2"), *words], **pipes)
    moved_to(lab, "fog2", endpoint)
    assert attracting.communicate(timeout=120)[0] == "attracted\n"
    seen = json.loads(knocking.communicate(timeout=30)[0])
    assert seen["opened"] > 100
    assert seen["refused"] == 0, seen


def test_a_move_that_fails_costs_no_connection(lab, lan):
    endpoint = start_server(lab)
    peers = Peers(lab, "client", *(f"{endpoint['IPAddress']}:{port}" for port in (7000, 7001)))
    lab.sh("fog2", f"cp {RUNTIME} /root/; sed -i 's/restore --detach/restore --nonsense/' {RUNTIME}")
    try:
        message = failure(lab.migrate("mover", check=False))
    finally:
        lab.sh("fog2", f"mv /root/fog-runc {RUNTIME}")
    assert "nonsense" in message
    peers.require_more()
    result = peers.end()
    assert [one["problem"] for one in result["connections"]] == [None] * 2, result
    assert result["resets"] == 0


LOCK = """
import sys, time
sys.path.insert(0, "/run/fog-migration-lock")
from ansible_collections.fog.migration.plugins.module_utils.network import network_lock
lock = network_lock.NetworkLock(sys.argv[1])
lock.prepare()
lock.drain_pending()
print("drained", flush=True)
sys.stdin.readline()
lock.lock()
print("locked", "silent" if lock.is_silent else "connected", flush=True)
time.sleep(600)
"""


def locked(lab, tmp_path) -> tuple[subprocess.Popen, str]:
    """A program that has locked the network of the container, which is paused; what it says then."""
    deploy.install(str(tmp_path), {}, "network.network_lock")
    archive = subprocess.run(["tar", "-C", str(tmp_path), "-c", "."], capture_output=True, check=True).stdout
    lab.sh("fog1", "mkdir -p /run/fog-migration-lock")
    subprocess.run([*lab.exec_command("fog1"), "tar", "-C", "/run/fog-migration-lock", "-x"], input=archive, check=True)
    words = [*lab.exec_command("fog1"), "python3", "-c", LOCK, lab.inspect("fog1", "mover")["Id"]]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "drained\n"
    lab.docker("fog1", "pause", "mover")
    holder.stdin.write("\n")
    holder.stdin.flush()
    return holder, holder.stdout.readline()


def kill_holder(lab, holder) -> None:
    """Its end, without a chance to do anything about it."""
    lab.sh("fog1", "pkill -KILL -f 'time[.]sleep.600'")
    holder.wait(10)


def keeper_ends(lab) -> None:
    """Returns when nothing of the lock is left."""
    wait_for(lambda: not lab.sh("fog1", "pgrep -f 'network_loc[k].keep' || true"), "the end of the keeper")


def test_who_resumes_it_unlocks_it(lab, lan, tmp_path):
    """Also when the program that locked its network has gone: docker unpause is all that it takes."""
    endpoint = start_server(lab)
    peers = Peers(lab, "client", *(f"{endpoint['IPAddress']}:{port}" for port in (7000, 7001)))
    holder, answer = locked(lab, tmp_path)
    # With connections, CRIU has to lock it as well.
    assert answer == "locked connected\n"
    assert "100% packet loss" in lab.sh("client", f"ping -c 2 -W 1 {endpoint['IPAddress']}", check=False)
    kill_holder(lab, holder)
    assert "100% packet loss" in lab.sh("client", f"ping -c 2 -W 1 {endpoint['IPAddress']}", check=False)
    lab.docker("fog1", "unpause", "mover")
    peers.require_more()
    assert peers.end()["resets"] == 0
    keeper_ends(lab)


@pytest.mark.skipif(not criu_step.compiler(), reason="NOT TESTED: this machine has no C compiler")
def test_what_a_killed_criu_has_left_goes_with_the_lock(lab, lan, tmp_path):
    """Of all programs, only the keeper is left. CRIU has thawed the container, which goes on."""
    endpoint = start_server(lab)
    peers = Peers(lab, "client", *(f"{endpoint['IPAddress']}:{port}" for port in (7000, 7001)))
    holder, _answer = locked(lab, tmp_path)
    kill_holder(lab, holder)
    criu_step.kill_in_dump(lab, "fog1", "mover", "locked")
    peers.require_more()
    assert peers.end()["resets"] == 0
    keeper_ends(lab)


def test_without_a_connection_criu_need_not_lock(lab, tmp_path):
    """Nobody is connected, and nobody can connect while it stands still; afterwards, everybody can."""
    endpoint = start_server(lab, network="bridge")
    holder, answer = locked(lab, tmp_path)
    assert answer == "locked silent\n"
    knock_once = f"echo hello | timeout 3 busybox nc {endpoint['IPAddress']} 7001"
    assert not lab.sh("fog1", knock_once, check=False)
    kill_holder(lab, holder)
    lab.docker("fog1", "unpause", "mover")
    wait_for(lambda: lab.sh("fog1", knock_once, check=False) == "hello\n", "an answer of the server")
    keeper_ends(lab)


def test_what_cannot_move_is_closed(lab):
    """On Docker's bridge: peers are reset, the processes find their connections closed, and the server serves on."""
    lab.copy_image()
    # So that the container's address is another one there.
    lab.docker("fog2", "run", "-d", "--name", "other", IMAGE, "sleep", "1000")
    start_server(lab, "--publish", "7000-7001:7000-7001", network="bridge")
    here, there = (lab.hostvars[node]["ansible_host"] for node in ("fog1", "fog2"))
    peers = Peers(lab, "client", f"{here}:7000", f"{here}:7001")
    peers.require_more()
    moved = lab.migrate("mover")
    assert "connections will be closed" in moved.stdout
    wait_for(lambda: all(one["problem"] for one in peers.seen()), "the resets")
    assert all("ConnectionResetError" in one["problem"] for one in peers.end()["connections"])
    # One process for each port, and none for the connections.
    pidof = ["exec", "mover", "pidof", "nc", "cat", "sh"]
    wait_for(lambda: len(lab.docker("fog2", *pidof).split()) == 2, "the end of the others")
    more = Peers(lab, "client", f"{there}:7000", f"{there}:7001")
    more.require_more()
    assert [one["problem"] for one in more.end()["connections"]] == [None] * 2


COUNT = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"


def test_a_terminal_and_a_deleted_file(lab):
    """Both move."""
    lab.start("fog1", "mover", f"exec 3<>/file; echo kept >&3; rm /file; {COUNT}", "--tty", "--interactive")
    wait_for(lambda: len(lab.lines("fog1", "mover")) > 5, "the first lines")
    lab.migrate("mover")
    seen = len(lab.lines("fog2", "mover"))
    wait_for(lambda: len(lab.lines("fog2", "mover")) > seen + 5, "more lines")
    assert lab.docker("fog2", "exec", "mover", "cat", "/proc/1/fd/3") == "kept"
