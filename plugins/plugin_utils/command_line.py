# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters that read the command line have in common.

Pure functions all of them. Private to the collection fog.migration.
"""

from __future__ import annotations

import fnmatch
import re
from typing import Any

from ansible_collections.fog.migration.plugins.module_utils.errors import CollectionError

# The group whose hosts take part where nobody names any.
SERVERS = "fog_servers"


class Misunderstood(CollectionError):
    """What was said makes no sense. The text is a clause that says what to say instead."""


def text_of(given: dict[str, Any], name: str) -> str:
    """What was given for one variable, empty where nothing was.

    :raises Misunderstood: when it is more than a word.
    """
    value = given.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise Misunderstood(f"{name}= is one word, and not {value!r}")
    return str(value).strip()


def list_of(given: dict[str, Any], name: str) -> list[str]:
    """The same for a variable that may hold several words: a list, or words between commas. None comes twice.

    :raises Misunderstood: when it holds something else.
    """
    value = given.get(name)
    words = value if isinstance(value, (list, tuple)) else text_of(given, name).split(",")
    found = [text_of({name: word}, name) for word in words]
    return [word for word in dict.fromkeys(found) if word]


def is_true(given: dict[str, Any], name: str) -> bool:
    """What was given for a variable that is true or false, false where nothing was.

    :raises Misunderstood: when it is something else.
    """
    value = given.get(name, False)
    word = str(value).strip().lower()
    if word in ("true", "yes", "on", "1"):
        return True
    if word in ("false", "no", "off", "0", ""):
        return False
    raise Misunderstood(f"{name}= is true or false, and not {value!r}")


def hosts_of(pattern: str, groups: dict[str, list[str]]) -> list[str]:
    """The inventory hosts that a pattern means, in the order of the inventory.

    These are names of hosts or groups, or wildcards, between commas or colons; C(&) before one takes only what is in
    it as well, C(!) all but what is in it.

    :raises Misunderstood: when a part of it means nobody.
    """
    everyone = groups.get("all", [])
    # A host may be called by an address with colons.
    parts = [pattern] if pattern in everyone or pattern in groups else re.split(r"\s*[,:]\s*", pattern.strip(" ,:"))
    signs = {part: part[:1] if part[:1] in ("&", "!") else "" for part in parts}
    found: set[str] = set() if "" in signs.values() else set(everyone)
    for part in sorted(parts, key=lambda one: ("", "&", "!").index(signs[one])):
        meant = _named(part.lstrip("&!"), groups)
        if not meant:
            raise Misunderstood(f"{part.lstrip('&!')!r} is no host and no group of the inventory")
        found = {"": found | meant, "&": found & meant, "!": found - meant}[signs[part]]
    return [host for host in everyone if host in found]


def _named(name: str, groups: dict[str, list[str]]) -> set[str]:
    everyone = groups.get("all", [])
    among = {host for group, hosts in groups.items() if fnmatch.fnmatchcase(group, name) for host in hosts}
    # groups.all is without the controller that Ansible adds by itself.
    return (among & set(everyone)) | {host for host in everyone if fnmatch.fnmatchcase(host, name)}


def listed(hosts: list[str]) -> str:
    """Hosts in a sentence."""
    return ", ".join(hosts) or "none"
