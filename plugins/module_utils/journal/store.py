# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal on the disk: one small file for each migration that has not ended, on both servers.

It tells who owns the container, and what there is of the migration on this server. It outlives the controller, every
program, and a power cut: each version of it is on the disk before what it announces is done. Who owns the container,
and what may follow what, is in C(states).

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
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.journal import states
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import (
    FORMAT,
    IDENTITY,
    VERSION,
    Entry,
    JournalError,
    TransitionRefused,
)
from ansible_collections.fog.migration.plugins.module_utils.journal.states import State
from ansible_collections.fog.migration.plugins.module_utils.system import procfs

FOLDER = "/var/lib/fog-migration/journal"
# No entry is larger, unless it is none of ours.
LARGEST = 1 << 20


def path_of(identity: str) -> str:
    """Where the entry of a migration is on this server.

    :raises JournalError: when this is not the name of a migration.
    """
    if not IDENTITY.fullmatch(identity):
        raise JournalError(f"{identity!r} is not the name of a migration")
    return os.path.join(FOLDER, identity + ".json")


def load(identity: str) -> Entry | None:
    """The entry of a migration, or None where there is none.

    :raises JournalError: when what is there cannot be read; it may be another version's.
    """
    path = path_of(identity)
    try:
        with open(path, "rb") as stream:
            text = stream.read(LARGEST)
    except FileNotFoundError:
        return None
    try:
        value = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        value = None
    try:
        return Entry.from_json(value)
    except JournalError as exc:
        raise JournalError(f"{path} cannot be read: {exc}") from exc


def made_volumes(identity: str | None) -> set[str]:
    """The names of the volumes that were made here for a migration, and for those that move together with it."""
    entry = load(identity) if identity else None
    group = filter(None, map(load, entry.together)) if entry else ()
    return {name for one in (entry, *group) if one for name in one.made.get("volumes", [])}


def entries() -> list[Entry]:
    """All entries of this server, by the time of their begin.

    :raises JournalError: when one of them cannot be read.
    """
    names = os.listdir(FOLDER) if os.path.isdir(FOLDER) else []
    found = [load(name[: -len(".json")]) for name in names if name.endswith(".json") and not name.startswith(".")]
    return sorted(filter(None, found), key=lambda entry: entry.begun)


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


def _write(entry: Entry, folder: int) -> Entry:
    """Complete or not at all, and on the disk when it returns: the entry with the time of this."""
    path = path_of(entry.id)
    temporary = os.path.join(FOLDER, f".{entry.id}.json")
    noted = replace(entry, noted=time.time(), boot=procfs.boot())
    text = json.dumps(noted.to_json(), indent=1, sort_keys=True)
    try:
        _write_through(temporary, text)
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    os.fsync(folder)
    return noted


def _write_through(path: str, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def rival(role: str, container: str, name: str, others: list[Entry]) -> Entry | None:
    """The entry of a migration that is in the way of another one on this server; or None.

    At the source, that is one of the same container; at the destination, one to the same name.

    :param role: what this server is to be in the other one.
    :param others: the entries of this server.
    """
    for other in others:
        same = other.container == container if role == states.SOURCE else other.name == name
        if other.role == role and same:
            return other
    return None


def under_way(entry: Entry, alive: bool | None) -> tuple[str, str]:
    """A migration whose journal is open, and that is in the way of another: what it is, and what to do about it.

    :param alive: whether the controller of it still runs; None when that cannot be known here.
    """
    begun = datetime.datetime.fromtimestamp(entry.begun, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    what = f"a migration of {entry.name} from {entry.source} to {entry.destination}, begun at {begun},"
    settle = "settle it with ansible-playbook recover.yml"
    if alive is False:
        return f"{what} was interrupted in the stage {entry.stage}", settle
    return f"{what} is under way (stage {entry.stage})", f"wait for its end; if it was interrupted, {settle}"


def open_entry(facts: dict[str, Any]) -> Entry | None:
    """Opens the entry of a migration, unless another one of the same container is open: that one, or None.

    An entry of this migration that is open already stays as it is.

    :param facts: the fields of C(Entry), but not what is noted by itself.
    :raises JournalError: when they are none of an entry, or of one that does not begin.
    """
    now = time.time()
    first = {"stage": states.FIRST.stage, "owner": states.FIRST.owner, "begun": now, "noted": now}
    try:
        entry = Entry.from_json({"format": FORMAT, "version": VERSION, **first, "transfers": [], "made": {}, **facts})
    except JournalError as exc:
        raise JournalError(f"the entry of {facts.get('id')} was not written: {exc}") from exc
    if entry.state is not states.FIRST:
        raise JournalError(f"the entry of {entry.id} was not written: none begins as {entry.state}")
    with _alone() as folder:
        others = [one for one in entries() if one.id != entry.id]
        other = rival(entry.role, entry.container, entry.name, others)
        if not other:
            _write(load(entry.id) or entry, folder)
    return other


def note(identity: str | None, **facts: Any) -> Entry | None:
    """Adds facts to the entry of a migration, where there is one. Lists and objects are added to those that are there.

    :param facts: see C(Entry.with_facts).
    :returns: the entry, or None.
    :raises TransitionRefused: when the entry cannot come into this state; then nothing is noted.
    """
    if not identity:
        return None
    with _alone() as folder:
        entry = load(identity)
        return _noted(entry, entry.with_facts(facts), folder) if entry else None


def note_what_happened(identity: str | None, **facts: Any) -> None:
    """As C(note), of what cannot be undone any more: a journal that cannot be written does not undo it either.

    Nor does a transition that is refused, because the caller would have to stop a container that runs. Such a
    transition is a bug, or a second program is at work. So it is not passed over either: the entry keeps its state,
    from which recovery decides, and gets the refusal in C(refused), which recover.yml and migration_info show. To keep
    the state is the careful choice: an entry of the source that says C(destination) keeps the source from running the
    container, and what an entry of the destination has refused is removed there.
    """
    if not identity:
        return
    with contextlib.suppress(OSError, JournalError), _alone() as folder:
        entry = load(identity)
        if entry is None:
            return
        try:
            noted = entry.with_facts(facts)
        except TransitionRefused as exc:
            others = {name: value for name, value in facts.items() if name not in ("stage", "owner")}
            noted = entry.with_facts({**others, "refused": [str(exc)]})
        _noted(entry, noted, folder)


def _noted(before: Entry, after: Entry, folder: int) -> Entry:
    return _write(after, folder) if after != before else before


def decide(identity: str, together: list[str], goes: bool) -> bool:
    """Whether the containers that move together run at the destination: one word for all, whoever asks, however often.

    None of them has run there until one is noted as restored, which is the moment that decides. Whoever finds that
    this cannot be any more notes that it is refused, or has no entry here: then none of the others goes.

    :param together: the IDs of all of them.
    :param goes: whether this one can run. If not, it is too late for it to say so when another one runs.
    """
    with _alone() as folder:
        entries = [load(one) for one in together]
        gone = any(entry and entry.went for entry in entries)
        goes = gone or (goes and all(entry and entry.state is not State.REFUSED for entry in entries))
        entry = load(identity)
        if entry:
            state = State.RESTORED if goes else State.REFUSED
            _decided(entry.with_facts({"stage": state.stage, "owner": state.owner}), folder)
        return goes


def _decided(entry: Entry, folder: int) -> None:
    """Where it cannot be written, the entry goes: without it, none goes."""
    try:
        _write(entry, folder)
    except OSError:
        os.unlink(path_of(entry.id))
        os.fsync(folder)
        raise


def close_entry(identity: str) -> bool:
    """Removes an entry; whether there was one."""
    with _alone() as folder:
        try:
            os.unlink(path_of(identity))
        except FileNotFoundError:
            return False
        os.fsync(folder)
    return True
