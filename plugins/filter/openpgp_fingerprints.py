# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of OpenPGP keys, so that a key can be verified without GnuPG on the host that gets it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: openpgp_fingerprints
short_description: Fingerprints of the OpenPGP keys in an armored block
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Returns the fingerprint of every primary key (version 4, RFC 4880) in an ASCII-armored text. Their subkeys belong to
    them by signatures that whoever uses the key checks.
options:
  _input:
    description: The armored text.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Verify a key
  ansible.builtin.assert:
    that: key | fog.migration.openpgp_fingerprints == ['9DC858229FC7DD38854AE2D88D81803C0EBFCD88']
"""

RETURN = r"""
_value:
  description: The fingerprints, in capital letters without blanks. Empty when the text holds no key that can be read.
  type: list
  elements: str
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

_ARMOR = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*?\n(?:[^\n:]+: [^\n]*\n)*\s*?\n(.*?)\n(?:=[A-Za-z0-9+/]{4}\s*\n)?"
    r"-----END PGP PUBLIC KEY BLOCK-----",
    re.DOTALL,
)
_PUBLIC_KEY = 6


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The length that a packet of the new format begins with, and where its body begins."""
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    raise ValueError("a key does not come in parts")


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise ValueError("no packet begins here")
        if head & 0x40:
            tag = head & 0x3F
            size, body = _length(data, at + 1)
        else:
            tag, width = (head >> 2) & 0x0F, 1 << (head & 3)
            if width == 8:
                raise ValueError("a packet of unknown length")
            size, body = int.from_bytes(data[at + 1 : at + 1 + width], "big"), at + 1 + width
        at = body + size
        if at > len(data):
            raise ValueError("a packet is cut off")
        yield tag, data[body:at]


def openpgp_fingerprints(text: str) -> list[str]:
    """See DOCUMENTATION."""
    found = []
    try:
        for block in _ARMOR.findall(text.replace("\r\n", "\n")):
            for tag, body in _packets(base64.b64decode(block, validate=False)):
                if tag == _PUBLIC_KEY:
                    if body[0] != 4:
                        raise ValueError("not version 4")
                    framed = b"\x99" + len(body).to_bytes(2, "big") + body
                    found.append(hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper())
    except (ValueError, IndexError, binascii.Error):
        return []
    return found


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"openpgp_fingerprints": openpgp_fingerprints}
