# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that is set aside for a restore."""

from __future__ import annotations

import os
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap
from ansible_collections.fog.migration.plugins.module_utils.memory import reserved as reserved_module
from ansible_collections.fog.migration.plugins.module_utils.memory.reserved import Reserved
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.received_memory import ReceivedMemory

PAGE = pagemap.PAGE


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def wait_until_closed(before):
    deadline = time.monotonic() + 10
    while descriptors() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert descriptors() <= before


def test_it_is_there_until_it_is_given_back():
    before = descriptors()
    reserved = Reserved(300 * PAGE)
    assert reserved.size >= 300 * PAGE
    reserved.give_back()
    reserved.give_back()
    assert reserved.size == 0
    wait_until_closed(before)


def test_it_takes_no_more_than_it_gets_quickly(monkeypatch):
    monkeypatch.setattr(reserved_module, "MOST", 100 * PAGE)
    reserved = Reserved(300 * PAGE)
    assert 100 * PAGE <= reserved.size < 300 * PAGE
    reserved.give_back()


def test_a_python_for_an_old_c_library(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    reserved = Reserved(300 * PAGE)
    assert reserved.size >= 300 * PAGE
    reserved.give_back()


@pytest.mark.parametrize("size", [0, 1 << 62])
def test_it_is_no_more_than_an_aid(size):
    """Nothing is wanted, or more than there is."""
    reserved = Reserved(size)
    assert reserved.size == 0
    reserved.give_back()


def test_what_processes_share_has_room(tmp_path):
    """The rest is fetched when the container runs."""
    memory = ReceivedMemory(str(tmp_path / "store"))
    memory.reserve()
    memory.give_back_reserved()
    assert not (tmp_path / "store").exists()
    for name, pages in (("pagemap-1.img", 50), ("pagemap-shmem-7.img", 20), ("pagemap-shmem-8.img", 3)):
        memory.store.put(name, 0, bytes(pages * PAGE))
        memory.store.settle(name, [(0, pages)])
    memory.reserve()
    assert 23 * PAGE <= memory._reserved.size < 50 * PAGE
    memory.give_back_reserved()
    assert memory._reserved.size == 0
