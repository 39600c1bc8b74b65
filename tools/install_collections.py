# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install the collections of requirements.yml, and what they depend on, from PyPI instead of Galaxy.

The PyPI package "ansible" carries them. Installing all of it takes half a minute and 700 MB; taking the few collections
that are needed out of its wheel takes three seconds. They land in site-packages, where ansible-core looks by itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def wanted(requirements: Path) -> list[str]:
    return [entry["name"] for entry in yaml.safe_load(requirements.read_text())["collections"]]


def download(folder: Path) -> Path:
    """Fetch the wheel of the version that constraints.txt names."""
    command = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), "-d", str(folder), "ansible"], check=True)
    return next(folder.glob("ansible-*.whl"))


def with_dependencies(wheel: zipfile.ZipFile, names: list[str]) -> dict[str, str]:
    """Map each collection that has to be installed to its version."""
    versions: dict[str, str] = {}
    queue = list(names)
    while queue:
        name = queue.pop()
        if name in versions:
            continue
        info = json.loads(wheel.read(f"{prefix(name)}MANIFEST.json"))["collection_info"]
        versions[name] = info["version"]
        queue += info["dependencies"]
    return versions


def prefix(name: str) -> str:
    return f"ansible_collections/{name.replace('.', '/')}/"


def main() -> None:
    target = sysconfig.get_paths()["purelib"]
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(download(Path(folder))) as wheel:
        versions = with_dependencies(wheel, wanted(ROOT / "requirements.yml"))
        prefixes = tuple(prefix(name) for name in versions)
        wheel.extractall(target, [member for member in wheel.namelist() if member.startswith(prefixes)])
    print("collections:", ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))


if __name__ == "__main__":
    main()
