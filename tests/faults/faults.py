# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can happen to a migration: faults that are done to it for real, each at a moment of it.

A fault is done, and healed when the migration has ended: a node that was lost comes back, a cut network is mended.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from support import criu_step
from support import lab as lab_module

# The tasks at whose begin something happens: a stage boundary each. What they are called in the role.
MOMENTS = {
    "cold": {
        "reservation": "Open the journal at the source",
        "preparation": "Save what is in its volumes",
        "pre-copy": "Transfer that to the destination",
        "filling": "Fill the volumes at the destination",
        "checkpoint": "Freeze the container into a checkpoint",
        "transfer": "Transfer the checkpoint to the destination",
        "handover": "Hand over",
        "restore": "Restore the container at the destination",
        "commitment": "Look at the container at the destination",
        "activation": "Let go of the container at the source",
        "end": "Leave the container to the destination",
    },
    "live": {
        "reservation": "Stage 1, reservation",
        "arming": "Stage 1, reservation, prepare and arm the destination",
        "pre-copy": "Stage 2, iterative pre-copy",
        "freeze": "Stage 3, stop-and-copy",
        "commitment": "Stage 4, commitment",
        "activation": "Stage 5, activation",
        "end": "Remember what became of them",
    },
}
# CRIU is killed at a step, by itself: on which server, and the texts by which it is known.
STEPS = {"criu in a dump": ("source", criu_step.DUMP), "criu in a restore": ("destination", criu_step.RESTORE)}
# Seconds that a network stays cut: longer than SSH waits for a sign of life.
CUT = 30
# What runs for a migration on a server: the process that its private folder names.
RAW = "cut -d' ' -f1 /run/fog-migration/transfer-*-{role}-*/pid | xargs -r kill -KILL || true"
AGENT = "cut -d' ' -f1 /run/fog-migration/agent-*/pid | xargs -r kill -KILL || true"


class Scene(NamedTuple):
    """Where a fault is done: the lab, who is source and destination, and the playbook under way."""

    lab: lab_module.Lab
    source: str
    destination: str
    playbook: subprocess.Popen

    def sh(self, node: str, script: str) -> None:
        """On a node, which may not be there any more."""
        self.lab.sh(node, script, check=False)


def _controller(scene: Scene) -> None:
    scene.playbook.kill()


def _kill(side: str, script: str) -> Callable[[Scene], None]:
    return lambda scene: scene.sh(getattr(scene, side), script)


def _node(side: str) -> Callable[[Scene], None]:
    def lose(scene: Scene) -> None:
        name = f"{lab_module.NAME}-{getattr(scene, side)}"
        init = subprocess.run(
            ["docker", "inspect", "-f", "{{.State.Pid}}", name], capture_output=True, text=True, check=False
        ).stdout.strip()
        with subprocess.Popen(["docker", "kill", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as kill:
            deadline = time.monotonic() + 60
            while kill.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
                _thaw_what_is_to_die(init)

    return lose


def _thaw_what_is_to_die(init: str) -> None:
    """A process that control groups of version 1 keep frozen does not die; no computer without power waits for it."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, KeyError, StopIteration):
            facts = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if facts["PPid"].strip() == init and int(facts["SigPnd"], 16) >> 8 & 1:
                groups = status.with_name("cgroup").read_text()
                place = next(line.split(":", 2)[2] for line in groups.splitlines() if ":freezer:" in line)
                Path(f"/sys/fs/cgroup/freezer{place}/freezer.state").write_text("THAWED")


def _engine(*words: str) -> None:
    subprocess.run(["docker", *words], capture_output=True, check=False, timeout=120)


def _cut(*chains: str) -> Callable[[Scene], None]:
    def cut(scene: Scene) -> None:
        there = scene.lab.hostvars[scene.destination]["ansible_host"]
        for chain in chains:
            end = "-d" if chain == "OUTPUT" else "-s"
            scene.sh(scene.source, f"iptables -I {chain} {end} {there} -j DROP -m comment --comment fault")

    return cut


# The journal and the checkpoints get a disk of their own.
_SMALL_DISK = "mkdir -p /var/lib/fog-migration && mount -t tmpfs -o size=256m,mode=755 fault /var/lib/fog-migration"


def _nothing(_scene: Scene) -> None:
    """It was prepared, and happens by itself."""


def _full_disk(scene: Scene) -> None:
    """That disk has no room from now on; what was there is still there."""
    scene.sh(scene.destination, "cat /dev/zero > /var/lib/fog-migration/fault 2>/dev/null || true")


def _full_memory(scene: Scene) -> None:
    """The node gets no more memory than it has now, so that what asks for more is killed or refused."""
    name = f"{lab_module.NAME}-{scene.destination}"
    told = (
        subprocess.run(
            ["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", name],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        .stdout.split("/")[0]
        .strip()
    )
    units = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}
    size = next((int(float(told[:-3]) * factor) for unit, factor in units.items() if told.endswith(unit)), 0)
    if size:
        limit = str(size + (4 << 20))
        _engine("update", "--memory", limit, "--memory-swap", limit, name)


class Fault(NamedTuple):
    """One kind of fault: what it does, and the server that is lost with all that runs on it, if it is one."""

    do: Callable[[Scene], None]
    loses: str | None = None
    before: str = "true"  # what is done at the destination before the migration


_RUNTIME = "pkill -KILL -x runc; true"
_CRIU = "pkill -KILL -x criu; true"
_DOCKERD = "pkill -KILL -x dockerd; true"
# It waits at the destination for the instant at which the OCI runtime has restored what Docker does not own yet, which
# passes within some milliseconds: so it starts no program any more then.
_DOCKERD_THEN = """
setsid timeout 300 sh -c '
    folder=
    until [ "$folder" ]; do
        sleep 0.01
        for options in /run/fog-migration/runtime/*/options; do [ ! -e "$options" ] || folder=${options%/*}; done
    done
    dockerd=$(pgrep -o -x dockerd)
    until [ -e "$folder/restored" ] || [ ! -e "$folder" ]; do :; done
    kill -KILL "$dockerd"
' </dev/null >/dev/null 2>&1 &
"""
FAULTS = {
    "controller": Fault(_controller),
    "ssh of the channel": Fault(_kill("source", "pkill -KILL -f 'ssh .*fog-migration-destinatio[n]'; true")),
    "sender": Fault(_kill("source", RAW.format(role="source"))),
    "agent at the source": Fault(_kill("source", AGENT)),
    "agent at the destination": Fault(_kill("destination", AGENT)),
    "receiver": Fault(_kill("destination", RAW.format(role="destination"))),
    "runc at the source": Fault(_kill("source", _RUNTIME)),
    "criu at the source": Fault(_kill("source", _CRIU)),
    "runc at the destination": Fault(_kill("destination", _RUNTIME)),
    "criu at the destination": Fault(_kill("destination", _CRIU)),
    "dockerd at the source": Fault(_kill("source", _DOCKERD)),
    "dockerd at the destination": Fault(_kill("destination", _DOCKERD)),
    "dockerd before it owns the container": Fault(_nothing, before=_DOCKERD_THEN),
    "source node": Fault(_node("source"), loses="source"),
    "destination node": Fault(_node("destination"), loses="destination"),
    "destination's disk full": Fault(_full_disk, before=_SMALL_DISK),
    "destination's memory full": Fault(_full_memory),
    **dict.fromkeys(STEPS, Fault(_nothing)),
    "network, both ways": Fault(_cut("INPUT", "OUTPUT")),
    "network, to the destination": Fault(_cut("OUTPUT")),
    "network, to the source": Fault(_cut("INPUT")),
}

_HEAL = f"""
{criu_step.REMOVE}
iptables-save | grep -v 'comment fault' | iptables-restore
rm -f /var/lib/fog-migration/fault
systemctl reset-failed docker containerd ssh
systemctl start containerd docker ssh
timeout 60 sh -c 'until docker info >/dev/null 2>&1; do sleep 0.5; done'
true
"""


def heal(the_lab: lab_module.Lab) -> None:
    """Everything is as it was before the fault: nodes, networks, disks and daemons."""
    for node in the_lab.servers():
        name = f"{lab_module.NAME}-{node}"
        _engine("update", "--memory", "0", "--memory-swap", "0", name)
        _engine("start", name)
    for node in the_lab.servers():
        lab_module.wait_for(lambda node=node: the_lab.sh(node, "echo up", check=False), f"{node} itself", 60)
        the_lab.sh(node, _HEAL)


class Plan(NamedTuple):
    """One fault that is to be tried."""

    kind: str
    mode: str
    moment: str
    delay: float  # seconds after the moment
    together: int = 1  # how many containers move together


def prepare(the_lab: lab_module.Lab, plan: Plan, source: str, destination: str) -> None:
    """What a fault needs before the migration begins."""
    the_lab.sh(destination, FAULTS[plan.kind].before)
    if plan.kind in STEPS:
        side, steps = STEPS[plan.kind]
        criu_step.install(the_lab, source if side == "source" else destination, steps[plan.moment])


def plans(seed: int, count: int) -> list[Plan]:
    """So many faults, of all kinds about equally often, at stage boundaries and at random instants."""
    dice = random.Random(seed)
    kinds = []
    while len(kinds) < count:
        kinds += dice.sample(sorted(FAULTS), len(FAULTS))
    found = []
    for kind in kinds[:count]:
        mode = dice.choices(["precopy", "cold", "hybrid", "postcopy"], [6, 3, 1, 1])[0]
        moment, delay = _moment(dice, kind, mode)
        together = 1 if mode == "cold" else dice.choice([1, 1, 1, 2])
        found.append(Plan(kind, mode, moment, round(delay, 3), together))
    return found


def _moment(dice: random.Random, kind: str, mode: str) -> tuple[str, float]:
    """A moment of a migration, and the seconds after it."""
    if kind in STEPS:
        return dice.choice(sorted(STEPS[kind][1])), 0.0
    if FAULTS[kind].do is _nothing:
        return "any", 0.0
    boundaries = [*MOMENTS["cold" if mode == "cold" else "live"], "freeze" if mode != "cold" else "restore", "any"]
    moment = dice.choice(boundaries)
    # In the freeze, all that matters happens within a second.
    return moment, dice.uniform(0, 7) if moment == "any" else dice.choice([0.0, dice.uniform(0, 1.2)])


def lost_server(plan: Plan, source: str, destination: str) -> str | None:
    """The server that a fault takes away, with all that runs on it, if it does."""
    return {None: None, "source": source, "destination": destination}[FAULTS[plan.kind].loses]


def strike(scene: Scene, plan: Plan, lines, before: Callable[[], object]) -> None:
    """Waits for the moment, by what the playbook writes, and does the fault.

    :param before: is called right before it.
    """
    task = MOMENTS["cold" if plan.mode == "cold" else "live"].get(plan.moment)
    for line in lines:
        if task is None or (line.startswith("TASK [") and line.rstrip().rstrip("*").rstrip().endswith(f": {task}]")):
            break
    time.sleep(plan.delay)
    before()
    FAULTS[plan.kind].do(scene)
