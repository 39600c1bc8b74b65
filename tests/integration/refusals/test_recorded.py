# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers still say what the unit tests of the preflight have a record of; C(FOG_RECORD=1) makes that anew."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from refusal_cases import CASES, RECORD, differences, recorded, require_refused, shape

from support import scene

pytestmark = pytest.mark.lab


@pytest.fixture
def servers(lab) -> Iterator[dict]:
    """What both servers of the scene say now."""
    try:
        scene.set_up(lab)
        yield scene.record(lab)
    finally:
        scene.take_down(lab)


def test_it_is_what_servers_say(servers):
    if os.environ.get("FOG_RECORD"):
        RECORD.write_text(json.dumps(servers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    assert differences(shape(recorded()), shape(servers)) == []
    for case in CASES.values():
        require_refused(servers, case)
