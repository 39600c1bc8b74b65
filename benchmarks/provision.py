# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes to provision 1, 2, 4 and 8 bare lab nodes, each in one run, and what a further node costs.

Runs from C(make bench-provision), which makes the lab, and writes C(benchmarks/provision.md).
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZES = (1, 2, 4, 8)


def provision(nodes: list[str]) -> tuple[float, str]:
    """Seconds of one run of C(provision.yml) over these nodes, and what it printed."""
    begin = time.monotonic()
    done = subprocess.run(
        ["ansible-playbook", "provision.yml", "--limit", ",".join([*nodes, "localhost"])],
        cwd=ROOT / "playbooks",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"provisioning {', '.join(nodes)} failed:\n{done.stdout}{done.stderr}")
    return time.monotonic() - begin, done.stdout


def report(seconds: dict[int, float], again: float) -> str:
    """The figures as Markdown. The first run of all also fills the machine's caches."""
    smallest, largest = min(seconds), max(seconds)
    further = (seconds[largest] - seconds[smallest]) / (largest - smallest)
    rows = "\n".join(f"| {size} | {one:.0f} | {one / size:.0f} |" for size, one in seconds.items())
    return f"""<!--
Copyright: (c) 2026, fog.migration contributors
GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
SPDX-License-Identifier: GPL-3.0-or-later
-->
# Provisioning a fleet

`make bench-provision` on {os.cpu_count()} cores, kernel {platform.release()}: bare Debian nodes of the lab, all on this
one machine, become fog servers (Docker of the distribution, CRIU), each row in one run of `provision.yml`, seconds:

| nodes | one run | for each |
|---|---|---|
{rows}

A further node costs {further:.1f} s. A second run over {largest} nodes, which changes nothing, took {again:.0f} s.
The nodes share the machine's cores: on servers of their own, a further node costs less.
"""


def main() -> None:
    """Provision disjoint sets of nodes, so that each begins bare."""
    seconds, first = {}, 1
    for size in SIZES:
        nodes = [f"fog{number}" for number in range(first, first + size)]
        seconds[size], _output = provision(nodes)
        print(f"{size} nodes: {seconds[size]:.1f} s", flush=True)
        first += size
    again, output = provision(nodes)
    if any("changed=" in line and "changed=0" not in line for line in output.splitlines()):
        raise SystemExit(f"the second run changed something:\n{output}")
    (ROOT / "benchmarks" / "provision.md").write_text(report(seconds, again), encoding="utf-8")


if __name__ == "__main__":
    main()
