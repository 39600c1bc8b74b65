# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit tests of the page about kinds and sizes of memory."""

from __future__ import annotations

import memory_page
from memory_page import Aim, Cell

PRIVATE, SHARED = Cell("private", 256, "precopy"), Cell("shared", 256, "precopy")
FIGURES = {"total_seconds": [5.0, 6.0], "bytes_sent": [1 << 28, 1 << 28]}


def records(shared):
    data = [{**PRIVATE._asdict(), "downtime_seconds": [0.2, 0.4], **FIGURES}]
    data += [{**SHARED._asdict(), "downtime_seconds": [shared], **FIGURES}] if shared else []
    return memory_page.by_cell(data)


def test_whether_an_aim_is_reached():
    def told(shared):
        return memory_page.aim_row(Aim(SHARED, PRIVATE, 1.3), records(shared))

    assert told(0.36).endswith("| 1.3 | 1.2 (0.36 s / 0.30 s) | reached |")
    assert "**missed** by 0.21 s (1.54 times the aim)" in told(0.6)
    assert told(None).endswith("| | not measured |")


def test_what_is_measured_is_what_the_aims_are_about():
    assert {cell for aim in memory_page.AIMS for cell in aim[:2]} == set(memory_page.CELLS)


def test_the_page_tells_figures_and_failures():
    data = [{**PRIVATE._asdict(), "downtime_seconds": [0.2, 0.4], **FIGURES}]
    run = {"cores": 2, "minutes": 3.2, "failures": [{**SHARED._asdict(), "error": "no room"}]}
    text = memory_page.page(data, run, "Nobody has written.")
    assert "| 256 MiB private | precopy | 0.300 (0.200 to 0.400) | 5.5 (5.0 to 6.0) | 256 (256 to 256) |" in text
    assert "- 256 MiB shared, precopy: `no room`" in text and "Nobody has written." in text
    assert memory_page.size(4096) == "4 GiB"
