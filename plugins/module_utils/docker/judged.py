# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the preflight has judged of a container, so that the destination can tell that nothing else arrives.

The controller makes a digest of each part of the facts that it has judged, and the destination gets these with its
order. It makes the same digests of the configuration that arrives. What changes while a container runs, such as its
health, its limits or the addresses that Docker chose for it, is in none of them.

Pure functions all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import container_facts, mounts
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.policy import judge

# What is said of a mount, of that which is asked about its content.
_OF_A_MOUNT = ("type", "name", "driver", "source", "read_only", "lent")
_OF_A_VOLUME = ("Driver", "Options")
# The names of parts come from the source. So many of them, cut to so many characters, are in a sentence.
_NAMED = 5
_LONGEST = 60


def facts_of(inspect: dict) -> dict[str, Any]:
    """Facts that are judged as Docker tells them.

    :param inspect: the inspect data of the container.
    """
    return {
        "image": inspect["Image"],
        "image_name": inspect["Config"].get("Image") or "",
        "user": inspect["Config"].get("User") or "",
        "networks": sorted(container_facts.endpoints(inspect)),
        "fixed_addresses": container_facts.fixed_addresses(inspect),
        "endpoints": container_facts.endpoint_settings(inspect),
        "hardware_address": inspect["Config"].get("MacAddress") or "",
        "ports": container_facts.published_ports(inspect),
    }


def digests(container: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of each part that is judged, as canonical JSON, by the name of the part.

    :param container: what C(server_info) tells of it.
    """
    asks = container["asks"]
    parts: dict[str, Any] = {f"its {name.replace('_', ' ')}": container[name] for name in _FACTS}
    for name, keys in asks["inspect"].items():
        if name != "Mounts":
            parts.update({f"{name}.{key}": value for key, value in keys.items()})
    for mount in container["mounts"]:
        place = f"the mount at {mount['destination']}"
        parts[place] = [*parts.get(place, []), {key: mount[key] for key in _OF_A_MOUNT}]
    for volume in asks["volumes"]:
        # The name of an anonymous one is nobody's, and the destination makes a new one.
        if not mounts.is_anonymous(volume["Name"]):
            name = f"the volume {volume['Name']}"
            parts[name] = [*parts.get(name, []), {key: volume.get(key) or None for key in _OF_A_VOLUME}]
    return {name: _digest(value) for name, value in parts.items()}


_FACTS = ("image", "image_name", "user", "networks", "fixed_addresses", "endpoints", "hardware_address", "ports")
# Of a network, what comes and goes with the containers in it.
_NOT_OF_A_NETWORK = ("used",)
_NETWORK = "the network "


def of_networks(wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The digest of each network that would be made, by the name of the part.

    :param wanted: their settings at the source, by name, see C(networks.settings).
    """
    settings = {
        name: {key: value for key, value in one.items() if key not in _NOT_OF_A_NETWORK} for name, one in wanted.items()
    }
    return {f"{_NETWORK}{name}": _digest(value) for name, value in settings.items()}


def require_networks(judged: Mapping[str, str], wanted: Mapping[str, Mapping[str, Any]]) -> None:
    """Returns when each network that would be made is one that the preflight has judged.

    :raises MigrationError: when one is not.
    """
    found = of_networks(wanted)
    other = sorted(name for name in found if judged.get(name) != found[name])
    if other:
        raise MigrationError(
            f"{_short(other[0])} that would be made is not what the preflight has judged",
            "it was not made",
            "migrate the container again",
        )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _plain(value: Any) -> Any:
    """The same of Python's own types: Ansible hands values to a filter in types that look like them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def require(judged: Mapping[str, str], inspect: dict, volumes: Iterable[dict]) -> None:
    """Returns when a container is what the preflight has judged.

    :param judged: what C(digests) has made of that.
    :param inspect: the inspect data that have arrived.
    :param volumes: the inspect data of its named volumes that have arrived.
    :raises MigrationError: when it is something else, or no container.
    """
    try:
        asks = judge.asks(inspect, volumes, ())
        found = digests({**facts_of(inspect), "asks": asks, "mounts": mounts.of_container(inspect)})
    except (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise MigrationError(f"the configuration that arrived describes no container ({error!r})") from error
    # Networks are made before anything arrives, and compared then.
    wanted = {name: one for name, one in judged.items() if not name.startswith(_NETWORK)}
    other = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if other:
        named = ", ".join(_short(name) for name in other[:_NAMED])
        more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
        raise MigrationError(
            f"what arrived of the container is not what the preflight has judged: other are {named}{more}",
            "nothing was made of it",
            "migrate it again if it was changed at the source meanwhile, and look at the source if it was not",
        )


def _short(name: str) -> str:
    printable = "".join(one if one.isprintable() else "?" for one in name)
    return printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]}..."
