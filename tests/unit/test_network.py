# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a connection, and how sockets, frames and filters are written."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import protobuf
from ansible_collections.fog.migration.plugins.module_utils.network import (
    announcements,
    image_sockets,
    namespace,
    netlink,
    probe_connections,
)
from ansible_collections.fog.migration.plugins.module_utils.network.namespace import Interface
from ansible_collections.fog.migration.plugins.module_utils.network.sockets import (
    CLOSED,
    ESTABLISHED,
    LISTEN,
    Endpoint,
    Socket,
    UnixSocket,
)
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

MAC = bytes.fromhex("02420ad586c0")
MOVED = {"192.0.2.5", "fd00::5"}


def sock(local, remote=("0.0.0.0", 0), state=ESTABLISHED, protocol=socket.IPPROTO_TCP, waiting=0, inode=7):
    """A socket as it is in the kernel's list."""
    return Socket(protocol, state, Endpoint(*local), Endpoint(*remote), waiting, inode)


@pytest.mark.parametrize(
    ("local", "remote", "survives"),
    [
        ("192.0.2.5", "192.0.2.7", True),
        ("fd00::5", "fd00::7", True),
        ("172.17.0.2", "192.0.2.7", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", True),
        # Docker's name server is no process of the container's.
        ("127.0.0.1", "127.0.0.11", False),
        # To itself, by an address that it does not have there.
        ("172.17.0.2", "172.17.0.2", False),
    ],
)
def test_a_connection_goes_where_its_address_goes(local, remote, survives):
    assert sock((local, 80), (remote, 40000)).survives(MOVED) == survives


def test_an_address_that_is_only_lent_does_not_move():
    lan = Interface("eth0", "macvlan", MAC, 0x1043, ("192.0.2.5",))
    bridge = lan._replace(kind="veth", addresses=("172.17.0.2",))
    assert namespace.moved_addresses([lan, bridge]) == {"192.0.2.5"}
    # An ipvlan of layer 3.
    assert namespace.moved_addresses([lan._replace(kind="ipvlan", flags=0x10C3)]) == set()


def test_what_is_said_beforehand():
    sockets = [
        sock(("192.0.2.5", 80), ("192.0.2.7", 40000)),
        sock(("172.17.0.2", 80), ("192.0.2.7", 40001)),
        sock(("127.0.0.1", 5432), ("127.0.0.1", 40002)),
        sock(("fd00::5", 80), ("fd00::7", 40003)),
        sock(("0.0.0.0", 80), state=LISTEN),
        sock(("192.0.2.5", 81), state=LISTEN),
        sock(("172.17.0.2", 82), state=LISTEN),
        sock(("10.1.0.7", 83), state=LISTEN),
        sock(("127.0.0.1", 4000), state=LISTEN),
        sock(("224.0.0.251", 5353), state=CLOSED, protocol=socket.IPPROTO_UDP),
        sock(("172.17.0.2", 53), ("192.0.2.9", 53), protocol=socket.IPPROTO_UDP),
    ]
    said = probe_connections.classify(sockets, MOVED, {"10.1.0.7"})
    assert [(one["local"], one["remote"], one["survives"]) for one in said["connections"]] == [
        ("172.17.0.2:80", "192.0.2.7:40001", False),
        ("192.0.2.5:80", "192.0.2.7:40000", True),
        ("[fd00::5]:80", "[fd00::7]:40003", True),
    ]
    assert said["bound"] == ["172.17.0.2:82"]


def test_unix_sockets_of_others():
    def unix(inode, peer, name=""):
        return UnixSocket(1, inode, peer, name)

    listed = [unix(1, 2), unix(2, 1), unix(3, 9), unix(9, 3, "/run/docker.sock")]
    listed += [unix(4, 8), unix(5, 0, "/mine"), unix(7, 9)]
    sockets = {one.inode: one for one in listed}
    assert probe_connections.unix_outside(sockets, {1, 2, 5}) == []
    assert probe_connections.unix_outside(sockets, {1, 2, 3, 4, 5}) == ["/run/docker.sock", "one without a name"]


def test_sessions_are_what_was_started_from_outside():
    shell = ["sh", "-c", "sleep 60; :"]
    with subprocess.Popen(shell, start_new_session=True) as one, subprocess.Popen(["sleep", "61"]) as other:
        try:
            deadline, everyone = time.monotonic() + 20, []
            # A child is called as its parent is until it executes something.
            while probe_connections.sessions(everyone, []) != ["sh", "sleep"] or len(everyone) < 3:
                assert time.monotonic() < deadline
                everyone = sorted(procfs.processes_below(one.pid) | {other.pid})
                time.sleep(0.01)
            assert (
                probe_connections.sessions(everyone, ["sleep", "61"])
                == probe_connections.sessions([one.pid], [])
                == ["sh"]
            )
            assert probe_connections.sessions(everyone, ["sleep 60; :"]) == ["sleep"]
            assert probe_connections.sessions([], ["x"]) == probe_connections.sessions([2**22 + 1], []) == []
        finally:
            other.kill()
            os.killpg(one.pid, signal.SIGKILL)


def test_files_of_the_server():
    """A descriptor that was given from another mount namespace, as docker exec gives one."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("NOT TESTED: this needs root and the program unshare")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for words, found in (
        (["sleep", "60"], []),
        (["sh", "-c", "exec sleep 60 </dev/null"], []),
        (["sleep", "60"], ["/dev/null of the server, open in sleep"]),
    ):
        apart = ["unshare", "--mount", *words] if found or len(words) > 2 else words
        with subprocess.Popen(apart, stdin=subprocess.DEVNULL, **pipes) as process:
            try:
                deadline = time.monotonic() + 20
                while procfs.program(process.pid) != "sleep" and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert probe_connections.files_of_server([process.pid]) == found
            finally:
                process.kill()
    assert probe_connections.files_of_server([2**22 + 1]) == []


def test_what_criu_cannot_take_along():
    links = ["anon_inode:[eventpoll]", "socket:[4711]", "pipe:[4]", "/dev/null", "/a:[io_uring]b"]
    assert probe_connections.unknown(links) == []
    assert probe_connections.unknown([*links, "anon_inode:[io_uring]", "anon_inode:[io_uring]"]) == ["an io_uring"]
    assert probe_connections.unknown(["/secretmem (deleted)"]) == ["memory that only it can read (memfd_secret)"]


MPTCP = getattr(socket, "IPPROTO_MPTCP", 262)


def test_sockets_that_criu_does_not_know():
    """Of each protocol that this kernel has: those that CRIU makes again, and others."""
    known = [
        (socket.AF_INET, socket.SOCK_STREAM, 0),
        (socket.AF_INET6, socket.SOCK_DGRAM, 0),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET, 0),
        (socket.AF_NETLINK, socket.SOCK_RAW, 0),
    ]
    with contextlib.ExitStack() as stack:
        paths = [f"/proc/self/fd/{stack.enter_context(socket.socket(*words)).fileno()}" for words in known]
        assert probe_connections.foreign_sockets([*paths, "/proc/self/fd/2", "/proc/self/fd/99999"]) == []
        try:
            other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, MPTCP))
        except OSError:
            pytest.skip("NOT TESTED: this kernel has no MPTCP")
        path = f"/proc/self/fd/{other.fileno()}"
        assert probe_connections.foreign_sockets([path, *paths, path]) == ["a socket of the protocol MPTCP"]


@pytest.mark.parametrize(
    ("flags", "shared"),
    [(["r--p", "r-xs"], True), (["rwxs"], False), (["r-xp", "r-xs"], False), (["r--s", "r-xs", "r-xp"], True)],
)
def test_code_that_criu_cannot_write_to(flags, shared):
    maps = "".join(
        f"{place:x}000-{place + 1:x}000 {flag} 00000000 00:01 7 /dev/zero\n" for place, flag in enumerate(flags)
    )
    assert probe_connections.begins_with_shared_code(maps) is shared
    assert probe_connections.begins_with_shared_code("") is False


def test_deleted_files(tmp_path):
    for name in ("whole", "half", "gone", "memory"):
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "other").hardlink_to(tmp_path / "half")
    with open(tmp_path / "gone", "rb") as gone, open(tmp_path / "half", "rb") as half:
        for name in ("gone", "half"):
            (tmp_path / name).unlink()
        links = {f"/proc/self/fd/{gone.fileno()}": "/gone (deleted)"}
        links[f"/proc/self/fd/{half.fileno()}"] = "/half (deleted)"
        links.update({str(tmp_path / "whole"): "/whole", "/dev/null": "/n (deleted)", "/none": "/none (deleted)"})
        for number, name in enumerate(("memfd:m", "dev/zero", "SYSV0000002a", "anon_hugepage", "secretmem")):
            (tmp_path / str(number)).symlink_to("memory")
            links[str(tmp_path / str(number))] = f"/{name} (deleted)"
        assert probe_connections.deleted(links) == ({"/gone": 5}, ["/half"])


def test_what_belongs_to_the_kernel_alone():
    assert not sock(("192.0.2.5", 80), ("192.0.2.7", 40000)).is_half_open
    assert sock(("192.0.2.5", 80), ("192.0.2.7", 40000), inode=0).is_half_open
    assert sock(("0.0.0.0", 80), state=LISTEN, waiting=2).is_half_open
    assert not sock(("0.0.0.0", 80), state=LISTEN).is_half_open


def test_announcements():
    arp = announcements.announcement(MAC, "192.0.2.5")
    packed = bytes([192, 0, 2, 5])
    assert arp[:14] == b"\xff" * 6 + MAC + b"\x08\x06"
    assert arp[14:] == bytes.fromhex("0001080006040001") + MAC + packed + bytes(6) + packed

    advertisement = announcements.announcement(MAC, "fd00::5")
    source, target = ipaddress.ip_address("fd00::5").packed, ipaddress.ip_address("ff02::1").packed
    assert advertisement[:14] == bytes.fromhex("333300000001") + MAC + b"\x86\xdd"
    assert advertisement[22:54] == source + target
    icmp = advertisement[54:]
    assert (icmp[0], icmp[4], icmp[8:24], icmp[24:]) == (136, 0x20, source, b"\x02\x01" + MAC)
    assert advertisement[18:22] == struct.pack("!HBB", len(icmp), 58, 255)
    # The checksum of what contains its own is nothing.
    assert announcements.checksum(source + target + struct.pack("!II", len(icmp), 58) + icmp) == 0


def test_netlink_attributes_there_and_back():
    data = netlink.text(1, "lan") + netlink.number(2, -450) + netlink.nested(3, netlink.number(1, 7))
    found = netlink.attributes_of(data)
    assert found[1] == b"lan\0"
    assert struct.unpack(">i", found[2]) == (-450,)
    assert netlink.attributes_of(found[3]) == {1: b"\0\0\0\7"}


def test_netlink_messages():
    data = netlink.message(18, netlink.NLM_F_DUMP, b"12345") + b"\0\0\0" + netlink.message(2, 0, bytes(4), 9)
    assert list(netlink.messages_of(data)) == [(18, 1, b"12345"), (2, 9, bytes(4))]


# CRIU's images


def words(address):
    """An address as CRIU writes it."""
    packed = ipaddress.ip_address(address).packed
    return struct.unpack(f"={len(packed) // 4}I", packed)


def entry(local, remote, state=ESTABLISHED, protocol=socket.IPPROTO_TCP):
    """A socket in an image."""
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    numbers = [(1, 11), (2, 4000), (3, family), (4, 1), (5, protocol), (6, state), (7, local[1]), (8, remote[1])]
    numbers += [(9, 2), (10, 0)]
    numbers += [(11, word) for word in words(local[0])] + [(12, word) for word in words(remote[0])]
    body = b"".join(protobuf.number(*pair) for pair in numbers)
    return body + protobuf.message(14, b"\x08\x01") + protobuf.number(19, 1)


def image(*contents):
    """A files.img of these sockets, and of a file that is none."""
    others = [protobuf.number(1, 1) + protobuf.number(2, 5) + protobuf.message(3, b"abc")]
    found = [protobuf.number(1, 4) + protobuf.number(2, 11) + protobuf.message(4, one) for one in contents]
    head = struct.pack("<II", image_sockets.COMMON_MAGIC, 0x56303138)
    return head + b"".join(struct.pack("<I", len(one)) + one for one in [*others, *found])


def sockets_of(path):
    """The sockets in a files.img."""
    return [
        image_sockets.parsed(value)
        for one in image_sockets.entries(path.read_bytes())[1]
        for number, value, _raw in protobuf.fields(one)
        if number == 4
    ]


def test_a_connection_is_taken_from_the_images(tmp_path):
    path = tmp_path / "files.img"
    over = entry(("::ffff:172.17.0.2", 80), ("::ffff:192.0.2.7", 40000))
    path.write_bytes(
        image(
            entry(("0.0.0.0", 80), ("0.0.0.0", 0), LISTEN),
            over,
            entry(("192.0.2.5", 80), ("192.0.2.7", 40001)),
            entry(("172.17.0.2", 999), ("192.0.2.9", 53), protocol=socket.IPPROTO_UDP),
        )
    )
    orphans = image_sockets.detach(str(tmp_path), lambda one, _all: one.is_connected and not one.survives(MOVED))
    assert [one.local for one in orphans] == [("172.17.0.2", 80), ("172.17.0.2", 999)]
    listening, closed, kept, datagrams = sockets_of(path)
    assert listening.state == LISTEN
    assert (closed.state, closed.local, closed.remote) == (CLOSED, ("::", 0), ("::", 0))
    assert (kept.state, kept.remote) == (ESTABLISHED, ("192.0.2.7", 40001))
    assert (datagrams.local, datagrams.remote) == (("0.0.0.0", 999), ("192.0.2.9", 53))
    # All else of it is as it was, but that it was shut down.
    assert protobuf.message(14, b"\x08\x01") in image_sockets.detached(over)
    assert 19 not in [number for number, _value, _raw in protobuf.fields(image_sockets.detached(over))]


def test_images_are_left_alone_where_all_goes_on(tmp_path):
    path = tmp_path / "files.img"
    content = image(entry(("192.0.2.5", 80), ("192.0.2.7", 40001)))
    path.write_bytes(content)
    assert image_sockets.detach(str(tmp_path), lambda _one, _all: False) == []
    assert path.read_bytes() == content
    assert image_sockets.detach(str(tmp_path / "none"), lambda _one, _all: True) == []


@pytest.mark.parametrize("cut", [1, 3, 9])
def test_an_image_that_is_cut_off(tmp_path, cut):
    (tmp_path / "files.img").write_bytes(image(entry(("192.0.2.5", 80), ("192.0.2.7", 40001)))[:-cut])
    with pytest.raises(image_sockets.SocketsError):
        image_sockets.detach(str(tmp_path), lambda _one, _all: True)
