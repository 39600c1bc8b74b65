# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files as a stream: what is to be removed from a tree of files, and what is to be made in it.

A record is the length of its head (four bytes, big endian), the head (an object in JSON), and for a file its content,
without the holes. No length is the end. A large file comes in blocks, each after its offset (eight bytes) and its
length (four bytes), up to one without a length; of one that came before (C(patch)), only those that have changed.

Neither end follows a symbolic link in the tree, not even in the middle of a name: at the source a container that runs
could exchange a folder for a link to a secret of its host, and at the destination a source could send a link first and
then something that is written through it. What leads to the tree itself is looked at by C(roots).

The tree is the root file system of a container, or a layer of it: overlay's own directory, in which whiteouts and
attributes of overlay tell what was deleted.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import base64
import contextlib
import errno
import itertools
import json
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import blocks as _blocks
from ansible_collections.fog.migration.plugins.module_utils.filesystem.snapshot import (
    ROOT,
    data,
    entry,
    parent_of,
    text,
)
from ansible_collections.fog.migration.plugins.module_utils.system import files
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK
from ansible_collections.fog.migration.plugins.module_utils.validate import is_whole, load_json, shown

_LENGTH = struct.Struct(">I")
_BLOCK = struct.Struct(">QI")
# Bytes of the head of a file: so many pieces of data and attributes as there are, and no more, since they take thirty
# times as much in memory.
_LONGEST_HEAD = 4 * 1024 * 1024
# Pieces of data between holes that are named in the head of a file. One that has more comes in blocks.
_MOST_EXTENTS = 10_000
# Where the last page begins that a file can have.
_LAST_PAGE = (1 << 63) - 4096
# Bytes, and how many times less of them a disk holds, of a file that a file system says to have no holes: to read all
# of it would take hours. What is compressed well holds a 32nd part.
_ENDLESS, _SPARSE = 1 << 40, 1 << 10
# Bytes that the names of folders, and of what hides something, may take while a stream is read: some millions.
_MOST_REMEMBERED, _REMEMBERED = 1 << 30, 300
# A name that is gone, or has become something else in the middle.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_CAPABILITY = "security.capability"
_ATTRIBUTES = ("user.", "trusted.", _CAPABILITY, "system.posix_acl_")
_OVERLAY = "trusted.overlay."
# Of those, handles of inodes of one file system, and what says that there are any: they mean nothing on another one.
_FOREIGN = tuple(_OVERLAY + name for name in ("origin", "impure", "nlink", "uuid"))
_OPAQUE, _REDIRECT, _METACOPY = (_OVERLAY + name for name in ("opaque", "redirect", "metacopy"))
# What hides a name of the layers below.
_WHITEOUT = {"mode": stat.S_IFCHR, "owner": [0, 0], "times": [0, 0], "attributes": {}, "device": [0, 0]}
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# Neither waits: not for who holds a lease on a file, and not for the other end of a pipe.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_OLD = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """Names below a folder, reached without following a link. A context manager."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, _PATH | os.O_DIRECTORY)
        self._folder: bytes | None = None
        self._descriptor = -1

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.forget()
        os.close(self._root)

    def forget(self) -> None:
        """The folder of the last name is looked up again."""
        if self._folder is not None:
            os.close(self._descriptor)
        self._folder = None

    def place(self, name: bytes) -> tuple[int, bytes]:
        """Descriptor of the folder that a name is in, valid until the next call, and the rest of the name.

        :raises Refused: when the name leads out of the tree.
        """
        parts = name.split(b"/")
        if name != ROOT and (b"\0" in name or any(part in (b"", b".", b"..") for part in parts)):
            raise Refused(f"{shown(name)} is not a relative path below the folder")
        folder = parent_of(name)
        if folder != self._folder:
            self.forget()
            self._descriptor = self._walk(parts[:-1])
            self._folder = folder
        return self._descriptor, parts[-1]

    def _walk(self, parts: list[bytes]) -> int:
        descriptor = os.dup(self._root)
        for part in parts:
            try:
                below = os.open(part, _PATH | os.O_DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor


def _attributes(folder: int, last: bytes) -> bytes:
    """Path of a name for the calls that take no descriptor of a folder."""
    return os.path.join(b"/proc/self/fd/%d" % folder, last)


def attributes_of(path: bytes, layer: bool = False) -> dict[str, str]:
    """The extended attributes that belong to a file, not to the place where it is kept; by name, in base64."""
    names = [name for name in os.listxattr(path, follow_symlinks=False) if _belongs(name, layer)]
    return {
        text(os.fsencode(name)): base64.b64encode(os.getxattr(path, name, follow_symlinks=False)).decode("ascii")
        for name in names
    }


def _belongs(name: str, layer: bool) -> bool:
    if name.startswith(_OVERLAY):
        return layer and name not in _FOREIGN
    return name.startswith(_ATTRIBUTES)


def save(
    root: str,
    archive: str,
    names: Iterable[bytes],
    layer: bool = True,
    hidden: Iterable[bytes] = (),
    removed: Iterable[bytes] = (),
    blocks: _blocks.Blocks | None = None,
    runs: bool = False,
) -> dict[bytes, os.stat_result]:
    """Writes these names of a layer to a file that only root can read; the facts of what was there, by name.

    :param layer: whether I(root) is a layer; otherwise it holds all files, and these names are what differs.
    :param hidden: what was deleted; a layer has whiteouts of its own.
    :param removed: names to remove where this is applied.
    :param blocks: what there is of large files where this is applied, see C(Packer).
    :param runs: whether who uses the files goes on: then one that cannot be opened now is as one that is gone.
    :raises OSError: when something cannot be read.
    """
    descriptor = os.open(archive, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=CHUNK) as stream:
        packer = Packer(root, stream.write, layer=layer, blocks=blocks)
        seen = packer.pack(removed, sorted(names), sorted(hidden))
    if packer.leased and not runs:
        raise OSError(errno.EWOULDBLOCK, leased(packer.leased))
    return seen


def leased(names: list[bytes]) -> str:
    """Why these files could not be opened, as a clause."""
    return f"a process of the container holds a lease on /{names[0].decode('utf-8', 'backslashreplace')}"


def apply(
    archive: str, root: str, layer: bool = True, only: bytes | None = None, make: type[Unpacker] | None = None
) -> None:
    """Makes an empty layer equal to the one that was saved.

    :param layer: whether I(root) is a layer; otherwise it holds all files of the image, and becomes what both make.
    :param only: see C(Unpacker).
    :param make: what unpacks a layer instead of C(Unpacker).
    :raises Refused: when something cannot be written, or the file is no such archive.
    """
    with open(archive, "rb") as stream:

        def read(count: int) -> bytes:
            data = stream.read(count)
            if len(data) < count:
                raise Refused("the archive of its files is cut off")
            return data

        ((make or Unpacker)(root, read, layer=True, only=only) if layer else Merger(root, read)).unpack()


# ---------------------------------------------------------------------------------------------------------------------
# The source


class Packer:
    """Writes one stream.

    :param write: is called with bytes.
    :param layer: whether I(root) is a layer.
    :param blocks: what the destination has of large files, see C(blocks); None where it has nothing.
    :param states: the checksums of large files, where they are known already, see C(block_states).

    A file on which somebody holds a lease for writing is asked for, left out, and among C(leased). The kernel has told
    the holder to give it back then, and takes it away after some time (C(/proc/sys/fs/lease-break-time)): one that runs
    can answer, one that stands still cannot.
    """

    def __init__(
        self,
        root: str,
        write: Callable[[bytes], object],
        layer: bool = False,
        blocks: _blocks.Blocks | None = None,
        states: dict[bytes, _blocks.State] | None = None,
    ) -> None:
        self.leased: list[bytes] = []
        self._root = root
        self._write = write
        self._layer = layer
        self._blocks = blocks
        self._states = states or {}
        self._links: dict[int, bytes] = {}

    def pack(
        self, removed: Iterable[bytes], made: Iterable[bytes], hidden: Iterable[bytes] = ()
    ) -> dict[bytes, os.stat_result]:
        """Everything; the facts of what was made, by name. What is gone meanwhile is not among them.

        :param hidden: for which names to make whiteouts.
        """
        seen: dict[bytes, os.stat_result] = {}
        with Tree(self._root) as tree:
            for name in removed:
                self._head({"remove": text(name)})
                if self._blocks:
                    self._blocks.forget(name)
            wanted = set(made)
            for name in made:
                parent = parent_of(name)
                # What is in a folder that is gone is gone, even if another folder has that name by now.
                if name != ROOT and parent in wanted and not (parent in seen and stat.S_ISDIR(seen[parent].st_mode)):
                    continue
                try:
                    seen[name] = self._one(tree, name)
                except BlockingIOError:
                    self.leased.append(name)
                except OSError as exc:
                    if exc.errno not in _GONE:
                        raise
        for name in hidden:
            self._head(dict(_WHITEOUT, name=text(name)))
        self._write(_LENGTH.pack(0))
        return seen

    def _head(self, head: dict) -> None:
        text_of_it = json.dumps(head, separators=(",", ":")).encode("ascii")
        self._write(_LENGTH.pack(len(text_of_it)))
        self._write(text_of_it)

    def _one(self, tree: Tree, name: bytes) -> os.stat_result:
        folder, last = tree.place(name)
        descriptor = os.open(last, _PATH, dir_fd=folder)
        try:
            facts = os.fstat(descriptor)
            self._object(name, facts, descriptor, _attributes(folder, last))
        finally:
            os.close(descriptor)
        return facts

    def _object(self, name: bytes, facts: os.stat_result, descriptor: int, path: bytes) -> None:
        if entry(facts).is_nothing and not (self._layer and stat.S_ISCHR(facts.st_mode)):
            raise FileNotFoundError(errno.ENOENT, "it is gone", path)
        several = facts.st_nlink > 1 and not stat.S_ISDIR(facts.st_mode)
        if several and facts.st_ino in self._links:
            self._head({"name": text(name), "link": text(self._links[facts.st_ino])})
            return
        head = {
            "name": text(name),
            "mode": facts.st_mode,
            "owner": [facts.st_uid, facts.st_gid],
            "times": [facts.st_atime_ns, facts.st_mtime_ns],
            "attributes": attributes_of(path, self._layer),
        }
        if stat.S_ISREG(facts.st_mode) and self._blocks and facts.st_size >= _blocks.LARGE:
            self._large_file(head, name, descriptor, facts, self._blocks)
        elif stat.S_ISREG(facts.st_mode):
            self._file(head, descriptor, facts.st_size)
        elif stat.S_ISLNK(facts.st_mode):
            self._head(dict(head, target=text(os.readlink(b"", dir_fd=descriptor))))
        else:
            self._head(dict(head, device=[os.major(facts.st_rdev), os.minor(facts.st_rdev)]))
        if several:
            self._links[facts.st_ino] = name

    def _file(self, head: dict, descriptor: int, size: int) -> None:
        with _reading(descriptor) as file:
            found = extents_of(file, size)
            extents = list(itertools.islice(found, _MOST_EXTENTS + 1))
            if len(extents) > _MOST_EXTENTS:
                self._head(dict(head, size=size, blocks=True, patch=False))
                self._in_blocks(file, itertools.chain(extents, found))
                return
            self._head(dict(head, size=size, extents=extents))
            for offset, length in extents:
                self._content(file, offset, length)

    def _in_blocks(self, file: int, extents: Iterable[tuple[int, int]]) -> None:
        for offset, length in extents:
            for begin in range(offset, offset + length, CHUNK):
                part = min(CHUNK, offset + length - begin)
                self._write(_BLOCK.pack(begin, part))
                self._content(file, begin, part)
        self._write(_BLOCK.pack(0, 0))

    def _large_file(
        self, head: dict, name: bytes, descriptor: int, facts: os.stat_result, blocks: _blocks.Blocks
    ) -> None:
        """The blocks of it that the destination does not have. What it has then is remembered."""
        before = blocks.state(name, facts.st_ino)
        given = self._states.get(name)
        state = _blocks.State() if given is None else given
        with _reading(descriptor) as file:
            extents = extents_of(file, facts.st_size)
            self._head(dict(head, size=facts.st_size, blocks=True, patch=before is not None))
            for block in _blocks.read(file, extents, facts.st_size, before, given):
                for offset, part in block.parts:
                    self._write(_BLOCK.pack(offset, len(part)))
                    self._write(part)
                if given is None and block.digest is not None and len(state) <= _blocks.MOST_OF_FILE:
                    state.add(block.number, block.digest)
        self._write(_BLOCK.pack(0, 0))
        blocks.note(name, facts.st_ino, state)

    def _content(self, descriptor: int, offset: int, length: int) -> None:
        while length:
            part = os.pread(descriptor, min(CHUNK, length), offset)
            # It became shorter just now. Then it has another time as well, and is sent again.
            part = part or bytes(min(CHUNK, length))
            self._write(part)
            offset, length = offset + len(part), length - len(part)


def block_states(root: str, names: Iterable[bytes]) -> dict[bytes, _blocks.State]:
    """The checksums of the blocks of those of these files that are large, which nobody writes meanwhile."""
    found: dict[bytes, _blocks.State] = {}
    left = _blocks.MOST
    with Tree(root) as tree:
        for name in names:
            with contextlib.suppress(OSError):
                folder, last = tree.place(name)
                state = _state_of(os.open(last, _PATH, dir_fd=folder))
                if state is not None and len(state) <= left:
                    found[name] = state
                    left -= len(state)
    return found


def _state_of(descriptor: int) -> _blocks.State | None:
    """The checksums of one file, which is closed then; None of one that is not large, not a file, or has too many."""
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size < _blocks.LARGE:
            return None
        with _reading(descriptor) as file:
            return _blocks.checksums(file, extents_of(file, facts.st_size), facts.st_size)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reading(descriptor: int) -> Iterator[int]:
    """The file of which this is a place, open for reading.

    Only now that it is known to be a file: opening a device may already do something.

    :raises BlockingIOError: when somebody holds a lease on it.
    """
    file = os.open(f"/proc/self/fd/{descriptor}", _READ)
    try:
        yield file
    finally:
        os.close(file)


def extents_of(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file of this size has data, as offsets and lengths; the rest is holes.

    :raises OSError: when its file system does not tell, and there must be holes almost everywhere.
    """
    position = 0
    while position < size:
        try:
            begin = os.lseek(descriptor, position, os.SEEK_DATA)
            end = min(os.lseek(descriptor, begin, os.SEEK_HOLE), size)
        except OSError as exc:
            if exc.errno == errno.ENXIO:
                break
            if exc.errno != errno.EINVAL:
                raise
            begin, end = position, size
        if end - begin >= _ENDLESS:
            _require_data(end - begin, os.fstat(descriptor).st_blocks * 512)
        if begin < end:
            yield begin, end - begin
        position = max(end, begin + 1)
    if position <= _LAST_PAGE < size:
        # The kernel does not find what is there.
        yield _LAST_PAGE, size - _LAST_PAGE


def _require_data(length: int, held: int) -> None:
    """A file system that knows no holes says that everything is data."""
    if held * _SPARSE < length:
        raise OSError(
            errno.EFBIG,
            f"a file has {length} bytes, of which {held} are on its disk, and its file system does not tell which",
        )


# ---------------------------------------------------------------------------------------------------------------------
# The destination


class Unpacker:
    """Reads one stream, and makes the tree accordingly.

    :param read: is called with a number, and returns so many bytes.
    :param layer: whether I(root) is a layer.
    :param only: the name of the one file that the stream may be of; None where it may be of everything below I(root).
    """

    def __init__(
        self, root: str, read: Callable[[int], bytes | bytearray], layer: bool = False, only: bytes | None = None
    ) -> None:
        self._root = root
        self._read = read
        self._layer = layer
        self._only = only
        self._folders: dict[str, list[int]] = {}
        self._remembered = 0
        self._space = files.Space(root)

    def unpack(self) -> int:
        """Everything; how many names were removed or made.

        :raises Refused: when the stream is none, or something cannot be written.
        """
        count = 0
        with Tree(self._root) as tree:
            while (head := self._next()) is not None:
                self._guarded(self._obey, tree, head)
                count += 1
            # What was made in them has changed their times.
            for name, times in self._folders.items():
                self._guarded(self._set_times, tree, {"name": name, "times": times})
        return count

    def _remember(self, name: str) -> None:
        """Counts what is kept of a name up to the end of the stream.

        :raises Refused: when it is more than fits into memory for sure.
        """
        self._remembered += len(name) + _REMEMBERED
        if self._remembered > _MOST_REMEMBERED:
            raise Refused("the source sent more folders than this server can remember")

    @staticmethod
    def _guarded(work: Callable[[Tree, dict], None], tree: Tree, head: dict) -> None:
        try:
            work(tree, head)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as exc:
            raise Refused(f"the source sent a malformed file record ({exc})") from exc
        except OSError as exc:
            name = str(head.get("name", head.get("remove"))).encode("ascii", "replace").decode("ascii")
            raise Refused(f"/{name} could not be written at the destination ({exc.strerror or exc})") from exc

    @staticmethod
    def _set_times(tree: Tree, head: dict) -> None:
        """By now it may be something else that has this name: nothing may follow it."""
        folder, last = tree.place(data(head["name"]))
        os.utime(last, ns=tuple(head["times"]), dir_fd=folder, follow_symlinks=False)

    def _next(self) -> dict | None:
        """The next head, or None at the end."""
        length = _LENGTH.unpack(self._read(_LENGTH.size))[0]
        if length > _LONGEST_HEAD:
            raise Refused(f"the source sent the description of a file of {length} bytes, which is too long")
        try:
            head = load_json(self._read(length).decode("ascii")) if length else None
        except (ValueError, RecursionError) as exc:
            raise Refused("the source sent the description of a file that is not a JSON object") from exc
        if length and not isinstance(head, dict):
            raise Refused("the source sent the description of a file that is not a JSON object")
        return head

    def _obey(self, tree: Tree, head: dict) -> None:
        # Anything else could be written over, or a link put where a file is to be mounted.
        if self._only and (data(head.get("name", "")) != self._only or not stat.S_ISREG(head.get("mode", 0))):
            raise Refused(f"the source sent something other than the file {text(self._only)}")
        if "remove" in head:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._remove(tree, data(head["remove"]))
            return
        name = data(head["name"])
        # What it is called and described by takes room as well.
        self._space.take(files.LEAST)
        if "link" in head:
            self._link(tree, name, data(head["link"]))
        elif stat.S_ISDIR(head["mode"]):
            self._folder(tree, name)
            self._describe(*tree.place(name), head)
            if head["name"] not in self._folders:
                self._remember(head["name"])
            self._folders[head["name"]] = list(map(int, head["times"]))
        elif head.get("patch"):
            folder, last = tree.place(name)
            self._patch(folder, last, head)
            self._describe(folder, last, head)
        else:
            self._remove(tree, name)
            folder, last = tree.place(name)
            self._make(folder, last, head)
            self._describe(folder, last, head)

    def _remove(self, tree: Tree, name: bytes) -> None:
        """Whatever it is, with all that is below it."""
        if name == ROOT:
            raise Refused("the source requested the removal of the root folder")
        folder, last = tree.place(name)
        try:
            facts = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(facts.st_mode):
            files.remove_folder(last, folder)
            # It may have been the folder of the next name.
            tree.forget()
        else:
            os.unlink(last, dir_fd=folder)

    def _folder(self, tree: Tree, name: bytes) -> None:
        folder, last = tree.place(name)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                return
            os.unlink(last, dir_fd=folder)
        os.mkdir(last, 0o700, dir_fd=folder)

    def _link(self, tree: Tree, name: bytes, first: bytes) -> None:
        self._remove(tree, name)
        source, last = tree.place(first)
        source = os.dup(source)
        try:
            folder, new = tree.place(name)
            os.link(last, new, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(source)

    def _make(self, folder: int, last: bytes, head: dict) -> None:
        if stat.S_ISREG(head["mode"]):
            self._file(folder, last, head)
        elif stat.S_ISLNK(head["mode"]):
            os.symlink(data(head["target"]), last, dir_fd=folder)
        else:
            os.mknod(last, stat.S_IFMT(head["mode"]) | 0o600, os.makedev(*head["device"]), dir_fd=folder)

    def _file(self, folder: int, last: bytes, head: dict) -> None:
        size = _whole(head["size"])
        handle = os.open(last, _NEW, 0o600, dir_fd=folder)
        with os.fdopen(handle, "wb", buffering=0) as stream:
            if head.get("blocks"):
                self._blocks(handle, size)
            else:
                self._extents(handle, head["extents"], size)
            stream.truncate(size)

    def _extents(self, handle: int, extents: list[list[int]], size: int) -> None:
        for offset, length in extents:
            if _whole(offset) + _whole(length) > size:
                raise Refused("the source sent data behind the end of a file")
            self._content(handle, offset, length)

    def _patch(self, folder: int, last: bytes, head: dict) -> None:
        """Writes blocks into a file that came before."""
        size = _whole(head["size"])
        with os.fdopen(_open_file(folder, last), "wb", buffering=0) as stream:
            self._blocks(stream.fileno(), size)
            stream.truncate(size)

    def _blocks(self, handle: int, size: int) -> None:
        while True:
            offset, length = _BLOCK.unpack(self._read(_BLOCK.size))
            if not length:
                return
            if offset + length > size:
                raise Refused("the source sent data behind the end of a file")
            self._content(handle, offset, length)

    def _content(self, handle: int, offset: int, length: int) -> None:
        while length:
            part = self._read(min(CHUNK, length))
            self._space.take(len(part))
            written = 0
            # On a full disk a single write may stop half way without an error.
            while written < len(part):
                written += os.pwrite(handle, part[written:], offset + written)
            offset, length = offset + len(part), length - len(part)

    def _describe(self, folder: int, last: bytes, head: dict) -> None:
        """Owner, mode, attributes and times, in an order in which none undoes another."""
        os.chown(last, *map(_whole, head["owner"]), dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISLNK(head["mode"]):
            os.chmod(last, stat.S_IMODE(head["mode"]), dir_fd=folder)
        self._set_attributes(_attributes(folder, last), head["attributes"])
        os.utime(last, ns=tuple(head["times"]), dir_fd=folder, follow_symlinks=False)

    def _set_attributes(self, path: bytes, wanted: dict[str, str]) -> None:
        there = attributes_of(path, self._layer)
        # Among them the list of rights that a new file inherits from its folder.
        for name in set(there) - set(wanted):
            os.removexattr(path, data(name), follow_symlinks=False)
        for name, value in wanted.items():
            if not _belongs(name, self._layer):
                raise Refused(f"the source sent the attribute {name}, which is not allowed")
            if there.get(name) != value:
                os.setxattr(path, data(name), base64.b64decode(value, validate=True), follow_symlinks=False)


class Merger(Unpacker):
    """Reads what was saved of a layer, and makes of the files below it what both show together."""

    def __init__(self, root: str, read: Callable[[int], bytes | bytearray]) -> None:
        super().__init__(root, read)
        self._hidden: set[str] = set()

    def _obey(self, tree: Tree, head: dict) -> None:
        attributes = head.get("attributes") or {}
        if _REDIRECT in attributes or _METACOPY in attributes:
            raise Refused(f"{head['name']} is a renamed part of its image, which can only be restored on overlay")
        # One whiteout may have several names.
        hides = head.get("link") in self._hidden or (stat.S_ISCHR(head.get("mode", 0)) and head["device"] == [0, 0])
        if hides or _OPAQUE in attributes:
            super()._obey(tree, {"remove": head["name"]})
        if hides:
            self._remember(head["name"])
            self._hidden.add(head["name"])
        else:
            own = {name: value for name, value in attributes.items() if not name.startswith(_OVERLAY)}
            super()._obey(tree, dict(head, attributes=own))


class Harmless(Unpacker):
    """Makes files that give nobody rights on this server: no devices, no file that runs with the rights of another."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._left_out: set[str] = set()

    def _obey(self, tree: Tree, head: dict) -> None:
        mode = head.get("mode", 0)
        if head.get("link") in self._left_out or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            super()._obey(tree, {"remove": head["name"]})
            self._remember(head["name"])
            self._left_out.add(head["name"])
            return
        # Of a folder, they say of whom new files are. What names no kind becomes a file as well.
        bits = 0 if stat.S_ISDIR(mode) else stat.S_ISUID | stat.S_ISGID
        attributes = {name: value for name, value in (head.get("attributes") or {}).items() if name != _CAPABILITY}
        super()._obey(tree, dict(head, mode=mode & ~bits, attributes=attributes))


def _open_file(folder: int, last: bytes) -> int:
    """A regular file that is there already, open for writing: opening something else may already do something.

    :raises Refused: when it is something else.
    """
    place = os.open(last, _PATH, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise Refused("the source sent a change of something that is not a regular file")
        return os.open(f"/proc/self/fd/{place}", _OLD)
    finally:
        os.close(place)


def _whole(value: object) -> int:
    if not is_whole(value):
        raise ValueError(f"{value!r} is not a number")
    return value
