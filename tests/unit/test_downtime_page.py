# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the downtime benchmark makes of its raw data."""

from __future__ import annotations

import json

import downtime_page
import pytest


def record(path: str, memory: int, *downtimes: float, fraction: float = 0.0, **more) -> dict:
    """A record of the raw data."""
    totals, sent = [10.0] * len(downtimes), [1 << 20] * len(downtimes)
    return {
        "path": path,
        "memory_mib": memory,
        "dirty_fraction": fraction,
        "downtime_seconds": list(downtimes),
        "total_seconds": totals,
        "bytes_sent": sent,
        **more,
    }


def lines(*times: float, first: int = 0) -> list[str]:
    """What a container wrote at these times."""
    return [f"{number} {when}" for number, when in enumerate(times, first)]


def test_the_longest_gap():
    here, there = lines(1.0, 1.1, 1.2), lines(1.2, 1.9, 2.0, 2.1, first=2)
    assert downtime_page.longest_gap([*here, "", *there], 1.15, 2.05) == 0.7
    # A gap before the move is none of it.
    assert downtime_page.longest_gap(lines(0.0, 1.0, 1.1, 1.3, 1.4), 1.05, 1.35) == 0.2


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([], "did not write"),
        (lines(1.0, 1.1), "did not write"),
        ([*lines(1.0, 1.1), *lines(2.2, 2.3, first=4)], "2 lines of the container were lost, the first is 2"),
    ],
)
def test_a_gap_that_counts_for_nothing(written, message):
    with pytest.raises(ValueError, match=message):
        downtime_page.longest_gap(written, 1.05, 2.0)


def test_aims():
    records = downtime_page.by_cell(
        [
            record("floor", 1, 0.2, 0.3, 0.4, full_copy_seconds=[1.0, 2.0, 3.0]),
            record("precopy", 1, 0.3, 0.35, 0.5),
            record("docker_api", 1, 0.7, 0.7, 0.7),
        ]
    )
    table = downtime_page.aims_table(records)
    assert "| 1 MiB, live, against the floor | idle | 1.2 | 1.17 (0.35 s / 0.30 s) | reached |" in table
    assert "| 0.5 (0.35 s / 0.70 s) | **missed** by 0.07 s (1.25 times the aim) |" in table
    assert "| 1 MiB, live, against podman | idle | 0.6 | | not measured |" in table


def test_what_is_missing():
    data = [record(path, memory, 1.0) for path in ("floor", "podman", "precopy") for memory in (1, 64)]
    data += [record(path, 64, 1.0, fraction=0.1) for path in ("floor", "precopy")]
    failure = {"path": "floor", "memory_mib": 64, "dirty_fraction": 0.1, "error": "once"}
    said = downtime_page.gaps(downtime_page.by_cell(data), [failure])
    assert "- ours, pre-copy: 1 MiB 10% rewritten each second. It was not tried." in said
    assert "- podman: 1 MiB 10% rewritten each second, 64 MiB 10% rewritten each second. It was not tried." in said
    assert "nothing sent, 64 MiB 10% rewritten each second: one failed. `once`" in said


def test_the_page(tmp_path):
    stages = {"pre-copy": 2.0, "stop-and-copy": 1.0}
    data = [
        record("floor", 1024, 2.0, full_copy_seconds=[4.0]),
        record("precopy", 1024, 1.0, reported_seconds=[stages]),
        record("precopy", 1024, 1.5, fraction=0.1),
    ]
    failed = {"path": "hybrid", "memory_mib": 1024, "dirty_fraction": 0.0, "error": "it is\n`refused`"}
    (tmp_path / "downtime.json").write_text(json.dumps(data), encoding="utf-8")
    (tmp_path / "downtime-run.json").write_text(json.dumps({"failures": [failed], "cores": 2}), encoding="utf-8")
    (tmp_path / "downtime-notes.md").write_text("<!--\nSPDX\n-->\nThe disk.\n", encoding="utf-8")
    downtime_page.write_page(tmp_path / "downtime.json")
    page = (tmp_path / "downtime.md").read_text(encoding="utf-8")
    assert "| ours, pre-copy | 1.000 (1.000 to 1.000) **0.50** |" in page
    assert "two stages in which memory travels | idle | 1.5 | 0.75 (3.00 s / 4.00 s) | reached |" in page
    assert "- ours, hybrid: everything. `it is 'refused'`" in page
    assert "- podman: everything. It was not tried." in page
    assert page.endswith("## What holds it\n\nThe disk.\n")
