# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter of a network in which a container is restored: real connections between two network namespaces."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from ansible_collections.fog.migration.plugins.module_utils.network import (
    filters,
    namespace,
    sockets,
)
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import restore_network

HERE, THERE = "192.0.2.1", "192.0.2.2"
# What a socket has sent and nobody has acknowledged, in bytes (SIOCOUTQ).
UNACKNOWLEDGED = 0x5411
_JOIN = f"""
ip link add veth0 type veth peer name veth1 netns $1
ip address add {HERE}/24 dev veth0
ip link set veth0 up
ip link set lo up
nsenter --target $1 --net sh -c 'ip address add {THERE}/24 dev veth1; ip link set veth1 up; ip link set lo up'
"""


@pytest.fixture
def networks():
    """The names of two network namespaces with a link between them."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        pytest.skip("NOT TESTED: this needs root and the programs ip, unshare and nsenter")
    with contextlib.ExitStack() as stack:
        holders = []
        for _each in range(2):
            holders.append(subprocess.Popen(["unshare", "--net", "sleep", "60"]))
            stack.callback(holders[-1].wait)
            stack.callback(holders[-1].kill)
        own = os.stat("/proc/self/ns/net").st_ino
        paths = [f"/proc/{one.pid}/ns/net" for one in holders]
        deadline = time.monotonic() + 10
        while own in [os.stat(path).st_ino for path in paths] and time.monotonic() < deadline:
            time.sleep(0.01)
        first, second = (str(one.pid) for one in holders)
        words = ["nsenter", "--target", first, "--net", "sh", "-ec", _JOIN, "sh", second]
        subprocess.run(words, check=True)
        yield paths


def unacknowledged(connection: socket.socket) -> int:
    """Bytes that the other end has not acknowledged, after a moment."""
    time.sleep(0.15)
    return int.from_bytes(fcntl.ioctl(connection, UNACKNOWLEDGED, bytes(4)), "little")


def connect(network: str, address: tuple[str, int], seconds: float = 5) -> socket.socket:
    return namespace.inside(network, functools.partial(socket.create_connection, address, seconds))


@contextlib.contextmanager
def connected(here: str, there: str) -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """A listening socket, and both ends of a connection that it has accepted."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(namespace.inside(here, functools.partial(socket.create_server, (HERE, 0))))
        peer = stack.enter_context(connect(there, listener.getsockname()))
        accepted = stack.enter_context(listener.accept()[0])
        for one in (peer, accepted):
            one.settimeout(10)
        yield listener, accepted, peer


def go_on(network: str) -> None:
    """What is done when a container goes on: its connections are those of this process."""
    namespace.inside(network, filters.let_all_pass)
    restore_network.wake(restore_network.connections(network, [os.getpid()]))


def test_nothing_comes_or_leaves_while_a_container_is_restored(networks):
    """Neither data, however many, nor an end, nor a new connection; all of it does afterwards."""
    here, there = networks
    with connected(here, there) as (listener, accepted, peer):
        namespace.inside(here, filters.hold_connections)
        accepted.sendall(b"answer")
        accepted.shutdown(socket.SHUT_WR)
        peer.sendall(b"question")
        peer.sendall(bytes(20000))
        assert unacknowledged(peer) == len(b"question") + 20000
        assert unacknowledged(accepted) >= len(b"answer")
        with pytest.raises(TimeoutError):
            connect(there, listener.getsockname(), 0.5)
        # A connection of its own to itself.
        with connect(here, listener.getsockname()) as within:
            within.sendall(b"question")
            assert unacknowledged(within) == 0
        go_on(here)
        assert peer.recv(9) == b"answer" and peer.recv(9) == b""
        assert accepted.recv(8) == b"question"


def test_what_was_held_back_leaves_at_once(networks):
    """The kernel by itself would try again three seconds later: each of its waits is twice as long as the last one."""
    here, there = networks
    with connected(here, there) as (_listener, accepted, peer):
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        namespace.inside(here, filters.hold_connections)
        accepted.sendall(b"answer")
        time.sleep(3.3)
        go_on(here)
        peer.settimeout(2)
        assert peer.recv(9) == b"answer"
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert namespace.inside(here, filters.remove) and not namespace.inside(here, filters.remove)


def test_what_is_taken_back_says_nothing_and_leaves_nothing(networks):
    """The peer goes on with whoever else has the connection, and the network namespace ends with its last process."""
    here, there = networks
    with connected(here, there) as (listener, accepted, peer):
        namespace.inside(here, filters.hold_connections)
        accepted.sendall(b"answer")
        for one in (accepted, listener):
            one.close()
        assert orphans(here) == 1
        namespace.inside(here, sockets.close_all)
        assert orphans(here) == 0
        peer.settimeout(0.5)
        with pytest.raises(TimeoutError):
            peer.recv(1)


def orphans(network: str) -> int:
    """How many connections there are that no process has."""
    return sum(one.is_connected and not one.inode for one in namespace.inside(network, sockets.sockets))


def test_nobody_is_told_that_there_is_no_socket_yet(networks):
    here, there = networks
    namespace.inside(here, filters.hold_connections)
    with pytest.raises(TimeoutError):
        connect(there, (HERE, 9), 0.5)
    namespace.inside(here, filters.remove)
    with pytest.raises(ConnectionRefusedError):
        connect(there, (HERE, 9))
