# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory processes have, of each kind: what the kernel says, and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu.dump_costs import AddressSpace
from ansible_collections.fog.migration.plugins.module_utils.memory import footprint
from ansible_collections.fog.migration.plugins.module_utils.memory.footprint import HugeMapping

MIB = 1 << 20
PAGE = 4096


def test_private_memory_counts_where_it_is_swapped_out_as_well():
    status = {"RssAnon": "512 kB", "RssShmem": "4096 kB", "RssFile": "9 kB", "VmSwap": "1024 kB"}
    assert footprint.private_bytes(status) == 1536 * 1024
    # A process that has ended, or a kernel that does not tell.
    assert footprint.private_bytes({}) == 0


MAPS = """\
55d000000000-55d000002000 r-xp 00000000 08:01 1310 /usr/bin/a b
7e0000000000-7f0000000000 ---p 00000000 00:00 0
7f0000200000-7f0000300000 rw-s 00000000 00:01 77 /dev/zero (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
"""


def test_address_space_counts_without_memory():
    assert footprint.address_space([MAPS]) == AddressSpace(0x2000 + (1 << 40) + 0x21000, 1 << 40)
    assert footprint.address_space([MAPS, MAPS.replace("7e0000000000", "7d0000000000")]).longest == 1 << 41
    assert footprint.address_space(["", MAPS, "nonsense\n"]) == footprint.address_space([MAPS])


SMAPS = """\
7f0000000000-7f0000800000 rw-p 00000000 00:0f 4711 /anon_hugepage (deleted)
Size:               8192 kB
KernelPageSize:     2048 kB
MMUPageSize:        2048 kB
Rss:                   0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:    4096 kB
VmFlags: rd wr mr mw me de ht
7f0001000000-7f0001400000 rw-s 00200000 00:0f 12 /anon_hugepage (deleted)
KernelPageSize:     2048 kB
Shared_Hugetlb:     2048 kB
Private_Hugetlb:       0 kB
7f0002000000-7f0002001000 rw-p 00000000 00:00 0
KernelPageSize:        4 kB
Shared_Hugetlb:        0 kB
7f0003000000-7f0003200000 rw-s 00000000 00:06 7 /dev/dax0.0
KernelPageSize:     2048 kB
"""


def test_mappings_of_huge_pages():
    assert list(footprint.parse_huge(SMAPS, PAGE)) == [
        HugeMapping(0, 2 * MIB, 8 * MIB, 4 * MIB),
        HugeMapping(12, 2 * MIB, 6 * MIB, 2 * MIB),
    ]
    assert (
        list(footprint.parse_huge("", PAGE)) == list(footprint.parse_huge("nonsense\nKernelPageSize: 9 kB", PAGE)) == []
    )


def test_huge_pages_that_several_share_count_once():
    mappings = [
        HugeMapping(0, 2 * MIB, 8 * MIB, 0),
        HugeMapping(0, 2 * MIB, 2 * MIB, 0),
        HugeMapping(12, 2 * MIB, 6 * MIB, 0),
        HugeMapping(12, 2 * MIB, 4 * MIB, 0),
        HugeMapping(12, 1024 * MIB, 1024 * MIB, 0),
    ]
    assert footprint.huge_bytes(mappings) == {2 * MIB: 16 * MIB, 1024 * MIB: 1024 * MIB}
    assert footprint.huge_bytes([]) == {}


MOUNTINFO = """\
500 400 0:50 / / rw,relatime - overlay overlay rw,lowerdir=a
501 500 0:51 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
502 501 0:52 / /dev/shm rw,nosuid shared:7 master:1 - tmpfs shm rw,size=65536k
503 500 0:53 / /a\\040b rw - tmpfs tmpfs rw
504 500 0:53 / /again rw - tmpfs tmpfs rw
505 500 0:24 / /host-run rw - tmpfs tmpfs rw
506 500 0:54 /below /part rw - tmpfs tmpfs rw
507 500 0:55 / /proc rw - proc proc rw
"""


def test_file_systems_in_memory_that_are_its_own():
    """Each once; those of the server and parts of others stay where they are."""
    servers = "30 20 0:24 / /run rw shared:5 - tmpfs tmpfs rw\n31 20 8:1 / / rw - ext4 /dev/sda1 rw\nnonsense\n"
    assert footprint.own_file_systems(MOUNTINFO, servers) == ["/dev", "/dev/shm", "/a b"]
    assert footprint.own_file_systems(MOUNTINFO, MOUNTINFO) == []


TARGET = """
import mmap, os, sys, time
own = mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
own[:] = bytes([1]) * len(own)
reserved = mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, prot=mmap.PROT_READ)
shared = mmap.mmap(-1, 4 << 20)
shared[: 3 << 20] = bytes(3 << 20)
open_only = os.memfd_create("with a blank")
os.ftruncate(open_only, 16 << 20)
os.pwrite(open_only, bytes(1 << 20), 8 << 20)
if not os.fork():
    shared[:1]
os.write(1, b"%d\\n" % os.getpid())
time.sleep(600)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root may look at what processes share")
def test_the_memory_of_two_processes():
    command = [sys.executable, "-c", TARGET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            pids = {int(process.stdout.readline()) for _process in range(2)}
            found = footprint.of(pids, process.pid)
            alone = footprint.of([process.pid], 0)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    # Each has its own, and what they share counts once: of a memfd what is in it, whether it is mapped or not.
    assert found.shared == alone.shared == 4 * MIB
    assert found.private > 2 * 8 * MIB > alone.private > 8 * MIB
    assert found.processes == 2 and found.files == alone.files == 0
    assert found.space.longest == alone.space.longest == 1 << 40
    assert 2 << 40 < found.space.total < 3 << 40
    assert found.huge == {}


def test_a_process_that_has_ended():
    assert footprint.of([2**22 + 1], 0) == footprint.Footprint(0, 0, 0, 1, AddressSpace(0, 0), {})
