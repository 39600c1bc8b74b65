# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real processes that are, or say that they are, OCI runtimes at work."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="what is a runtime belongs to root")


def runc_of(folder, name="runc"):
    """A copy of Python that is called so; its path."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        shutil.copy(os.path.realpath(sys.executable), path)
        os.chmod(path, 0o755)
    return path


def environment():
    """Where such a copy finds Python's library."""
    return {**os.environ, "PYTHONHOME": sys.base_prefix}
