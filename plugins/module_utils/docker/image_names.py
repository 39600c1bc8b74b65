# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a name of an image means: Docker reads several texts as the same one.

Pure functions all of them.

Private to the collection fog.migration. Installed on servers by C(deploy).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.fog.migration.plugins.module_utils.policy.refusal import matches

# As in Docker's own grammar of references (distribution/reference).
_REGISTRY = r"(?:[a-zA-Z0-9][a-zA-Z0-9.-]*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_REGISTRY}/{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}")
_ID = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HUB, _OLD_HUB, _OFFICIAL, _LATEST = "docker.io", "index.docker.io", "library/", "latest"
_LONGEST = 255


class Name(NamedTuple):
    """A name: its registry, its path there, and its tag or its digest."""

    registry: str
    path: str
    last: str

    @property
    def repository(self) -> str:
        """Without the tag, whole, such as C(docker.io/library/debian)."""
        return f"{self.registry}/{self.path}"

    @property
    def short_repository(self) -> str:
        """The same as Docker shows it, such as C(debian)."""
        first, *rest = self.path.split("/")
        if self.registry != _HUB or _is_registry(first):
            return self.repository
        return rest[0] if f"{first}/" == _OFFICIAL and len(rest) == 1 else self.path

    def __str__(self) -> str:
        return f"{self.short_repository}{'@' if _DIGEST.fullmatch(self.last) else ':'}{self.last}"


def tagged(text: str) -> Name | None:
    """The name that Docker takes this for, C(latest) where no tag is said; None of an ID, a digest, or what is none."""
    name, colon, tag = text.rpartition(":")
    if not colon or "/" in tag:
        # That is the port of a registry.
        name, colon, tag = text, "", ""
    if (colon and not _TAG.fullmatch(tag)) or text.startswith("sha256:"):
        return None
    return _named(name, tag or _LATEST)


def digested(text: str) -> Name | None:
    """The name with a digest that Docker takes this for; None of what is none."""
    name, _at, digest = text.partition("@")
    return _named(name, digest) if _DIGEST.fullmatch(digest) else None


def _named(text: str, last: str) -> Name | None:
    first, slash, rest = text.partition("/")
    registry, path = (first, rest) if slash and _is_registry(first) else (_HUB, text)
    registry = _HUB if registry == _OLD_HUB else registry
    if registry == _HUB and "/" not in path:
        path = _OFFICIAL + path
    whole = f"{registry}/{path}"
    # Docker takes no name for one that could be an ID.
    is_name = len(whole) <= _LONGEST and _NAME.fullmatch(whole) and not _ID.fullmatch(text)
    return Name(registry, path, last) if is_name else None


def _is_registry(first: str) -> bool:
    """Whether what is in front of a slash is a registry: only where it cannot be anything else."""
    return first == "localhost" or "." in first or ":" in first or first.lower() != first


def is_among(name: Name, patterns: Iterable[str]) -> bool:
    """Whether a pattern is of this name, whole or as Docker shows it."""
    patterns = tuple(patterns)
    return matches(f"{name.repository}:{name.last}", patterns) or matches(str(name), patterns)


def own(image_tags: Iterable[str], said: str) -> list[str]:
    """Of the names of an image, the one that its container was made by.

    :param said: as its creator said it.
    """
    wanted = tagged(said)
    return [one for one in image_tags if wanted and tagged(one) == wanted]
