# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has been changed in the network of a container that would not be at the destination, in words.

Pure functions all of them.

Private to the collection fog.migration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_SHOWN = 5


class Check(NamedTuple):
    """One check: its name, what speaks against it (empty for nothing), what is said otherwise, and what to do."""

    check: str
    problem: str
    fine: str
    remedy: str
    warning: bool


def checks(own: Mapping[str, Any]) -> list[Check]:
    """What is lost without it being an error of anybody: a filter that is gone may let in whom it was made for.

    :param own: see C(own_network.OwnNetwork).
    """
    filters, settings, groups = (_some(own[key]) for key in ("filters", "settings", "groups"))
    return [
        Check(
            "network_filters",
            f"what keeps packets away from it does not move with it: {filters}" if filters else "",
            "its network keeps no packets away by itself",
            "undo that if it may be missed, or filter at both servers, or in a network that both have",
            warning=False,
        ),
        Check(
            "network_settings",
            f"its network was changed, which does not move with it: {settings}" if settings else "",
            "its network is as Docker has made it",
            "make that again at the destination, from outside or by the container",
            warning=True,
        ),
        Check(
            "multicast",
            f"it listens to multicast groups, which its sockets are not in at the destination: {groups}"
            if groups
            else "",
            "it listens to no multicast group",
            "have it join them again, for example by starting it anew there",
            warning=True,
        ),
    ]


def _some(found: list[str]) -> str:
    more = [f"{len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return ", ".join([*found[:_SHOWN], *more])
