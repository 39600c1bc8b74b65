# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server lets containers have that come from other servers: its policy, from a file that root writes.

Nothing that a migration brings changes this file. Where there is none, the defaults hold, which allow what Docker gives
to a container that asks for nothing.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any, NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError
from ansible_collections.fog.migration.plugins.module_utils.validate import are_texts

FILE = "/etc/fog-migration/policy.json"
# All of its lists hold patterns as the shell has them, but for those of folders.
_LISTS = (
    "sources",
    "host_namespaces",
    "bind_folders",
    "sockets",
    "volume_types",
    "devices",
    "capabilities",
    "security_options",
    "cgroup_parents",
    "annotations",
    "runtimes",
    "networks",
    "image_names",
    "image_pulls",
    "options",
)

_FLAGS = ("privileged", "bind_exchangeable", "bind_privileges")


class PolicyError(CollectionError):
    """The policy of this server cannot be used. The text is one sentence for people."""


class Policy(NamedTuple):
    """What may come to a server.

    All but I(bind_folders) and I(sockets) are patterns as a shell has them.

    :param sources: the servers that may send, by their names in the inventory.
    :param privileged: whether privileged containers may come.
    :param host_namespaces: those of the server that a container may share: C(network), C(pid), C(ipc), C(uts),
        C(user).
    :param bind_folders: folders of the server that may be mounted into a container, with all that is below them.
    :param sockets: its sockets that may be.
    :param volume_types: what volumes of Docker's own driver may be mounts of, besides its own folders.
    :param devices: paths of its devices, C(rule:...) of Docker's rules about these, and C(request:DRIVER).
    :param capabilities: without C(CAP_), beyond those of Docker's default.
    :param security_options: as C(docker run --security-opt) has them.
    :param cgroup_parents: control groups below which a container may be.
    :param annotations: their names. Those that tell the OCI runtime what to do are never allowed.
    :param runtimes: OCI runtimes besides runc.
    :param networks: what networks that are made for containers may have beyond a bridge with plain options, see
        C(judge_networks).
    :param image_names: names that an image may bring along, of those that no image has here.
    :param image_pulls: what may be pulled from registries, as C(REGISTRY/PATH).
    :param options: keys of Docker's API that are not known here, and may be passed on; C(Mounts.TYPE) of a type of
        mount, C(LogConfig.DRIVER) of what may send a log elsewhere, C(OomScoreAdj) and C(OomKillDisable).
    :param bind_exchangeable: whether a mount may stay where others than root can put something else in its place.
    :param bind_privileges: whether what arrives in folders of the server keeps setuid and setgid bits, file
        capabilities and devices.
    """

    sources: tuple[str, ...] = ("*",)
    privileged: bool = False
    host_namespaces: tuple[str, ...] = ()
    bind_folders: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    volume_types: tuple[str, ...] = ("tmpfs", "nfs", "nfs4", "cifs")
    devices: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    security_options: tuple[str, ...] = ()
    cgroup_parents: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    image_names: tuple[str, ...] = ("*",)
    image_pulls: tuple[str, ...] = ("docker.io/*",)
    options: tuple[str, ...] = ()
    bind_exchangeable: bool = False
    bind_privileges: bool = True


def parse(text: str) -> Policy:
    """The policy in the text of its file.

    :raises PolicyError: when it is none. A line that is not understood may be one that forbids something.
    """
    try:
        told = json.loads(text)
    except ValueError as error:
        raise PolicyError(f"it is not JSON ({error})") from error
    if not isinstance(told, dict):
        raise PolicyError("it is not an object of names and values")
    unknown = sorted(set(told) - set(Policy._fields))
    if unknown:
        raise PolicyError(f"it has {', '.join(unknown)}, which nobody knows")
    wrong = [name for name in _LISTS if name in told and not are_texts(told[name])]
    if wrong:
        raise PolicyError(f"{wrong[0]} is not a list of texts")
    wrong = [name for name in _FLAGS if not isinstance(told.get(name, False), bool)]
    if wrong:
        raise PolicyError(f"{wrong[0]} is neither true nor false")
    return _policy(told)


def _policy(told: dict[str, Any]) -> Policy:
    values: dict[str, Any] = {name: tuple(value) if name in _LISTS else value for name, value in told.items()}
    return Policy(**values)


def read(path: str = FILE) -> Policy:
    """The policy of this server.

    :raises PolicyError: when it cannot be read, or others than root could have written it.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), encoding="utf-8") as stream:
            _require_root(os.fstat(stream.fileno()))
            return parse(stream.read())
    except FileNotFoundError:
        return Policy()
    except (OSError, UnicodeError) as error:
        raise PolicyError(f"the policy in {path} cannot be read ({error})") from error
    except PolicyError as error:
        raise PolicyError(f"the policy in {path} cannot be used: {error}") from error


def from_facts(told: dict) -> Policy:
    """The policy from what C(server_info) tells of a server.

    :raises PolicyError: when that server has none that can be used.
    """
    if told.get("problem"):
        raise PolicyError(told["problem"])
    return _policy(told)


def facts_of(policy: Policy) -> dict[str, Any]:
    """A policy as C(from_facts) takes it."""
    return {name: list(value) if name in _LISTS else value for name, value in policy._asdict().items()}


def facts() -> dict[str, Any]:
    """The policy of this server, as C(from_facts) takes it."""
    try:
        return facts_of(read())
    except PolicyError as error:
        return {"problem": str(error)}


def _require_root(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise PolicyError("it is not a regular file")
    if found.st_uid or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PolicyError("others than root can write it")
