# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is concluded from faults in the midst of migrations, and which are tried: nothing here moves."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import types

import faults
import page
import pytest
import run
import subjects
import witness
from faults import Plan

from corpus import scene as corpus
from corpus import verdicts
from corpus.programs import PROGRAMS

# What a witness hears


@pytest.mark.parametrize(
    ("places", "unheard", "found"),
    [
        (["a", "a", None, "a"], 1, []),
        (["a", None, "a", None, "a"], 1, ["left out 3 to 3 between a and a"]),
        (["a", None, None, "a"], 1, ["left out 1 to 2 between a and a"]),
        (["a", None, "b"], 9, ["left out 1 to 1 between a and b"]),
        (["a", None, "a"], 0, ["left out 1 to 1 between a and a"]),
    ],
)
def test_numbers_that_were_lost_on_their_way(places, unheard, found):
    """So many of them, between two from the same server."""
    words = [witness.Word(place, number) for number, place in enumerate(places) if place]
    assert witness.complaints(words, [list(range(len(places)))], unheard) == found


# What moves


def test_what_can_move():
    assert {"counter", "redis", "postgresql", "nginx"} <= set(run.CHOICES)
    assert run.some_of("redis,postgresql,nginx") == ["redis", "postgresql", "nginx"]
    with pytest.raises(argparse.ArgumentTypeError, match=r"^unknown: apache, oracle$"):
        run.some_of("oracle,redis,apache")


@pytest.mark.parametrize(
    ("words", "programs", "file"),
    [
        ([], ["counter"], "faults-1.json"),
        (["--seed", "7", "--program", "redis,nginx"], ["redis", "nginx"], "faults-7-redis-nginx.json"),
        (["--results", "/tmp/x.json"], ["counter"], "x.json"),
    ],
)
def test_the_command_line(monkeypatch, words, programs, file):
    monkeypatch.setattr(sys, "argv", ["run.py", *words])
    monkeypatch.setattr(run.criu_step, "compiler", lambda: "cc")
    wanted = run.arguments()
    assert wanted.program == programs and wanted.results.name == file


def test_it_is_a_program():
    """What it imports is found without pytest."""
    done = subprocess.run([sys.executable, run.__file__, "--help"], capture_output=True, text=True, check=True)
    assert "counter, redis, postgresql" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("kind", "lost"),
    [("source node", "fog1"), ("destination node", "fog2"), ("controller", None), ("criu in a dump", None)],
)
def test_the_server_that_is_lost(kind, lost):
    assert faults.lost_server(Plan(kind, "precopy", "freeze", 0.0), "fog1", "fog2") == lost


def test_it_is_looked_at_right_before_the_fault(monkeypatch):
    seen = []
    monkeypatch.setitem(faults.FAULTS, "controller", faults.Fault(lambda _scene: seen.append("fault")))
    faults.strike(None, Plan("controller", "precopy", "any", 0.0), ["PLAY ["], lambda: seen.append("before"))
    assert seen == ["before", "fault"]


# A program with clients


class Clients:
    """Clients of a program: C(more) is whether they hear more, C(has_given_up) whether one of them has given up."""

    def __init__(self, more=True, has_given_up=False):
        self.more, self.has_given_up = more, has_given_up

    def require_more(self, _seconds=60):
        if not (self.more or self.has_given_up):
            raise AssertionError("more than {}")


class Program:
    """The scene of a program as far as it matters here."""

    def __init__(self, clients, serves_others=True, errors=()):
        self.listener, self.serves_others, self.errors = clients, serves_others, list(errors)
        self.where, self.moves, self.ended = "fog1", [], False

    def begin_anew(self):
        if not self.serves_others:
            raise AssertionError("nobody is served")

    def end(self, _seconds):
        self.ended = True
        if self.errors == ["broken"]:
            raise AssertionError("psql: it is starting up")
        return corpus.Outcome(self.errors, [0.4])

    def close(self):
        """Nobody hears anything."""


def served(program, running_on=("fog1",), lost=None):
    """The subject of a trial, at the moment at which all is settled."""
    lab = types.SimpleNamespace(running_on=lambda _name: list(running_on))
    subject = subjects.Served(lab, PROGRAMS["redis"])
    subject._scene = program
    subject.before_fault(lost)
    return subject


def test_clients_that_have_noticed_nothing():
    program = Program(Clients())
    subject = served(program)
    assert subject.look_at("program", "fog2", None) == [] and subject.end("moved") == []
    assert program.where == "fog2" and not subject.died
    assert subject.facts() == {"pause": 0.4} and program.moves[0].mode == "moved"


def test_what_they_have_noticed_is_told_at_the_end():
    subject = served(Program(Clients(has_given_up=True), errors=["ask-0: reset"]))
    assert subject.look_at("program", "fog1", None) == [] and subject.end("stayed") == ["ask-0: reset"]


def test_silence_is_a_loss():
    subject = served(Program(Clients(more=False)))
    assert subject.look_at("program", "fog1", None) == ["runs on fog1, and its clients hear nothing"]


@pytest.mark.parametrize(
    ("running_on", "lost", "dies"),
    [
        # It runs there, and nowhere else; or it is frozen at the source and runs at the destination already.
        (["fog1"], "fog1", True),
        (["fog2"], "fog2", True),
        (["fog1", "fog2"], "fog2", True),
        (["fog1", "fog2"], "fog1", False),
        (["fog1"], "fog2", False),
        (["fog1"], None, False),
        ([], "fog1", False),
    ],
)
@pytest.mark.parametrize("clients", [Clients(more=False), Clients(has_given_up=True)])
def test_only_what_ran_on_a_lost_server_dies_with_it(running_on, lost, dies, clients):
    program = Program(clients, errors=["ask-0: reset"])
    subject = served(program, running_on, lost)
    problems = subject.look_at("program", "fog1", lost)
    assert subject.died == dies
    problems += subject.end("died with its server" if dies else "stayed")
    assert bool(problems) != dies and program.ended != dies


def test_what_died_has_to_serve_others():
    subject = served(Program(Clients(more=False), serves_others=False), ["fog1"], "fog1")
    assert subject.look_at("program", "fog1", "fog1") == ["runs on fog1 and does not serve others (nobody is served)"]
    assert subject.died


def test_a_program_that_is_broken_inside():
    subject = served(Program(Clients(), errors=["broken"]))
    assert subject.look_at("program", "fog1", None) == []
    assert subject.end("stayed") == ["cannot be judged (psql: it is starting up)"]


def test_a_container_in_two_places_is_not_judged_by_its_clients():
    program = Program(Clients())
    assert served(program).end("on [['fog1', 'fog2']]") == [] and not program.ended


def test_clients_that_do_not_come_to_an_end():
    script = "import time; print('1.5 ask-0 7', flush=True); print('2.5 ask', end='', flush=True); time.sleep(600)"
    listener = corpus.Listener([sys.executable, "-c", script])
    found = listener.end(0.5)
    assert found["ask-0"] == [(1.5, "7")]
    assert verdicts.given_up(found) == ["-: not all clients have come to an end"]


# The pages


def result(**facts):
    known = {"seed": 1, "number": 0, "kind": "controller", "mode": "precopy", "moment": "freeze", "delay": 0.5}
    return {**known, "together": 1, "outcome": "moved", "playbook": 0, "problems": [], "seconds": 9.0, **facts}


def test_counters_and_programs_have_a_page_each():
    assert set(page.files([result()])) == {"reliability.md", "reliability.json"}
    assert set(page.files([result(program="redis"), result(program="counter")])) == {
        "reliability.md",
        "reliability.json",
        "reliability-programs.md",
        "reliability-programs.json",
    }
    assert page.files([]) == {}
    raw = json.loads(page.files([result(program="redis", log=["a line"])])["reliability-programs.json"])
    assert raw == [{key: value for key, value in result(program="redis").items() if key != "log"}]


def test_the_page_of_programs():
    results = [
        result(program="redis", docker="26.1.5 to 26.1.5", pause=0.4),
        result(program="redis", docker="26.1.5 to 26.1.5", pause=31.25, outcome="stayed"),
        result(program="nginx", docker="28.5.2 to 28.5.2", pause=None, problems=["program get-0: reset"]),
    ]
    text = page.text(results)
    assert "**3 faults (seed 1), lost: 1.**" in text
    assert "| redis | 2 | 1 | 1 | 0 | 0 |" in text and "| nginx | 1 | 1 | 0 | 0 | 1 |" in text
    assert "| 28.5.2 to 28.5.2 | 1 | 1 | 0 | 0 | 1 |" in text
    assert "in 2 of them: at most 1 s in 1, at most 10 s in 1, at most 60 s in 2, and 31.2 s once" in text
    assert "- nginx, controller, precopy, freeze + 0.5 s: program get-0: reset" in text
    assert "together" not in text


def test_the_page_of_counters_is_as_it_was():
    text = page.text([result(problems=["counter0 runs on no server"])])
    assert (
        "| containers that moved together |" in text and "| program |" not in text and "clients have waited" not in text
    )
    assert "- controller, precopy, freeze + 0.5 s: counter0 runs on no server" in text
