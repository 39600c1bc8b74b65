# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's start of a container that is to be restored, which waits inside our OCI runtime for the request to do so.

The runtime and this end meet in a folder, by files and FIFOs: C(order) takes requests to the runtime, C(answer) has its
answers, and C(connect), where Docker connects the network between two calls of the runtime, takes the process whose it
is. The processes are looked at before CRIU lets go of them: the runtime waits for the outcome.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from ansible_collections.fog.migration.plugins.module_utils.docker import engine, runc
from ansible_collections.fog.migration.plugins.module_utils.docker.etc_files import Placing
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import roots
from ansible_collections.fog.migration.plugins.module_utils.runtime import carried
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import (
    privileges,
    process_limit,
    resources,
    restore_network,
    stopped_restore,
    surroundings,
)
from ansible_collections.fog.migration.plugins.module_utils.system.files import is_readable

RUNTIME = "/run/fog-migration/runtime"
# Seconds for Docker to come to our OCI runtime, to own what was restored, to end its start, and to remove a container.
ARM_LIMIT = 60
OWN_LIMIT = 60
END_LIMIT = 30
REMOVE_LIMIT = 60
# Seconds between two looks whether CRIU has died in a restore.
LOOK_EVERY = 1


def forget(container: str) -> None:
    """Removes what was prepared for a container, whose start would wait for an order once more otherwise."""
    shutil.rmtree(os.path.join(RUNTIME, container), ignore_errors=True)


class Fifo:
    """A FIFO that stays open here: nobody waits who opens its other side, and this process's death is its end."""

    def __init__(self, path: str) -> None:
        os.mkfifo(path, 0o600)
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._rest = b""

    def send_line(self, line: str) -> None:
        """Writes one line."""
        os.write(self.fd, line.encode("ascii") + b"\n")

    def read_line(self, seconds: float) -> str | None:
        """The next line, or None when none came in time."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            if not is_readable(self.fd, deadline - time.monotonic()):
                return None
            self._rest += os.read(self.fd, 4096)
        line, _newline, self._rest = self._rest.partition(b"\n")
        return line.decode("ascii", "replace")

    def close(self) -> None:
        """Ends it, for whoever waits at its other side as well."""
        os.close(self.fd)


class DockerStart(threading.Thread):
    """Docker's start, under way. C(problem) is why it failed, or None."""

    def __init__(self, docker_socket: str, container: str) -> None:
        super().__init__(daemon=True)
        self._docker_socket = docker_socket
        self._path = f"/containers/{container}/start"
        self.problem: str | None = None

    def run(self) -> None:
        self.problem = engine.call(self._docker_socket, "POST", self._path)


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    """What has been restored, no runtime knows any more, or its network stays closed."""
    try:
        yield
    except runc.FreezeError as exc:
        raise Refused(f"the container was restored, and has ended since ({exc})") from exc
    except OSError as exc:
        raise Refused(f"the container was restored, but its network could not be opened ({exc})") from exc


class ArmedStart:
    """The start of one container, from its begin in C(arm) on.

    :param on_wait: is called again and again while the runtime's answer is waited for.
    """

    def __init__(self, docker_socket: str, container: str, on_wait: Callable[[], object]) -> None:
        self.container = container
        self.folder = os.path.join(RUNTIME, container)
        self.network = restore_network.RestoreNetwork(self.folder)
        self.on_wait = on_wait
        # The folders and files of this server that were filled for it, by place.
        self.binds: Mapping[str, roots.Root] = {}
        # What its programs have written into the files that Docker makes for it.
        self.etc: Placing | None = None
        self._docker_socket = docker_socket
        self._start: DockerStart | None = None
        self._fifos: dict[str, Fifo] = {}
        # The folder of CRIU's images, once it is told.
        self._images = ""
        # Whether the restore was ended because its CRIU had died; those that were dead at the last look, and when the
        # next one is due.
        self.lost_criu = False
        self._dead: set[int] = set()
        self._next_look = 0.0
        # Whether CRIU holds the processes, so that none can run, and whether they were found to be what they may be.
        self._is_held = self._was_looked_at = False

    @property
    def began(self) -> bool:
        """Whether Docker was asked to start it."""
        return self._start is not None

    @property
    def is_under_way(self) -> bool:
        """Whether Docker has not answered yet."""
        return self._start is not None and self._start.is_alive()

    def arm(self, patience: int) -> None:
        """Has Docker start it; returns when our OCI runtime waits for the request to restore.

        :param patience: seconds that the runtime waits.
        :raises Refused: when Docker does not come so far.
        """
        for folder in (os.path.dirname(RUNTIME), RUNTIME):
            os.makedirs(folder, 0o700, exist_ok=True)
        os.mkdir(self.folder, 0o700)
        self._fifos = {name: Fifo(os.path.join(self.folder, name)) for name in ("order", "answer")}
        self._write("patience", str(int(patience)))
        self._start = DockerStart(self._docker_socket, self.container)
        self._start.start()
        if self.answer(ARM_LIMIT) != "armed":
            raise Refused(self.why_ended("Docker did not come to the restore"))
        self.network.prepare(stopped_restore.configuration(self.folder))
        if self.network.bundle.connected_later:
            self._fifos["connect"] = Fifo(os.path.join(self.folder, "connect"))
            os.mkfifo(os.path.join(self.folder, "ended"), 0o600)

    def _write(self, name: str, text: str) -> None:
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def restore(self, options: list[str]) -> None:
        """Has the runtime restore; returns at once.

        :param options: those of "runc restore".
        """
        self._images = options[options.index("--image-path") + 1]
        self._write("options", "\n".join(options))
        self._hold_etc()
        self._fifos["order"].send_line("restore")

    def _hold_etc(self) -> None:
        if self.etc:
            self.etc.hold()

    def outcome(self, seconds: float) -> str | None:
        """The runtime's last answer, C(running) when the container is restored. None when there is none in time.

        Before that, our hook in the runtime answers with the container's state, whose network then gets its filter,
        and CRIU's script in it that all is restored, which is looked at then.

        :raises Refused: see C(require_owned); nothing of it has run.
        """
        answer = self.answer(seconds)
        if answer and answer.startswith("{"):
            process = self.network.install_filter(answer)
            if "connect" in self._fifos:
                self._fifos["connect"].send_line(str(process))
                answer = self.answer(seconds)
                if answer != "connected":
                    return answer
            # Docker makes some of them anew when it connects the network.
            self._hold_etc()
            self._fifos["order"].send_line("guarded")
            answer = self.answer(seconds)
        if answer == "held":
            self._is_held = True
            self._look()
            self._fifos["order"].send_line("keep")
            self._is_held = False
            answer = self.answer(seconds)
        return answer

    def answer(self, seconds: float) -> str | None:
        """The runtime's next answer; None when Docker's start ended without one, or the time is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            line = self._fifos["answer"].read_line(0.2 if self.is_under_way else 0)
            if line is not None or not self.is_under_way:
                return line
            self.on_wait()
            self._end_without_criu()
        return None

    def _end_without_criu(self) -> None:
        """Ends a restore whose CRIU has died, which would not end. Its runtime has a moment to hear of it by itself."""
        if time.monotonic() < self._next_look:
            return
        dead = runc.dead_criu(self.container)
        self.lost_criu = bool(dead & self._dead)
        if self.lost_criu:
            runc.kill_restore(self.container)
        self._dead, self._next_look = dead, time.monotonic() + LOOK_EVERY

    def wait_for_docker(self, seconds: float) -> None:
        """Returns when Docker has answered, or the time is over."""
        if self._start:
            self._start.join(seconds)

    @property
    def problem(self) -> str | None:
        """Docker's error, where it has answered with one."""
        return self._start.problem if self._start else None

    def require_owned(self) -> None:
        """Returns when Docker owns the container, of which nothing has run yet: all of it is restored, and stopped.

        :raises Refused: when it does not, when a process may do more than the container may, is not in it, or has
            something open that is not, or when it has something else mounted than what was filled for it.
        """
        if not self._was_looked_at:
            # Its CRIU does not ask: it has let go of the processes, which are stopped.
            self._look()
        with _refused():
            processes = runc.moving(self.container)
            process_limit.put_back(self.container, process_limit.of(self.network.bundle.config))
            carried.bind(processes, carried.read(self._images))
            self.network.find_connections(processes)
        self.wait_for_docker(OWN_LIMIT)
        if self.is_under_way or self.problem:
            raise Refused(f"the container was restored, but Docker did not own it ({self.problem or 'no answer'})")
        if self.etc:
            # Docker 26.1 makes them once more when the runtime has ended.
            self.etc.settle()

    def _look(self) -> None:
        with _refused():
            processes = stopped_restore.require_stopped(self.container)
            bundle = self.network.bundle
            privileges.require(bundle.config, processes)
            surroundings.require(bundle.config, bundle.server, self.container, processes)
            resources.require(bundle.config, self.container, processes)
            self._require_filled()
        self._was_looked_at = True

    def _require_filled(self) -> None:
        process = runc.first_process(self.container)[0] if self.binds else 0
        for place, root in self.binds.items():
            roots.require_mounted(root, process, place)

    def go_on(self) -> None:
        """The container runs from now on, and others reach it.

        :raises Refused: when it does not.
        """
        with _refused():
            self.network.let_through()
            stopped_restore.resume(self.container)
        self.network.announce()

    def settle(self) -> None:
        """What the OCI runtime has written down of a container that runs is right as well."""
        process_limit.settle(self.container, process_limit.of(self.network.bundle.config))

    def why_ended(self, otherwise: str) -> str:
        """Docker's error, or I(otherwise) where it has none."""
        self.wait_for_docker(5)
        return self.problem or otherwise

    def why_not(self, answer: str | None, seconds: float) -> str:
        """Why it was not restored.

        :param answer: what C(outcome) has returned after so many I(seconds).
        """
        if answer is None and self.is_under_way:
            return f"the restore did not end within {seconds:.0f} seconds"
        if self.lost_criu:
            return "CRIU was killed in the restore"
        return self.why_ended("the restore failed")

    def stop(self, reason: str) -> None:
        """Returns when nothing restores the container any more. It is not removed.

        :raises Interrupted: when that is not certain.
        """
        self._end()
        if self.is_under_way:
            raise Interrupted(f"{reason}, and Docker does not end its start")

    def take_back(self, reason: str) -> None:
        """Removes the container; returns when it neither runs here nor will.

        :raises Interrupted: when that is not certain: the source must not hear a refusal then.
        """
        self._end()
        path = f"/containers/{self.container}?force=1&v=1"
        deadline = time.monotonic() + REMOVE_LIMIT
        problem = engine.call(self._docker_socket, "DELETE", path, REMOVE_LIMIT)
        # One with --rm, Docker removes by itself as soon as it has ended.
        while problem and "already in progress" in problem and time.monotonic() < deadline:
            time.sleep(0.05)
            problem = engine.call(self._docker_socket, "DELETE", path, REMOVE_LIMIT)
        if self.is_under_way or (problem and "No such container" not in problem):
            raise Interrupted(f"{reason}, and Docker does not let go of the container ({problem or 'no answer'})")

    def _end(self) -> None:
        if self._is_held:
            # The runtime comes to its end by itself then, and removes what it has made and mounted.
            self._fifos["order"].send_line("end")
            self._fifos["answer"].read_line(END_LIMIT)
            self._is_held = False
        self._close_fifos()
        runc.kill_restore(self.container)
        self.network.close_connections()
        self.wait_for_docker(END_LIMIT)

    def _close_fifos(self) -> None:
        for fifo in self._fifos.values():
            fifo.close()
        self._fifos = {}

    def close(self) -> None:
        """Leaves nothing behind that waits: closing the FIFOs ends the runtime where it waits for the request still."""
        self._close_fifos()
        self.wait_for_docker(END_LIMIT)
        self.network.end()
        forget(self.container)
