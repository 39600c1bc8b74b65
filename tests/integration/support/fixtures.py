# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For each C(conftest.py): the lab is brought up for the tests where it is not up, and then taken down behind them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import checkpoints, criu_step, daemons
from . import lab as lab_module
from . import lan as lan_module


@pytest.fixture(scope="session")
def _lab_is_up() -> None:
    """A lab that is up is used as it is, so that one test again takes seconds, and stays up."""
    with lab_module.alone():
        if not lab_module.PLACE.is_up():
            lab_module.PLACE.mark.write_text(_session(is_worker="PYTEST_XDIST_WORKER" in os.environ))
            lab_module.PLACE.playbook()


def _session(is_worker: bool) -> str:
    """What tells this run of the tests from others on the same machine: the process that waits for all of it."""
    return str(os.getppid() if is_worker else os.getpid())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The processes that run tests have ended: what was brought up for them goes, last the one with the engine."""
    if hasattr(session.config, "workerinput"):
        return
    count = getattr(session.config.option, "numprocesses", None) or 1
    places = [lab_module.WANTED.beside(number) for number in range(count)]
    for place in sorted(places, key=lambda place: (place.state / "engine").exists()):
        # What another run has brought up, it still uses.
        if place.mark.exists() and place.mark.read_text() == _session(is_worker=False):
            place.mark.unlink()
            try:
                place.playbook("-e", "lab_state=down")
            except AssertionError as problem:
                # An exception here would hide what the tests have shown.
                session.config.get_terminal_writer().line(f"\n{problem}", red=True)
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


# What a test that failed in the midst of a migration leaves: its programs, and what they have mounted.
_CLEAR = f"""
{criu_step.REMOVE}
pkill -KILL -f '/run/fog-migration/.*channel[.]py'
pkill -KILL -x criu
docker ps -aq | xargs -r docker rm -fv
docker network ls -q --filter type=custom | xargs -r docker network rm
awk '$2 ~ "^/run/fog-migration/" {{ print $2 }}' /proc/mounts | xargs -r umount -l
sed -i '/ fog-migration:/d' /root/.ssh/authorized_keys
rm -rf /var/lib/fog-migration /run/fog-migration* /var/log/fog-migration /tmp/ctrd-checkpoint*
"""


def _clear(the_lab: lab_module.Lab) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: the_lab.sh(node, _CLEAR), the_lab.servers()))


# Most of the time that a bare server takes is the same for some of them.
_AT_ONCE = 4


@pytest.fixture(scope="session")
def bare(_lab_is_up) -> Callable[..., str]:
    """C(bare(suite="trixie")) is a new bare server, a Debian with sshd and Python and nothing else; its name.

    It may be gone when the next one is asked for.
    """
    fresh: dict[str, list[str]] = {}

    def bare(suite: str = "trixie") -> str:
        if not fresh.get(suite):
            fresh.clear()
            fresh[suite] = lab_module.Lab().bare(_AT_ONCE, suite)
        return fresh[suite].pop()

    return bare


@pytest.fixture
def lab(_lab_is_up) -> Iterator[lab_module.Lab]:
    """The lab; before and after the test no container and no trace of a migration is on its servers."""
    the_lab = lab_module.Lab()
    _clear(the_lab)
    yield the_lab
    _clear(the_lab)


@pytest.fixture(params=["runtime", "docker"])
def way(lab, request) -> Iterator[str]:
    """The way in which cold mode freezes and restores: through our OCI runtime, or through Docker without it."""
    without = lab.servers() if request.param == "docker" else []
    checkpoints.require_starts(lab, *without)
    with daemons.without_runtime(lab, *without):
        yield request.param


@pytest.fixture
def start(lab) -> Callable[..., None]:
    """C(start(script, *options)) starts the container that is to move, on fog1, and waits for its first lines."""

    def start(script: str, *options: str, lines: int = 5) -> None:
        lab.start("fog1", "mover", script, *options)
        lab_module.wait_for(lambda: len(lab.lines("fog1", "mover")) > lines, "the first lines")

    return start


@pytest.fixture
def lan(lab, request) -> Iterator[str]:
    """A network over the nodes' common one, on both servers, and the client in it: macvlan, or as the test says.

    Its IPv4 subnet.
    """
    driver = getattr(request, "param", "macvlan")
    if not lan_module.is_possible(lab, driver):
        pytest.skip(f"NOT TESTED: the kernel of this machine has no {driver}")
    with lan_module.network(lab, driver) as subnet:
        yield subnet
