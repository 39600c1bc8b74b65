# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsers of what Linux and CRIU write."""

from __future__ import annotations

import os
import struct

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.system import host, procfs

# A stats-dump that CRIU 4.2.1 wrote for a busybox counter.
STATS_DUMP = bytes.fromhex(
    "4059105506330957230000000a210898041093d30718930d2089012830300038204000480050085808600068007000"
)

DUMP_LOG = """\
(00.001262) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.009000) cg: cgroup thaw
(00.011084) Error (criu/cr-dump.c:389): Can't get rlimit 0: Operation not permitted
(00.011089) Error (criu/cr-dump.c:1584): Dump core (pid: 4153) failed with -1
(00.092940) Error (criu/cr-dump.c:1975): Dumping FAILED.
"""


def test_statistics_of_a_real_dump():
    statistics = tool.decode_stats(STATS_DUMP)
    assert statistics["pages_scanned"] >= statistics["pages_written"] > 0
    assert 0 < statistics["freezing_time"] < statistics["frozen_time"]


@pytest.mark.parametrize("cut", [0, 4, 11, 12, 20])
def test_truncated_statistics(cut):
    with pytest.raises(ValueError, match="statistics"):
        tool.decode_stats(STATS_DUMP[:cut])


def test_other_images_are_no_statistics():
    with pytest.raises(ValueError, match="not a statistics image"):
        tool.decode_stats(struct.pack("<III", tool.SERVICE_MAGIC, 0x1, 0))
    with pytest.raises(ValueError, match="malformed"):
        tool.decode_stats(struct.pack("<III", tool.SERVICE_MAGIC, tool.STATS_MAGIC, 2) + b"\x0a\xff")


def test_the_first_error_is_the_reason():
    lines = tool.log_tail(DUMP_LOG)
    assert len(lines) == 3
    assert tool.reason(lines) == ", CRIU said: (criu/cr-dump.c:389): Can't get rlimit 0: Operation not permitted"
    assert tool.reason([]) == ""
    assert tool.log_tail("one\ntwo\n") == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Version: 4.2.1\n", "4.2.1"),
        ("Version: 3.17.1\nGitID: v3.17\n", "3.17.1"),
        ("Version: v4.0\n", "4.0"),
        ("", None),
    ],
)
def test_version(text, version):
    assert tool.parse_version(text) == version


def test_options_for_runc():
    text = "# for all\ntcp-established\nmanage-cgroups=ignore  # of its own\nghost-limit 1M\n\n"
    assert tool.parse_options(text) == {"tcp-established": "", "manage-cgroups": "ignore", "ghost-limit": "1M"}


def test_cpu_features_of_x86_and_arm():
    assert host.parse_cpu_features("processor\t: 0\nflags\t\t: fpu sse2 avx\n\nflags: other\n") == [
        "avx",
        "fpu",
        "sse2",
    ]
    assert host.parse_cpu_features("Features\t: half thumb vfp neon\n") == ["half", "neon", "thumb", "vfp"]
    assert host.parse_cpu_features("") == []


def test_listening_ports():
    table = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 0 10 -1
"""
    assert host.parse_listening(table) == {22}


def test_descendants():
    assert procfs.descendants({1: 0, 2: 1, 3: 2, 4: 1, 9: 8}, 2) == {2, 3}
    assert procfs.descendants({1: 0, 2: 1, 3: 2, 4: 1}, 1) == {1, 2, 3, 4}


def test_whose_limits_can_be_read(monkeypatch):
    """The kernel is asked, as CRIU asks it. What has ended meanwhile is in nobody's way."""
    answers = {1: None, 2: PermissionError, 3: ProcessLookupError}

    def prlimit(process: int, _resource: int) -> None:
        if answers[process]:
            raise answers[process]

    assert procfs.limits_unreadable([os.getpid()]) is False
    monkeypatch.setattr(procfs.resource, "prlimit", prlimit)
    assert procfs.limits_unreadable([1, 3]) is False
    assert procfs.limits_unreadable([1, 2, 3]) is True
    assert procfs.limits_unreadable([]) is False
    assert procfs.unreadable_limits(0) is False


def test_who_holds_locks_on_files():
    table = """1: POSIX  ADVISORY  WRITE 4711 08:01:131 0 EOF
2: FLOCK  ADVISORY  WRITE 12 00:18:9 0 EOF
2: -> FLOCK  ADVISORY  WRITE 13 00:18:9 0 EOF
3: OFDLCK ADVISORY  READ -1 00:18:10 0 EOF
4: LEASE  ACTIVE    READ 14 00:18:11 0 EOF
"""
    assert procfs.lock_holders(table) == {4711, 12, 14}
    assert procfs.lock_holders("") == set()


def test_files_without_a_name_that_are_mapped():
    maps = """\
55d000000000-55d000002000 r-xp 00000000 08:01 1310 /usr/bin/a (deleted)
55d000002000-55d000004000 r--p 00002000 08:01 1310 /usr/bin/a (deleted)
55d000004000-55d000006000 r--p 00002000 08:01 1310 /usr/bin/b
7f0000000000-7f0000100000 rw-p 00000000 00:00 0 [heap]
7f0000200000-7f0000300000 rw-s 00000000 00:31 77 /dev/shm/a b (deleted)
7f0000300000-7f0000400000 rw-s 00000000 00:31 78 /dev/shm/a b (deleted)
"""
    assert procfs.deleted_mappings(maps) == {
        "55d000002000-55d000004000": "/usr/bin/a (deleted)",
        "7f0000200000-7f0000300000": "/dev/shm/a b (deleted)",
        "7f0000300000-7f0000400000": "/dev/shm/a b (deleted)",
    }
    assert procfs.deleted_mappings("") == procfs.deleted_mappings("nonsense (deleted)\n") == {}
