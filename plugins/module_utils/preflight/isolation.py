# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether both servers set a container apart by the same means.

Pure functions all of them, of what C(server_info) tells of the servers and the container.
"""

from __future__ import annotations

# By which means, and what of a container does without it.
_MEANS = {"apparmor": "AppArmor", "selinux": "SELinux", "seccomp": "seccomp"}
_WITHOUT = ("{}=unconfined", "{}:unconfined")


def problem(source: dict, destination: dict) -> str:
    """Why its processes would not be set apart at the destination as they are, a clause; empty where they are.

    CRIU restores the users, filters and labels that they had. Docker at the destination takes them for what its own
    configuration says.
    """
    here, there = source["docker"], destination["docker"]
    for side, one in (("source", here), ("destination", there)):
        if "rootless" in one["isolation"]:
            return f"Docker at the {side} is not root's (rootless), which root must not believe where its files are"
    if remapped(here) != remapped(there):
        users = {side: remapped(one) or "the server's own" for side, one in (("source", here), ("destination", there))}
        return (
            f"its users are {users['source']} at the source and would be {users['destination']} at the destination "
            "(userns-remap)"
        )
    lacking = [name for name in _MEANS if (name in here["isolation"]) != (name in there["isolation"])]
    found = [name for name in lacking if not _does_without(name, source["container"]["asks"]["inspect"]["HostConfig"])]
    if not found:
        return ""
    name = found[0]
    where = "source" if name in here["isolation"] else "destination"
    return f"only the {where} confines containers by {_MEANS[name]}, and it is not told to do without"


def remapped(docker: dict) -> str:
    """The users that stand for those of containers, as Docker names its folder for them (UID.GID); empty for none."""
    return docker["root"].rstrip("/").rpartition("/")[2] if "userns" in docker["isolation"] else ""


def _does_without(name: str, host_config: dict) -> bool:
    options = host_config.get("SecurityOpt") or []
    return bool(host_config.get("Privileged")) or any(one.format(name) in options for one in _WITHOUT)
