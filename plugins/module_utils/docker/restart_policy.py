# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restart policies: which ones would start a container that a migration has frozen or ended.

Pure functions all of them.
"""

from __future__ import annotations


def to_hold(inspect: dict, leave_running: bool) -> dict | None:
    """The restart policy that would bring a frozen container back to life, or None.

    A checkpoint that ends the container ends it with 137: to Docker, a crash.
    """
    policy = inspect["HostConfig"].get("RestartPolicy") or {}
    revives = policy.get("Name") in ("always", "unless-stopped", "on-failure")
    return policy if revives and not leave_running else None


def revives(policy: dict, exit_code: int) -> bool:
    """Whether Docker would start a container with this restart policy anew that has ended with this code."""
    name = policy.get("Name", "no")
    return name in ("always", "unless-stopped") or (name == "on-failure" and exit_code != 0)
