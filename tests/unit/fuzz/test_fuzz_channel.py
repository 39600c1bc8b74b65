# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever comes over the channel of a transfer: it is refused in one sentence, and nothing else is touched."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fog.migration.plugins.module_utils import errors
from ansible_collections.fog.migration.plugins.module_utils.errors import ChannelError, Refused
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import framing, listing
from ansible_collections.fog.migration.plugins.module_utils.transport.directory_transfer import Receiver, Sender
from fuzz.made_up import (
    HELLO,
    any_stream,
    as_json,
    frame,
    hearing,
    like_talk,
    little_memory,
    odd_json,
    payloads,
    values,
)

CONTENT = b"the content of a file" * 10
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ENTRIES = [
    {"path": ".", "dir": True, "mode": 0o700},
    {"path": "criu", "dir": True, "mode": 0o700},
    {"path": "criu/core-1.img", "size": len(CONTENT), "mode": 0o600, "sha256": SHA256},
    {"path": "empty", "size": 0, "mode": 0o600, "sha256": hashlib.sha256().hexdigest()},
]
SENT = [
    (framing.HELLO, framing.greeting("sender", compression="none")),
    (framing.LISTING, ENTRIES),
    (framing.LISTING, []),
    (framing.PLAN, [{"index": 0, "offset": 0}, {"index": 1, "offset": 0}]),
    (framing.PLAN, []),
    (framing.DATA, CONTENT),
    (framing.END, {"files": 2}),
]
ANSWERED = [
    (framing.HELLO, framing.greeting("receiver", host="fog2", zstd=False)),
    (framing.WANTS, [{"index": 0, "offset": 5, "sha256": "0" * 64}, {"index": 1, "offset": 0, "sha256": ""}]),
    (framing.WANTS, []),
    (framing.VERDICT, {"verified": True, "resumed_bytes": 0}),
]


@given(any_stream)
def test_frames(stream):
    with hearing(stream) as channel, pytest.raises(ChannelError):
        while True:
            channel.read()


@given(st.lists(payloads, max_size=4))
def test_lists(parts):
    stream = HELLO + b"".join(frame(framing.LISTING, part) for part in parts)
    with hearing(stream) as channel, pytest.raises(ChannelError):
        channel.read()
        while True:
            assert isinstance(channel.expect_list(framing.LISTING), list)


@given(payloads)
def test_objects(payload):
    try:
        assert isinstance(framing.parse_object(payload), dict)
    except Refused as refusal:
        assert "\n" not in str(refusal)


@given(
    st.one_of(st.binary(max_size=100), st.builds(framing.memory_head, st.text("pagem-1.i", max_size=80), st.just(0)))
)
def test_memory(payload):
    try:
        framing.parse_memory(payload)
    except Refused:
        return


@pytest.mark.parametrize("kind", sorted(framing.LIMITS))
@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 2**24])
def test_a_length_that_is_not_allowed_takes_no_memory(kind, length):
    with hearing(HELLO + frame(kind, b"", length)) as channel, little_memory(1 << 20):
        channel.read()
        with pytest.raises(Refused, match="more than the"):
            channel.read()


def test_a_list_without_end_takes_no_memory_without_end():
    """Few entries in each frame, which are large."""
    part = frame(framing.LISTING, as_json([{"path": "x" * (3 << 20)}]))
    with hearing(HELLO + part * 100) as channel, little_memory(2 * framing.MAX_LIST):
        channel.read()
        with pytest.raises(Refused, match="more than"):
            channel.expect_list(framing.LISTING)


def test_every_conversation_that_is_cut_off_is_an_interruption():
    stream = b"".join(frame(kind, data if isinstance(data, bytes) else as_json(data)) for kind, data in SENT)
    for end in range(len(stream)):
        with tempfile.TemporaryDirectory() as folder:
            with hearing(stream[:end]) as channel, pytest.raises(errors.Interrupted):
                Receiver(channel, f"{folder}/name", "fog2").run()
            assert not Path(folder, "name").exists()
    with tempfile.TemporaryDirectory() as folder, hearing(stream) as channel:
        assert Receiver(channel, f"{folder}/name", "fog2").run()["verified"]


@given(st.one_of(like_talk(SENT), any_stream))
def test_the_receiver(stream):
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder, "canary")
        canary.write_text("sings")
        with hearing(stream) as channel:
            try:
                Receiver(channel, f"{folder}/in/name", "fog2").run()
            except ChannelError as refusal:
                assert "\n" not in str(refusal)
                assert not Path(folder, "in", "name").exists()
        assert canary.read_text() == "sings"
        assert set(os.listdir(folder)) <= {"canary", "in"}
        assert {path.name for path in Path(folder).glob("in/*")} <= {"name", ".name.incoming"}


@given(st.one_of(like_talk(ANSWERED), any_stream))
def test_the_sender(stream):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "criu").mkdir()
        Path(folder, "criu", "core-1.img").write_bytes(CONTENT)
        Path(folder, "empty").touch()
        with hearing(stream) as channel:
            try:
                Sender(channel, folder, ENTRIES, "none").run()
            except ChannelError as refusal:
                assert "\n" not in str(refusal)


@given(st.one_of(values.map(as_json), odd_json, st.binary(max_size=100)))
def test_a_manifest_beside_what_is_sent(text):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "manifest.json").write_bytes(text)
        try:
            listing.listing(folder)
        except Refused as refusal:
            assert "is damaged" in str(refusal)


def test_folders_without_end():
    """Whatever is so deep is refused at both ends: neither goes down there."""
    with tempfile.TemporaryDirectory() as folder:
        deep = os.open(folder, os.O_PATH)
        for _level in range(1500):
            os.mkdir("d", dir_fd=deep)
            below = os.open("d", os.O_PATH, dir_fd=deep)
            os.close(deep)
            deep = below
        os.close(deep)
        with pytest.raises(Refused, match="levels"):
            listing.listing(folder)
        os.system(f"rm -rf {folder}/d")
    with pytest.raises(Refused, match="levels"):
        listing.check_listing([{"path": "d/" * 1500 + "d", "dir": True, "mode": 0}])


def listing_of(*entries: dict) -> bytes:
    """What a sender says up to its listing."""
    hello = frame(framing.HELLO, as_json(SENT[0][1]))
    parts = [[{"path": ".", "dir": True, "mode": 0o700}, *entries], []]
    return hello + b"".join(frame(framing.LISTING, as_json(part)) for part in parts)


def entry(path: str) -> dict:
    """A file of a listing."""
    return {"path": path, "size": 1, "mode": 0o600, "sha256": SHA256}


SAID = {
    "nothing": (b"", "closed the channel"),
    "garbage": (b"SSH-2.0-OpenSSH_9.2\r\n" * 100, "does not speak this protocol"),
    "a frame that is too large": (frame(framing.HELLO, b"", 2**32 - 1), "more than the"),
    "a name above": (listing_of(entry("../canary")), "leaves the directory"),
    "an absolute name": (listing_of(entry("/etc/canary")), "absolute path"),
    "a name that is none": (listing_of(entry("\ud800")), "cannot be that of a file"),
    "a depth": (listing_of(entry("a/" * 5000 + "a")), "levels deep"),
    "nested JSON": (frame(framing.HELLO, b"[" * 60000), "not JSON"),
}


@pytest.mark.parametrize("what", sorted(SAID))
def test_the_program_itself(tmp_path, what):
    """As sshd starts it: one line says why, and nothing is left."""
    stream, problem = SAID[what]
    (tmp_path / "program").mkdir(0o700)
    order = {"role": "receive", "final": f"{tmp_path}/in/name", "host": "fog2", "replace": False, "idle_limit": 30}
    words = deploy.install(str(tmp_path / "program"), order)
    done = subprocess.run(words, input=stream, capture_output=True, check=False, timeout=60)
    said = done.stderr.decode("utf-8")
    assert done.returncode == 1 and said.count("\n") == 1, said
    assert problem in json.loads(said)["error"]
    assert os.listdir(tmp_path) == ["program"]
