# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run of migrations can be told, beside which containers move.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

SETTINGS = {
    "directory": {"type": "str", "default": "/var/lib/fog-migration/checkpoints"},
    "compression": {"type": "str", "choices": ["auto", "zstd", "none"], "default": "auto"},
    "rate_limit": {"type": "float", "default": 0.0},
    "max_rounds": {"type": "int", "default": 10},
    "threshold": {"type": "float", "default": 1.0},
    "shrink": {"type": "float", "default": 0.9},
    "staging_limit": {"type": "int", "default": 0},
    "staging_directory": {"type": "str", "default": "/var/lib/fog-migration/staging"},
    "restore_timeout": {"type": "int", "default": 600},
    "timeout": {"type": "int", "default": 3600},
}
