# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs of a destination, as processes of their own, and what they hear from a source that means ill.

The programs are started as the forced command of a key starts them: from their own source text in a private folder,
with standard input and output for the channel. Only Docker is a stand-in, which answers at a socket of its own and
writes down what it is asked to do: the attacks of this folder are over before a container is made.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import http.server
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker.mounts import Ordered
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import framing

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do that")
MIB = 1 << 20
# Bytes that a program may have in memory, whatever it is told: Python and our modules take 25 MiB.
MEMORY = 64 * MIB
# So that a mistake of ours does not take the machine's memory: an attack that needs more fails.
_ADDRESS_SPACE = 3 << 30
# Seconds until a program has ended: most need a tenth of one. Nothing else is done while one is awaited.
LIMIT = 60.0
CONTAINER = "c0ffee" + "0" * 58
HOST = "fog2"


# ---------------------------------------------------------------------------------------------------------------------
# What a source says


def frame(kind: bytes, payload: object = b"", length: int | None = None) -> bytes:
    """One frame, of which the length may be a lie; what is no bytes becomes JSON."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode("ascii")
    return framing.HEADER.pack(kind, len(data) if length is None else length) + data


def hello(role: str, **more: object) -> bytes:
    """The greeting of this role."""
    return frame(framing.HELLO, framing.greeting(role, **more))


def listed(kind: bytes, *parts: list) -> bytes:
    """A list in some frames, and its end."""
    return b"".join(frame(kind, part) for part in (*parts, []))


def do(operation: object, **more: object) -> bytes:
    """One request to the destination's end of a channel."""
    return frame(framing.DO, {"do": operation, **more})


def stream(data: bytes) -> bytes:
    """Data in as many frames as it takes, and an end with their checksum."""
    parts = [data[begin : begin + framing.CHUNK] for begin in range(0, len(data), framing.CHUNK)]
    end = frame(framing.END, {"sha256": hashlib.sha256(data).hexdigest()})
    return b"".join(frame(framing.DATA, part) for part in parts) + end


def cuts(parts: list[bytes]) -> Iterator[bytes]:
    """A conversation that ends too early: in front of each frame, and in its middle."""
    said = b""
    for part in parts:
        yield said
        yield said + part[: (framing.HEADER.size + len(part)) // 2]
        said += part


# ---------------------------------------------------------------------------------------------------------------------
# What must not be touched


def tree(top: Path) -> dict[str, tuple]:
    """All that can be seen of a folder and what is below it."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        facts = path.lstat()
        kind = facts.st_mode, facts.st_uid, facts.st_gid, facts.st_nlink, facts.st_mtime_ns, facts.st_rdev
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_bytes()
        names = () if path.is_symlink() else tuple(os.listxattr(path))
        found[str(path.relative_to(top))] = (*kind, content, names)
    return found


class Place:
    """A folder in which C(there) is the destination's, and C(others) is not: as its F(/etc) and F(/home)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.there = folder / "there"
        self.others = folder / "others"
        self._before: dict[str, tuple] = {}
        self._temporary: set[str] = set()

    def __enter__(self) -> Place:
        self.there.mkdir(0o700)
        (self.others / "home").mkdir(parents=True)
        for name in ("shadow", "home/key"):
            path = self.others / name
            path.write_text("sings")
            path.chmod(0o600)
        self._before, self._temporary = tree(self.others), set(os.listdir(tempfile.gettempdir()))
        return self

    def __exit__(self, *exception: object) -> None:
        if not any(exception):
            assert tree(self.others) == self._before
            assert sorted(os.listdir(self.folder)) == ["others", "there"]

    def program_folder(self) -> Path:
        """A new private folder for a program."""
        folder = self.there / "program"
        folder.mkdir(0o700)
        return folder


# ---------------------------------------------------------------------------------------------------------------------
# Programs


class Ended(NamedTuple):
    """How a program has ended.

    :param code: its exit code; a negative one is a signal.
    :param said: what it wrote to standard error.
    :param answers: what it wrote to standard output.
    :param memory: the most bytes that it had in memory.
    :param seconds: how long it ran.
    """

    code: int
    said: str
    answers: bytes
    memory: int
    seconds: float


class Program:
    """A program of ours, which is started many times.

    :param folder: an empty one.
    :param part: the module with the program.
    """

    def __init__(self, folder: Path, part: str) -> None:
        self._folder = folder
        self._words = deploy.install(str(folder), {}, part)
        # As it is compiled already, each start takes a fifth of the time.
        compileall.compile_dir(folder, quiet=1)

    def install(self, folder: Path, config: dict) -> list[str]:
        """As C(deploy.install) does it, in a folder that is private and empty; the words of its command."""
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)
        (folder / deploy.CONFIG).write_text(json.dumps(config), encoding="utf-8")
        return [*self._words[:-1], str(folder / deploy.PROGRAM)]


def run(
    words: list[str], said: Iterable[bytes], *, stays: bool = False, hears: bool = True, most_files: int = 1024
) -> Ended:
    """Starts a program, says something to it, and returns when it has ended.

    :param said: pieces, of any number: they are made as the program takes them.
    :param stays: whether the source keeps the channel open when it has said everything.
    :param hears: whether it reads the answers. Otherwise nobody does before the program has ended.
    :param most_files: the most files that the program may have open.
    """
    began = time.monotonic()
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _MEASURE, str(writer), str(_ADDRESS_SPACE), str(most_files), *words],
        pass_fds=[writer],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    os.close(writer)
    heard: dict[str, bytes] = {}
    ended = threading.Event()
    threads = [
        threading.Thread(target=_say, args=(process.stdin, said, ended if stays else None)),
        threading.Thread(target=_hear, args=(process.stdout, heard, "answers", None if hears else ended)),
        threading.Thread(target=_hear, args=(process.stderr, heard, "said", None)),
    ]
    for thread in threads:
        thread.start()
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        # The program itself, and its own children, which have its pipes open.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    seconds = time.monotonic() - began
    ended.set()
    for thread in threads:
        thread.join()
    with os.fdopen(reader) as stream:
        measured = stream.read().split()
    assert measured, f"the program still runs after {seconds:.0f} seconds, and has said {heard}"
    code, memory = map(int, measured)
    return Ended(code, heard["said"].decode("utf-8"), heard["answers"], memory * 1024, seconds)


# Starts a program and tells, when it has ended, its exit code, and how many KiB it had in memory. What the process had
# that it was forked from counts as well, so that must be a small one.
_MEASURE = """
import os, resource, sys
writer, memory, files = map(int, sys.argv[1:4])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
os.set_inheritable(writer, False)
child = os.spawnv(os.P_NOWAIT, sys.argv[4], sys.argv[4:])
status, usage = os.wait4(child, 0)[1:]
os.write(writer, b"%d %d" % (os.waitstatus_to_exitcode(status), usage.ru_maxrss))
"""


def _say(pipe, said: Iterable[bytes], ended: threading.Event | None) -> None:
    """Until the program does not listen any more."""
    with contextlib.suppress(BrokenPipeError), pipe:
        for piece in said:
            view = memoryview(piece)
            while view:
                view = view[pipe.write(view) :]
        if ended:
            ended.wait()


def _hear(pipe, heard: dict[str, bytes], name: str, ended: threading.Event | None) -> None:
    if ended:
        ended.wait()
    with pipe:
        heard[name] = pipe.read()


def require_refused(ended: Ended, sentence: str, why: str, memory: int = MEMORY) -> None:
    """The program has ended with one clear sentence, and in little memory.

    :param sentence: what it has said.
    :param why: a part of it.
    """
    assert ended.code == 1, ended
    assert "Traceback" not in ended.said, ended.said
    assert why in sentence, sentence
    assert sentence.isprintable() and len(sentence) < 6000, sentence
    assert ended.memory < memory, f"{ended.memory // MIB} MiB"


# ---------------------------------------------------------------------------------------------------------------------
# The transfer of a directory


class Directory:
    """The program that receives one directory."""

    def __init__(self, place: Place, program: Program) -> None:
        self.place = place
        self.program = program
        self.parent = place.there / "in"
        self.final = self.parent / "name"
        self.staging = self.parent / ".name.incoming"
        self.order = {
            "role": "receive",
            "final": str(self.final),
            "host": HOST,
            "replace": False,
            "idle_limit": 30,
            "lifetime": 0,
        }

    def hear(self, said: Iterable[bytes], **how: Any) -> Ended:
        """How it has ended, after it has heard this."""
        folder = self.place.program_folder()
        ended = run(self.program.install(folder, self.order), said, **how)
        shutil.rmtree(folder)
        return ended

    def attack(self, said: Iterable[bytes], why: str, *, memory: int = MEMORY, **how: Any) -> None:
        """It must refuse this, and of what has come only staging may be left, from which another attempt goes on."""
        ended = self.hear(said, **how)
        assert ended.said.count("\n") == 1, ended.said
        sentence = json.loads(ended.said)["error"]
        require_refused(ended, sentence, why, memory)
        left = set(os.listdir(self.parent)) if self.parent.exists() else set()
        assert left <= {".name.incoming"} and not os.path.lexists(self.final)
        assert set(os.listdir(self.place.there)) <= {"in"}


# ---------------------------------------------------------------------------------------------------------------------
# A live migration


class Docker(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """As much of a Docker daemon as a destination asks for before it makes a container.

    It has one container, whose mount and whose layer are folders of the destination.
    """

    daemon_threads = True

    def __init__(self, there: Path) -> None:
        self._folder = tempfile.mkdtemp(prefix="fog-docker-")
        self.path = os.path.join(self._folder, "docker.sock")
        super().__init__(self.path, _Handler)
        self.root = there / "docker"
        self.mount = there / "mount"
        self.layer = self.root / "overlay2" / "0123" / "diff"
        self.log = self.root / "containers" / CONTAINER / f"{CONTAINER}-json.log"
        for folder in (self.mount, self.layer, self.log.parent):
            folder.mkdir(parents=True)
        # What it was asked to change.
        self.asked: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Docker:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        shutil.rmtree(self._folder)

    def empty(self) -> None:
        """Removes what has come to its folders, however deep it is."""
        for folder in (self.mount, self.layer):
            subprocess.run(["find", str(folder), "-mindepth", "1", "-delete"], check=True)

    def told(self, path: str) -> object:
        """What it tells at this path."""
        graph = {"Name": "overlay2", "Data": {"UpperDir": str(self.layer)}}
        mounts = [{"Type": "volume", "Name": "data", "Source": str(self.mount), "Destination": "/data"}]
        values: dict[str, object] = {
            "/info": {"DockerRootDir": str(self.root), "Driver": "overlay2"},
            "/version": {"Version": "26.1.5", "ApiVersion": "1.45"},
            "/volumes": {"Volumes": None},
            "/networks": [{"Name": "bridge", "Driver": "bridge"}],
            "/containers/json": [],
            f"/containers/{CONTAINER}/json": {"Id": CONTAINER, "GraphDriver": graph, "Mounts": mounts},
        }
        return values.get(path)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Docker

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        # The SDK names the version of the API that it speaks.
        value = self.server.told(path[path.index("/", 1) :] if path.startswith("/v1.") else path)
        body = json.dumps({"message": "no such thing"} if value is None else value).encode()
        self.send_response(404 if value is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.send_error(500)

    do_DELETE = do_PUT = do_POST

    def log_message(self, *_words: object) -> None:
        """Nobody reads it."""


class Channel:
    """The program that is the destination's end of a live migration of one container."""

    def __init__(self, place: Place, docker: Docker, program: Program) -> None:
        self.place = place
        self.program = program
        self.docker = docker
        self.room = 64 * MIB
        self.quiet_limit = 0

    def settings(self, folder: str) -> DestinationSettings:
        """What the program is told before it starts."""
        return DestinationSettings(
            staging=f"{folder}/staging",
            docker_socket=self.docker.path,
            host=HOST,
            container=CONTAINER,
            patience=1,
            restore_limit=1,
            mounts=[Ordered("/data")],
            log=True,
            room=self.room,
            quiet_limit=self.quiet_limit,
        )

    def attack(
        self,
        said: Iterable[bytes],
        why: str,
        *,
        memory: int = MEMORY,
        prepare: Callable[[Path], object] = lambda _folder: None,
        **how: Any,
    ) -> None:
        """It must refuse this, and nothing of what has come to staging may be left.

        :param prepare: is called with the program's folder.
        """
        folder = self.place.program_folder()
        words = self.program.install(folder, self.settings(str(folder)).to_json())
        prepare(folder)
        ended = run(words, said, **how)
        assert ended.said.count("\n") == 1, ended.said
        require_refused(ended, ended.said.rstrip("\n"), why, memory)
        assert not folder.exists()
        assert self.docker.asked == []
        assert not os.path.exists(f"/run/fog-migration/runtime/{CONTAINER}")
