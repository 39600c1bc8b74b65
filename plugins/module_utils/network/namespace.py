# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's network while it moves: held at the source, guarded and announced at the destination.

A frozen container is silent, but its kernel is not: it would acknowledge what peers go on sending, which the container
at the destination would never see, and answer who asks for its address. So its network is locked from the freeze on,
as far as its address moves with it. At the destination, the kernel has the address before it has the sockets, and
would reset every connection that is heard of in between: that is what the guard is against.

Private to the collection fog.migration. Laid down on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import socket
import struct
import threading

from ansible_collections.fog.migration.plugins.module_utils.network import netlink

CLONE_NEWNET = 0x40000000
TABLE = "fog_migration"
# Interfaces with an address of their own on the network outside: they can have the same one on another server.
MOVABLE = ("macvlan", "ipvlan")
# Docker's own name server, in each container's network namespace but not one of the container's processes.
DOCKER_DNS = "127.0.0.11"
# Docker gives an interface of the kind ipvlan in its modes l3 and l3s this flag: nobody asks for addresses there.
IFF_LOOPBACK, IFF_NOARP, IFA_F_PERMANENT = 8, 0x80, 0x80
ESTABLISHED, SYN_RECEIVED, FIN_WAIT, CLOSED, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 1, 3, 4, 7, 8, 9, 10, 11
# All of TCP's but the ends that the kernel only remembers.
_OPEN = (*range(1, 6), CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING)
SYN, RST, ACK = 0x02, 0x04, 0x10


# Whose network


def network_of(process):
    """The file that is the network namespace of a process; opened, it stays valid when the process has gone."""
    return f"/proc/{process}/ns/net"


def is_own(process):
    """Whether this process has a network namespace that is not this program's own, which is the server's."""
    return not os.path.samefile(network_of(process), network_of("self"))


def inside(namespace, function, *arguments):
    """What I(function) returns when it is called in this network namespace (a path or an open file).

    A thread goes in and ends there, so that the program itself never leaves its own.
    """
    outcome = {}

    def work():
        try:
            _enter(namespace)
            outcome["value"] = function(*arguments)
        except Exception as exc:
            outcome["error"] = exc

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def set_sysctls(sysctls):
    """Sets those settings of the kernel that belong to the network namespace of the caller, such as net.core.somaxconn.

    CRIU brings none of them along where the interfaces are made by somebody else.

    :param sysctls: values by name, others among them.
    """
    for name, value in sysctls.items():
        if name.startswith("net."):
            with open("/proc/sys/" + name.replace(".", "/"), "w", encoding="ascii") as stream:
                stream.write(value)


def _enter(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC) if isinstance(namespace, str) else namespace
    try:
        if libc.setns(handle, CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        if handle is not namespace:
            os.close(handle)


# What is there: called inside


def interfaces():
    """The interfaces but the loopback, each C(name), C(kind), C(mac) (bytes), C(flags) and C(addresses) (texts)."""
    found = {}
    for body in netlink.dump(netlink.NETLINK_ROUTE, 18, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)):
        index, flags = struct.unpack_from("=4xiI", body)
        values = netlink.attributes_of(body[16:])
        kind = netlink.attributes_of(values.get(18, b"")).get(1, b"")
        if not flags & IFF_LOOPBACK:
            found[index] = {
                "name": values[3].rstrip(b"\0").decode("ascii"),
                "kind": kind.rstrip(b"\0").decode("ascii"),
                "mac": values.get(1, b""),
                "flags": flags,
                "addresses": [],
            }
    for body in netlink.dump(netlink.NETLINK_ROUTE, 22, struct.pack("=BBBBi", socket.AF_UNSPEC, 0, 0, 0, 0)):
        index = struct.unpack_from("=4xi", body)[0]
        values = netlink.attributes_of(body[8:])
        # Of a link with two ends, 1 is the other one's.
        address = values.get(2, values.get(1, b""))
        if index in found and address and _stays(body[2], address):
            found[index]["addresses"].append(str(ipaddress.ip_address(address)))
    return [found[index] for index in sorted(found)]


def _stays(flags, address):
    """Whether an address is there by order: none that a router has lent, nor one that the kernel has to try first."""
    return flags & IFA_F_PERMANENT and not ipaddress.ip_address(address).is_link_local


_REQUEST = struct.Struct("=BBBxI")
_SOCKET_ID = struct.Struct("!HH16s16sI8s")


def sockets(protocol=socket.IPPROTO_TCP):
    """The sockets of a protocol, listening ones included, without those that are closed or wait for their end only.

    Each C(state), C(local) and C(remote) (an address and a port), C(waiting) (of a listening one, how many connections
    were not accepted yet), C(inode) (0: no process has it), and what destroy() wants.
    """
    states = sum(1 << state for state in ((*_OPEN, CLOSED) if protocol == socket.IPPROTO_UDP else _OPEN))
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _REQUEST.pack(family, protocol, 0, states) + bytes(_SOCKET_ID.size)
        for body in netlink.dump(netlink.NETLINK_SOCK_DIAG, 20, request):
            # Where IPv4 is asked for, old kernels list the other family's as well.
            if body[0] == family:
                found.append(_described(body, protocol))
    return found


def _described(body, protocol):
    family, state = struct.unpack_from("=BB", body)
    identity = body[4 : 4 + _SOCKET_ID.size]
    local_port, remote_port, local, remote, _interface, _cookie = _SOCKET_ID.unpack(identity)
    _expires, waiting, _unsent, _user, inode = struct.unpack_from("=5I", body, 4 + _SOCKET_ID.size)
    return {
        "state": state,
        "local": (address_of(family, local), local_port),
        "remote": (address_of(family, remote), remote_port),
        "waiting": waiting if state == LISTEN else 0,
        "inode": inode,
        "family": family,
        "protocol": protocol,
        "identity": identity,
    }


def address_of(family, data):
    """An address as text, from the kernel's bytes; that of an IPv4 peer of an IPv6 socket is an IPv4 address."""
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(data[:4]))
    address = ipaddress.IPv6Address(data)
    return str(address.ipv4_mapped or address)


def destroy(sock):
    """Closes a socket of whoever it is: its peer is reset, its owner finds it closed.

    :raises OSError: where the kernel cannot do that (CONFIG_INET_DIAG_DESTROY).
    """
    request = _REQUEST.pack(sock["family"], sock["protocol"], 0, 1 << sock["state"]) + sock["identity"]
    try:
        netlink.order(netlink.NETLINK_SOCK_DIAG, 21, request)
    except OSError as exc:
        # Its peer was faster.
        if not netlink.is_missing(exc):
            raise


_UNIX_REQUEST = struct.Struct("=BBHIII8s")
_SHOW_NAME, _SHOW_PEER = 1, 4


def unix_sockets():
    """Unix sockets, each C(type), C(inode), C(peer) (the inode of that at the other end) and C(name), by inode."""
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME | _SHOW_PEER, b"\xff" * 8)
    found = {}
    for body in netlink.dump(netlink.NETLINK_SOCK_DIAG, 20, request):
        kind, inode = struct.unpack_from("=xBxxI", body)
        values = netlink.attributes_of(body[16:])
        name = values.get(0, b"").rstrip(b"\0").replace(b"\0", b"@").decode("utf-8", "replace")
        peer = struct.unpack("=I", values[2])[0] if 2 in values else 0
        found[inode] = {"type": kind, "inode": inode, "peer": peer, "name": name}
    return found


# What moves and what stays behind


def moves(interface):
    """Whether what this interface is to the outside can be the same on another server of the same network."""
    return interface["kind"] in MOVABLE and not interface["flags"] & IFF_NOARP


def moved_addresses(found):
    """The addresses that the container has at the destination from the first instant on, of these interfaces."""
    return {address for interface in found if moves(interface) for address in interface["addresses"]}


def is_stream(sock):
    """Whether it is one of TCP."""
    return sock["protocol"] == socket.IPPROTO_TCP


def is_connected(sock):
    """Whether a socket has a peer, or is about to get one."""
    return sock["state"] != LISTEN and sock["remote"][1] != 0


def survives(sock, moved):
    """Whether a connection goes on at the destination: its address moves, or it has both of its ends in the container.

    :param moved: see moved_addresses().
    """
    local, remote = sock["local"][0], sock["remote"][0]
    inward = ipaddress.ip_address(remote).is_loopback and remote != DOCKER_DNS
    return local in moved or (inward and ipaddress.ip_address(local).is_loopback)


def half_open(sock):
    """Whether a connection belongs to the kernel alone: not accepted yet, or its last words are still on their way."""
    return sock["waiting"] or (
        sock["inode"] == 0 and sock["state"] in (ESTABLISHED, SYN_RECEIVED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING)
    )


def descriptors_of(process):
    """Where the descriptors of a process lead to, as C(/proc) names it, by their paths there."""
    found = {}
    folder = f"/proc/{process}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                found[f"{folder}/{name}"] = os.readlink(f"{folder}/{name}")
    return found


def inodes_of(process):
    """The sockets that a process has, by their inodes."""
    return {int(link[8:-1]) for link in descriptors_of(process).values() if link.startswith("socket:[")}


# Locks: called inside


def hold_new():
    """New connections wait from now on; their peers ask again after a second."""
    batch = netlink.Batch()
    batch.table(netlink.INET, TABLE)
    batch.chain(netlink.INET, TABLE, "new", netlink.PREROUTING)
    tcp = netlink.protocol_is(socket.IPPROTO_TCP)
    batch.drop(netlink.INET, TABLE, "new", tcp, netlink.byte_is(13, SYN, SYN | ACK))
    batch.send()


def lock(names):
    """Nothing comes in or goes out by these interfaces any more, nor does the kernel answer who asks for them."""
    _lock(netlink.INET, netlink.PREROUTING, netlink.OUTPUT, names)
    # A kernel without filters for ARP answers on; what the destination announces then stands against it.
    with contextlib.suppress(OSError):
        _lock(netlink.ARP, netlink.ARP_IN, netlink.ARP_OUT, names)


def _lock(family, hook_in, hook_out, names):
    batch = netlink.Batch()
    batch.table(family, TABLE)
    for chain, hook, by in (("in", hook_in, netlink.comes_in_by), ("out", hook_out, netlink.goes_out_by)):
        batch.chain(family, TABLE, chain, hook)
        for name in names:
            batch.drop(family, TABLE, chain, by(name))
    batch.send()


def guard():
    """Nobody is told that there is no socket for what came, since there will be: it is sent again."""
    batch = netlink.Batch()
    batch.table(netlink.INET, TABLE)
    batch.chain(netlink.INET, TABLE, "out", netlink.OUTPUT)
    tcp, icmp, icmp6 = (
        netlink.protocol_is(kind) for kind in (socket.IPPROTO_TCP, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)
    )
    batch.drop(netlink.INET, TABLE, "out", tcp, netlink.byte_is(13, RST, RST))
    # "Destination unreachable", of both.
    batch.drop(netlink.INET, TABLE, "out", icmp, netlink.byte_is(0, 3))
    batch.drop(netlink.INET, TABLE, "out", icmp6, netlink.byte_is(0, 1))
    batch.send()


def unlock():
    """Takes all locks and guards away. It is no fault when there are none."""
    for family in (netlink.INET, netlink.ARP):
        batch = netlink.Batch()
        batch.delete_table(family, TABLE)
        try:
            batch.send()
        except OSError as exc:
            if not netlink.is_missing(exc):
                raise


# Announcements: called inside


def announce():
    """Tells all neighbours where the addresses are now; switches learn it from that as well."""
    for interface in interfaces():
        if len(interface["mac"]) == 6 and not interface["flags"] & IFF_NOARP:
            frames = [announcement(interface["mac"], address) for address in interface["addresses"]]
            with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as handle:
                handle.bind((interface["name"], 0))
                for frame in frames:
                    handle.send(frame)


def announcement(mac, address):
    """The Ethernet frame that says that this address is at this MAC: gratuitous ARP, or unsolicited advertisement."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 4:
        words = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        return b"\xff" * 6 + mac + b"\x08\x06" + words + mac + packed + bytes(6) + packed
    everybody = ipaddress.IPv6Address("ff02::1").packed
    # Override what was known; then the option that holds our MAC.
    body = struct.pack("!I", 0x20000000) + packed + b"\x02\x01" + mac
    pseudo = packed + everybody + struct.pack("!II", 4 + len(body), socket.IPPROTO_ICMPV6)
    icmp = struct.pack("!BBH", 136, 0, checksum(pseudo + b"\x88\0\0\0" + body)) + body
    header = struct.pack("!IHBB", 6 << 28, len(icmp), socket.IPPROTO_ICMPV6, 255)
    return b"\x33\x33\0\0\0\x01" + mac + b"\x86\xdd" + header + packed + everybody + icmp


def checksum(data):
    """The checksum of IP's protocols."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
