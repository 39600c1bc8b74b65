# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an archive and its manifest of what was staged: pack.py STAGED ARCHIVE FACTS.

FACTS is JSON for the manifest, which stands in the archive, as manifest.json, and beside it, as ARCHIVE.json, there
with the archive's own checksum.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import sys
import tarfile


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def files_of(directory):
    """Size and checksum of every file, by its path below the directory."""
    found = {}
    for folder, _folders, names in sorted(os.walk(directory)):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                found[os.path.relpath(path, directory)] = {"size": os.path.getsize(path), "sha256": sha256(path)}
    return found


def anonymous(member):
    """The same files make the same archive, whoever builds it, and whenever."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def write_archive(directory, archive):
    with (
        open(archive, "wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, 0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for name in sorted(os.listdir(directory)):
            tar.add(os.path.join(directory, name), arcname=name, filter=anonymous)


def main(staged, archive, facts):
    manifest = dict(json.loads(facts), files=files_of(staged))
    with open(os.path.join(staged, "manifest.json"), "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
    os.makedirs(os.path.dirname(archive), exist_ok=True)
    write_archive(staged, archive + ".new")
    manifest["archive"] = {"size": os.path.getsize(archive + ".new"), "sha256": sha256(archive + ".new")}
    os.rename(archive + ".new", archive)
    # Last: a manifest beside it says that the archive is whole.
    with open(archive + ".json.new", "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, sort_keys=True)
    os.rename(archive + ".json.new", archive + ".json")


if __name__ == "__main__":
    main(*sys.argv[1:])
