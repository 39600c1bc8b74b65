# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a container that is being restored: filtered until the container goes on, then announced.

Docker moves the interfaces into the new network namespace while CRIU restores, by a hook of the OCI runtime. A hook of
ours comes before that one and waits until the filter is installed, so that there is no instant without it.

Docker's hook is a second dockerd, which does nothing but send one line to the first one, and takes longer to start than
what is done then. So that line is sent from here, where the hook is known (processSetKeyReexec in moby's
libnetwork/sandbox_externalkey_unix.go, the same from 20.10 to 26).

From 28 on there is no such hook: Docker connects the network once the OCI runtime has made the container, by the PID of
its first process, and before it has it started (initializeCreatedTask in moby's daemon/start_linux.go, read at 28.5.2).
CRIU could not restore a socket with an address that is not there yet. So our hook waits for that as well, and
C(fog-runc) tells Docker of the process meanwhile.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.network import (
    announcements,
    filters,
    namespace,
    repair_mode,
    sockets,
)
from ansible_collections.fog.migration.plugins.module_utils.network.namespace import Namespace
from ansible_collections.fog.migration.plugins.module_utils.network.repair_mode import Connection

# The runtime gives a hook the container's state on standard input, with the process whose namespace it is. The answer
# is heard for as long as the program that gives it lives.
HOOK = 'exec 4<>"$0/order" 3<"$0/order" 4>&- && { cat; echo; } 1<>"$0/answer" && [ "$(head -n 1 <&3)" = guarded ]'
HOOK_LIMIT = 30
# Seconds until it is announced again: neighbours may ignore what follows too fast on what they knew (locktime).
ANNOUNCE_AGAIN = 1.2


class ExternalKey(NamedTuple):
    """Where dockerd listens for the network namespace of a container, and the ID by which it knows the container."""

    socket: str
    container: str

    def set(self, process: int) -> None:
        """Has Docker connect the network namespace of a process.

        :raises Refused: with what Docker said.
        """
        request = json.dumps({"ContainerID": self.container, "Key": f"/proc/{process}/ns/net"})
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(HOOK_LIMIT)
            connection.connect(self.socket)
            connection.sendall(request.encode("ascii"))
            answer = connection.recv(1024).decode("utf-8", "replace")
        if answer != "success":
            raise Refused(f"Docker could not connect it to its network ({answer or 'no answer'})")


_SET_KEY = "libnetwork-setkey"


def external_key_of(hook: dict) -> ExternalKey | None:
    """What a hook of Docker's would send; None if it is another hook."""
    words = hook.get("args") or []
    if len(words) != 4 or words[0] != _SET_KEY or not words[1].startswith("-exec-root=/"):
        return None
    return ExternalKey(os.path.join(words[1].partition("=")[2], "libnetwork", words[3] + ".sock"), words[2])


def with_hook(config: dict, prepared: str) -> tuple[dict, list[ExternalKey]]:
    """The container's OCI configuration with our hook before all others; as it was, where it has no network of its own.

    And what replaces hooks of Docker's, which it does not have any more.

    :param prepared: the folder of the prepared restore, see C(fog-runc).
    """
    namespaces = (config.get("linux") or {}).get("namespaces") or []
    # One with a path is another container's.
    if not any(one.get("type") == "network" and not one.get("path") for one in namespaces):
        return config, []
    hooks = config.get("hooks") or {}
    theirs, keys = [], []
    for hook in hooks.get("prestart") or []:
        key = external_key_of(hook)
        if key and os.path.exists(key.socket):
            keys.append(key)
        else:
            theirs.append(hook)
    ours = {"path": "/bin/sh", "args": ["sh", "-c", HOOK, prepared], "timeout": HOOK_LIMIT}
    return dict(config, hooks=dict(hooks, prestart=[ours, *theirs])), keys


def is_connected_later(config: dict) -> bool:
    """Whether Docker connects the network of a container only when the OCI runtime has made it.

    A terminal is handed over by the runtime before it has made a container, and CRIU restores that after the sockets.

    :param config: the container's OCI configuration, which has a network of its own.
    """
    hooks = (config.get("hooks") or {}).get("prestart") or []
    by_hook = any((hook.get("args") or [""])[0] == _SET_KEY for hook in hooks)
    return not by_hook and not (config.get("process") or {}).get("terminal")


def with_real_sources(config: dict) -> dict:
    """The container's OCI configuration with what its bind mounts are of in place of symbolic links to that.

    CRIU 4.2 cannot restore a mount of a link (C(mnt-v2: Can't remount)), such as Debian's C(docker-init) is.
    """
    mounts = [
        dict(one, source=os.path.realpath(one["source"])) if one.get("type") == "bind" and "source" in one else one
        for one in config.get("mounts") or []
    ]
    return dict(config, mounts=mounts)


def connections(network: Namespace, processes: Iterable[int]) -> list[Connection]:
    """The connections of these processes that C(wake) is for; none where they cannot be looked at.

    :param network: the network namespace that they are in.
    """
    with contextlib.suppress(OSError):
        return repair_mode.of_processes(processes, namespace.inside(network, repair_mode.of_namespace))
    return []


def wake(found: Iterable[Connection]) -> None:
    """Has connections go on that the filter has held, see C(repair_mode.wake). Their processes must be stopped."""
    for connection in found:
        # Its process may have ended, and before Linux 5.6 it goes on when a timer of the kernel has ended.
        with contextlib.suppress(OSError):
            repair_mode.wake(connection)


class RestoreNetwork:
    """The network of one container that is to be restored here."""

    def __init__(self, prepared: str) -> None:
        self._prepared = prepared
        # The network namespace, open from the moment on at which it has the filter.
        self._network: int | None = None
        self._connections: list[Connection] = []
        self._announcer: threading.Thread | None = None
        self._keys: list[ExternalKey] = []
        self._sysctls: dict[str, str] = {}
        # Whether the restore waits in our hook, before CRIU reads any page, until C(install_filter) was called; and
        # until Docker has connected the network, for which it has to be told of the process.
        self.has_hook = self.connected_later = False

    def prepare(self, annotations: dict[str, str]) -> None:
        """To be called when the runtime is armed: it has not read the container's configuration yet.

        :param annotations: what else the configuration gets.
        """
        path = os.path.join(self._prepared, "bundle")
        lines: list[str] = []
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
        # The runtime is installed by a role, while all else comes anew with each migration.
        if len(lines) != 2:
            raise OSError(errno.EINVAL, "fog-runc is of another version than this collection, run provision.yml", path)
        path = os.path.join(lines[1], "config.json")
        with open(path, encoding="utf-8") as stream:
            theirs = with_real_sources(json.load(stream))
        config, self._keys = with_hook(theirs, self._prepared)
        self.has_hook = config is not theirs
        self.connected_later = self.has_hook and is_connected_later(theirs)
        config["annotations"] = {**(config.get("annotations") or {}), **annotations}
        self._sysctls = (config.get("linux") or {}).get("sysctl") or {}
        with open(path + ".new", "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            json.dump(config, stream)
        os.rename(path + ".new", path)

    def install_filter(self, state: str | bytes) -> int:
        """Installs the filter, then has Docker connect the network where it does so by a hook.

        :param state: what the runtime gave to our hook.
        :returns: the process whose network it is.
        """
        process: int = json.loads(state)["pid"]
        self._network = os.open(namespace.network_of(process), os.O_RDONLY | os.O_CLOEXEC)
        namespace.inside(self._network, filters.hold_connections)
        namespace.inside(self._network, namespace.set_sysctls, self._sysctls)
        for key in self._keys:
            key.set(process)
        return process

    def find_connections(self, processes: Iterable[int]) -> None:
        """Looks for the connections that are to go on, when the container is restored."""
        if self._network is not None:
            self._connections = connections(self._network, processes)

    def let_through(self) -> None:
        """The container is about to go on: all passes the filter, and what its connections have to send is sent.

        :raises OSError: when the filter cannot be changed.
        """
        if self._network is not None:
            namespace.inside(self._network, filters.let_all_pass)
            wake(self._connections)

    def close_connections(self) -> None:
        """Closes the connections of a container that has ended, of which its peers hear nothing."""
        if self._network is not None:
            namespace.inside(self._network, sockets.close_all)

    def announce(self) -> None:
        """The container goes on: announces its addresses, and removes the filter."""
        if self._network is not None:
            self._announcer = threading.Thread(target=self._announce, args=(self._network,), daemon=True)
            self._announcer.start()

    @staticmethod
    def _announce(network: int) -> None:
        with contextlib.suppress(OSError):
            namespace.inside(network, announcements.announce)
            namespace.inside(network, filters.remove)
            time.sleep(ANNOUNCE_AGAIN)
            namespace.inside(network, announcements.announce)

    def end(self) -> None:
        """Returns when all is announced."""
        if self._announcer:
            self._announcer.join()
        if self._network is not None:
            os.close(self._network)
            self._network = None
