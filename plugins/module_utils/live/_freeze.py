# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freezing a container of Docker's through its OCI runtime, so that it can be let go again at once.

Private to the collection fog.migration. Laid down on servers by C(_program).
"""

from __future__ import annotations

import ctypes
import fcntl
import glob
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

from ansible_collections.fog.migration.plugins.module_utils import _host
from ansible_collections.fog.migration.plugins.module_utils.criu import _criu

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
    """The folder in which runc knows this container.

    :raises FreezeError: when no runtime knows it.
    """
    for pattern in RUNTIME_ROOTS:
        for root in glob.glob(pattern):
            if os.path.exists(os.path.join(root, container, "state.json")):
                return root
    raise FreezeError("no OCI runtime knows it")


def runtime_state(container):
    """What runc has written down of a container.

    :raises FreezeError: when no runtime knows it.
    """
    with open(os.path.join(runtime_root(container), container, "state.json"), encoding="utf-8") as stream:
        return json.load(stream)


def control_groups(container):
    """The folders of a container's control groups: by controller, or that of all of them by an empty name.

    :raises FreezeError: when no runtime knows it.
    """
    return runtime_state(container)["cgroup_paths"]


def first_process(container):
    """The PID of the process that a container began with, and the time at which that was, as the kernel counts it.

    :raises FreezeError: when no runtime knows it.
    """
    state = runtime_state(container)
    return state["init_process_pid"], int(state["init_process_start"])


def freezer(container):
    """The file that freezes the control group of a container, and what is in it then."""
    paths = control_groups(container)
    if "freezer" in paths:
        return os.path.join(paths["freezer"], "freezer.state"), "FROZEN"
    return os.path.join(paths[""], "cgroup.freeze"), "1"


def processes(container):
    """The PIDs of a container, also of those in control groups below its own."""
    paths = control_groups(container)
    found = []
    for folder, _folders, _names in os.walk(paths.get("") or paths["freezer"]):
        with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as stream:
            found += [int(line) for line in stream]
    return sorted(found)


def moving(container):
    """The PIDs of a container that CRIU takes along: its first process and those that descend from it.

    What C(docker exec) or a health check has started does not, and ends when the container is removed here.
    """
    parents = _host.parents(processes(container))
    return sorted(_host.descendants(parents, first_process(container)[0]))


def keep_frozen(container):
    """Freezes the control group of a container that Docker has paused, again.

    CRIU thaws it while it keeps the processes from running itself, and freezes it at its end, but not when it is
    killed: the container would run here as well as at the destination then.
    """
    place, frozen = freezer(container)
    with open(place, "w", encoding="ascii") as stream:
        stream.write(frozen)


def checkpoint_command(container, images, work, *options):
    """The words that have runc dump this container; it is left as it is if the words do not say otherwise."""
    root = runtime_root(container)
    places = ["--image-path", images, "--work-path", work]
    return [
        runc_program(),
        "--root",
        root,
        "checkpoint",
        *places,
        "--tcp-established",
        "--ext-unix-sk",
        "--file-locks",
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
        raise FreezeError(why_not(done.stdout, work))


def last_line(output):
    """The last line of a program's output, as text."""
    lines = output.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")


def why_not(output, work):
    """Why a dump failed: what runc wrote, and CRIU in its own log."""
    return last_line(output) + _criu.reason_in(os.path.join(work, "dump.log"))


class Dump(threading.Thread):
    """A dump of a container that is frozen already and stays so, under way.

    A lazy one leaves the pages that can be fetched later with the processes. CRIU serves them by a page server, which
    listens to anybody who can reach it; here nobody can, since it runs in a network namespace of its own, and it ends
    as soon as everything else is written: the processes stand still, so their memory can be read without it.
    """

    def __init__(self, container, images, work, lazy):
        super().__init__(daemon=True)
        self._places = (container, images, work)
        self._lazy = lazy
        self._ready = threading.Event()
        self._problem = None
        self._process = None

    def run(self):
        try:
            if self._lazy:
                enter_own_network()
                self._dump_lazily()
            else:
                dump(*self._places)
        except (OSError, FreezeError) as exc:
            self._problem = str(exc)
            if self._process:
                self._process.kill()
        self._ready.set()
        if self._process:
            self._process.wait()

    def _dump_lazily(self):
        reader, writer = os.pipe()
        server = ["--lazy-pages", "--page-server", f"127.0.0.1:{PAGE_SERVER_PORT}", "--status-fd", str(writer)]
        words = checkpoint_command(*self._places, "--leave-running", *server)
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                words, pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            os.close(writer)
            with os.fdopen(reader, "rb") as status:
                said = status.read(1)
            if said != b"\0":
                self._process.wait()
                output.seek(0)
                raise FreezeError(why_not(output.read(), self._places[2]))
        keep_frozen(self._places[0])
        # A client that goes at once is the end of the page server, and CRIU leaves the processes as they were.
        socket.create_connection(("127.0.0.1", PAGE_SERVER_PORT), 5).close()

    def wait(self):
        """Returns when the images are written.

        :raises FreezeError: when they could not be; the container is frozen as before.
        """
        self._ready.wait()
        if self._problem:
            raise FreezeError(self._problem)


def enter_own_network():
    """Gives the calling thread, and what it starts, a network of their own with nothing in it but the loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(handle, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))
