# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CRIU's program: where it is, its version and configuration; what it writes beside its images: statistics and logs.

The statistics are a protobuf message in CRIU's image framing: two magic numbers, a length, the message
(U(https://criu.org/Images), U(https://github.com/checkpoint-restore/criu/blob/criu-dev/images/stats.proto)).
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping

from ansible_collections.fog.migration.plugins.module_utils.criu import protobuf
from ansible_collections.fog.migration.plugins.module_utils.validate import one_sentence

SERVICE_MAGIC = 0x55105940  # IMG_SERVICE_MAGIC
STATS_MAGIC = 0x57093306  # STATS_MAGIC

# Field numbers of dump_stats_entry and restore_stats_entry. Times are in microseconds.
_DUMP = {
    1: "freezing_time",
    2: "frozen_time",
    3: "memdump_time",
    4: "memwrite_time",
    5: "pages_scanned",
    6: "pages_skipped_parent",
    7: "pages_written",
    9: "pages_lazy",
    12: "shpages_scanned",
    13: "shpages_skipped_parent",
    14: "shpages_written",
}
_RESTORE = {1: "pages_compared", 2: "pages_skipped_cow", 3: "forking_time", 4: "restore_time", 5: "pages_restored"}
# CRIU takes a value for these only as name=value. With a blank between, it silently goes without: criu 4.1.1 is content
# with "manage-cgroups nonsense".
_ONLY_AFTER_EQUALS = ("manage-cgroups", "cpu-cap")
_SECTIONS = {1: ("dump", _DUMP), 2: ("restore", _RESTORE)}


def decode_stats(data: bytes) -> dict:
    """The statistics in the bytes of a C(stats-dump) or C(stats-restore) image.

    :returns: e.g. C({"frozen_time": 52011, "pages_written": 33, ...}); times in microseconds, counts in pages.
    :raises ValueError: when these are no such bytes.
    """
    if len(data) < 12:
        raise ValueError("too short for a statistics image")
    service, magic, length = struct.unpack_from("<III", data)
    if (service, magic) != (SERVICE_MAGIC, STATS_MAGIC):
        raise ValueError("not a statistics image")
    if len(data) < 12 + length:
        raise ValueError("truncated statistics image")
    statistics = {}
    try:
        for number, message, _raw in protobuf.fields(data[12 : 12 + length]):
            if number in _SECTIONS:
                names = _SECTIONS[number][1]
                statistics.update(
                    {names[field]: value for field, value, _raw in protobuf.fields(message) if field in names}
                )
    except protobuf.ProtobufError as error:
        raise ValueError("malformed statistics image") from error
    return statistics


def read_stats(path: str) -> dict:
    """The statistics in the file at I(path), or an empty dictionary where there is none that can be read."""
    try:
        with open(path, "rb") as stream:
            return decode_stats(stream.read())
    except (OSError, ValueError):
        return {}


# Letters of a log that are read: names in it are those of the container.
_LONGEST_LOG = 16 << 20
# CRIU says the first at every start where root lacks CAP_SYS_RESOURCE, and the second where it tries once more to
# freeze processes; it goes on.
_HARMLESS = re.compile(r"RLIMIT_NOFILE|zombie \d+ \(comm .*\) found while seizing")


def log_tail(text: str, lines: int = 12) -> list[str]:
    """The lines of a CRIU log that tell why it failed: its errors and warnings, or its last lines if it has none."""
    all_lines = [line.rstrip() for line in text.splitlines() if line.strip() and not _HARMLESS.search(line)]
    telling = [line for line in all_lines if re.search(r"\b(Error|Warn)\b", line)]
    return (telling or all_lines)[-lines:]


def reason(lines: list[str]) -> str:
    """The clause that a sentence needs of these lines.

    It is CRIU's first error, of which the later ones are the consequence.
    """
    errors = [line for line in lines if "Error" in line]
    return f", CRIU said: {one_sentence(re.sub(r'^[^E]*Error ', '', errors[0])).rstrip('.')}" if errors else ""


def reason_in(path: str) -> str:
    """The same of the log at I(path), or nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return reason(log_tail(stream.read(_LONGEST_LOG)))
    except OSError:
        return ""


def parse_version(text: str) -> str | None:
    """The version in the output of C(criu --version), e.g. V(4.1.1)."""
    match = re.search(r"^Version:\s*v?(\S+)", text, re.MULTILINE)
    return match.group(1) if match else None


def parse_options(text: str) -> dict[str, str]:
    """The options in a configuration file of CRIU: C(name value), C(name=value) or C(name), a comment after C(#)."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return dict(_option(line) for line in lines if line)


def _option(line: str) -> tuple[str, str]:
    name, equals, value = re.findall(r"^(=*[^\s=]*)\s*(=?)\s*(.*)", line)[0]
    return name, value if equals or name not in _ONLY_AFTER_EQUALS else ""


def merge_options(text: str, options: dict) -> str:
    """The configuration file with these options set, and everything else in it as it was.

    An option that is there with the same value stays where it is; with another value, its line is replaced.
    """
    wanted, lines = {name: str(value) for name, value in options.items()}, []
    for line in text.splitlines():
        (name, value) = next(iter(parse_options(line).items()), ("", ""))
        if name not in options or value == wanted.get(name):
            lines.append(line)
        elif name in wanted:
            lines.append(_line(name, wanted[name]))
        wanted.pop(name, None)
    lines += [_line(name, value) for name, value in wanted.items()]
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, value: str) -> str:
    return f"{name}={value}" if value else name


# Up to which size a dump through our OCI runtime takes a deleted file along. All of it comes into CRIU's images.
GHOST_LIMIT = 32 << 20
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def ghost_limit(options: Mapping[str, str]) -> int:
    """Up to which size CRIU takes a deleted file along, by its configuration; 1 MiB if that says nothing."""
    match = re.fullmatch(r"(\d+)([KMG]?)", str(options.get("ghost-limit", "1M")))
    return int(match.group(1)) * _UNITS.get(match.group(2), 1) if match else 1 << 20


def configuration(path: str = "/etc/criu/runc.conf") -> str:
    """What a configuration file says, that for the OCI runtime if no other is named; nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _run(*command: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def find_criu() -> str | None:
    """Path of the C(criu) that this host's container runtime would run, or None."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin"])
    return shutil.which("criu", path=places)


def version() -> str | None:
    """CRIU's version on this host, or None where it is not installed."""
    path = find_criu()
    return parse_version(_run(path, "--version")[1]) if path else None
