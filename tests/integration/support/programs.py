# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs for containers that tell by themselves whether a migration has lost something; in the nodes' own Python."""

from __future__ import annotations

from . import lab as lab_module

IMAGE = "python:lab"
COMMAND = ("/usr/bin/python3", "-u", "-c")
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


def make_image(lab: lab_module.Lab) -> None:
    """Puts the image onto all fog servers, where it is not there yet."""
    for node in lab.servers():
        lab.sh(node, _MAKE_IMAGE)


def start(lab: lab_module.Lab, node: str, name: str, program: str, *options: str) -> str:
    """Starts a container with one of these programs; its ID."""
    make_image(lab)
    return lab.docker(node, "run", "-d", "--name", name, *options, IMAGE, *COMMAND, program)
