# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever an agent is told of migrations: it is refused in one sentence, or can be used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fog.migration.plugins.module_utils.agent.migration import of_request
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from fuzz.made_up import like, values

ARGUMENTS = {
    "migrations": [
        {
            "id": "looper-1",
            "container": "looper",
            "container_id": "4f9d",
            "name": "looper2",
            "source": "fog1",
            "destination": "fog2",
            "mode": "hybrid",
            "lazily": True,
            "mounts": [{"place": "/data", "type": "volume", "name": "data", "path": "/v/data"}],
            "log": False,
            "judged": {"its image": "0a" * 32},
            "networks": {"shop": {"Driver": "bridge"}},
            "memory": 4096,
            "shared": 0,
            "together": ["looper-1", "web-1"],
        }
    ]
}


@given(st.one_of(like(ARGUMENTS), st.builds(lambda value: {"migrations": value}, values)))
def test_the_migrations_of_a_request(arguments):
    try:
        migrations = of_request(arguments if isinstance(arguments, dict) else {})
    except MigrationError as refused:
        assert "\n" not in refused.what
    else:
        assert [one.to_json() for one in migrations] == arguments["migrations"]
        for one in migrations:
            assert "/" not in one.id and one.memory >= 0
            assert all(isinstance(text, str) for text in [one.container, one.name, *one.together])
            assert all(isinstance(text, str) for order in one.ordered for text in (order.place, order.path))


def test_the_migrations_that_the_others_are_like_can_be_used():
    assert [one.to_json() for one in of_request(ARGUMENTS)] == ARGUMENTS["migrations"]
