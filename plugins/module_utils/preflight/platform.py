# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a live migration needs of the two servers: the OCI runtime, a version of Docker, a mode that CRIU can do.

Pure functions all of them.
"""

from __future__ import annotations

from ansible_collections.fog.migration.plugins.module_utils.docker.version import OLDEST_LIVE, version_tuple
from ansible_collections.fog.migration.plugins.module_utils.docker.ways import RUNTIME


def live_problems(source: dict, destination: dict, mode: str) -> list[dict]:
    """What a live migration needs besides, from what C(server_info) tells of both servers.

    :returns: C(check) (its name), C(problem) (a clause, or empty), C(fine) (the clause when there is none).
    """
    known = RUNTIME in destination["docker"]["runtimes"]
    found = [
        {
            "check": "runtime",
            "problem": "" if known else f"the destination's Docker does not know the OCI runtime {RUNTIME}",
            "fine": f"the destination has the OCI runtime {RUNTIME}",
        }
    ]
    for side, server in (("source", source), ("destination", destination)):
        version = server["docker"]["version"]
        old = version_tuple(version) < OLDEST_LIVE
        found.append(
            {
                "check": f"docker_{side}",
                "problem": f"Docker {version} at the {side} is older than 19.03, before which only cold mode was tried"
                if old
                else "",
                "fine": f"Docker {version} at the {side}",
            }
        )
        can = server["criu"]["modes"][mode]
        found.append(
            {
                "check": f"{mode}_{side}",
                "problem": "" if can["possible"] else f"{mode} is not possible at the {side} ({can['why_not']})",
                "fine": f"{mode} is possible at the {side}",
            }
        )
    return found
