# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs for containers that tell by themselves whether a migration has lost something; in the nodes' own Python."""

from __future__ import annotations

from . import lab as lab_module

IMAGE = "python:lab"
COMMAND = ("/usr/bin/python3", "-u", "-c")
# Python's own print() writes each word by itself when it does not buffer. Of a line that is frozen in the midst, Docker
# keeps the beginning, and the log at the destination begins with the rest.
_WHOLE_LINES = """
import os
def print(*words, flush=True):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""
# The node's Python and what it needs, as an image.
_MAKE_IMAGE = f"""
docker image inspect {IMAGE} >/dev/null 2>&1 ||
tar -C / -c usr/bin/python3 usr/bin/python3.* usr/lib/python3.* usr/lib/python3 usr/lib/*-linux-gnu* usr/lib64 \
    lib lib64 2>/dev/null | docker import - {IMAGE}
"""

# C(echo()) sends back what it hears on port 7001. A connection that CRIU has left in repair mode answers with EPERM:
# that is asked again, as few programs do, so that what becomes of the connection itself can be seen.
ECHO = """
def echo():
    import select, socket, time
    listener = socket.create_server(("", 7001), backlog=8)
    print("listening", flush=True)
    connections = []
    while True:
        for one in select.select([listener, *connections], [], [])[0]:
            if one is listener:
                connections.append(listener.accept()[0])
                continue
            try:
                heard = one.recv(1 << 16)
                one.sendall(heard)
            except PermissionError:
                time.sleep(0.01)
                continue
            except OSError:
                heard = b""
            if not heard:
                connections.remove(one)
                one.close()
"""

# Every page of 256 MiB holds its number and how often it was written; a tenth of them is written anew in each pass,
# after each was found as it was left. "PASS ERRORS" on each line.
MEMORY_CHECKER = """
import mmap, random, struct
PAGES, SIZE = 65536, 4096
memory = mmap.mmap(-1, PAGES * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
written = [0] * PAGES
noise = random.Random(1).randbytes(SIZE - 16)
def page(number):
    return struct.pack("<QQ", number, written[number]) + noise
for number in range(PAGES):
    memory[number * SIZE:(number + 1) * SIZE] = page(number)
passes = errors = 0
while True:
    print(passes, errors)
    for number in range(PAGES):
        if memory[number * SIZE:(number + 1) * SIZE] != page(number):
            errors += 1
        if number % 10 == passes % 10:
            written[number] += 1
            memory[number * SIZE:(number + 1) * SIZE] = page(number)
    passes += 1
"""

# 256 MiB that it leaves alone once they are written, so that most of them can be swapped out, but for a few pages at a
# time. When there is a file /whole, it looks at all of them once, and its numbers are beyond a million then. A number
# on each line, and what is wrong.
IDLE = """
import mmap, os, random, struct, time
PAGES, SIZE, STEP = 65536, 4096, 8
memory = mmap.mmap(-1, PAGES * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
noise = random.Random(1).randbytes(SIZE - 8)
def page(number):
    return struct.pack("<Q", number) + noise
def wrong(first, last):
    return sum(memory[one * SIZE : (one + 1) * SIZE] != page(one) for one in range(first, last))
for number in range(PAGES):
    memory[number * SIZE : (number + 1) * SIZE] = page(number)
number = errors = 0
while True:
    errors += wrong(number * STEP % PAGES, number * STEP % PAGES + STEP)
    if number < 1000000 and os.path.exists("/whole"):
        for first in range(0, PAGES, 1024):
            errors += wrong(first, first + 1024)
            time.sleep(0.02)
        number += 1000000
    print(number, errors)
    number += 1
    time.sleep(0.05)
"""

# Three processes with three threads each, which share memory: every thread counts, and each line has the sum of all
# counters in the shared memory of its process. "PROCESS THREAD NUMBER", and the number again from the shared memory.
FAMILY = """
import mmap, os, struct, threading, time
shared = mmap.mmap(-1, 4096)
def count(process, thread):
    place = 8 * (process * 3 + thread)
    number = 0
    while True:
        struct.pack_into("<Q", shared, place, number)
        time.sleep(0.05)
        again = struct.unpack_from("<Q", shared, place)[0]
        os.write(1, f"{process} {thread} {number} {again}\\n".encode())
        number += 1
for process in (1, 2):
    if not os.fork():
        break
else:
    process = 0
for thread in (1, 2):
    threading.Thread(target=count, args=(process, thread), daemon=True).start()
count(process, 0)
"""

# 48 MiB that cannot be compressed, all of it other bytes several times per second. A number on each line.
RESTLESS = """
import mmap, random
memory = mmap.mmap(-1, 48 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
source = random.Random(1).randbytes(49 << 20)
number = 0
while True:
    begin = number * 4099 % (1 << 20)
    memory[:] = source[begin:begin + (48 << 20)]
    assert memory[:] == source[begin:begin + (48 << 20)]
    print(number)
    number += 1
"""


# How a program gets memory: "memory = KIND(bytes)" is a buffer.
KINDS = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
kept = []
def private(size, flags=0):
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags))
def anonymous(size, flags=0):
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | flags))
def memfd(size):
    file = os.memfd_create("of a test")
    os.ftruncate(file, size)
    return memoryview(mmap.mmap(file, size))
def sealed(size):
    file = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(file, size)
    import fcntl
    fcntl.fcntl(file, 1033, 2 | 4)  # F_ADD_SEALS: neither smaller nor larger
    kept.append(file)
    return memoryview(mmap.mmap(file, size))
def system_v(size):
    address = libc.shmat(libc.shmget(0, size, 0o1600), None, 0)
    kept.append((ctypes.c_char * size).from_address(address))
    return memoryview(kept[-1]).cast("B")
def posix(size):
    file = os.open("/dev/shm/of-a-test", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, size)
    return memoryview(mmap.mmap(file, size))
def huge(size):
    return private(size, 0x40000)
def huge_shared(size):
    return anonymous(size, 0x40000)
def locked(size):
    memory = private(size)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(size)):
        raise OSError(ctypes.get_errno(), "mlock")
    return memory
"""

# Each page of memory of one kind holds its number and how often it was written, at its begin and at its end. In each
# pass, one process writes a tenth of them anew, and another one then looks at every page. "PASS ERRORS" on each line.
_PAIR = """
import random, struct
PAGES, SIZE = {pages}, 4096
memory = {kind}(PAGES * SIZE)
noise = random.Random(1).randbytes(SIZE - 32)
def page(number, count):
    head = struct.pack("<QQ", number, count)
    return head + noise + head
for number in range(PAGES):
    memory[number * SIZE:(number + 1) * SIZE] = page(number, 0)
def look(count):
    errors = 0
    for number in range(PAGES):
        found = memory[number * SIZE:(number + 1) * SIZE]
        written = struct.unpack_from("<Q", found, 8)[0]
        expected = (count - number % 10 + 9) // 10 if {shared} else written
        errors += written != expected or bytes(found) != page(number, written)
    return errors
to_child, from_child = os.pipe(), os.pipe()
if {shared} and not os.fork():
    while True:
        count = int.from_bytes(os.read(to_child[0], 8), "little")
        os.write(from_child[1], look(count).to_bytes(8, "little"))
count = 0
while True:
    if {shared}:
        os.write(to_child[1], count.to_bytes(8, "little"))
        errors = int.from_bytes(os.read(from_child[0], 8), "little")
    else:
        errors = look(count)
    print(count, errors)
    for number in range(count % 10, PAGES, 10):
        memory[number * SIZE:(number + 1) * SIZE] = page(number, count // 10 + 1)
    count += 1
"""


def checker(kind: str, mebibytes: int, shared: bool = True) -> str:
    """A program that checks so much memory of a kind, see _PAIR, with or without another process that shares it."""
    return KINDS + _PAIR.format(kind=kind, pages=mebibytes * 256, shared=shared)


# So many GiB, each page of which holds its number and how often it was written. All the time some are written anew, and
# others are looked at, one after the other. "PASS ERRORS" on each line.
_LARGE = """
import mmap, struct, time
PAGES, SIZE, STEP = {gibibytes} << 18, 4096, 20000
memory = mmap.mmap(-1, PAGES * SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
written = bytearray(PAGES)
for number in range(PAGES):
    memory[number * SIZE:number * SIZE + 9] = struct.pack("<QB", number + 1, 0)
passes = errors = number = 0
while True:
    for one in range(number, min(number + STEP, PAGES)):
        errors += memory[one * SIZE:one * SIZE + 9] != struct.pack("<QB", one + 1, written[one])
    for one in range(number, min(number + STEP, PAGES), 97):
        written[one] = (written[one] + 1) % 256
        memory[one * SIZE + 8] = written[one]
    number += STEP
    if number >= PAGES:
        passes, number = passes + 1, 0
    print(passes, errors)
    time.sleep(0.02)
"""


def large(gibibytes: int) -> str:
    """A program with so much memory, see _LARGE."""
    return _LARGE.format(gibibytes=gibibytes)


# Memory in a reservation of 8 TiB, as MariaDB 11.8 has it. A number on each line, and what is wrong with it.
RESERVED = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
SIZE = 16 << 20
address = libc.mmap(None, 8 << 40, 0, 0x4022, -1, 0)  # PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
assert address != ctypes.c_void_p(-1).value
places = [address, address + (5 << 40), address + (8 << 40) - SIZE]
assert not any(libc.mprotect(place, SIZE, 3) for place in places)
memory = [(ctypes.c_char * SIZE).from_address(place) for place in places]
number = 0
while True:
    text = b"%020d" % number
    for one in memory:
        one[number * 4096 % SIZE : number * 4096 % SIZE + 20] = text
    wrong = sum(one[number * 4096 % SIZE : number * 4096 % SIZE + 20] != text for one in memory)
    if number >= 9:
        before = (number - 9) * 4096 % SIZE
        wrong += sum(one[before : before + 20] != b"%020d" % (number - 9) for one in memory)
    print(number, wrong)
    number += 1
    time.sleep(0.05)
"""

# Locks on a file of both kinds. A number on each line, and whether each of them still keeps others out.
LOCKS = """
import fcntl, os, time
held = open("/of-a-test", "w")
fcntl.flock(held, fcntl.LOCK_EX)
region = open("/other", "w")
fcntl.lockf(region, fcntl.LOCK_EX, 10, 5)
def keeps_out(lock, name, *place):
    child = os.fork()
    if not child:
        with open(name, "w") as other:
            try:
                lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB, *place)
            except OSError:
                os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
number = 0
while True:
    print(number, keeps_out(fcntl.flock, "/of-a-test"), keeps_out(fcntl.lockf, "/other", 1, 14))
    number += 1
    time.sleep(0.05)
"""


def make_image(lab: lab_module.Lab) -> None:
    """Puts the image onto all fog servers, where it is not there yet."""
    for node in lab.servers():
        lab.sh(node, _MAKE_IMAGE)


def start(lab: lab_module.Lab, node: str, name: str, program: str, *options: str) -> str:
    """Starts a container with one of these programs; its ID."""
    make_image(lab)
    return lab.docker(node, "run", "-d", "--name", name, *options, IMAGE, *COMMAND, _WHOLE_LINES + program)
