# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One of our roles on one server, whose failures must leave that server as it was."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from . import lab as lab_module

SCRIPTS = Path(__file__).parent / "provision"


def changed(done: subprocess.CompletedProcess) -> int:
    """How much a run on one host changed."""
    return int(re.search(r"changed=(\d+)", done.stdout).group(1))


class RoleOnServer:
    """A test derives its own class: the play, what its variables begin with, and what a failure must not change."""

    PLAY = ""
    VARIABLES = ""
    STATE = ""

    def __init__(self, lab: lab_module.Lab, node: str):
        self.lab = lab
        self.node = node

    def sh(self, script: str, check: bool = True) -> str:
        """What a script on the server writes."""
        return self.lab.sh(self.node, script, check=check).strip()

    def script(self, name: str, *words: str) -> str:
        """Runs one of the scripts in C(provision/) on the server; what it writes."""
        text = (SCRIPTS / name).read_text(encoding="utf-8")
        command = [*self.lab.exec_command(self.node), "sh", "-s", *words]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *words: str, check: bool = True, **variables) -> subprocess.CompletedProcess:
        """The play with these variables of the role, and others as they are after C(ansible_)."""
        variables = {
            name if name.startswith("ansible_") else self.VARIABLES + name: value for name, value in variables.items()
        }
        return self.lab.play(self.PLAY.format(node=self.node), *words, check=check, **variables)

    def change(self, *words: str, **variables) -> int:
        """How much the role changed."""
        return changed(self.run(*words, **variables))

    def state(self) -> str:
        """What a failure must not change."""
        return self.sh(self.STATE)

    def refusal(self, *words: str, **variables) -> str:
        """Why the role failed, in one sentence or two that name the server, which is as it was."""
        before = self.state()
        message = lab_module.failure(self.run(*words, check=False, **variables))
        assert self.state() == before, message
        assert "\n" not in message and message.endswith(".") and self.node in message
        return message
