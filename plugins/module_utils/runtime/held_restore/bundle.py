# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The OCI bundle of a container that is to be restored: what is changed in it before the runtime reads it.

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
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import process_limit, surroundings

# The runtime gives a hook the container's state on standard input, with the process whose namespace it is. The answer
# is heard for as long as the program that gives it lives.
HOOK = 'exec 4<>"$0/order" 3<"$0/order" 4>&- && { cat; echo; } 1<>"$0/answer" && [ "$(head -n 1 <&3)" = guarded ]'
HOOK_LIMIT = 30


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


class Bundle(NamedTuple):
    """What is to be done in a restore, by the container's OCI configuration."""

    config: dict = {}
    # Whether the restore waits in our hook, before CRIU reads any page, until the network has its filter; and until
    # Docker has connected it, for which it has to be told of the process.
    has_hook: bool = False
    connected_later: bool = False
    # What is said to Docker in place of its own hooks.
    keys: tuple[ExternalKey, ...] = ()
    sysctls: dict[str, str] = {}
    # What is there for the container.
    server: surroundings.Server = surroundings.Server()


def prepare(prepared: str, annotations: dict[str, str]) -> Bundle:
    """To be called when the runtime is armed: it has not read the container's configuration yet.

    :param prepared: the folder of the prepared restore, see C(fog-runc).
    :param annotations: what else the configuration gets.
    """
    view, folder = _told(prepared)
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as stream:
        theirs = with_real_sources(json.load(stream))
    config, keys = with_hook(theirs, prepared)
    config = process_limit.widened(config)
    config["annotations"] = {**(config.get("annotations") or {}), **annotations}
    with open(path + ".new", "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
        json.dump(config, stream)
    os.rename(path + ".new", path)
    has_hook = config is not theirs
    sysctls = (config.get("linux") or {}).get("sysctl") or {}
    root = os.path.join(folder, (theirs.get("root") or {}).get("path", ""))
    connected_later = has_hook and is_connected_later(theirs)
    return Bundle(theirs, has_hook, connected_later, tuple(keys), sysctls, surroundings.look(view, root))


def _told(prepared: str) -> tuple[str, str]:
    """Where the mounts for the container are to be seen, and where the bundle is, as C(fog-runc) tells."""
    view, folder = read_told(os.path.join(prepared, "bundle"), 2)
    return view, folder


def read_told(path: str, count: int) -> list[str]:
    """The lines of a file in which C(fog-runc) tells something.

    :param count: how many there have to be.
    :raises OSError: when that is of another version than this.
    """
    lines: list[str] = []
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    # The runtime is installed by a role, while all else comes anew with each migration.
    if len(lines) != count:
        raise OSError(errno.EINVAL, "fog-runc is of another version than this collection, run provision.yml", path)
    return lines
