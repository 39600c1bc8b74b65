# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name of a lab's snapshot depends on all that makes a fog server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.fog.migration.plugins.module_utils.system import deploy

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = yaml.safe_load((ROOT / "roles/lab/vars/main.yml").read_text(encoding="utf-8"))
ROLES = VARIABLES["lab_provisioning_roles"]
# A node has the machine's kernel.
NOT_OF_A_NODE = {"pi_kernel"}
# It is only asked what the server can do, when all is done.
ASKED_AT_THE_END = {"plugins/modules/server_info.py"}


def named_in(role: str) -> set[str]:
    """What of our collection a role's files name: C(migration.NAME)."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "roles" / role).rglob("*.yml")]
    return {name for text in texts for name in re.findall(r"\bfog\.migration\.(\w+)", text)}


def plugins(names: set[str]) -> set[str]:
    """Those of the names that are modules or filters, as their files."""
    files = (f"plugins/{kind}/{name}.py" for kind in ("filter", "modules") for name in names)
    return {file for file in files if (ROOT / file).exists()}


def is_covered(path: str) -> bool:
    """Whether a change of this file makes another snapshot."""
    return any(path == given or path.startswith(f"{given}/") for given in VARIABLES["lab_provisioning_plugins"])


def test_every_role_that_makes_a_fog_server():
    seen, missing = set(), {"fog_server"}
    while missing:
        seen |= missing
        missing = {name for role in missing for name in named_in(role) if (ROOT / "roles" / name).is_dir()} - seen
    assert seen - NOT_OF_A_NODE == set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_every_plugin_that_it_uses(role):
    assert [path for path in plugins(named_in(role)) - ASKED_AT_THE_END if not is_covered(path)] == []


@pytest.mark.parametrize("given", VARIABLES["lab_provisioning_plugins"])
def test_what_these_import(given):
    """And every file that is given is there: what does not exist would be passed over."""
    assert (ROOT / given).exists()
    if given.endswith(".py"):
        for name in deploy.imported((ROOT / given).read_text(encoding="utf-8")):
            path = f"plugins/module_utils/{name.replace('.', '/')}.py"
            assert is_covered(path), path


def test_a_filter_counts_whose_file_is_given():
    assert is_covered("plugins/filter/docker_plan.py") and is_covered("plugins/module_utils/criu/tool.py")
    assert not is_covered("plugins/filter/preflight.py")
