# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The coordinator of a run of live migrations: it tells the agents of both servers what to do next.

It keeps nothing. What a migration is comes with each task as a list, which each task returns with what is known by
then (C(RunMigration)); how far it is, the journals of the servers know. So the controller may be lost between any two
requests.

Private to the collection fog.migration.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.utils.display import Display

from ansible_collections.fog.migration.plugins.module_utils.agent.migration import Migration
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.transport import transfer
from ansible_collections.fog.migration.plugins.plugin_utils import _controller
from ansible_collections.fog.migration.plugins.plugin_utils._peer import Peer, PeerError
from ansible_collections.fog.migration.plugins.plugin_utils.agents import AgentError, Server
from ansible_collections.fog.migration.plugins.plugin_utils.failures import Failure
from ansible_collections.fog.migration.plugins.plugin_utils.run_migration import RunMigration


class Coordinator:
    """Speaks to the agents of both servers for the migrations of one task.

    :param action: the action plugin of the task, which runs on the source.
    :param options: C(agents), C(migrations), C(all_or_none).
    :raises MigrationError: when a migration cannot be used.
    :raises PeerError: when the destination cannot be.
    """

    def __init__(self, action: Any, task_vars: dict[str, Any], options: dict[str, Any]) -> None:
        self.migrations = [RunMigration.from_json(one) for one in options["migrations"]]
        self.together = bool(options.get("all_or_none")) and len(self.migrations) > 1
        source, destination = self.migrations[0].told.source, self.migrations[0].told.destination
        self._peer = Peer(action, destination, task_vars)
        self.source = Server(source, action, options["agents"][source])
        self.destination = Server(destination, self._peer.action, options["agents"][destination])

    @property
    def going(self) -> list[RunMigration]:
        """Those that have not failed: none where one has failed that the others do not go without."""
        going = [one for one in self.migrations if not one.failure]
        return [] if self.together and len(going) < len(self.migrations) else going

    def close(self) -> None:
        """Closes the connection to the destination as far as it is this task's own."""
        self._peer.close()

    def result(self) -> dict[str, Any]:
        """The result of the task. It failed if none can go on, or one cannot that the others do not go without."""
        migrations = [one.to_json() for one in self.migrations]
        failures = [one.failure for one in self.migrations if one.failure]
        if failures and (self.together or not self.going):
            return {"failed": True, "msg": failures[0].in_words(), "migrations": migrations}
        return {"changed": True, "migrations": migrations}

    # One request, for all that go on

    def _ask(self, server: Server, stage: str, operation: str, **arguments: Any) -> dict[str, Any]:
        """What a server answers; its answers for single migrations are taken out of it and kept.

        :returns: the answer, C(migrations) of which is the results by ID.
        """
        going = self.going
        if not going:
            return {"migrations": {}}
        try:
            answer = server.ask(operation, migrations=[one.told.to_json() for one in going], **arguments)
        except AgentError as exc:
            what = f"the connection was lost ({exc})" if exc.unreachable else str(exc)
            for one in going:
                one.failure = Failure.from_json(dict(exc.details, stage=stage, host=server.name, msg=what))
            return {"migrations": {}}
        by_id = answer.get("migrations", answer)
        found = {}
        for one in going:
            each = by_id.get(one.id, {"failure": {"msg": "its agent said nothing of it"}})
            if "failure" in each:
                # An end of a channel knows the other one by no name.
                other = self.destination if server is self.source else self.source
                what = str(each["failure"]["msg"]).replace("the other end", other.name)
                one.failure = Failure.from_json(dict(each["failure"], msg=what, stage=stage, host=server.name))
            else:
                found[one.id] = each["result"]
        return dict(answer, migrations=found)

    def _stop_clock(self, stage: str) -> None:
        now = time.time()
        for one in self.going:
            one.clock = {**one.clock, stage: now}

    # The stages

    def reserve(self, settings: dict[str, Any]) -> None:
        """Stage 1: the journal at the source first, whose entry keeps a second migration of the container away."""
        common = dict(settings, controller=_controller.identity(os.getppid()))
        here = self._ask(self.source, "Reservation", "reserve_source", user=self.source.user, **common)
        there = self._ask(
            self.destination,
            "Reservation",
            "reserve_destination",
            user=self.destination.user,
            public_key=here.get("public_key"),
            **common,
        )
        for one in self.going:
            staging = {"source": here["migrations"][one.id]["staging"]}
            staging["destination"] = there["migrations"][one.id]["staging"]
            one.staging = staging
            one.access = {key: there[key] for key in ("user", "host_keys", "sessions")}

    def arm(self) -> None:
        """Stage 1: the containers are made at the destination, ready to be armed."""
        if self.going:
            address, port = self._address()
            there = dict(self.going[0].access or {}, name=self.destination.name, address=address, port=port)
            answer = self._ask(self.source, "Reservation", "arm", destination=there)
            for one in self.going:
                one.container_there = answer["migrations"][one.id]["container"]
        self._stop_clock("reservation")

    def _address(self) -> tuple[str, int]:
        """Where the source finds the destination's sshd."""
        variable = self._peer.variable
        address, port = variable("fog_address"), variable("fog_port")
        if not address:
            address = variable("ansible_host") or self.destination.name
            port = port or variable("ansible_port")
        return str(address), int(port or 22)

    def copy(self) -> None:
        """Stage 2: memory and files are copied until further rounds would not pay, with a line of progress for each."""
        began = time.monotonic()
        wanted = [one for one in self.going if _copies_beforehand(one.told)]
        if wanted:
            self._ask(self.source, "Pre-copy", "copy")
        ended: dict[str, dict[str, Any]] = {}
        before: dict[str, dict[str, Any]] = {}
        while wanted and any(one.id not in ended for one in self.going):
            told = self._ask(self.source, "Pre-copy", "progress")["migrations"]
            for one in self.going:
                now = told.get(one.id)
                if now and now["ended"]:
                    ended.setdefault(one.id, dict(now, seconds=time.monotonic() - began))
                elif now:
                    line = transfer.progress_line(self.source.name, self.destination.name, now, before.get(one.id))
                    Display().display(f"{line}  {one.told.container}")
                    before[one.id] = now
        for one in self.going:
            one.transfer = _transferred(one, ended.get(one.id))
        self._stop_clock("pre-copy")

    def switch_over(self, at_once: int) -> None:
        """Stage 3: the containers are frozen, handed over and restored. Nothing passes through here meanwhile."""
        answer = self._ask(self.source, "Stop-and-copy", "switch_over", together=self.together, at_once=at_once)
        for one in self.going:
            if one.id in answer["migrations"]:
                one.checkpoint = answer["migrations"][one.id]
        self._stop_clock("stop-and-copy")

    def commit(self) -> None:
        """Stage 4: the destination has to prove that the containers run; then the source must not run them any more."""
        proof = self._ask(self.destination, "Commitment", "verify")["migrations"]
        unfit = [one for one in self.going if one.id in proof and not proof[one.id]["runs"]]
        names = ", ".join(one.told.name for one in unfit)
        what = f"the container {names} was restored but does not run any more or is not healthy"
        for one in self.going if self.together and unfit else unfit:
            one.failure = Failure("Commitment", self.destination.name, what, rejected=True)
        self._ask(self.source, "Commitment", "commit")
        self._stop_clock("commitment")

    def finish(self) -> None:
        """Stage 5: both servers let go of what the migrations have there; what cannot be removed is C(left).

        The source does so first. The destination keeps what the source could not end, for a recovery to find it.
        """
        self.together = False
        self._ask(self.source, "Activation", "finish")
        self._ask(self.destination, "Activation", "finish")
        # The containers run at the destination: what failed here is only left over.
        for one in self.migrations:
            one.left = {str(one.failure.host): one.failure.to_json()} if one.failure else {}
            one.failure = None
        self._stop_clock("activation")


def _copies_beforehand(told: Migration) -> bool:
    """Whether something of a migration is copied before its container is frozen."""
    return transfer.copies_beforehand(told.mode, told.shared, [one.place for one in told.ordered], told.log)


def _transferred(one: RunMigration, told: dict[str, Any] | None) -> dict[str, Any]:
    """What pre-copy has cost, for the report."""
    nothing = {"rounds": [], "tracked": False, "compression": "none", "rounds_ended": "", "rate": 0.0}
    base = {"mode": "direct", "staging": one.staging, **nothing}
    if not told:
        return base
    spent = {"bytes_sent": told["sent"], "seconds": round(told["seconds"], 3)}
    spent["rate"] = transfer.rate(told["sent"], told["seconds"])
    kept = {name: told[name] for name in ("rounds", "tracked")}
    return {**base, **spent, **kept, "compression": "zlib" if told["saved"] else "none", "rounds_ended": told["ended"]}


def run(
    action: Any, task_vars: dict[str, Any], options: dict[str, Any], work: Callable[[Coordinator], None]
) -> dict[str, Any]:
    """The result of a task that is for migrations of a run."""
    if not options.get("migrations"):
        return {"changed": False, "migrations": []}
    try:
        coordinator = Coordinator(action, task_vars, options)
    except MigrationError as exc:
        return {"failed": True, "msg": str(exc), "migrations": options["migrations"]}
    except (PeerError, KeyError) as exc:
        return {"failed": True, "msg": f"the destination cannot be used: {exc}", "migrations": options["migrations"]}
    try:
        work(coordinator)
        return coordinator.result()
    finally:
        coordinator.close()


def at_the_same_time(works: list[Callable[[], Any]]) -> list[Any]:
    """The results of several works."""
    with ThreadPoolExecutor(len(works)) as pool:
        return [job.result() for job in [pool.submit(work) for work in works]]
