# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory pages of real containers: deltas of two dumps, restores from them, rounds beside the running process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from churn import CHURN, churn_line
from lab import wait_for

pytestmark = pytest.mark.lab

HERE = "/var/lib/fog-migration/pages-test"
MODULE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_pages.py"
DOCKERS = "runc --root /run/docker/runtime-runc/moby"
# A process that stays the same and changes a little of its memory again and again, without children.
STEADY = (
    'while sleep 0.05; do echo; done | awk \'BEGIN { for (i = 0; i < 100000; i++) a[i] = "value " i } '
    '{ for (i = 0; i < 200; i++) a[(NR * 200 + i) % 100000] = NR " " i; print NR; fflush() }\''
)


def run(lab, script: str, *arguments: str):
    """Runs a Python script on fog1, beside the module as pages.py; what it leaves in C(answer)."""
    lab.sh("fog1", f"mkdir -p {HERE}")
    for name, text in (
        ("pages.py", MODULE.read_text(encoding="utf-8")),
        ("script.py", f"import json, os, sys\nimport pages\n{script}\nprint(json.dumps(answer))\n"),
    ):
        command = [*lab.exec_command("fog1"), "sh", "-c", f"cat > {HERE}/{name}"]
        subprocess.run(command, input=text, text=True, check=True)
    return json.loads(lab.sh("fog1", f"cd {HERE} && python3 script.py {' '.join(arguments)}"))


def dump(lab, identity: str, name: str, runc: str = DOCKERS, options: str = "--leave-running") -> None:
    """One dump of a container by its runtime."""
    lab.sh(
        "fog1", f"cd {HERE} && {runc} checkpoint {options} --image-path {HERE}/{name} --work-path {HERE}/w {identity}"
    )


def lines(lab) -> list[str]:
    """What the container C(runc) has written so far, complete lines only."""
    return lab.sh("fog1", f"cat {HERE}/log").split("\n")[:-1]


def wait_for_lines(lab, count: int) -> None:
    wait_for(lambda: len(lines(lab)) >= count, f"{count} lines")


def start(lab, script: str) -> str:
    """Starts the container C(churn) of Docker's; its ID."""
    lab.sh("fog1", f"mkdir -p {HERE}")
    identity = lab.start("fog1", "churn", script)
    wait_for(lambda: len(lab.lines("fog1", "churn")) > 3, "the first lines")
    return identity


TWO_DUMPS = """
figures = pages.delta("first", "second", "delta", "../first")
merged = pages.merge(None, "delta", "merged")
answer = {
    "figures": figures,
    "merged": merged,
    "between": len(pages.differences("first", "second")),
    "chain": pages.differences("delta", "second"),
    "plain": pages.differences("merged", "second"),
    "parent": os.path.lexists("merged/parent"),
    "names": sorted(os.listdir("merged")) == sorted(os.listdir("second")),
}
pages.merge("first", "delta", "in place", in_place=True)
answer["in place"] = pages.differences("in place", "second")

def lazy(directory):
    for name in pages.ImageSet(directory).names():
        with pages.ImageSet(directory).runs(name) as runs:
            for run in runs:
                if run.flags & pages.LAZY:
                    yield from ((name, run.vaddr + index * pages.PAGE) for index in range(run.pages))

answer["no longer lazy"] = sorted(set(lazy("second")) - set(lazy("merged")))
answer["lazy"] = len(set(lazy("merged")))
"""


def test_delta_of_two_dumps(lab):
    churn = start(lab, CHURN)
    dump(lab, churn, "first")
    seen = len(lab.lines("fog1", "churn"))
    wait_for(lambda: len(lab.lines("fog1", "churn")) > seen + 5, "more lines")
    dump(lab, churn, "second")
    answer = run(lab, TWO_DUMPS)
    assert answer["chain"] == answer["plain"] == answer["in place"] == []
    assert answer["no longer lazy"] == []
    assert answer["lazy"] > 900
    assert answer["between"] > 0
    assert not answer["parent"]
    assert answer["names"]
    figures = answer["figures"]
    assert figures["pages"] == answer["merged"]["pages"] > figures["changed"] > 0
    assert figures["pages"] - figures["changed"] > 900  # the numbers that stay have 4 MiB


# Rounds while it runs, one more when it is frozen, by two stores; then the dump.
ROUNDS = """
import time

def one_round():
    sent = 0
    time.sleep(0.2)
    for pid in pids():
        try:
            with pages.MemoryOf(pid) as memory:
                runs = memory.runs()
                for change in here.update(memory.name, runs):
                    sent += len(change.data)
                    there.put(memory.name, change.vaddr, bytes(change.data))
                there.settle(memory.name, here.layout(memory.name))
        except pages.PagesError as error:
            assert "no process" in str(error), error
    return sent

def pids():
    return [int(word) for word in os.popen("docker top churn -o pid").read().split()[1:]]

here, there = pages.Store("here"), pages.Store("there")
answer = {"rounds": [one_round() for _number in range(4)]}
assert os.system("docker pause churn >&2") == 0
for name in here.names():
    if name not in {pages.MemoryOf(pid).name for pid in pids()}:
        here.drop(name)
        there.drop(name)
answer["rounds"].append(one_round())
answer["again"] = one_round()
answer["digests"] = all(here.digest(name) == there.digest(name) for name in here.names())
assert os.system(sys.argv[1] + " >&2") == 0
answer["figures"] = pages.delta(here, "full", "delta", "../base")
there.lay_out("base")
answer["differences"] = pages.differences("base", "full")
answer["chain"] = pages.differences("delta", "full")
pages.merge("base", "delta", "merged", in_place=True)
answer["merged"] = pages.differences("merged", "full")
"""


def test_rounds_beside_a_running_container(lab):
    churn = start(lab, STEADY)
    order = f"'{DOCKERS} checkpoint --leave-running --image-path {HERE}/full --work-path {HERE}/w {churn}'"
    answer = run(lab, ROUNDS, order)
    assert answer["rounds"][0] > 4 * max(answer["rounds"][1:])
    assert sum(answer["rounds"][1:]) > 0
    assert answer["again"] == 0
    assert answer["digests"]
    assert answer["chain"] == answer["merged"] == []
    # What only the dump has is, by process, the vDSO and a page of code. What it has otherwise is the page with the
    # number of the CPU, which the kernel writes (rseq) when the process runs CRIU's code.
    processes = len({name for name, _vaddr, _reason in answer["differences"]})
    reasons = [reason for _name, _vaddr, reason in answer["differences"]]
    assert set(reasons) <= {"missing in the first", "other bytes"}, answer["differences"]
    assert reasons.count("missing in the first") <= 4 * processes
    assert reasons.count("other bytes") <= processes
    assert answer["figures"]["changed"] == len(answer["differences"])
    lab.docker("fog1", "unpause", "churn")
    before = len(lab.lines("fog1", "churn"))
    wait_for(lambda: len(lab.lines("fog1", "churn")) > before, "it goes on")


BUNDLE = """
config = json.load(open("bundle/config.json"))
config["process"].update(terminal=False, args=["sh", "-c", sys.argv[1]])
config["root"]["readonly"] = False
spaces = config["linux"]["namespaces"]
config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "network"]
json.dump(config, open("bundle/config.json", "w"))
answer = None
"""


@pytest.fixture
def bundle(lab) -> Iterator[None]:
    """A container without Docker, which runs CHURN; its lines are in C(log)."""
    lab.sh(
        "fog1",
        f"mkdir -p {HERE}/bundle/rootfs && cd {HERE}/bundle && id=$(docker create busybox:lab true) && "
        "docker export $id | tar -x -C rootfs && docker rm $id && runc spec",
    )
    quoted = CHURN.replace("'", "'\\''")
    run(lab, BUNDLE, f"'{quoted}'")
    background(lab, f"runc run --detach --bundle {HERE}/bundle fog-pages 2>&1 | cat > {HERE}/log")
    wait_for_lines(lab, 3)
    yield
    lab.sh("fog1", "runc delete --force fog-pages", check=False)


def background(lab, command: str) -> None:
    lab.sh("fog1", f"setsid sh -c '{command}' </dev/null >/dev/null 2>&1 &")


SETS = """
if sys.argv[1] == "store":
    store = pages.Store("store")
    pages.delta("first", "second", "unused", "../first")
    for name in pages.ImageSet("first").names():
        with pages.ImageSet("first").runs(name) as runs:
            for change in store.update(name, runs):
                pass
    pages.delta(store, "second", "delta", "../base")
    store.lay_out("base")
else:
    pages.delta("first", "second", "delta", "../first")
if sys.argv[1] == "merged":
    pages.merge("first", "delta", "merged", in_place=True)
answer = None
"""


@pytest.mark.parametrize("lazy", [False, True], ids=["at once", "lazy"])
@pytest.mark.parametrize(
    ("kind", "images"), [("chain", "delta"), ("store", "delta"), ("merged", "merged")], ids=["chain", "store", "merged"]
)
def test_restore(lab, bundle, kind, images, lazy):
    """What is restored from an incremental set goes on with every byte of its memory."""
    dump(lab, "fog-pages", "first", "runc")
    wait_for_lines(lab, len(lines(lab)) + 5)
    dump(lab, "fog-pages", "second", "runc", "")
    run(lab, SETS, kind)
    # Nothing but what is under test is left to restore from.
    lab.sh("fog1", f"cd {HERE} && rm -rf second {'first' if kind != 'chain' else ''}; mkdir r")
    before = len(lines(lab))
    if lazy:
        background(lab, f"timeout 60 criu lazy-pages --images-dir {HERE}/{images} --work-dir {HERE}/r -o lazy.log")
        wait_for(lambda: lab.sh("fog1", f"ls {HERE}/r/*.socket", check=False), "the socket of criu lazy-pages", 10)
    options = (
        f"--bundle {HERE}/bundle --image-path {HERE}/{images} --work-path {HERE}/r {'--lazy-pages' if lazy else ''}"
    )
    background(lab, f"runc restore --detach {options} fog-pages 2>&1 | cat >> {HERE}/log")
    wait_for_lines(lab, before + 8)
    if lazy:
        wait_for(lambda: not lab.sh("fog1", "pgrep -x criu", check=False), "the last lazy page", 30)
    written = lines(lab)
    assert [line.split()[0] for line in written] == [str(number) for number in range(len(written))]
    for number in (0, before - 1, before, before + 1, len(written) - 1):
        assert written[number] == churn_line(number)
    restored = lab.sh("fog1", f"grep -h nr_lazy: {HERE}/r/restore.log").split()[-1]
    shown = lab.sh("fog1", f"grep -h nr_lazy: {HERE}/r/restore.log")
    assert (int(restored) > 0) == lazy, shown
