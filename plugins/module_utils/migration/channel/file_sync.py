# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container writes in its root file system and its volumes before its freeze goes along.

    do: files, data (any number), end   ->
                                        <-      done: files N

The root file system is made with the checkpoint that the destination is armed with, and only what is written since then
travels here; a volume comes as a whole first. At the source the root file system is read where the storage driver keeps
what differs from the image, or all of it. At the destination it is written through the one that Docker has mounted for
the restore: overlay allows nobody to write in its upper directory then. A volume is a folder on both sides.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from ansible_collections.fog.migration.plugins.module_utils.docker import engine, mounts, runc, storage_drivers
from ansible_collections.fog.migration.plugins.module_utils.docker.storage_drivers import Storage
from ansible_collections.fog.migration.plugins.module_utils.errors import Interrupted, MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import archive, blocks, container_log, roots
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot as _snapshot
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy
from ansible_collections.fog.migration.plugins.module_utils.system import files
from ansible_collections.fog.migration.plugins.module_utils.system.files import CHUNK
from ansible_collections.fog.migration.plugins.module_utils.transport import compression
from ansible_collections.fog.migration.plugins.module_utils.transport.framing import DATA, DO, END, Frames

T = TypeVar("T")

# How often what changed is sent before the freeze: so many times at most, until there are only so many bytes, or no
# less than this part of the time before.
ROUNDS = 5
# What the container's log is called where trees of files have their place in the container.
LOG = "log"
_LENGTH = struct.Struct(">I")
ENOUGH = 1 << 20
SHRINK = 0.5


class Outgoing:
    """Bytes that are sent as frames of data, at a pace, and an end with their checksum."""

    def __init__(self, frames: Frames, bytes_per_second: float) -> None:
        self.count = 0
        self._frames = frames
        self._pace = compression.Pace(bytes_per_second)
        self._checksum = hashlib.sha256()
        self._rest = bytearray()

    def write(self, data: bytes) -> None:
        self.count += len(data)
        self._checksum.update(data)
        self._rest += data
        while len(self._rest) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        part = bytes(self._rest[:CHUNK])
        del self._rest[:CHUNK]
        self._frames.write(DATA, part)
        self._pace.wait(len(part))

    def end(self) -> None:
        if self._rest:
            self._flush()
        self._frames.write_json(END, {"sha256": self._checksum.hexdigest()})


class Incoming:
    """A reader of the bytes in DATA frames, which checks their checksum at the end."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self._checksum = hashlib.sha256()
        self._rest = bytearray()

    def read(self, count: int) -> bytes:
        while len(self._rest) < count:
            data = self._frames.expect(DATA)[1]
            self._checksum.update(data)
            self._rest += data
        part = bytes(self._rest[:count])
        del self._rest[:count]
        return part

    def end(self) -> None:
        if self._frames.expect_object(END).get("sha256") != self._checksum.hexdigest() or self._rest:
            raise Refused("files were damaged on the way")


# ---------------------------------------------------------------------------------------------------------------------
# The source


class FileSync:
    """Keeps the destination's files equal to those of the container.

    :param container: its ID.
    :param bytes_per_second: the limit to the rate while it runs; 0 for none.
    :param done: is called with the name of an answer, and returns when the destination has given it.
    """

    def __init__(self, frames: Frames, container: str, bytes_per_second: float, done: Callable[[str], object]) -> None:
        self.figures: list[dict] = []
        self.container = container
        self.frames = frames
        self._done = done
        self._rate_limit = bytes_per_second
        self._trees: list[Tree | Log] = []

    def add_tree(
        self,
        place: str,
        root: str = "",
        snapshot: str | None = None,
        there: dict[bytes, _snapshot.Entry] | None = None,
        process: int = 0,
    ) -> None:
        """One more tree of files, see C(Tree).

        :raises Refused: when its root is not what it seems to be.
        """
        self._trees.append(Tree(self, place, root, snapshot, there, process))

    def add_log(self, path: str | None) -> None:
        """The container's log, if it is to move."""
        if path:
            self._trees.append(Log(self, path))

    def begin(self) -> None:
        """Before anything else: what comes as a whole."""
        for tree in self._trees:
            if tree.is_whole:
                tree.catch_up(self._rate_limit)

    def catch_up(self) -> None:
        """While the container runs: sends what has changed, until there is little left."""
        for tree in self._trees:
            tree.catch_up(self._rate_limit)

    def look(self) -> None:
        """When the container stands still: finds what is left. The dump may be under way meanwhile."""
        for tree in self._trees:
            tree.look([])
            tree.compare()

    def send(self) -> None:
        """Sends what was found."""
        for tree in self._trees:
            same = tree.send(0)[0]
            if tree.leased:
                raise runc.FreezeError(f"{archive.leased(tree.leased)}, and cannot give it back while it stands still")
            if not same:
                raise runc.FreezeError("its files changed while it stood still")

    def close(self) -> None:
        """Lets go of the trees."""
        for tree in self._trees:
            tree.close()

    def exchange(self, tree: str, fresh: bool, work: Callable[[], T]) -> T:
        """One difference: I(work) sends it, with what it is called with.

        :param fresh: whether all of the tree that is there now is to be removed first.
        """
        number = len(self.figures) + 1
        answer = f"files {number}"
        try:
            self.frames.write_json(DO, {"do": "files", "round": number, "tree": tree, "fresh": fresh})
            result = work()
        except Interrupted:
            # If it had a reason to close the channel, it has sent it before.
            self._done(answer)
            raise
        self._done(answer)
        return result


class Log:
    """The container's log, as a tree that only grows.

    :param path: the file that Docker writes it to.
    """

    is_whole = True

    def __init__(self, sync: FileSync, path: str) -> None:
        self._sync = sync
        self._log = container_log.Reader(path)
        self.leased: list[bytes] = []

    def catch_up(self, bytes_per_second: float) -> None:
        """Sends what was written since."""
        self.send(bytes_per_second)

    def look(self, _processes: Iterable[int]) -> None:
        """Docker may still write what the container logged before it stood still: that is found when it is sent."""

    def compare(self) -> None:
        """It has no blocks that could be other ones: it only grows."""

    def send(self, bytes_per_second: float) -> tuple[bool, int]:
        """Whether it was sent, and how many bytes it was."""
        began = time.monotonic()
        stream = Outgoing(self._sync.frames, bytes_per_second)

        def work() -> None:
            for piece in self._log.rest():
                stream.write(_LENGTH.pack(len(piece)))
                stream.write(piece)
            stream.write(_LENGTH.pack(0))
            stream.end()

        self._sync.exchange(LOG, False, work)
        figures = {"names": 1, "bytes_sent": stream.count, "seconds": round(time.monotonic() - began, 3)}
        self._sync.figures.append({"place": LOG, **figures})
        return True, stream.count

    def close(self) -> None:
        """Nothing of it stays open."""


class Tree:
    """One tree of files that is kept equal. Its root is looked up once, and held.

    :param place: where it is in the container, or empty for the root file system.
    :param root: its folder here, or a file that is mounted alone; where nothing of it was sent already.
    :param snapshot: the file that tells of this folder, and what of it was sent, where something was.
    :param there: what the destination holds of this folder, where it holds something and no file tells of it.
    :param process: of the container, which has the root mounted; 0 where that is not compared.
    :raises Refused: when the container has something else there.
    """

    def __init__(
        self,
        sync: FileSync,
        place: str,
        root: str = "",
        snapshot: str | None = None,
        there: dict[bytes, _snapshot.Entry] | None = None,
        process: int = 0,
    ) -> None:
        self.is_whole = snapshot is None and there is None
        self._sync = sync
        # What the destination has, what there is here, and the difference.
        path, self._there = (root, there or {}) if snapshot is None else _snapshot.load(snapshot)
        self._root = roots.hold(path)
        if process:
            roots.require_mounted(self._root, process, place)
        self._place = place
        self._blocks = blocks.Blocks()
        # Whether what the destination has there now is nothing of ours.
        self._fresh = self.is_whole
        self._here: dict[bytes, _snapshot.Entry] = {}
        self._difference = _snapshot.Difference([], [])
        self._states: dict[bytes, blocks.State] = {}
        # The files of which the last difference could not be sent, because somebody held a lease on them.
        self.leased: list[bytes] = []

    def catch_up(self, bytes_per_second: float) -> None:
        """While the container runs: sends what has changed, until there is little left."""
        last = None
        for _round in range(ROUNDS):
            self.look(runc.processes(self._sync.container))
            sent = self.send(bytes_per_second)[1]
            if sent <= ENOUGH or (last and sent > SHRINK * last):
                return
            last = sent

    def look(self, processes: Iterable[int]) -> None:
        """Finds what has changed."""
        try:
            self._here = self._root.snapshot(processes, self._place)
            self._difference = _snapshot.difference(self._there, self._here)
        except MigrationError as exc:
            raise runc.FreezeError(exc.what) from exc
        self._states = {}

    def compare(self) -> None:
        """Finds which blocks of large files have changed, while nobody writes them and others have the channel."""
        self._states = archive.block_states(self._root.folder, self._difference.made)

    def close(self) -> None:
        """Lets go of the root."""
        self._root.close()

    def send(self, bytes_per_second: float) -> tuple[bool, int]:
        """Whether everything was still as it had been found, and how many bytes it was."""
        if not self._difference:
            return True, 0
        began = time.monotonic()
        stream = Outgoing(self._sync.frames, bytes_per_second)

        def work() -> dict[bytes, os.stat_result]:
            packer = archive.Packer(self._root.folder, stream.write, blocks=self._blocks, states=self._states)
            seen = packer.pack(*self._difference)
            stream.end()
            self.leased = packer.leased
            return seen

        same = self._note(self._sync.exchange(self._place, self._fresh, work))
        self._fresh = False
        names = len(self._difference.removed) + len(self._difference.made)
        figures = {"names": names, "bytes_sent": stream.count, "seconds": round(time.monotonic() - began, 3)}
        self._sync.figures.append({"place": self._place or "/", **figures})
        return same, stream.count

    def _note(self, seen: dict[bytes, os.stat_result]) -> bool:
        """Whether what was seen, which the destination has now, is what was found. Otherwise it counts as changed."""
        known = {name: self._here[name] for name in self._difference.made}
        other = {name for name in known if name not in seen or not known[name].same(_snapshot.entry(seen[name]))}
        # The destination may have something older there, or a folder in which nothing is that this one holds.
        replaced = {name for name in other if name not in seen or known[name].inode != seen[name].st_ino}
        self._there = _snapshot.doubt(self._here, replaced)
        self._there.update((name, known[name].unsettled()) for name in other)
        # In these, CRIU makes folders for the dump, and removes them again.
        return other <= (set() if self._place else {_snapshot.ROOT, b"tmp"})


def send_layer(
    frames: Frames,
    storage: Storage,
    processes: Iterable[int],
    bytes_per_second: float,
    changes: Callable[[], list[dict]],
) -> dict[bytes, _snapshot.Entry]:
    """Sends what the container has changed in its root file system so far, as the container runs.

    :param storage: where the storage driver keeps its files.
    :param processes: the container's.
    :param changes: is called for what Docker says to differ from the image, where the storage is no layer.
    :returns: what the destination holds then. What is written meanwhile counts as changed, and travels later.
    """
    with roots.hold(storage.folder) as root:
        before = root.snapshot(processes)
        stream = Outgoing(frames, bytes_per_second)
        names = set(before)
        hidden: set[bytes] = set()
        as_in_image = {}
        if not storage.is_layer:
            names, hidden = storage_drivers.changes(before, changes())
            as_in_image = {name: entry for name, entry in before.items() if name not in names}
        packer = archive.Packer(root.folder, stream.write, layer=storage.is_layer)
        seen = packer.pack([], sorted(names), sorted(hidden))
    stream.end()
    return {**as_in_image, **_snapshot.held(before, seen)}


# ---------------------------------------------------------------------------------------------------------------------
# The destination


def storage_of(docker_socket: str, container: str, host: str) -> Storage:
    """Where Docker keeps the files of a container that was not started yet."""
    inspect, problem = engine.get(docker_socket, f"/containers/{container}/json")
    info, other_problem = engine.get(docker_socket, "/info")
    if problem or other_problem:
        raise Refused(f"Docker on {host} does not tell where it keeps the container ({problem or other_problem})")
    storage = storage_drivers.of_container(inspect, info.get("DockerRootDir", "/var/lib/docker"))
    if storage is None:
        known = ", ".join(storage_drivers.DRIVERS)
        raise Refused(f"files of the container cannot be put into the storage driver of {host}, but into {known}")
    return storage


def receive_layer(frames: Frames, storage: Storage) -> int:
    """Takes what C(send_layer) sends, for a container that was not started yet; how many names it was."""
    stream = Incoming(frames)
    with roots.hold(storage.folder) as root:
        unpacker = (
            archive.Unpacker(root.folder, stream.read, layer=True)
            if storage.is_layer
            else archive.Merger(root.folder, stream.read)
        )
        count = unpacker.unpack()
    stream.end()
    return count


def append(frames: Frames, path: str) -> int:
    """Takes a piece of a container's log, behind what is there; 1, as a count of names."""
    stream = Incoming(frames)
    space = files.Space(os.path.dirname(path))
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640), "wb") as log:
        for length in iter(lambda: _LENGTH.unpack(stream.read(_LENGTH.size))[0], 0):
            if length > CHUNK:
                raise Refused("the source sent more of a log than it may at once")
            space.take(length)
            log.write(stream.read(length))
    stream.end()
    return 1


def folder_of(docker_socket: str, container: str) -> str:
    """The folder in which Docker keeps what it writes of this container itself.

    :raises Refused: when Docker does not tell where it keeps its containers.
    """
    info, problem = engine.get(docker_socket, "/info")
    if problem:
        raise Refused(f"Docker does not tell where it keeps its containers ({problem})")
    return os.path.join(info.get("DockerRootDir", "/var/lib/docker"), "containers", container)


def receive(frames: Frames, root: roots.Root, harmless: bool = False) -> int:
    """Takes what the source sends into a folder, or into the one file that I(root) is; how many names it was.

    :param harmless: whether what gives somebody rights on this server is left out.
    """
    stream = Incoming(frames)
    make = archive.Harmless if harmless else archive.Unpacker
    count = make(root.folder, stream.read, only=root.only).unpack()
    stream.end()
    return count


class Mounts:
    """The mounts of a container whose content arrives, before any of it is there.

    A folder or a file of the host is held from then on: the container may have another mount above it, in which a link
    could arrive that leads elsewhere. A volume is looked up anew, since Docker may mount something there when the
    container starts; its path is Docker's own.

    :param ordered: those that are filled.
    :param made: names of the volumes that were made for this migration. An image may have put something in them.
    :param policy: of this server; it is asked only where a folder or a file of the host is filled.
    :raises Refused: when the policy cannot be used, or one of the mounts is not there, is another one than was
        ordered, or has something in it that is not this migration's.
    """

    def __init__(
        self,
        docker_socket: str,
        container: str,
        ordered: Collection[mounts.Ordered],
        made: Iterable[str],
        policy: Callable[[], Policy],
        host: str,
    ) -> None:
        there, places = _mounts_of(docker_socket, container, host), [one.place for one in ordered]
        missing = sorted(set(places) - set(there))
        if missing:
            raise Refused(f"the container on {host} has no folder and no file mounted at {missing[0]}")
        for one in ordered:
            if not one.is_filled_by(there[one.place]):
                path = there[one.place]["source"]
                raise Refused(f"the container on {host} has {path} where the {one} was ordered to be filled")
        self._volumes = {place: there[place]["source"] for place in places if there[place]["type"] == "volume"}
        self._made = {place for place in self._volumes if there[place]["name"] in set(made)}
        written = _written(docker_socket, host)
        # Its folders and files of the host, by place.
        self.binds: dict[str, roots.Root] = {}
        held = {place: roots.hold(there[place]["source"], written) for place in places}
        roots.require_unused(held, self._made)
        for place, root in held.items():
            if place in self._volumes:
                root.close()
            else:
                self.binds[place] = root
        # Whether folders of the host get nothing that gives somebody rights there.
        self._harmless = bool(self.binds) and not policy().bind_privileges

    def receive(self, frames: Frames, place: str, fresh: bool) -> int:
        """Takes what the source sends for this place; how many names it was.

        :param fresh: whether nothing came for it before.
        """
        if place in self.binds:
            return receive(frames, self.binds[place], self._harmless)
        with roots.hold(self._volumes[place]) as root:
            if fresh and place in self._made:
                root.empty()
            return receive(frames, root)

    def __contains__(self, place: str) -> bool:
        return place in self._volumes or place in self.binds

    def require_in_place(self) -> None:
        """Returns when what was filled is what has its path still.

        :raises Refused: when something else has it.
        """
        for root in self.binds.values():
            root.require_in_place()

    def close(self) -> None:
        """Lets go of them."""
        for root in self.binds.values():
            root.close()


def _mounts_of(docker_socket: str, container: str, host: str) -> Mapping[str, dict]:
    """See C(mounts.of_container), by place."""
    inspect, problem = engine.get(docker_socket, f"/containers/{container}/json")
    if problem:
        raise Refused(f"Docker on {host} does not tell of the container's mounts ({problem})")
    return {mount["destination"]: mount for mount in mounts.of_container(inspect)}


def _written(docker_socket: str, host: str) -> set[roots.Identity]:
    """The folders in which containers of this server can write."""
    listed, problem = engine.get(docker_socket, "/containers/json?all=1")
    if problem:
        raise Refused(f"Docker on {host} does not tell of its containers ({problem})")
    return roots.identities(mounts.writable(listed))


def root_of(docker_socket: str, prepared: str, host: str) -> str:
    """The mounted root file system of the container whose restore our OCI runtime is to begin."""
    try:
        with open(os.path.join(prepared, "bundle"), encoding="utf-8") as stream:
            view, bundle = stream.read().splitlines()
    except FileNotFoundError as exc:
        raise Refused(
            f"fog-runc on {host} cannot take files, the role fog.migration.runtime brings a newer one"
        ) from exc
    with open(view + os.path.join(bundle, "config.json"), encoding="utf-8") as stream:
        root = view + os.path.join(bundle, json.load(stream)["root"]["path"])
    # Docker's own, and nothing else.
    if os.path.samefile(root, "/") or not (os.path.ismount(root) or _is_kept_whole(docker_socket, view, root)):
        raise Refused(f"the container's root file system is not mounted on {host}")
    return root


def _is_kept_whole(docker_socket: str, view: str, root: str) -> bool:
    """Whether this is the folder of a storage driver that mounts nothing."""
    info, problem = engine.get(docker_socket, "/info")
    driver, docker_root = info.get("Driver", ""), view + info.get("DockerRootDir", "")
    return not problem and storage_drivers.is_kept_whole(driver, root=docker_root, folder=root)
