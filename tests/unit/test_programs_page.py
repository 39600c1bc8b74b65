# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark of real programs makes of its raw data."""

from __future__ import annotations

import json

import programs_page
from programs_page import Cell

from corpus.programs import COUNTER, MODES, PROGRAMS


def record(program: str, mode: str, *downtimes: float, pauses=(), errors=()) -> dict:
    """A record of the raw data."""
    return {
        "program": program,
        "mode": mode,
        "downtime_seconds": list(downtimes),
        "client_pause_seconds": list(pauses),
        "client_errors": list(errors),
    }


DATA = [
    record("counter", "cold", 1.0, pauses=[1.1]),
    record("redis", "cold", 1.5, 2.5),
    record("counter", "precopy", 0.2, 0.3, 0.2, pauses=[0.25, 0.35, 0.25]),
    record("redis", "precopy", 0.3, 0.4, 0.5, pauses=[0.31, 0.42, 0.55], errors=["ask-0: '9' after '7'"]),
    record("postgresql", "precopy", 1.8, pauses=[1.9]),
    record("nginx", "precopy", 0.5, pauses=[0.6]),
    record("postgresql", "hybrid", 0.6),
    record("nginx", "hybrid", 0.6),
]
FAILURES = [
    {"program": "mariadb", "mode": "cold", "error": "it holds\nlocks"},
    {"program": "mariadb", "mode": "cold", "error": "it holds locks again"},
    {"program": "nginx", "mode": "precopy", "error": "once"},
]


def test_the_names_are_those_of_the_tests():
    assert programs_page.COUNTER == COUNTER
    assert set(programs_page.AIMS) < set(PROGRAMS)
    assert {"cold", *programs_page.LIVE} == set(MODES)


def test_aims():
    records = programs_page.by_cell(DATA)
    assert programs_page.aims_table(records).splitlines() == [
        "| downtime | precopy | postcopy | hybrid |",
        "|---|---|---|---|",
        "| redis | 0.40 of 0.40 s: reached | not measured | not measured |",
        (
            "| postgresql | 1.80 of 0.60 s: **missed** by 1.20 s (3.00 times the aim) | not measured "
            "| 0.60 of 0.60 s: reached |"
        ),
        "| nginx | 0.50 of 0.40 s: **missed** by 0.10 s (1.25 times the aim) | not measured | not measured |",
    ]


def test_figures():
    rows = programs_page.figures_table(programs_page.by_cell(DATA)).splitlines()[2:]
    assert rows[:4] == [
        "| counter | cold | 1.000 (1.000 to 1.000) | 1.00 | 1.100 (1.100 to 1.100) | 0 |",
        "| counter | precopy | 0.200 (0.200 to 0.300) | 1.00 | 0.250 (0.250 to 0.350) | 0 |",
        "| redis | cold | 2.000 (1.500 to 2.500) | 2.00 |  | 0 |",
        "| redis | precopy | 0.400 (0.300 to 0.500) | 2.00 | 0.420 (0.310 to 0.550) | 1 |",
    ]
    assert "| nginx | hybrid | 0.600 (0.600 to 0.600) |  |  | 0 |" in rows


def test_errors_and_failures():
    records = programs_page.by_cell(DATA)
    assert programs_page.errors(records) == "- redis, precopy: `ask-0: '9' after '7'`"
    assert programs_page.errors({}).startswith("None")
    assert programs_page.gaps(records, FAILURES).splitlines() == [
        "- mariadb, cold: 0 measured, 2 failed. `it holds locks again`",
        "- nginx, precopy: 1 measured, 1 failed. `once`",
    ]
    assert programs_page.gaps(records, []) == "Nothing has failed."


def test_what_may_be_missing():
    assert programs_page.allowed({}, Cell("redis", "precopy")) is None
    assert programs_page.allowed({}, Cell("postgresql", "precopy")) == 0.6


def test_the_page(tmp_path):
    data = tmp_path / "programs.json"
    data.write_text(json.dumps(DATA), encoding="utf-8")
    run = {"cores": 2, "minutes": 61.4, "commits": ["abc"], "versions": {"CRIU": "4.2.1"}, "failures": FAILURES}
    (tmp_path / "programs-run.json").write_text(json.dumps(run), encoding="utf-8")
    programs_page.write_page(data)
    text = (tmp_path / "programs.md").read_text(encoding="utf-8")
    assert "PostgreSQL stands still for at most 0.6 s, every other program for at most 2 times" in text
    assert "at commit abc on 2 cores" in text and "CRIU 4.2.1" in text
    assert "Each program 1 to 3 times in each mode, 61 minutes in all." in text
    assert text.rstrip().endswith("Nobody has written about it yet.")
