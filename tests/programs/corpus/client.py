# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a program at work. On the node itself: C(python3 -c ... '[{"kind": "ask", "address": ...}, ...]').

What a client hears is a line: when, who, and what it was. Why a client has given up begins with C(!). A line of C(-) is
not a client's: it was not heard from the program. All go on until standard input ends.
"""

from __future__ import annotations

import glob
import hashlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

# Where the root file system of the programs' image is, which has the clients that come with the programs.
TOOLS = "/var/lib/docker/programs"
# Seconds between an answer and the next question, and those that an answer may take.
REST, PATIENCE = 0.005, float(os.environ.get("PATIENCE", "60"))
# Bytes that a long download takes at once.
BLOCK = 16384
# What is published last.
LAST = "end"
ENDED = threading.Event()
_writing = threading.Lock()


def say(who: str, what: str, when: float | None = None) -> None:
    """Writes a line."""
    with _writing:
        print(f"{time.time() if when is None else when:.6f} {who} {what}", flush=True)


def read_line(stream) -> str:
    """The next line, which has to come."""
    line = stream.readline()
    if not line.endswith("\n"):
        raise ValueError("the program has ended the conversation")
    return line.strip()


def listen(who: str, address: str, port: int) -> None:
    """Hears what a server says on a connection."""
    with socket.create_connection((address, port), PATIENCE) as connection, connection.makefile() as stream:
        while not ENDED.is_set():
            say(who, read_line(stream))


def ask(who: str, address: str, port: int, question: str) -> None:
    """Asks a server the same again and again, by a line on one connection. The answer is a line."""
    with socket.create_connection((address, port), PATIENCE) as connection, connection.makefile("rw") as stream:
        while not ENDED.wait(REST):
            print(question.format(who=who), file=stream, flush=True)
            # Redis marks a number in this way.
            say(who, read_line(stream).lstrip(":"))


def converse(who: str, address: str, words: list[str], question: str) -> None:
    """The same by a program that reads questions and writes answers."""
    with tool([word.format(address=address) for word in words]) as program:
        while not ENDED.wait(REST):
            print(question, file=program.stdin, flush=True)
            say(who, read_line(program.stdout))
        program.stdin.close()


def tool(words: list[str]) -> subprocess.Popen:
    """A client that comes with a program, under way."""
    pipe = subprocess.PIPE
    return subprocess.Popen(["chroot", TOOLS, *words], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def get(who: str, address: str, port: int, path: str, cookie: str = "") -> None:
    """Requests the same again and again, on one connection for as long as the server keeps it. The answer is a line."""
    server = http.client.HTTPConnection(address, port, timeout=PATIENCE)
    while not ENDED.wait(REST):
        server.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        say(who, received(server.getresponse()).decode().strip())


def received(answer: http.client.HTTPResponse) -> bytes:
    """The body of an answer that has to be one."""
    if answer.status != http.client.OK:
        raise ValueError(f"the answer is {answer.status} {answer.reason}")
    return answer.read()


def download(who: str, address: str, port: int, path: str, pace: int) -> None:
    """Downloads a file, so many bytes in a second until the end has come, and says its SHA-256; at least once."""
    while True:
        server = http.client.HTTPConnection(address, port, timeout=PATIENCE)
        server.request("GET", path)
        answer, digest, size = server.getresponse(), hashlib.sha256(), 0
        while block := answer.read(BLOCK):
            digest.update(block)
            size += len(block)
            say(who, f"at {size}")
            ENDED.wait(len(block) / pace)
        say(who, digest.hexdigest())
        server.close()
        if ENDED.is_set():
            return


def mqtt(who: str, address: str) -> None:
    """Publishes numbers and subscribes to them, with QoS 1, and hears the last one, too."""
    both = ["--host", address, "--qos", "1", "--topic", "numbers"]
    subscribe = ["mosquitto_sub", "--id", "subscriber", "--disable-clean-session", *both]
    publish = ["mosquitto_pub", "--id", "publisher", "--stdin-line", *both]
    with tool(subscribe) as subscriber, tool(publish) as publisher:
        threading.Thread(target=count_into, args=(publisher,), daemon=True).start()
        while (heard := read_line(subscriber.stdout)) != LAST:
            say(who, heard)
        publisher.stdin.close()
        subscriber.terminate()


def count_into(program: subprocess.Popen) -> None:
    """Writes numbers to a program until the end has come, and says what was the last one."""
    for number in itertools.count():
        if ENDED.wait(REST):
            break
        print(number, file=program.stdin, flush=True)
    say("-", f"published {number}")
    print(LAST, file=program.stdin, flush=True)


def pgbench(who: str, address: str, clients: int) -> None:
    """pgbench with so many clients; each of their transactions is heard when it has ended, as its log tells."""
    folder = tempfile.mkdtemp(dir=f"{TOOLS}/tmp")
    (path,) = glob.glob(f"{TOOLS}/usr/lib/postgresql/*/bin/pgbench")
    words = [path, "--host", address, "--username", "postgres", "--client", str(clients), "--time", "86400"]
    # Otherwise it begins by emptying a table, in which all transactions are to be.
    words += ["--no-vacuum", "--progress", "1", "--log", "--log-prefix", f"{folder}/log", "postgres"]
    with tool([word.removeprefix(TOOLS) for word in words]) as program:
        threading.Thread(target=end_pgbench, args=(program,), daemon=True).start()
        for line in program.stdout:
            say("-", line.rstrip())
    if program.returncode:
        say(who, f"! pgbench has ended with {program.returncode}")
    for name in glob.glob(f"{folder}/log*"):
        with open(name, encoding="ascii") as log:
            for client, number, _took, _script, seconds, micro, *_more in map(str.split, log):
                say(f"{who}-{client}", number, int(seconds) + int(micro) / 1e6)


def end_pgbench(program: subprocess.Popen) -> None:
    """Its time is over when the end has come, which it takes for the end of what C(--time) says."""
    ENDED.wait()
    program.send_signal(signal.SIGALRM)


KINDS = {one.__name__: one for one in (listen, ask, converse, get, download, mqtt, pgbench)}


def client(who: str, kind: str, load: dict) -> None:
    """One client, from its begin to its end."""
    try:
        KINDS[kind](who, **load)
    except (OSError, ValueError, http.client.HTTPException) as exc:
        say(who, f"! {exc!r}")


def main() -> None:
    """All clients."""
    threads = []
    for load in json.loads(sys.argv[1]):
        kind = load.pop("kind")
        for _time in range(load.pop("times", 1)):
            who = f"{kind}-{len(threads)}"
            threads.append(threading.Thread(target=client, name=who, args=(who, kind, load), daemon=True))
    for thread in threads:
        thread.start()
    sys.stdin.read()
    ENDED.set()
    for thread in threads:
        thread.join(PATIENCE)
        if thread.is_alive():
            say(thread.name, f"! it has heard nothing for {PATIENCE:g} s")


if __name__ == "__main__":
    main()
