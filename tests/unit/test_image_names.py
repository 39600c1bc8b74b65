# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a name of an image means, and what of it a policy allows."""

from __future__ import annotations

import pytest

from ansible_collections.fog.migration.plugins.module_utils.docker import image_names, image_pull
from ansible_collections.fog.migration.plugins.module_utils.policy.rules import Policy

DIGEST = "sha256:" + "7" * 64


@pytest.mark.parametrize(
    ("text", "whole", "shown"),
    [
        ("debian", "docker.io/library/debian", "debian:latest"),
        ("debian:12", "docker.io/library/debian", "debian:12"),
        ("docker.io/library/debian:12", "docker.io/library/debian", "debian:12"),
        ("index.docker.io/debian:12", "docker.io/library/debian", "debian:12"),
        ("company/app:1", "docker.io/company/app", "company/app:1"),
        ("docker.io/library/a/b:1", "docker.io/library/a/b", "library/a/b:1"),
        # As Docker shows it, it would be of another registry.
        ("docker.io/a.b/c:1", "docker.io/a.b/c", "docker.io/a.b/c:1"),
        ("localhost/app", "localhost/app", "localhost/app:latest"),
        ("registry.example.org:5000/a/b:v1.0", "registry.example.org:5000/a/b", "registry.example.org:5000/a/b:v1.0"),
        ("[fd00::1]:5000/a", "[fd00::1]:5000/a", "[fd00::1]:5000/a:latest"),
    ],
)
def test_a_name(text, whole, shown):
    name = image_names.tagged(text)
    assert (name.repository, str(name)) == (whole, shown)
    assert image_names.tagged(shown) == name


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            ":",
            "/",
            "a/",
            "/a",
            "A",
            "a b",
            "a:",
            "a:b c",
            "a\n",
            "a//b",
            "-a",
            f"a@{DIGEST}",
            f"a:1@{DIGEST}",
            DIGEST,
        ],
        *["7" * 64, "a/../b", "a" * 300, "a:" + "b" * 129, "x\x1b[2J", "evil.example/?a=b", "a@b/c"],
    ],
)
def test_no_name(text):
    assert image_names.tagged(text) is None


def test_a_name_with_a_digest():
    name = image_names.digested(f"registry.example.org/app@{DIGEST}")
    assert (name.repository, str(name)) == ("registry.example.org/app", f"registry.example.org/app@{DIGEST}")
    for text in ("app:1", "app", f"app:1@{DIGEST}", f"app@{DIGEST}0", "app@sha256:7", f"@{DIGEST}", f"app@{DIGEST}\n"):
        assert image_names.digested(text) is None


def test_the_name_by_which_a_container_was_made():
    tags = ["app:1", "app:latest", "registry.example.org/app:1"]
    assert image_names.own(tags, "app:1") == ["app:1"]
    assert image_names.own(tags, "docker.io/library/app") == ["app:latest"]
    assert image_names.own(tags, "registry.example.org/app:1") == ["registry.example.org/app:1"]
    for said in ("other:1", DIGEST, f"app@{DIGEST}", "", "7" * 12):
        assert image_names.own(tags, said) == []


class Docker:
    """As much of a Docker daemon as a pull asks for."""

    def __init__(self, registries):
        self.registries, self.images, self.asked, self.removed = registries, {}, [], []

    def find_image(self, name):
        return {"Id": self.images[name]} if name in self.images else None

    def pull(self, repository, tag, stream, decode):
        assert stream and decode
        self.asked.append(repository)
        if repository not in self.registries:
            return [{"status": "?"}, {"error": "no such host"}]
        name = str(image_names.digested(f"{repository}@{tag}"))
        self.images[name] = self.registries[repository]
        self.images[self.registries[repository]] = self.registries[repository]
        return [{"status": "done"}]

    def remove_image(self, name):
        self.removed.append(name)


def pulled(digests, allowed, registries):
    docker = Docker(registries)
    why = image_pull.pull(docker, "sha256:a", digests, Policy(image_pulls=tuple(allowed)))
    return why, docker.asked, docker.removed


def test_only_registries_of_the_policy_are_asked():
    hub, other = f"app@{DIGEST}", f"evil.example:443/app@{DIGEST}"
    there = {"docker.io/library/app": "sha256:a", "evil.example:443/app": "sha256:a"}
    assert pulled([other, hub], ["docker.io/*"], there) == ("", ["docker.io/library/app"], [])
    why, asked, _removed = pulled([other], ["docker.io/*"], there)
    line = "image_pulls: ['evil.example:443/app']"
    assert why == f"the policy there does not let evil.example:443/app be pulled (allowed by {line})" and asked == []
    assert pulled([other], ["evil.example:*/*"], there)[:2] == ("", ["evil.example:443/app"])
    for nothing in ([], ["app:1"], ["evil.example/app@latest"]):
        assert pulled(nothing, ["*"], there)[:2] == ("it has no digest of a registry", [])


def test_what_another_image_is_does_not_stay():
    there = {"docker.io/library/app": "sha256:b"}
    why, asked, removed = pulled([f"app@{DIGEST}"], ["*"], there)
    assert why == "its registry has another image under its digest"
    assert asked == ["docker.io/library/app"] and removed == [f"app@{DIGEST}"]
    assert pulled([f"app@{DIGEST}"], ["*"], {})[0] == "no such host"
