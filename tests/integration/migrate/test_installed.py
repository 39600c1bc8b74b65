# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as users get it: built, installed from the tarball, and used away from any checkout."""

from __future__ import annotations

import re
import subprocess

from support.lab import PLAYBOOKS, environment
from support.sequences import NATURALS, counted, end, naturals


def run(*command: str, cwd) -> str:
    """The standard output of a command that has to succeed."""
    variables = {**environment(), "ANSIBLE_COLLECTIONS_PATH": str(cwd)}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_installed_collection_provisions_and_migrates(lab, tmp_path):
    run("ansible-galaxy", "collection", "build", "--output-path", str(tmp_path), str(PLAYBOOKS.parent), cwd=tmp_path)
    (tarball,) = tmp_path.glob("fog-migration-*.tar.gz")
    run("ansible-galaxy", "collection", "install", "--offline", "-p", str(tmp_path), str(tarball), cwd=tmp_path)
    inventory = str(tmp_path / "ansible_collections/fog/migration/inventories/lab")
    output = run("ansible-playbook", "-i", inventory, "fog.migration.provision", cwd=tmp_path)
    assert re.search(r"^fog1 .* changed=0 .* failed=0", output, re.MULTILINE), output
    assert re.search(r"fog2 +Debian .* cold", output), output

    lab.start("fog1", "looper100", NATURALS)
    before = lab.follow("fog1", "looper100")
    counted(lab, "fog1", "looper100", 10)
    output = run(
        "ansible-playbook", "-i", inventory, "fog.migration.migrate", "-e", "container=looper100", cwd=tmp_path
    )
    assert "looper100 moved from fog1 to fog2 (precopy)" in output
    assert lab.running_on("looper100") == ["fog2"]
    counted(lab, "fog2", "looper100", 10)
    numbers = [int(line) for line in before.lines() + end(lab, "fog2", "looper100")]
    assert numbers == naturals(len(numbers))
