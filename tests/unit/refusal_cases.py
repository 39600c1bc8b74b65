# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused before anything is changed, and how it is said: of what server_info has told of real servers.

The scene is C(tests/integration/support/scene.py). The unit test has it from a record, the integration test anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.fog.migration.plugins.filter.choose_servers import choose_servers
from ansible_collections.fog.migration.plugins.filter.migration_plan import migration_plan

RECORD = Path(__file__).parent / "recorded" / "scene.json"
CHANGED_NOTHING = "nothing was changed, the container runs on as before."


class Case(NamedTuple):
    """One wish, and parts of the sentence that refuses it."""

    container: str
    said: tuple[str, ...]
    # What is chosen besides the container, as arguments of the filters choose_servers and migration_plan.
    servers: dict[str, Any] = {}
    options: dict[str, Any] = {}


UNKNOWN = {"project": "nothing"}
CASES = {
    # Which containers, from where to where.
    "unknown": Case("nobody", ("there is no container nobody on fog1, fog2",)),
    "the source": Case(
        "looper", ("fog1 is the destination and the container is there already",), {"destination": ["fog1"]}
    ),
    "nowhere": Case("looper", ("nowhere is not in the inventory",), {"destination": ["nowhere"]}),
    "not all": Case("", ("no server with all of looper, nobody on fog1",), {"containers": ["looper", "nobody"]}),
    "no project": Case("", ("no running container with the label com.docker.compose.project=nothing",), UNKNOWN),
    "twice": Case("looper", ("say either which container",), {"label": "a"}),
    # The container.
    "stopped": Case("stopped", ("stopped is not running (exited)", "docker start stopped")),
    "paused": Case("paused", ("the container paused is paused", "docker unpause paused")),
    "its log": Case("elsewhere", ("kept by the log driver local, and only that of json-file",), {}, {"log": True}),
    "its links": Case("linked", ("it is linked to looper (--link)",)),
    "a guest": Case("guest", ("it shares the network namespace of host",)),
    "a host": Case("host", ("it shares its network namespace with guest, which cannot be restored elsewhere",)),
    "stopped by a signal": Case("halted", ("has processes that were stopped by a signal (sleep)",)),
    "stopped, cold": Case("halted", ("has processes that were stopped by a signal (sleep)",), {}, {"mode": "cold"}),
    "linked and deleted": Case("ghost", ("it holds the deleted file /file",)),
    "large and deleted": Case("large-ghost", ("/file is in use and deleted",)),
    "shared memory": Case(
        "keeper",
        ("it keeps 100000 bytes in a /dev/shm that others may share, which do not move with it",),
        {},
        {"mode": "cold"},
    ),
    # What it uses.
    "volumes": Case("voluminous", ("the content of the volume data would not travel",), {}, {"volumes": "refuse"}),
    "volume there": Case("volume-there", ("the destination has a volume there already",)),
    "volume shared": Case("volume-shared", ("the volume shared is used by other as well",)),
    "networks": Case(
        "networked",
        (
            "the network apart lies on fogapart, and the destination has no such interface",
            "the network back is without a way outside (internal) at the source only",
            "front would have the subnet 198.51.100.0/24, which overlaps 198.51.100.0/25, as the destination's",
        ),
    ),
    "networks that exist": Case(
        "networked",
        ("the destination has no network front; the destination has no network side",),
        {},
        {"networks": "existing"},
    ),
    # The destination.
    "name": Case("looper", ("a container taken already", "new_name"), {}, {"names": {"looper": "taken"}}),
    "port": Case("web", ("the ports 18081/tcp are in use at the destination",)),
    # Those that move together.
    "group": Case("", ("the container paused is paused",), {"containers": ["looper", "paused"]}, {"together": True}),
    "group, cold": Case(
        "",
        ("containers move together in live mode only",),
        {"containers": ["looper", "web"]},
        {"together": True, "mode": "cold"},
    ),
}


def recorded() -> dict[str, dict]:
    """What both servers said when it was recorded."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def refusal(servers: dict[str, dict], case: Case) -> str:
    """What C(migrate.yml) says of this wish; nothing when it would go on."""
    chosen = choose_servers(servers, case.container, **case.servers)
    if chosen["error"]:
        return chosen["error"]
    source, destination = chosen["source"], chosen["destination"]
    plan = migration_plan(
        servers[source],
        servers[destination],
        chosen["containers"],
        run="20260101T000000abcdef",
        source_name=source,
        destination_name=destination,
        started=0,
        now=1,
        **case.options,
    )
    return plan["problem"]


def require_refused(servers: dict[str, dict], case: Case) -> None:
    """It is one sentence in one paragraph, which has all that the case wants."""
    message = refusal(servers, case)
    assert "\n" not in message and message.endswith("."), message
    assert message.startswith("Nothing was changed: ") or message.endswith(CHANGED_NOTHING), message
    for part in case.said:
        assert part in message, message


def shape(value: Any) -> Any:
    """What a value is made of: the keys of objects, the kinds of what is in lists, the types of what is in both."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in sorted(value.items())}
    if isinstance(value, list):
        kinds = [shape(one) for one in value]
        return [one for number, one in enumerate(kinds) if one not in kinds[:number]]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two shapes differ. Nothing is told of what is absent in one of them (null, or an empty list)."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = [f"{path}: {', '.join(sorted(old.keys() ^ new.keys()))}"] if old.keys() != new.keys() else []
        return found + [
            line for key in sorted(old.keys() & new.keys()) for line in differences(old[key], new[key], f"{path}.{key}")
        ]
    if isinstance(old, list) and isinstance(new, list):
        return [] if not old or not new or old == new else [f"{path}: {old} and {new}"]
    return [] if old == new or "NoneType" in (old, new) else [f"{path}: {old} and {new}"]
