# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hostile source up to the restore: the real end of a channel on fog2, armed by the real Docker, and images that lie.

What comes before Docker is asked for something is in tests/security, without a lab.
"""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
from collections.abc import Iterator

import pytest

from ansible_collections.fog.migration.plugins.module_utils.criu import protobuf
from ansible_collections.fog.migration.plugins.module_utils.memory import pagemap
from ansible_collections.fog.migration.plugins.module_utils.migration.channel.settings import DestinationSettings
from ansible_collections.fog.migration.plugins.module_utils.system import deploy
from ansible_collections.fog.migration.plugins.module_utils.transport import framing
from support import lab as lab_module

pytestmark = pytest.mark.lab

PLACE = "/run/fog-migration/hostile-test"
# KiB that the program may have in memory.
MEMORY = 96 << 10
# Says how much memory a program has had, in the last line of its standard error.
MEASURE = """
import os, resource, sys
child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-I", sys.argv[1]])
status, usage = os.wait4(child, 0)[1:]
sys.stderr.write("%d %d\\n" % (status, usage.ru_maxrss))
"""


def frame(kind: bytes, payload: object) -> bytes:
    """One frame; what is no bytes becomes JSON."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode("ascii")
    return framing.HEADER.pack(kind, len(data)) + data


def file(name: str, content: bytes) -> bytes:
    """One image."""
    parts = [content[begin : begin + framing.CHUNK] for begin in range(0, len(content), framing.CHUNK)]
    end = frame(framing.END, {"sha256": hashlib.sha256(content).hexdigest()})
    head = frame(framing.FILE, {"path": f"images/{name}", "size": len(content)})
    return head + b"".join(frame(framing.DATA, part) for part in parts) + end


HELLO = frame(framing.HELLO, framing.greeting("source"))
ARM = frame(framing.DO, {"do": "arm"})


def restore(**more: object) -> bytes:
    """The request to restore."""
    return frame(framing.DO, {"do": "restore", "options": [], "store": True, "lazily": False, **more})


def runs_of(count: int) -> bytes:
    """A pagemap with so many runs, each of one page."""
    entry = protobuf.number(1, 4096) + protobuf.number(2, 1) + protobuf.number(4, pagemap.PRESENT)
    head = protobuf.number(1, 1)
    begin = struct.pack("<II", pagemap.COMMON_MAGIC, pagemap.PAGEMAP_MAGIC)
    return begin + struct.pack("<I", len(head)) + head + (struct.pack("<I", len(entry)) + entry) * count


IMAGES = {
    "none": restore(),
    "an inventory that is none": file("inventory.img", b"x" * 1000) + restore(),
    "a pagemap of a million runs": file("pagemap-1.img", runs_of(1_000_000)) + restore(),
    "a pagemap of pages that did not come": file("pagemap-1.img", runs_of(1)) + restore(),
    "a pagemap that is none": file("pagemap-1.img", b"\xff" * 4096) + restore(),
    "options of its own": restore(options=["--action-script", "/tmp/x"]),
    "options that are none": restore(options=7),
    "pages that only the source has, and no source": restore(lazily=True, source=True),
    "it stops there": b"",
    "armed twice": ARM,
    "a layer for what has begun": frame(framing.DO, {"do": "layer"}),
    "files above the root": frame(framing.DO, {"do": "files", "tree": "", "fresh": True})
    + frame(framing.DATA, struct.pack(">I", 28) + b'{"remove":"../../../../etc"}' + bytes(4)),
}


@pytest.fixture
def twin(lab) -> Iterator[str]:
    """A container on fog2 that waits to be restored."""
    lab.copy_image()
    words = ["create", "--runtime", "fog-runc", "--name", "twin", lab_module.IMAGE, "sleep", "600"]
    yield lab.docker("fog2", *words)
    lab.sh("fog2", f"docker rm -fv twin; rm -rf {PLACE}", check=False)


def lay_down(lab, folder, twin: str) -> None:
    """The program as the forced command of a key starts it."""
    settings = DestinationSettings(
        f"{PLACE}/staging", "/run/docker.sock", "fog2", twin, patience=30, restore_limit=30, room=1 << 28
    )
    deploy.install(str(folder), settings.to_json(), "migration.channel.destination")
    lab.sh("fog2", f"mkdir -p -m 700 {PLACE}")
    archive = subprocess.run(["tar", "-C", str(folder), "-c", "."], capture_output=True, check=True).stdout
    subprocess.run([*lab.exec_command("fog2"), "tar", "-C", PLACE, "-x"], input=archive, check=True)


CANARY = "find /etc /root -xdev -printf '%p %m %u %T@ %l\\n' | sort"


@pytest.mark.parametrize("what", IMAGES)
def test_what_was_armed_ends(lab, tmp_path, twin, what):
    """The program says why in one sentence, in little memory and time; nothing of it is left, and nothing runs."""
    lay_down(lab, tmp_path, twin)
    before = lab.sh("fog2", CANARY)
    command = [*lab.exec_command("fog2"), "timeout", "120", "python3", "-c", MEASURE, f"{PLACE}/channel.py"]
    done = subprocess.run(command, input=HELLO + ARM + IMAGES[what], capture_output=True, check=False, timeout=180)
    *said, measured = done.stderr.decode("utf-8").splitlines()
    status, memory = map(int, measured.split())
    assert status == 1 << 8 and len(said) == 1 and said[0].isprintable(), done.stderr
    assert memory < MEMORY, memory
    # CRIU has written its files for the runtime, and nobody else's were touched.
    assert lab.sh("fog2", CANARY) == before
    assert lab.sh("fog2", f"ls -d {PLACE} /run/fog-migration/runtime/* 2>/dev/null || true") == ""
    assert lab.docker("fog2", "ps", "--format", "{{.Names}}") == ""
    # Where it was only armed, the container that somebody else has made is there still.
    lab.docker("fog2", "rm", "-f", "twin", check=False)
    lab.require_no_traces()
