# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: one small file for each migration that has not ended, on both servers.

It tells who owns the container, and what there is of the migration on this server. It outlives the controller, every
program, and a power cut: each version of it is on the disk before what it announces is done.

C(owner) is the one word that decides:

==============  ===================================================================================================
source          the source may run it whenever it wants to; the destination has not been told to
in_doubt        the destination was told to, or is about to be: only it can say who has it (as in two-phase commit)
destination     (in the source's entry) it was committed: the source must not run it any more;
                (in the destination's) it has run there
==============  ===================================================================================================

At the source, an entry is opened first, and closed first when the migration ends well. At the destination, it is closed
first when the migration is undone. So a missing entry says something as well.

Of containers that move together, each has an entry of its own, with the IDs of all in C(together). Who has them is
decided at the destination, in one instant for all of them: see C(decide).

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

FOLDER = "/var/lib/fog-migration/journal"
FORMAT = "fog.migration/journal"
VERSION = 1
ROLES = ("source", "destination")
OWNERS = ("source", "in_doubt", "destination")
# No entry is larger, unless it is none of ours.
LARGEST = 1 << 20
IDENTITY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
# What an entry always has, and its type.
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "role": str,
    "owner": str,
    "container": str,
    "name": str,
    "source": str,
    "destination": str,
    "mode": str,
    "directory": str,
    "stage": str,
    "begun": (int, float),
    "noted": (int, float),
    "transfers": list,
    "made": dict,
}


class JournalError(MigrationError):
    """The journal cannot be used. The text is a clause."""


def path_of(identity: str) -> str:
    """Where the entry of a migration is on this server.

    :raises JournalError: when this is not the name of a migration.
    """
    if not IDENTITY.fullmatch(identity):
        raise JournalError(f"{identity!r} is not the name of a migration")
    return os.path.join(FOLDER, identity + ".json")


def complaint(entry: object) -> str | None:
    """Why this is no entry of a journal, as a clause, or None."""
    if not isinstance(entry, dict) or entry.get("format") != FORMAT:
        return "it is not an entry of a journal"
    if entry.get("version") != VERSION:
        return f"it has version {entry.get('version')!r}, this collection reads version {VERSION}"
    for name, kind in _FIELDS.items():
        if not isinstance(entry.get(name), kind) or isinstance(entry[name], bool):
            return f"its {name} is {entry.get(name)!r}"
    if entry["role"] not in ROLES or entry["owner"] not in OWNERS:
        return f"it has the role {entry['role']!r} and the owner {entry['owner']!r}"
    return None


def load(identity: str) -> dict | None:
    """The entry of a migration, or None where there is none.

    :raises JournalError: when what is there is none.
    """
    path = path_of(identity)
    try:
        with open(path, "rb") as stream:
            text = stream.read(LARGEST)
    except FileNotFoundError:
        return None
    try:
        entry = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        entry = None
    problem = complaint(entry)
    if problem:
        raise JournalError(f"{path} cannot be read: {problem}")
    return entry


def entries() -> list[dict]:
    """All entries of this server, by the time of their begin.

    :raises JournalError: when one of them cannot be read.
    """
    names = os.listdir(FOLDER) if os.path.isdir(FOLDER) else []
    found = [load(name[: -len(".json")]) for name in names if name.endswith(".json") and not name.startswith(".")]
    return sorted(filter(None, found), key=lambda entry: entry["begun"])


@contextlib.contextmanager
def _alone() -> Iterator[int]:
    """Nobody else writes in the journal of this server meanwhile."""
    os.makedirs(FOLDER, 0o700, exist_ok=True)
    descriptor = os.open(FOLDER, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(entry: dict, folder: int) -> None:
    """Complete or not at all, and on the disk when it returns."""
    path = path_of(entry["id"])
    temporary = os.path.join(FOLDER, f".{entry['id']}.json")
    text = json.dumps(dict(entry, noted=time.time(), boot=procfs.boot()), indent=1, sort_keys=True)
    try:
        _write_through(temporary, text)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    os.fsync(folder)


def _write_through(path: str, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def rival(entry: dict, others: list[dict]) -> dict | None:
    """The entry of another migration of the same container, or to the same name, among those of this server; or None.

    :param others: what C(entries) tells.
    """
    for other in others:
        same = other["container"] == entry["container"] if entry["role"] == "source" else other["name"] == entry["name"]
        if other["id"] != entry["id"] and other["role"] == entry["role"] and same:
            return other
    return None


def under_way(entry: dict, alive: bool | None) -> tuple[str, str]:
    """A migration whose journal is open, and that is in the way of another: what it is, and what to do about it.

    :param alive: whether the controller of it still runs; None when that cannot be known here.
    """
    begun = datetime.datetime.fromtimestamp(entry["begun"], datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    what = f"a migration of {entry['name']} from {entry['source']} to {entry['destination']}, begun at {begun},"
    settle = "settle it with ansible-playbook recover.yml"
    if alive is False:
        return f"{what} was interrupted in the stage {entry['stage']}", settle
    return f"{what} is under way (stage {entry['stage']})", f"wait for its end; if it was interrupted, {settle}"


def open_entry(entry: dict) -> dict | None:
    """Opens the entry of a migration, unless another one of the same container is open: that one, or None.

    :param entry: everything but what is noted by itself.
    """
    fresh = {"format": FORMAT, "version": VERSION, "owner": "source", "begun": time.time(), "noted": time.time()}
    entry = {"transfers": [], "made": {}, **fresh, **entry}
    problem = complaint(entry)
    if problem:
        raise JournalError(f"the entry of {entry.get('id')} was not written: {problem}")
    with _alone() as folder:
        other = rival(entry, entries())
        if not other:
            _write({**entry, **(load(entry["id"]) or {})}, folder)
    return other


def note(identity: str | None, **facts: object) -> dict | None:
    """Adds facts to the entry of a migration, where there is one. Lists and objects are added to those that are there.

    :returns: the entry, or None.
    """
    if not identity:
        return None
    with _alone() as folder:
        entry = load(identity)
        if entry is None:
            return None
        noted = added(entry, facts)
        if noted != entry:
            _write(noted, folder)
        return noted


def note_what_happened(identity: str | None, **facts: object) -> None:
    """As C(note), of what cannot be undone any more: a journal that cannot be written does not undo it either."""
    with contextlib.suppress(OSError, JournalError):
        note(identity, **facts)


def decide(identity: str, together: list[str], goes: bool) -> bool:
    """Whether the containers that move together run at the destination: one word for all, whoever asks, however often.

    None of them has run there until one is noted as the destination's, which is the moment that decides. Whoever finds
    that this cannot be any more notes that, or has no entry here: then none of the others goes.

    :param together: the IDs of all of them.
    :param goes: whether this one can run. If not, it is too late for it to say so when another one runs.
    """
    with _alone() as folder:
        entries = [load(one) for one in together]
        gone = any(went(entry) for entry in entries)
        goes = gone or (goes and all(entry and not entry.get("stays") for entry in entries))
        entry = load(identity)
        if entry:
            _decided(dict(entry, owner="destination") if goes else dict(entry, stays=True), folder)
        return goes


def went(entry: dict | None) -> bool:
    """Whether this entry of the destination's says that its container has run there."""
    return entry is not None and entry["role"] == "destination" and entry["owner"] == "destination"


def _decided(entry: dict, folder: int) -> None:
    """Where it cannot be written, the entry goes: without it, none goes."""
    try:
        _write(entry, folder)
    except OSError:
        os.unlink(path_of(entry["id"]))
        os.fsync(folder)
        raise


def added(entry: dict, facts: dict) -> dict:
    """An entry with more facts."""
    noted = dict(entry)
    for name, value in facts.items():
        before = noted.get(name)
        if isinstance(before, list):
            noted[name] = before + [one for one in value if one not in before]
        elif isinstance(before, dict) and isinstance(value, dict):
            noted[name] = added(before, value)
        else:
            noted[name] = value
    return noted


def close_entry(identity: str) -> bool:
    """Removes an entry; whether there was one."""
    with _alone() as folder:
        try:
            os.unlink(path_of(identity))
        except FileNotFoundError:
            return False
        os.fsync(folder)
    return True
