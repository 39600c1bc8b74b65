# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image with all programs: made of Debian's packages once, kept in a file, and given to the nodes of a lab."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from support.lab import Lab, alone

from .client import TOOLS

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "programs" / "image"
SUITE = "trixie"
KEPT = Path("~/.cache/fog-migration/programs").expanduser()
# The mirrors that this machine's own Debian uses, as the lab finds them.
MIRRORS = "apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian'"


def inputs() -> list[Path]:
    """The files that an image is made from."""
    return [ROOT / "roles/lab/files/image/rootfs.sh", *sorted(path for path in FOLDER.rglob("*") if path.is_file())]


def key(files: Iterable[Path], suite: str) -> str:
    """What is the same for images that are made from the same, and for no others."""
    lines = [f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join([suite, *lines]).encode()).hexdigest()[:12]


def name() -> str:
    """The image's name in Docker."""
    return f"programs:{key(inputs(), SUITE)}"


def archive() -> Path:
    """The file with the image, which is made where there is none (some minutes). No older one is kept."""
    image = name()
    file = KEPT / f"{image.partition(':')[2]}.tar"
    with alone():
        if not file.exists():
            shutil.rmtree(KEPT, ignore_errors=True)
            KEPT.mkdir(parents=True)
            found = subprocess.run(shlex.split(MIRRORS), capture_output=True, text=True, check=False).stdout.split()
            words = ["bash", str(FOLDER / "build.sh"), image, SUITE, *(found[:1] or [""]), str(file)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"the programs' image could not be made:\n{done.stderr[-3000:]}"
    return file


def give(lab: Lab) -> None:
    """Puts the image onto the fog servers, and its root file system onto the client, where they are not there yet."""
    file = archive()
    for node in lab.servers():
        if not lab.docker(node, "images", "-q", name()):
            with file.open("rb") as stream:
                subprocess.run([*lab.exec_command(node), "docker", "load", "--quiet"], stdin=stream, check=True)
    mark = f"{TOOLS}.{file.stem}"
    if not lab.sh("client", f"ls {mark}", check=False):
        lab.sh("client", f"rm -rf {TOOLS}*; mkdir -p {TOOLS}")
        unpack(file, [*lab.exec_command("client"), "tar", "-C", TOOLS, "-x"])
        lab.sh("client", f"touch {mark}")


def unpack(file: Path, command: list[str]) -> None:
    """Gives the only layer of the image in a file to a command."""
    with tarfile.open(file) as image, subprocess.Popen(command, stdin=subprocess.PIPE) as unpacking:
        (described,) = json.load(image.extractfile("manifest.json"))
        (layer,) = described["Layers"]
        shutil.copyfileobj(image.extractfile(layer), unpacking.stdin)
    assert unpacking.returncode == 0, f"{' '.join(command)} has failed"
