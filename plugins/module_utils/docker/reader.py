# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read from Docker, at its Unix socket, without Docker's SDK, which takes longer to import than all of it.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import engine, options
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

SOCKET = str(options.DEFAULTS["docker_host"])[len("unix://") :]
# All but these is written as %XX, so that a name is one part of a path, whatever it is.
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.:@-]")
_NOT_FOUND = 404


class Reader:
    """The methods of the SDK's client that C(server_info) needs, by the same names and with the same results.

    :param docker_socket: path of Docker's socket on this host.
    :param api_version: V(auto) speaks the newest that the daemon knows.
    :param timeout: seconds to wait for an answer.
    """

    def __init__(self, docker_socket: str = SOCKET, api_version: str = "auto", timeout: float = 60) -> None:
        self.docker_socket = docker_socket
        self.timeout = timeout
        self._prefix = "" if api_version == "auto" else f"/v{api_version.lstrip('v')}"

    def info(self) -> dict[str, Any]:
        """C(GET /info)."""
        return self._get("/info")

    def version(self) -> dict[str, Any]:
        """The versions of Docker and of its API, and whether it is experimental.

        Docker tells them in the head of C(GET /_ping) already; for C(GET /version) it starts three programs.
        """
        _status, headers, _text = self._fetch("/_ping")
        server = re.match(r"Docker/(\S+)", headers.get("server", ""))
        if not server or "api-version" not in headers:
            return self._get("/version")
        experimental = headers.get("docker-experimental", "").lower() == "true"
        return {"Version": server.group(1), "ApiVersion": headers["api-version"], "Experimental": experimental}

    def containers(self, all: bool = False) -> list[dict[str, Any]]:
        """C(GET /containers/json)."""
        return self._get("/containers/json?all=1" if all else "/containers/json") or []

    def find_container(self, name: str) -> dict[str, Any] | None:
        """The inspect data of a container by name or id, or None."""
        return self._find(f"/containers/{_quoted(name)}/json")

    def diff(self, container: str) -> list[dict[str, Any]] | None:
        """C(GET /containers/ID/changes)."""
        return self._get(f"/containers/{_quoted(container)}/changes")

    def images(self) -> list[dict[str, Any]]:
        """C(GET /images/json)."""
        return self._get("/images/json") or []

    def find_image(self, reference: str) -> dict[str, Any] | None:
        """The inspect data of an image by name or id, or None."""
        return self._find(f"/images/{_quoted(reference)}/json")

    def networks(self) -> list[dict[str, Any]]:
        """C(GET /networks)."""
        return self._get("/networks") or []

    def find_network(self, name: str) -> dict[str, Any] | None:
        """The inspect data of a network by name or id, or None."""
        return self._find(f"/networks/{_quoted(name)}")

    def volumes(self) -> dict[str, Any]:
        """C(GET /volumes)."""
        return self._get("/volumes") or {}

    def _find(self, path: str) -> Any:
        status, _headers, value = self._fetch(path, _NOT_FOUND)
        return None if status == _NOT_FOUND else value

    def _get(self, path: str) -> Any:
        return self._fetch(path)[2]

    def _fetch(self, path: str, expected: int | None = None) -> tuple[int, dict[str, str], Any]:
        """Status, headers and value.

        :param expected: a status other than success that is no failure.
        :raises MigrationError: when Docker does not answer, or refuses.
        """
        status, headers, value, problem = engine.fetch(self.docker_socket, self._prefix + path, self.timeout)
        if problem and not status:
            raise MigrationError(
                f"the Docker daemon at unix://{self.docker_socket} cannot be reached ({problem.rpartition(': ')[2]})",
                "nothing was changed",
                "start the daemon, or give docker_host and the TLS options that it wants",
            )
        if problem and status != expected:
            raise MigrationError(f"the Docker daemon refused GET {path} ({problem.rstrip('.')})")
        return status, headers, value


def _quoted(name: str) -> str:
    return _UNSAFE.sub(lambda found: b"%%%02X" % found.group()[0], name.encode("utf-8")).decode("ascii")


def socket_of(params: dict[str, Any]) -> str | None:
    """The path of the socket at which a C(Reader) can ask the daemon that the connection options name, or None."""
    # Of these, only the SDK knows how.
    if params.get("tls") or params.get("validate_certs") or params.get("debug"):
        return None
    found = re.fullmatch(r"(?:http\+)?unix://(/.+)", params["docker_host"])
    return found.group(1) if found else None


def connect(params: dict[str, Any]) -> Any:
    """What reads from the daemon that the connection options name: without the SDK if it can be.

    :returns: a C(Reader), or the SDK's client.
    :raises MigrationError: when the daemon cannot be reached. A C(Reader) tells that when it is asked.
    """
    place = socket_of(params)
    if place:
        return Reader(place, params["api_version"], params["timeout"])
    # Here and not above, as the import takes longer than all questions.
    from ansible_collections.fog.migration.plugins.module_utils.docker import api

    return api.connect(params)
