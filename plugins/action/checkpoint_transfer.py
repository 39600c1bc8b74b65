# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of checkpoint_transfer: it opens both ends, lets the bytes flow, and closes both ends.

The module of the same name does the single steps on the hosts; see there for what users may say.
"""

from __future__ import annotations

import secrets
import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.fog.migration.plugins.module_utils.operations import for_agents
from ansible_collections.fog.migration.plugins.module_utils.transport import transfer as _transfer
from ansible_collections.fog.migration.plugins.plugin_utils import _relay, coordinator
from ansible_collections.fog.migration.plugins.plugin_utils._peer import Peer, PeerError
from ansible_collections.fog.migration.plugins.plugin_utils.agents import AgentError, NoAgent, Server
from ansible_collections.fog.migration.plugins.plugin_utils.migrations_action import SPEC

MODULE = "fog.migration.checkpoint_transfer"


class TransferFailed(Exception):
    """The task fails with this sentence, and with these values in its result."""

    def __init__(self, problem, state="nothing was sent", **values):
        super().__init__(problem)
        self.state = state
        self.values = values


class Source:
    """The host that the task runs on."""

    def __init__(self, action, task_vars):
        self.action = action
        self._task_vars = task_vars
        self.name = action._task.delegate_to or task_vars["inventory_hostname"]
        self.connection = action._connection

    def run(self, module, arguments):
        return self.action._execute_module(module_name=module, module_args=arguments, task_vars=self._task_vars)


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        if "migrations" in self._task.args:
            return self._copy(result, task_vars)
        _validation, options = self.validate_argument_spec(
            {**_transfer.argument_spec(path_type="str"), **for_agents.AGENTS}
        )
        agents = options.pop("agents") or {}
        problem = _transfer.check_options(options)
        if options.pop("step", None) or options.pop("step_options", None):
            problem = "step and step_options are internal and cannot be set in a task"
        if problem:
            return dict(result, failed=True, msg=f"{problem}.")
        transfer = Transfer(self, options, task_vars, agents)
        try:
            result.update(transfer.run())
        except TransferFailed as exc:
            result.update(transfer.names(), failed=True, msg=transfer.sentence(exc), **exc.values)
        if transfer.warnings:
            result["warnings"] = transfer.warnings
        return result

    def _copy(self, result, task_vars):
        """Has the agents of a run copy the memory and files of its migrations."""
        _validation, options = self.validate_argument_spec(SPEC)
        if self._task.check_mode:
            return dict(result, changed=bool(options["migrations"]), migrations=options["migrations"])
        result.update(coordinator.run(self, task_vars, options, coordinator.Coordinator.copy))
        return result


class Transfer:
    """One transfer, from the first look to the revoked keys."""

    def __init__(self, action, options, task_vars, agents):
        self._action = action
        self._agents = agents
        self._options = options
        self._task_vars = task_vars
        self._check_mode = action._task.check_mode
        self._id = secrets.token_hex(8)
        self._opened = {}
        self._dest_path = (options["dest_path"] or options["path"]).rstrip("/")
        self._options["path"] = options["path"].rstrip("/")
        self.warnings = []
        self.source = Source(action, task_vars)
        self.destination = None

    def sentence(self, failure):
        return (
            f"Transfer of {self._options['path']} from {self.source.name} to {self._options['destination']}: "
            f"{failure}; {failure.state}."
        )

    def names(self):
        """What a failed task tells, whatever happened."""
        return {
            "path": self._options["path"],
            "dest_path": self._dest_path,
            "staging_path": _transfer.staging(self._dest_path),
        }

    def run(self):
        try:
            return self._run()
        except PeerError as exc:
            raise TransferFailed(f"{self._options['destination']} cannot be used: {exc}") from exc
        finally:
            self._close()

    def _run(self):
        name = self._options["destination"]
        if name == self.source.name:
            raise TransferFailed("the destination is the source itself")
        self.destination = Peer(self._action, name, self._task_vars)
        if self._options["live"]:
            return self._open_channel()
        here = self._open_source(self._options["mode"])
        there = self._open_destination(here, replace=False)
        if there["exists"]:
            same = self._compare(there["fingerprint"])
            mode, _why = _transfer.choose_mode(self._options["mode"], here, there)
            if same:
                return self._result(here, changed=False, mode=mode, compression=self._compression(here, there))
            there = self._open_destination(here, replace=True)
        mode, why = _transfer.choose_mode(self._options["mode"], here, there)
        self._check_access(mode, why, there)
        if self._check_mode:
            return self._result(here, changed=True, mode=mode, compression=self._compression(here, there))
        mode, stats = self._carry(mode, why, here, there)
        rate = _transfer.rate(stats["bytes_sent"], stats["seconds"])
        return self._result(here, changed=True, mode=mode, rate=rate, **stats)

    def _open_channel(self):
        """A channel for a live migration, which stays open. The SSH access is revoked at once."""
        here = self._open_source("direct")
        there = self._open_destination(here, replace=False)
        problem = None if here["has_ssh"] else "the source has no ssh and ssh-keygen"
        self._check_access("direct", problem or there.get("access_problem"), there)
        if self._check_mode:
            return self._result(here, changed=True, mode="direct", compression="none")
        address, port = self._address()
        where = {"directory": here["directory"], "user": there["user"], "address": address, "port": port}
        opened = self._step(self.source, "open_channel", host_keys=there["host_keys"], **where)
        self._step(self.destination, "revoke_key", user=self._opened[self.destination])
        # Both ends remove themselves when the migration ends.
        self._opened.clear()
        staging = {"source": opened["staging"], "destination": there["staging"]}
        result = {
            "mode": "direct",
            "compression": "none",
            "channel": opened["channel"],
            "staging": staging,
            "rounds": [],
        }
        live = self._options["live"]
        if _transfer.copies_beforehand(live["mode"], live["shared"], live["mounts"], live["log"]):
            result.update(self._follow_rounds(opened["channel"]))
        return self._result(here, changed=True, **result)

    def _follow_rounds(self, channel):
        """Waits for the end of pre-copy, and shows how far it is on the terminal."""
        began, before = time.monotonic(), None
        while True:
            told = self._step(self.source, "progress", channel=channel)["progress"]
            if told["ended"]:
                rate = _transfer.rate(told["sent"], time.monotonic() - began)
                spent = {"bytes_sent": told["sent"], "rate": rate, "seconds": round(time.monotonic() - began, 3)}
                compression = "zlib" if told["saved"] else "none"
                kept = {name: told[name] for name in ("rounds", "tracked")}
                return dict(spent, compression=compression, rounds_ended=told["ended"], **kept)
            Display().display(_transfer.progress_line(self.source.name, self.destination.name, told, before))
            before = told

    def _carry(self, mode, why, here, there):
        """Lets the bytes flow; the mode that did it, and what it cost."""
        spent = {}
        if mode == "direct":
            spent = self._send(here, there)
            if self._options["mode"] == "direct" or not _transfer.never_met(spent):
                return mode, self._stats(spent)
            why = f"the source did not get to {self.destination.name}'s receiver: {spent.get('msg')}"
            self.warnings.append(f"The transfer was relayed by the controller, because {why}.")
        if self._options["mode"] == "auto":
            Display().v(f"The controller relays the transfer to {self.destination.name}: {why}")
            self._close_end(self.source)
            here = self._open_source("relay")
        return "relay", self._stats(_transfer.added_up(spent, self._relay(here, there)))

    # Steps on the two hosts

    def _step(self, end, step, **orders):
        result = self._run_module(end, dict(self._options, step=step, step_options=dict(orders, id=self._id)))
        if result.get("failed") and step != "send":
            raise TransferFailed(f"on {end.name}, {str(result.get('msg', 'the module failed')).rstrip('.')}")
        return result

    def _run_module(self, end, arguments):
        """What the module returns, run in the agent of that host where there is one."""
        agent = None if self._check_mode else self._agents.get(end.name)
        try:
            if agent:
                return Server(end.name, end.action, agent).ask("module", name="checkpoint_transfer", params=arguments)
        except NoAgent:
            pass
        except AgentError as exc:
            return {"failed": True, "msg": str(exc)}
        return end.run(MODULE, arguments)

    def _open_source(self, mode):
        address, port = self._address()
        user = self._login(self.source)
        self._opened[self.source] = user
        return self._step(self.source, "open_source", mode=mode, address=address, port=port, user=user)

    def _open_destination(self, here, replace):
        user = self._login(self.destination)
        self._opened[self.destination] = user
        return self._step(
            self.destination,
            "open_destination",
            final=self._dest_path,
            replace=replace,
            user=user,
            host=self.destination.name,
            public_key=here.get("public_key"),
        )

    def _compare(self, there):
        """Whether the destination has the same directory already. One that differs is a failure, unless forced."""
        here = self._step(self.source, "fingerprint")["fingerprint"]
        if here["digest"] == there["digest"]:
            return True
        if not self._options["force"]:
            other = there.get("problem") or f"{_transfer.describe(there)}; the source has {_transfer.describe(here)}"
            raise TransferFailed(
                f"{self.destination.name} has something else under {self._dest_path} already ({other})",
                "nothing was changed: remove it there, choose another dest_path, or set force to replace it",
            )
        return False

    def _check_access(self, mode, why, there):
        if there.get("sudo_problem"):
            raise TransferFailed(
                f"on {self.destination.name}, {there['sudo_problem']}",
                "nothing was sent: allow it in sudoers, or let Ansible log in as root there",
            )
        if mode == "direct" and why:
            raise TransferFailed(
                f"a direct transfer is not possible: {why}", "nothing was sent: cure that, or set mode to relay or auto"
            )

    def _send(self, here, there):
        address, port = self._address()
        result = self._step(
            self.source,
            "send",
            directory=here["directory"],
            user=there["user"],
            address=address,
            port=port,
            host_keys=there["host_keys"],
        )
        if not result.get("failed"):
            # The key went with the step; there is nothing else to close.
            del self._opened[self.source]
        return result

    def _relay(self, here, there):
        return _relay.relay(
            _relay.End(self.source.name, self.source.connection, here["command"]),
            _relay.End(self.destination.name, self.destination.connection, there["command"]),
            retries=self._options["retries"],
            timeout=self._options["timeout"],
        )

    def _stats(self, result):
        """What the sending cost; a failure when it failed."""
        stats = {
            name: result[name]
            for name in ("bytes_sent", "bytes_received", "seconds", "attempts", "resumed_bytes", "compression")
            if name in result
        }
        if not result.get("failed"):
            return stats
        there = self.destination.name
        state = f"{self._dest_path} on {there} is as it was before"
        if result.get("interrupted") and result.get("reached"):
            state = (
                f"what arrived is kept on {there} in {_transfer.staging(self._dest_path)}: "
                "run the task again and it resumes from there"
            )
        raise TransferFailed(str(result.get("msg", "the sending failed")).rstrip("."), state, **stats)

    def _close(self):
        for end in list(self._opened):
            self._close_end(end)
        if self.destination:
            self.destination.close()

    def _close_end(self, end):
        """Takes the key, the line, the program away. What cannot be removed now is a warning, not a second failure."""
        user = self._opened.pop(end)
        if self._check_mode:
            return
        role = "source" if end is self.source else "destination"
        try:
            self._step(end, "close", role=role, user=user)
        except Exception as exc:
            self.warnings.append(
                f"What belonged to the transfer {self._id} could not be removed from {end.name} "
                f"({exc}); the key is of no use any more, and the next transfer removes the rest."
            )

    # Facts

    def _address(self):
        """Where the source finds the destination's sshd."""
        variable = self.destination.variable
        address = self._options["dest_address"] or variable("fog_address")
        port = self._options["dest_port"] or variable("fog_port")
        if not address:
            address = variable("ansible_host") or self.destination.name
            port = port or variable("ansible_port")
        return str(address), int(port or 22)

    @staticmethod
    def _login(end):
        """The user that Ansible logs in as, when the connection says so."""
        try:
            return end.connection.get_option("remote_user")
        except (KeyError, AttributeError):
            return None

    def _compression(self, here, there):
        if self._options["compression"] == "auto":
            return "zstd" if here["has_zstd"] and there["has_zstd"] else "none"
        return self._options["compression"]

    def _result(self, here, **more):
        return _transfer.result_of(self._options, self._dest_path, here, **more)
