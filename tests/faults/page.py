# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages about the faults that were tried: C(docs/reliability.md), and one about real programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
# What moves unless something else is said; results that name no program are of it.
COUNTER = "counter"
_HEAD = """# What happens when it breaks

A migration may be interrupted at any instant, by anything. This page is made by `make fault-test`, which migrates a
real container, or two together, between the lab's two servers again and again, and each time kills, fills or cuts
something meanwhile.
Then what was lost comes back, `ansible-playbook recover.yml` runs once, and these have to be true:

- exactly one copy of the container runs, with its restart policy, and those that move together are on one server;
- a witness outside of both servers has heard every number that it counts, once and in order, from wherever it was; a
  number that is said again after it was said at the destination counts as lost. Where CRIU is killed at a step of its
  own, it leaves its lock of the network, which drops datagrams until it has been removed: up to 50 numbers, which is
  one second, may be unheard then, and are on the disk;
- every number was on the disk before the witness heard of it, and still is; a checksum over its memory is what it was;
- a container that runs on a server which is lost dies with it, as it would without any migration: these are counted by
  themselves, and all the rest has to be true of what runs afterwards;
- nothing of the migration is left on either server: no file, key, program, mount, copy; in the container no filter of
  its network, and no connection in repair mode;
- where CRIU is killed at a step of a dump or a restore and the container stays, a connection to it has lost nothing.

Post-copy cannot promise the second of these in every case. It goes on when the source's program dies or the connection
breaks while memory is on its way. But until all memory has come, only both servers together have it: when the
destination's program or CRIU dies there meanwhile, the container goes on at the source from its freeze, and what it did
at the destination since then is lost. That counts as lost below.

"""
_HEAD_OF_PROGRAMS = """# What the clients of real programs notice when it breaks

As in [reliability.md](reliability.md), something is killed, filled or cut in the midst of each migration, then what was
lost comes back, and `ansible-playbook recover.yml` runs once. Here, a real program moves, which clients use from
another machine without a rest (`tests/programs`). Its address moves with it, so these have to be true wherever it runs
in the end:

- exactly one copy of the container runs, with its restart policy, and nothing of the migration is left on either server
  or in the container;
- no client has lost its connection, or has heard anything wrong: redis has counted each question of each client, once;
  the answers and long downloads of nginx are what its files are; no transaction of PostgreSQL's `pgbench` has failed,
  as many are in its tables as were done for its clients, and the sums of these are equal;
- a container that runs on a server which is lost dies with it, as it would without any migration, and its connections
  with it: these are counted by themselves, and it has to serve others afterwards.

This page is made by `make fault-test ARGS="--program redis,postgresql,nginx --count 100"`, and `python
tests/faults/page.py` makes one of several files of results, such as the raw data of this one.

"""
# How long a client has waited is told up to these, in seconds.
_WAITS = (1, 10, 60)


def _program(result: dict) -> str:
    return result.get("program", COUNTER)


def _table(results: list[dict], key: str, title: str) -> list[str]:
    rows = [f"| {title} | tried | moved | stayed | died with its server | lost |", "|---|---|---|---|---|---|"]
    for value in sorted({result[key] for result in results}):
        some = [result for result in results if result[key] == value]
        outcomes = Counter(result["outcome"] for result in some)
        lost = sum(bool(result["problems"]) for result in some)
        counts = [len(some), *(outcomes[what] for what in ("moved", "stayed", "died with its server")), lost]
        rows.append(f"| {value} | {' | '.join(map(str, counts))} |")
    return [*rows, ""]


def _waits(results: list[dict]) -> list[str]:
    """How long clients have waited, at most, in the faults after which they went on."""
    pauses = [result["pause"] for result in results if result.get("pause") is not None]
    if not pauses:
        return []
    counts = ", ".join(f"at most {limit} s in {sum(pause <= limit for pause in pauses)}" for limit in _WAITS)
    return [f"How long clients have waited in {len(pauses)} of them: {counts}, and {max(pauses):.1f} s once.", ""]


def text(results: list[dict]) -> str:
    """The page about results of one kind: of counters, or of programs."""
    are_programs = any(_program(result) != COUNTER for result in results)
    lost = [result for result in results if result["problems"]]
    seeds = ", ".join(sorted({str(result["seed"]) for result in results}))
    lines = [f"**{len(results)} faults (seed {seeds}), lost: {len(lost)}.**", "", *_waits(results)]
    if are_programs:
        lines += _table(results, "program", "program")
    if all("docker" in result for result in results):
        lines += _table(results, "docker", "Docker, from the source to the destination")
    lines += _table(results, "kind", "what was done")
    lines += _table(results, "moment", "when (`any`: at a random instant)")
    lines += _table(results, "mode", "mode")
    if not are_programs:
        lines += _table(results, "together", "containers that moved together")
    if lost:
        lines += ["What was lost:", ""]
        lines += [f"- {_what(one)}: {'; '.join(one['problems'])}" for one in lost]
    head = _HEAD_OF_PROGRAMS if are_programs else _HEAD
    return head + "\n".join(lines).rstrip() + "\n"


def _what(result: dict) -> str:
    of = [] if _program(result) == COUNTER else [_program(result)]
    return ", ".join([*of, result["kind"], result["mode"], f"{result['moment']} + {result['delay']} s"])


def files(results: list[dict]) -> dict[str, str]:
    """The pages of which there are results, and behind each what it was made of, by their names."""
    kinds: dict[str, list[dict]] = {"reliability": [], "reliability-programs": []}
    for result in results:
        kinds["reliability" if _program(result) == COUNTER else "reliability-programs"].append(result)
    found = {}
    for name, some in kinds.items():
        if some:
            raw = [{key: value for key, value in one.items() if key != "log"} for one in some]
            found[f"{name}.md"] = f"{text(some)}\nThe raw data are in [{name}.json]({name}.json).\n"
            found[f"{name}.json"] = "[\n" + ",\n".join(map(json.dumps, raw)) + "\n]\n"
    return found


def write(results: list[dict]) -> None:
    """Writes them."""
    for name, content in files(results).items():
        (DOCS / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write([result for name in sys.argv[1:] for result in json.loads(Path(name).read_text(encoding="utf-8"))])
