# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving containers through their channels, one or several together, as the module at the source has it done.

Private to the collection fog.migration.
"""

from __future__ import annotations

import concurrent.futures

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.migration import source


class Move:
    """One container and the source's end of its channel.

    :param held: its restart policy, which was set to C(no), or None.
    """

    def __init__(self, container: str, channel: str, mode: str, container_id: str, held: dict | None) -> None:
        self.container = container
        self.channel = channel
        self.mode = mode
        self.container_id = container_id
        self.held = held
        # What every step has told.
        self.told: dict = {"seconds": {}}

    def ask(self, verb: str) -> None:
        """Has the source's end do something.

        :raises MigrationError: when it says that something went wrong, or says nothing.
        """
        try:
            answer = source.ask(self.channel, {"do": verb, "mode": self.mode})
        except (OSError, ValueError) as error:
            raise MigrationError(
                f"the channel {self.channel} does not answer ({error})",
                f"{self.container} runs, or is paused",
                "look at the destination before you resume it with docker unpause",
            ) from error
        if "error" in answer:
            state, remedy = source.STATES[answer["state"]]
            details = {"container_state": answer["state"]}
            raise MigrationError(f"{self.container} could not be moved ({answer['error']})", state, remedy, **details)
        self._keep(verb, answer["result"])

    def _keep(self, verb: str, result: dict) -> None:
        if verb == "go":
            self.told["seconds"].update(result)
        elif verb == "finish":
            self.told["seconds"]["completion"] = result["seconds"]
            self.told.update({key: result[key] for key in ("rounds", "statistics")})
        elif verb == "freeze":
            self.told.update(result)


class Moves:
    """Containers that move together: all of them run at the destination in the end, or none."""

    def __init__(self, members: list[Move]) -> None:
        self.members = members
        # Those that run here again, or still.
        self.stayed: list[Move] = []

    def run(self) -> None:
        """Moves them.

        :raises MigrationError: of the first one that could not.
        """
        alone = len(self.members) == 1
        try:
            for verb in ("arm", "freeze") if alone else ("arm", "ready", "pause", "freeze"):
                self._each(verb)
        except MigrationError:
            self._give_up()
            raise
        # From the first word of it on, nothing is given up any more: what is left to do, the journal knows.
        for verb in ("finish",) if alone else ("go", "finish"):
            self._each(verb)

    def _each(self, verb: str) -> None:
        for error in self._ask(self.members, verb).values():
            raise error

    def _give_up(self) -> None:
        """Those that could have moved stay as well."""
        others = [one for one in self.members if one not in self.stayed]
        failed = self._ask(others, "give up")
        self.stayed += [one for one in others if one not in failed]

    def _ask(self, members: list[Move], verb: str) -> dict[Move, BaseException]:
        """Asks them at the same time; those that could not do it, and why."""
        with concurrent.futures.ThreadPoolExecutor(len(self.members)) as pool:
            jobs = [(one, pool.submit(one.ask, verb)) for one in members]
        failed = {one: error for one, error in ((one, job.exception()) for one, job in jobs) if error}
        self.stayed += [one for one, error in failed.items() if _stays(error)]
        return failed


def _stays(error) -> bool:
    return isinstance(error, MigrationError) and error.details.get("container_state") == "runs"
