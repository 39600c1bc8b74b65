# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No core file is written of a program that may hold a container's memory."""

from __future__ import annotations

import ctypes
import os

from ansible_collections.fog.migration.plugins.module_utils.system import limits

GET_DUMPABLE = 3


def dumpable() -> int:
    return ctypes.CDLL(None).prctl(GET_DUMPABLE, 0, 0, 0, 0)


def test_neither_of_it_nor_of_what_it_forks():
    assert dumpable() == 1
    child = os.fork()
    if child == 0:
        limits.keep_out_of_core_files()
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(dumpable())
        _pid, status = os.waitpid(grandchild, 0)
        os._exit(dumpable() or os.WEXITSTATUS(status))
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 0
