# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is concluded from what the clients of real programs have heard."""

from __future__ import annotations

import re

import pytest

from corpus import client, image, verdicts
from corpus.programs import COUNTER, MODES, PROGRAMS
from corpus.scene import Move, outcome

CHECKSUM = "0123456789abcdef" * 4


def heard(*texts: str, who: str = "ask-0") -> verdicts.Heard:
    """What a client has heard, one thing each second."""
    return verdicts.heard(f"{second}.5 {who} {text}\n" for second, text in enumerate(texts))


def test_lines():
    lines = ["1.25 get-0 small\n", "1.5 - progress: 1.0 s, 900 tps\n", "2.0 get-0 ! OSError(9, 'Bad file')\n"]
    found = verdicts.heard(lines)
    assert found == {
        "get-0": [(1.25, "small"), (2.0, "! OSError(9, 'Bad file')")],
        "-": [(1.5, "progress: 1.0 s, 900 tps")],
    }
    assert verdicts.given_up(found) == ["get-0: OSError(9, 'Bad file')"]
    assert set(verdicts.answers(found)) == {"get-0"}


def test_the_longest_pause():
    """Of a client, in a move or reaching into it. What no client has heard says nothing."""
    found = verdicts.heard(
        f"{when} {who} x"
        for who, times in {"a": (1, 2, 5, 6), "b": (1, 1.5, 3.75, 9), "-": (1, 9)}.items()
        for when in times
    )
    assert verdicts.longest_pause(found, 2.5, 3) == 3
    assert verdicts.longest_pause(found, 1.1, 1.2) == 1
    assert verdicts.longest_pause(found, 4, 7) == 5.25
    assert verdicts.longest_pause(found, 10, 11) == 0
    assert verdicts.longest_pause({}, 1, 2) == 0


@pytest.mark.parametrize(
    ("texts", "wrong"),
    [
        (["7", "8", "9"], []),
        (["7", "9"], ["ask-0: '9' after '7'"]),
        (["7", "7"], ["ask-0: '7' after '7'"]),
        (["7", "8", "! gone"], []),
        (["7", "ERROR 2013 (HY000)"], ["ask-0: 'ERROR 2013 (HY000)' after '7'"]),
        ([], []),
    ],
)
def test_numbers(texts, wrong):
    assert verdicts.in_order(heard(*texts)) == wrong


def test_numbers_of_the_same_client_one_time_after_another():
    assert verdicts.in_order(verdicts.joined([heard("1", "2"), heard("3")])) == []
    assert verdicts.in_order(verdicts.joined([heard("1", "2"), heard("2")])) == ["ask-0: '2' after '2'"]


@pytest.mark.parametrize(
    ("texts", "wrong"),
    [
        (["5", "6", "7"], []),
        (["5", "6"], ["the last numbers are ['6'], not ['7']"]),
        (["5", "7"], ["ask-0: '7' after '5'"]),
    ],
)
def test_published_numbers(texts, wrong):
    assert verdicts.all_published({**heard(*texts), **heard("published 8", who="-")}) == wrong


def test_nobody_has_said_how_many_were_published():
    assert verdicts.all_published(heard("5")) == ["the last numbers are ['5'], not []"]


def test_files():
    found = f"{CHECKSUM}\nsmall\n"
    good = {**heard("small", "small"), **heard("at 16384", CHECKSUM, "at 16384", CHECKSUM, who="download-1")}
    assert verdicts.as_in_the_files(good, found) == []
    other = {**good, **heard("small", "large")}
    assert verdicts.as_in_the_files(other, found) == ["ask-0: ['large', 'small'] instead of 'small'"]
    wrong = f"download-1: ['{CHECKSUM[::-1]}'] instead of '{CHECKSUM}'"
    assert verdicts.as_in_the_files({**good, **heard(CHECKSUM[::-1], who="download-1")}, found) == [wrong]
    unfinished = verdicts.as_in_the_files({**good, **heard("at 16384", who="download-1")}, found)
    assert unfinished == [f"download-1: [] instead of '{CHECKSUM}'"]


PGBENCH = """
starting vacuum...end.
progress: 1.0 s, 905.8 tps, lat 4.397 ms stddev 1.872, 0 failed
transaction type: <builtin: TPC-B (sort of)>
number of transactions actually processed: 900
number of failed transactions: 0 (0.000%)
"""


def pgbench(text: str = PGBENCH, times: int = 1) -> verdicts.Heard:
    """What pgbench said, so often."""
    return verdicts.joined([heard(*text.split("\n")[1:-1], who="-")] * times)


def test_transactions():
    assert verdicts.sums_are_equal(pgbench(), "900 -77 -77 -77 -77\n") == []
    assert verdicts.sums_are_equal(pgbench(times=2), "1800 5 5 5 5\n") == []


@pytest.mark.parametrize(
    ("text", "found", "wrong"),
    [
        (PGBENCH, "901 1 1 1 1", "900 transactions are done for the clients, and 901 for the database"),
        (PGBENCH, "900 1 1 1 2", "the sums are [1, 1, 1, 2]"),
        (PGBENCH.replace(": 0 (", ": 3 ("), "900 1 1 1 1", "3 transactions have failed"),
        (PGBENCH + "pgbench: error: client 2 aborted\n", "900 1 1 1 1", "pgbench: error: client 2 aborted"),
    ],
)
def test_transactions_that_were_lost(text, found, wrong):
    assert verdicts.sums_are_equal(pgbench(text), found) == [wrong]


def test_pgbench_that_has_not_come_to_its_end():
    assert verdicts.sums_are_equal(pgbench("\nstarting vacuum...end.\n"), "900 1 1 1 1") == [
        "None transactions have failed",
        "None transactions are done for the clients, and 900 for the database",
    ]


def move(mode: str, begin: float, end: float) -> Move:
    """A migration between these times."""
    return Move(mode, "", begin, end)


def test_the_outcome():
    live = [move("precopy", 1, 1.2), move("precopy", 2, 2.2)]
    assert outcome(PROGRAMS["redis"], [heard("1", "2", "3", "4")], live, "") == ([], [1, 1])
    assert outcome(PROGRAMS["redis"], [heard("1", "! why")], live[:1], "").errors == ["ask-0: why"]


def test_the_outcome_where_the_log_is_another_one():
    """The counter has no clients: what it writes goes on in a log of the other server."""
    cold = [move("cold", 1, 2)]
    assert outcome(PROGRAMS[COUNTER], [heard("1", who="output"), heard("2", who="output")], cold, "").errors == []
    assert outcome(PROGRAMS[COUNTER], [heard("1", "2", who="output")], cold, "") == ([], [1])


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_what_a_program_is(program):
    """Its clients are of a kind that is known, and the modes in which it stays are modes."""
    assert set(program.stays) <= set(MODES)
    assert {load["kind"] for load in program.loads} <= set(client.KINDS)
    if "--volume" in program.options:
        assert re.search(r"--volume programs:/\S+", program.options)


def test_the_image_is_another_one_when_something_that_makes_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(image, "ROOT", tmp_path)
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_text("x", encoding="ascii")
    key = image.key(files, "trixie")
    assert key == image.key(files, "trixie") and re.fullmatch("[0-9a-f]{12}", key)
    assert len({key, image.key(files[:1], "trixie"), image.key(files, "forky")}) == 3
    files[1].write_text("y", encoding="ascii")
    assert image.key(files, "trixie") != key
    monkeypatch.undo()
    assert {path.name for path in image.inputs()} >= {"rootfs.sh", "build.sh", "finish.sh", "packages.txt", "count.php"}
