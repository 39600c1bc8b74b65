# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dumping a frozen container of Docker's through its OCI runtime, so that it can be let go again at once.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO

from ansible_collections.fog.migration.plugins.module_utils.criu import core_images, dump_costs, kept_logs
from ansible_collections.fog.migration.plugins.module_utils.docker import runc
from ansible_collections.fog.migration.plugins.module_utils.docker.runc import FreezeError
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap
from ansible_collections.fog.migration.plugins.module_utils.runtime import room_for_files
from ansible_collections.fog.migration.plugins.module_utils.runtime.dump_root import DumpRoot
from ansible_collections.fog.migration.plugins.module_utils.system import limits
from ansible_collections.fog.migration.plugins.module_utils.system.files import is_readable

# What a container needs at its dump and at its restore alike, which has connections, sockets and locks of files.
OPTIONS = ("--tcp-established", "--ext-unix-sk", "--file-locks")
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PAGE_SERVER_PORT = 27
# The begin of the first file that CRIU writes when it has dumped all processes (cr_dump_tasks() in criu/cr-dump.c).
_AFTER_PROCESSES = "mountpoints-"
# Seconds between two looks whether the images are complete.
LOOK_EVERY = 0.001


def checkpoint_command(container: str, images: str, work: str, root: str, *options: str) -> list[str]:
    """The command by which runc dumps a container, which it leaves as it is.

    :param root: where runc knows it.
    """
    same = ["--image-path", images, "--work-path", work, *OPTIONS, "--leave-running"]
    return [runc.runc_program(), "--root", root, "checkpoint", *same, *options, container]


def can_leave(memory: int, processes: int) -> bool:
    """Whether CRIU may open as many files here as it needs to leave so many bytes of memory with so many processes."""
    pipe = dump_costs.pipe_bytes(pagemap.PAGE, limits.largest_pipe())
    return dump_costs.descriptors(memory, processes, pipe) <= limits.open_files()


def last_line(output: bytes) -> str:
    """The last line of a program's output, as text."""
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a message")


def why_not(output: bytes, work: str) -> str:
    """Why a dump failed: what runc wrote, and CRIU in its own log."""
    return kept_logs.runtime_message(last_line(output)) + kept_logs.reason(os.path.join(work, "dump.log"))


class Dump(threading.Thread):
    """A dump of a container that is frozen already and stays so, under way.

    Its images are complete before CRIU ends: it still unlocks the network, which has a lock of our own, and lets go of
    the processes. Nobody waits for that.

    CRIU has thawed their control group, to have them run its own code. It is frozen again as soon as CRIU has done with
    all of them: when it is killed from then on, the kernel would have them run, and their connections, which are in
    repair mode, would be of no use to them.

    A lazy one leaves the pages that can be fetched later with the processes. CRIU serves them by a page server, which
    listens to anybody who can reach it; here nobody can, since it runs in a network namespace of its own, and it ends
    as soon as everything else is written: the processes stand still, so their memory can be read without it.

    :param unwanted: of a lazy one, how many files of pages are not kept, because all memory is read here.
    """

    def __init__(self, container: str, images: str, work: str, root: DumpRoot, lazy: bool, unwanted: int = 0) -> None:
        super().__init__(daemon=True)
        # The processes whose limit of open files is raised for it.
        self.raised: Sequence[room_for_files.Raised] = ()
        self._container = container
        self._images = images
        self._work = work
        self._root = root
        self._lazy = lazy
        self._unwanted = unwanted
        self._ready = threading.Event()
        self._problem: str | None = None
        self._is_frozen_again = False
        # Whether the container has run for a moment when CRIU had ended.
        self.let_go = False
        self._process: subprocess.Popen | None = None

    def run(self) -> None:
        try:
            with tempfile.TemporaryFile() as output:
                complete = self._dump_lazily(output) if self._lazy else self._dump_whole(output)
                if not complete:
                    output.seek(0)
                    raise FreezeError(why_not(output.read(), self._work))
            core_images.change(self._images, room_for_files.changes(self.raised))
        except (OSError, FreezeError, core_images.CoreImageError) as exc:
            self._problem = str(exc)
            if self._process:
                self._process.kill()
        self._ready.set()
        if self._process:
            self._process.wait()
        for one in self.raised:
            one.put_back()
        self._hold()

    def _hold(self) -> None:
        """Freezes it again at once where a CRIU that was killed has let it go, with connections that are of no use."""
        runc.wait_for_criu(self._container)
        with contextlib.suppress(OSError, FreezeError):
            if self._problem and not runc.held_by_criu(self._container):
                self.let_go = not runc.is_frozen(self._container)
                runc.keep_frozen(self._container)

    def _start(self, output: IO[bytes], *options: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen:
        words = checkpoint_command(self._container, self._images, self._work, self._root.folder, *options)
        with limits.lifted():
            self._process = subprocess.Popen(
                words, pass_fds=pass_fds, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        return self._process

    def _dump_whole(self, output: IO[bytes]) -> bool:
        """Whether the images are complete; returns once they are, or the dump has ended."""
        process = self._start(output)
        while process.poll() is None:
            self._freeze_again()
            if self._root.is_complete:
                self._freeze_again(done=True)
                return True
            time.sleep(LOOK_EVERY)
        return process.returncode == 0

    def _freeze_again(self, done: bool = False) -> None:
        """Freezes the processes if CRIU has done with all of them, and that was not done yet.

        :param done: it has done so for certain.
        """
        if self._is_frozen_again:
            return
        if done or any(name.startswith(_AFTER_PROCESSES) for name in os.listdir(self._images)):
            runc.keep_frozen(self._container)
            self._is_frozen_again = True

    def _dump_lazily(self, output: IO[bytes]) -> bool:
        """The same of images without the pages that are left."""
        with unwritten_pages(self._images, self._unwanted):
            return self._serve_nobody(output)

    def _serve_nobody(self, output: IO[bytes]) -> bool:
        """A dump with a page server, which ends as soon as it is the only thing left to do."""
        enter_own_network()
        reader, writer = os.pipe()
        server = ["--lazy-pages", "--page-server", f"127.0.0.1:{PAGE_SERVER_PORT}", "--status-fd", str(writer)]
        process = self._start(output, *server, pass_fds=[writer])
        os.close(writer)
        with os.fdopen(reader, "rb") as status:
            while not is_readable(reader, LOOK_EVERY):
                self._freeze_again()
            ready = status.read(1)
        if ready != b"\0":
            process.wait()
            return False
        self._freeze_again(done=True)
        # A client that goes at once is the end of the page server, and CRIU leaves the processes as they were.
        socket.create_connection(("127.0.0.1", PAGE_SERVER_PORT), 5).close()
        return True

    def wait(self) -> None:
        """Returns when the images are written.

        :raises FreezeError: when they could not be; the container is frozen as before.
        """
        self._ready.wait()
        if self._problem:
            raise FreezeError(self._problem)


@contextlib.contextmanager
def unwritten_pages(images: str, count: int) -> Iterator[None]:
    """CRIU writes the pages of memory to nowhere meanwhile, which takes it no time.

    :param count: how many files of them, which have the numbers from 1 on. Others are kept.
    """
    names = [os.path.join(images, pagemap.pages_name(number)) for number in range(1, count + 1)]
    for name in names:
        os.symlink(os.devnull, name)
    try:
        yield
    finally:
        for name in names:
            os.unlink(name)


def enter_own_network() -> None:
    """Gives the calling thread, and what it starts, a network of their own with nothing in it but the loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(handle, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
