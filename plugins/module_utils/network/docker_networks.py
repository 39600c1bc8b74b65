# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the networks of a container that comes: those that this server lacks, and lets be made.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ansible_collections.fog.migration.plugins.module_utils.docker import api, judged, networks
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.network import routes
from ansible_collections.fog.migration.plugins.module_utils.policy import judge_networks, rules
from ansible_collections.fog.migration.plugins.module_utils.system import host

_INTACT = "this network was not made"


def make(
    client: api.CheckpointClient,
    wanted: Mapping[str, dict],
    digests: Mapping[str, str] | None,
    note: Callable[[str], object],
    check_mode: bool = False,
) -> list[str]:
    """Makes those of these networks that are not here; their names.

    One that is here already, since another migration has made it meanwhile, is left alone.

    :param wanted: their settings at the source, by name, see C(networks.settings).
    :param digests: what the preflight has judged, see C(judged.of_networks); None where nobody has.
    :param note: is called with the name of each network before it is made.
    :raises MigrationError: when one cannot be made, or may not be.
    """
    there = {one["Name"] for one in client.networks()}
    missing = {name: one for name, one in wanted.items() if name not in there}
    if not missing:
        return []
    if digests is not None:
        judged.require_networks(digests, missing)
    drivers, interfaces = api.daemon_facts(client)["network_drivers"], host.interfaces()
    for name, one in missing.items():
        # With those that were just made.
        server = networks.Server(networks.configured(client, client.networks()), drivers, interfaces, routes.facts())
        _require_possible(name, one, server)
        if check_mode:
            continue
        note(name)
        try:
            client.create_network_from_body(networks.creation_body(name, one))
        except api.FAILURES as exc:
            raise MigrationError(f"the network {name} could not be made ({api.api_message(exc)})") from exc
    return list(missing)


def _require_possible(name: str, wanted: dict, server: networks.Server) -> None:
    """The last look before Docker is asked."""
    problem = networks.hindrance(name, wanted, server)
    if problem:
        raise MigrationError(problem, _INTACT, "make a network of that name there that suits the container")
    try:
        found = judge_networks.refusals(rules.read(), {name: wanted})
    except rules.PolicyError as error:
        raise MigrationError(str(error), _INTACT) from error
    if found:
        raise MigrationError(
            f"the policy of this server does not let a network be made: {'; '.join(map(str, found))}",
            _INTACT,
            f"change {rules.FILE} here, by the role fog.migration.policy, or make a network of that name yourself",
        )
