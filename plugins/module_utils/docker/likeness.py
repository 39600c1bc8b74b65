# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether Docker has made the container that it was asked for.

Docker changes what it is asked for without a word: it fills in from the image what a request leaves empty, drops what
its version does not know or its kernel cannot do, and joins a network that nobody named. A container that is made again
has everything said about it, so whatever Docker has made otherwise is other than at the source.

Pure functions all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.docker import container_facts
from ansible_collections.fog.migration.plugins.module_utils.docker.create import linked

# Of the body of C(POST /containers/create), what is no part of the container's C(Config).
_BESIDE_CONFIG = ("HostConfig", "NetworkingConfig")
# In C(Config): Docker from 25 on has the address with the network, and gives a hostname to who has none of its own.
_CONFIG_OF_SERVER = ("MacAddress",)
_CONFIG_FILLED = ("Hostname",)
# In C(HostConfig): what a Docker that is newer than the source's says in place of nothing, and an older one cannot say.
_HOST_FILLED = ("CgroupnsMode", "IpcMode", "Isolation", "Runtime", "ShmSize")
_HOST_UNSAID = ("MaskedPaths", "ReadonlyPaths")
# By which Docker's versions say the same.
_SAME_WORDS = {"NetworkMode": {"default": "bridge"}}
# Where -1 says no more than nothing.
_WITHOUT_LIMIT = ("MemorySwappiness", "PidsLimit")
_CAPABILITIES = ("CapAdd", "CapDrop")
# What is there by its name, also where nothing is said of it.
_NAMED = ("Annotations", "ExposedPorts", "Labels", "PortBindings", "StorageOpt", "Sysctls", "Tmpfs", "Volumes")


def differences(body: Mapping[str, Any], networks: Collection[str], made: Mapping[str, Any]) -> list[str]:
    """What is otherwise than it was asked for, by the names of inspect data, such as C(Config.Entrypoint).

    :param body: the body of the request that has made it, see C(create.creation_body).
    :param networks: the names of the networks that it is to be in.
    :param made: its inspect data.
    """
    config = {key: value for key, value in body.items() if key not in _BESIDE_CONFIG}
    found = [f"Config.{key}" for key in _other_config(config, made["Config"])]
    found += [f"HostConfig.{key}" for key in _other_host_config(body["HostConfig"], made["HostConfig"])]
    if set(container_facts.endpoints(dict(made))) != set(networks):
        found.append("NetworkSettings.Networks")
    return sorted(found)


def _other_config(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """Of what is left empty here, Docker takes that of the image."""
    for key in {*asked, *made}.difference(_CONFIG_OF_SERVER):
        filled = key in _CONFIG_FILLED and _is_nothing(asked.get(key))
        if not filled and not _is_same_option(key, asked.get(key), made.get(key)):
            yield key


def _other_host_config(asked: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    """What nothing was said of is as each Docker has it, and has nothing to do with the image."""
    for key, value in asked.items():
        if key in _HOST_FILLED and (_is_nothing(value) or (key == "CgroupnsMode" and value == "host")):
            continue
        if key in _HOST_UNSAID and key not in made:
            continue
        if not _is_same_host_option(key, value, made.get(key)):
            yield key


def _is_same_host_option(key: str, asked: Any, made: Any) -> bool:
    if key in _CAPABILITIES:
        return _capabilities(asked) == _capabilities(made)
    if key == "Links":
        return sorted(asked or []) == sorted(linked(made))
    if key == "LogConfig" and isinstance(asked, Mapping) and isinstance(made, Mapping):
        # A server may have options of its own for the log, such as how large it becomes.
        theirs = made.get("Config") or {}
        mine = asked.get("Config") or {}
        return asked.get("Type") == made.get("Type") and all(theirs.get(one) == mine[one] for one in mine)
    if key in _WITHOUT_LIMIT:
        return (0 if asked == -1 else asked or 0) == (0 if made == -1 else made or 0)
    words = _SAME_WORDS.get(key, {})
    if words and isinstance(asked, str) and isinstance(made, str):
        return words.get(asked, asked) == words.get(made, made)
    return _is_same_option(key, asked, made)


def _is_same_option(key: str, asked: Any, made: Any) -> bool:
    if key in _NAMED and {*(asked or ())} != {*(made or ())}:
        return False
    return _is_same(asked, made)


def _capabilities(names: Any) -> set[str]:
    found = {str(one).upper() for one in names or []}
    return {one[len("CAP_") :] if one.startswith("CAP_") else one for one in found}


def _is_nothing(value: Any) -> bool:
    """Whether this says no more than nothing at all: Docker's versions write that in several ways."""
    if isinstance(value, Mapping):
        return all(map(_is_nothing, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_nothing, value))
    return not value


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(_is_same(one.get(key), other.get(key)) for key in {*one, *other})
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return all(map(_is_same, one, other))
    return one == other or (_is_nothing(one) and _is_nothing(other))
