# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenPGP keys and their fingerprints, so that a key can be verified without GnuPG on the host that gets it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: openpgp_keys
short_description: The OpenPGP keys in a text, each with its fingerprint
version_added: 0.2.0
author:
  - fog.migration contributors (@fog-migration)
description:
  - Returns every key (version 4, RFC 4880) in the armored blocks of a text, each armored anew, with the fingerprint of
    its primary key. What comes with the primary key, user IDs, subkeys and signatures, belongs to it by signatures
    that whoever uses the key checks.
  - Programs differ in what they read of a text with something else around a block, or between its lines. So write down
    the armored key that this filter returns, never the text that was given to it.
options:
  _input:
    description: The armored text.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Verify a key
  ansible.builtin.assert:
    that: keys | map(attribute='fingerprint') == ['9DC858229FC7DD38854AE2D88D81803C0EBFCD88']
  vars:
    keys: "{{ text | fog.migration.openpgp_keys }}"

- name: Write it
  ansible.builtin.copy:
    content: "{{ (text | fog.migration.openpgp_keys | first).armored }}"
    dest: /usr/share/keyrings/docker.asc
    mode: "0644"
"""

RETURN = r"""
_value:
  description:
    - For each key C(fingerprint), in capital letters without blanks, and C(armored), one armored block with this key
      and nothing else.
    - Empty when the text holds no key, or anything in one of its blocks that is not a part of a public key.
  type: list
  elements: dict
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

_BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_END = "-----END PGP PUBLIC KEY BLOCK-----"
_ARMOR = re.compile(
    rf"{_BEGIN}\s*?\n(?:[^\n:]+: [^\n]*\n)*\s*?\n(.*?)\n(?:=([A-Za-z0-9+/]{{4}})\s*\n)?{_END}",
    re.DOTALL,
)
_PUBLIC_KEY = 6
# What a public key consists of (RFC 4880, 11.1): signatures, the key itself, user IDs, subkeys, user attributes. Other
# packets may hold keys as well, secret or compressed ones.
_PARTS = {2, _PUBLIC_KEY, 13, 14, 17}
_COLUMNS = 64


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


def _packets(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The tag of each packet, its body, and all of its bytes."""
    at = 0
    while at < len(data):
        begin, head = at, data[at]
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
        yield tag, data[body:at], data[begin:at]


def _crc24(data: bytes) -> bytes:
    """The checksum at the end of an armored block (RFC 4880, 6.1)."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _bit in range(8):
            crc = crc << 1 ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc.to_bytes(3, "big")


def _bytes_of(block: str, checksum: str) -> bytes:
    data = base64.b64decode("".join(block.split()), validate=True)
    if checksum and base64.b64decode(checksum) != _crc24(data):
        raise ValueError("its checksum is wrong")
    return data


def _armored(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    return "\n".join([_BEGIN, "", *lines, f"={base64.b64encode(_crc24(data)).decode()}", _END, ""])


def _fingerprint(primary: bytes) -> str:
    if primary[0] != 4:
        raise ValueError("not version 4")
    framed = b"\x99" + len(primary).to_bytes(2, "big") + primary
    return hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()


def _keys(data: bytes) -> list[tuple[str, bytes]]:
    """The fingerprint of each key, and all of its packets. Raises ValueError for what is no part of a public key."""
    found: list[tuple[str, bytes]] = []
    for tag, body, packet in _packets(data):
        if tag not in _PARTS:
            raise ValueError("no part of a public key")
        if tag == _PUBLIC_KEY:
            found.append((_fingerprint(body), packet))
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + packet)
        else:
            raise ValueError("it does not begin with a key")
    return found


def openpgp_keys(text: str) -> list[dict[str, str]]:
    """See DOCUMENTATION."""
    try:
        keys = [key for block in _ARMOR.findall(text.replace("\r\n", "\n")) for key in _keys(_bytes_of(*block))]
    except (ValueError, IndexError, OverflowError, binascii.Error):
        return []
    return [{"fingerprint": fingerprint, "armored": _armored(packets)} for fingerprint, packets in keys]


class FilterModule:
    """Ansible's hook."""

    def filters(self) -> dict:
        """The filters of this file."""
        return {"openpgp_keys": openpgp_keys}
