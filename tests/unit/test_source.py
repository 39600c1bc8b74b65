# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a freeze is lazy; and after the handover, only the destination's own word lets the source go on."""

from __future__ import annotations

import os

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import SourceSettings
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source import Source
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.source_memory import SMALL, is_lazy
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames


@pytest.fixture
def handed_over(tmp_path):
    """A source that waits for the destination's word, and the destination's end of the channel."""
    (there_in, here_out), (here_in, there_out) = os.pipe(), os.pipe()
    there = Frames(there_in, there_out, 10)
    there.write_json(framing.HELLO, framing.greeting("destination"))
    source = Source(Frames(here_in, here_out, 10), SourceSettings("c", str(tmp_path), str(tmp_path / "nothing.sock")))
    source.link.open()
    source.container.is_paused = True
    source.container.note_handover()
    yield source, there, there_out
    os.close(there_out)


def test_a_refusal_gives_the_container_back(handed_over):
    source, there, _descriptor = handed_over
    there.write_json(framing.REFUSED, {"reason": "no restore"})
    with pytest.raises(Refused, match="no restore"):
        source.wait_for("running")
    assert source.state == "paused"


@pytest.mark.parametrize("words", [b"?\0\0\0\0", b"D\0\0\0\0", b"A\0\0\0\1x", b"A\xff\xff\xff\xff"])
def test_a_conversation_that_breaks_says_nothing(handed_over, words):
    source, _there, descriptor = handed_over
    os.write(descriptor, words)
    with pytest.raises(Interrupted):
        source.wait_for("running")
    assert source.state == "handed over"


@pytest.mark.parametrize(
    ("mode", "possible", "memory", "lazy"),
    [
        ("precopy", True, SMALL + 1, True),
        ("precopy", True, SMALL, False),
        ("precopy", False, SMALL + 1, False),
        ("postcopy", True, 0, True),
        ("postcopy", False, 0, False),
        ("hybrid", True, 1, True),
        ("stop-and-copy", True, SMALL + 1, False),
    ],
)
def test_a_small_memory_is_in_place_when_it_is_restored(mode, possible, memory, lazy):
    assert is_lazy(mode, possible, memory) == lazy
