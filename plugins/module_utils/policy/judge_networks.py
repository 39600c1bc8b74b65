# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a policy lets networks be made for a container that comes: by how they were made at its source.

A bridge of Docker's own, with options that concern only itself, is what every Docker gives to whoever asks for a
network. All else reaches into the server, or into the networks that it is in.

Pure functions all of them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.policy import known
from ansible_collections.fog.migration.plugins.module_utils.policy.refusal import (
    Refusal,
    in_one_line,
    matches,
    short,
)
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy

_PARENT = "parent"
# Docker's own driver of addresses.
_OWN_ADDRESSES = "default"


def refusals(policy: Policy, networks: Mapping[str, Mapping[str, Any]]) -> list[Refusal]:
    """All that a policy does not allow of networks that would be made.

    :param networks: their settings, see C(networks.settings), by name.
    """
    return in_one_line(one for name, wanted in networks.items() for one in _refusals(policy, name, wanted))


def _refusals(policy: Policy, name: str, wanted: Mapping[str, Any]) -> Iterator[Refusal]:
    driver, options = wanted["driver"], wanted["driver_options"]
    what = f"its network {short(name)}"
    parent = options.get(_PARENT)
    if driver != "bridge" or parent:
        line = f"{driver}:{parent}" if parent else driver
        if not matches(line, policy.networks):
            where = f" on {short(parent)} of the server" if parent else ""
            yield Refusal(f"{what} would be one of the driver {short(driver)}{where}", f"networks: ['{short(line)}']")
    plain = known.NETWORK_OPTIONS.get(driver, {})
    more = {key: value for key, value in options.items() if key != _PARENT}
    for key, value in {**more, **wanted["ipam_driver_options"]}.items():
        # The same name may be that of an option of the driver of addresses, of which none is plain.
        is_plain = key not in wanted["ipam_driver_options"] and key in plain
        if is_plain and (not plain[key] or value in plain[key]):
            continue
        line = f"option:{key}={value}"
        if not matches(line, policy.networks):
            yield Refusal(f"{what} would have the option {short(f'{key}={value}')}", f"networks: ['{short(line)}']")
    addresses = wanted["ipam_driver"]
    if addresses != _OWN_ADDRESSES and not matches(f"ipam:{addresses}", policy.networks):
        yield Refusal(
            f"{what} would have addresses of the driver {short(addresses)}", f"networks: ['ipam:{short(addresses)}']"
        )
