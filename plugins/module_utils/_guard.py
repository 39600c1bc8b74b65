# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a container that is being restored: guarded until its sockets are there, then announced.

Docker puts the interfaces into the new network namespace while CRIU restores, by a hook of the OCI runtime. A hook of
ours comes before that one and waits until the guard stands, so that there is no instant without.

Private to the collection fog.migration. Laid down on servers by C(_program).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time

from ansible_collections.fog.migration.plugins.module_utils import _network

# The runtime gives a hook the container's state on standard input, with the process whose namespace it is. The answer
# is heard for as long as the program that gives it lives.
HOOK = 'exec 4<>"$0/order" 3<"$0/order" 4>&- && { cat; echo; } 1<>"$0/answer" && [ "$(head -n 1 <&3)" = guarded ]'
HOOK_LIMIT = 30
# Seconds until it is announced again: neighbours may ignore what follows too fast on what they knew (locktime).
ANNOUNCE_AGAIN = 1.2


def with_hook(config, prepared):
    """The container's OCI configuration with our hook before all others; as it was, where it has no network to guard.

    :param prepared: the folder of the prepared restore, see C(fog-runc).
    """
    namespaces = (config.get("linux") or {}).get("namespaces") or []
    # One with a path is another container's.
    if not any(one.get("type") == "network" and not one.get("path") for one in namespaces):
        return config
    hooks = config.get("hooks") or {}
    ours = {"path": "/bin/sh", "args": ["sh", "-c", HOOK, prepared], "timeout": HOOK_LIMIT}
    return dict(config, hooks=dict(hooks, prestart=[ours, *(hooks.get("prestart") or [])]))


class Guard:
    """The network of one container that is to be restored here."""

    def __init__(self, prepared):
        self._prepared = prepared
        self._network = None
        self._announcer = None

    def prepare(self):
        """To be called when the runtime is armed: it has not read the container's configuration yet."""
        told = os.path.join(self._prepared, "bundle")
        lines = []
        with contextlib.suppress(FileNotFoundError), open(told, encoding="utf-8") as stream:
            lines = stream.read().splitlines()
        # The runtime is installed by a role, while all else comes anew with each migration.
        if len(lines) != 2:
            raise OSError(errno.EINVAL, "fog-runc is of another version than this collection, run provision.yml", told)
        path = os.path.join(lines[1], "config.json")
        with open(path, encoding="utf-8") as stream:
            config = json.load(stream)
        with open(path + ".new", "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            json.dump(with_hook(config, self._prepared), stream)
        os.rename(path + ".new", path)

    def stand(self, state):
        """Sets the guard up. I(state) is what the runtime told our hook."""
        self._network = _network.network_of(json.loads(state)["pid"])
        _network.inside(self._network, _network.guard)

    def leave(self):
        """The sockets are there: what comes is answered again, and everybody hears where the container is now."""
        if not self._network:
            return
        # A container that has ended already has no network any more.
        with contextlib.suppress(OSError):
            handle = os.open(self._network, os.O_RDONLY | os.O_CLOEXEC)
            self._announcer = threading.Thread(target=self._announce, args=(handle,), daemon=True)
            self._announcer.start()

    @staticmethod
    def _announce(handle):
        try:
            with contextlib.suppress(OSError):
                _network.inside(handle, _network.unlock)
                _network.inside(handle, _network.announce)
                time.sleep(ANNOUNCE_AGAIN)
                _network.inside(handle, _network.announce)
        finally:
            os.close(handle)

    def end(self):
        """Returns when all is announced."""
        if self._announcer:
            self._announcer.join()
