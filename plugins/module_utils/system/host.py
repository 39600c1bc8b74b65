# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is: its kernel, its processor, its network interfaces, the ports that something listens on."""

from __future__ import annotations

import os
import platform
import re
import socket
import sys

from ansible_collections.fog.migration.plugins.module_utils.system.procfs import read

_PROBE_SECONDS = 4


def facts() -> dict:
    """C(hostname), C(kernel), C(architecture) and C(cpu_features) of this host, and what it has for migrations.

    That is the C(python) that runs this, the number of C(cores), the numbers of the C(processors) that run, and
    C(memory_available) in bytes, 0 if unknown.
    """
    return {
        "hostname": platform.node(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu_features": cpu_features(),
        "python": sys.executable,
        "cores": os.cpu_count() or 1,
        "processors": processors(),
        "memory_available": available_memory() or 0,
    }


def processors() -> list[int]:
    """The numbers of the processors that run."""
    return sorted(parse_list(read("/sys/devices/system/cpu/online"))) or list(range(os.cpu_count() or 1))


def parse_list(text: str) -> set[int]:
    """The numbers in the kernel's form of a list, such as C(0-3,8)."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _dash, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def available_memory() -> int | None:
    """Bytes of memory that are free or can become so without swapping, or None."""
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            found = re.search(r"^MemAvailable: *(\d+) kB", stream.read(), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None


def cpu_features() -> list[str]:
    """The features of this host's processor."""
    return parse_cpu_features(read("/proc/cpuinfo"))


def parse_cpu_features(cpuinfo: str) -> list[str]:
    """The processor's features in the text of C(/proc/cpuinfo), sorted ("flags" on x86, "Features" on ARM)."""
    for line in cpuinfo.splitlines():
        key, _colon, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return sorted(set(value.split()))
    return []


def listening_ports() -> list[str]:
    """Ports that something listens on, e.g. C(["22/tcp"])."""
    ports = parse_listening(read("/proc/net/tcp")) | parse_listening(read("/proc/net/tcp6"))
    return [f"{port}/tcp" for port in sorted(ports)]


def parse_listening(table: str) -> set[int]:
    """The listening ports in the text of C(/proc/net/tcp) or C(tcp6)."""
    rows = (line.split() for line in table.splitlines()[1:])
    return {int(row[1].rsplit(":", 1)[1], 16) for row in rows if len(row) > 3 and row[3] == "0A"}


def interfaces() -> list[str]:
    """Names of the network interfaces."""
    return sorted(name for _index, name in socket.if_nameindex())


def unreachable(address: str, port: int) -> str | None:
    """Why no TCP connection can be opened from here, as a clause; None where one can."""
    try:
        socket.create_connection((address, port), _PROBE_SECONDS).close()
    except OSError as error:
        return f"{address} port {port}: {error.strerror or error}"
    return None
