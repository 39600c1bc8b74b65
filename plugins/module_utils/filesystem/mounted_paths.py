# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the paths lead that a container mounts of this server, and whether its policy allows that.

A policy names folders and sockets. By the name of a path alone, a link below such a folder would lead anywhere.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import roots
from ansible_collections.fog.migration.plugins.module_utils.policy import judge
from ansible_collections.fog.migration.plugins.module_utils.policy.refusal import Refusal, matches
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy
from ansible_collections.fog.migration.plugins.module_utils.system import files


class Looked(NamedTuple):
    """What is not allowed of a path that a container mounts.

    :param refused: whatever becomes of the mount.
    :param refused_where_it_stays: where Docker looks the path up later on, by itself. Of a mount that moves, it is held
        what was found and filled, whatever has its path by then.
    """

    refused: list[Refusal]
    refused_where_it_stays: list[Refusal]


def look_at(policy: Policy, path: str, of_containers: Collection[roots.Identity] = ()) -> Looked:
    """Looks where a path leads, of something that may not be there yet.

    Whether the path itself is allowed, C(judge) tells.

    :param of_containers: folders in which containers can write.
    """
    try:
        real, loose = roots.place(path, of_containers)
    except Refused as exc:
        refused = [Refusal(f"it mounts a path of which nobody can say where it leads: {exc}", "")]
        return Looked(refused, refused)
    refused = list(_elsewhere(policy, path, real))
    if refused or not loose or policy.bind_exchangeable:
        return Looked(refused, refused)
    exchanged = f"it mounts {path}, and others than root can put something else in the place of {loose}"
    return Looked(refused, [Refusal(exchanged, "bind_exchangeable: true")])


def _elsewhere(policy: Policy, path: str, real: str) -> Iterator[Refusal]:
    if real == (path.rstrip("/") or "/"):
        return
    if files.is_socket(real):
        if not matches(real, [*policy.sockets, *_real(policy.sockets)]):
            yield Refusal(f"it mounts {path}, which is the socket {real} of the server", f"sockets: [{real}]")
    elif not judge.is_below(real, [*policy.bind_folders, *_real(policy.bind_folders)]):
        yield Refusal(f"it mounts {path}, which is {real} of the server", f"bind_folders: [{real}]")


def _real(paths: Iterable[str]) -> Iterator[str]:
    """Where paths of a policy lead. One that others could have led elsewhere leads nowhere."""
    for path in paths:
        try:
            yield roots.place(path).real
        except Refused:
            continue
