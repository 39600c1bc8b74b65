# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container has moved and nothing about it has changed: neither what its image has and it has not, nor what was
changed while it ran."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from support import alike, criu_step, policy
from support.lab import failure, wait_for

pytestmark = pytest.mark.lab

COUNTER = "n=0; while :; do echo $n; n=$((n+1)); sleep 0.1; done"
# It holds one of the files that Docker makes open, as a program that watches it does.
READER = f"echo 198.51.100.9 at-start >>/etc/hosts; exec 3</etc/hosts; {COUNTER}"
FULL = "full:lab"
DOCKERFILE = """
FROM busybox:lab
ENTRYPOINT ["/bin/echo", "of the image"]
CMD ["/bin/cat"]
ENV OF=image
USER 0
WORKDIR /tmp
HEALTHCHECK --interval=1s CMD true
STOPSIGNAL SIGINT
LABEL of=image
VOLUME /of/image
EXPOSE 99
"""
CHANGES = """
echo '192.0.2.99 mine # by hand' >>/etc/hosts
printf 'nameserver 192.0.2.53\\noptions ndots:3\\n' >/etc/resolv.conf
echo other >/etc/hostname; chmod 600 /etc/hostname
"""
FILES = ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname")


@pytest.fixture
def image(lab) -> Iterator[str]:
    """An image that has all that a container may not have."""
    lab.sh("fog1", f"mkdir -p /tmp/full && cat >/tmp/full/Dockerfile <<'END'\n{DOCKERFILE}END")
    lab.sh("fog1", f"DOCKER_BUILDKIT=0 docker build -q -t {FULL} /tmp/full && rm -r /tmp/full")
    yield FULL
    for node in lab.servers():
        lab.sh(node, f"docker ps -aq | xargs -r docker rm -fv; docker rmi -f {FULL}", check=False)


def moves(lab, name: str, node: str, **extra) -> None:
    """It goes on there, and writes on."""
    lab.migrate(name, **extra)
    assert lab.running_on(name) == [node]
    seen = len(lab.lines(node, name))
    wait_for(lambda: len(lab.lines(node, name)) > seen + 1, f"more lines on {node}")


def files(lab, node: str, name: str) -> list[str]:
    """What is in the files that Docker makes."""
    return [lab.docker(node, "exec", name, "cat", one) for one in FILES]


def require_told(lab) -> None:
    """What would be lost, or cannot move, is named, and it runs on as before; then it is as it was."""
    process = lab.inspect("fog1", "apart")["State"]["Pid"]
    inside = f"nsenter --net --target {process}"
    lab.sh("fog1", f"{inside} sh -ec 'iptables -A INPUT -p tcp --dport 22 -j DROP; ip addr add 10.77.0.1/24 dev lo'")
    lab.docker("fog1", "exec", "-d", "apart", "setsid", "sleep", "4711")
    done = lab.migrate("apart", check=False)
    message = failure(done)
    assert "what keeps packets away from it does not move with it: 1 rules in the table ip filter" in message
    assert re.search(r"sleep \(PID \d+ in it\) has /dev/null of the server open", message)
    assert re.search(r"warning +network_settings .*: the address 10\.77\.0\.1/24", done.stdout)
    lab.sh("fog1", f"{inside} sh -ec 'iptables -F INPUT; ip addr del 10.77.0.1/24 dev lo'")
    lab.sh("fog1", "pkill -f 'sleep 471[1]'")


def test_what_it_has_not_it_does_not_get(lab, image):
    """A network that it was disconnected from, and what its image has; also when it is started anew there."""
    lab.docker(
        "fog1", "run", "-d", "--name", "apart", "--entrypoint", "", "--no-healthcheck", "--env", "OF", image,
        "sh", "-c", READER,
    )  # fmt: skip
    lab.docker("fog1", "network", "disconnect", "bridge", "apart")
    lab.docker("fog1", "exec", "apart", "sh", "-c", CHANGES)
    # A child of the first process from now on.
    lab.docker("fog1", "exec", "-d", "apart", "sh", "-c", "while :; do echo x >>/tmp/left; sleep 0.2; done &")
    require_told(lab)
    before, written = alike.normalised(lab.inspect("fog1", "apart")), files(lab, "fog1", "apart")
    assert before["NetworkSettings"]["Networks"] == {} and before["Config"]["Entrypoint"] is None
    for node, mode in (("fog2", "precopy"), ("fog1", "cold")):
        moves(lab, "apart", node, migration_mode=mode)
        assert alike.normalised(lab.inspect(node, "apart")) == before
        assert files(lab, node, "apart") == written
        assert lab.docker(node, "exec", "apart", "stat", "-c", "%a", "/etc/hostname") == "600"
        assert lab.docker(node, "exec", "apart", "ls", "/sys/class/net") == "lo"
        size = int(lab.docker(node, "exec", "apart", "stat", "-c", "%s", "/tmp/left"))
        wait_for(lambda: int(lab.docker(node, "exec", "apart", "stat", "-c", "%s", "/tmp/left")) > size, "more of it")  # noqa: B023
    lab.docker("fog1", "restart", "-t", "0", "apart")
    again = lab.inspect("fog1", "apart")
    assert again["NetworkSettings"]["Networks"] == {} and again["Path"] == "sh"
    # Docker makes them anew, as at every start.
    assert "by hand" not in files(lab, "fog1", "apart")[0]


OPTIONS = (
    "--rm --uts host --publish-all --add-host gate:host-gateway --add-host other:203.0.113.7 --dns 198.51.100.53"
    " --network front --network-alias shop --link friend:peer --stop-timeout 3 --no-healthcheck --entrypoint sh"
)


@pytest.fixture
def front(lab) -> Iterator[None]:
    """A network of one name with other addresses on each server, and a container that others are linked to."""
    with contextlib.ExitStack() as stack:
        for node, subnet in (("fog1", "198.51.100.0/24"), ("fog2", "203.0.113.0/24")):
            stack.enter_context(policy.allowed(lab, node, host_namespaces=["uts"]))
            lab.sh(node, f"docker network create --subnet {subnet} front")
        lab.copy_image()
        for node in lab.servers():
            lab.docker(node, "run", "-d", "--network", "front", "--name", "friend", "busybox:lab", "sleep", "1000")
        yield
        for node in lab.servers():
            lab.sh(node, "docker ps -aq | xargs -r docker rm -fv; docker network rm front")


def said(lab, node: str) -> dict:
    """What was said of it, and how it is called in its network."""
    found = alike.normalised(lab.inspect(node, "said"))
    endpoint = found["NetworkSettings"]["Networks"]["front"]
    ports = {port: len(bound) for port, bound in found["NetworkSettings"]["Ports"].items()}
    # In the server's UTS namespace, it has the server's.
    del found["Config"]["Hostname"]
    kept = {key: found[key] for key in ("Config", "HostConfig", "Path", "Args", "Name", "RestartCount")}
    return {**kept, "ports": ports, **{key: endpoint[key] for key in ("Aliases", "Links", "DriverOpts")}}


def test_what_was_said_when_it_was_made(lab, image, front):
    """A second set of options, beside those of test_configuration. What is the server's, is that of each server."""
    lab.docker("fog1", "run", "-d", "--name", "said", *OPTIONS.split(), image, "-c", READER)
    wait_for(lambda: lab.lines("fog1", "said"), "its first lines")
    before, hosts = said(lab, "fog1"), files(lab, "fog1", "said")[0]
    # It stays whole where it cannot move, though Docker removes it when it ends.
    criu_step.install(lab, "fog2", criu_step.RESTORE["restored"])
    assert "said runs on as before at fog1, nothing is left over." in failure(lab.migrate("said", check=False))
    lab.sh("fog2", criu_step.REMOVE)
    assert lab.running_on("said") == ["fog1"] and said(lab, "fog1") == before
    moves(lab, "said", "fog2")
    there = lab.inspect("fog2", "said")
    assert said(lab, "fog2") == before
    assert there["NetworkSettings"]["Networks"]["front"]["IPAddress"] in files(lab, "fog2", "said")[0]
    assert "198.51.100.9 at-start" in files(lab, "fog2", "said")[0]
    assert lab.docker("fog1", "ps", "-aq", "--filter", "name=said") == ""
    assert lab.docker("fog2", "exec", "said", "hostname") == lab.sh("fog2", "hostname").strip()
    moves(lab, "said", "fog1", migration_mode="cold")
    assert said(lab, "fog1") == before
    assert files(lab, "fog1", "said")[0] == hosts
    lab.docker("fog1", "kill", "said")
    wait_for(lambda: not lab.docker("fog1", "ps", "-aq", "--filter", "name=said"), "its end")
