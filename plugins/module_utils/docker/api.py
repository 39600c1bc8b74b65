# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker's API with checkpoints, which neither the Docker SDK for Python nor community.docker offers."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterable
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import daemon
from ansible_collections.fog.migration.plugins.module_utils.errors import MigrationError

# What a call of the API can raise.
FAILURES: tuple[type[Exception], ...]

try:
    import requests.exceptions

    import docker
    import docker.errors
    import docker.tls
    from docker import APIClient

    DOCKER_IMPORT_ERROR = None
    FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
    READ_TIMEOUT: type[Exception] = requests.exceptions.ReadTimeout
    # Docker's answer that it has not done what it was asked for. With another failure, nobody knows what it does.
    ANSWERED: type[Exception] = docker.errors.APIError
except ImportError:
    DOCKER_IMPORT_ERROR = traceback.format_exc()
    APIClient = object
    FAILURES = (OSError,)
    READ_TIMEOUT = TimeoutError
    ANSWERED = OSError

api_message = daemon.message
_BLOCK = 1 << 20
# Seconds for Docker to end a removal that it has begun by itself.
_REMOVE_LIMIT = 10
# What making a client can raise: the SDK takes an option that it does not know for a wrong argument.
_CONNECT_FAILURES: tuple[type[Exception], ...] = (TypeError, *FAILURES)


class CheckpointClient(APIClient):
    """The SDK's client plus Docker's experimental checkpoints, creation from inspect data, and archives of images."""

    def create_checkpoint(self, container: str, name: str, directory: str, leave_running: bool, timeout: float) -> None:
        """C(POST /containers/ID/checkpoints): freezes the container and writes I(name) below I(directory)."""
        body = {"CheckpointID": name, "CheckpointDir": directory, "Exit": not leave_running}
        url = self._url("/containers/{0}/checkpoints", container)
        self._raise_for_status(self._post_json(url, data=body, timeout=timeout))

    def start_from_checkpoint(self, container: str, name: str, timeout: float) -> None:
        """C(POST /containers/ID/start?checkpoint=NAME): the checkpoint lies in the container's own folder."""
        url = self._url("/containers/{0}/start", container)
        self._raise_for_status(self._post(url, params={"checkpoint": name}, timeout=timeout))

    def create_from_body(self, name: str, body: dict) -> str:
        """C(POST /containers/create) with a complete body; returns the id of the new container."""
        url = self._url("/containers/create")
        return self._result(self._post_json(url, data=body, params={"name": name}), json=True)["Id"]

    def connect_endpoint(self, network: str, container: str, endpoint: dict) -> None:
        """C(POST /networks/NETWORK/connect), with the endpoint's settings as they are."""
        url = self._url("/networks/{0}/connect", network)
        body = {"Container": container, "EndpointConfig": endpoint}
        self._raise_for_status(self._post_json(url, data=body))

    def create_network_from_body(self, body: dict) -> str:
        """C(POST /networks/create) with a complete body; returns the ID of the new network."""
        return self._result(self._post_json(self._url("/networks/create"), data=body), json=True)["Id"]

    def find_container(self, name: str) -> dict | None:
        """The inspect data of a container by name or id, or None."""
        try:
            return self.inspect_container(name)
        except docker.errors.NotFound:
            return None

    def find_image(self, reference: str) -> dict | None:
        """The inspect data of an image by name or id, or None."""
        try:
            return self.inspect_image(reference)
        except docker.errors.NotFound:
            return None

    def find_network(self, name: str) -> dict | None:
        """The inspect data of a network by name or id, or None."""
        try:
            return self.inspect_network(name)
        except docker.errors.NotFound:
            return None

    def save_images(self, names: list[str], path: str) -> None:
        """C(GET /images/get): writes an archive with these images.

        Docker saves all of them before it answers, which takes as long as it takes.
        """
        answer = self._get(self._url("/images/get"), params={"names": names}, stream=True, timeout=None)
        self._raise_for_status(answer)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            for block in answer.iter_content(_BLOCK):
                stream.write(block)

    def load_archive(self, blocks: Iterable[bytes]) -> None:
        """C(POST /images/load): loads what is in an archive, which takes as long as it takes.

        :raises MigrationError: when Docker tells in its answer that it could not.
        """
        answer = self._post(self._url("/images/load"), data=blocks, stream=True, timeout=None)
        self._raise_for_status(answer)
        for line in self._stream_helper(answer, decode=True):
            if "error" in line:
                raise MigrationError(f"Docker did not load the image ({daemon.message(line['error'])})")


def remove(client: CheckpointClient, container: str, **how: bool) -> None:
    """Removes a container, whether it runs or not; returns when it has gone.

    Docker removes one with C(--rm) by itself when it ends, and refuses to be asked for that meanwhile.

    :param how: C(v=True) for its anonymous volumes as well.
    """
    try:
        client.remove_container(container, force=True, **how)
    except ANSWERED:
        deadline = time.monotonic() + _REMOVE_LIMIT
        while client.find_container(container):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _tls(params: dict) -> Any:
    """The SDK's C(tls) argument for these options: a C(TLSConfig), or False."""
    if not (params["tls"] or params["validate_certs"]):
        return False
    folder = os.environ.get("DOCKER_CERT_PATH")

    def place(option: str, name: str) -> str | None:
        return params[option] or (os.path.join(folder, name) if folder else None)

    pair = (place("client_cert", "cert.pem"), place("client_key", "key.pem"))
    more = {"assert_hostname": params["tls_hostname"]} if params["tls_hostname"] else {}
    return docker.tls.TLSConfig(
        client_cert=pair if all(pair) else None,
        ca_cert=place("ca_path", "ca.pem") if params["validate_certs"] else None,
        verify=params["validate_certs"],
        **more,
    )


def connect(params: dict) -> CheckpointClient:
    """A client for the daemon that the connection options name.

    :raises MigrationError: when the daemon cannot be reached.
    """
    url = params["docker_host"]
    if DOCKER_IMPORT_ERROR:
        raise MigrationError(
            "the Docker SDK for Python is not installed",
            "nothing was changed",
            "install it with the role fog.migration.docker",
        )
    try:
        tls = _tls(params)
        return CheckpointClient(
            base_url=url.replace("tcp://", "https://", 1) if tls else url,
            version=params["api_version"],
            timeout=params["timeout"],
            tls=tls,
            use_ssh_client=params["use_ssh_client"],
        )
    except _CONNECT_FAILURES as error:
        raise MigrationError(
            f"the Docker daemon at {url} cannot be reached ({api_message(error)})",
            "nothing was changed",
            "start the daemon, or give docker_host and the TLS options that it wants",
        ) from error


def daemon_facts(client: CheckpointClient) -> dict:
    """What the decisions need to know of the daemon, see C(daemon.facts)."""
    return daemon.facts(client.info(), client.version())


def require_local(root: str, container_id: str) -> str:
    """The container's own folder below Docker's data root.

    :raises MigrationError: when it is not on this host, which means that the daemon runs elsewhere.
    """
    folder = os.path.join(root, "containers", container_id)
    if not os.path.isdir(folder):
        raise MigrationError(
            f"Docker's folder {folder} is not on this host or cannot be read",
            "nothing was changed",
            "run the task on the host of the daemon, as root (become)",
        )
    return folder
