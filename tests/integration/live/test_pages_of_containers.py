# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory pages of real containers: what travels in rounds is, page by page, what a full dump of that freeze holds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from support import lab as lab_module
from support import programs
from support.churn import CHURN, churn_line
from support.lab import wait_for

pytestmark = pytest.mark.lab

NAME = "pages"
PLACE = "/var/lib/fog-pages-test"
TESTS = Path(__file__).resolve().parents[2]
# Four processes that change a little of their memory again and again, and one that waits for them.
SEVERAL = (
    "for one in 1 2 3 4; do (while sleep 0.05; do echo; done | awk -v one=$one "
    '\'BEGIN { for (i = 0; i < 30000; i++) a[i] = one " value " i } '
    '{ for (i = 0; i < 200; i++) a[(NR * 200 + i) % 30000] = NR " " i; print one, NR; fflush() }\') & done; wait'
)
# Two processes with threads, memory that all of them share, and memory of their own; some of each is always other.
SHARED = """
import random, threading, time
shared = {kind}(512 * 4096)
shared[:] = random.Random(1).randbytes(512 * 4096)
own = bytearray(random.Random(2).randbytes(1 << 22))
os.fork()
def change(step):
    number = 0
    while True:
        number += 1
        shared[number * step % 512 * 4096] = own[number * step % 1024 * 4096] = number % 256
        if step == 7:
            print(number, flush=True)
        time.sleep(0.02)
threading.Thread(target=change, args=(3,), daemon=True).start()
change(7)
"""


@pytest.fixture
def lab(_lab_is_up) -> Iterator[lab_module.Lab]:
    """The lab; these tests leave alone what else is on it."""
    the_lab = lab_module.Lab()
    clear = f"docker rm -f {NAME}; runc delete --force {NAME}; rm -rf {PLACE}; mkdir -m 700 {PLACE}"
    the_lab.sh("fog1", clear)
    yield the_lab
    the_lab.sh("fog1", f"{clear}; rmdir {PLACE}")


def freeze(lab, folder: Path, **wish) -> dict:
    """What one_freeze.py finds out about a container."""
    folder.mkdir()
    # The programs of both ends, and what runs them here.
    deploy.install(str(folder), {}, "migration.channel.source")
    deploy.install_sources(str(folder), "migration.channel.destination")
    for path in ("unit/both_ends.py", "unit/image_sets.py", "integration/support/one_freeze.py"):
        (folder / Path(path).name).write_text((TESTS / path).read_text(encoding="utf-8"), encoding="utf-8")
    packed = subprocess.run(["tar", "-C", str(folder), "-c", "."], capture_output=True, check=True).stdout
    subprocess.run([*lab.exec_command("fog1"), "tar", "-C", PLACE, "-x"], input=packed, check=True)
    command = [*lab.exec_command("fog1"), "python3", f"{PLACE}/one_freeze.py", json.dumps({"rounds": 3, **wish})]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def require_same(answer: dict, threads: int) -> None:
    """Every page is as in the full dump.

    What may be other, once for each thread, is what the kernel writes because the process runs CRIU's code for a dump:
    the number of the CPU (struct rseq, 32 bytes), and what is left of a sleep that was interrupted (nanoseconds).
    """
    assert all(answer["same"]), "both ends are the same after every round"
    assert answer["as_in_the_store"] == answer["flags"] == []
    for which in ("store", "completed"):
        sleeps = 0
        for _name, _vaddr, reason, span, words in answer[which]:
            assert reason == "other bytes", answer[which]
            assert span[0] // 32 == span[1] // 32, answer[which]
            sleeps += span[0] // 8 == span[1] // 8 and max(words) < 10**9
        assert sleeps <= threads and len(answer[which]) - sleeps <= threads, answer[which]
    total = sum(answer["pages"].values())
    assert answer["figures"] == {"pages": total, "bytes_written": total * 4096, "left": 0}


def require_rounds_paid(answer: dict) -> None:
    """The first sends everything, the others and the last one less."""
    first, *others = [figures["bytes_sent"] for figures in answer["rounds"]]
    assert first > 2 * max(others), answer["rounds"]
    assert sum(others) > 0


def goes_on(lab) -> None:
    lab.docker("fog1", "unpause", NAME)
    seen = len(lab.lines("fog1", NAME))
    wait_for(lambda: len(lab.lines("fog1", NAME)) > seen + 5, "it goes on")


PAUSE = ["docker", "pause", NAME]
MODES = pytest.mark.parametrize("mode", ["precopy", "stop-and-copy", "hybrid"])


@MODES
def test_a_container_that_churns(lab, tmp_path, mode):
    """Its processes come and go, and what they have in memory is always other."""
    container = lab.start("fog1", NAME, CHURN)
    wait_for(lambda: len(lab.lines("fog1", NAME)) > 3, "the first lines")
    answer = freeze(lab, tmp_path / "laid", container=container, pause=PAUSE, mode=mode)
    require_same(answer, threads=len(answer["pages"]))
    assert sum(answer["pages"].values()) > 900  # the numbers that stay have 4 MiB
    assert (answer["left"] > 0) == (mode != "stop-and-copy")
    if mode == "hybrid":
        assert answer["later"] > 0
    goes_on(lab)
    line = lab.lines("fog1", NAME)[-2]
    assert line == churn_line(int(line.split()[0]))


@MODES
def test_several_processes(lab, tmp_path, mode):
    container = lab.start("fog1", NAME, SEVERAL)
    wait_for(lambda: len(lab.lines("fog1", NAME)) > 30, "the first lines")
    answer = freeze(lab, tmp_path / "laid", container=container, pause=PAUSE, mode=mode)
    require_same(answer, threads=len(answer["pages"]))
    require_rounds_paid(answer)
    assert sum(pages > 500 for pages in answer["pages"].values()) >= 4, answer["pages"]
    goes_on(lab)


@MODES
@pytest.mark.parametrize("kind", ["anonymous", "memfd", "system_v"])
def test_shared_memory_and_threads(lab, tmp_path, mode, kind):
    container = programs.start(lab, "fog1", NAME, programs.KINDS + SHARED.format(kind=kind))
    wait_for(lambda: len(lab.lines("fog1", NAME)) > 30, "the first lines")
    answer = freeze(lab, tmp_path / "laid", container=container, pause=PAUSE, mode=mode)
    require_same(answer, threads=4)
    require_rounds_paid(answer)
    shared = [pages for name, pages in answer["pages"].items() if "shmem" in name]
    assert max(shared) >= 512, answer["pages"]
    # It travels in the rounds like all other memory: the last one has not all of it.
    assert answer["rounds"][-1]["bytes_sent"] < 512 * 4096
    assert len(answer["pages"]) - len(shared) == 2
    # A lazy dump keeps no pages but those of the namespace, which may have segments that nobody has attached.
    expected = len(answer["pages"]) if mode == "stop-and-copy" else kind == "system_v"
    assert answer["kept"] == expected
    goes_on(lab)


BUNDLE = """
import json, sys
config = json.load(open("config.json"))
config["process"].update(terminal=False, args=["sh", "-c", sys.argv[1]])
config["root"]["readonly"] = False
spaces = config["linux"]["namespaces"]
config["linux"]["namespaces"] = [space for space in spaces if space["type"] != "network"]
json.dump(config, open("config.json", "w"))
"""


@pytest.fixture
def bundle(lab) -> None:
    """A container without Docker, which runs CHURN; its lines are in C(log)."""
    folder = f"{PLACE}/bundle"
    export = f"id=$(docker create {lab_module.IMAGE} true) && docker export $id | tar -x -C rootfs && docker rm $id"
    lab.sh("fog1", f"mkdir -p {folder}/rootfs && cd {folder} && {export} && runc spec")
    configure = [*lab.exec_command("fog1"), "sh", "-c", f'cd {folder} && python3 - "$0"', CHURN]
    subprocess.run(configure, input=BUNDLE, text=True, check=True)
    run = f"runc run --detach --bundle {folder} {NAME} 2>&1 | cat >> {PLACE}/log"
    lab.sh("fog1", f": > {PLACE}/log; setsid sh -c '{run}' </dev/null >/dev/null 2>&1 &")
    wait_for(lambda: len(lines(lab)) > 3, "the first lines")


def lines(lab) -> list[str]:
    """What the container without Docker has written so far, complete lines only."""
    return lab.sh("fog1", f"cat {PLACE}/log").split("\n")[:-1]


@pytest.mark.parametrize("lazily", [False, True], ids=["at once", "lazily"])
@pytest.mark.parametrize("mode", ["precopy", "stop-and-copy"])
def test_restore(lab, bundle, tmp_path, mode, lazily):
    """What is restored from the destination's store goes on with every byte of its memory."""
    options = f"--bundle {PLACE}/bundle --image-path IMAGES --work-path WORK {'--lazy-pages' if lazily else ''}"
    answer = freeze(
        lab,
        tmp_path / "laid",
        container=NAME,
        pause=["runc", "pause", NAME],
        mode=mode,
        kill=["runc", "delete", "--force", NAME],
        restore=f"runc restore --detach {options} {NAME} 2>&1 | cat >> {PLACE}/log",
        lazily=lazily,
    )
    assert all(answer["same"])
    # Nothing is lazy when the dump itself was not.
    left = lazily and mode == "precopy"
    assert (answer["figures"]["left"] > 0) == left
    assert answer["images"] == answer["figures"]["bytes_written"]
    before = len(lines(lab))
    wait_for(lambda: len(lines(lab)) > before + 5, "more lines")
    written = lines(lab)
    assert [line.split()[0] for line in written] == [str(number) for number in range(len(written))]
    for number in (0, before - 1, before, before + 1, len(written) - 1):
        assert written[number] == churn_line(number)
    shown = lab.sh("fog1", f"grep -h nr_lazy: {PLACE}/work-there/restore.log")
    # One line for each process; the youngest of them may have nothing that can be lazy.
    assert any(int(line.split()[-1]) for line in shown.splitlines()) == lazily, shown
