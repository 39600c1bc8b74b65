# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container's volumes and bind mounts: which there are, what makes them again, what becomes of each in a migration.

Pure functions all of them but C(is_file).
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
import stat
from collections.abc import Iterable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

# File systems that several servers can have mounted at once.
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "9p", "ocfs2", "gfs2", "lustre", "afs")
# The file of a checkpoint that tells how the container's named volumes were made.
VOLUMES = "volumes.json"
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Ordered:
    """A mount that the destination was ordered to fill, as the preflight has judged it.

    :param place: where it is mounted in the container.
    :param type: C(volume) or C(bind). Empty where nobody has judged it: then only the place counts.
    :param name: the volume's name.
    :param path: the folder or the file of the source, which is that of the destination for a bind mount.
    """

    place: str
    type: str = ""
    name: str = ""
    path: str = ""

    @classmethod
    def are(cls, value: object) -> bool:
        """Whether this is a list of objects for JSON, each of which describes one that was judged."""
        names = {one.name for one in dataclasses.fields(cls)}
        return isinstance(value, list) and all(
            isinstance(one, dict) and set(one) == names and all(isinstance(text, str) for text in one.values())
            for one in value
        )

    def is_filled_by(self, mount: dict) -> bool:
        """Whether what a container has mounted at this place is what was ordered.

        :param mount: see C(of_container).
        """
        if not self.type or mount["type"] != self.type:
            return not self.type
        if self.type == "volume":
            # The destination makes a new one for one without a name.
            return is_anonymous(self.name) or mount["name"] == self.name
        return posixpath.normpath(mount["source"]) == posixpath.normpath(self.path)

    def __str__(self) -> str:
        what = f"{self.type} {self.path if self.type == 'bind' else self.name}" if self.type else "mount"
        return f"{what} at {self.place}"


def ordered(mount: dict) -> dict[str, Any]:
    """The order to fill a mount, as an object for JSON.

    :param mount: see C(of_container).
    """
    order = Ordered(mount["destination"], mount["type"], mount["name"], mount["source"])
    return dataclasses.asdict(order)


def require_ordered(orders: Iterable[Ordered], places: Iterable[str]) -> None:
    """Returns when nothing but what was ordered is filled.

    :param places: where in the container what is to be filled is mounted, as the source says.
    :raises MigrationError: when there was no order for one of them.
    """
    unknown = sorted(set(places) - {one.place for one in orders})
    if unknown:
        raise MigrationError(
            f"the content of {', '.join(unknown)} arrived for the container, and was not ordered",
            "nothing was made of it",
            "look at the source",
        )


def is_anonymous(name: str) -> bool:
    """Whether Docker has made up the name of a volume."""
    return bool(_ANONYMOUS.fullmatch(name))


def of_container(inspect: dict) -> list[dict]:
    """Volumes and bind mounts, whose content lies outside the root file system.

    :returns: C(type), C(name), C(driver), C(source), C(destination) of each, whether it is C(read_only), whether it is
        C(anonymous), and whether it was C(lent) by another container (C(--volumes-from)).
    """
    lent = {one["Destination"] for one in _lent(inspect)}
    return [
        {
            "type": mount["Type"],
            "name": mount.get("Name", ""),
            "driver": mount.get("Driver", ""),
            "source": mount.get("Source", ""),
            "destination": mount["Destination"],
            "read_only": not mount.get("RW", True),
            "anonymous": is_anonymous(mount.get("Name", "")),
            "lent": mount["Destination"] in lent,
        }
        for mount in inspect.get("Mounts") or []
        if mount.get("Type") in ("volume", "bind")
    ]


def _lent(inspect: dict) -> list[dict]:
    """What a container has mounted that nothing but C(VolumesFrom) tells of, as Docker tells of what is mounted.

    An anonymous volume where its image wants one may be its own.
    """
    host, config = inspect.get("HostConfig") or {}, inspect.get("Config") or {}
    if not host.get("VolumesFrom"):
        return []
    told = [
        *(bind.split(":")[1] for bind in host.get("Binds") or [] if ":" in bind),
        *(one["Target"] for one in host.get("Mounts") or []),
        *(host.get("Tmpfs") or {}),
    ]
    own = {posixpath.normpath(place) for place in told}
    wanted = {posixpath.normpath(place) for place in config.get("Volumes") or {}}
    return [
        one
        for one in inspect.get("Mounts") or []
        if one["Destination"] not in own and not (one["Destination"] in wanted and is_anonymous(one.get("Name", "")))
    ]


def with_lent_mounts(inspect: dict) -> dict:
    """A container's HostConfig with what other containers have lent it as mounts of its own, without their names.

    A container of that name at the destination may be another one, which would lend what it has.
    """
    host = {key: value for key, value in inspect["HostConfig"].items() if key != "VolumesFrom"}
    lent = [_mount_of(one) for one in _lent(inspect) if one.get("Type") in ("volume", "bind", "tmpfs")]
    return dict(host, Mounts=[*(host.get("Mounts") or []), *lent]) if lent else host


def _mount_of(mount: dict) -> dict:
    """What makes this mount again, as C(create) wants it; a new anonymous volume for an anonymous one."""
    made = {"Type": mount["Type"], "Target": mount["Destination"], "ReadOnly": not mount.get("RW", True)}
    if mount["Type"] == "bind":
        made.update(Source=mount["Source"], BindOptions={"Propagation": mount.get("Propagation") or "rprivate"})
    elif mount["Type"] == "volume" and not is_anonymous(mount["Name"]):
        # The volume was there already, with what it had.
        made.update(Source=mount["Name"], VolumeOptions={"NoCopy": True})
    return made


def sources(inspect: dict) -> dict[str, str]:
    """The folder of the host behind each place in the container where a volume or a folder is mounted."""
    return {mount["destination"]: mount["source"] for mount in of_container(inspect)}


def is_file(path: str) -> bool:
    """Whether this is a file on this host, and nothing that leads to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def writable(listed: Iterable[dict]) -> set[str]:
    """The folders of a host in which containers can write, so that a link in one of them may be of their making.

    Who can write in all of the host is root there, whatever is looked at.

    :param listed: the containers, as Docker lists them.
    """
    found = [mount for one in listed for mount in one.get("Mounts") or [] if mount.get("RW", True)]
    return {mount.get("Source") or "/" for mount in found} - {"/"}


def with_volumes_of(inspect: dict, old: dict) -> dict:
    """A container's inspect data such that one made from them has the anonymous volumes of another one, not new ones.

    :param old: the inspect data of that one.
    """
    names = {one["destination"]: one["name"] for one in of_container(old) if one["anonymous"]}
    # What is told of its mounts has to agree with what mounts them, or no policy lets it come.
    theirs = {one["Destination"]: one for one in old.get("Mounts") or [] if one["Destination"] in names}
    mounted = [theirs.pop(one.get("Destination"), one) for one in inspect.get("Mounts") or []]
    host = inspect["HostConfig"]
    listed = [
        dict(one, Source=names.pop(one["Target"])) if one.get("Target") in names else one
        for one in host.get("Mounts") or []
    ]
    binds = [*(host.get("Binds") or []), *(f"{name}:{place}" for place, name in sorted(names.items()))]
    return dict(inspect, HostConfig=dict(host, Mounts=listed, Binds=binds), Mounts=[*mounted, *theirs.values()])


def volume_arguments(volume: dict) -> dict:
    """What makes this volume again, as the SDK's C(create_volume) wants it, from its inspect data."""
    return {
        "name": volume["Name"],
        "driver": volume.get("Driver") or "local",
        "driver_opts": volume.get("Options"),
        "labels": volume.get("Labels"),
    }


def of_group(mount: dict, name: str, together: list[str]) -> dict:
    """A mount of a container that moves together with others: what they have in common, the first one of them moves.

    :param mount: as C(plan) wants it.
    :returns: the same with C(users) without those that move as well, whether another one moves it (C(elsewhere)), and
        whether they would not have it in common any more (C(parted)).
    """
    users = [one for one in mount["users"] if one in together]
    others = [one for one in mount["users"] if one not in together]
    parted = bool(users) and mount["anonymous"] and mount.get("lent", False)
    return dict(mount, users=others, elsewhere=bool(users) and min(users) < name, parted=parted)


def plan(mount: dict, there: dict, volumes: str, binds: str, listed: list[str]) -> dict:
    """What becomes of one mount of a container that is to move.

    :param mount: see C(of_container), with C(file_system) (its C(type) and C(device)), C(is_folder), C(is_file), the
        C(checksum) of a file, whether the container has something else than what has this path by now
        (C(replaced)), why its path is not followed (C(refused), see C(roots.refusal)), and C(users), the other
        containers at the source that have it; and C(elsewhere) and C(parted), see C(of_group).
    :param there: what the destination has: C(volumes), the names of its volumes, and C(paths), by path whether it
        C(exists), is C(empty), its C(file_system) and C(checksum), and why it is not followed (C(refused)).
    :param volumes: V(move), V(shared) or V(refuse).
    :param binds: V(none), V(listed) or V(all).
    :param listed: the paths that move with V(listed).
    :returns: C(way): V(moves), V(shared) (it has its content there already), or V(stays) (what the destination has
        under this path is taken); and C(problem) and C(remedy), empty where there is none.
    """
    kind = mount["file_system"]["type"]
    path, what = mount["source"], f"{mount['type']} {mount['name'] or mount['source']}"
    if kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse."):
        if mount["type"] == "volume" or there["paths"].get(path, {}).get("file_system") == mount["file_system"]:
            return _way("shared")
        return _way("shared", f"the {what} is on {kind}, which the destination does not have there", "mount it there")
    if mount["type"] == "volume":
        return _volume_plan(mount, there, volumes, what)
    known = there["paths"].get(path, {"exists": False, "empty": True})
    if volumes == "shared" or binds == "none" or (binds == "listed" and path not in listed):
        missing = f"the destination has no {path}, which is mounted in it" if not known["exists"] else ""
        return _way("stays", missing, "make it there, or have it moved with migration_binds=all")
    if not mount["is_folder"] and not mount["is_file"]:
        missing = f"the destination has no {path}, which is neither a folder nor a file" if not known["exists"] else ""
        return _way("stays", missing, "make it there")
    if mount.get("elsewhere") or (mount["checksum"] and mount["checksum"] == known.get("checksum")):
        return _way("shared")
    if mount["replaced"]:
        remedy = "start the container again, or leave it out of what moves"
        kind_of_it = "file" if mount["is_file"] else "folder"
        return _way("moves", f"the container has another {kind_of_it} than the one that is {path} by now", remedy)
    if mount["refused"] or known.get("refused"):
        remedy = "mount what the link leads to by its own path, or leave it out of what moves"
        whose = "" if mount["refused"] else "at the destination, "
        return _way("moves", f"{whose}{mount['refused'] or known['refused']}", remedy)
    return _way("moves", _taken(known, mount, what), "remove it there, or leave it out of what moves")


def _volume_plan(mount: dict, there: dict, volumes: str, what: str) -> dict:
    if mount.get("parted"):
        # Each of them gets a new one.
        problem = f"the {what} has no name, and was lent to it by a container that moves with it (--volumes-from)"
        return _way("stays", problem, "give them a volume with a name")
    if volumes == "shared" or mount["driver"] != "local" or mount.get("elsewhere"):
        return _way("shared")
    if volumes == "refuse":
        return _way("stays", f"the content of the {what} would not travel with it", "say -e migration_volumes=move")
    taken = not mount["anonymous"] and mount["name"] in there["volumes"]
    problem = f"the destination has a {what} already" if taken else _taken({"empty": True}, mount, what)
    return _way("moves", problem, "remove it there, or say -e migration_volumes=shared")


def _taken(known: dict, mount: dict, what: str) -> str:
    if not known["empty"]:
        return f"the destination has something in {mount['source']} already"
    return f"the {what} is used by {', '.join(mount['users'])} as well" if mount["users"] else ""


def _way(way: str, problem: str = "", remedy: str = "") -> dict:
    return {"way": way, "problem": problem, "remedy": remedy if problem else ""}
