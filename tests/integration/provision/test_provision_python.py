# Copyright: (c) 2026, fog.migration contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role python on a server that has none.

The archive is made on the server from the distribution's packages, in the layout of python-build-standalone, whose own
archives are too far away for a test.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import lab as lab_module
from support.role_on_server import RoleOnServer, changed

pytestmark = pytest.mark.lab

ROLE = lab_module.PLAYBOOKS.parent / "roles" / "python"
MACHINE = platform.machine()
PREFIX = "/opt/fog-migration/python"


class PythonOnServer(RoleOnServer):
    """A server without Python, and the role on it."""

    PLAY = """
- name: Python
  hosts: {node}
  gather_facts: false
  roles:
    - role: fog.migration.python
  tasks:
    - name: Look with it
      ansible.builtin.setup:
        gather_subset: ["!all", min]
      when: not ansible_check_mode
    - name: Ask it for the Docker SDK
      ansible.builtin.command:
        argv:
          - "{{{{ ansible_facts.python.executable }}}}"
          - -c
          - import docker; print("Docker SDK " + docker.__version__)
      register: sdk
      changed_when: false
      when: not ansible_check_mode
    - name: Say so
      ansible.builtin.debug:
        msg: "{{{{ sdk.stdout }}}} of {{{{ ansible_facts.python.executable }}}}"
      when: not ansible_check_mode
"""
    VARIABLES = "python_"
    STATE = "find /opt /usr/local/bin -printf '%y %m %p %l\n' | sort"

    def __init__(self, lab: lab_module.Lab, node: str, folder: Path):
        super().__init__(lab, node)
        self.inventory = folder / "inventory.json"
        variables = json.loads((lab_module.STATE / "inventory.json").read_text(encoding="utf-8"))["lab"]["vars"]
        # The lab's inventory names an interpreter, which the role would respect.
        variables = {name: value for name, value in variables.items() if name != "ansible_python_interpreter"}
        hosts = {"all": {"vars": variables, "hosts": {node: lab.hostvars[node]}}}
        self.inventory.write_text(json.dumps(hosts), encoding="utf-8")
        archive, version = self.make_archive(folder)
        self.offline = {
            "archive": str(archive),
            "version": version,
            "checksums": {MACHINE: hashlib.sha256(archive.read_bytes()).hexdigest()},
            "wheels": str(self.download_wheels(folder)),
        }
        self.link = f"/usr/local/bin/python{version.rpartition('.')[0]}"

    def make_archive(self, folder: Path) -> tuple[Path, str]:
        """The archive and its version; the server has no Python any more then."""
        said = self.script("python-archive.sh")
        archive = folder / "python.tar.gz"
        with archive.open("wb") as stream:
            subprocess.run([*self.lab.exec_command(self.node), "cat", "/srv/python.tar.gz"], stdout=stream, check=True)
        return archive, re.search(r"^[0-9.]+$", said, re.MULTILINE).group()

    @staticmethod
    def download_wheels(folder: Path) -> Path:
        """As the README says."""
        wheels = folder / "wheels"
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
        pure = ["--only-binary", ":all:", "--platform", "any", "--python-version", "3.13", "--abi", "none"]
        words = ["--implementation", "py", "--dest", str(wheels), "--requirement", str(ROLE / "files/requirements.txt")]
        done = subprocess.run([*download, *pure, *words], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return wheels

    def run(self, *words: str, check: bool = True, **variables) -> subprocess.CompletedProcess:
        """The role, offline if these variables do not say otherwise."""
        return super().run("-i", str(self.inventory), *words, check=check, **{**self.offline, **variables})

    def remove(self) -> None:
        """As it was before the role."""
        self.sh(f"rm -rf /opt/fog-migration {self.link}")


@pytest.fixture(scope="module")
def module_server(bare, tmp_path_factory) -> PythonOnServer:
    node = bare()
    return PythonOnServer(lab_module.Lab(), node, tmp_path_factory.mktemp("python"))


@pytest.fixture
def server(module_server) -> PythonOnServer:
    module_server.remove()
    return module_server


@pytest.mark.slow
def test_a_server_without_python_gets_one_and_keeps_it(server):
    before = server.state()
    checked = server.run("--check")
    assert "there is no Python; Python" in checked.stdout and changed(checked) == 1
    assert server.state() == before

    done = server.run()
    assert re.search(rf"Docker SDK [0-9.]+ of {PREFIX}/bin/python3", done.stdout)
    assert changed(done) == 1

    # From now on Ansible finds it by itself.
    again = server.run()
    assert re.search(rf"Docker SDK [0-9.]+ of {server.link}", again.stdout)
    assert changed(again) == 0

    # Of other packages, or another archive.
    server.sh(f"echo other > {PREFIX}/.fog-migration")
    assert server.change() == 1
    assert "other" not in server.sh(f"cat {PREFIX}/.fog-migration; ls -a {PREFIX}/..")


@pytest.mark.slow
def test_what_is_wrong_with_the_archive(server):
    other = {MACHINE: hashlib.sha256(b"").hexdigest()}
    assert "not e3b0c442" in server.refusal(checksums=other)
    assert f"python_checksums has no SHA-256 for {MACHINE}" in server.refusal(checksums={"armv7": "0" * 64})
    assert "which python_archive names" in server.refusal(archive="/nowhere/python.tar.gz")
    unreachable = {"archive": "", "url": "http://127.0.0.1:9/python.tar.gz"}
    assert "download the archive" in server.refusal(cache=str(server.inventory.parent / "cache"), **unreachable)


@pytest.mark.slow
def test_no_space(server):
    server.sh("mount -t tmpfs -o size=16M tmpfs /opt")
    try:
        assert "has 16 MiB free, and 400 are needed" in server.refusal()
        assert "No space left" in server.refusal(free_wanted=1)
    finally:
        server.sh("umount /opt")


@pytest.mark.slow
def test_what_others_have_put_there_is_respected(server):
    named = server.refusal(ansible_python_interpreter="/usr/bin/python3")
    assert "ansible_python_interpreter (or ansible.cfg) says /usr/bin/python3" in named
    server.sh(f"ln -s /bin/false {server.link}")
    assert f"({server.link}) that would be hidden" in server.refusal()
    server.sh(f"rm {server.link}; mkdir -p {PREFIX}")
    assert "is not this role's" in server.refusal()
