# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that migrate for real: what they compute goes on without a gap or a repetition."""

from __future__ import annotations

import contextlib
import json
import re
import shlex

import pytest

from support import checkpoints, daemons
from support.lab import wait_for
from support.sequences import FIBONACCI, NATURALS, PAUSE, PRIMES, counted, end, fibonacci, naturals, primes

SEQUENCES = {"naturals": naturals, "fibonacci": fibonacci, "primes": primes}
SCRIPTS = {"naturals": NATURALS, "fibonacci": FIBONACCI, "primes": PRIMES}
# All of them at once, each line with the name of its sequence in front.
GENERATORS = "".join(
    f"({script}) | while read line; do echo {name} $line; done &\n" for name, script in SCRIPTS.items()
)


@pytest.mark.parametrize("mode", ["cold", "precopy", pytest.param("postcopy", marks=pytest.mark.slow), "hybrid"])
def test_sequences_go_on(lab, mode):
    lab.start("fog1", "looper100", GENERATORS + "wait")
    before = lab.follow("fog1", "looper100")
    counted(lab, "fog1", "looper100", 60)
    done = lab.migrate("looper100", migration_mode=mode)
    assert lab.running_on("looper100") == ["fog2"]
    counted(lab, "fog2", "looper100", 60)
    first, second = before.lines(), end(lab, "fog2", "looper100")
    for name, sequence in SEQUENCES.items():
        here, there = ([int(line.split()[1]) for line in lines if line.startswith(name)] for lines in (first, second))
        assert min(len(here), len(there)) >= 10
        assert here + there == sequence(len(here + there))
    assert f"looper100 moved from fog1 to fog2 ({mode})" in done.stdout
    assert re.search(r"downtime +\d+\.\d+ s", done.stdout)
    lab.require_no_traces()
    assert lab.docker("fog1", "ps", "-aq") == ""


def test_cold_mode_without_dockers_experimental_mode(lab):
    with contextlib.ExitStack() as stack:
        for node in lab.servers():
            stack.enter_context(daemons.not_experimental(lab, node))
        lab.start("fog1", "looper100", NATURALS)
        before = lab.follow("fog1", "looper100")
        counted(lab, "fog1", "looper100", 10)
        done = lab.migrate("looper100", migration_mode="cold")
        assert re.search(r"ok +restore +it is restored through the OCI runtime fog-runc", done.stdout)
        assert lab.running_on("looper100") == ["fog2"]
        numbers = [int(line) for line in before.lines() + end(lab, "fog2", "looper100")]
        assert numbers == naturals(len(numbers))
        lab.require_no_traces()


@pytest.mark.parametrize(
    "without",
    [["fog1", "fog2"], *(pytest.param([one], marks=pytest.mark.slow) for one in ("fog1", "fog2"))],
    ids="-".join,
)
def test_cold_mode_where_our_runtime_is_not(lab, without):
    """Through Docker's own checkpoints on these servers, through the runtime on the other one."""
    checkpoints.require_starts(lab, *without)
    with daemons.without_runtime(lab, *without):
        lab.start("fog1", "looper100", NATURALS, "--restart", "always")
        before = lab.follow("fog1", "looper100")
        counted(lab, "fog1", "looper100", 10)
        lab.migrate("looper100", migration_mode="cold")
        assert lab.running_on("looper100") == ["fog2"]
        counted(lab, "fog2", "looper100", 10)
        assert lab.inspect("fog2", "looper100")["HostConfig"]["RestartPolicy"]["Name"] == "always"
        numbers = [int(line) for line in before.lines() + end(lab, "fog2", "looper100")]
        assert numbers == naturals(len(numbers))
        lab.require_no_traces()


def test_the_demo(lab):
    """What the README says first: a playbook that imports migrate.yml, and shows that no number is missing."""
    done = lab.playbook("demo.yml")
    assert re.search(r"[0-9]+ numbers, none missing, none twice", done.stdout)
    assert lab.running_on("looper100") == ["fog2"]
    lab.require_no_traces()


@pytest.mark.slow
def test_there_and_back_again(lab):
    lab.start("fog1", "traveller", NATURALS)
    parts = []
    for source, destination in (("fog1", "fog2"), ("fog2", "fog1"), ("fog1", "fog2")):
        followed = lab.follow(source, "traveller")
        counted(lab, source, "traveller", 10)
        lab.migrate("traveller", source=source, destination=destination)
        assert lab.running_on("traveller") == [destination]
        parts += followed.lines()
    counted(lab, "fog2", "traveller", 10)
    parts += end(lab, "fog2", "traveller")
    assert [int(line) for line in parts] == naturals(len(parts))


@pytest.mark.slow
def test_two_containers_one_after_another(lab):
    for name in ("first.one", "second-one_2"):
        lab.start("fog1", name, NATURALS)
    followed = {name: lab.follow("fog1", name) for name in ("first.one", "second-one_2")}
    for name in followed:
        counted(lab, "fog1", name, 10)
        lab.migrate(name)
        assert lab.running_on(name) == ["fog2"]
    for name, before in followed.items():
        counted(lab, "fog2", name, 10)
        numbers = [int(line) for line in before.lines() + end(lab, "fog2", name)]
        assert numbers == naturals(len(numbers))


def test_process_tree_with_pipes(lab):
    script = f"( {NATURALS} ) | while read n; do echo n$n; done | cat"
    lab.start("fog1", "tree", script)
    before = lab.follow("fog1", "tree")
    counted(lab, "fog1", "tree", 20)
    processes = lasting_processes(lab, "fog1", "tree")
    assert len(processes) >= 5
    lab.migrate("tree")
    counted(lab, "fog2", "tree", 20)
    assert lasting_processes(lab, "fog2", "tree") == processes
    lines = before.lines() + end(lab, "fog2", "tree")
    assert lines == [f"n{number}" for number in naturals(len(lines))]


def lasting_processes(lab, node, name):
    """The commands of its processes, without the one that each pause is: it is not there between two of them."""
    commands = lab.docker(node, "exec", name, "ps", "-o", "args").split("\n")
    return sorted(command for command in commands if command != PAUSE)


def test_configuration_and_files_are_kept(lab):
    script = f"echo kept > /srv/made; rm /etc/group; exec 3>>/srv/log; while :; do date +%s%N >&3; {PAUSE}; done"
    options = shlex.split("""
        --env SECRET=hunter2 --env EMPTY= --label fog.test=a=b --memory 64m --cpu-shares 512 --pids-limit 50
        --workdir /srv --user 0:0 --group-add 1000 --hostname keeper --add-host other:10.9.8.7 --dns 10.9.8.6
        --cap-drop NET_RAW --shm-size 8m --tmpfs /scratch:size=1m --publish 18080:80 --restart always
        --stop-signal SIGUSR1 --ulimit nofile=512:1024 --log-opt max-size=1m --sysctl net.ipv4.ip_forward=0
        --read-only=false --entrypoint /bin/busybox
    """)
    lab.docker("fog1", "run", "-d", "--name", "keeper", *options, "busybox:lab", "sh", "-c", script)
    lab.docker("fog1", "exec", "keeper", "sh", "-c", "echo in-memory > /scratch/file")
    before = lab.inspect("fog1", "keeper")
    environment = lab.docker("fog1", "exec", "keeper", "cat", "/proc/1/environ")
    done = lab.migrate("keeper", "-vvv")
    after = lab.inspect("fog2", "keeper")
    assert lab.running_on("keeper") == ["fog2"]
    assert after["Config"] == before["Config"]
    # It was restored through our runtime, and stays with it.
    assert after["HostConfig"].pop("Runtime") == "fog-runc"
    assert before["HostConfig"].pop("Runtime") == "runc"
    assert after["HostConfig"] == before["HostConfig"]
    assert after["Image"] == before["Image"]
    assert after["Id"] in lab.sh("fog2", f"cat /proc/{after['State']['Pid']}/cgroup")
    assert lab.docker("fog2", "exec", "keeper", "cat", "/proc/1/environ") == environment
    status = lab.docker(
        "fog2", "exec", "keeper", "sh", "-c", "cd /proc/1; readlink cwd; grep ^Groups: status; cat /srv/made"
    )
    assert status.split("\n") == ["/srv", "Groups:\t0 1000 ", "kept"]
    assert lab.docker("fog2", "exec", "keeper", "cat", "/scratch/file") == "in-memory"
    assert lab.docker("fog2", "exec", "keeper", "sh", "-c", "test -e /etc/group || echo deleted") == "deleted"
    stamps = lab.docker("fog2", "exec", "keeper", "wc", "-l", "/srv/log").split()[0]
    wait_for(lambda: lab.docker("fog2", "exec", "keeper", "wc", "-l", "/srv/log").split()[0] != stamps, "another line")
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["cold", "precopy"])
def test_agents_do_all_of_it(lab, mode):
    """Each module that a task runs takes some tenths of a second."""
    lab.start("fog1", "keeper", "while :; do date; sleep 0.1; done", "--volume", "/kept")
    done = lab.migrate("keeper", "-vvv", migration_mode=mode)
    assert lab.running_on("keeper") == ["fog2"]
    assert "TASK [fog.migration.migrate : Look at what the containers have mounted" in done.stdout
    assert "Using module file" not in done.stdout


def test_user_is_kept(lab):
    if not lab.reads_limits("fog1"):
        pytest.skip("NOT TESTED: root lacks CAP_SYS_RESOURCE here, without which CRIU dumps root's processes only")
    lab.start("fog1", "other-user", NATURALS, "--user", "1000:1000")
    lab.migrate("other-user")
    status = lab.docker("fog2", "exec", "other-user", "grep", "-E", "^[UG]id:", "/proc/1/status")
    assert status.split() == ["Uid:", *["1000"] * 4, "Gid:", *["1000"] * 4]


def test_image_absent_at_the_destination_travels_with_its_name(lab):
    """With the one by which the container was made: another one that it has, the destination was not asked for."""
    lab.sh("fog2", "docker images -q | xargs -r docker rmi -f")
    image = "fog-test/tagged:1.0"
    lab.docker("fog1", "tag", "busybox:lab", image)
    lab.start("fog1", "imaged", NATURALS)
    lab.migrate("imaged")
    assert lab.running_on("imaged") == ["fog2"]
    words = ("image", "inspect", "--format", "{{.Id}}", "busybox:lab")
    assert len({lab.docker(node, *words) for node in lab.servers()}) == 1
    assert lab.inspect("fog2", "imaged")["Config"]["Image"] == "busybox:lab"
    assert lab.docker("fog2", "images", "-q", image) == ""
    lab.docker("fog1", "rmi", image)


def test_through_the_controller_where_the_servers_do_not_reach_each_other(lab):
    address = lab.hostvars["fog2"]["ansible_host"]
    rule = f"OUTPUT -d {address} -p tcp --dport 22 -j REJECT"
    lab.start("fog1", "relayed", NATURALS)
    before = lab.follow("fog1", "relayed")
    lab.sh("fog1", f"iptables -I {rule}")
    try:
        done = lab.migrate("relayed")
    finally:
        lab.sh("fog1", f"iptables -D {rule}")
    assert "(relay, zstd)" in done.stdout
    assert "the source cannot reach the destination's SSH port" in done.stdout
    assert lab.running_on("relayed") == ["fog2"]
    counted(lab, "fog2", "relayed", 10)
    numbers = [int(line) for line in before.lines() + end(lab, "fog2", "relayed")]
    assert numbers == naturals(len(numbers))
    assert [lab.traces(node) for node in lab.servers()] == [[], []]


def test_terminal_is_kept(lab):
    lab.start("fog1", "terminal", NATURALS, "--tty")
    counted(lab, "fog1", "terminal", 10)
    lab.migrate("terminal")
    counted(lab, "fog2", "terminal", 10)
    numbers = [int(line) for line in end(lab, "fog2", "terminal")]
    assert numbers[0] >= 10
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert lab.inspect("fog2", "terminal")["Config"]["Tty"]


@pytest.mark.slow
def test_under_a_new_name(lab):
    lab.start("fog1", "looper100", NATURALS)
    lab.migrate("looper100", new_name="looper100-clone")
    assert lab.running_on("looper100-clone") == ["fog2"]
    assert lab.running_on("looper100") == []


def test_check_mode_changes_nothing(lab):
    identity = lab.start("fog1", "checked", NATURALS)
    done = lab.migrate("checked", "--check")
    assert "criu_destination" in done.stdout
    assert lab.running_on("checked") == ["fog1"]
    assert lab.inspect("fog1", "checked")["Id"] == identity
    assert [lab.traces(node) for node in lab.servers()] == [[], []]


def test_restart_policy_is_held_and_put_back(lab):
    lab.start("fog1", "phoenix", NATURALS, "--restart", "always")
    lab.migrate("phoenix")
    assert lab.running_on("phoenix") == ["fog2"]
    assert lab.inspect("fog2", "phoenix")["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_kept_checkpoint_is_there_on_both_servers_and_intact(lab):
    lab.start("fog1", "keepsake", NATURALS)
    lab.migrate("keepsake", migration_keep_checkpoint=True)
    for node in lab.servers():
        (found,) = lab.task(node, "checkpoint_info", container="keepsake")["checkpoints"]
        assert found["intact"], json.dumps(found)
        mode = lab.sh(node, f"stat -c '%a %U' {found['path']}")
        assert mode.strip() == "700 root"
