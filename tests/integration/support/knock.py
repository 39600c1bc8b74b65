# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Knocks at a port a thousand times a second. On the node itself: C(python3 - ADDRESS PORT).

Nobody may ever hear that nothing is there: in the instant in which that is said, connections are lost as well. When
standard input ends, it prints how often the door was opened, and how often it was refused.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time

SYN, RST, ACK = 2, 4, 16


def segment(ours: str, theirs: str, source: int, port: int) -> bytes:
    """A TCP segment that asks for a connection."""
    body = struct.pack("!HHIIBBHHH", source, port, source, 0, 5 << 4, SYN, 1024, 0, 0)
    pseudo = socket.inet_aton(ours) + socket.inet_aton(theirs) + struct.pack("!HH", socket.IPPROTO_TCP, len(body))
    total = sum(struct.unpack("!16H", pseudo + body))
    total = (total & 0xFFFF) + (total >> 16)
    return body[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + body[18:]


def main() -> None:
    """Knocks until standard input ends."""
    theirs, port = sys.argv[1], int(sys.argv[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((theirs, port))
        ours = probe.getsockname()[0]
    handle = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    handle.setblocking(False)
    seen = {"opened": 0, "refused": 0}
    number = 0
    while not select.select([0], [], [], 0)[0] or os.read(0, 100):
        number += 1
        handle.sendto(segment(ours, theirs, 20000 + number % 10000, port), (theirs, 0))
        time.sleep(0.001)
        while select.select([handle], [], [], 0)[0]:
            packet = handle.recv(2048)
            source, _port, _seq, _ack, _offset, flags = struct.unpack_from("!HHIIBB", packet, (packet[0] & 15) * 4)
            if socket.inet_ntoa(packet[12:16]) == theirs and source == port:
                # What has no connection to refer to: those of others are not meant here.
                seen["refused"] += flags == RST | ACK
                seen["opened"] += flags == SYN | ACK
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
