# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's script whose every line proves that nothing in its memory is wrong."""

from __future__ import annotations

import hashlib

# A few MiB that stay and a few hundred KiB that are always other ones, and in every line a checksum of all of them.
CHURN = (
    "i=0; x=$(seq 1 600000); while :; do "
    'y=$(seq $i $((i+50000))); echo "$i $(echo "$x$y" | md5sum)"; i=$((i+1)); sleep 0.05; done'
)


def churn_line(number: int) -> str:
    """The line that CHURN writes as its I(number)-th, the first being 0, when nothing in its memory is wrong."""
    fixed, other = range(1, 600001), range(number, number + 50001)
    text = "".join(["\n".join(map(str, fixed)), "\n".join(map(str, other)), "\n"])
    return f"{number} {hashlib.md5(text.encode()).hexdigest()}  -"
