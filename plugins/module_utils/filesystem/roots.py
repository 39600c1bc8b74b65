# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roots of the trees that a migration reads, fills, empties or removes: a folder of this server, or one file.

A root has a path, and who may write in a folder of that path can have it lead elsewhere: a local user, or a container
with another mount above this one. So a path is walked name by name, once, and what it led to is held by a descriptor.

A symbolic link on the way is followed only where nobody but root could have put it there: it is root's, and so is each
folder down to it, in which nobody else may write. The root of a container is root here as well (without a user
namespace), so what looks like root's may be a container's. Where that matters, it is told which folders containers can
write to, and at the source a root is compared with what the container itself has mounted.

Below a root, C(archive) follows no link at all.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.filesystem import snapshot as _snapshot
from ansible_collections.fog.migration.plugins.module_utils.system import files

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# As many as the kernel follows.
_MOST_LINKS = 40
# Which links are followed on a walk: those that only root can have put there, none, or all, below the top of the walk.
ROOTS, NONE, ALL = "root's", "none", "all"


class Identity(NamedTuple):
    """What tells a file or a folder from all others that are there at the same time."""

    device: int
    inode: int


def identity_of(facts: os.stat_result) -> Identity:
    """The identity of what was looked at."""
    return Identity(facts.st_dev, facts.st_ino)


def identities(paths: Iterable[str]) -> set[Identity]:
    """The identities of those of these that are there."""
    found = set()
    for path in paths:
        with contextlib.suppress(OSError):
            found.add(identity_of(os.stat(path)))
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The walk


class _Walk:
    """A way down from a folder. A context manager: what it has opened is closed at its end.

    :param top: descriptor of the folder that C(/) is.
    :param links: which links are followed.
    :param of_containers: folders in which containers can write, so that no link in them counts as root's.
    """

    def __init__(self, top: int, links: str = ROOTS, of_containers: Collection[Identity] = ()) -> None:
        self._top = top
        self._links = links
        self._of_containers = of_containers
        # The folder that the way has come to, and whether nobody but root can have it lead elsewhere.
        self.here = os.dup(top)
        self._sure = True
        # The names of the folders from the top to it, and what is passed on the way.
        self.names: list[str] = []
        self.passed: list[Identity] = [identity_of(os.fstat(top))]
        # The name in it of the file at the end of the way; None where that is the folder itself.
        self.last: str | None = None
        # The first name on the way that others than root can give to something else; empty where there is none.
        self.loose = ""

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *_exception: object) -> None:
        os.close(self.here)

    @property
    def path(self) -> str:
        """The same way without links."""
        return "/" + "/".join([*self.names, *([self.last] if self.last else [])])

    @property
    def identity(self) -> Identity:
        """What is at the end of the way."""
        return self.passed[-1] if self.last else identity_of(os.fstat(self.here))

    def go(self, path: str) -> list[str]:
        """Walks a path; the names at its end that are not there.

        :raises Refused: at a link that is not followed.
        :raises OSError: when something else on the way is no folder.
        """
        todo, links = _names(path), 0
        while todo:
            name = todo.pop(0)
            try:
                descriptor = self._open(name)
            except FileNotFoundError:
                if ".." in todo:
                    raise
                self._is_sure(name, None)
                return [name, *todo]
            facts = os.fstat(descriptor)
            if stat.S_ISDIR(facts.st_mode):
                self._enter(name, descriptor, facts)
                continue
            try:
                if stat.S_ISLNK(facts.st_mode):
                    links += 1
                    self._require_followed(path, name, facts, links)
                    target = os.readlink("", dir_fd=descriptor)
                    todo = _names(target) + todo
                    if target.startswith("/"):
                        self._return()
                elif todo:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
                else:
                    self._is_sure(name, facts)
                    self.last = name
                    self.passed.append(identity_of(facts))
            finally:
                os.close(descriptor)
        return []

    def _open(self, name: str) -> int:
        if name == ".." and not self.names:
            # There is nothing above the top.
            return os.dup(self.here)
        try:
            # What mounts itself when it is looked for does so for a folder only.
            return os.open(name, _FOLDER, dir_fd=self.here)
        except NotADirectoryError:
            return os.open(name, _NAME, dir_fd=self.here)

    def _enter(self, name: str, descriptor: int, facts: os.stat_result) -> None:
        self._sure = self._sure if name == ".." else self._is_sure(name, facts)
        os.close(self.here)
        self.here = descriptor
        if name == "..":
            del self.names[-1:]
        else:
            self.names.append(name)
        self.passed.append(identity_of(facts))

    def _return(self) -> None:
        """To the top."""
        os.close(self.here)
        self.here = os.dup(self._top)
        self._sure = True
        self.names = []

    def _is_sure(self, name: str, facts: os.stat_result | None) -> bool:
        """Whether the way can go on from here only as root wants it; where it cannot, it is noted which name is loose.

        :param facts: of what has this name; None where nothing has it.
        """
        sure = self._is_roots(facts)
        if not sure and not self.loose:
            self.loose = "/" + "/".join([*self.names, name])
        return sure

    def _is_roots(self, facts: os.stat_result | None) -> bool:
        """Whether only root can exchange what has a name in the folder that the way has come to, or give it away.

        :param facts: of what has the name; None where nothing has it.
        """
        folder = os.fstat(self.here)
        others = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        # There, everybody removes but his own. A link of root's from elsewhere may be given another name there, though.
        kept = facts and folder.st_mode & stat.S_ISVTX and facts.st_uid == 0 and stat.S_ISDIR(facts.st_mode)
        alone = folder.st_uid == 0 and (not others or bool(kept))
        return self._sure and alone and identity_of(folder) not in self._of_containers

    def _require_followed(self, path: str, name: str, facts: os.stat_result, links: int) -> None:
        followed = self._links == ALL or (self._links == ROOTS and facts.st_uid == 0 and self._is_roots(facts))
        link = "/" + "/".join([*self.names, name])
        if not followed:
            raise Refused(f"{path} leads through the symbolic link {link}, which others than root could have made")
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------------------------------
# A root


class Root:
    """A folder or a file that is held: what has its path later on makes no difference. A context manager.

    :param path: as it was asked for.
    :param real: the same way without links.
    :param folder: descriptor of it, or of the folder that the file is in; it is closed with this.
    :param only: the name of the file; None of a folder.
    :param passed: what lies on the way to it, and itself.
    """

    def __init__(self, path: str, real: str, folder: int, only: str | None, passed: Iterable[Identity] = ()) -> None:
        self.path = path
        self.real = real
        self.only = os.fsencode(only) if only else None
        self.passed = frozenset(passed)
        self._folder = folder
        self._first = self.identity()

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of it."""
        if self._folder >= 0:
            os.close(self._folder)
        self._folder = -1

    @property
    def folder(self) -> str:
        """A path that leads to the folder by its descriptor, for as long as that is held."""
        return f"/proc/self/fd/{self._folder}/."

    def identity(self) -> Identity | None:
        """What it is now; None of a file that is gone, or has become something else."""
        if self.only is None:
            return identity_of(os.fstat(self._folder))
        try:
            facts = os.stat(self.only, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return identity_of(facts) if stat.S_ISREG(facts.st_mode) else None

    def snapshot(self, processes: Iterable[int] = (), place: str = "") -> dict[bytes, _snapshot.Entry]:
        """What it holds, see C(snapshot.snapshot).

        :raises MigrationError: when a file was exchanged since it is held, or it holds too much.
        """
        if self.only is None:
            return _snapshot.snapshot(self.folder, processes, place)
        if self.identity() != self._first:
            raise MigrationError(f"{self.path} is another file by now than the one that is mounted")
        return _snapshot.snapshot_of_file(os.path.join(os.fsencode(self.folder), self.only), processes, place)

    def require_in_place(self) -> None:
        """Returns when its path leads to it still, without any link.

        :raises Refused: when that is not so.
        """
        problem = f"{self.path} is not any more what was filled, something else has its place"
        with _opened("/") as top, _Walk(top, NONE) as walk:
            try:
                missing = walk.go(self.real)
            except (OSError, Refused) as exc:
                raise Refused(problem) from exc
            ends = (None if walk.last is None else os.fsencode(walk.last)) == self.only
            same = identity_of(os.fstat(walk.here)) == identity_of(os.fstat(self._folder))
        if missing or not ends or not same:
            raise Refused(problem)

    def holds_nothing_but(self, others: Collection[Identity] = ()) -> bool:
        """Whether a folder has nothing in it, or a file no content, but for what lies on the ways to other roots."""
        if self.only is not None:
            return (
                self.identity() is None or os.stat(self.only, dir_fd=self._folder, follow_symlinks=False).st_size == 0
            )
        folders = [os.open(self.folder, _LIST)]
        try:
            while folders:
                here = folders.pop()
                try:
                    with os.scandir(here) as entries:
                        for entry in entries:
                            if identity_of(entry.stat(follow_symlinks=False)) not in others:
                                return False
                            if entry.is_dir(follow_symlinks=False):
                                folders.append(os.open(entry.name, _LIST, dir_fd=here))
                finally:
                    os.close(here)
        finally:
            for here in folders:
                os.close(here)
        return True

    def empty(self) -> None:
        """Removes all that is in a folder.

        :raises OSError: when something of it cannot be removed.
        """
        files.empty_folder(self.folder)


def hold(path: str, of_containers: Collection[Identity] = ()) -> Root:
    """The folder or the file that a path leads to now.

    :param of_containers: folders in which containers can write.
    :raises Refused: when that is neither, it is not there, or others than root could have had the path lead there.
    """
    with _opened("/") as top, _Walk(top, ROOTS, of_containers) as walk:
        try:
            missing = walk.go(path)
        except OSError as exc:
            raise Refused(f"{path} cannot be opened ({exc.strerror or exc})") from exc
        if missing:
            raise Refused(f"{path} is not there")
        root = Root(path, walk.path, os.dup(walk.here), walk.last, walk.passed)
        if root.identity() is None:
            root.close()
            raise Refused(f"{path} is neither a folder nor a file")
        return root


def of_docker(path: str) -> Root:
    """A folder of Docker's own, in which nobody else can write, in another mount namespace perhaps."""
    return Root(path, path, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), None)


def refusal(path: str) -> str:
    """Why a migration would not follow this path, as a clause; empty where it would, or nothing is there yet."""
    with _opened("/") as top, _Walk(top) as walk:
        try:
            walk.go(path)
        except Refused as exc:
            return str(exc)
        except OSError:
            return ""
    return ""


class Place(NamedTuple):
    """Where a path leads.

    :param real: the same way without links.
    :param loose: the first name on the way that others than root can give to something else; empty where there is none.
    """

    real: str
    loose: str


def place(path: str, of_containers: Collection[Identity] = ()) -> Place:
    """Where a path leads now, of something that may not be there yet.

    :param of_containers: folders in which containers can write.
    :raises Refused: when it leads through a link that others than root could have made, or cannot be followed.
    """
    with _opened("/") as top, _Walk(top, ROOTS, of_containers) as walk:
        try:
            missing = walk.go(path)
        except OSError as exc:
            raise Refused(f"{path} cannot be followed ({exc.strerror or exc})") from exc
        return Place(os.path.join(walk.path, *missing), walk.loose)


def require_unused(found: Mapping[str, Root], made: Collection[str] = ()) -> None:
    """Returns when nothing of this server's own lies in these roots: nothing of it is written over, or removed.

    :param found: by their places in the container. Some may be below others.
    :param made: the places of those that were made for this, whatever they hold.
    :raises Refused: when there is something.
    """
    ways = frozenset().union(*(root.passed for root in found.values()))
    for place, root in found.items():
        if place not in made and not root.holds_nothing_but(ways):
            raise Refused(f"there is something in {root.path} already, which was not made for this container")


# ---------------------------------------------------------------------------------------------------------------------
# What a container has


def mounted(process: int, place: str) -> Identity | None:
    """What a container has at a place, as it sees its own files; None where its process has ended.

    :param process: one that has the container's root.
    :raises Refused: when it has nothing there.
    """
    with contextlib.ExitStack() as stack:
        try:
            top = stack.enter_context(_opened(f"/proc/{process}/root"))
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError as exc:
            raise Refused(f"what the container has at {place} cannot be looked at ({exc.strerror or exc})") from exc
        walk = stack.enter_context(_Walk(top, ALL))
        try:
            missing = walk.go(place)
        except OSError as exc:
            raise Refused(f"the container has nothing at {place} by now ({exc.strerror or exc})") from exc
        if missing:
            raise Refused(f"the container has nothing at {place} by now")
        return walk.identity


def require_mounted(root: Root, process: int, place: str) -> None:
    """Returns when a container has this mounted, or its process has ended.

    :raises Refused: when it has something else.
    """
    its = mounted(process, place)
    if its is not None and its != root.identity():
        raise Refused(f"the container has something else at {place} than what is {root.path} by now")


# ---------------------------------------------------------------------------------------------------------------------
# Making and removing


def real_path(path: str, of_containers: Collection[Identity] = ()) -> str:
    """The same path without links, of something that may not be there yet.

    :raises Refused: when it leads through a link that others than root could have made.
    :raises OSError: when something on the way is no folder.
    """
    with _opened("/") as top, _Walk(top, ROOTS, of_containers) as walk:
        missing = walk.go(path)
        return os.path.join(walk.path, *missing)


def make(path: str, single_file: bool) -> None:
    """Makes an empty folder, or an empty file, for root only, and the folders above it that are missing.

    :param path: without links.
    :raises Refused: when there is a link on the way.
    :raises OSError: when it is there already.
    """
    with _opened("/") as top, _Walk(top, NONE) as walk:
        missing = walk.go(path)
        if not missing:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        for name in missing[:-1]:
            os.mkdir(name, dir_fd=walk.here)
            walk.go(name)
        if single_file:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(missing[-1], flags, 0o600, dir_fd=walk.here))
        else:
            os.mkdir(missing[-1], 0o700, dir_fd=walk.here)


def remove(path: str) -> bool:
    """Removes a file or a folder that was made, with all that is in it; whether nothing has this path now.

    :param path: without links. One that leads through a link by now leads to something else, which stays.
    """
    above, name = os.path.split(path.rstrip("/"))
    with _opened("/") as top, _Walk(top, NONE) as walk:
        try:
            if walk.go(above):
                return True
            facts = os.stat(name, dir_fd=walk.here, follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                files.remove_folder(name, walk.here, failed=lambda _problem: None)
            else:
                os.unlink(name, dir_fd=walk.here)
            os.stat(name, dir_fd=walk.here, follow_symlinks=False)
        except FileNotFoundError:
            return True
        except (OSError, Refused):
            return False
    return False
