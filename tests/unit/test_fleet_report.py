# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a fleet and the sentences below it."""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.filter.fleet_report import fleet_report

DIRTY = "the kernel does not track dirty memory"
LAZY = "the kernel has no userfaultfd"


def server(modes: dict, kernel: str = "6.12.0") -> dict:
    return {
        "facts": {"distribution": "Debian", "distribution_version": "13", "architecture": "x86_64", "kernel": kernel},
        "info": {
            "docker": {"version": "26.1.5"},
            "criu": {
                "version": "4.1.1",
                "modes": {name: {"possible": why is None, "why_not": why} for name, why in modes.items()},
            },
        },
    }


def test_table_lines_up():
    table = fleet_report({"fog1": server({"cold": None}), "a-longer-name": server({"cold": None}, "6.18.44")})["table"]
    assert len(table) == 3
    for word, column in (
        ("Debian", "platform"),
        ("6.1", "kernel"),
        ("26.1.5", "Docker"),
        ("4.1.1", "CRIU"),
        ("cold", "modes"),
    ):
        assert {line.index(word) for line in table[1:]} == {table[0].index(column)}


def test_a_reason_is_given_once_for_all_that_it_concerns():
    modes = {"cold": None, "precopy": DIRTY, "postcopy": LAZY, "hybrid": DIRTY}
    table = fleet_report({"fog1": server(modes), "fog2": server(modes), "fog3": server({**modes, "postcopy": None})})[
        "table"
    ]
    assert table[4:] == [
        f"fog1, fog2, fog3: no precopy, hybrid: {DIRTY}",
        f"fog1, fog2: no postcopy: {LAZY}",
    ]
    assert table[3].endswith("cold, postcopy")


def test_problems_do_not_hide_the_others():
    report = fleet_report({"fog1": server({"cold": None}), "fog2": {"problem": "no space on fog2"}, "fog3": {}})
    assert report["problems"][0] == "no space on fog2"
    assert report["problems"][1].startswith("fog3 was lost on the way")
    assert [line.split()[-1] for line in report["table"][1:]] == ["cold", "below", "below"]


def test_a_server_of_which_nothing_is_known_yet():
    """With --check on a bare host there is neither Docker nor CRIU."""
    report = fleet_report({"fog1": {"facts": server({})["facts"], "info": {}}})
    assert report["problems"] == []
    assert report["table"][1].split() == ["fog1", "Debian", "13", "x86_64", "6.12.0", "-", "-", "-"]


def test_a_docker_that_is_out_of_support_is_told():
    dockers = {"fog1": "17.09.1-ce", "fog2": "20.10.9", "fog3": "17.09.1-ce", "fog4": "20.10.8", "fog5": ""}
    results = {name: server({"cold": None}) for name in dockers}
    for name, version in dockers.items():
        results[name]["info"]["docker"]["version"] = version
    (line,) = fleet_report(results)["table"][6:]
    assert line == (
        "warning: Docker 17.09.1-ce (fog1, fog3) and 20.10.8 (fog4) may let a container become root of its server, by "
        "published holes that are not mended in versions before 20.10.9; docker_channel: distro gives a server one "
        "that is."
    )
    assert fleet_report(results)["problems"] == []
