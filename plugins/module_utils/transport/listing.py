# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a directory is: a listing of its paths, sizes, modes and checksums.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK
from ansible_collections.fog.migration.plugins.module_utils.validate import DEEPEST, check_path, is_whole, shown

if TYPE_CHECKING:
    from _hashlib import HASH as Hash

MANIFEST = "manifest.json"


def check_entry(entry: object) -> str | None:
    """Why this is not an entry of a listing, or None."""
    if not isinstance(entry, dict):
        return "an entry that is not an object"
    problem = None if entry.get("path") == "." and entry.get("dir") is True else check_path(entry.get("path"))
    if problem:
        return problem
    mode = entry.get("mode")
    if not is_whole(mode) or mode > 0o777:
        return f"{shown(entry['path'])} with the mode {shown(mode)}"
    if entry.get("dir") is True:
        return None
    size, checksum = entry.get("size"), entry.get("sha256")
    if not is_whole(size) or size >= 2**63:
        return f"{shown(entry['path'])} with the size {shown(size)}"
    if not isinstance(checksum, str) or len(checksum) != 64 or checksum.strip("0123456789abcdef"):
        return f"{shown(entry['path'])} with the checksum {shown(checksum)}"
    return None


def check_listing(entries: list) -> None:
    """Raises Refused when a listing is not one that may be written to disk."""
    seen: dict[str, dict] = {}
    for entry in entries:
        problem = check_entry(entry)
        if problem:
            raise Refused(f"the listing names {problem}")
        if entry["path"] in seen:
            raise Refused(f"the listing names {shown(entry['path'])} twice")
        seen[entry["path"]] = entry
    if not seen.get(".", {}).get("dir"):
        raise Refused("the listing does not name the directory itself")
    for path in seen:
        parent = path.rpartition("/")[0]
        if path != "." and not seen.get(parent or ".", {}).get("dir"):
            raise Refused(f"the listing names {shown(path)}, but not the directory that it is in")


def scan(root: str) -> list[dict]:
    """Everything under root, parents first, without checksums."""
    entries = [{"path": ".", "dir": True, "mode": stat.S_IMODE(os.lstat(root).st_mode) & 0o777}]

    def visit(directory: str, prefix: str) -> None:
        if prefix.count("/") >= DEEPEST:
            raise Refused(f"{root} is more than {DEEPEST} levels deep and was not sent")
        for item in sorted(os.scandir(directory), key=lambda found: found.name):
            path = prefix + item.name
            info = item.stat(follow_symlinks=False)
            mode = stat.S_IMODE(info.st_mode) & 0o777
            if stat.S_ISDIR(info.st_mode):
                entries.append({"path": path, "dir": True, "mode": mode})
                visit(item.path, path + "/")
            elif stat.S_ISREG(info.st_mode):
                entries.append({"path": path, "size": info.st_size, "mode": mode})
            else:
                raise Refused(f"{item.path} is neither a plain file nor a directory; nothing else is carried")

    visit(root, "")
    return entries


def files_of(entries: list[dict]) -> list[dict]:
    return [entry for entry in entries if not entry.get("dir")]


def total_size(entries: list[dict]) -> int:
    return sum(entry["size"] for entry in files_of(entries))


def hash_file(path: str, length: int | None = None, on_progress: Callable[[], None] | None = None) -> tuple[Hash, int]:
    """The running sha256 of the first `length` bytes (all, if None), and how many bytes it has seen."""
    checksum, seen = hashlib.sha256(), 0
    with open(path, "rb") as stream:
        while length is None or seen < length:
            data = stream.read(CHUNK if length is None else min(CHUNK, length - seen))
            if not data:
                break
            checksum.update(data)
            seen += len(data)
            if on_progress:
                on_progress()
    return checksum, seen


def sums_of_manifest(value: object) -> dict[str, tuple[int, str]] | None:
    """{path: (size, sha256)} when this is the manifest of a checkpoint, or None when it is some other file."""
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(files, dict) or not files:
        return None
    sums = {}
    for path, facts in files.items():
        size, checksum = (facts.get("size"), facts.get("sha256")) if isinstance(facts, dict) else (None, None)
        if not is_whole(size) or not isinstance(checksum, str):
            return None
        sums[path] = (size, checksum)
    return sums


def read_manifest(root: str) -> dict[str, tuple[int, str]] | None:
    try:
        with open(os.path.join(root, MANIFEST), "rb") as stream:
            return sums_of_manifest(json.loads(stream.read().decode("utf-8")))
    except (OSError, ValueError, RecursionError):
        return None


def compare_with_manifest(entries: list[dict], sums: dict[str, tuple[int, str]]) -> str | None:
    """Why a directory is not what its manifest says, or None."""
    on_disk = {entry["path"]: entry["size"] for entry in files_of(entries) if entry["path"] != MANIFEST}
    for path in sorted(sums):
        if path not in on_disk:
            return f"{path} is in the manifest but not there"
        if on_disk[path] != sums[path][0]:
            return f"{path} has {on_disk[path]} bytes, the manifest says {sums[path][0]}"
    for path in sorted(on_disk):
        if path not in sums:
            return f"{path} is there but not in the manifest"
    return None


def listing(root: str, trust_manifest: bool = True, on_progress: Callable[[], None] | None = None) -> list[dict]:
    """Everything under root with its checksums: from the manifest where there is one, else computed."""
    entries = scan(root)
    sums = read_manifest(root) if trust_manifest else None
    if sums is not None:
        problem = compare_with_manifest(entries, sums)
        if problem:
            raise Refused(f"{root} is damaged and was not sent: {problem}")
    for entry in files_of(entries):
        if sums is not None and entry["path"] in sums:
            entry["sha256"] = sums[entry["path"]][1]
        else:
            checksum, entry["size"] = hash_file(os.path.join(root, entry["path"]), None, on_progress)
            entry["sha256"] = checksum.hexdigest()
    return entries


def digest(entries: list[dict]) -> str:
    """One checksum for a whole listing: the same directory gives the same one on every host."""
    plain = sorted([e["path"], e.get("size", -1), e.get("sha256", ""), e["mode"]] for e in entries)
    return hashlib.sha256(json.dumps(plain).encode("ascii")).hexdigest()
