# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the kernel, CRIU or a user have in texts with names of anybody: none of these is taken for a line."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.fog.migration.plugins.module_utils.criu import probe, tool
from ansible_collections.fog.migration.plugins.module_utils.memory import footprint, process_memory
from ansible_collections.fog.migration.plugins.module_utils.network import leftover_filters
from ansible_collections.fog.migration.plugins.module_utils.system import files, host, procfs
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access
from fuzz.made_up import as_json, like, payloads

# What ends a line for Python, in some way, and not for the kernel.
ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
texts = st.one_of(st.text(max_size=80), st.text(alphabet="0123456789abcdef- /:kB*rwxps\n\r\\", max_size=80))


@st.composite
def lines_like(draw: st.DrawFn, text: str) -> str:
    """A text, of which lines are other ones, missing, twice, or cut off."""
    found = []
    for line in text.split("\n"):
        what = draw(st.sampled_from(["same"] * 5 + ["odd", "gone", "twice", "cut"]))
        other = {"odd": draw(texts), "cut": line[: draw(st.integers(0, len(line)))]}.get(what, line)
        found += [other] * {"gone": 0, "twice": 2}.get(what, 1)
    return "\n".join(found)


# ---------------------------------------------------------------------------------------------------------------------
# /proc

MAPS = """\
00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/program
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
7f1000000000-7f1000100000 rw-s 00000000 00:01 1024 /dev/zero (deleted)
7f2000000000-7f2000100000 rw-s 00000000 00:01 1025 /memfd:name (deleted)
7f3000000000-7f3000100000 rw-s 00000000 00:01 32769 /SYSV00000000 (deleted)
7f4000000000-7f4000100000 r--p 00000000 08:02 173522 /tmp/gone (deleted)
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0 [stack]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]"""
SMAPS = """\
7f0000000000-7f0000200000 rw-s 00000000 00:0f 77 /anon_hugepage (deleted)
Rss:                   4 kB
KernelPageSize:     2048 kB
Shared_Hugetlb:     2048 kB
7f5000000000-7f5000200000 rw-p 00000000 00:00 0
Rss:                   0 kB"""
STATUS = "Name:\tprogram\nState:\tR (running)\nPPid:\t1\nUid:\t0\t0\t0\t0\nVmRSS:\t     900 kB\nNoNewPrivs:\t1\n"
MOUNTINFO = """\
22 28 0:21 / /sys rw,nosuid - sysfs sysfs rw
28 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
40 28 0:33 /a\\040b /mnt/a\\134b rw - tmpfs none rw"""


@given(st.one_of(lines_like(MAPS), texts))
def test_maps(text):
    assert all(begin >= 0 and end >= 0 for begin, end in process_memory.parse_maps(text))
    assert all(isinstance(inode, int) for inode in process_memory.parse_shared(text))
    assert all(name.endswith(" (deleted)") for name in procfs.deleted_mappings(text).values())
    code = procfs.first_code(text)
    assert code is None or "x" in code[1]
    footprint.address_space([text])


@given(st.one_of(lines_like(SMAPS), texts))
def test_smaps(text):
    assert all(isinstance(begin, int) for begin in process_memory.parse_empty(text))
    assert all(isinstance(one, footprint.HugeMapping) for one in footprint.parse_huge(text))


@given(st.one_of(lines_like(STATUS), texts))
def test_status(text):
    assert all(isinstance(key, str) and value == value.strip() for key, value in procfs.fields(text).items())


@given(st.one_of(lines_like(MOUNTINFO), texts))
def test_mounts(text):
    assert all(len(one) == 4 for one in files.parse_mountinfo(text))
    found = files.parse_mounts(text)
    assert set(files.file_system("/a/b", found)) == {"type", "device"}


@given(st.one_of(lines_like("0::/docker/" + "a" * 64 + "\n1:memory:/x"), texts))
def test_control_groups(text):
    procfs.is_in_groups_of("a" * 64, text)


@pytest.mark.parametrize("end", ENDS)
def test_a_name_does_not_begin_a_line(end):
    """As a container can call a file that it maps, and a folder on which it mounts something."""
    real = "7f0000000000-7f0000100000 r--p 00000000 08:02 7 /tmp/"
    forged = f"{real}a{end}00400000-00500000 rwxs 00000000 00:01 4711 /dev/zero (deleted)"
    assert process_memory.parse_maps(forged) == [(0x7F0000000000, 0x7F0000100000)]
    assert process_memory.parse_shared(forged) == {}
    assert procfs.first_code(forged) is None
    mounts = f"40 28 0:33 / /mnt/a{end}41 28 8:1 / /etc rw - ext4 /dev/sda1 rw"
    assert [one[2] for one in files.parse_mountinfo(mounts)] in ([], ["/mnt/a" + end + "41"])
    assert not procfs.is_in_groups_of("a" * 64, f"0::/docker/x{end}0::/docker:{'a' * 64}")
    assert set(procfs.fields(f"Name:\ta{end}Uid:\t0")) == {"Name"}


@pytest.mark.parametrize("end", "\r\x0b\x0c\x1c")
def test_a_process_does_not_say_what_its_status_is(end):
    """The kernel itself, and a process that calls itself as a line of its status."""
    name = f"a{end}Kthread:\t1"
    script = "import sys; open('/proc/self/comm', 'w', newline='').write(sys.argv[1]); print(1, flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, name], **pipes) as process:
        process.stdout.readline()
        assert procfs.program(process.pid) == name
        told = procfs.status(process.pid)
        process.stdin.close()
    assert told["Name"].startswith("a") and told.get("Kthread") in (None, "0")


# ---------------------------------------------------------------------------------------------------------------------
# What CRIU says

LOG = """\
(00.000010) Version: 4.1 (gitid 0)
(00.001000) Warn  (criu/kerndat.c:1): something
(00.002000) Error (criu/files.c:2): Can't open \x1b[2J/tmp/x\x07.
(00.003000) Error (criu/cr-dump.c:3): Dumping FAILED."""


@given(st.one_of(lines_like(LOG), texts))
@example(LOG)
def test_a_log(text):
    lines = tool.log_tail(text)
    assert len(lines) <= 12
    said = tool.reason(lines)
    assert said == "" or (said.startswith(", CRIU said: ") and said.isprintable())


@given(st.one_of(lines_like("tcp-established\nghost-limit=1M # x\nmanage-cgroups ignore\n"), texts))
def test_a_configuration_of_criu(text):
    options = tool.parse_options(text)
    assert tool.parse_options(tool.merge_options(text, {"ghost-limit": "2M"}))["ghost-limit"] == "2M"
    assert all(isinstance(value, str) for value in options.values())


@given(texts)
def test_a_version(text):
    assert tool.parse_version(text) is None or isinstance(tool.parse_version(text), str)


CACHE = {"format": probe.FORMAT, "key": {"a": 1}, "version": "4.1", "features": dict.fromkeys(probe._features.FEATURES)}


@given(st.one_of(like(CACHE).map(as_json), payloads))
def test_answers_that_were_kept(data):
    answers = probe.parse_cache(data, {"a": 1})
    assert answers is None or set(answers.features) == set(probe._features.FEATURES)


# ---------------------------------------------------------------------------------------------------------------------
# What others have written

SAVED = """\
*nat
:CRIU - [0:0]
*filter
:CRIU - [0:0]
-A INPUT -j CRIU
-A OUTPUT -m mark --mark 0xc114 -j DROP
COMMIT"""


@given(st.one_of(lines_like(SAVED), texts))
def test_rules_of_a_packet_filter(text):
    for change in leftover_filters.undoing(leftover_filters.rules_in(text)):
        # Whatever the lines are, none of them is another table's.
        assert change.splitlines()[0] == "*filter"
        assert all(line[:2] in ("*f", "-D", "-F", "-X", "CO") for line in change.splitlines())


FEATURES = "processor\t: 0\nflags\t\t: fpu sse aes\n"


@given(lines_like(FEATURES))
def test_a_processor(text):
    assert host.parse_cpu_features(text) == sorted(set(host.parse_cpu_features(text)))


KEY = b"ssh-ed25519 AAAA user@host\n"
OURS = b'restrict,command="x" ssh-ed25519 AAAA fog-migration:run1:1700000000\n'
key_lines = st.one_of(
    st.sampled_from([KEY, OURS, b"\n", b"# fog-migration:run1:1\n", b"x fog-migration:run1:" + b"9" * 5000 + b"\n"]),
    st.binary(max_size=60),
    st.binary(max_size=20).map(lambda data: b"fog-migration:" + data),
)


@given(st.lists(key_lines, max_size=6).map(b"".join), st.sampled_from([None, "run1"]))
def test_a_users_keys(content, transfer):
    """What is not ours is what it was, to the byte."""
    left = ssh_access.without_transfer(content, transfer, 2_000_000_000)
    lines = content.splitlines(True)
    kept = iter(lines)
    assert all(line in kept for line in left.splitlines(True))
    gone = [line for line in lines if line not in left.splitlines(True)]
    assert all(b"fog-migration:" in line and not line.lstrip().startswith(b"#") for line in gone)
    assert ssh_access.with_line(left, OURS).endswith(OURS)


def test_memory_is_limited_here(too_much):
    """Otherwise none of these tests would tell that something takes all of it."""
    with pytest.raises(MemoryError):
        bytearray(too_much)
