# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process with memory to dump: 32 MiB that stay as they are, 1 MiB that is always written to, and a counter.

Once in ten rounds it writes to standard output: counter, whether the memory at rest is still the same, and whether
what it wrote in the round before is still there.
"""

from __future__ import annotations

import hashlib
import os
import time

MIB = 1 << 20


def main():
    rest = os.urandom(32 * MIB)
    seen = hashlib.sha256(rest).digest()
    busy = bytearray(MIB)
    count = 0
    while True:
        kept = count == 0 or busy == bytes([count % 256]) * MIB
        count += 1
        busy[:] = bytes([count % 256]) * MIB
        if count % 10 == 0:
            print(count, hashlib.sha256(rest).digest() == seen, kept, flush=True)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
