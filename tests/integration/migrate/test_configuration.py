# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever can be said to C(docker run) is true of the container after it has moved."""

from __future__ import annotations

import contextlib
import copy
import shlex
from collections.abc import Iterator

import pytest

from support import policy
from support.alike import normalised
from support.lab import IMAGE, wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.05; done"

# All that this collection's lab lets a container have: no swap accounting, no weights of disks and no other user than
# root (see test_user_is_kept).
OPTIONS = """
    --env SECRET=hunter2 --env EMPTY= --env LINES='two
lines' --label fog.test=a=b --label empty= --annotation fog.test/note=kept
    --user 0:0 --group-add 1000 --group-add 1001 --workdir /srv --hostname keeper --domainname example.org
    --dns 198.51.100.53 --dns-search example.org --dns-option ndots:2 --add-host other:203.0.113.7
    --cap-drop NET_RAW --cap-drop MKNOD --cap-add SYS_PTRACE --cap-add NET_ADMIN
    --security-opt no-new-privileges --security-opt seccomp=unconfined --security-opt systempaths=unconfined
    --sysctl net.ipv4.ip_forward=0 --sysctl net.core.somaxconn=321 --sysctl kernel.msgmax=9000
    --ulimit nofile=512:1024 --ulimit core=0 --ulimit nproc=200:300
    --memory 96m --memory-reservation 48m --memory-swap 192m --memory-swappiness 10 --oom-kill-disable
    --oom-score-adj 300 --cpu-shares 512 --cpu-period 50000 --cpu-quota 40000 --cpuset-cpus 0-1 --cpuset-mems 0
    --pids-limit 60 --blkio-weight 300 --cgroup-parent /fog-parent
    --shm-size 8m --tmpfs /scratch:size=1m,mode=1770,noexec --mount type=tmpfs,dst=/more,tmpfs-size=2m,tmpfs-mode=1777
    --mount type=bind,src=/srv,dst=/outside,readonly --volume fog-test-volume:/kept:nocopy
    --ipc private --device /dev/zero:/dev/nothing:rw --device-cgroup-rule 'c 10:200 rwm'
    --log-driver json-file --log-opt max-size=1m --log-opt max-file=3 --log-opt labels=fog.test --log-opt tag=keeper
    --stop-signal SIGUSR1 --stop-timeout 7 --restart on-failure:5
    --health-cmd 'test -e /scratch/known' --health-interval 3s --health-timeout 2s --health-retries 7
    --health-start-period 60s --health-start-interval 1s
    --publish 127.0.0.1:18082:82/tcp --publish 18083:83/udp --expose 84 --expose 85-86/udp
    --network front --ip 198.51.100.7 --network-alias web --network-alias shop --mac-address 02:f0:90:00:00:07
    --entrypoint /bin/busybox
"""
# What of this Docker does not give to every container.
ALLOWED = {
    "annotations": ["fog.test/note"],
    "capabilities": ["NET_ADMIN", "SYS_PTRACE"],
    "cgroup_parents": ["/fog-parent"],
    "devices": ["/dev/zero", "rule:c 10:200 rwm"],
    "options": ["OomKillDisable"],
    "security_options": ["seccomp=unconfined", "systempaths=unconfined"],
}
READ_ONLY = "--read-only --tmpfs /scratch --tmpfs /more --cgroupns host --no-healthcheck --network none --interactive"
KNOWN = "mkdir -p /scratch /more; for f in /scratch /more /dev/shm; do head -c 100000 /dev/urandom >$f/known; done"


def test_only_what_has_to_differ_is_dropped():
    inspect = {"Id": "ab" * 32, "Created": 1, "Mounts": [{"Destination": "/b"}, {"Destination": "/a"}]}
    inspect |= {"State": {"Pid": 3, "Running": True}, "LogPath": f"/x/{'ab' * 32}"}
    first = {"NetworkID": "1", "IPAddress": "2", "Aliases": ["web", "ab" * 6]}
    networks = {"Networks": {"a": first, "b": {"NetworkID": "3"}}}
    before = {**inspect, "NetworkSettings": networks}
    kept = copy.deepcopy(before)
    wanted = {"a": {"IPAddress": "2", "Aliases": ["web"], "DNSNames": []}, "b": {"Aliases": [], "DNSNames": []}}
    assert normalised(before) == {
        "Id": "ID",
        "State": {"Running": True},
        "LogPath": "/x/ID",
        "Mounts": [{"Destination": "/a"}, {"Destination": "/b"}],
        "NetworkSettings": {"Networks": wanted},
    }
    assert before == kept


@pytest.fixture
def surroundings(lab) -> Iterator[None]:
    """What the container uses of its servers, and that they allow it: a network, a folder and a volume."""
    lab.copy_image()
    with contextlib.ExitStack() as stack:
        for node in lab.servers():
            stack.enter_context(policy.allowed(lab, node, **ALLOWED))
        yield from _used(lab)


def _used(lab) -> Iterator[None]:
    for node in lab.servers():
        lab.sh(node, "docker network create --subnet 198.51.100.0/24 front; docker volume create fog-test-volume")
    yield
    for node in lab.servers():
        lab.sh(node, "docker ps -aq | xargs -r docker rm -f; docker network rm front; docker volume rm fog-test-volume")


def sums(lab, node: str) -> str:
    """The digests of what is in its file systems in memory."""
    return lab.docker(node, "exec", "keeper", "sh", "-c", "sha256sum /scratch/known /more/known /dev/shm/known")


# What is seen from inside: limits, rights, names, devices, mounts.
INSIDE = """
cat /proc/1/limits /etc/hosts /etc/resolv.conf /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax
grep -E '^(Groups|Cap|NoNewPrivs|Seccomp|Uid)' /proc/1/status
tr '\\0' '\\n' </proc/1/environ; hostname; cat /proc/1/oom_score_adj; readlink /proc/1/cwd
ls -l /dev | awk '{ print $1, $3, $4, $5, $6, $NF }'; ls -ld /scratch /more /dev/shm
sed 's/\\([^ ]* \\)\\{4\\}\\([^ ]* [^ ]*\\) .*- \\([^ ]*\\) .*/mounted: \\2 \\3/' /proc/self/mountinfo
"""


def inside(lab, node: str) -> list[str]:
    """What is seen from inside. CRIU mounts in an order of its own."""
    return sorted(lab.docker(node, "exec", "keeper", "sh", "-c", INSIDE).split("\n"))


def goes_on(lab, node: str) -> None:
    """Waits until the container writes on."""
    seen = len(lab.lines(node, "keeper"))
    wait_for(lambda: len(lab.lines(node, "keeper")) > seen + 3, f"more lines on {node}")


def check(lab, options: str, **extra) -> None:
    """Moves a container with these options there and back; nothing is lost on either way."""
    words = ["run", "-d", "--name", "keeper", *shlex.split(options)]
    lab.docker("fog1", *words, IMAGE, "sh", "-c", f"{KNOWN}; {COUNTER}")
    goes_on(lab, "fog1")
    healthy = "--health-cmd" in options

    def settled(node: str) -> dict:
        if healthy:
            wait_for(lambda: lab.inspect(node, "keeper")["State"]["Health"]["Status"] == "healthy", "its health")
        return normalised(lab.inspect(node, "keeper"))

    before, seen, content = settled("fog1"), inside(lab, "fog1"), sums(lab, "fog1")
    for node in ("fog2", "fog1"):
        lab.migrate("keeper", migration_volumes="shared", **extra)
        assert lab.running_on("keeper") == [node]
        goes_on(lab, node)
        assert settled(node) == before
        assert inside(lab, node) == seen
        assert sums(lab, node) == content


@pytest.mark.parametrize("mode", [pytest.param("cold", marks=pytest.mark.slow), "precopy"])
def test_everything_that_docker_run_offers(lab, surroundings, mode):
    # Debian's docker-init is a symbolic link, which CRIU does not mount by itself.
    check(lab, f"--init {OPTIONS}", migration_mode=mode)


def test_a_read_only_container_without_a_network(lab, surroundings):
    check(lab, READ_ONLY)
