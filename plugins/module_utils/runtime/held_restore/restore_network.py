# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a container that is being restored: filtered until the container goes on, then announced.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterable

from ansible_collections.fog.migration.plugins.module_utils.network import (
    announcements,
    filters,
    namespace,
    repair_mode,
    sockets,
)
from ansible_collections.fog.migration.plugins.module_utils.network.namespace import Namespace
from ansible_collections.fog.migration.plugins.module_utils.network.repair_mode import Connection
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import bundle

# Seconds until it is announced again: neighbours may ignore what follows too fast on what they knew (locktime).
ANNOUNCE_AGAIN = 1.2


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
        self.bundle = bundle.Bundle()
        # The network namespace, open from the moment on at which it has the filter.
        self._network: int | None = None
        self._connections: list[Connection] = []
        self._announcer: threading.Thread | None = None

    def prepare(self, annotations: dict[str, str]) -> None:
        """See C(bundle.prepare)."""
        self.bundle = bundle.prepare(self._prepared, annotations)

    def install_filter(self, state: str | bytes) -> int:
        """Installs the filter, then has Docker connect the network where it does so by a hook.

        :param state: what the runtime gave to our hook.
        :returns: the process whose network it is.
        """
        process: int = json.loads(state)["pid"]
        self._network = os.open(namespace.network_of(process), os.O_RDONLY | os.O_CLOEXEC)
        namespace.inside(self._network, filters.hold_connections)
        namespace.inside(self._network, namespace.set_sysctls, self.bundle.sysctls)
        for key in self.bundle.keys:
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
