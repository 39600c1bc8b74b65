# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image's archive, as C(docker save) writes it, without the layers that another server has.

C(docker load) does not open the file of a layer whose chain ID it knows (image/tarexport of 17.06 to 28), so that the
file may be missing. C(manifest.json) names the image's configuration and its layers' files, in order, in both formats:
C(ID/layer.tar) before Docker 25, where a layer that was saved already is a symbolic link to its file, and from then on
C(blobs/sha256/DIFFID).

From Docker 25 on there is a C(index.json) as well, in which containerd's image store looks for the image. There, an
image has the ID of its manifest, which stands in the index; elsewhere that of its configuration.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.validate import shown

MANIFEST, INDEX, LAYOUT = "manifest.json", "index.json", "oci-layout"
# Where the index has the names of an image: whole, or only its tag.
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
# What the index says of an image besides.
_TELLING = ("mediaType", "digest", "size", "platform")
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_CONTENT = re.compile(r"blobs/sha256/[0-9a-f]{64}")
_ID = re.compile(r"sha256:[0-9a-f]{64}")
# Bytes that are read at once, and those of a description in an archive.
_BLOCK, _LONGEST = 1 << 20, 8 << 20


def is_id(reference: str) -> bool:
    """Whether this is a whole ID of an image, which names its content, and no name that somebody gave it."""
    return bool(_ID.fullmatch(reference))


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

    # By its content: whoever loads it cannot get another image under it.
    id: str
    # Of its manifest, empty where there is no index.
    manifest_id: str
    # Its names, which it would have where it is loaded.
    tags: list[str]

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            with tarfile.open(path, "r:") as tar:
                members = tar.getmembers()
                sparse = next((member.name for member in members if member.issparse()), None)
                # It would be written out with its holes, which may be of any size.
                if sparse is not None:
                    raise ValueError(f"{shown(sparse)} in it is a sparse file, which Docker does not write")
                self.names = {member.name for member in members}
                self.links = {member.name: member.linkname for member in members if member.issym()}
                (image,) = self._json(tar, MANIFEST)
                self.files: list[str] = image["Layers"] or []
                self.config: str = image["Config"]
                config = self._read(tar, self.config)
                self.id = f"sha256:{hashlib.sha256(config).hexdigest()}"
                self.diff_ids: list[str] = json.loads(config)["rootfs"].get("diff_ids") or []
                listed = self._json(tar, INDEX)["manifests"] if INDEX in self.names else []
                self.manifest_id, self._listed = self._of_index(listed)
                names = [one["annotations"].get(key) for one in listed if one.get("annotations") for key in _NAMES]
                self.tags = sorted({*(image.get("RepoTags") or []), *filter(None, names)})
        except (tarfile.TarError, KeyError, TypeError, AttributeError, EOFError, ValueError, RecursionError) as error:
            raise ValueError(f"it is not an archive of one image ({error})") from error

    @staticmethod
    def _of_index(listed: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        """The ID of the manifest in an index, and what is said of it there; an image may be listed by each name."""
        found = {one["digest"]: one for one in listed}
        if len(found) > 1:
            raise ValueError(f"{INDEX} lists {len(found)}")
        return next(iter(found.items()), ("", {}))

    @classmethod
    def _json(cls, tar: tarfile.TarFile, name: str) -> Any:
        return json.loads(cls._read(tar, name))

    @staticmethod
    def _read(tar: tarfile.TarFile, name: str) -> bytes:
        stream = tar.extractfile(name)
        if stream is None:
            raise ValueError(f"{name} is not a file in it")
        data = stream.read(_LONGEST + 1)
        if len(data) > _LONGEST:
            raise ValueError(f"{name} in it has more than {_LONGEST} bytes")
        return data

    def strangeness(self, image: str) -> str:
        """What makes it another archive than that of this image alone, a clause, or an empty string.

        :param image: its ID, in whichever store it is.
        """
        if image not in (self.id, self.manifest_id):
            return f"it holds the image {self.id}"
        return f"it would give the image the names {', '.join(self.tags)}" if self.tags else ""

    def alone(self) -> Iterator[bytes]:
        """The bytes of an archive with this image and nothing else, made anew.

        Programs differ in how they read an archive that was made to deceive: a file that is there twice, or below a
        link. This one has regular files only, each of them once, and its lists are made here.

        :raises ValueError: when what is listed is no name of a file.
        :raises OSError, tarfile.TarError: when the archive cannot be read.
        """
        layers = [self._regular(name) for name in self.files]
        strange = [name for name in (self.config, *layers) if name.startswith("/") or ".." in name.split("/")]
        if strange:
            raise ValueError(f"{strange[0]} is not a file in it")
        yield from self._copied({self.config, *layers, LAYOUT})
        yield from _member(MANIFEST, [{"Config": self.config, "RepoTags": None, "Layers": layers}])
        if self.manifest_id:
            kept = {key: value for key, value in self._listed.items() if key in _TELLING}
            yield from _member(INDEX, {"schemaVersion": 2, "mediaType": _OCI_INDEX, "manifests": [kept]})
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _regular(self, name: str) -> str:
        """The file that this name leads to; a layer that was left out has none, and keeps its name."""
        seen: set[str] = set()
        while name in self.links and name not in seen:
            seen.add(name)
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), self.links[name]))
        return name

    def _copied(self, wanted: Collection[str]) -> Iterator[bytes]:
        """The regular files of these names, and all that are named by their content."""
        with tarfile.open(self.path, "r:") as tar:
            files = {member.name: member for member in tar if member.isreg() and member.name not in (MANIFEST, INDEX)}
            for name, member in files.items():
                stream = tar.extractfile(member) if name in wanted or _CONTENT.fullmatch(name) else None
                if stream:
                    yield _header(name, member.size)
                    yield from iter(lambda read=stream.read: read(_BLOCK), b"")  # type: ignore[misc]
                    yield _padding(member.size)

    def to_leave_out(self, there: Collection[str]) -> set[str]:
        """Names of the layers' files that are not wanted where there are layers with these chain IDs."""
        return files_to_leave_out(self.files, self.links, layers_there(self.diff_ids, there))

    def serves(self, there: Collection[str]) -> bool:
        """Whether the archive holds what is wanted where there are layers with these chain IDs, and no more."""
        return set(self.files) - self.names == self.to_leave_out(there)


def _member(name: str, value: Any) -> Iterator[bytes]:
    content = json.dumps(value).encode()
    yield _header(name, len(content))
    yield content
    yield _padding(len(content))


def _header(name: str, size: int) -> bytes:
    known = tarfile.TarInfo(name)
    known.size = size
    return known.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    """What is missing to the next block."""
    return bytes(-size % tarfile.BLOCKSIZE)


def copy_without(whole: str, target: str, left_out: Collection[str]) -> None:
    """Writes an archive anew, all but the files of these names."""
    with tarfile.open(whole, "r:") as source, tarfile.open(target, "w") as tar:
        for member in source:
            if member.name not in left_out:
                tar.addfile(member, source.extractfile(member) if member.isreg() else None)
