# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark of the whole command makes of its raw data, of Ansible's output, and of the kernel's figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bench_page
import command_page
import processor_time
import pytest
from command_page import COLD, FOUR, FOUR_TOGETHER, ONE, PING, TWENTY, Cell

ID = "6824abb8fcf4c2a77f5f027d24e96e17a3e7082f480b46f8c6d97b9863cc8a4f"


def record(cell: Cell, *seconds: float, **more) -> dict:
    """A record of the raw data."""
    named = {key: value for key, value in cell._asdict().items() if value is not None}
    return {**named, "seconds": list(seconds), "cpu_seconds": [1.0] * len(seconds), **more}


def test_names():
    names = ["ping", "precopy-1", "precopy-4-together", "precopy-4", "precopy-20", "cold-1"]
    assert [cell.name for cell in command_page.TITLES] == names


def test_the_output_of_a_migration():
    output = """
ok: [web@fog1 -> fog1(10.0.0.1)] => {
    "msg": [
        "web moved from fog1 to fog2 (precopy)",
        "  commitment          9.425 s",
        "  downtime            0.910 s  from the order to freeze until it runs again, by the source's clock",
        "  total              66.940 s",
    ]
}
    "msg": [
        "  downtime            1.000 s  from the order to freeze until it runs again, at most",
    ]
"""
    assert bench_page.downtimes(output) == [0.91, 1.0]
    assert bench_page.downtimes("the downtime is 1.000 s") == []


def test_what_ansible_says_that_it_does():
    output = """Using /work/playbooks/ansible.cfg as config file
Using module file /site-packages/ansible/modules/ping.py
Pipelining is enabled.
<10.0.0.1> ESTABLISH SSH CONNECTION FOR USER: root
<10.0.0.1> SSH: EXEC ssh -o ControlMaster=auto
<10.0.0.1> (0, b'Using module file ', b'')
Using module file /collections/fog/migration/plugins/modules/server_info.py
<10.0.0.2> SSH: EXEC ssh -o ControlMaster=auto
<10.0.0.2> SSH: EXEC sftp -b -
"""
    assert command_page.module_runs(output) == 2
    assert command_page.ssh_commands(output) == 3


def test_numbers():
    lines = command_page.split_lines("a 0\na 1\nb 0\na 2\n", ["a", "b", "c"])
    assert lines == {"a": ["0", "1", "2"], "b": ["0"], "c": []}
    command_page.check_numbers("a", [0, 1, 2])
    with pytest.raises(ValueError, match="a counted 3 where 2 is next"):
        command_page.check_numbers("a", [0, 1, 3])
    with pytest.raises(ValueError, match="a counted 1 where 2 is next"):
        command_page.check_numbers("a", [0, 1, 1])


def test_aims():
    records = command_page.by_cell(
        [
            record(PING, 1.0, 1.2, 0.9, module_runs=1),
            record(ONE, 5.0, 4.0, 3.0, module_runs=8, downtime_seconds=[0.2, 0.25, 0.3]),
            # Of each run, the longest one counts: 0.5 and 0.4.
            record(FOUR_TOGETHER, 6.5, 6.5, module_runs=20, downtime_seconds=[0.1, 0.5, 0.2, 0.2, 0.4, 0.4, 0.1, 0.1]),
            record(COLD, 6.0, 6.0),
        ]
    )
    assert command_page.longest_downtimes(records, FOUR_TOGETHER) == [0.5, 0.4]
    table = command_page.aims_table(records)
    assert "| one counter, against a ping | 4 | 4.00 (4.00 s / 1.00 s) | reached |" in table
    assert "| 1.5 | 1.62 (6.50 s / 4.00 s) | **missed** by 0.50 s (1.08 times the aim) |" in table
    assert "| one counter in cold mode, against a ping | 6 | 6.00 (6.00 s / 1.00 s) | reached |" in table
    assert "against one | 1.5 | 1.80 (0.45 s / 0.25 s) | **missed** by 0.08 s (1.20 times the aim) |" in table
    assert "| twenty each by itself, against one | 4 | | not measured |" in table
    assert "| module runs, one counter | 8 | 8 | reached |" in table
    assert "| module runs, four counters together | 8 | 20 | **missed** by 12 (2.50 times the aim) |" in table
    assert "| module runs, twenty counters, each by itself | 8 | | not measured |" in table


def test_what_is_missing():
    records = command_page.by_cell([record(PING, 1.0), record(ONE, 2.0), record(FOUR_TOGETHER), record(TWENTY)])
    run = {
        "left_out": [{"what": "precopy", "containers": 4, "together": False, "error": "There is no option."}],
        "failures": [
            {"what": "precopy", "containers": 1, "error": "it is\n`refused`"},
            {"what": "precopy", "containers": 4, "together": True, "error": "lost"},
            {"what": "precopy", "containers": 4, "together": True, "error": "lost again"},
        ],
    }
    said = command_page.gaps(records, run).splitlines()
    assert said == [
        "- one counter: 1 failed. `it is 'refused'`",
        "- four counters together: `lost again`",
        "- four counters, each by itself: There is no option.",
        "- twenty counters, each by itself: It was not tried.",
        "- one counter, cold mode: It was not tried.",
    ]
    everything = command_page.by_cell(record(cell, 1.0) for cell in command_page.TITLES)
    assert command_page.gaps(everything, {}) == "Nothing: everything was measured, and nothing failed."


def test_the_page(tmp_path):
    data = [
        record(PING, 1.0, 1.1, 1.2, module_runs=1, ssh_commands=1, controller_cpu_seconds=[0.5, 0.6, 0.7]),
        record(ONE, 2.2, 2.2, module_runs=9, ssh_commands=12, downtime_seconds=[0.2, 0.3]),
        record(FOUR, 3.3, 3.3, downtime_seconds=[0.1] * 8),
    ]
    run = {"cores": 2, "commits": ["abc", "def-dirty"], "versions": {"Docker": "1", "CRIU": "2"}, "minutes": 12.3}
    (tmp_path / "command.json").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / "command-run.json").write_text(json.dumps(run), encoding="utf-8")
    command_page.write_page(tmp_path / "command.json")
    page = (tmp_path / "command.md").read_text(encoding="utf-8")
    ping = "| 1.10 (1.00 to 1.20) | 1.00 | 1.00 (1.00 to 1.00) | 0.60 (0.50 to 0.70) | 1 | 1 |  |"
    assert f"| `ansible fog1 -m ping` {ping}\n" in page
    assert (
        "| one counter | 2.20 (2.20 to 2.20) | 2.00 | 1.00 (1.00 to 1.00) |  | 9 | 12 | 0.250 (0.200 to 0.300) |"
        in page
    )
    assert "at commit abc, def-dirty on 2 cores" in page
    assert "Docker 1, CRIU 2.\nEach command 2 to 3 times, 12 minutes in all." in page
    assert page.endswith("## What holds it\n\nNobody has written about it yet.\n")


GROUPS_1 = f"""9:name=systemd:/docker/{ID}/init.scope
4:memory:/docker/{ID}/init.scope
2:cpu,cpuacct:/docker/{ID}
0::/docker/{ID}/init.scope
"""
MOUNTS_1 = """proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
GROUPS_2 = f"0::/system.slice/docker-{ID}.scope/init.scope\n"
MOUNTS_2 = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"


def test_where_the_processor_time_is():
    file = processor_time.usage_file(GROUPS_1, MOUNTS_1, ID)
    assert file == Path(f"/sys/fs/cgroup/cpu,cpuacct/docker/{ID}/cpuacct.usage")
    assert processor_time.used(file, "1500000000\n") == 1.5
    file = processor_time.usage_file(GROUPS_2, MOUNTS_2, ID)
    assert file == Path(f"/sys/fs/cgroup/system.slice/docker-{ID}.scope/cpu.stat")
    assert processor_time.used(file, "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n") == 2.5


@pytest.mark.parametrize(
    ("groups", "mounts", "message"),
    [
        ("0::/\n", MOUNTS_2, "no control group of its own"),
        (GROUPS_1, MOUNTS_2, "not mounted"),
        (GROUPS_2, "proc /proc proc rw 0 0\n", "not mounted"),
    ],
)
def test_a_processor_time_that_is_nowhere(groups, mounts, message):
    with pytest.raises(ValueError, match=message):
        processor_time.usage_file(groups, mounts, ID)


def test_what_a_command_leaves_behind_is_ended_and_counted(tmp_path):
    # The shell ends at once. What it leaves behind uses the processor until somebody ends it.
    program = f"""
import subprocess, sys
sys.path.insert(0, {str(Path(processor_time.__file__).parent)!r})
import processor_time
processor_time.adopt_orphans()
subprocess.run(["sh", "-c", "(while :; do :; done) & echo $! >{tmp_path}/pid; sleep 0.5"], check=True)
before, left = processor_time.children_used(), processor_time.children()
processor_time.end_orphans()
print(left, before, processor_time.children(), processor_time.children_used())
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    left, before, after, used = done.stdout.split()
    assert left == f"[{(tmp_path / 'pid').read_text().strip()}]"
    assert after == "[]"
    assert float(used) > float(before)
