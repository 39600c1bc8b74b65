# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a container stands still when it moves: by hand, with podman, with each of our modes, and at the least.

Runs from C(make bench-downtime), which makes the lab, and writes C(benchmarks/downtime.json), the circumstances in
C(benchmarks/downtime-run.json), and C(benchmarks/downtime.md) from both. One cell alone, somewhere else:

    python benchmarks/downtime.py --paths floor,precopy --sizes 64 --dirty 0 --repeat 1 --output /tmp/trial.json
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench_results import DESTINATION, ROOT, SETTLE, SOURCE, VERSIONS, Broken, Results, machine, reason, rounds
from downtime_page import KEYS, PATHS, Cell, longest_gap, write_page

from support.lab import Lab, wait_for

NAME = "bench"
IMAGE = "bench:python"
PLACE = "/run/fog-bench"
MEMORY = "/dev/shm/fog-bench"
# Docker's volume of a lab node is a real file system, on which overlays can be mounted.
STORE = "/var/lib/docker/fog-bench"
SIZES = (1, 64, 256, 1024)
FRACTIONS = (0.0, 0.1)
# Roughly what one measurement takes with all around it: seconds, and seconds for each MiB. Only for the estimate.
COST = {
    "floor": (3.5, 0.02),
    "docker_api": (5.0, 0.072),
    "podman": (6.0, 0.030),
    "podman_precopy": (6.0, 0.030),
    "cold": (17.0, 0.085),
    "precopy": (16.0, 0.030),
    "postcopy": (16.0, 0.030),
    "hybrid": (16.0, 0.030),
}

# Holds memory that no compression makes smaller, and writes number and time every 5 ms. The rewritten part goes through
# the memory from its beginning to its end and over again. What a freeze has delayed is not made up for.
WORKLOAD = """
import mmap, os, random, sys, time
size, fraction = int(sys.argv[1]) << 20, float(sys.argv[2])
kind = mmap.MAP_SHARED if sys.argv[3] == "shared" else mmap.MAP_PRIVATE
memory = mmap.mmap(-1, size, flags=kind | mmap.MAP_ANONYMOUS)
for at in range(0, size, 1 << 20):
    memory[at:at + (1 << 20)] = os.urandom(1 << 20)
number, at, due, last = 0, 0, 0.0, time.monotonic()
while True:
    os.write(1, b"%d %.6f\\n" % (number, time.clock_gettime(time.CLOCK_REALTIME)))
    number += 1
    time.sleep(0.005)
    now = time.monotonic()
    due += fraction * size * min(now - last, 0.02)
    last = now
    part = min(int(due) & ~4095, size - at)
    if part:
        memory[at:at + part] = random.randbytes(part)
        due, at = due - part, (at + part) % size
"""

# A node's own Python and the libraries that it is linked with, as an image.
MAKE_IMAGE = f"""
mkdir -p {MEMORY}; cd /
stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
libraries=$(ldd /usr/bin/python3 | grep -o '/[^ ]*')
tar --exclude=__pycache__ -chf {MEMORY}/image.tar usr/bin/python3 "${{stdlib#/}}" $(echo "$libraries" | sed 's,^/,,')
docker import {MEMORY}/image.tar {IMAGE}
"""

DOCKER_API = """
docker checkpoint create {name} {name}-checkpoint
folder=/var/lib/docker/containers
tar -C $folder/$(docker inspect --format '{{{{.Id}}}}' {name})/checkpoints -c {name}-checkpoint | {ssh} '
    set -e
    id=$(docker create --name {name} {image} {program})
    mkdir -p '$folder'/$id/checkpoints
    tar -C '$folder'/$id/checkpoints -x
    docker start --checkpoint {name}-checkpoint {name}'
"""

# Docker removes its bundle as soon as it takes the container for dead, and its hook for the network would find none.
FLOOR_BUNDLE = """
mkdir -p {place}/bundle/rootfs {memory}/images
id=$(docker inspect --format '{{{{.Id}}}}' {name})
mount --bind $(docker inspect --format '{{{{.GraphDriver.Data.MergedDir}}}}' {name}) {place}/bundle/rootfs
python3 - /run/containerd/io.containerd.runtime.v2.task/moby/$id/config.json <<'END'
import json, sys
with open(sys.argv[1]) as stream:
    config = json.load(stream)
config["root"]["path"] = "rootfs"
config["linux"]["cgroupsPath"] = "/fog-bench"
del config["hooks"]
with open("{place}/bundle/config.json", "w") as stream:
    json.dump(config, stream)
END
"""
FLOOR = """
id=$(docker inspect --format '{{{{.Id}}}}' {name})
runc --root /run/docker/runtime-runc/moby checkpoint --image-path {memory}/images --work-path {place} $id
cd {place}
runc restore --detach --bundle bundle --image-path {memory}/images --work-path {place} {name} \
    </dev/null &> >(exec cat >{place}/lines 2>/dev/null)
"""
# The same images, once, to the other server's memory: what any migration of all memory has to send.
FULL_COPY = "tar -C {memory} -c images | {ssh} 'mkdir -p {memory} && tar -C {memory} -x'"

PODMAN = (
    "PODMAN_IGNORE_CGROUPSV1_WARNING=1 NETAVARK_FW=iptables podman --cgroup-manager cgroupfs --runtime runc"
    f" --storage-driver overlay --root {STORE}/podman --runroot {PLACE}/podman"
)
PODMAN_MOVE = """
{podman} container checkpoint --compress none --export {memory}/last.tar {name}
{ssh} 'cat >{memory}/last.tar
    {podman} container restore --import {memory}/last.tar' <{memory}/last.tar
"""
PODMAN_PRECOPY = """
{podman} container checkpoint --pre-checkpoint --compress none --export {memory}/first.tar {name}
{ssh} 'cat >{memory}/first.tar' <{memory}/first.tar
{podman} container checkpoint --with-previous --compress none --export {memory}/last.tar {name}
{ssh} 'cat >{memory}/last.tar
    {podman} container restore --import-previous {memory}/first.tar --import {memory}/last.tar' <{memory}/last.tar
"""
# It was not there before, so everything of podman's is ours. Its packages follow.
REMOVE_PODMAN = """
iptables-save | grep -v NETAVARK | iptables-restore
rm -rf /run/podman /run/containers /run/netavark /dev/shm/libpod_lock /var/lib/containers
apt-get purge -qq -y """


class Servers:
    """The lab's two fog servers, made ready for all paths, and left as they were found."""

    def __init__(self) -> None:
        self.lab = Lab()
        # Of the memory that the next container has: C(private), or C(shared) as processes share it.
        self.kind = "private"
        self.address = self.lab.hostvars[DESTINATION]["ansible_host"]
        self.ssh = f"ssh -i {PLACE}/key -o UserKnownHostsFile={PLACE}/known_hosts root@{self.address}"
        self.new_packages: dict[str, set[str]] = {}

    def bash(self, node: str, script: str, **words: object) -> str:
        """Runs a script on a node up to its first failure; its standard output."""
        command = [
            *self.lab.exec_command(node),
            "bash",
            "-o",
            "pipefail",
            "-ec",
            script.format(**words) if words else script,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise Broken(" ".join(f"{done.stdout}\n{done.stderr}".split())[-600:])
        return done.stdout

    @contextlib.contextmanager
    def ready(self, with_podman: bool) -> Iterator[None]:
        """An image on both servers, a way from the one to the other for what is done by hand, and podman."""
        try:
            for node in (SOURCE, DESTINATION):
                self.clean(node)
                self.bash(node, f"mkdir -p {PLACE} {MEMORY} {STORE}")
            self._make_images()
            self._open_door()
            if with_podman:
                self._install_podman()
            yield
        finally:
            self._tidy()

    def _make_images(self) -> None:
        """One image, with one ID on both."""
        self.bash(SOURCE, MAKE_IMAGE)
        self._copy_image("docker")

    def _copy_image(self, engine: str) -> None:
        save = [*self.lab.exec_command(SOURCE), "sh", "-c", f"{engine} save {IMAGE}"]
        load = [*self.lab.exec_command(DESTINATION), "sh", "-c", f"{engine} load"]
        image = subprocess.run(save, capture_output=True, check=True).stdout
        subprocess.run(load, input=image, capture_output=True, check=True)

    def _open_door(self) -> None:
        self.bash(SOURCE, f"rm -f {PLACE}/key; ssh-keygen -q -t ed25519 -N '' -C {NAME}-key -f {PLACE}/key")
        key = self.bash(SOURCE, f"cat {PLACE}/key.pub").strip()
        self.bash(DESTINATION, f"mkdir -p /root/.ssh; echo '{key}' >>/root/.ssh/authorized_keys")
        host_key = self.bash(DESTINATION, "cat /etc/ssh/ssh_host_ed25519_key.pub").strip()
        self.bash(SOURCE, f"echo '{self.address} {host_key}' >{PLACE}/known_hosts")

    def _install_podman(self) -> None:
        for node in (SOURCE, DESTINATION):
            before = self._packages(node)
            if "ii  podman" not in before:
                self.bash(node, "apt-get update -qq; apt-get install -qq -y --no-install-recommends podman >&2")
            self.new_packages[node] = self._packages(node) - before
        self.bash(SOURCE, f"{PODMAN} import -q {MEMORY}/image.tar {IMAGE}")
        self._copy_image(PODMAN)

    def _packages(self, node: str) -> set[str]:
        return set(self.bash(node, "dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\\n'").splitlines())

    def _tidy(self) -> None:
        for node in (SOURCE, DESTINATION):
            self.clean(node)
            self.lab.sh(node, f"docker rmi {IMAGE}", check=False)
            self.lab.sh(node, f"umount $(mount | grep -o '{STORE}/[^ ]*')", check=False)
            if new := sorted(one.split()[-1] for one in self.new_packages.get(node, ())):
                self.lab.sh(node, REMOVE_PODMAN + " ".join(new), check=False)
            self.lab.sh(node, f"rm -rf {PLACE} {MEMORY} {STORE}", check=False)
            self.lab.sh(node, f"sed -i '/ {NAME}-key$/d' /root/.ssh/authorized_keys", check=False)

    def clean(self, node: str) -> None:
        """No container of a measurement, nothing that it wrote, and nothing still on its way to the disk."""
        script = f"""
            docker rm -f {NAME}
            runc kill {NAME} KILL && sleep 0.3; runc delete -f {NAME}
            command -v podman && {{ {PODMAN} rm -f -t 0 {NAME}; }}
            umount {PLACE}/bundle/rootfs
            rm -rf {PLACE}/bundle {PLACE}/*.log {PLACE}/lines {MEMORY}/images {MEMORY}/*t.tar {STORE}/log
            {SETTLE}
        """
        self.lab.sh(node, script, check=False)

    def sent(self) -> int:
        """Bytes that have left the source's network interface so far."""
        return int(self.bash(SOURCE, "cat /sys/class/net/eth0/statistics/tx_bytes"))

    def circumstances(self, with_podman: bool) -> dict:
        """What a reader of the figures has to know of the machine."""
        podman = {"podman": "podman --version | sed 's/podman version //'"} if with_podman else {}
        return machine(self.lab, {**VERSIONS, **podman})


class Move:
    """One container on the source that writes down the time, and one way to the destination."""

    def __init__(self, servers: Servers, memory: int, fraction: float) -> None:
        self.servers = servers
        self.memory = memory
        program = ["/usr/bin/python3", "-B", "-I", "-S", "-c", WORKLOAD, str(memory), str(fraction), servers.kind]
        self.program = shlex.join(program)
        # More about the last move than all paths have.
        self.more: dict[str, object] = {}

    def words(self) -> dict[str, object]:
        """What the scripts name."""
        return {
            "name": NAME,
            "image": IMAGE,
            # Once more, for a script within quotes that goes on to the destination.
            "program": self.program.replace("'", "'\\''"),
            "podman": PODMAN,
            "ssh": self.servers.ssh,
            "place": PLACE,
            "memory": MEMORY,
        }

    def start(self) -> None:
        """Starts it. Its log gets a second name, which stays when the container is removed."""
        log = "$(docker inspect --format '{{.LogPath}}' " + NAME + ")"
        self.servers.bash(SOURCE, f"docker run -d --name {NAME} {IMAGE} {self.program}; ln {log} {STORE}/log")

    def move(self) -> None:
        """Moves it; returns when the command that a user would give has returned."""
        raise NotImplementedError

    def lines(self) -> list[str]:
        """All that it has written, here and there; some of it twice."""
        here = self.servers.bash(SOURCE, f"cat {STORE}/log").splitlines()
        return [json.loads(line)["log"] for line in here] + self.lines_there()

    def lines_there(self) -> list[str]:
        """What it has written since it goes on."""
        return self.servers.lab.docker(DESTINATION, "logs", NAME, check=False).splitlines()


class DockerApi(Move):
    """As the thesis did it, by hand, but in one SSH session."""

    def move(self) -> None:
        self.servers.bash(SOURCE, DOCKER_API, **self.words())


class Floor(Move):
    """The same container, frozen and restored on the same server by runc alone; nothing is sent."""

    def start(self) -> None:
        super().start()
        self.servers.bash(SOURCE, FLOOR_BUNDLE, **self.words())

    def move(self) -> None:
        self.servers.bash(SOURCE, FLOOR, **self.words())

    def full_copy(self) -> float:
        """Seconds in which its images go to the other server once."""
        begin = time.monotonic()
        self.servers.bash(SOURCE, FULL_COPY, **self.words())
        return round(time.monotonic() - begin, 3)

    def lines_there(self) -> list[str]:
        return self.servers.lab.sh(SOURCE, f"cat {PLACE}/lines", check=False).splitlines()


class Podman(Move):
    """podman's own way to another server, without the compression, which this memory does not reward."""

    script = PODMAN_MOVE

    def start(self) -> None:
        run = f"{PODMAN} run -d --log-driver k8s-file --name {NAME} {IMAGE} {self.program}"
        self.servers.bash(SOURCE, run)

    def move(self) -> None:
        self.servers.bash(SOURCE, self.script, **self.words())

    def lines(self) -> list[str]:
        return self.servers.bash(SOURCE, f"{PODMAN} logs {NAME}").splitlines() + self.lines_there()

    def lines_there(self) -> list[str]:
        return self.servers.lab.sh(DESTINATION, f"{PODMAN} logs {NAME}", check=False).splitlines()


class PodmanPrecopy(Podman):
    """The same with a part of the memory sent beforehand."""

    script = PODMAN_PRECOPY


class Ours(Move):
    """C(ansible-playbook migrate.yml -e migration_mode=...)."""

    mode = ""

    def move(self) -> None:
        done = self.servers.lab.migrate(
            NAME, check=False, migration_mode=self.mode, source=SOURCE, destination=DESTINATION
        )
        if done.returncode:
            raise Broken(reason(done))
        rows = re.findall(r'"\s*([a-z][a-z-]*) +(\d+\.\d+) s\b', done.stdout)
        self.more["reported_seconds"] = {label: float(seconds) for label, seconds in rows}


def make(path: str, servers: Servers, memory: int, fraction: float) -> Move:
    """The move of a path."""
    kinds = {"floor": Floor, "docker_api": DockerApi, "podman": Podman, "podman_precopy": PodmanPrecopy}
    one = kinds.get(path, Ours)(servers, memory, fraction)
    if isinstance(one, Ours):
        one.mode = path
    return one


def measure(servers: Servers, path: str, memory: int, fraction: float) -> dict:
    """One container, moved once: the figures, each under the name that it has in the raw data."""
    one = make(path, servers, memory, fraction)
    try:
        one.start()
        wait_for(lambda: len(one.lines()) > 150, "the first lines of the container")
        sent, begin = servers.sent(), time.time()
        one.move()
        end, sent = time.time(), servers.sent() - sent
        wait_for(lambda: len(one.lines_there()) > 100, "lines of the moved container")
        gap = longest_gap(one.lines(), begin, end)
        if isinstance(one, Floor):
            sent = 0
            one.more["full_copy_seconds"] = one.full_copy()
    except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as exc:
        raise Broken(" ".join(str(exc).split())[:600]) from exc
    finally:
        for node in (SOURCE, DESTINATION):
            servers.clean(node)
    return {"downtime_seconds": gap, "total_seconds": round(end - begin, 3), "bytes_sent": sent, **one.more}


def in_order(record: dict) -> tuple:
    """Where a record is in the raw data."""
    return record["dirty_fraction"], record["memory_mib"], list(PATHS).index(record["path"])


def estimate(cells: list[Cell]) -> float:
    """Minutes that these measurements take, roughly."""
    return sum(COST[path][0] + COST[path][1] * memory for path, memory, _fraction in cells) / 60


def run(servers: Servers, results: Results, cells: list[Cell], repeat: int) -> None:
    """Measures each cell so often."""

    def one(cell: Cell) -> str:
        figures = measure(servers, *cell)
        results.add(cell, figures)
        return f"{figures['downtime_seconds']:.3f} s of {figures['total_seconds']:.1f} s"

    left = [cell for cell in cells for _count in range(results.count(cell), repeat)]
    print(f"{len(left)} measurements, about {estimate(left):.0f} minutes", flush=True)
    rounds(results, cells, repeat, one, lambda cell: f"{cell[0]} {cell[1]} MiB {cell[2]:.0%}")


def arguments() -> argparse.Namespace:
    """The command line."""

    def several(kind: Callable[[str], Any]) -> Callable[[str], list]:
        return lambda text: [kind(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=several(str), default=list(PATHS), help=f"of {','.join(PATHS)}")
    parser.add_argument("--sizes", type=several(int), default=list(SIZES), help="MiB of memory")
    parser.add_argument("--dirty", type=several(float), default=list(FRACTIONS), help="parts rewritten in a second")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each cell")
    parser.add_argument("--resume", action="store_true", help="keep what was measured already, and measure the rest")
    parser.add_argument("--page-only", action="store_true", help="only write the page from the data again")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "downtime.json", help="the raw data")
    options = parser.parse_args()
    if unknown := set(options.paths) - set(PATHS):
        parser.error(f"unknown paths: {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    """Measures, and writes the page."""
    options = arguments()
    if not options.page_only:
        with_podman = any(path.startswith("podman") for path in options.paths)
        results = Results(options.output, options.resume, KEYS, "downtime_seconds", in_order)
        servers = Servers()
        grid = itertools.product(options.sizes, options.dirty, options.paths)
        cells = [(path, memory, fraction) for memory, fraction, path in grid]
        with servers.ready(with_podman):
            results.circumstances(servers.circumstances(with_podman))
            run(servers, results, cells, options.repeat)
        results.save()
    write_page(options.output)


if __name__ == "__main__":
    main()
