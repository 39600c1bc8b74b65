# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[2]
FRAGMENTS = {"fog.migration.docker", "fog.migration.docker.actiongroup"}


def fragments_of(path):
    """The documentation fragments that a module names."""
    documentation = path.read_text(encoding="utf-8").partition('DOCUMENTATION = r"""')[2].partition('"""')[0]
    return set(yaml.safe_load(documentation).get("extends_documentation_fragment", []))


def test_the_action_group_has_the_modules_with_a_docker_connection():
    groups = yaml.safe_load((CHECKOUT / "meta" / "runtime.yml").read_text(encoding="utf-8"))["action_groups"]
    named = {path.stem: fragments_of(path) & FRAGMENTS for path in (CHECKOUT / "plugins" / "modules").glob("*.py")}
    assert {name: found for name, found in named.items() if found} == dict.fromkeys(groups["docker"], FRAGMENTS)
    assert groups["docker"] == sorted(groups["docker"])
