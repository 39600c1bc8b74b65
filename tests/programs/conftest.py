# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab, and on it the image with all programs."""

from __future__ import annotations

import pytest

from corpus import image
from support.fixtures import _lab_is_up, lab, lan, pytest_sessionfinish
from support.lab import Lab

# pytest finds them here.
__all__ = ["_lab_is_up", "lab", "lan", "programs", "pytest_sessionfinish"]


@pytest.fixture(scope="session")
def programs(_lab_is_up) -> None:
    """Every node of the lab has what it needs of the image."""
    image.give(Lab())
