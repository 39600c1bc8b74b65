# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that compute sequences of numbers, and what these have to be."""

from __future__ import annotations

from .lab import wait_for

PAUSE = "sleep 0.05"
NATURALS = f"i=0; while :; do echo $i; i=$((i+1)); {PAUSE}; done"
FIBONACCI = f"a=0; b=1; while :; do echo $a; c=$(((a+b)%1000000007)); a=$b; b=$c; {PAUSE}; done"
PRIMES = f"""n=2; while :; do p=1; d=2
while [ $((d*d)) -le $n ]; do [ $((n%d)) -eq 0 ] && p=0 && break; d=$((d+1)); done
[ $p -eq 1 ] && echo $n && {PAUSE}; n=$((n+1)); done"""


def naturals(count: int) -> list[int]:
    """The first natural numbers, 0 among them."""
    return list(range(count))


def fibonacci(count: int) -> list[int]:
    """The first Fibonacci numbers, modulo 1000000007 as the container computes them."""
    numbers, a, b = [], 0, 1
    for _index in range(count):
        numbers.append(a)
        a, b = b, (a + b) % 1000000007
    return numbers


def primes(count: int) -> list[int]:
    """The first prime numbers."""
    numbers: list[int] = []
    candidate = 2
    while len(numbers) < count:
        if all(candidate % prime for prime in numbers):
            numbers.append(candidate)
        candidate += 1
    return numbers


def counted(lab, node: str, name: str, at_least: int):
    """Waits until the container has written so many lines on this node."""
    wait_for(lambda: len(lab.lines(node, name)) >= at_least, f"{at_least} lines of {name} on {node}")


def end(lab, node: str, name: str) -> list[str]:
    """Stops a container and returns all that it has written on this node."""
    lab.docker(node, "stop", "-t", "0", name)
    return lab.lines(node, name)
