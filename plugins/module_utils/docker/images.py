# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image's archive, as C(docker save) writes it, without the layers that another server has.

C(docker load) does not open the file of a layer whose chain ID it knows (image/tarexport of 17.06 to 28), so that the
file may be missing. C(manifest.json) names the image's configuration and its layers' files, in order, in both formats:
C(ID/layer.tar) before Docker 25, where a layer that was saved already is a symbolic link to its file, and from then on
C(blobs/sha256/DIFFID).
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from collections.abc import Collection, Mapping
from typing import Any

MANIFEST = "manifest.json"


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain ID of each layer, which names its content and all below it, from the digests of the layers alone."""
    chains: list[str] = []
    for diff_id in diff_ids:
        below = f"{chains[-1]} " if chains else ""
        chains.append(f"sha256:{hashlib.sha256((below + diff_id).encode()).hexdigest()}" if below else diff_id)
    return chains


def layers_there(diff_ids: list[str], there: Collection[str]) -> int:
    """How many of an image's layers, from the lowest on, are among these chain IDs."""
    chains = chain_ids(diff_ids)
    return next((number for number, chain in enumerate(chains) if chain not in there), len(chains))


def files_to_leave_out(files: list[str], links: Mapping[str, str], count: int) -> set[str]:
    """Which files the archive can do without when the lowest I(count) layers need none.

    :param files: the layers' files in order; one file may be that of several layers.
    :param links: targets of the archive's symbolic links, by name, relative to the link as in a file system.
    """
    needed: set[str] = set()
    for name in files[count:]:
        while name not in needed:
            needed.add(name)
            if name in links:
                name = posixpath.normpath(posixpath.join(posixpath.dirname(name), links[name]))
    return set(files[:count]) - needed


class Archive:
    """What an archive with one image says of it.

    :raises ValueError: when it is not such an archive.
    """

    def __init__(self, path: str) -> None:
        try:
            with tarfile.open(path, "r:") as tar:
                members = tar.getmembers()
                self.names = {member.name for member in members}
                self.links = {member.name: member.linkname for member in members if member.issym()}
                (image,) = self._json(tar, MANIFEST)
                self.files: list[str] = image["Layers"] or []
                self.tags: list[str] = sorted(image.get("RepoTags") or [])
                self.id = "sha256:" + posixpath.basename(image["Config"]).partition(".")[0]
                self.diff_ids: list[str] = self._json(tar, image["Config"])["rootfs"].get("diff_ids") or []
        except (tarfile.TarError, KeyError, TypeError, AttributeError, EOFError) as error:
            raise ValueError(f"it is not an archive of one image ({error})") from error

    @staticmethod
    def _json(tar: tarfile.TarFile, name: str) -> Any:
        stream = tar.extractfile(name)
        if stream is None:
            raise ValueError(f"{name} is not a file in it")
        return json.load(stream)

    def to_leave_out(self, there: Collection[str]) -> set[str]:
        """Names of the layers' files that are not wanted where there are layers with these chain IDs."""
        return files_to_leave_out(self.files, self.links, layers_there(self.diff_ids, there))

    def serves(self, there: Collection[str]) -> bool:
        """Whether the archive holds what is wanted where there are layers with these chain IDs, and no more."""
        return set(self.files) - self.names == self.to_leave_out(there)


def copy_without(whole: str, target: str, left_out: Collection[str]) -> None:
    """Writes an archive anew, all but the files of these names."""
    with tarfile.open(whole, "r:") as source, tarfile.open(target, "w") as tar:
        for member in source:
            if member.name not in left_out:
                tar.addfile(member, source.extractfile(member) if member.isreg() else None)
