# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving containers through their channels, one or several together, as the module at the source requests it.

Private to the collection fog.migration.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError
from ansible_collections.fog.migration.plugins.module_utils.migration.channel import source_requests


class Move:
    """One container and the source's end of its channel.

    :param channel: the socket of the source's end.
    :param held: its restart policy, which was set to C(no), or None.
    """

    def __init__(self, container: str, channel: str, mode: str, container_id: str, held: dict | None) -> None:
        self.container = container
        self.channel = channel
        self.mode = mode
        self.container_id = container_id
        self.held = held
        # The results of all operations together, and the seconds that their phases took.
        self.result: dict[str, Any] = {"seconds": {}}

    def request(self, operation: str) -> None:
        """Has the source's end do something.

        :raises MigrationError: when it failed, or nobody answers.
        """
        try:
            result = source_requests.ask(self.channel, {"do": operation, "mode": self.mode})
        except source_requests.NoAnswer as error:
            raise MigrationError(
                f"the channel {self.channel} does not answer ({error.reason})",
                f"{self.container} runs, or is paused",
                "look at the destination before you resume it with docker unpause",
            ) from error
        except MigrationError as error:
            what = f"{self.container} could not be moved ({error.what})"
            raise MigrationError(what, error.state, error.remedy, **error.details) from error
        self._keep(operation, result)

    def _keep(self, operation: str, result: dict[str, Any]) -> None:
        if operation == "go":
            self.result["seconds"].update(result)
        elif operation == "finish":
            self.result["seconds"]["completion"] = result["seconds"]
            self.result.update({key: result[key] for key in ("rounds", "statistics")})
        elif operation == "freeze":
            self.result.update(result)


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
            for operation in ("arm", "freeze") if alone else ("arm", "ready", "pause", "freeze"):
                self._request(operation)
        except MigrationError:
            self._give_up()
            raise
        # From the first request to go on, nothing is given up any more: what is left to do, the journal knows.
        for operation in ("finish",) if alone else ("go", "finish"):
            self._request(operation)

    def _request(self, operation: str) -> None:
        for error in self._try(self.members, operation).values():
            raise error

    def _give_up(self) -> None:
        """Those that could have moved stay as well."""
        others = [one for one in self.members if one not in self.stayed]
        failed = self._try(others, "give up")
        self.stayed += [one for one in others if one not in failed]

    def _try(self, members: list[Move], operation: str) -> dict[Move, BaseException]:
        """Requests it of these members at the same time; those that could not do it, and why."""
        with concurrent.futures.ThreadPoolExecutor(len(self.members)) as pool:
            jobs = [(one, pool.submit(one.request, operation)) for one in members]
        failed = {one: error for one, error in ((one, job.exception()) for one, job in jobs) if error}
        self.stayed += [one for one, error in failed.items() if _stays(error)]
        return failed


def _stays(error: BaseException) -> bool:
    return isinstance(error, MigrationError) and error.details.get("container_state") == "runs"
