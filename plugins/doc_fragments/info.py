# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation that our modules share which only look."""

from __future__ import annotations


class ModuleDocFragment:
    """What a module says of check mode, diff mode and repetition that changes nothing."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    support: full
    description: This module changes nothing.
  diff_mode:
    support: none
    description: This module changes nothing.
  idempotent:
    support: full
    description: This module changes nothing.
"""
