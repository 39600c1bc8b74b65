# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab, brought up if it is not, and containers on it."""

from support.fixtures import _lab_is_up, bare, lab, lan, pytest_sessionfinish, start, way

# pytest finds them here.
__all__ = ["_lab_is_up", "bare", "lab", "lan", "pytest_sessionfinish", "start", "way"]
