# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of a migration fail before their server has no memory left; what they start for a container does not."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, limits, procfs
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import (
    DO,
    HELLO,
    LAYOUT,
    REFUSED,
    Frames,
    greeting,
)

MIB = 1 << 20
HARD = resource.getrlimit(resource.RLIMIT_DATA)[1]


@pytest.mark.parametrize(
    ("server", "most"),
    [(0, 512 * MIB), (1024 * MIB, 512 * MIB), (8192 * MIB, 2048 * MIB), (65536 * MIB, 16384 * MIB)],
)
def test_how_much_a_program_may_have(server, most):
    assert limits.most_memory(server) == most


PROGRAM = """
import subprocess, sys
sys.path[:0] = {path!r}
from {package}.system import limits
limits.LEAST_MEMORY, limits.MEMORY_PART = 128 << 20, 1 << 50
SHOW = ["sh", "-c", "ulimit -d; cat /proc/self/oom_score_adj"]
def show():
    return subprocess.run(SHOW, capture_output=True, text=True, check=True).stdout.split()
print(*show())
limits.bound()
print(*show())
with limits.lifted():
    print(*show())
print(*show())
try:
    print(len(bytearray(200 << 20)))
except MemoryError as error:
    print(limits.out_of_memory(error))
print(len(bytearray(50 << 20)))
limits.spare()
print(*show())
"""


def test_a_real_program():
    """It has to be privileged to give up its place before the OOM killer again."""
    text = PROGRAM.format(path=[path for path in sys.path if path], package=deploy.PACKAGE)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    before, bound, lifted, after, sentence, _enough, spared = done.stdout.splitlines()
    score = before.split()[1]
    assert bound == after == f"{128 << 10} 1000"
    assert sentence == "the program that moves it may have 128 MiB of memory here, and needed more"
    if procfs.may_exceed_limits(procfs.status(os.getpid())):
        assert lifted == before
        assert spared == f"{128 << 10} {score}"
    assert lifted.split()[0] == before.split()[0]


def test_a_smaller_limit_of_somebody_else_stays():
    text = PROGRAM.format(path=[path for path in sys.path if path], package=deploy.PACKAGE)
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (96 * MIB, HARD)),
    )
    assert [line.split()[0] for line in done.stdout.splitlines()[:4]] == [str(96 << 10)] * 4


THREADS = """
import resource, sys, threading
sys.path[:0] = {path!r}
from {package}.system import limits
limits.LEAST_MEMORY, limits.MEMORY_PART = 128 << 20, 1 << 50
limits.bound()
ready = threading.Event()
threads = [threading.Thread(target=ready.wait, daemon=True) for _one in range(16)]
for thread in threads:
    thread.start()
print("started")
try:
    for _one in range(64):
        threading.Thread(target=ready.wait, daemon=True).start()
except limits.NO_MEMORY as error:
    print(limits.out_of_memory(error))
ready.set()
"""


def test_threads_where_stacks_may_be_large():
    """The limit for a stack is what each thread would get."""
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    text = THREADS.format(path=[path for path in sys.path if path], package=deploy.PACKAGE)
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, (256 * MIB, hard)),
    )
    sentence = "the program that moves it may have 128 MiB of memory here, and needed more"
    assert done.stdout.splitlines() == ["started", sentence]


def test_what_is_no_matter_of_memory_is_told_as_it_is():
    assert limits.out_of_memory(RecursionError("too deep")) == "RecursionError: too deep"


def test_nothing_is_bound_where_nobody_has_asked():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limits.lifted():
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    limits.spare()


def test_a_source_that_wants_more_is_refused_in_one_sentence(tmp_path):
    """The real end of a channel, with a limit that the list of a hostile source exceeds."""
    staging = tmp_path / "staging"
    staging.mkdir()
    own = DestinationSettings(str(staging), "/nonexistent.sock", "fog2")
    program = subprocess.Popen(
        deploy.install(str(tmp_path), own.to_json(), "migration.channel.destination"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (64 * MIB, HARD)),
    )
    with program:
        frames = Frames(program.stdout.fileno(), program.stdin.fileno(), 60)
        frames.expect_object(HELLO)
        frames.write_json(HELLO, greeting("source"))
        runs = [[number * 8192, 1] for number in range(450_000)]
        # It may have gone in the midst of it.
        with contextlib.suppress(ChannelError):
            frames.write_json_with_list(DO, {"do": "layout", "name": "pagemap-1.img"}, LAYOUT, runs)
        reason = frames.expect_object(REFUSED)["reason"]
        said = program.stderr.read().decode()
    assert program.returncode == 1
    sentence = "the program that moves it may have 64 MiB of memory here, and needed more (fog2)"
    assert said == f"{sentence}\n"
    assert reason == sentence
    assert not staging.exists()
