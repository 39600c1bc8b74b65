# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root file system diff of a container: what overlay's upper directory holds, and what has changed in it since.

Whiteouts (devices 0/0) and opaque directories (an attribute in the C(trusted.overlay) namespace) are what overlay
itself keeps for deletions. Where there is no overlay (see C(docker.storage_drivers)), the folder with all files of
the container takes the place of the upper directory.

A snapshot is what such a folder holds, without contents: an entry for each name, which is relative to it, as bytes. Two
snapshots tell what has changed from the one to the other, as somebody sees it who looks at the container's root file
system.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import host

ARCHIVE = "rootfs.diff"
SNAPSHOT = "rootfs.json"


# ---------------------------------------------------------------------------------------------------------------------
# Snapshots

ROOT = b"."
# Nanoseconds. A file that was changed so short a time before may change again and show the same time: the clock of
# files moves in steps, in large ones where a file system knows seconds only, and a write sets the time when it begins.
FRESH, FRESH_SECONDS = 250_000_000, 2_250_000_000
_OPAQUE, _REDIRECT = "trusted.overlay.opaque", "trusted.overlay.redirect"
# Folders that CRIU makes in the container's root or its /tmp, mounts in, and removes while it dumps.
_OF_CRIU = re.compile(rb"(tmp/)?(\.criu\.|cr-tmpfs\.|crtools-)[^/]*")


class Entry(NamedTuple):
    """What a name is. Where nothing of it differs, and it is settled, the content is the same as well."""

    mode: int
    uid: int
    gid: int
    size: int
    inode: int
    changed: int  # ctime in nanoseconds
    device: int
    links: int
    overlay: str = ""  # of a directory: "opaque" when it hides the image's, or "redirect PATH" when it is one of those
    settled: bool = True  # a change after this was looked at would show

    def unsettled(self) -> Entry:
        """The same name, of which nothing is sure but that there is something."""
        return self._replace(settled=False)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_nothing(self) -> bool:
        """A whiteout, or a socket, which nobody but the process that listens to it can make."""
        return stat.S_ISSOCK(self.mode) or (stat.S_ISCHR(self.mode) and self.device == 0)

    def same(self, other: Entry) -> bool:
        """Whether both are the same object in the same state, as far as one can see."""
        return self[:8] == other[:8]


def entry(facts: os.stat_result, overlay: str = "", settled: bool = True) -> Entry:
    """The entry of what was looked at."""
    return Entry(
        facts.st_mode,
        facts.st_uid,
        facts.st_gid,
        0 if stat.S_ISDIR(facts.st_mode) else facts.st_size,
        facts.st_ino,
        facts.st_ctime_ns,
        facts.st_rdev,
        facts.st_nlink,
        overlay,
        settled,
    )


# Names that are looked at before one looks whether there is still memory for more, half a KiB each; and bytes that stay
# free.
_NAMES, _SPARE_MEMORY = 1 << 16, 128 << 20


def snapshot(upper: str, processes: Iterable[int] = (), place: str = "") -> dict[bytes, Entry]:
    """What I(upper) holds, without CRIU's own folders. What comes or goes meanwhile may be missing.

    :param upper: a folder.
    :param processes: the container's, if they run.
    :param place: where in the container it is; empty for the root file system.
    :raises MigrationError: when there is not enough memory for so many names.
    """
    now = time.time_ns()
    shared = shared_mappings(processes)
    mapped = below(os.fsencode(place), shared)
    top = os.fsencode(upper)
    facts = os.lstat(top)
    entries = {ROOT: entry(facts, settled=_is_old(facts.st_ctime_ns, now))}
    folders = [(b"", facts.st_ino)]
    while folders:
        prefix, inode = folders.pop()
        gone = contextlib.suppress(FileNotFoundError, NotADirectoryError)
        with gone, _listed(os.path.join(top, prefix), inode) as found:
            for item in found:
                name = prefix + os.fsencode(item.name)
                if not place and _OF_CRIU.fullmatch(name):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    facts = item.stat(follow_symlinks=False)
                    folder = stat.S_ISDIR(facts.st_mode)
                    overlay = _overlay(os.path.join(top, name)) if folder else ""
                    entries[name] = entry(facts, overlay, _is_old(facts.st_ctime_ns, now) and name not in mapped)
                    if folder:
                        folders.append((name + b"/", facts.st_ino))
                    if not len(entries) % _NAMES:
                        _require_memory(len(entries), host.available_memory())
    return entries


@contextlib.contextmanager
def _listed(folder: bytes, inode: int) -> Iterator[Iterable[os.DirEntry[str]]]:
    """What is in a folder that was looked at.

    :raises NotADirectoryError: when something else has its path by now. A link in it may lead out of the tree.
    """
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(here).st_ino != inode:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder)
        with os.scandir(here) as found:
            yield found
    finally:
        os.close(here)


def _require_memory(names: int, available: int | None) -> None:
    if available is not None and available < _SPARE_MEMORY:
        raise MigrationError(f"it has more files than there is memory to remember their names ({names} so far)")


def snapshot_of_file(path: bytes, processes: Iterable[int] = (), place: str = "") -> dict[bytes, Entry]:
    """The name of a file that is mounted alone; nothing, where it is gone. For the parameters see C(snapshot)."""
    now = time.time_ns()
    mapped = os.fsencode(place).strip(b"/") in shared_mappings(processes)
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return {}
    return {os.path.basename(path): entry(facts, settled=_is_old(facts.st_ctime_ns, now) and not mapped)}


def _is_old(changed: int, now: int) -> bool:
    return now - changed > (FRESH if changed % 1_000_000_000 else FRESH_SECONDS)


def _overlay(folder: bytes) -> str:
    """What overlay itself has noted on a directory."""
    there = os.listxattr(folder, follow_symlinks=False)
    if _OPAQUE in there and os.getxattr(folder, _OPAQUE, follow_symlinks=False) == b"y":
        return "opaque"
    if _REDIRECT in there:
        return "redirect " + text(os.getxattr(folder, _REDIRECT, follow_symlinks=False))
    return ""


def shared_mappings(processes: Iterable[int]) -> set[bytes]:
    """The files that these processes have mapped so that they can write to them, as seen from their root.

    The first such write to a page sets the file's time; further ones do not, until the kernel has written the page.
    """
    found: set[bytes] = set()
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{process}/maps", "rb") as maps:
            for line in maps:
                fields = line.rstrip(b"\n").split(None, 5)
                if len(fields) == 6 and fields[1][1:2] == b"w" and fields[1][3:4] == b"s":
                    found.add(fields[5].replace(b"\\012", b"\n").lstrip(b"/"))
    return found


def below(place: bytes, names: set[bytes]) -> set[bytes]:
    """Those of the names in a root file system that are below this place in it, relative to it."""
    prefix = place.strip(b"/") + b"/" if place else b""
    return {name[len(prefix) :] for name in names if name.startswith(prefix)}


def held(entries: dict[bytes, Entry], seen: dict[bytes, os.stat_result]) -> dict[bytes, Entry]:
    """What somebody holds who had nothing, and to whom of these entries all that was seen again was sent."""
    return {name: _as_sent(entries[name], entry(facts)) for name, facts in seen.items()}


def _as_sent(known: Entry, sent: Entry) -> Entry:
    if known.same(sent):
        return known
    return sent._replace(overlay=known.overlay if known.inode == sent.inode else "").unsettled()


def text(name: bytes) -> str:
    """A name for JSON."""
    return name.decode("utf-8", "surrogateescape")


def data(name: str) -> bytes:
    """The name that was made text."""
    return name.encode("utf-8", "surrogateescape")


def store(folder: str, entries: dict[bytes, Entry], path: str) -> None:
    """Keeps a snapshot of a folder in a file for root only."""
    names = {text(name): list(known) for name, known in entries.items()}
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as stream:
        json.dump({"folder": folder, "names": names}, stream, separators=(",", ":"))


def load(path: str) -> tuple[str, dict[bytes, Entry]]:
    """The folder and its snapshot that was kept."""
    with open(path, encoding="ascii") as stream:
        kept = json.load(stream)
    return kept["folder"], {data(name): Entry(*known) for name, known in kept["names"].items()}


# ---------------------------------------------------------------------------------------------------------------------
# Differences


class Difference(NamedTuple):
    """What makes the root file system of the one snapshot that of the other: removing first, then making in order."""

    removed: list[bytes]
    made: list[bytes]

    def __bool__(self) -> bool:
        return bool(self.removed or self.made)


def difference(old: dict[bytes, Entry], new: dict[bytes, Entry]) -> Difference:
    """What has changed from I(old) to I(new).

    :raises MigrationError: when a folder of the image was renamed in a way that cannot be told from here.
    """
    _require_no_renamed_folder(old, new)
    anew = {name for name, now in new.items() if _is_anew(old.get(name), now)}
    removed = {name for name, now in new.items() if now.is_nothing and not (name in old and old[name].is_nothing)}
    removed |= anew | {name for name, before in old.items() if name not in new and not before.is_nothing}
    made = {name for name, now in new.items() if not now.is_nothing and _differs(old.get(name), now)}
    made |= {name for name, now in new.items() if anew and not now.is_nothing and _is_below(name, anew)}
    made |= other_names(made, new)
    # Whatever is removed or made in it, a folder's times are to be those that it has here.
    made |= {parent for parent in map(parent_of, removed | made) if parent in new and new[parent].is_directory}
    return Difference(sorted(removed), sorted(made))


def _differs(old: Entry | None, now: Entry) -> bool:
    return old is None or not old.settled or not old.same(now)


def _is_anew(old: Entry | None, now: Entry) -> bool:
    """Whether this folder hides one of the image's, and did not yet."""
    return now.overlay == "opaque" and not (old and old.is_directory and old.overlay == "opaque")


def _require_no_renamed_folder(old: dict[bytes, Entry], new: dict[bytes, Entry]) -> None:
    """Overlay notes on such a folder where in the image its content is, and that cannot be written down elsewhere."""
    for name, now in new.items():
        before = old.get(name)
        known = before and (before.inode, before.overlay) == (now.inode, now.overlay)
        if now.overlay.startswith("redirect") and not known:
            raise MigrationError(
                f"it has renamed a folder of its image to /{name.decode('utf-8', 'replace')} since the migration "
                "began, which only a migration in cold mode takes along"
            )


def _is_below(name: bytes, folders: set[bytes]) -> bool:
    while name != ROOT:
        name = parent_of(name)
        if name in folders:
            return True
    return False


def doubt(entries: dict[bytes, Entry], names: set[bytes]) -> dict[bytes, Entry]:
    """The same entries, of which these and all that is below them are not sure any more."""
    if not names:
        return dict(entries)
    return {
        name: known.unsettled() if name in names or _is_below(name, names) else known for name, known in entries.items()
    }


def parent_of(name: bytes) -> bytes:
    """The folder that a name is in; the root is in itself."""
    return name.rpartition(b"/")[0] or ROOT


def other_names(names: set[bytes], entries: dict[bytes, Entry]) -> set[bytes]:
    """All names of the files with several names, of which one is among I(names): only together they stay one file."""
    inodes = {entries[name].inode for name in names if _has_several(entries[name])}
    return {name for name, known in entries.items() if _has_several(known) and known.inode in inodes}


def _has_several(known: Entry) -> bool:
    return known.links > 1 and not known.is_directory and not known.is_nothing
