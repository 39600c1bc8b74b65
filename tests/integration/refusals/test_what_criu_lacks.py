# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CRIU cannot dump is told by name, with the program's own remedy, before anything is touched."""

from __future__ import annotations

import pytest

from support import programs
from support.lab import failure, wait_for

pytestmark = pytest.mark.lab

# As Go from 1.24 on listens, where the kernel lets it.
MULTIPATH = """
import socket, time
try:
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    print("has it")
except OSError:
    server = socket.socket()
    print("has TCP")
server.bind(("0.0.0.0", 7000))
server.listen()
while True:
    time.sleep(1)
"""
# As PHP's compiler keeps what it has made. Python's own code comes behind this address.
SHARED_CODE = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
READ_EXECUTE, SHARED_ANONYMOUS = 5, 0x21
print("has it" if libc.mmap(0x20000, 65536, READ_EXECUTE, SHARED_ANONYMOUS, -1, 0) == 0x20000 else "has none")
while True:
    time.sleep(1)
"""


def start(lab, program: str, *options: str) -> str:
    """Starts it; what it has."""
    programs.start(lab, "fog1", "mover", program, *options)
    return wait_for(lambda: lab.docker("fog1", "logs", "mover"), "its first line")


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (MULTIPATH, "python3 (PID 1 in it) holds a socket of the protocol MPTCP (run it with --sysctl "),
        (SHARED_CODE, "python3 (PID 1 in it) has shared code first in its memory, into which CRIU cannot write"),
    ],
    ids=["MPTCP", "shared code"],
)
def test_it_is_refused_by_name(lab, program, told):
    if start(lab, program) != "has it":
        pytest.skip("NOT TESTED: this kernel has no MPTCP, or something else at that address")
    assert told in failure(lab.migrate("mover", check=False))
    assert lab.running_on("mover") == ["fog1"]
    lab.require_no_traces()


def test_without_multipath_it_moves(lab):
    assert start(lab, MULTIPATH, "--sysctl", "net.mptcp.enabled=0") == "has TCP"
    lab.migrate("mover")
    assert lab.running_on("mover") == ["fog2"]
