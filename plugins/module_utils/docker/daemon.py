# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Docker's daemon tells of itself, whoever has asked it.

Pure functions all of them.
"""

from __future__ import annotations

import re


def message(error: Exception) -> str:
    """What the daemon said, in one line, without the SDK's wrapping and without names of logs that are gone by now."""
    text = str(getattr(error, "explanation", None) or error)
    return " ".join(re.sub(r"(?:\\n)?(?:log file:|path=) *\S*\.log:?", "", text).split()).rstrip(". ")


def facts(info: dict, version: dict) -> dict:
    """What the decisions need to know of the daemon, from the answers to C(GET /info) and C(GET /version).

    :returns: C(version), C(api_version), C(experimental), C(storage_driver), C(root), C(name), C(runtimes),
        C(network_drivers), C(architecture), C(live_restore), C(isolation), which is by what the daemon sets containers
        apart: C(seccomp), C(apparmor), C(selinux), C(userns), and C(rootless) where it is not root's.
    """
    return {
        "version": version.get("Version", "unknown"),
        "api_version": version.get("ApiVersion", "unknown"),
        "experimental": bool(version.get("Experimental", info.get("ExperimentalBuild", False))),
        "storage_driver": info.get("Driver", "unknown"),
        "root": info.get("DockerRootDir", "/var/lib/docker"),
        "name": info.get("Name", ""),
        "runtimes": sorted(info.get("Runtimes") or {}),
        "network_drivers": sorted((info.get("Plugins") or {}).get("Network") or []),
        "architecture": info.get("Architecture", ""),
        "live_restore": bool(info.get("LiveRestoreEnabled", False)),
        "isolation": isolation(info.get("SecurityOptions") or []),
    }


def isolation(options: list[str]) -> list[str]:
    """The names in C(SecurityOptions) of C(GET /info): C(name=seccomp,profile=builtin), or C(seccomp) of old ones."""
    names = (re.match(r"(?:name=)?([\w-]+)", option) for option in options)
    return sorted({name.group(1) for name in names if name} - {"cgroupns"})
