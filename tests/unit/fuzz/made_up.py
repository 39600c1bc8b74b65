# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a malicious or broken other end could say, and a channel over which it says it."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import threading
import tracemalloc
from collections.abc import Iterator

from hypothesis import strategies as st

from ansible_collections.fog.migration.plugins.module_utils.transport import framing

# Depths and lengths at which parsers that recurse or allocate give way.
DEEP = 20_000
ODD_TEXTS = ("", ".", "..", "/", "a/../b", "../x", "/etc/x", "a\0b", "\ud800", "\udc80", "a/" * DEEP + "a", "x" * 5000)
ODD_NUMBERS = (-1, 0, 1, 4096, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**70, 1.5, float("inf"), float("nan"), True)
odd_values = st.one_of(
    st.sampled_from([None, [], {}, [[]], {"": None}, *ODD_TEXTS, *ODD_NUMBERS]),
    st.integers(),
    st.text(max_size=10),
)
values = st.recursive(
    odd_values,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["path", "do", "name", "a"]), inner, max_size=4)
    ),
    max_leaves=10,
)
# JSON that a parser may choke on, and what is none.
odd_json = st.sampled_from(
    [b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP, b"9" * 5000, b"-", b"1e999", b"NaN", b"\xff", b"", b'"']
)


def as_json(value: object) -> bytes:
    """As the other end writes it."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


payloads = st.one_of(values.map(as_json), odd_json, st.binary(max_size=200))


def _places(value: object, here: tuple = ()) -> Iterator[tuple]:
    """The ways to everything in a value of JSON."""
    yield here
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*here, key))


@st.composite
def like(draw: st.DrawFn, value: object) -> object:
    """A value of JSON, of which some parts are other ones, or missing."""
    changed = copy.deepcopy(value)
    for _change in range(draw(st.integers(0, 2))):
        *way, last = draw(st.sampled_from([place for place in _places(changed) if place] or [(None,)]))
        if last is None:
            return draw(values)
        inside = changed
        for key in way:
            inside = inside[key]
        if draw(st.booleans()):
            # A copy: it may be changed next, and what is drawn from a list is the same object each time.
            inside[last] = copy.deepcopy(draw(values))
        else:
            del inside[last]
    return changed


def frame(kind: bytes, payload: bytes, length: int | None = None) -> bytes:
    """One frame, of which the length may be a lie."""
    return framing.HEADER.pack(kind, len(payload) if length is None else length) + payload


lengths = st.one_of(st.none(), st.sampled_from([0, 1, 2**16, 2**18 + 1, 2**22, 2**22 + 1, 2**31, 2**32 - 1]))
kinds = st.one_of(st.sampled_from(sorted(framing.LIMITS)), st.binary(min_size=1, max_size=1))
frames = st.builds(frame, kinds, payloads, lengths)
HELLO = frame(framing.HELLO, b"{}")
# Whatever comes, the first frames of some are in order.
any_stream = st.one_of(
    st.binary(max_size=300),
    st.lists(frames, max_size=5).map(b"".join),
    st.lists(frames, max_size=5).map(lambda parts: HELLO + b"".join(parts)),
)


@st.composite
def like_talk(draw: st.DrawFn, talk: list[tuple[bytes, object]]) -> bytes:
    """A conversation, of which frames are other ones, missing, twice or cut off."""
    parts = []
    for kind, payload in talk:
        what = draw(st.sampled_from(["same"] * 6 + ["like", "odd", "gone", "twice"]))
        data = payload if isinstance(payload, bytes) else as_json(draw(like(payload)) if what == "like" else payload)
        if what == "odd":
            data = draw(payloads)
        parts += [frame(kind, data)] * {"gone": 0, "twice": 2}.get(what, 1)
    stream = bytearray(b"".join(parts))
    for _flip in range(draw(st.integers(0, 1))):
        if stream:
            stream[draw(st.integers(0, len(stream) - 1))] ^= draw(st.integers(1, 255))
    return bytes(stream[: draw(st.integers(0, len(stream)))] if draw(st.booleans()) else stream)


# Reading from it is the end, and what is written is lost.
NOWHERE = os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def hearing(stream: bytes) -> Iterator[framing.Frames]:
    """The end of a channel at which all of these bytes arrive, and then nothing more; what it says is lost."""
    (inner, outer), silence = os.pipe(), os.open(os.devnull, os.O_WRONLY)

    def speak() -> None:
        with contextlib.suppress(OSError), os.fdopen(outer, "wb", buffering=0) as pipe:
            view = memoryview(stream)
            while view:
                view = view[pipe.write(view) :]

    speaker = threading.Thread(target=speak)
    try:
        channel = framing.Frames(inner, silence, 30)
        speaker.start()
        yield channel
    finally:
        # What still listens or speaks in a thread must not do so to whatever gets these numbers next.
        channel.fd_in = channel.fd_out = NOWHERE
        os.close(inner)
        speaker.join()
        os.close(silence)


@contextlib.contextmanager
def little_memory(limit: int) -> Iterator[None]:
    """What is done in it never needs more bytes than these at a time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak} bytes"
