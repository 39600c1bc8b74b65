# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a web server sends as the key of a repository: keys, armored anew with nothing lost or added, or none."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fog.migration.plugins.filter.openpgp_keys import openpgp_keys

PUBLIC_KEY = 6
BEGIN, END = (f"-----{word} PGP PUBLIC KEY BLOCK-----" for word in ("BEGIN", "END"))


def packet(tag: int, body: bytes) -> bytes:
    """Of the old format where there is one for the tag."""
    if tag < 16:
        return bytes([0x80 | tag << 2 | 1]) + len(body).to_bytes(2, "big") + body
    return bytes([0xC0 | tag, 255]) + len(body).to_bytes(4, "big") + body


def block(data: bytes) -> str:
    return f"{BEGIN}\n\n{base64.b64encode(data).decode()}\n{END}\n"


parts = st.builds(
    packet, st.sampled_from([2, 6, 13, 14, 17, 5, 8]), st.binary(max_size=30).map(lambda one: b"\4" + one)
)
datas = st.one_of(st.lists(parts, max_size=6).map(b"".join), st.binary(max_size=40))
lines = st.sampled_from([BEGIN, END, "-----BEGIN X-----", "", "Version: 1", "=AAAA", "mDME", "\udc80", "\r"])
texts = st.lists(st.one_of(lines, datas.map(block), st.text(max_size=20)), max_size=6).map("\n".join)


def content(armored: str) -> bytes:
    head, _blank, rest = armored.partition("\n\n")
    body, _equals, foot = rest.rpartition("\n=")
    assert head == BEGIN and foot.splitlines()[1:] == [END]
    return base64.b64decode(body, validate=False)


@given(datas)
def test_one_block(data):
    keys = openpgp_keys(block(data))
    assert not keys or b"".join(content(key["armored"]) for key in keys) == data


@given(texts)
def test_any_text(text):
    for key in openpgp_keys(text):
        assert content(key["armored"])[0] & 0x80
        assert openpgp_keys(key["armored"]) == [key]
