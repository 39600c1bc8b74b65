# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restoring a container from a checkpoint, preparing that, and taking it back.

Private to the collection fog.migration.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator

from ansible_collections.fog.migration.plugins.module_utils import validate
from ansible_collections.fog.migration.plugins.module_utils.checkpoint import (
    docker_restore,
    encryption,
    manifest,
    recreate,
    restore_notes,
    runtime_restore,
)
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.file_loader import FileLoader
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.manifest import Manifest
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.recreate import Recreation
from ansible_collections.fog.migration.plugins.module_utils.checkpoint.replacement import Replacement
from ansible_collections.fog.migration.plugins.module_utils.criu import tool
from ansible_collections.fog.migration.plugins.module_utils.docker import api, judged, ways
from ansible_collections.fog.migration.plugins.module_utils.docker.reader import socket_of
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError, Refused
from ansible_collections.fog.migration.plugins.module_utils.journal import store as journal
from ansible_collections.fog.migration.plugins.module_utils.network import namespace
from ansible_collections.fog.migration.plugins.module_utils.request import Request
from ansible_collections.fog.migration.plugins.module_utils.system import files, private_folders, procfs

STATES = ("present", "absent", "armed", "filled")
INTACT = "nothing was changed, the checkpoint is kept"
# What a restore can fail with: our own refusals, and what a call of the API can raise.
_FAILURES: tuple[type[Exception], ...] = (MigrationError, *api.FAILURES)


def run(request: Request, client: api.CheckpointClient) -> dict:
    """Does what is asked, one restore from a checkpoint at a time; the result of the module.

    :raises MigrationError: when that cannot be.
    """
    begin = time.monotonic()
    path, state = request.params["path"], request.params["state"]
    with _alone(path, request.params["restore_timeout"]):
        outer = manifest.load(path)
        daemon = api.daemon_facts(client)
        if state == "absent":
            return Restore(request, client, daemon, path, outer, begin).absent()
        # What is compared with the manifest is read once more for the restore.
        private_folders.require(path)
        with opened(request, outer) as (folder, inner):
            if inner.name != os.path.basename(os.path.normpath(path)):
                request.warn(f"{path} holds the checkpoint {inner.name}, which was made at {inner.created}")
            restore = Restore(request, client, daemon, folder, inner, begin)
            try:
                return {"present": restore.present, "armed": restore.armed, "filled": restore.filled}[state]()
            finally:
                restore.files.close()


@contextlib.contextmanager
def _alone(path: str, restore_timeout: int) -> Iterator[None]:
    """Waits until no other restore from this folder is under way, and keeps others waiting."""
    deadline = time.monotonic() + restore_timeout + docker_restore.ANSWER_MARGIN
    manifest.load(path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while not files.lock(descriptor):
            if time.monotonic() > deadline:
                raise MigrationError(
                    f"another restore from {path} is under way", "nothing was changed", "wait for its end"
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened(request: Request, outer: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Decrypts the checkpoint for as long as it is used, if it is encrypted; its folder and manifest in clear.

    In check mode, an encrypted one is authenticated only.

    :param outer: its manifest as it lies there.
    """
    path, key = request.params["path"], request.params["encryption_key"]
    if not outer.encryption:
        if key:
            raise MigrationError(
                f"the checkpoint {path} is not encrypted", INTACT, "leave the encryption_key out if you trust it"
            )
        yield path, outer
        return
    if not key:
        raise MigrationError(f"the checkpoint {path} is encrypted", INTACT, "give its encryption_key")
    if request.check_mode:
        encryption.authenticate(path, outer, key)
        yield path, outer
        return
    target = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.opened")
    try:
        yield target, encryption.unseal(path, outer, key, target)
    finally:
        shutil.rmtree(target, ignore_errors=True)


class Restore:
    """Restores one container.

    :param folder: where the checkpoint lies in clear.
    :param manifest_: its manifest there.
    :param begin: when all this began, by the monotonic clock.
    """

    def __init__(
        self,
        request: Request,
        client: api.CheckpointClient,
        daemon: dict,
        folder: str,
        manifest_: Manifest,
        begin: float,
    ) -> None:
        self.request = request
        self.params = request.params
        self.client = client
        self.daemon = daemon
        self.folder = folder
        self.manifest = manifest_
        self.name = self.params["name"] or manifest_.container.name
        refusal = validate.name_refusal("the container", self.name)
        if refusal:
            raise MigrationError(refusal, INTACT, "give another name")
        params = self.params
        self.files = FileLoader(client, folder, manifest_, daemon, params["migration"], params["mounts"])
        self.images = os.path.join(folder, "criu")
        self.docker_socket = socket_of(self.params)
        self.way = ways.way(daemon, bool(self.docker_socket))
        # What makes the container again, once there is something to make.
        self.recreation: Recreation | None = None
        self.begin = begin
        # When the checkpoint was found intact.
        self.verified = begin

    # What can be asked

    def absent(self) -> dict:
        """Removes what a restore has made, and marks that what was ordered before now must not begin any more."""
        existing = self.client.find_container(self.name)
        made = existing is not None and existing["Id"] != self.manifest.container.id and self._came_from_here(existing)
        if existing and made and not self.request.check_mode:
            self.client.remove_container(existing["Id"], v=True, force=True)
        if not self.request.check_mode:
            restore_notes.withdraw(self.manifest.id)
        diff = {"before": {self.name: "present"}, "after": {self.name: "absent"}} if made else {}
        return {"changed": made, "diff": diff}

    def present(self) -> dict:
        """Restores the container, unless it runs already."""
        self._refuse_withdrawn()
        existing = self.client.find_container(self.name)
        if existing and existing["State"].get("Running") and self._came_from_here(existing):
            return self._present_already(existing)
        if self.manifest.prepared:
            raise MigrationError(
                f"{self.params['path']} is a prepared checkpoint, without any memory",
                INTACT,
                "restore into it by a live migration, or make a whole checkpoint",
            )
        self._refuse_taken(existing)
        place = Replacement(self.client, self.name, existing)
        interim = place.interim()
        if interim and self._came_from_here(interim):
            return self._taken(place, interim["Id"])
        self._require_ordered()
        self.verified = time.monotonic()
        self._refuse_incompatible()
        replaced = self.way == ways.THROUGH_RUNTIME and place.is_needed
        if self.request.check_mode:
            in_place = existing is not None and not replaced
            return self._result(existing["Id"] if existing else "", changed=True, in_place=in_place)
        return self._restore(existing, place if replaced else None)

    def _taken(self, place: Replacement, container_id: str) -> dict:
        """What was restored already takes its place, before which somebody was interrupted."""
        if not self.request.check_mode:
            place.take(container_id)
            self._settle(container_id)
        return self._result(container_id, changed=True, in_place=False)

    def _present_already(self, existing: dict) -> dict:
        settled = False
        if not self.request.check_mode:
            settled = self._give_policy(existing["Id"], existing)
            self._give_settings(existing["Id"])
        return self._result(existing["Id"], changed=settled, in_place=False)

    def armed(self) -> dict:
        """Makes the container that a live migration restores into."""
        self._refuse_withdrawn()
        existing = self.client.find_container(self.name)
        if existing and self._came_from_here(existing):
            return self._result(existing["Id"], changed=False, in_place=False)
        if existing:
            self._refuse_taken(dict(existing, State={"Running": True}))
        self._require_ordered()
        self._refuse_incompatible()
        if ways.RUNTIME not in self.daemon["runtimes"]:
            raise MigrationError(
                f"Docker here does not know the OCI runtime {ways.RUNTIME}",
                INTACT,
                "install it with the role fog.migration.runtime",
            )
        container_id = ""
        if not self.request.check_mode:
            container_id = self._create(armed=True)
            self._note(container_id)
        return self._result(container_id, changed=True, in_place=False, after="created")

    def filled(self) -> dict:
        """Has the volumes and folders filled before the container comes."""
        self._refuse_withdrawn()
        if restore_notes.is_filled(self.manifest.id):
            return {"changed": False, "diff": {}}
        self._require_ordered()
        if not self.request.check_mode:
            self._build(Recreation.make_mounts, lambda made: self.files.fill_volumes(made.inspect))
        places = sorted(self.manifest.mounts or {})
        return {"changed": True, "diff": {"before": {"filled": []}, "after": {"filled": places}}}

    # Why not

    def _refuse_withdrawn(self) -> None:
        """A restore whose order was taken back while it was on its way, its connection lost perhaps, must not begin."""
        migration = self.params["migration"]
        ended = migration and journal.load(migration) is None
        if ended or restore_notes.is_withdrawn(self.manifest.id, self.request.asked):
            raise MigrationError("the order to restore was taken back", INTACT)

    def _require_ordered(self) -> None:
        """Raises when the checkpoint is damaged, or is not of what was ordered, before anything is made of it."""
        manifest.require_intact(self.folder, self.manifest, INTACT)
        if self.params["judged"] is not None:
            judged.require(self.params["judged"], self._inspected(), self.files.volumes())
        self.files.require_ordered()

    def _came_from_here(self, existing: dict) -> bool:
        return restore_notes.came_from(existing["Id"], self.manifest.id)

    def _refuse_taken(self, existing: dict | None) -> None:
        """Raises when the name is taken, but by the stopped container of the checkpoint itself."""
        ours = existing is not None and existing["Id"] == self.manifest.container.id
        if existing is None or (ours and not existing["State"].get("Running")):
            return
        which = "the container of this checkpoint runs" if ours else "another container has the name"
        raise MigrationError(
            f"the name {self.name} is taken ({which})",
            INTACT,
            "give another name, or stop or remove that container first",
        )

    def _refuse_incompatible(self) -> None:
        image = self.manifest.container.image
        tags = ", ".join(self.manifest.container.image_tags or [])
        here, there = platform.machine(), self.manifest.architecture
        if here != there:
            raise MigrationError(
                f"the checkpoint is from {there} and this host is {here}", INTACT, f"take a {there} host"
            )
        if self.way == ways.THROUGH_DOCKER and self.params["state"] != "armed":
            self._refuse_docker()
        if not tool.version():
            raise MigrationError(
                "criu is not installed, which restores containers", INTACT, "install criu on this host"
            )
        if self.client.find_image(image) is None:
            raise MigrationError(
                f"the image {image} ({tags or 'without a tag'}) is not on this host",
                INTACT,
                "bring it here first, for example with docker save and docker load",
            )

    def _refuse_docker(self) -> None:
        """What Docker cannot restore by itself."""
        refusal = ways.restore_refusal(self.daemon)
        if refusal:
            raise MigrationError(refusal[0], INTACT, refusal[1])
        if docker_restore.loses_locks(self.images, tool.parse_options(tool.configuration()), self.daemon["version"]):
            raise MigrationError(
                f"the container {self.manifest.container.name} holds locks on files, which would be lost here",
                INTACT,
                f"write file-locks into /etc/criu/runc.conf, or install the OCI runtime {ways.RUNTIME}",
            )

    # Making it

    def _inspected(self) -> dict:
        """The container's inspect data when it was checkpointed."""
        return manifest.inspected(self.folder, INTACT)

    def _build(
        self,
        make: Callable[[Recreation], object],
        fill: Callable[[Recreation], None],
        place: Replacement | None = None,
    ) -> Recreation:
        """Makes something of the container and fills it; after a failure, nothing of it is left.

        :param place: the place that it is to take.
        """
        inspect = self._inspected()
        self.recreation = made = Recreation(
            self.client,
            place.interim_name if place else self.name,
            place.described(inspect) if place else inspect,
            self.files.volumes(),
            self.manifest.mounts or {},
            self.manifest.files_alone or [],
            note=functools.partial(journal.note, self.params["migration"]),
            # What takes the place of a container that was stopped here is this server's own.
            policy=None if place else recreate.policy_here(),
        )
        try:
            make(made)
            fill(made)
        except Exception:
            made.remove()
            raise
        return made

    def _create(self, armed: bool, place: Replacement | None = None) -> str:
        """The container with its files, not started; its ID.

        :param armed: whether it is to be restored through our OCI runtime.
        :param place: the place that it is to take.
        """
        # Where it may still run at the source, it cannot have its addresses.
        moves = bool(self.manifest.exit or self.manifest.prepared or place)
        if place:
            place.clear()

        def fill(made: Recreation) -> None:
            if place:
                self.files.fill_replacement(made.container_id, place.old or {})
            else:
                self.files.fill_container(made.container_id)

        return self._build(lambda made: made.create(armed, same_addresses=moves), fill, place).container_id

    def _restore(self, stopped: dict | None, place: Replacement | None) -> dict:
        """Restores the container.

        :param stopped: the container of the checkpoint itself, where it is here.
        :param place: its place, where another one is to take it.
        """
        lines: list[str] = []
        try:
            if stopped and not place:
                container_id = stopped["Id"]
            else:
                container_id = self._create(self.way == ways.THROUGH_RUNTIME, place)
            self._note(container_id)
            journal.note(self.params["migration"], stage="restore")
            created = time.monotonic()
            lines, statistics = self._start(container_id)
            self._require_running(container_id)
            journal.note_what_happened(self.params["migration"], stage="restored", owner="destination")
        except _FAILURES as error:
            what = api.api_message(error)
            if isinstance(error, MigrationError):
                what, lines = error.what, error.details.get("criu_log", lines)
            raise MigrationError(
                f"the container {self.name} could not be restored ({what}){tool.reason(lines)}",
                self._undone(stopped),
                "mend the cause and restore it again",
                criu_log=lines,
            ) from error
        started = time.monotonic()
        if place:
            place.take(container_id)
        self._settle(container_id)
        seconds = {
            "verify": round(self.verified - self.begin, 3),
            "create": round(created - self.verified, 3),
            "start": round(started - created, 3),
            "total": round(time.monotonic() - self.begin, 3),
        }
        result = self._result(container_id, changed=True, in_place=bool(stopped and not place))
        return dict(result, statistics=statistics, seconds=seconds)

    def _start(self, container_id: str) -> tuple[list[str], dict]:
        seconds = self.params["restore_timeout"]
        self.files.require_in_place()
        if self.way == ways.THROUGH_RUNTIME and self.docker_socket:
            more = self.files.binds, self.files.etc(container_id)
            return runtime_restore.from_images(self.docker_socket, container_id, self.images, seconds, *more)
        checkpoint = docker_restore.Checkpoint(self.manifest.name, self.manifest.created)
        root = self.daemon["root"]
        found = docker_restore.from_checkpoint(self.client, root, container_id, self.images, checkpoint, seconds)
        self._place_etc(container_id)
        return found

    def _place_etc(self, container_id: str) -> None:
        """Docker makes these files when it starts a container, and has it restored at once. It runs without that."""
        try:
            placing = self.files.etc(container_id)
            if placing:
                placing.settle()
        except Refused as error:
            self.request.warn(f"{self.name} runs, but {error}")

    def _require_running(self, container_id: str) -> None:
        state = self.client.inspect_container(container_id)["State"]
        if not state.get("Running"):
            raise MigrationError(f"it was restored and ended at once with exit code {state.get('ExitCode')}")

    def _undone(self, stopped: dict | None) -> str:
        """Removes what the restore has made; returns the clause that tells the state."""
        left = self.recreation.remove() if self.recreation else "nothing of it is left on this host"
        return f"{'the container is stopped as before' if stopped else left}, the checkpoint is kept"

    def _note(self, container_id: str) -> None:
        restore_notes.note(container_id, self.manifest.id, self.daemon["root"])

    # What it gets once it runs. That is not worth undoing the restore for.

    def _settle(self, container_id: str) -> None:
        self._give_policy(container_id)
        self._give_settings(container_id)

    def _give_policy(self, container_id: str, now: dict | None = None) -> bool:
        """Its restart policy; whether it was given.

        :param now: its inspect data; nothing is done when it has the policy already.
        """
        if self.params["migration"]:
            # It comes at the end: until then, a daemon that starts anew must not start this copy anew.
            return False
        policy = self._inspected()["HostConfig"].get("RestartPolicy") or {"Name": "no"}
        if now and (now["HostConfig"].get("RestartPolicy") or {}).get("Name") == policy["Name"]:
            return False
        try:
            self.client.update_container(container_id, restart_policy=policy)
        except api.FAILURES as error:
            self.request.warn(
                f"{self.name} runs, but its restart policy {policy['Name']} is not back ({api.api_message(error)})"
            )
            return False
        return True

    def _give_settings(self, container_id: str) -> None:
        """What CRIU does not bring along, from the container's configuration. It runs without that, too."""
        process, host = self.client.inspect_container(container_id)["State"]["Pid"], self._inspected()["HostConfig"]
        try:
            procfs.settle_oom_score(process, host.get("OomScoreAdj") or 0)
            namespace.inside(f"/proc/{process}/ns/net", namespace.set_sysctls, host.get("Sysctls") or {})
        except (OSError, ValueError) as error:
            self.request.warn(f"{self.name} runs, but not all of its settings are back ({error})")

    def _result(self, container_id: str, changed: bool, in_place: bool, after: str = "running") -> dict:
        before = "exited" if in_place else "absent"
        container = {
            "id": container_id,
            "name": self.name,
            "image": self.manifest.container.image,
            "in_place": in_place,
        }
        diff = {"before": {self.name: before}, "after": {self.name: after}} if changed else {}
        return {"changed": changed, "container": container, "checkpoint": self._which(), "diff": diff}

    def _which(self) -> dict:
        """Which checkpoint this was, as its manifest says; that of an encrypted one was authenticated."""
        made = self.manifest
        return {
            "id": made.id,
            "name": made.name,
            "created": made.created,
            "container": {"id": made.container.id, "name": made.container.name},
        }
