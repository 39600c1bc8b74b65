# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The channel: real senders and receivers at the two ends of real pipes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import threading

import pytest

from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, Refused
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import compression as _compression
from ansible_collections.fog.migration.plugins.module_utils.transport import framing, listing
from ansible_collections.fog.migration.plugins.module_utils.transport.directory_transfer import Receiver, Sender
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import Frames

MIB = 1024 * 1024
NEEDS_ZSTD = pytest.mark.skipif(not _compression.zstd_program(), reason="needs the zstd program")


def noise(count, seed=1):
    return random.Random(seed).randbytes(count)


@pytest.fixture
def checkpoint(tmp_path):
    """A directory as a checkpoint is: big files, small ones, an empty one, an empty directory, modes of their own."""
    root = tmp_path / "source" / "looper100"
    (root / "criu.work").mkdir(parents=True)
    (root / "criu").mkdir()
    (root / "criu" / "pages-1.img").write_bytes(noise(3 * MIB))
    (root / "criu" / "pages-2.img").write_bytes(bytes(2 * MIB))
    (root / "criu" / "core-1.img").write_bytes(noise(1847, 2))
    (root / "empty").write_bytes(b"")
    (root / "name with blank \u00e4").write_text("x")
    (root / "criu" / "core-1.img").chmod(0o600)
    root.chmod(0o700)
    return root


class Ends:
    """The file descriptors of a sender and a receiver that are connected to each other."""

    def __init__(self):
        receiver_in, sender_out = os.pipe()
        sender_in, receiver_out = os.pipe()
        self.sender = SnappingFrames(sender_in, sender_out, idle_limit=30)
        self.receiver = Frames(receiver_in, receiver_out, idle_limit=30)

    @staticmethod
    def hang_up(frames):
        # Once: the numbers may be those of other files by the second time.
        if not getattr(frames, "hung_up", False):
            frames.hung_up = True
            os.close(frames.fd_in)
            os.close(frames.fd_out)


def in_background(work):
    """Runs work in a thread; call the result to wait for it and to get what it returned or raised."""
    outcome = {}

    def run():
        try:
            outcome["value"] = work()
        except Exception as exc:
            outcome["error"] = exc

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait():
        thread.join(60)
        assert not thread.is_alive(), "the other end hangs"
        return outcome.get("error", outcome.get("value"))

    return wait


def transfer(root, final, compression="none", entries=None, replace=False, snap=None):
    """One attempt over pipes: (the sender's verdict or exception, the receiver's, the sender)."""
    ends = Ends()
    if snap is not None:
        ends.sender.budget = snap
    sender = Sender(ends.sender, str(root), listing.listing(str(root)) if entries is None else entries, compression)

    def receive():
        try:
            return Receiver(ends.receiver, str(final), host="fog2", replace=replace).run()
        finally:
            ends.hang_up(ends.receiver)

    received = in_background(receive)
    try:
        sent = sender.run()
    except Exception as exc:
        sent = exc
    finally:
        ends.hang_up(ends.sender)
    return sent, received(), sender


def snapshot(root):
    """Everything that a transfer must preserve."""
    return {
        str(path.relative_to(root)): (path.stat().st_mode & 0o777, path.read_bytes() if path.is_file() else None)
        for path in [root, *root.rglob("*")]
    }


class SnappingFrames(Frames):
    """Frames of a connection that snaps after so many bytes."""

    budget = float("inf")

    def write(self, kind, payload=b""):
        if kind == framing.DATA and self.sent + len(payload) > self.budget:
            Ends.hang_up(self)
            raise Interrupted("snapped")
        super().write(kind, payload)


# Round trips


@pytest.mark.parametrize(
    "compression", ["none", pytest.param("zstd", marks=NEEDS_ZSTD), pytest.param("auto", marks=NEEDS_ZSTD)]
)
def test_a_directory_arrives_as_it_was(checkpoint, tmp_path, compression):
    final = tmp_path / "there" / "deeper" / "looper100"
    sent, received, sender = transfer(checkpoint, final, compression)
    assert sent == received
    assert sent["verified"] is True
    assert sent["bytes"] == 5 * MIB + 1847 + 1
    assert sent["files"] == 5
    assert sent["resumed_bytes"] == 0
    assert snapshot(final) == snapshot(checkpoint)
    assert os.listdir(final.parent) == ["looper100"]
    assert (final.parent.stat().st_mode & 0o777) == 0o700
    if compression == "none":
        assert sender.frames.sent > 5 * MIB
    else:
        assert sender.compression == "zstd"
        assert sender.frames.sent < 4 * MIB


def test_an_empty_directory_arrives(tmp_path):
    (tmp_path / "empty").mkdir()
    sent, _received, _sender = transfer(tmp_path / "empty", tmp_path / "there")
    assert sent["files"] == 0
    assert os.listdir(tmp_path / "there") == []


def test_a_name_that_is_no_utf8_arrives(tmp_path):
    root = tmp_path / "source"
    root.mkdir()
    with open(os.fsencode(root) + b"/\xff\xfe", "wb") as stream:
        stream.write(b"x")
    transfer(root, tmp_path / "there")
    assert os.listdir(os.fsencode(tmp_path / "there")) == [b"\xff\xfe"]


def test_many_small_files_arrive(tmp_path):
    root = tmp_path / "source"
    root.mkdir()
    for number in range(2500):
        (root / f"{number:05}").write_bytes(b"%d" % number)
    sent, _received, _sender = transfer(root, tmp_path / "there")
    assert sent["files"] == 2500
    assert snapshot(tmp_path / "there") == snapshot(root)


# What is there already


def test_the_same_directory_is_recognized(checkpoint, tmp_path):
    final = tmp_path / "there"
    transfer(checkpoint, final)
    before = final.stat().st_ino
    sent, _received, sender = transfer(checkpoint, final)
    assert sent["already"] is True
    assert final.stat().st_ino == before
    assert sender.frames.sent < 10000


@pytest.mark.parametrize("change", ["content", "mode", "more", "less"])
def test_a_different_directory_is_left_alone(checkpoint, tmp_path, change):
    final = tmp_path / "there"
    shutil.copytree(checkpoint, final)
    image = final / "criu" / "core-1.img"
    if change == "content":
        image.write_bytes(noise(1847, 3))
    elif change == "mode":
        image.chmod(0o640)
    elif change == "more":
        (final / "new").touch()
    else:
        image.unlink()
    before = snapshot(final)
    sent, received, _sender = transfer(checkpoint, final)
    assert isinstance(sent, Refused)
    assert isinstance(received, Refused)
    assert "fog2 holds something else already; it was left alone" in str(sent)
    assert snapshot(final) == before


def test_a_different_directory_is_replaced_on_demand(checkpoint, tmp_path):
    final = tmp_path / "there"
    final.mkdir()
    (final / "old").write_text("old")
    transfer(checkpoint, final, replace=True)
    assert snapshot(final) == snapshot(checkpoint)
    assert sorted(os.listdir(tmp_path)) == ["source", "there"]


def test_a_file_or_link_under_the_final_name_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    sent, _received, _sender = transfer(checkpoint, tmp_path / "link", replace=True)
    assert "is not a directory" in str(sent)
    assert os.listdir(tmp_path / "elsewhere") == []


# Interruption and resume


@pytest.mark.parametrize("compression", ["none", pytest.param("zstd", marks=NEEDS_ZSTD)])
def test_an_interrupted_transfer_resumes(checkpoint, tmp_path, compression):
    final = tmp_path / "there"
    sent, received, _sender = transfer(checkpoint, final, compression, snap=5 * MIB // 2)
    assert isinstance(sent, Interrupted)
    assert isinstance(received, Interrupted)
    assert not final.exists()
    staging = tmp_path / ".there.incoming"
    assert staging.stat().st_mode & 0o777 == 0o700
    kept = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    assert kept > 0
    sent, _received, sender = transfer(checkpoint, final, compression)
    assert sent["resumed_bytes"] == kept
    assert snapshot(final) == snapshot(checkpoint)
    assert not staging.exists()
    if compression == "none":
        assert sender.frames.sent < 5 * MIB + 10000 - kept + 1847


@pytest.mark.parametrize("after", [0, 2000, 4000, 300 * 1024, 3 * MIB, 4 * MIB])
def test_an_interruption_anywhere_is_survived(checkpoint, tmp_path, after):
    transfer(checkpoint, tmp_path / "there", snap=after)
    sent, _received, _sender = transfer(checkpoint, tmp_path / "there")
    assert sent["verified"] is True
    assert snapshot(tmp_path / "there") == snapshot(checkpoint)


def test_a_damaged_beginning_is_sent_again(checkpoint, tmp_path):
    staging = tmp_path / ".there.incoming"
    (staging / "criu").mkdir(parents=True)
    (staging / "criu" / "pages-1.img").write_bytes(b"\0" + noise(3 * MIB)[1:MIB])
    sent, _received, _sender = transfer(checkpoint, tmp_path / "there")
    assert sent["resumed_bytes"] == 0
    assert snapshot(tmp_path / "there") == snapshot(checkpoint)


def test_a_complete_but_damaged_file_is_sent_again(checkpoint, tmp_path):
    staging = tmp_path / ".there.incoming"
    (staging / "criu").mkdir(parents=True)
    (staging / "criu" / "pages-1.img").write_bytes(b"\0" + noise(3 * MIB)[1:])
    transfer(checkpoint, tmp_path / "there")
    assert snapshot(tmp_path / "there") == snapshot(checkpoint)


def test_what_does_not_belong_into_staging_is_removed(checkpoint, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    staging = tmp_path / ".there.incoming"
    (staging / "old" / "deeper").mkdir(parents=True)
    (staging / "empty").mkdir()  # a file in the listing
    (staging / "criu").symlink_to(tmp_path)  # a directory in the listing
    (staging / "name with blank \u00e4").symlink_to(outside)
    transfer(checkpoint, tmp_path / "there")
    assert snapshot(tmp_path / "there") == snapshot(checkpoint)
    assert outside.read_text() == "precious"


def test_a_staging_that_is_a_link_is_not_followed(checkpoint, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".there.incoming").symlink_to(tmp_path / "elsewhere")
    sent, _received, _sender = transfer(checkpoint, tmp_path / "there")
    assert isinstance(sent, Refused)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_one_directory_has_one_receiver(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(Receiver, "patience", 0.5)
    first, second = Ends(), Ends()
    receiver = Receiver(first.receiver, str(tmp_path / "there"), host="fog2")
    received = in_background(receiver.run)
    assert first.sender.expect_object(framing.HELLO)["role"] == "receiver"
    first.sender.write_json(framing.HELLO, framing.greeting("sender", compression="none"))
    first.sender.write_list(framing.LISTING, listing.listing(str(checkpoint)))
    first.sender.expect_list(framing.WANTS)
    refused = in_background(Receiver(second.receiver, str(tmp_path / "there"), host="fog2").run)
    with pytest.raises(Refused, match=r"another transfer to .*there is under way on fog2"):
        Sender(second.sender, str(checkpoint), listing.listing(str(checkpoint)), "none").run()
    second.hang_up(second.sender)
    assert isinstance(refused(), Refused)
    first.hang_up(first.sender)
    assert isinstance(received(), Interrupted)


# Damage and lies


class Speaker:
    """The sending end, played by a test: says the beginning properly, and then what the test wants."""

    def __init__(self, tmp_path, entries, compression="none"):
        self.ends = Ends()
        self.frames = self.ends.sender
        self.final = tmp_path / "there"
        receiver = Receiver(self.ends.receiver, str(self.final), host="fog2")
        self.received = in_background(receiver.run)
        self.frames.expect_object(framing.HELLO)
        self.frames.write_json(framing.HELLO, framing.greeting("sender", compression=compression))
        self.frames.write_list(framing.LISTING, entries)

    def plan(self):
        wants = self.frames.expect_list(framing.WANTS)
        self.frames.write_list(framing.PLAN, [{"index": want["index"], "offset": 0} for want in wants])

    def refusal(self):
        """The reason that the receiver sends; it must come to its end by itself after that."""
        with pytest.raises(Refused) as refused:
            self.frames.expect(framing.VERDICT)
        self.ends.hang_up(self.frames)
        assert isinstance(self.received(), Refused)
        assert not self.final.exists()
        return str(refused.value)


def entry(path, content=b"hello", **more):
    checksum = hashlib.sha256(content).hexdigest()
    return dict({"path": path, "size": len(content), "sha256": checksum, "mode": 0o600}, **more)


TOP = {"path": ".", "dir": True, "mode": 0o700}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([TOP, entry("../evil")], "leaves the directory"),
        ([TOP, entry("/etc/passwd")], "absolute path"),
        ([TOP, entry("a/../../evil")], "leaves the directory"),
        ([TOP, entry("a//b")], "plain form"),
        ([TOP, entry("./a")], "plain form"),
        ([TOP, entry(".")], "leaves the directory"),
        ([TOP, entry("")], "empty path"),
        ([TOP, entry("a\0b")], "NUL"),
        ([TOP, entry(7)], "empty path"),
        ([TOP, entry("a"), entry("a")], "twice"),
        ([TOP, entry("a"), entry("a/b")], "not the directory that it is in"),
        ([TOP, entry("a/b")], "not the directory that it is in"),
        ([entry("a")], "does not name the directory itself"),
        ([TOP, entry("a", size=-1)], "size -1"),
        ([TOP, entry("a", size=2**64)], "size"),
        ([TOP, entry("a", size=True)], "size True"),
        ([TOP, entry("a", sha256="no")], "checksum"),
        ([TOP, entry("a", sha256="Z" * 64)], "checksum"),
        ([TOP, entry("a", mode=0o4755)], "mode"),
        ([TOP, "a"], "not an object"),
    ],
)
def test_a_listing_that_must_not_be_written_is_refused(tmp_path, entries, reason):
    speaker = Speaker(tmp_path, entries)
    assert reason in speaker.refusal()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("compression", ["none", pytest.param("zstd", marks=NEEDS_ZSTD)])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hellO", "another checksum"),
        (b"hello and more", "more bytes came than were announced"),
        (b"hell", "fewer bytes came than were announced"),
    ],
)
def test_other_content_than_was_listed_is_refused(tmp_path, compression, content, reason):
    speaker = Speaker(tmp_path, [TOP, entry("a")], compression)
    speaker.plan()
    if compression == "zstd":
        content = subprocess.run(["zstd", "-q", "-c"], input=content, capture_output=True, check=True).stdout
    speaker.frames.write(framing.DATA, content)
    speaker.frames.write_json(framing.END, {})
    assert reason in speaker.refusal()


@NEEDS_ZSTD
def test_a_bomb_does_not_go_off(tmp_path):
    speaker = Speaker(tmp_path, [TOP, entry("a", bytes(MIB))], "zstd")
    speaker.plan()
    bomb = subprocess.run(["zstd", "-q", "-c"], input=bytes(256 * MIB), capture_output=True, check=True).stdout
    speaker.frames.write(framing.DATA, bomb)
    speaker.frames.write_json(framing.END, {})
    assert "more bytes came than were announced" in speaker.refusal()
    # The file itself was complete; nothing is on disk beyond what was announced.
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= MIB


@NEEDS_ZSTD
def test_a_damaged_compressed_stream_is_refused(tmp_path):
    speaker = Speaker(tmp_path, [TOP, entry("a")], "zstd")
    speaker.plan()
    speaker.frames.write(framing.DATA, b"this is not zstd at all")
    speaker.frames.write_json(framing.END, {})
    assert "compressed stream was damaged" in speaker.refusal()


def test_a_plan_that_was_not_asked_for_is_refused(tmp_path):
    speaker = Speaker(tmp_path, [TOP, entry("a")])
    speaker.frames.expect_list(framing.WANTS)
    speaker.frames.write_list(framing.PLAN, [{"index": 0, "offset": 3}])
    assert "plan is not what was wanted" in speaker.refusal()


def test_a_stream_that_ends_early_leaves_nothing_final(tmp_path):
    speaker = Speaker(tmp_path, [TOP, entry("a", noise(MIB))])
    speaker.plan()
    speaker.frames.write(framing.DATA, noise(MIB)[:1000])
    speaker.ends.hang_up(speaker.frames)
    assert isinstance(speaker.received(), Interrupted)
    assert not speaker.final.exists()
    assert (tmp_path / ".there.incoming" / "a").stat().st_size == 1000


@pytest.mark.parametrize(
    ("noise_on_the_line", "reason"),
    [
        (b"Welcome to fog2, have a nice day\n", "does not speak this protocol"),
        (struct.pack(">cI", b"H", 2**31), "more than the 65536 that are allowed"),
        (struct.pack(">cI", b"D", 5) + b"hello", "does not speak this protocol"),
        (struct.pack(">cI", b"H", 5) + b"hello", "not JSON"),
        (struct.pack(">cI", b"H", 2) + b"[]", "not an object"),
        (struct.pack(">cI", b"H", 2) + b"{}", "is not a sender of fog.migration"),
        (
            struct.pack(">cI", b"H", 62) + b'{"protocol":"fog.migration", "role":"sender", "version":99}   ',
            "version 99",
        ),
    ],
)
def test_garbage_is_refused_at_both_ends(tmp_path, noise_on_the_line, reason):
    ends = Ends()
    received = in_background(Receiver(ends.receiver, str(tmp_path / "there"), host="fog2").run)
    os.write(ends.sender.fd_out, noise_on_the_line)
    ends.sender.expect_object(framing.HELLO)
    with pytest.raises(Refused, match=reason):
        ends.sender.expect_object(framing.HELLO)
    ends.hang_up(ends.sender)
    assert isinstance(received(), Refused)
    assert os.listdir(tmp_path) == []
    if b"version" not in noise_on_the_line and b"{}" not in noise_on_the_line:
        ends = Ends()
        os.write(ends.receiver.fd_out, noise_on_the_line)
        with pytest.raises(Refused, match=reason):
            Sender(ends.sender, str(tmp_path), [TOP], "none").run()


def test_every_kind_of_frame_has_a_limit():
    for kind, limit in framing.LIMITS.items():
        ends = Ends()
        ends.receiver._heard = True
        os.write(ends.sender.fd_out, struct.pack(">cI", kind, limit + 1))
        with pytest.raises(Refused, match="that are allowed"):
            ends.receiver.read()


def test_signs_of_life_are_skipped():
    ends = Ends()
    ends.sender.write_json(framing.HELLO, {})
    ends.sender.write(framing.ALIVE)
    ends.sender.write(framing.DATA, b"x")
    assert ends.receiver.read() == (framing.HELLO, b"{}")
    assert ends.receiver.read() == (framing.DATA, b"x")


def test_a_silent_end_is_given_up():
    ends = Ends()
    ends.receiver.idle_limit = 0.05
    with pytest.raises(Interrupted, match="has sent nothing for"):
        ends.receiver.read()


def test_a_file_that_shrinks_while_it_is_sent_is_noticed(checkpoint, tmp_path):
    entries = listing.listing(str(checkpoint))
    os.truncate(checkpoint / "criu" / "pages-2.img", MIB)
    sent, received, _sender = transfer(checkpoint, tmp_path / "there", entries=entries)
    assert "became shorter" in str(sent)
    assert "became shorter" in str(received)
    assert not (tmp_path / "there").exists()


def test_a_file_that_changes_while_it_is_sent_is_noticed(checkpoint, tmp_path):
    entries = listing.listing(str(checkpoint))
    (checkpoint / "criu" / "core-1.img").write_bytes(noise(1847, 4))
    sent, _received, _sender = transfer(checkpoint, tmp_path / "there", entries=entries)
    assert "criu/core-1.img arrived with another checksum" in str(sent)
    assert not (tmp_path / "there").exists()


# Manifests


def write_manifest(root, **changes):
    found = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    files = {path: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in found.items()}
    files.update(changes)
    (root / "manifest.json").write_text(json.dumps({"files": {key: value for key, value in files.items() if value}}))


def test_checksums_come_from_the_manifest(checkpoint, tmp_path, monkeypatch):
    write_manifest(checkpoint)
    hashed = []
    original = listing.hash_file
    monkeypatch.setattr(listing, "hash_file", lambda path, *more: hashed.append(path) or original(path, *more))
    from_manifest = listing.listing(str(checkpoint))
    assert hashed == [str(checkpoint / "manifest.json")]
    assert listing.digest(from_manifest) == listing.digest(listing.listing(str(checkpoint), trust_manifest=False))


def test_content_that_is_not_what_its_manifest_says_does_not_arrive(checkpoint, tmp_path):
    write_manifest(checkpoint)
    with open(checkpoint / "criu" / "pages-1.img", "r+b") as stream:
        stream.write(b"flip")
    sent, _received, _sender = transfer(checkpoint, tmp_path / "there")
    assert "criu/pages-1.img arrived with another checksum" in str(sent)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gone": {"size": 1, "sha256": "0" * 64}}, "gone is in the manifest but not there"),
        ({"empty": {"size": 1, "sha256": "0" * 64}}, "empty has 0 bytes, the manifest says 1"),
        ({"empty": None}, "empty is there but not in the manifest"),
    ],
)
def test_a_directory_that_its_manifest_does_not_fit_is_not_sent(checkpoint, change, reason):
    write_manifest(checkpoint, **change)
    with pytest.raises(Refused, match=f"looper100 is damaged and was not sent: {reason}"):
        listing.listing(str(checkpoint))


@pytest.mark.parametrize(
    "text",
    [
        '[{"Config": "x.json"}]',
        '{"files": ["a"]}',
        '{"files": {}}',
        '{"files": {"a": 1}}',
        "no json",
    ],
)
def test_some_other_manifest_is_just_a_file(checkpoint, tmp_path, text):
    (checkpoint / "manifest.json").write_text(text)
    sent, _received, _sender = transfer(checkpoint, tmp_path / "there")
    assert sent["verified"] is True


@pytest.mark.parametrize("kind", ["symlink", "fifo"])
def test_anything_but_files_and_directories_is_not_carried(checkpoint, kind):
    if kind == "symlink":
        (checkpoint / "parent").symlink_to("/etc")
        name = "parent"
    else:
        os.mkfifo(checkpoint / "fifo")
        name = "fifo"
    with pytest.raises(Refused, match=f"{name} is neither a plain file nor a directory"):
        listing.listing(str(checkpoint))


# Disks


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    where = tmp_path / "small"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", where]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("needs to be root and to mount a tmpfs")
    yield where
    subprocess.run(["umount", where], check=True)


def test_a_disk_of_which_too_little_would_stay_free(tmp_path, small_disk):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(bytes(4 * MIB - 50_000))
    sent, _received, _sender = transfer(tmp_path / "source", small_disk / "there")
    assert "are free besides what stays free for the server itself; nothing was sent" in str(sent)
    assert os.listdir(small_disk) == []


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_sent(checkpoint, small_disk):
    sent, _received, sender = transfer(checkpoint, small_disk / "there")
    assert "No space left on device at fog2:" in str(sent)
    assert "nothing was sent" in str(sent)
    assert sender.frames.sent < 10000
    assert os.listdir(small_disk) == []


def test_a_disk_that_fills_up_gets_its_room_back(checkpoint, small_disk, monkeypatch):
    monkeypatch.setattr(Receiver, "_check_space", lambda *_ignored: None)
    sent, received, _sender = transfer(checkpoint, small_disk / "there")
    assert "No space left on device at fog2:" in str(sent)
    assert isinstance(received, Refused)
    assert os.listdir(small_disk) == []


# Decisions


@pytest.mark.parametrize(
    ("wanted", "sender", "receiver", "chosen"),
    [
        ("none", True, True, "none"),
        ("auto", True, True, "zstd"),
        ("auto", True, False, "none"),
        ("auto", False, True, "none"),
        ("zstd", True, True, "zstd"),
    ],
)
def test_compression_is_chosen(wanted, sender, receiver, chosen):
    assert _compression.choose_compression(wanted, sender, {"zstd": receiver, "host": "fog2"}) == chosen


@pytest.mark.parametrize(("sender", "receiver", "where"), [(False, True, "the source"), (True, False, "fog2")])
def test_compression_that_is_not_there_is_refused(sender, receiver, where):
    with pytest.raises(Refused, match=f"no zstd on {where}"):
        _compression.choose_compression("zstd", sender, {"zstd": receiver, "host": "fog2"})


def test_a_pace_is_kept(monkeypatch):
    clock = {"now": 100.0}
    monkeypatch.setattr(_compression.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(_compression.time, "sleep", lambda seconds: clock.update(now=clock["now"] + seconds))
    pace = _compression.Pace(1000)
    for _number in range(10):
        pace.wait(500)
    assert clock["now"] == pytest.approx(105.0)


# As a program


def lay_down(directory, order):
    directory.mkdir()
    return deploy.install(str(directory), dict(order, idle_limit=30))


def test_the_file_runs_as_a_program_on_both_sides(checkpoint, tmp_path):
    final = tmp_path / "there"
    send = lay_down(
        tmp_path / "s",
        {"role": "send", "path": str(checkpoint), "compression": "auto", "compression_level": 1, "rate_limit": 0},
    )
    receive = lay_down(tmp_path / "r", {"role": "receive", "final": str(final), "host": "fog2", "replace": False})
    receiver = subprocess.Popen(receive, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    sender = subprocess.run(send, stdin=receiver.stdout, stdout=receiver.stdin, stderr=subprocess.PIPE, check=False)
    receiver.stdin.close()
    report = json.loads(sender.stderr)
    assert sender.returncode == 0
    assert report["verdict"]["verified"] is True
    assert json.loads(receiver.stderr.read())["verdict"] == report["verdict"]
    assert receiver.wait() == 0
    assert snapshot(final) == snapshot(checkpoint)


def test_a_receiver_that_lost_its_sender_gives_way_to_its_successor(checkpoint, tmp_path):
    receive = lay_down(
        tmp_path / "r", {"role": "receive", "final": str(tmp_path / "there"), "host": "fog2", "replace": False}
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    entries = listing.listing(str(checkpoint))
    lost = subprocess.Popen(receive, **pipes)
    frames = Frames(lost.stdout.fileno(), lost.stdin.fileno())
    frames.expect_object(framing.HELLO)
    frames.write_json(framing.HELLO, framing.greeting("sender", compression="none"))
    frames.write_list(framing.LISTING, entries)
    frames.expect_list(framing.WANTS)
    successor = subprocess.Popen(receive, **pipes)
    frames = Frames(successor.stdout.fileno(), successor.stdin.fileno())
    verdict = Sender(frames, str(checkpoint), entries, "none").run()
    assert verdict["verified"] is True
    assert successor.wait(30) == 0
    assert lost.wait(30) < 0
    for process in (lost, successor):
        process.communicate()
