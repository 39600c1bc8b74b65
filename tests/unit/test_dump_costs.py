# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU needs for a dump besides the memory, and what this machine lets it have."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import dump_costs
from ansible_collections.fog.migration.plugins.module_utils.criu.dump_costs import AddressSpace
from ansible_collections.fog.migration.plugins.module_utils.system import limits, procfs

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@pytest.mark.parametrize(
    ("page", "largest", "size"),
    [
        # 819 pages are wanted, and the kernel makes 1024 of them.
        (4 * KIB, None, 4 * MIB),
        (4 * KIB, 128 * MIB, 4 * MIB),
        (4 * KIB, 4 * MIB, 4 * MIB),
        # What it is by itself, where nothing may be exceeded.
        (4 * KIB, MIB, MIB),
        (4 * KIB, MIB + 5, MIB),
        (4 * KIB, 4 * KIB, 4 * KIB),
        (4 * KIB, 5, 4 * KIB),
        (16 * KIB, None, 64 * MIB),
        (64 * KIB, None, GIB),
    ],
)
def test_what_fits_into_a_pipe(page, largest, size):
    assert dump_costs.pipe_bytes(page, largest) == size


@pytest.mark.parametrize(
    ("memory", "processes", "pipe", "most"),
    [
        (0, 1, 4 * MIB, 300),
        (256 * MIB, 1, 4 * MIB, 500),
        # Too much for a soft limit of 1024, and what 2 GiB were seen to fail with.
        (2 * GIB, 1, 4 * MIB, 1400),
        (8 * GIB, 1, 4 * MIB, 4500),
        (8 * GIB, 1, MIB, 17000),
        (2 * GIB, 100, 4 * MIB, 2600),
    ],
)
def test_descriptors(memory, processes, pipe, most):
    found = dump_costs.descriptors(memory, processes, pipe)
    assert 2 * -(-memory // pipe) < found <= most


def test_what_a_reservation_costs():
    mariadb = AddressSpace(8 * TIB + GIB, 8 * TIB)
    # As CRIU said it: "Can't allocate 34365463408 bytes".
    assert dump_costs.lists(mariadb, 4 * KIB) == 32 * GIB + 4 * MIB
    assert dump_costs.entries(mariadb, 4 * KIB, scans=True) == 0
    assert dump_costs.entries(mariadb, 4 * KIB, scans=False) == 16 * GIB
    assert dump_costs.lists(AddressSpace(0, 0), 4 * KIB) == 0


@pytest.mark.parametrize(
    ("kernel", "criu", "scans"),
    [((6, 7), (4, 0), True), ((6, 18, 44), (4, 2, 1), True), ((6, 6, 9), (4, 2), False), ((6, 12), (3, 19), False)],
)
def test_which_criu_asks_for_what_is_there_only(kernel, criu, scans):
    assert dump_costs.scans(kernel, criu) is scans


# Limits of this machine


@pytest.mark.parametrize(
    ("hard", "allowed", "exceeds", "most"),
    [
        (20000, 1 << 20, False, 20000),
        (20000, 1 << 20, True, 1 << 20),
        (-1, 1 << 20, False, 1 << 20),
        (20000, 0, True, 20000),
    ],
)
def test_how_many_files_can_be_open(hard, allowed, exceeds, most):
    assert limits.most_open_files(hard, allowed, exceeds) == most


RAISE = """
import resource, subprocess, sys
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from ansible_collections.fog.migration.plugins.module_utils.system import limits
limits.raise_open_files()
print(subprocess.run(["sh", "-c", "ulimit -n"], stdout=subprocess.PIPE, check=True).stdout.decode())
"""


def test_what_is_started_may_open_as_many_files_as_the_hard_limit_allows():
    place = next(path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections", "fog")))
    done = subprocess.run([sys.executable, "-c", RAISE, place], capture_output=True, text=True, check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert int(done.stdout) == min(hard if hard > 0 else limits.ENOUGH_FILES, limits.ENOUGH_FILES)


def test_limits_of_this_machine():
    facts = limits.facts()
    assert facts["open_files"] >= resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert all(int(page) % 4096 == size % int(page) == 0 for page, size in facts["huge_pages"].items())
    exceeds = procfs.may_exceed_limits(procfs.status(os.getpid()))
    assert (limits.largest_pipe() is None) == exceeds


@pytest.mark.parametrize(
    ("free", "resv", "nr_overcommit", "surplus", "count"),
    [(0, 0, 0, 0, 0), (10, 3, 0, 0, 7), (3, 10, 0, 0, 0), (1, 0, 5, 2, 4), (0, 0, 2, 5, 0)],
)
def test_free_huge_pages(free, resv, nr_overcommit, surplus, count):
    assert limits.free_huge_pages(free, resv, nr_overcommit, surplus) == count
