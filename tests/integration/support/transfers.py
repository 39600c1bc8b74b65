# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of checkpoint_transfer do on the lab's fog servers."""

from __future__ import annotations

import json
import subprocess

from . import lab as lab_module

BASE = "/var/lib/fog-migration-transfer-test"
MIB = 1024 * 1024
LOOK = "cd {path} && find . -printf '%P %y %m %s\\n' | sort && find . -type f -exec sha256sum {{}} + | sort"
# The program (with the key on the source), the lines in authorized_keys, what has not become a whole directory.
TRACES = (
    "ls -d /run/fog-migration 2>/dev/null; grep -c fog-migration: ~/.ssh/authorized_keys; ls -a {base} | grep incoming"
)


class Nodes(lab_module.Lab):
    """The lab, with what these tests do in it again and again."""

    def fill(self, node: str, path: str, mebibytes: int = 4) -> None:
        """Makes a directory that resembles a checkpoint."""
        self.sh(
            node,
            f"mkdir -p {path}/criu.work {path}/criu && cd {path} && chmod 700 . && "
            f"head -c {mebibytes * MIB} /dev/urandom > criu/pages-1.img && "
            f"head -c {MIB} /dev/zero > criu/pages-2.img && head -c 1847 /dev/urandom > criu/core-1.img && "
            "touch criu/empty.img && chmod 600 criu/core-1.img",
        )

    def look(self, node: str, path: str) -> str:
        """All that a transfer must preserve."""
        return self.sh(node, LOOK.format(path=path))

    def left(self, node: str) -> list[str]:
        """What transfers have left there: normally only the number of their lines, which is 0."""
        return self.sh(node, TRACES.format(base=BASE), check=False).split()

    def send(self, path: str, **options) -> dict:
        """One transfer from fog1 to fog2, as a task; its result, also when it failed."""
        return result_of(self.begin(path, **options))

    def begin(self, path: str, **options) -> subprocess.Popen:
        """The same, in the background."""
        arguments = json.dumps({"path": path, "destination": "fog2", **options})
        return subprocess.Popen(
            ["ansible", "fog1", "-m", "fog.migration.checkpoint_transfer", "-a", arguments],
            cwd=lab_module.PLAYBOOKS,
            env=lab_module.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def arrived(self, path: str) -> int:
        """Bytes in the staging directory."""
        parent, _slash, name = path.rpartition("/")
        staging = f"{parent}/.{name}.incoming"
        return sum(
            int(size)
            for size in self.sh("fog2", f"find {staging} -type f -printf '%s\\n' 2>/dev/null", check=False).split()
        )


def result_of(process: subprocess.Popen) -> dict:
    """The result of a task in the background, once it has ended."""
    text = process.communicate(timeout=300)[0]
    assert "Traceback" not in text, text
    return {"failed": "FAILED!" in text, "output": text, **json.loads(text[text.index("=> {") + 3 :])}
