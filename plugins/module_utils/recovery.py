# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recovery of a migration on one of its two servers: what still runs of it is quiesced, then it is rolled back or
completed.

Each of these can be done again, also after it was interrupted. Who has the container is decided elsewhere, from the
journals of both servers (the filter C(recovery_decision)).

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.checkpoint import (
    docker_restore,
    manifest,
    reader,
    restore_notes,
)
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.replacement import Replacement
from ansible_collections.fog.migration.plugins.module_utils.docker import (
    api,
    checkpoint_layout,
    restart_policy,
    runc,
    ways,
)
from ansible_collections.fog.migration.plugins.module_utils.docker.reader import socket_of
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.filesystem import roots
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.journal.entry import Entry
from ansible_collections.fog.migration.plugins.module_utils.journal.states import SOURCE, State
from ansible_collections.fog.migration.plugins.module_utils.leftovers import repair
from ansible_collections.fog.migration.plugins.module_utils.leftovers.found import Outcome, policy_left
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import source_requests
from ansible_collections.fog.migration.plugins.module_utils.network import namespace, sockets
from ansible_collections.fog.migration.plugins.module_utils.request import Request
from ansible_collections.fog.migration.plugins.module_utils.runtime.held_restore import (
    armed_start,
    orphaned_restore,
    process_limit,
)
from ansible_collections.fog.migration.plugins.module_utils.system import deploy, files, procfs
from ansible_collections.fog.migration.plugins.module_utils.transport import ssh_access, work_dir

RESTORE_FAILURES: tuple[type[Exception], ...] = (MigrationError, *api.FAILURES)
RESUMED = "was resumed and runs"
STARTED_ANEW = "had ended with its daemon or its server, and was started anew, as its restart policy says"
# Seconds between two looks.
_LOOK = 0.1
# Seconds that a program gets after it was told to end.
_END = 20


def places(entry: Entry) -> dict[str, list[str]]:
    """The folders that a migration can have on a server: C(checkpoint), where it is kept, and C(others).

    Those in C(busy) are locked while a module makes or restores something there. C(unfinished) is a checkpoint that is
    not complete.
    """
    identity, directory = entry.id, entry.directory
    images = os.path.join(os.path.dirname(directory), "images")

    def under(folder: str, *names: str) -> list[str]:
        return [os.path.join(folder, name) for name in names]

    checkpoint, unfinished = under(directory, identity, f".{identity}.partial")
    # What was in its volumes before.
    before = under(directory, f"{identity}.before", f".{identity}.before.partial")
    incoming = under(directory, f".{identity}.incoming", f".{identity}.before.incoming")
    image = under(images, identity, f".{identity}.partial", f".{identity}.incoming")
    return {
        "checkpoint": [checkpoint],
        "unfinished": [unfinished],
        "busy": [checkpoint, unfinished, *before],
        "others": [unfinished, *before, *incoming, *image],
    }


# ---------------------------------------------------------------------------------------------------------------------
# Inspection


def inspect_state(entry: Entry, client: api.CheckpointClient) -> dict:
    """How things really are on this server.

    :returns: C(container) (Docker's word for its state, or C(absent)), C(id) of the container, C(checkpoint) (whether
        it could be resumed from files here), C(same_boot) (whether the server has not been started anew since the last
        note), C(programs) (whether one of ours still runs); and C(together), entry and C(now) of each that moves
        together with it and was not settled here yet.
    """
    others = (journal.load(one) for one in entry.together if one != entry.id)
    together = [{"entry": one.to_json(), "now": _now(one, client)} for one in others if one]
    return dict(_now(entry, client), together=together)


def _now(entry: Entry, client: api.CheckpointClient) -> dict:
    inspect = container_of(entry, client)
    return {
        "container": inspect["State"].get("Status", "unknown") if inspect else "absent",
        "id": inspect["Id"] if inspect else "",
        "checkpoint": _whole(entry) is not None or _unfinished(entry) is not None,
        "same_boot": entry.boot == procfs.boot(),
        "programs": any(deploy.running(one["directory"]) for one in entry.transfers),
    }


def container_of(entry: Entry, client: api.CheckpointClient) -> dict | None:
    """The migration's container on this server. At the destination, only one that the migration has made."""
    if entry.role == SOURCE:
        return client.find_container(entry.container)
    made = entry.made.get("container")
    if made:
        return client.find_container(made)
    # Made, but not noted any more. The name was free before, and nothing has run in it.
    inspect = client.find_container(entry.name)
    return inspect if inspect and inspect["State"].get("Status") == "created" else None


def _whole(entry: Entry) -> str | None:
    """The folder of the complete checkpoint, or None where there is none."""
    folder = places(entry)["checkpoint"][0]
    return folder if os.path.isfile(os.path.join(folder, manifest.MANIFEST)) else None


def _unfinished(entry: Entry) -> str | None:
    """Folder of the images of a checkpoint that is not complete, from which Docker can resume the container, or None.

    A server that dies while Docker still writes them leaves some. Docker copies them in the order of their names, the
    pages of memory before the tree of processes.
    """
    found = checkpoint_layout.find_file(places(entry)["unfinished"][0], "inventory.img")
    folder = os.path.dirname(found) if found else ""
    return folder if folder and os.path.exists(os.path.join(folder, "pstree.img")) else None


# ---------------------------------------------------------------------------------------------------------------------
# Quiescing


def quiesce(entry: Entry, client: api.CheckpointClient, patience: int) -> None:
    """Returns when nothing of the migration happens on this server any more.

    What has begun to move goes on to its end if it can, since what has come to the destination stays there.

    :param patience: seconds after which what does not end is ended.
    :raises MigrationError: when the container is still being dumped then, which nobody may disturb.
    """
    deadline = time.monotonic() + patience
    for one in entry.transfers:
        if entry.role == SOURCE:
            _end_agent(one["directory"], deadline)
        _wait_for_program(one["directory"], deadline)
    inspect = container_of(entry, client)
    if inspect and not _wait(lambda: not runc.at_work(inspect["Id"]), deadline) and entry.role == SOURCE:
        raise MigrationError(
            f"{entry.name} is still being dumped", "nothing was changed", "wait for its end and run recover.yml"
        )
    for folder in places(entry)["busy"]:
        _wait_for_lock(folder, deadline)


def _wait(condition: Callable[[], object], deadline: float) -> bool:
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK)
    return True


def _end_agent(directory: str, deadline: float) -> None:
    """Has the source's end of a live migration finish, or give up, whichever it is time for."""
    socket = os.path.join(directory, source_requests.SOCKET)
    if deploy.running(directory) and os.path.exists(socket):
        try:
            source_requests.ask(socket, {"do": "end"}, max(1.0, deadline - time.monotonic()))
            return
        except source_requests.NoAnswer:
            pass
        except MigrationError:
            # It has ended with a failure, and is closed.
            return
    deploy.stop(directory)


def _wait_for_program(directory: str, deadline: float) -> None:
    """A destination's end that has the container goes on until all of it is there; the others hear that it is over."""
    if _wait(lambda: not deploy.running(directory), deadline):
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        deploy.stop(directory, number)
        if _wait(lambda: not deploy.running(directory), time.monotonic() + _END):
            return


def _wait_for_lock(folder: str, deadline: float) -> None:
    """Waits until no module makes this checkpoint, or restores from it."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _wait(lambda: files.lock(descriptor), deadline)
        finally:
            os.close(descriptor)


def note_arrival(entry: Entry, client: api.CheckpointClient) -> None:
    """Notes at the destination that the container has come to run there, where its program ended before it could.

    Otherwise nobody could tell later, when the source has let go of it and it has ended, that it ever ran. Where this
    cannot be written, on a full disk, recovery goes on without it: it decides by what runs now.
    """
    waits = entry.together or entry.memory != "complete"
    if entry.role == SOURCE or waits:
        return
    inspect = container_of(entry, client)
    if inspect and inspect["State"].get("Running"):
        journal.note_what_happened(entry.id, stage=State.RESTORED.stage, owner=State.RESTORED.owner)


# ---------------------------------------------------------------------------------------------------------------------
# Rollback


class Undone(NamedTuple):
    """How a container is on this server: words that follow its name, and clauses with more, or nothing."""

    said: str
    note: str = ""


def rollback(entry: Entry, client: api.CheckpointClient, params: dict[str, Any]) -> Undone:
    """The source has the container again, or the destination has none of it.

    :param params: C(restore_timeout), and by which options Docker is connected to.
    :raises MigrationError: when the container could not go on as before, or must not; nothing was removed then.
    """
    _require_not_committed(entry)
    _keep_group_back(entry)
    at_source = entry.role == SOURCE
    undone = _resume_at_source(entry, client, params) if at_source else _remove_at_destination(entry, client)
    clean_up(entry, keep=False)
    journal.close_entry(entry.id)
    return undone


def _require_not_committed(entry: Entry) -> None:
    """What was committed runs at the destination. Whoever has it undone here has decided before that was noted."""
    now = journal.load(entry.id) or entry
    if now.role == SOURCE and now.state is State.COMMITTED:
        what = f"{entry.name} was committed at {entry.destination}"
        raise MigrationError(what, "nothing was changed", "run recover.yml")


def _keep_group_back(entry: Entry) -> None:
    """None of what moves together with this one goes on at the destination any more."""
    together = entry.together
    if not together or entry.role == SOURCE or entry.went:
        return
    if journal.decide(entry.id, together, goes=False):
        raise MigrationError(
            f"others that move together with {entry.name} run here", "nothing was changed", "run recover.yml again"
        )


def _resume_at_source(entry: Entry, client: api.CheckpointClient, params: dict[str, Any]) -> Undone:
    """The container runs again as it did before the migration, with its restart policy."""
    inspect = container_of(entry, client)
    if not inspect:
        return _restore(entry, client, params) if _is_replaced(entry, client) else Undone("is not there any more")
    if not inspect["State"].get("Running"):
        return _revive(entry, client, inspect, params)
    _give_policy(entry, client, inspect)
    identity = inspect["Id"]
    if inspect["State"].get("Paused"):
        outcome = repair.bring_back(identity, lambda: client.unpause(identity))
        return _settled(entry, client, identity, outcome.said(RESUMED, RESUMED), outcome)
    outcome = repair.bring_back(identity)
    return _settled(entry, client, identity, outcome.said(), outcome)


def _give_policy(entry: Entry, client: api.CheckpointClient, inspect: dict) -> None:
    if entry.restart_policy:
        client.update_container(inspect["Id"], restart_policy=entry.restart_policy)


def _settled(
    entry: Entry, client: api.CheckpointClient, container_id: str, said: str, outcome: Outcome | None = None
) -> Undone:
    """How the container is. The migration of what does not run as before stays open, so that it is not forgotten.

    :param said: how it is, in words.
    :param outcome: what was found, where CRIU may have left something.
    :raises MigrationError: when it does not run as before.
    """
    found, inspect = outcome or Outcome(), client.find_container(container_id)
    wrong = policy_left(entry.restart_policy, inspect["HostConfig"].get("RestartPolicy")) if inspect else []
    now = replace(found, left=(*found.left, *wrong))
    if now.left:
        what = f"{entry.name} {now.told()} at {entry.source}"
        raise MigrationError(what, "its migration stays open", "undo what is left and run recover.yml")
    return Undone(said, found.note)


def _is_replaced(entry: Entry, client: api.CheckpointClient) -> bool:
    """Whether another container, restored from the checkpoint, has the place of this one, or was about to take it."""
    folder = _whole(entry)
    if not folder:
        return False
    made = manifest.load(folder)
    there = client.find_container(made.container.name)
    taken = there and there["State"].get("Running") and restore_notes.came_from(there["Id"], made.id)
    return bool(taken or Replacement(client, made.container.name, None).interim())


def _revive(entry: Entry, client: api.CheckpointClient, inspect: dict, params: dict[str, Any]) -> Undone:
    """What has ended goes on from its checkpoint; without one, its restart policy has its way.

    In live mode nothing here ever ends it, nor does our OCI runtime before the checkpoint is complete.
    """
    if entry.mode == "cold" and _whole(entry):
        return _restore(entry, client, params)
    _give_policy(entry, client, inspect)
    identity, images = inspect["Id"], _unfinished(entry) if entry.mode == "cold" else None
    if images and _is_docker_used(client, params):
        _restore_unfinished(entry, client, identity, images, params["restore_timeout"])
        return _look_at_restored(entry, client, identity)
    if entry.restart_policy or restart_policy.to_hold(inspect, leave_running=False):
        client.start(identity)
        return _settled(entry, client, identity, STARTED_ANEW)
    return _settled(entry, client, identity, "has ended, with nothing to resume it from")


def _look_at_restored(entry: Entry, client: api.CheckpointClient, container_id: str) -> Undone:
    """How it is after CRIU has restored it."""
    outcome = repair.bring_back(container_id)
    return _settled(entry, client, container_id, outcome.said(RESUMED, RESUMED), outcome)


def _restore(entry: Entry, client: api.CheckpointClient, params: dict[str, Any]) -> Undone:
    """It goes on from its complete checkpoint, with the restart policy that is in there."""
    folder = places(entry)["checkpoint"][0]
    wanted: dict[str, Any] = dict.fromkeys(("name", "migration", "judged", "mounts", "encryption_key"))
    wanted.update(path=folder, state="present")
    warnings: list[str] = []
    with _kept(entry, folder):
        restored = reader.run(Request({**params, **wanted}, False, warnings.append, time.time()), client)
    # It may be another one, which has its place.
    undone = _look_at_restored(entry, client, restored["container"]["id"])
    return undone._replace(note="; ".join(filter(None, [*warnings, undone.note])))


def _is_docker_used(client: api.CheckpointClient, params: dict[str, Any]) -> bool:
    """Whether cold mode goes through Docker's own checkpoints here."""
    return ways.way(api.daemon_facts(client), bool(socket_of(params))) == ways.THROUGH_DOCKER


def _restore_unfinished(
    entry: Entry, client: api.CheckpointClient, container_id: str, images: str, seconds: int
) -> None:
    """It goes on from the images that Docker has left, which cannot be verified."""
    root, checkpoint = api.daemon_facts(client)["root"], docker_restore.Checkpoint(entry.id)
    with _kept(entry, images):
        docker_restore.from_checkpoint(client, root, container_id, images, checkpoint, seconds)


@contextlib.contextmanager
def _kept(entry: Entry, folder: str) -> Iterator[None]:
    """Tells of a restore that fails within: nothing was removed.

    :raises MigrationError: when it fails.
    """
    try:
        yield
    except RESTORE_FAILURES as error:
        what = error.what if isinstance(error, MigrationError) else api.api_message(error)
        raise MigrationError(
            f"the container {entry.name} could not be resumed ({what})",
            f"it has ended, its checkpoint is kept in {folder}",
            "mend the cause and run recover.yml",
        ) from error


def _remove_at_destination(entry: Entry, client: api.CheckpointClient) -> Undone:
    """Nothing of the container is here any more."""
    inspect = container_of(entry, client)
    identity = inspect["Id"] if inspect else entry.made.get("container")
    if identity:
        orphaned_restore.end(identity)
    if inspect:
        api.remove(client, inspect["Id"], v=True)
        armed_start.forget(inspect["Id"])
    _remove(entry, "made", "networks", client)
    _remove(entry, "made", "volumes", client)
    left = [folder for folder in reversed(entry.made.get("folders", [])) if not roots.remove(folder)]
    if left:
        return Undone("nothing of it is left", f"what was made in {', '.join(left)} could not be removed")
    return Undone("nothing of it is left")


# ---------------------------------------------------------------------------------------------------------------------
# Completion


def complete(entry: Entry, client: api.CheckpointClient, keep: bool) -> str:
    """The destination has the container: it runs there as a container of its own, and the source lets go of it.

    :param keep: whether the checkpoint is kept.
    :returns: what it does now, in words that follow the container's name.
    :raises TransitionRefused: at the source, when the container was never handed over, or was taken back.
    """
    inspect = container_of(entry, client)
    if entry.role == SOURCE:
        # Before anything is removed: when this is interrupted and the container ends at the destination meanwhile,
        # nobody may take that for a container which never got there.
        journal.note(entry.id, stage=State.COMMITTED.stage, owner=State.COMMITTED.owner)
        if inspect:
            _remove_at_source(entry, inspect, client)
        said = "nothing of it is left"
    else:
        if inspect:
            _tell_group(entry)
            orphaned_restore.let_go_on(inspect["Id"], inspect["State"].get("Pid", 0))
            process_limit.settle(inspect["Id"], inspect["HostConfig"].get("PidsLimit") or 0)
            policy = _restore_policy(entry, inspect, client)
            _restore_oom_score(inspect)
            said = _revived(inspect, policy, client)
        else:
            said = "was removed meanwhile"
    clean_up(entry, keep)
    journal.close_entry(entry.id)
    return said


def _tell_group(entry: Entry) -> None:
    """What moves together with it knows from now on that it goes on here."""
    for identity in entry.together:
        journal.note(identity, stage=State.RESTORED.stage, owner=State.RESTORED.owner)


def _remove_at_source(entry: Entry, inspect: dict, client: api.CheckpointClient) -> None:
    """Removes what must not run any more, without letting it run for a moment.

    The volumes that have moved with it go as well.

    Docker lets a container that it is to remove go on for an instant, in which it could do once more what it does at
    the destination already: whatever thaws it, a pending SIGKILL comes first.
    """
    if inspect["State"].get("Paused"):
        with contextlib.suppress(OSError):
            process = inspect["State"]["Pid"]
            # Its network is locked still.
            if namespace.is_own(process):
                namespace.inside(namespace.network_of(process), sockets.close_all)
        with contextlib.suppress(OSError, runc.FreezeError):
            runc.kill(inspect["Id"])
    api.remove(client, inspect["Id"])
    _remove(entry, "moving", "volumes", client)


def _remove(entry: Entry, kind: str, what: str, client: api.CheckpointClient) -> None:
    """Removes what nobody uses. What one that moves together with it still uses is left to that one.

    :param kind: under which name the entry has it, C(made) or C(moving).
    :param what: C(networks) or C(volumes).
    """
    # As it is now: others that move together with it may have noted something.
    noted = journal.load(entry.id) or entry
    for name in (noted.made if kind == "made" else noted.moving).get(what, []):
        if not _removed(what, name, client):
            for other in set(entry.together) - {entry.id}:
                journal.note(other, **{kind: {what: [name]}})
            # That one may have been removed before it knew.
            _removed(what, name, client)


def _removed(what: str, name: str, client: api.CheckpointClient) -> bool:
    """Whether it was removed. One that somebody uses by now stays, whether that container runs or not."""
    with contextlib.suppress(*api.FAILURES):
        if what == "volumes":
            client.remove_volume(name)
            return True
        if not client.containers(all=True, filters={"network": name}):
            client.remove_network(name)
            return True
    return False


def _restore_policy(entry: Entry, inspect: dict, client: api.CheckpointClient) -> dict:
    """Its restart policy, which was held at C(no) until now."""
    policy: dict = entry.restart_policy or {}
    # Gone, it is only that its policy is not known.
    with contextlib.suppress(MigrationError):
        kept = places(entry)["checkpoint"][0]
        policy = policy or manifest.inspected(kept, "")["HostConfig"].get("RestartPolicy") or {}
    now = inspect["HostConfig"].get("RestartPolicy") or {}
    if policy.get("Name", "no") != "no" and now.get("Name") != policy["Name"]:
        client.update_container(inspect["Id"], restart_policy=policy)
        return policy
    return now


def _revived(inspect: dict, policy: dict, client: api.CheckpointClient) -> str:
    """What has ended since, with its server perhaps, is started anew if its policy says so; how it is now."""
    state = inspect["State"]
    if state.get("Running"):
        return "runs"
    if not restart_policy.revives(policy, state.get("ExitCode", 0)):
        return f"has ended with the code {state.get('ExitCode', 0)}"
    client.start(inspect["Id"])
    return STARTED_ANEW


def _restore_oom_score(inspect: dict) -> None:
    """CRIU leaves a process that had none the one of containerd's shim."""
    with contextlib.suppress(OSError):
        procfs.settle_oom_score(inspect["State"].get("Pid") or 0, inspect["HostConfig"].get("OomScoreAdj") or 0)


# ---------------------------------------------------------------------------------------------------------------------
# Cleaning up


def _end_agent_of(entry: Entry) -> None:
    """Ends the agent of a run of which no other migration is open here, unless this is what the agent was asked for."""
    folder = os.path.join(work_dir.base_directory(), f"agent-{entry.run}")
    used = any(other.run == entry.run for other in journal.entries() if other.id != entry.id)
    if used:
        return
    agent = deploy.running(folder)
    if agent is None:
        # One that was killed has not closed its connections, nor removed its folder.
        ssh_access.close_connections(folder)
        shutil.rmtree(folder, ignore_errors=True)
    elif agent != os.getppid():
        deploy.stop(folder)


def _revoke(transfer: dict) -> None:
    """Takes the key of a transfer out of the authorized_keys of its user."""

    def change(old: bytes) -> bytes:
        return ssh_access.without_transfer(old, transfer["id"], time.time())

    with contextlib.suppress(ssh_access.SshAccessError, KeyError, OSError):
        ssh_access.edit_authorized_keys(transfer["user"], change)


def clean_up(entry: Entry, keep: bool) -> None:
    """Removes what the migration has on this server besides the container: programs, keys, folders."""
    for one in entry.transfers:
        # The supervisor first: it would take the place of what is ended.
        for folder in (work_dir.supervisor(one["directory"]), one["directory"], work_dir.holder(one["directory"])):
            deploy.stop(folder, signal.SIGKILL)
        work_dir.remove(one["directory"])
        _revoke(one)
    _end_agent_of(entry)
    found = places(entry)
    for folder in [*found["others"], *entry.made.get("scratch", []), *([] if keep else found["checkpoint"])]:
        shutil.rmtree(folder, ignore_errors=True)
