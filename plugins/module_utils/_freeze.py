# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezing a container of Docker's through its OCI runtime, so that it can be let go again at once.

Private to the collection fog.migration. Laid down on servers by C(_program).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import json
import os
import shutil
import socket
import struct
import subprocess
import threading

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PAGE_SERVER_PORT = 27
# Where Docker's runtimes keep what they know of a container: 26 and others with containerd's shim, 17.09.
RUNTIME_ROOTS = ("/run/docker/runtime-*/moby", "/run/docker/runtime-*", "/run/runc", "/run/containerd/runc/moby")


class FreezeError(Exception):
    """It could not be frozen. The text is a clause; the container runs on."""


def runc_program():
    """The runc that Docker uses here."""
    return shutil.which("docker-runc") or shutil.which("runc") or "runc"


def runtime_root(container):
    """The folder in which runc knows this container, or None."""
    for pattern in RUNTIME_ROOTS:
        for root in glob.glob(pattern):
            if os.path.exists(os.path.join(root, container, "state.json")):
                return root
    return None


def keep_frozen(container):
    """Freezes the control group of a container that Docker has paused, again.

    CRIU thaws it while it keeps the processes from running itself, and freezes it at its end, but not when it is
    killed: the container would run here as well as at the destination then.
    """
    root = runtime_root(container)
    with open(os.path.join(root, container, "state.json"), encoding="utf-8") as stream:
        paths = json.load(stream)["cgroup_paths"]
    if "freezer" in paths:
        place, order = os.path.join(paths["freezer"], "freezer.state"), "FROZEN"
    else:
        place, order = os.path.join(paths[""], "cgroup.freeze"), "1"
    with open(place, "w", encoding="ascii") as stream:
        stream.write(order)


def checkpoint_command(container, images, work, *options):
    """The words that have runc dump this container; it is left as it is if the words do not say otherwise."""
    root = runtime_root(container)
    if root is None:
        raise FreezeError("no OCI runtime knows it")
    places = ["--image-path", images, "--work-path", work]
    return [
        runc_program(),
        "--root",
        root,
        "checkpoint",
        *places,
        "--tcp-established",
        "--ext-unix-sk",
        *options,
        container,
    ]


def dump(container, images, work):
    """Dumps a container that is frozen already, and stays so.

    :raises FreezeError: with what runc said; the container is frozen as before.
    """
    done = subprocess.run(
        checkpoint_command(container, images, work, "--leave-running"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        raise FreezeError(last_line(done.stdout))


def last_line(output):
    """The last line of a program's output, as text."""
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")


class LazyDump(threading.Thread):
    """A dump that leaves the memory's pages where they are and serves them, until all were asked for or it is given up.

    CRIU's page server listens to anybody who can reach it. Here nobody can: the dump runs in a network namespace of
    its own, in which this thread makes the one connection. The container has to be frozen already, and stays so when
    the page server ends, for whatever reason.
    """

    def __init__(self, container, images, work):
        super().__init__(daemon=True)
        self.container, self.images, self.work = container, images, work
        self.ready = threading.Event()
        self.connection = None
        self.problem = None
        self.process = None
        self._stopped = False

    def run(self):
        try:
            enter_own_network()
            self._dump()
        except (OSError, FreezeError) as exc:
            self.problem = str(exc)
            if self.process:
                self.process.kill()
                self.process.communicate()
        finally:
            self.ready.set()

    def _dump(self):
        reader, writer = os.pipe()
        server = ["--lazy-pages", "--page-server", f"127.0.0.1:{PAGE_SERVER_PORT}", "--status-fd", str(writer)]
        words = checkpoint_command(self.container, self.images, self.work, "--leave-running", *server)
        self.process = subprocess.Popen(
            words, pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        os.close(writer)
        with os.fdopen(reader, "rb") as status:
            said = status.read(1)
        if said != b"\0":
            output = self.process.communicate()[0]
            raise FreezeError(last_line(output))
        keep_frozen(self.container)
        self.connection = socket.create_connection(("127.0.0.1", PAGE_SERVER_PORT), 5)
        self.connection.settimeout(None)

    def stop(self):
        """Ends the page server. The container stays as it was before the dump: frozen."""
        with contextlib.suppress(OSError):
            # Another thread may be waiting for data, which a mere close would not end.
            self.connection.shutdown(socket.SHUT_RDWR)
        if not self._stopped:
            self._stopped = True
            self.process.communicate()


def enter_own_network():
    """Gives the calling thread, and what it starts, a network of their own with nothing in it but the loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(handle, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
