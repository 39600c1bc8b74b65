# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests of what becomes of a restore whose program has died."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import orphaned_restore


@pytest.mark.parametrize(("pid", "own", "expected"), [(7, True, ["/proc/7/ns/net"]), (7, False, []), (0, True, [])])
def test_what_a_killed_restore_has_left_goes_on(monkeypatch, pid, own, expected):
    """The filter is not looked for in the server's own network, and not where nothing runs."""
    done, resumed, woken = [], [], []
    monkeypatch.setattr(orphaned_restore.stopped_restore, "waits", lambda _container: pid)
    monkeypatch.setattr(orphaned_restore.runc, "processes", lambda _container: [pid])
    monkeypatch.setattr(orphaned_restore.restore_network, "connections", lambda _network, processes: processes)
    monkeypatch.setattr(orphaned_restore.restore_network, "wake", woken.extend)
    monkeypatch.setattr(orphaned_restore.stopped_restore, "resume", resumed.append)
    monkeypatch.setattr(orphaned_restore.namespace, "is_own", lambda _process: own)
    # Each step finds something to do.
    monkeypatch.setattr(
        orphaned_restore.namespace, "inside", lambda network, work: done.append((network, work)) or True
    )
    orphaned_restore.let_go_on("c1", pid)
    steps = orphaned_restore.filters.remove, orphaned_restore.announcements.announce
    assert done == [(network, step) for network in expected for step in steps]
    assert resumed == (["c1"] if pid else [])
    assert woken == ([pid] if expected else [])


def test_what_had_no_filter_left_is_not_announced_again(monkeypatch):
    done = []
    monkeypatch.setattr(orphaned_restore.stopped_restore, "waits", lambda _container: False)
    monkeypatch.setattr(orphaned_restore.namespace, "is_own", lambda _process: True)
    monkeypatch.setattr(orphaned_restore.namespace, "inside", lambda _network, work: done.append(work))
    orphaned_restore.let_go_on("c1", 7)
    assert done == [orphaned_restore.filters.remove]
