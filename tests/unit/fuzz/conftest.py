# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever comes, no test here gets more memory than this."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from ansible_collections.fog.migration.plugins.module_utils.system import procfs

# Bytes of addresses beyond those that the process has at the begin of a test: Hypothesis takes some of them.
MORE = 1 << 30


@pytest.fixture(autouse=True)
def _limited() -> Iterator[None]:
    """What asks for more gets MemoryError, and the machine is none the worse."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(procfs.read("/proc/self/statm").split()[0]) * resource.getpagesize()
    wanted = size + MORE if hard == resource.RLIM_INFINITY else min(size + MORE, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def too_much() -> int:
    """Bytes that no test here can have."""
    return 2 * MORE
