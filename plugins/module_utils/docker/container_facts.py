# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a container's inspect data tell: its addresses, ports, health check, and the namespaces that it shares.

Pure functions all of them.
"""

from __future__ import annotations

from typing import Any


def endpoints(inspect: dict) -> dict:
    """The container's settings in each of its networks, by name."""
    return (inspect.get("NetworkSettings") or {}).get("Networks") or {}


def addresses(inspect: dict) -> dict[str, list[str]]:
    """The container's addresses, by network."""
    keys = ("IPAddress", "GlobalIPv6Address")
    return {name: [endpoint[key] for key in keys if endpoint.get(key)] for name, endpoint in endpoints(inspect).items()}


def fixed_addresses(inspect: dict) -> dict[str, list[str]]:
    """The addresses that the container was given by its creator, so that it gets them again, by network."""
    given = {name: endpoint.get("IPAMConfig") or {} for name, endpoint in endpoints(inspect).items()}
    keys = ("IPv4Address", "IPv6Address")
    return {name: [one[key] for key in keys if one.get(key)] for name, one in given.items()}


def endpoint_settings(inspect: dict) -> dict[str, dict[str, Any]]:
    """What a container is called in each of its networks, its hardware address there and what else was configured.

    Docker tells of names in any order, and calls a container by its ID as well, which is another one elsewhere.
    """
    found = {}
    for name, endpoint in endpoints(inspect).items():
        names = sorted(one for one in endpoint.get("Aliases") or [] if not inspect["Id"].startswith(one))
        links = sorted(endpoint.get("Links") or [])
        kept = {key: endpoint.get(key) or None for key in ("MacAddress", "DriverOpts", "GwPriority")}
        found[name] = {**kept, "Aliases": names, "Links": links}
    return found


def keeps_shared_memory(inspect: dict) -> bool:
    """Whether CRIU takes the content of /dev/shm along: not where others may share it, since it is the server's then.

    Docker before 20.10 makes it so that they may, where nobody says anything.
    """
    return inspect["HostConfig"].get("IpcMode") in ("private", "none")


def health_command(inspect: dict) -> list[str]:
    """The last words of the command that checks the container's health; none where there is no such check."""
    kind, *words = (inspect["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"]
    return words if kind in ("CMD", "CMD-SHELL") else []


_NAMESPACES = {"NetworkMode": "network", "PidMode": "PID", "IpcMode": "IPC"}


def shared_namespaces(inspect: dict, others: list[dict]) -> list[str]:
    """The namespaces that a container shares with others, as clauses such as C(the network namespace of web).

    :param others: the inspect data of all other containers of its server.
    """
    names = {one["Id"]: one["Name"].lstrip("/") for one in others}
    found = []
    for key, kind in _NAMESPACES.items():
        owner = _joined(inspect, key)
        if owner:
            found.append(f"the {kind} namespace of {names.get(owner, owner[:12])}")
        guests = sorted(names[one["Id"]] for one in others if _joined(one, key) == inspect["Id"])
        if guests:
            found.append(f"its {kind} namespace with {', '.join(guests)}")
    return found


def _joined(inspect: dict, key: str) -> str:
    """The ID of the container whose namespace this one has joined; empty where it has not."""
    kind, _colon, owner = (inspect["HostConfig"].get(key) or "").partition(":")
    return owner if kind == "container" else ""


def published_ports(inspect: dict) -> list[str]:
    """Host ports that the container asks for by number, e.g. C(["8080/tcp"])."""
    bindings = inspect["HostConfig"].get("PortBindings") or {}
    return sorted(
        f"{binding['HostPort']}/{port.rsplit('/', 1)[-1]}"
        for port, hosts in bindings.items()
        for binding in hosts or []
        if binding.get("HostPort")
    )
