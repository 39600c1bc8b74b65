# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked of one of our operations, by a module or by the agent. Operations do not know who asks.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# A module imports this before it reads its parameters: what was taken back since then must not be done.
LOADED = time.time()


@dataclass(frozen=True)
class Request:
    """The parameters of one operation, complete with defaults."""

    params: dict[str, Any]
    # Whether only to tell what would be done.
    check_mode: bool
    # Tells the user something that is not worth failing for.
    warn: Callable[[str], None]
    # When it was asked, in seconds since the epoch.
    asked: float

    @classmethod
    def of_module(cls, module: Any) -> Request:
        """The request that an AnsibleModule stands for."""
        return cls(module.params, module.check_mode, module.warn, LOADED)
