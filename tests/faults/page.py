# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about the faults that were tried: C(docs/reliability.md)."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_HEAD = """# What happens when it breaks

A migration may be interrupted at any instant, by anything. This page is made by `make fault-test`, which migrates a
real container, or two together, between the lab's two servers again and again, and each time kills, fills or cuts
something meanwhile.
Then what was lost comes back, `ansible-playbook recover.yml` runs once, and these have to be true:

- exactly one copy of the container runs, with its restart policy, and those that move together are on one server;
- a witness outside of both servers has heard every number that it counts, once and in order, from wherever it was; a
  number that is said again after it was said at the destination counts as lost;
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


def _table(results: list[dict], key: str, title: str) -> list[str]:
    rows = [f"| {title} | tried | moved | stayed | died with its server | lost |", "|---|---|---|---|---|---|"]
    for value in sorted({result[key] for result in results}):
        some = [result for result in results if result[key] == value]
        outcomes = Counter(result["outcome"] for result in some)
        lost = sum(bool(result["problems"]) for result in some)
        counts = [len(some), *(outcomes[what] for what in ("moved", "stayed", "died with its server")), lost]
        rows.append(f"| {value} | {' | '.join(map(str, counts))} |")
    return [*rows, ""]


def text(results: list[dict]) -> str:
    """The page."""
    lost = [result for result in results if result["problems"]]
    seeds = ", ".join(sorted({str(result["seed"]) for result in results}))
    lines = [f"**{len(results)} faults (seed {seeds}), lost: {len(lost)}.**", ""]
    lines += _table(results, "kind", "what was done")
    lines += _table(results, "moment", "when (`any`: at a random instant)")
    lines += _table(results, "mode", "mode")
    lines += _table(results, "together", "containers that moved together")
    if lost:
        lines += ["What was lost:", ""]
        lines += [
            f"- {one['kind']}, {one['mode']}, {one['moment']} + {one['delay']} s: {'; '.join(one['problems'])}"
            for one in lost
        ]
    return _HEAD + "\n".join(lines).rstrip() + "\n"


def write(results: list[dict]) -> None:
    """Writes it."""
    PAGE.write_text(text(results), encoding="utf-8")


if __name__ == "__main__":
    write([result for name in sys.argv[1:] for result in json.loads(Path(name).read_text(encoding="utf-8"))])
